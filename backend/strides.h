/* What devices make of a strided operation before they run it. */
#ifndef TS_STRIDES_H
#define TS_STRIDES_H
#include "backend/ops.h"

/* The same copy with its dimensions sorted by how far they step in the destination, joined where
 * they can be, without those of size 1; nd is at least 1. false: nothing to copy. */
bool ts_copy_plan(const ts_copy *, ts_copy *out);
/* The same of an affine operation. */
bool ts_affine_plan(const ts_affine *, ts_affine *out);
#endif
