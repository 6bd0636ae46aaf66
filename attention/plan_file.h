/* Plans in bags: `plan.BRANCH.LAYER.rows` I32 [A, nb + 1] and `.blocks` I32 [sum], as --save-plan
 * writes and `blocks` reads them (docs/formats.md). nb: blocks that plans are about
 * (ts_sequence.nv). */
#ifndef TS_PLAN_FILE_H
#define TS_PLAN_FILE_H
#include "attention/grid.h"
#include "weights/bag.h"
/* bits [A or 1, nb, ..] of the host; `shared`: one pattern, written for each of A heads.
 * TS_EMEMORY; TS_ESHAPE: more blocks than a file can number. */
ts_status ts_plan_put(ts_err *, ts_bag *, const char *branch, int layer, int A, int nb,
                      const uint32_t *bits, bool shared);
/* The same back into bits [A, nb, ..]. TS_EMODEL, TS_ESHAPE: not there, another shape, rows that
 * are empty, not ascending or beyond nb. */
ts_status ts_plan_get(ts_err *, const ts_bag *, const char *path, const char *branch, int layer,
                      int A, int nb, uint32_t *bits);
/* A `tile` file: {"frames": F, "layers": [k or 0, ..]} -> k [layers]. TS_EMODEL: another number of
 * frames or layers. */
ts_status ts_tile_file(ts_err *, const char *path, int frames, int layers, int *k);
#endif
