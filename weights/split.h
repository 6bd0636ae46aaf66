/* Files that are one of several by their names: NAME-00002-of-00005.safetensors, of safetensors
 * without an index and of GGUF (llama-gguf-split). */
#ifndef TS_SPLIT_H
#define TS_SPLIT_H
#include <stdbool.h>
#include <stddef.h>

typedef struct {
    const char *path; /* borrowed */
    size_t at;        /* of the number in it */
    int digits;       /* of the number, and of how many there are */
    int part, parts;  /* from 1 */
} ts_split;
/* false: the name is none of several; then part and parts are 1. */
bool ts_split_read(const char *path, ts_split *);
/* The path of a part, from 1; malloc'd, NULL: no memory. */
char *ts_split_path(const ts_split *, int part);
/* The index that may list them: NAME.safetensors.index.json; malloc'd, NULL: no memory. */
char *ts_split_index(const ts_split *);
#endif
