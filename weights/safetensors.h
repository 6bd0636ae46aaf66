/* The safetensors container: u64 header size, JSON header, bytes.
 * https://github.com/huggingface/safetensors#format */
#ifndef TS_SAFETENSORS_H
#define TS_SAFETENSORS_H
#include "weights/source.h"

typedef struct {
    char *key, *value;
} ts_meta;
typedef struct { /* one file, mapped */
    char *path;
    const void *map;
    size_t size;
    ts_entry *entry; /* sorted by name, all different */
    int entries;
    ts_meta *meta;
    int metas;
} ts_safetensors;
/* How a file spells numbers of 8 bits. Here such tensors are `odd`, their shape and `storage`
 * known; the source decodes them. */
#define TS_STORED_E4M3 "F8_E4M3"
#define TS_STORED_E5M2 "F8_E5M2"
/* Maps and checks: header size, JSON, shape x dtype = extent, extents inside the file, no two
 * overlapping, no name twice. No page behind the header is touched. 0-d and up to 5-d tensors of
 * the types of ts_dtype can be used, others are kept as `odd`. TS_EMODEL names file and tensor;
 * *out is then closed. */
ts_status ts_safetensors_open(ts_err *, const char *path, ts_safetensors *out);
void ts_safetensors_close(ts_safetensors *); /* a zeroed or closed one is legal */
const ts_entry *ts_safetensors_find(const ts_safetensors *, const char *name); /* NULL: not there */

/* The class (fp8.c): numbers of 8 bits are decoded by `read`, times the scale that stands beside
 * them. What belongs to weights in this way, scales, formats, marks, is no entry. */
extern const ts_source_class ts_source_safetensors;
#endif
