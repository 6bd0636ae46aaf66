/* The table that --profile prints: seconds of the denoising by operation, each rate beside what one
 * large matrix product reaches on this machine right now. */
#include "sampler/run.h"
#include "sampler/tessera-bench.h"

#include "backend/number.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Best rate of a linear layer [n, n] x [n, n] in `type`, FLOP/s; 0 when it could not be
 * measured. */
static double matmul_peak(ts_ctx *c, ts_dtype type)
{
    enum { N = 2048, TRIES = 6 };
    ts_status st = TS_OK;
    ts_device *dev = c->dev;
    ts_arena a = {0};
    double best = 0;
    float *host = calloc((size_t)N * N, sizeof *host);
    ts_weight w = {.t = {.type = TS_F32, .nd = 2, .dim = {N, N}, .ld = N}};
    ts_tensor x, y, store;
    if (!host) return 0;
    dev->counting = true;
    TRY(ts_arena_open(&a, dev, 0));
    x = ts_take(&a, type, TS_DIM(N, N));
    st = ts_linear_op(dev, (ts_linear){.x = x, .w = &w, .y = x});
    ts_arena_close(&a);
    dev->counting = false;
    if (st) goto done;
    size_t one = (size_t)N * N * ts_dtype_size(type);
    TRY(ts_arena_open(&a, dev, 2 * one + w.want.bytes + 1024));
    x = ts_take(&a, type, TS_DIM(N, N));
    y = ts_take(&a, type, TS_DIM(N, N));
    store = ts_take(&a, TS_U8, TS_DIM((long)w.want.bytes));
    for (long i = 0; i < (long)N * N; i++)
        host[i] = (float)((i * 2654435761u) % 1024) / 1024 - 0.5f;
    TRY(dev->ops->pack(dev, &(ts_host){host, TS_F32, 2, {N, N}}, 0, &w, store.p));
    ts_weight_packed(&w, store.p);
    TRY(dev->ops->zero(dev, x.p, one));
    for (int i = 0; i < TRIES; i++) {
        double start = ts_seconds();
        TRY(ts_linear_op(dev, (ts_linear){.x = x, .w = &w, .y = y}));
        TRY(dev->ops->join(dev));
        double rate = 2.0 * N * N * N / (ts_seconds() - start);
        if (rate > best) best = rate;
    }
done:
    dev->counting = false;
    ts_arena_close(&a);
    free(host);
    return st ? 0 : best;
}

double ts_matmul_peak(ts_ctx *c) { return matmul_peak(c, c->act); }

static void row(char *text, size_t size, const char *name, double seconds, double total,
                double flops, double peak)
{
    size_t at = strlen(text);
    at += (size_t)snprintf(text + at, size - at, "  %-12s %9.3f s %6.1f%%", name, seconds,
                           total > 0 ? 100 * seconds / total : 0);
    if (flops > 0 && seconds > 0 && at < size) {
        at += (size_t)snprintf(text + at, size - at, " %9.1f GFLOP/s", flops / seconds / 1e9);
        if (peak > 0 && at < size)
            at += (size_t)snprintf(text + at, size - at, "  %5.1f%% of the matmul peak",
                                   100 * flops / seconds / peak);
    }
    if (at + 1 < size) strcat(text, "\n");
}

char *ts_run_profile(const ts_run *r)
{
    enum { SIZE = 4096 };
    const ts_profile p = r->profile;
    double total = 0;
    int steps = ts_run_steps(r) - r->report.resumed;
    for (int i = 0; i < TS_TIMES; i++) total += p.seconds[i];
    char *text = total > 0 && steps > 0 ? calloc(1, SIZE) : NULL;
    if (!text) return NULL;
    double peak = matmul_peak(r->ctx, r->ctx->act);
    locale_t was = ts_point_begin();
    snprintf(text, SIZE,
             "denoising: %d step%s of %.3f s, %s, %d threads, matmul peak %.0f GFLOP/s\n", steps,
             steps == 1 ? "" : "s", total / steps, r->ctx->act == TS_BF16 ? "bf16" : "f32",
             ts_facts(r->ctx->dev).threads, peak / 1e9);
    for (int i = 0; i < TS_TIMES; i++)
        if (p.calls[i])
            row(text, SIZE, ts_time_name((ts_time)i), p.seconds[i], total,
                i == TS_TIME_LINEAR || i == TS_TIME_CONV || i == TS_TIME_ATTENTION ? p.flops[i] : 0,
                peak);
    size_t at = strlen(text);
    char packed[TS_NUMBER_TEXT];
    if (r->weights.bytes > 0)
        at += (size_t)snprintf(text + at, SIZE - at,
                               "  weights      %9.3f s beside that, %s packed\n",
                               r->weights.seconds, ts_bytes_text(r->weights.bytes, packed));
    if (r->watched.steps && at < SIZE)
        snprintf(text + at, SIZE - at, "  watching     %9.3f s beside that, %d step%s\n",
                 r->watched.seconds, r->watched.steps, r->watched.steps == 1 ? "" : "s");
    ts_point_end(was);
    return text;
}
