/* The CUDA device: opening, memory, and the checks that stand before every operation. On a counting
 * device an operation ends after its checks, having said what scratch it needs. */
#include "backend/cuda/cuda.h"

#include "backend/shapes.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of a queue the error comes out of a later call: what was queued last is who may have done it. */
static void name_queued(const ts_cuda *c, char *text, size_t size)
{
    size_t n = 0;
    text[0] = 0;
    for (int i = 0; i < TS_CUDA_NAMES && n < size; i++) {
        const char *name = c->queued[(c->queuing + i) % TS_CUDA_NAMES];
        if (name)
            n += (size_t)snprintf(text + n, size - n, "%s%s", n ? ", " : "; queued last: ", name);
    }
}

ts_status ts_cuda_result(ts_cuda *c, cudaError_t e, const char *what)
{
    char last[160];
    size_t available = 0, total = 0;
    if (e == cudaSuccess) return TS_OK;
    cudaGetLastError(); /* what is not sticky is forgotten */
    if (e == cudaErrorMemoryAllocation) {
        cudaMemGetInfo(&available, &total);
        return ts_fail(c->dev.err, TS_EMEMORY,
                       "device %s (%s): %s: no memory; %.1f MB are free of %.1f MB", c->dev.name,
                       c->title, what, (double)available / 1e6, (double)total / 1e6);
    }
    name_queued(c, last, sizeof last);
    return ts_fail(c->dev.err, TS_EDEVICE, "device %s (%s): %s: %s%s", c->dev.name, c->title, what,
                   cudaGetErrorString(e), last);
}

/* ---- memory ---- */
static ts_status cuda_memory(ts_device *d, size_t *available, size_t *total)
{
    ts_cuda *c = ts_cuda_of(d);
    return ts_cuda_result(c, cudaMemGetInfo(available, total), "asking for its memory");
}

const char ts_cuda_others[] = "close what else uses it, or take `device` cpu";

ts_status ts_cuda_take(ts_cuda *c, size_t bytes, const char *what, const char *advice, void **out)
{
    size_t available = 0, total = 0;
    cudaError_t e = cudaMalloc(out, bytes ? bytes : 1);
    if (e) *out = NULL;
    if (e != cudaErrorMemoryAllocation) return ts_cuda_result(c, e, "taking memory");
    cudaGetLastError();
    cudaMemGetInfo(&available, &total);
    return ts_fail(c->dev.err, TS_EMEMORY,
                   "%s%sno memory for %.1f MB: %s has %.1f MB free of %.1f MB (%s)", what,
                   *what ? ": " : "", (double)bytes / 1e6, c->dev.name, (double)available / 1e6,
                   (double)total / 1e6, advice);
}

static ts_status cuda_alloc(ts_device *d, size_t bytes, ts_ptr *p)
{
    void *m = NULL;
    ts_status st = ts_cuda_take(ts_cuda_of(d), bytes, "",
                                "a smaller `vram` makes it keep fewer weights there", &m);
    *p = (ts_ptr){(uintptr_t)m};
    return st;
}

/* After what uses it: the runtime waits for that. */
static void cuda_release(ts_device *d, ts_ptr p)
{
    (void)d;
    if (p.at) cudaFree(ts_cuda_at(p));
}

static ts_ptr cuda_adopt(ts_device *d, const void *host, size_t bytes)
{
    (void)d;
    (void)host;
    (void)bytes;
    return (ts_ptr){0};
}

static ts_status cuda_zero(ts_device *d, ts_ptr p, size_t bytes)
{
    ts_cuda *c = ts_cuda_of(d);
    if (d->counting || !bytes) return TS_OK;
    return ts_cuda_result(c, cudaMemsetAsync(ts_cuda_at(p), 0, bytes, c->queue), "zero");
}

ts_status ts_cuda_scratch(ts_cuda *c, size_t bytes, void **out)
{
    ts_status st = TS_OK;
    ts_ptr p = {0};
    *out = NULL;
    if (bytes > c->scratch_want) c->scratch_want = bytes;
    if (c->dev.counting) return TS_OK;
    if (c->scratch_want > c->scratch_size) {
        if (c->scratch) cudaFree(c->scratch);
        c->scratch = NULL;
        c->scratch_size = 0;
        TRY(ts_alloc_for(&c->dev, c->scratch_want, "scratch of operations", &p));
        c->scratch = ts_cuda_at(p);
        c->scratch_size = c->scratch_want;
    }
    *out = c->scratch;
done:
    return st;
}

