/* Names and shapes of a checkpoint that are not those of its files. Internal to weights/. */
#ifndef TS_RENAME_H
#define TS_RENAME_H
#include "weights/checkpoint.h"

void ts_checkpoint_free_aliases(ts_checkpoint *);
#endif
