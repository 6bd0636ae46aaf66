/* Names and shapes of a checkpoint that are not those of its files. Internal to weights/. */
#ifndef TS_RENAME_H
#define TS_RENAME_H
#include "weights/checkpoint.h"

/* The table as models ask for it: prefixes gone, tensors renamed by the naming whose mark is there,
 * fused ones cut, unused ones left out. TS_EMODEL: two tensors of one name, rows that can not be
 * cut. TS_EMEMORY. */
ts_status ts_checkpoint_rename(ts_ctx *, ts_checkpoint *, const ts_names *);
void ts_checkpoint_free_aliases(ts_checkpoint *);
#endif
