/* Between the order of files and that of devices: a transpose of [C, cells] on the host. */
#include "sampler/latents.h"

#include <stdlib.h>

void ts_latents_last(const long shape[4], const float *first, float *last)
{
    long C = shape[0], cells = shape[1] * shape[2] * shape[3];
    for (long c = 0; c < C; c++)
        for (long i = 0; i < cells; i++) last[i * C + c] = first[c * cells + i];
}

void ts_latents_first(const long shape[4], const float *last, float *first)
{
    long C = shape[0], cells = shape[1] * shape[2] * shape[3];
    for (long c = 0; c < C; c++)
        for (long i = 0; i < cells; i++) first[c * cells + i] = last[i * C + c];
}

ts_tensor ts_latents_take(ts_arena *a, const long shape[4], long channels)
{
    return ts_take(a, TS_F32, TS_DIM(shape[1], shape[2], shape[3], channels));
}

static ts_status take_copy(ts_ctx *ctx, const long shape[4], float **out)
{
    size_t n = ts_latents_count(shape);
    *out = malloc(n * sizeof **out);
    return *out ? TS_OK : ts_fail(&ctx->err, TS_EMEMORY, "no memory for %zu latents", n);
}

ts_status ts_latents_upload(ts_ctx *ctx, const long shape[4], const float *from, ts_tensor x)
{
    ts_status st;
    ts_device *dev = ctx->dev;
    float *last = NULL;
    TRY(take_copy(ctx, shape, &last));
    ts_latents_last(shape, from, last);
    TRY(dev->ops->upload(dev, x.p, last, ts_latents_count(shape) * sizeof *last));
done:
    free(last);
    return st;
}

ts_status ts_latents_download(ts_ctx *ctx, const long shape[4], ts_tensor x, float *to)
{
    ts_status st;
    ts_device *dev = ctx->dev;
    float *last = NULL;
    TRY(take_copy(ctx, shape, &last));
    TRY(dev->ops->download(dev, last, x.p, ts_latents_count(shape) * sizeof *last));
    ts_latents_first(shape, last, to);
done:
    free(last);
    return st;
}
