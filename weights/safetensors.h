/* The safetensors container: u64 header size, JSON header, bytes. https://github.com/huggingface/safetensors#format */
#ifndef TS_SAFETENSORS_H
#define TS_SAFETENSORS_H
#include "backend/backend.h"

typedef struct { char *name; ts_host t; size_t bytes; } ts_entry;
typedef struct { char *key, *value; } ts_meta;
typedef struct {          /* one file, mapped */
    char *path;
    void *map;
    size_t size;
    ts_entry *entry;      /* sorted by name */
    int entries;
    ts_meta *meta;
    int metas;
} ts_safetensors;
/* Maps and checks: header size, JSON, dtypes, shape x dtype = extent, extents inside the file, no two overlapping. Types that ts_dtype has not are refused by name.
 * 0-d and up to 5-d tensors. TS_EMODEL names file and tensor. */
ts_status ts_safetensors_open(ts_err *, const char *path, ts_safetensors *);
void ts_safetensors_close(ts_safetensors *);
const ts_entry *ts_safetensors_find(const ts_safetensors *, const char *name); /* NULL: not there */
#endif
