/* The tensors of one component as one table of names over its sources: a single file, or shards
 * with their index. */
#ifndef TS_CHECKPOINT_H
#define TS_CHECKPOINT_H
#include "weights/naming.h"
#include "weights/source.h"

typedef struct {
    const char *name;        /* what models ask for */
    const ts_entry *e;       /* it as they see it: `stored`, a part of its rows, another shape */
    const ts_source *source; /* that holds it */
    const ts_entry *stored;  /* as the file has it */
    /* where in `stored` the first `turn` numbers of e begin, and where the others do */
    long first, turn, second;
} ts_named;
typedef struct ts_alias ts_alias;
typedef struct {
    char *what; /* the file or index, for sentences */
    ts_source *source;
    int sources;
    ts_named *name; /* sorted by name, all different */
    int names;
    const ts_naming *naming; /* that the files have; NULL: the one that models ask for */
    ts_alias *alias;         /* names and entries that no source owns */
} ts_checkpoint;
/* PLACE is a folder: PLACE/STEM.safetensors, else PLACE/STEM.safetensors.index.json with its
 * shards, else a variant of either (bf16 before fp16 before others); or it is a file, of weights or
 * such an index, or one of several parts by its name (weights/split.h), which are then read
 * together, by their index where it lies beside them. A tensor of a shard that the index leaves out
 * is there too, with one warning. names: what else tensors may be called; NULL: nothing. TS_EMODEL
 * names file and tensor; *out is closed on failure. */
ts_status ts_checkpoint_open(ts_ctx *, const char *place, const char *stem, const ts_names *,
                             ts_checkpoint *out);
void ts_checkpoint_close(ts_checkpoint *);
/* One that was opened without names as it would be with them: prefixes gone, tensors renamed by the
 * naming whose mark is there, fused ones cut, unused ones left out. TS_EMODEL: two tensors of one
 * name, rows that can not be cut. TS_EMEMORY. */
ts_status ts_checkpoint_rename(ts_ctx *, ts_checkpoint *, const ts_names *);
/* index into `name`; -1: not there */
int ts_checkpoint_find(const ts_checkpoint *, const char *name);
/* Dimension d of a tensor; 0: the tensor or the dimension is not there. */
long ts_checkpoint_dim(const ts_checkpoint *, const char *name, int d);
/* One more than the largest number that follows `head` ("blocks.") in a name; 0: none does. */
long ts_checkpoint_blocks(const ts_checkpoint *, const char *head);
/* Name i is of shape `dim` from here on, when that has as many numbers and differs only by ones in
 * front, by ones behind a matrix, or by two first dimensions that the file has as one; false: it
 * differs by more. TS_EMEMORY leaves *same false. */
ts_status ts_checkpoint_reshape(ts_ctx *, ts_checkpoint *, int i, int nd, const long *dim,
                                bool *same);
/* Rows of it as f32: out [rows, ts_entry_width(n->e)]. */
ts_status ts_named_read(ts_err *, const ts_named *n, long first, long rows, float *out);
#endif