static void cuda_facts(ts_device *d, ts_device_facts *f)
{
    *f = (ts_device_facts){ts_cuda_of(d)->level, 1, 0};
}

static size_t cuda_scratch_wanted(ts_device *d)
{
    size_t want = ts_cuda_of(d)->scratch_want;
    ts_cuda_of(d)->scratch_want = 0;
    return want;
}

static void cuda_about(ts_device *d, char *text, size_t size)
{
    ts_cuda *c = ts_cuda_of(d);
    snprintf(text, size,
             "device %s, %s (%s), %d multiprocessors, driver for CUDA %d.%d\nCUDA runtime %d.%d, "
             "%s, %s",
             d->name, c->title, c->level, c->chip.processors, c->driver / 1000,
             c->driver % 1000 / 10, c->runtime / 1000, c->runtime % 1000 / 10, ts_lt_version(c->lt),
             c->dnn ? ts_dnn_version(c->dnn) : c->dnn_missing);
}

static void note_queued(ts_device *d, const char *name)
{
    ts_cuda *c = ts_cuda_of(d);
    if (d->counting) return;
    c->queued[c->queuing] = name;
    c->queuing = (c->queuing + 1) % TS_CUDA_NAMES;
}

/* ---- operations: launch_* know that shapes fit; they launch unless the device counts ---- */
static ts_status launched(ts_cuda *c, cudaError_t e, const char *what)
{
    return ts_cuda_result(c, e, what);
}

static ts_status launch_gather(ts_cuda *c, const ts_gather *a)
{
    if (c->dev.counting) return TS_OK;
    c->faulty = true;
    return launched(c, ts_cuda_gather(a, c->fault, c->queue), "gather");
}

/* Dense attention of many tokens goes to cuDNN on GPUs whose tensor cores its kernels use in ways
 * that those of flash.cu do not (an H200 gave 0.6 of its rate at D 128). What it has a plan for. */
static bool goes_to_library(ts_cuda *c, const ts_attention *a, ts_dnn_heads *s, size_t *work)
{
    const ts_tensor *t[] = {&a->q, &a->k, &a->v, &a->out};
    enum { MOST = 64 << 20 }; /* bytes of workspace */
    bool bare = !a->plan && !a->nk && a->every <= 1 && !ts_there(a->bias) && !ts_there(a->lse) &&
                !ts_there(a->sums) && !ts_there(a->pooled_k);
    *s = (ts_dnn_heads){a->q.dim[1], a->k.dim[1], a->q.dim[2], a->q.dim[3],
                        a->q.ld,     a->k.ld,     a->v.ld,     a->out.ld};
    if (!c->dnn || !bare || s->Nq < c->dense_by_dnn || s->Nk < c->dense_by_dnn || s->D > 128)
        return false;
    for (int i = 0; i < 4; i++)
        if (t[i]->type != TS_BF16 || t[i]->p.at % 16 || t[i]->ld % 8) return false;
    return a->out.p.at != a->q.p.at && s->D % 8 == 0 &&
           ts_dnn_plan_attention(c->dnn, s, MOST, work);
}

static ts_status attend_by_library(ts_cuda *c, const ts_attention *a, const ts_dnn_heads *s,
                                   size_t work)
{
    void *scratch;
    ts_status st = ts_cuda_scratch(c, work + 1, &scratch);
    for (long b = 0; b < a->q.dim[0] && !st && !c->dev.counting; b++) {
        const ts_tensor *t[] = {&a->q, &a->k, &a->v, &a->out};
        void *at[4];
        for (int i = 0; i < 4; i++)
            at[i] = ts_cuda_at(ts_at(t[i]->p, (size_t)(b * t[i]->dim[1] * t[i]->ld) * 2));
        st = ts_dnn_attention(c->dnn, c->dev.err, s, at[0], at[1], at[2], at[3], a->scale, scratch,
                              c->queue);
    }
    return st;
}

static ts_status launch_attention(ts_cuda *c, const ts_attention *a)
{
    void *scratch;
    ts_dnn_heads heads;
    size_t work;
    if (goes_to_library(c, a, &heads, &work)) return attend_by_library(c, a, &heads, work);
    ts_status st = ts_cuda_scratch(c, ts_cuda_attention_scratch(a, &c->chip), &scratch);
    if (st || c->dev.counting) return st;
    return launched(c, ts_cuda_attention(a, &c->chip, scratch, c->queue), "attention");
}

