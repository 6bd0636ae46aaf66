/* The twin of backend/cuda/cuda_dnn.c on the host, for the emulated device. It has a plan for
 * convolutions of an even number of channels, so that a network takes both ways, and for attention
 * of whole chunks. */
#include "backend/cpu/attention.h"
#include "backend/cpu/ref.h"
#include "backend/cuda/cuda_dnn.h"

#include <stdio.h>
#include <stdlib.h>

struct ts_dnn {
    long runs;
};
enum { WORKSPACE = 1000 };

ts_dnn *ts_dnn_open(char *why, size_t size)
{
    ts_dnn *d = calloc(1, sizeof *d);
    if (!d) snprintf(why, size, "no memory for the twin of cuDNN");
    return d;
}
void ts_dnn_close(ts_dnn *d) { free(d); }
const char *ts_dnn_version(const ts_dnn *d)
{
    (void)d;
    return "convolutions by the host";
}

long ts_dnn_runs(const ts_dnn *d) { return d ? d->runs : 0; }

bool ts_dnn_plan_conv(ts_dnn *d, const ts_dnn_shape *s, size_t most, size_t *workspace)
{
    (void)d;
    *workspace = WORKSPACE;
    return most >= WORKSPACE && s->C % 2 == 0 && s->O % 2 == 0;
}

typedef struct {
    ts_dnn_shape s;
    const void *x, *w;
    void *y;
} call;

/* One output: the sum over taps and channels. */
static float sum_taps(const call *c, const long at[3], long o)
{
    const ts_dnn_shape *s = &c->s;
    double sum = 0;
    for (long t = 0; t < s->kernel[0] * s->kernel[1] * s->kernel[2]; t++) {
        long k[3] = {t / (s->kernel[1] * s->kernel[2]), t / s->kernel[2] % s->kernel[1],
                     t % s->kernel[2]};
        long from[3];
        bool inside = true;
        for (int i = 0; i < 3; i++) {
            from[i] = at[i] * s->stride[i] + k[i] - s->before[i];
            inside = inside && from[i] >= 0 && from[i] < s->x[i];
        }
        if (!inside) continue;
        long x = ((from[0] * s->x[1] + from[1]) * s->x[2] + from[2]) * s->C;
        long w = (o * s->kernel[0] * s->kernel[1] * s->kernel[2] + t) * s->C;
        for (long i = 0; i < s->C; i++)
            sum += (double)ts_load(c->x, s->type, x + i) * (double)ts_load(c->w, s->type, w + i);
    }
    return (float)sum;
}

static void run_convolution(void *args)
{
    const call *c = args;
    const ts_dnn_shape *s = &c->s;
    long n = 0;
    for (long f = 0; f < s->y[0]; f++)
        for (long i = 0; i < s->y[1] * s->y[2]; i++)
            for (long o = 0; o < s->O; o++)
                ts_store(c->y, s->type, n++, sum_taps(c, (long[]){f, i / s->y[2], i % s->y[2]}, o));
    emu_device_wrote(c->y, (size_t)n * ts_dtype_size(s->type));
}

ts_status ts_dnn_conv(ts_dnn *d, ts_err *err, const ts_dnn_shape *s, const void *x, const void *w,
                      void *y, void *workspace, cudaStream_t stream)
{
    call c = {*s, x, w, y};
    d->runs++;
    if (!workspace) return ts_fail(err, TS_EDEVICE, "convolutions by the host: no workspace");
    emu_enqueue(stream, "convolution", run_convolution, &c, sizeof c);
    return TS_OK;
}

bool ts_dnn_plan_attention(ts_dnn *d, const ts_dnn_heads *s, size_t most, size_t *workspace)
{
    (void)d;
    *workspace = WORKSPACE;
    return most >= WORKSPACE && s->D % 8 == 0 && s->Nq > 0 && s->Nk > 0;
}

typedef struct {
    ts_dnn_heads s;
    const void *q, *k, *v;
    void *out;
    float scale;
} heads_call;

static ts_tensor heads_tensor(const void *at, long rows, const ts_dnn_heads *s, long ld)
{
    return (ts_tensor){{(uintptr_t)at}, TS_BF16, 4, {1, rows, s->A, s->D}, ld};
}

static void run_heads(void *args)
{
    const heads_call *c = args;
    const ts_dnn_heads *s = &c->s;
    ts_attention_ref(&(ts_attention){.q = heads_tensor(c->q, s->Nq, s, s->ldq),
                                     .k = heads_tensor(c->k, s->Nk, s, s->ldk),
                                     .v = heads_tensor(c->v, s->Nk, s, s->ldv),
                                     .out = heads_tensor(c->out, s->Nq, s, s->ldo),
                                     .scale = c->scale});
    for (long i = 0; i < s->Nq; i++)
        emu_device_wrote((uint16_t *)c->out + i * s->ldo, (size_t)(s->A * s->D) * 2);
}

ts_status ts_dnn_attention(ts_dnn *d, ts_err *err, const ts_dnn_heads *s, const void *q,
                           const void *k, const void *v, void *out, float scale, void *workspace,
                           cudaStream_t stream)
{
    heads_call c = {*s, q, k, v, out, scale};
    d->runs++;
    if (!workspace) return ts_fail(err, TS_EDEVICE, "attention by the host: no workspace");
    emu_enqueue(stream, "attention", run_heads, &c, sizeof c);
    return TS_OK;
}
