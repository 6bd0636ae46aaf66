/* What every device asks of an operation's arguments before it looks at a number: one place says
 * what fits, in one sentence (what, got, wanted). Each returns TS_OK, TS_ESHAPE, or TS_EDEVICE for
 * a weight that is not resident in the type that the operation needs. Counting devices ask the same
 * but for residency. */
#ifndef TS_SHAPES_H
#define TS_SHAPES_H
#include "backend/ctx.h"

ts_status ts_shapes_linear(ts_device *, const ts_linear *);
ts_status ts_shapes_conv(ts_device *, const ts_conv *);
ts_status ts_shapes_norm(ts_device *, const ts_norm *);
ts_status ts_shapes_activate(ts_device *, const ts_activate *);
ts_status ts_shapes_rope(ts_device *, const ts_rope *);
ts_status ts_shapes_attention(ts_device *, const ts_attention *);
ts_status ts_shapes_block_sums(ts_device *, const ts_block_sums *);
ts_status ts_shapes_block_means(ts_device *, const ts_block_means *);
ts_status ts_shapes_topk(ts_device *, const ts_topk *);
ts_status ts_shapes_pool(ts_device *, const ts_pool *);
ts_status ts_shapes_pool_sums(ts_device *, const ts_pool_sums *);
ts_status ts_shapes_rest_linear(ts_device *, const ts_rest_linear *);
ts_status ts_shapes_head_errors(ts_device *, const ts_head_errors *);
ts_status ts_shapes_choose(ts_device *, const ts_choose *);
ts_status ts_shapes_copy(ts_device *, const ts_copy *);
ts_status ts_shapes_gather(ts_device *, const ts_gather *);
ts_status ts_shapes_lincomb(ts_device *, const ts_lincomb *);
ts_status ts_shapes_randn(ts_device *, const ts_randn *);
ts_status ts_shapes_resample(ts_device *, const ts_resample *);
ts_status ts_shapes_affine(ts_device *, const ts_affine *);
ts_status ts_shapes_check(ts_device *, ts_tensor, int tag);
ts_status ts_shapes_pack(ts_device *, const ts_host *, long first, const ts_weight *, ts_ptr at);
#endif