static ts_status launch_block_sums(ts_cuda *c, const ts_block_sums *a)
{
    if (c->dev.counting) return TS_OK;
    return launched(c, ts_cuda_block_sums(a, &c->chip, c->queue), "block sums");
}

#define WITH_SCRATCH(name, what)                                                  \
    static ts_status launch_##name(ts_cuda *c, const ts_##name *a)                \
    {                                                                             \
        void *scratch;                                                            \
        ts_status st = ts_cuda_scratch(c, ts_cuda_##name##_scratch(a), &scratch); \
        if (st || c->dev.counting) return st;                                     \
        return launched(c, ts_cuda_##name(a, scratch, c->queue), what);           \
    }
WITH_SCRATCH(norm, "norm")
WITH_SCRATCH(block_means, "block means")
WITH_SCRATCH(topk, "top-k")
WITH_SCRATCH(head_errors, "errors of heads")
WITH_SCRATCH(pool_sums, "weights of pooled keys")
WITH_SCRATCH(rest_linear, "linear rest")

#define PLAIN(name)                                                \
    static ts_status launch_##name(ts_cuda *c, const ts_##name *a) \
    {                                                              \
        if (c->dev.counting) return TS_OK;                         \
        return launched(c, ts_cuda_##name(a, c->queue), #name);    \
    }
PLAIN(activate)
PLAIN(rope)
PLAIN(copy)
PLAIN(lincomb)
PLAIN(affine)
PLAIN(randn)
PLAIN(resample)
PLAIN(pool)
PLAIN(choose)

#define OPERATION(name, run)                                       \
    static ts_status cuda_##name(ts_device *d, const ts_##name *a) \
    {                                                              \
        ts_status st = ts_shapes_##name(d, a);                     \
        if (st) return st;                                         \
        note_queued(d, #name);                                     \
        return run(ts_cuda_of(d), a);                              \
    }
OPERATION(linear, ts_cuda_linear)
OPERATION(conv, ts_cuda_conv)
OPERATION(norm, launch_norm)
OPERATION(gather, launch_gather)
OPERATION(resample, launch_resample)
OPERATION(activate, launch_activate)
OPERATION(rope, launch_rope)
OPERATION(copy, launch_copy)
OPERATION(lincomb, launch_lincomb)
OPERATION(affine, launch_affine)
OPERATION(randn, launch_randn)
OPERATION(attention, launch_attention)
OPERATION(block_sums, launch_block_sums)
OPERATION(block_means, launch_block_means)
OPERATION(topk, launch_topk)
OPERATION(pool, launch_pool)
OPERATION(pool_sums, launch_pool_sums)
OPERATION(rest_linear, launch_rest_linear)
OPERATION(head_errors, launch_head_errors)
OPERATION(choose, launch_choose)

static ts_status cuda_pack(ts_device *d, const ts_host *from, long first, const ts_weight *to,
                           ts_ptr at)
{
    ts_status st = ts_shapes_pack(d, from, first, to, at);
    return st ? st : ts_cuda_pack(d, from, first, to, at);
}

static ts_status cuda_pack_ahead(ts_device *d, const ts_host *from, long first, const ts_weight *to,
                                 ts_ptr at, ts_ticket *t)
{
    ts_status st = ts_shapes_pack(d, from, first, to, at);
    return st ? st : ts_cuda_pack_ahead(d, from, first, to, at, t);
}

static ts_status cuda_peak(ts_device *d, ts_dtype type, double *flops)
{
    *flops = 0;
    return d->counting ? TS_OK : ts_cuda_peak(ts_cuda_of(d), type, flops);
}

static ts_status cuda_check(ts_device *d, ts_tensor t, int tag)
{
    ts_cuda *c = ts_cuda_of(d);
    ts_status st = ts_shapes_check(d, t, tag);
    if (st || d->counting) return st;
    c->faulty = true;
    return launched(c, ts_cuda_check(t, tag, c->fault, c->queue), "check");
}

static ts_status cuda_checked(ts_device *d, int *tag)
{
    ts_cuda *c = ts_cuda_of(d);
    ts_status st;
    *tag = 0;
    if (d->counting) return TS_OK;
    c->faulty = true;
    TRY(ts_cuda_join(d));
    *tag = c->seen->bad_tag;
    if (*tag)
        TRY(ts_cuda_result(
            c, cudaMemsetAsync(&c->fault->bad_tag, 0, sizeof c->fault->bad_tag, c->queue),
            "check"));
done:
    return st;
}

static void cuda_close(ts_device *d)
{
    ts_cuda *c = ts_cuda_of(d);
    if (c->queue) cudaStreamSynchronize(c->queue);
    for (int i = 0; i < TS_CUDA_HALVES; i++)
        if (c->ahead[i]) {
            cudaStreamSynchronize(c->ahead[i]);
            cudaStreamDestroy(c->ahead[i]);
        }
    ts_lt_close(c->lt);
    ts_dnn_close(c->dnn);
    ts_cuda_stage_close(c);
    for (long i = 0; i < c->made; i++) cudaEventDestroy(c->moment[i]);
    for (int i = 0; i < TS_CUDA_TICKETS; i++)
        if (c->ticket[i]) cudaEventDestroy(c->ticket[i]);
    if (c->fence) cudaEventDestroy(c->fence);
    if (c->beside) cudaEventDestroy(c->beside);
    if (c->scratch) cudaFree(c->scratch);
    if (c->fault) cudaFree(c->fault);
    if (c->seen) cudaFreeHost(c->seen);
    if (c->queue) cudaStreamDestroy(c->queue);
    free(c->moment);
    free(c);
}

static const ts_ops ops = {.memory = cuda_memory,
                           .facts = cuda_facts,
                           .scratch = cuda_scratch_wanted,
                           .about = cuda_about,
                           .alloc = cuda_alloc,
                           .free = cuda_release,
                           .adopt = cuda_adopt,
                           .upload = ts_cuda_upload,
                           .upload_ahead = ts_cuda_upload_ahead,
                           .pack_ahead = cuda_pack_ahead,
                           .wait = ts_cuda_wait,
                           .download = ts_cuda_download,
                           .join = ts_cuda_join,
                           .mark = ts_cuda_mark,
                           .elapsed = ts_cuda_elapsed,
                           .pack = cuda_pack,
                           .zero = cuda_zero,
                           .copy = cuda_copy,
                           .gather = cuda_gather,
                           .linear = cuda_linear,
                           .conv = cuda_conv,
                           .norm = cuda_norm,
                           .activate = cuda_activate,
                           .rope = cuda_rope,
                           .attention = cuda_attention,
                           .block_sums = cuda_block_sums,
                           .block_means = cuda_block_means,
                           .topk = cuda_topk,
                           .pool = cuda_pool,
                           .pool_sums = cuda_pool_sums,
                           .rest_linear = cuda_rest_linear,
                           .head_errors = cuda_head_errors,
                           .choose = cuda_choose,
                           .peak = cuda_peak,
                           .lincomb = cuda_lincomb,
                           .randn = cuda_randn,
                           .resample = cuda_resample,
                           .affine = cuda_affine,
                           .check = cuda_check,
                           .checked = cuda_checked,
                           .close = cuda_close};

/* ---- opening ---- */
/* The number behind "cuda:"; 0 without one. */
static ts_status read_index(const char *kind, ts_err *err, int *index)
{
    char *end = NULL;
    *index = 0;
    if (!kind || !strcmp(kind, "cuda") || !strcmp(kind, "auto")) return TS_OK;
    long n = strncmp(kind, "cuda:", 5) ? -1 : strtol(kind + 5, &end, 10);
    if (n < 0 || n > 1023 || end == kind + 5 || *end)
        return ts_fail(err, TS_EUSAGE, "device %s: must be cuda or cuda:NUMBER", kind);
    *index = (int)n;
    return TS_OK;
}

static ts_status find_gpu(int index, ts_err *err, struct cudaDeviceProp *p)
{
    int n = 0, driver = 0;
    cudaError_t e = cudaGetDeviceCount(&n);
    cudaGetLastError();
    if (e == cudaErrorInsufficientDriver) {
        cudaDriverGetVersion(&driver);
        return ts_fail(err, TS_EDEVICE,
                       driver ? "device cuda: the NVIDIA driver is for CUDA %d.%d, this program "
                                "needs one for %d.%d or newer"
                              : "device cuda: there is no NVIDIA driver",
                       driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000,
                       CUDART_VERSION % 1000 / 10);
    }
    if (e || n < 1)
        return ts_fail(err, TS_EDEVICE, "device cuda: there is no NVIDIA GPU (%s)",
                       cudaGetErrorString(e ? e : cudaErrorNoDevice));
    if (index >= n)
        return ts_fail(err, TS_EDEVICE, "device cuda:%d: there %s %d, numbered from 0", index,
                       n == 1 ? "is" : "are", n);
    e = cudaSetDevice(index);
    if (!e) e = cudaGetDeviceProperties(p, index);
    if (e) {
        cudaGetLastError();
        return ts_fail(err, TS_EDEVICE, "device cuda:%d: %s", index, cudaGetErrorString(e));
    }
    if (p->major < 8)
        return ts_fail(err, TS_EDEVICE,
                       "device cuda:%d: %s has compute capability %d.%d, expected 8.0 or newer",
                       index, p->name, p->major, p->minor);
    return TS_OK;
}

static ts_status open_queues(ts_cuda *c, size_t half)
{
    ts_status st;
    TRY(ts_cuda_result(c, cudaStreamCreateWithFlags(&c->queue, cudaStreamNonBlocking),
                       "making a stream"));
    for (int i = 0; i < TS_CUDA_HALVES; i++)
        TRY(ts_cuda_result(c, cudaStreamCreateWithFlags(c->ahead + i, cudaStreamNonBlocking),
                           "making a stream"));
    TRY(ts_cuda_result(c, cudaEventCreateWithFlags(&c->fence, cudaEventDisableTiming),
                       "making an event"));
    TRY(ts_cuda_result(c, cudaEventCreateWithFlags(&c->beside, cudaEventDisableTiming),
                       "making an event"));
    TRY(ts_cuda_stage_open(c, half));
    TRY(ts_cuda_take(c, sizeof *c->fault, "what kernels find", ts_cuda_others, (void **)&c->fault));
    TRY(ts_cuda_result(c, cudaMemsetAsync(c->fault, 0, sizeof *c->fault, c->queue),
                       "taking memory"));
    TRY(ts_cuda_result(c, cudaHostAlloc((void **)&c->seen, sizeof *c->seen, cudaHostAllocDefault),
                       "taking pinned memory"));
    TRY(ts_cuda_result(c, ts_cuda_attention_init(&c->chip), "preparing attention"));
done:
    return st;
}

ts_status ts_cuda_open_with(ts_device_options o, size_t half, const ts_env *env, ts_err *err,
                            ts_device **out)
{
    int index;
    struct cudaDeviceProp p;
    ts_status st;
    ts_cuda *c = NULL;
    *out = NULL;
    TRY(read_index(o.kind, err, &index));
    TRY(find_gpu(index, err, &p));
    c = calloc(1, sizeof *c);
    if (!c) return ts_fail(err, TS_EMEMORY, "no memory for a device");
    c->dev = (ts_device){.ops = &ops,
                         .wish = ts_keep_wish,
                         .err = err,
                         .env = env,
                         .has_bf16 = true,
                         .convolves_bf16 = true,
                         .goes_ahead = true,
                         .own_memory = true,
                         .name = "cuda"};
    c->index = index;
    c->chip = (ts_cuda_chip){p.major, p.minor, p.multiProcessorCount, p.sharedMemPerBlockOptin};
    c->dense_by_dnn = p.major >= 9 ? 2048 : LONG_MAX;
    snprintf(c->title, sizeof c->title, "%s", p.name);
    snprintf(c->level, sizeof c->level, "sm_%d%d", p.major, p.minor);
    cudaDriverGetVersion(&c->driver);
    cudaRuntimeGetVersion(&c->runtime);
    c->moment = calloc(TS_MOMENTS, sizeof *c->moment);
    if (!c->moment) TRY(ts_fail(err, TS_EMEMORY, "no memory for a device"));
    TRY(open_queues(c, half));
    TRY(ts_lt_open(err, &c->lt));
    c->dnn = ts_dnn_open(c->dnn_missing, sizeof c->dnn_missing);
done:
    if (st && c) cuda_close(&c->dev);
    if (!st) *out = &c->dev;
    return st;
}

ts_status ts_cuda_open(ts_device_options o, const ts_env *env, ts_err *err, ts_device **out)
{
    return ts_cuda_open_with(o, 16 << 20, env, err, out);
}

bool ts_cuda_present(void)
{
    int n = 0;
    bool found = cudaGetDeviceCount(&n) == cudaSuccess && n > 0;
    cudaGetLastError();
    return found;
}

long ts_cuda_joins(ts_device *d) { return ts_cuda_of(d)->joins; }
