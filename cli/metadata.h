/* What files of ours say about themselves, whatever their kind: latents, states, pictures, clips.
 */
#ifndef TS_METADATA_H
#define TS_METADATA_H
#include "sampler/tessera.h"

#include <stdbool.h>

/* *json: by content, not by name; malloc'd; NULL: it carries none. */
ts_status ts_metadata_read(ts_ctx *, const char *path, char **json);
/* A text of it; json NULL is legal; malloc'd; NULL: there is none. */
char *ts_metadata_field(const char *json, const char *name);
/* A file or folder that the metadata of `from` name: by its path, or, of a name without folders, in
 * the folder of `from`, else in that of the process; malloc'd; NULL: it is not there. */
char *ts_metadata_find(const char *from, const char *name);
bool ts_is_safetensors(const char *path); /* as far as its first bytes say */
#endif
