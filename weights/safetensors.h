/* The safetensors container: u64 header size, JSON header, bytes.
 * https://github.com/huggingface/safetensors#format */
#ifndef TS_SAFETENSORS_H
#define TS_SAFETENSORS_H
#include "backend/ctx.h"

typedef struct {
    char *name;
    ts_host t; /* data points into the mapping, at any byte */
    size_t bytes;
    /* NULL, or why nobody can use this tensor ("type F64", "6 dimensions"): t then holds the data
     * alone. To be refused by whoever asks for it */
    char *odd;
} ts_entry;
typedef struct {
    char *key, *value;
} ts_meta;
typedef struct { /* one file, mapped */
    char *path;
    void *map;
    size_t size;
    ts_entry *entry; /* sorted by name, all different */
    int entries;
    ts_meta *meta;
    int metas;
} ts_safetensors;
/* Maps and checks: header size, JSON, shape x dtype = extent, extents inside the file, no two
 * overlapping, no name twice. No page behind the header is touched. 0-d and up to 5-d tensors of
 * the types of ts_dtype can be used, others are kept as `odd`. TS_EMODEL names file and tensor;
 * *out is then closed. */
ts_status ts_safetensors_open(ts_err *, const char *path, ts_safetensors *out);
void ts_safetensors_close(ts_safetensors *); /* a zeroed or closed one is legal */
const ts_entry *ts_safetensors_find(const ts_safetensors *, const char *name); /* NULL: not there */

/* to[i] = from[i], n elements of F32, BF16 or F16 at any address; other types are our own
 * mistake. */
void ts_widen(ts_dtype, const void *from, size_t n, float *to);
/* "[2, 3]" into buf, for sentences; a dim of -1 reads "any". Returns buf. */
const char *ts_shape_text(int nd, const long *dim, char buf[96]);
#endif
