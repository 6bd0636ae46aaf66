/* A bag: named host tensors and string metadata. What travels between phases (text states, noise,
 * latents, solver state) and to and from safetensors files. Owns copies of what is put in. */
#ifndef TS_BAG_H
#define TS_BAG_H
#include "backend/ctx.h"

typedef struct ts_bag ts_bag;
TS_API ts_bag *ts_bag_new(void);
TS_API void ts_bag_free(ts_bag *);
/* Replaces a tensor of the same name. data NULL: zeros. Returns the bag's own bytes (writable,
 * 64-byte aligned, there until the tensor is replaced); NULL: no memory. */
void *ts_bag_put(ts_bag *, const char *name, ts_dtype, int nd, const long *dim, const void *data);
bool ts_bag_has(const ts_bag *, const char *name);
/* nd -1: any shape; a dim of -1: any; of a batch of one, [1, ...], what is in it. Otherwise
 * TS_ESHAPE says which tensor, got, wanted; TS_EMODEL: not there. *out points into the bag. */
ts_status ts_bag_get(ts_err *, const ts_bag *, const char *name, ts_dtype, int nd, const long *dim,
                     ts_host *);
/* TS_ENUMBER: the F32 tensor holds NaN or infinity; names the file that the bag came from, and the
 * element. */
ts_status ts_bag_finite(ts_err *, const ts_bag *, const char *name);
TS_API int ts_bag_count(const ts_bag *);
TS_API const char *ts_bag_name(const ts_bag *, int i); /* in order of name; NULL: no such i */
/* The tensor of that name, of any type; NULL: there is none. */
const ts_host *ts_bag_find(const ts_bag *, const char *name);
void ts_bag_meta(ts_bag *, const char *key, const char *value);      /* value NULL: remove */
TS_API const char *ts_bag_meta_get(const ts_bag *, const char *key); /* NULL: none */
/* Writes a new file (backend/file_new.h) that replaces one of its name. The same bag gives the same
 * bytes. TS_EIO names path and reason; nothing is left behind. */
ts_status ts_bag_save(ts_err *, const ts_bag *, const char *path);
/* The same, but a file that has the name stays: TS_EUSAGE. */
ts_status ts_bag_save_new(ts_err *, const ts_bag *, const char *path);
/* F16, BF16 -> F32 on the way in; TS_EMODEL */
ts_status ts_bag_load(ts_err *, const char *path, ts_bag **);
#endif
