/* The seam between what tessera computes and where: a device is an ordered queue with one table of
 * operations. Nothing above this header knows CPU from GPU.
 *
 * A call may return before its work is done, and its errors then come out of a later one that
 * joins: join, download, checked. Wrong shapes are refused at once. Arguments, and whatever they
 * point to (weights, plans, arrays), are read before the call returns. */
#ifndef TS_DEVICE_H
#define TS_DEVICE_H
#include "backend/clock.h"
#include "backend/ops.h"

/* Where a matrix may be cut when it is packed in parts: a multiple of every block into which
 * devices put outputs (16, 32, 48, 64). */
enum { TS_PACK_ROWS = 192 };

typedef struct ts_device ts_device;
/* A point of a device's queue: when all that was given to it before is done. A device keeps the
 * last TS_MOMENTS of them at least. */
enum { TS_MOMENTS = 1 << 16 };
typedef struct {
    uint64_t id;    /* of a device that keeps events */
    double seconds; /* of a device that waits for every operation */
} ts_moment;
/* What was begun beside the queue, and everything begun so before it. */
typedef struct {
    uint64_t id; /* 0: nothing to wait for */
} ts_ticket;
/* What a device is, for benchmarks: they say it beside their numbers. */
typedef struct {
    const char *level; /* of instructions: "ref", "avx2", "avx512", "avx512_bf16" */
    int threads;       /* of the host that share its work */
    /* seconds that attention has spent, while ts_device.time_packing, on laying out keys and values
     * for its kernel, of all threads together */
    double packing;
} ts_device_facts;
typedef struct {
    /* bytes that can be had now, and that this process may use at most. The CPU can not tell what
     * others would give back: there both are what machine and cgroup allow */
    ts_status (*memory)(ts_device *, size_t *free, size_t *total);
    void (*facts)(ts_device *, ts_device_facts *);
    /* most bytes of scratch, outside of every arena, that an operation has wanted since this was
     * last called; counted too */
    size_t (*scratch)(ts_device *);
    void (*about)(ts_device *, char *text, size_t size);     /* device and libraries, for people */
    ts_status (*alloc)(ts_device *, size_t bytes, ts_ptr *); /* TS_EMEMORY names the size */
    void (*free)(ts_device *, ts_ptr); /* once what was queued is done with it */
    /* the address of host bytes, used in place; 0: this device can not */
    ts_ptr (*adopt)(ts_device *, const void *host, size_t bytes);
    /* the host's bytes may be changed or freed when it returns */
    ts_status (*upload)(ts_device *, ts_ptr, const void *host, size_t bytes);
    /* Beside the queue, for weights: these two come after whatever was queued before them (so `dst`
     * may be read until then) and go on beside what is queued after them, until a `wait` for their
     * ticket. The host's bytes (and `to`) stay as they are, and `dst` is neither read nor freed,
     * until `wait` has returned. */
    ts_status (*upload_ahead)(ts_device *, ts_ptr dst, const void *host, size_t bytes, ts_ticket *);
    ts_status (*pack_ahead)(ts_device *, const ts_host *from, long first, const ts_weight *to,
                            ts_ptr at, ts_ticket *);
    /* what is queued from now on comes after this */
    ts_status (*wait)(ts_device *, ts_ticket);
    ts_status (*download)(ts_device *, void *host, ts_ptr, size_t bytes); /* joins */
    ts_status (*join)(ts_device *);
    ts_status (*mark)(ts_device *, ts_moment *);
    /* between two moments of this device; both have passed: ask after a join */
    ts_status (*elapsed)(ts_device *, ts_moment from, ts_moment to, double *seconds);
    /* Stored numbers of `to`, its rows (of the first dimension) from `first` on, into `at` as
     * to->want says; of all rows together want.bytes are written. `first` is a multiple of
     * TS_PACK_ROWS, and so is the number of rows unless they are the last. The host's bytes may be
     * changed or freed when it returns */
    ts_status (*pack)(ts_device *, const ts_host *from, long first, const ts_weight *to, ts_ptr at);
    ts_status (*zero)(ts_device *, ts_ptr, size_t bytes);
    ts_status (*copy)(ts_device *, const ts_copy *);
    ts_status (*gather)(ts_device *, const ts_gather *);
    ts_status (*linear)(ts_device *, const ts_linear *);
    ts_status (*conv)(ts_device *, const ts_conv *);
    ts_status (*norm)(ts_device *, const ts_norm *);
    ts_status (*activate)(ts_device *, const ts_activate *);
    ts_status (*rope)(ts_device *, const ts_rope *);
    ts_status (*attention)(ts_device *, const ts_attention *);
    ts_status (*block_sums)(ts_device *, const ts_block_sums *);
    ts_status (*block_means)(ts_device *, const ts_block_means *);
    ts_status (*topk)(ts_device *, const ts_topk *);
    ts_status (*pool)(ts_device *, const ts_pool *);
    ts_status (*pool_sums)(ts_device *, const ts_pool_sums *);
    ts_status (*rest_linear)(ts_device *, const ts_rest_linear *);
    ts_status (*head_errors)(ts_device *, const ts_head_errors *);
    ts_status (*choose)(ts_device *, const ts_choose *);
    /* measures what multiply-adds of f32 or bf16 reach on all threads when nothing is loaded, a
     * second; 0: it has no such kernel */
    ts_status (*peak)(ts_device *, ts_dtype, double *flops);
    ts_status (*lincomb)(ts_device *, const ts_lincomb *);
    ts_status (*randn)(ts_device *, const ts_randn *);
    ts_status (*resample)(ts_device *, const ts_resample *);
    ts_status (*affine)(ts_device *, const ts_affine *);
    /* remembers the first tag (> 0) whose tensor holds NaN or infinity */
    ts_status (*check)(ts_device *, ts_tensor, int tag);
    ts_status (*checked)(ts_device *, int *tag); /* joins; 0: all were finite; forgets */
    void (*close)(ts_device *);
} ts_ops;

struct ts_device { /* the head of every device; what follows is its own */
    const ts_ops *ops;
    ts_err *err; /* the context's slot */
    const ts_env *env;
    /* operations check shapes, make their primitives, take maxima of scratch, choose weight
     * layouts, and compute nothing */
    bool counting;
    /* The form in which an operation asks for a matrix, reported while counting. Devices open with
     * ts_keep_wish; a device that decorates another passes reports on. */
    void (*wish)(void *user, const ts_weight *, ts_form);
    void *wish_user;
    bool has_bf16; /* bf16 arithmetic is native */
    /* and so much faster in convolutions that VAEs are to use it, too */
    bool convolves_bf16;
    /* attention adds the time of its packing to ts_device_facts.packing; its owner sets it */
    bool time_packing;
    /* upload_ahead and pack_ahead go on beside the queue; a device without this does them at once
     */
    bool goes_ahead;
    bool own_memory;  /* its memory is not the host's */
    const char *name; /* as ts_device_open takes it: "cpu", ... */
};

/* Calls read `ts_linear_op(dev, (ts_linear){.x = ...})`. Each returns TS_EDEVICE or TS_ESHAPE with
 * a sentence. */
static inline ts_status ts_linear_op(ts_device *d, ts_linear a) { return d->ops->linear(d, &a); }
static inline ts_status ts_conv_op(ts_device *d, ts_conv a) { return d->ops->conv(d, &a); }
static inline ts_status ts_norm_op(ts_device *d, ts_norm a) { return d->ops->norm(d, &a); }
static inline ts_status ts_activate_op(ts_device *d, ts_activate a)
{
    return d->ops->activate(d, &a);
}
static inline ts_status ts_rope_op(ts_device *d, ts_rope a) { return d->ops->rope(d, &a); }
static inline ts_status ts_attention_op(ts_device *d, ts_attention a)
{
    return d->ops->attention(d, &a);
}
static inline ts_status ts_block_sums_op(ts_device *d, ts_block_sums a)
{
    return d->ops->block_sums(d, &a);
}
static inline ts_status ts_block_means_op(ts_device *d, ts_block_means a)
{
    return d->ops->block_means(d, &a);
}
static inline ts_status ts_topk_op(ts_device *d, ts_topk a) { return d->ops->topk(d, &a); }
static inline ts_status ts_pool_op(ts_device *d, ts_pool a) { return d->ops->pool(d, &a); }
static inline ts_status ts_pool_sums_op(ts_device *d, ts_pool_sums a)
{
    return d->ops->pool_sums(d, &a);
}
static inline ts_status ts_rest_linear_op(ts_device *d, ts_rest_linear a)
{
    return d->ops->rest_linear(d, &a);
}
static inline ts_status ts_head_errors_op(ts_device *d, ts_head_errors a)
{
    return d->ops->head_errors(d, &a);
}
static inline ts_status ts_choose_op(ts_device *d, ts_choose a) { return d->ops->choose(d, &a); }
static inline ts_status ts_copy_op(ts_device *d, ts_copy a) { return d->ops->copy(d, &a); }
static inline ts_status ts_gather_op(ts_device *d, ts_gather a) { return d->ops->gather(d, &a); }
static inline ts_status ts_lincomb_op(ts_device *d, ts_lincomb a) { return d->ops->lincomb(d, &a); }
static inline ts_status ts_randn_op(ts_device *d, ts_randn a) { return d->ops->randn(d, &a); }
static inline ts_status ts_resample_op(ts_device *d, ts_resample a)
{
    return d->ops->resample(d, &a);
}
static inline ts_status ts_affine_op(ts_device *d, ts_affine a) { return d->ops->affine(d, &a); }
/* Reports the form in which an operation asks for a matrix. */
static inline void ts_wish(ts_device *d, const ts_weight *w, ts_form f)
{
    d->wish(d->wish_user, w, f);
}
/* For owners that alone hold their weights: w->want = f. */
void ts_keep_wish(void *user, const ts_weight *w, ts_form f);
/* ops->alloc; the sentence of TS_EMEMORY says what it was for */
ts_status ts_alloc_for(ts_device *, size_t bytes, const char *what, ts_ptr *);
/* same shape, any types and ld: one copy */
ts_status ts_cast(ts_device *, ts_tensor from, ts_tensor to);

/* ---- devices ---- */
typedef struct {
    const char *kind; /* "cpu", "cuda", "cuda:1"; NULL or "auto": the best there is */
    int threads;      /* of the host; 0: as many as the machine and its cgroup allow */
    /* of a CPU, the highest that may be used: "ref", "avx2", "avx512", "avx512_bf16"; NULL: the
     * best there is */
    const char *level;
} ts_device_options;
/* env and err outlive the device. TS_EUSAGE: no such kind or level; TS_EDEVICE: it is not here. */
ts_status ts_device_open(ts_device_options, const ts_env *, ts_err *, ts_device **);
void ts_device_close(ts_device *); /* NULL is legal */
ts_device_facts ts_facts(ts_device *);
bool ts_device_has_cuda(void);   /* this build has it; whether the machine does is another thing */
int ts_device_cpus(void);        /* that this process may use, by affinity and cgroup; at least 1 */
size_t ts_device_resident(void); /* host memory of this process as it is; 0: not known */
/* Bytes that a computation may take of the address space that is left where that is limited (ulimit
 * -v), SIZE_MAX where it is not: what is mapped by now, and what threads and libraries will need
 * without asking, is taken off. TS_EMEMORY: that alone does not fit, and they would crash. */
ts_status ts_device_room(ts_device *, size_t *bytes);

/* ---- profile: the same operations, priced, and timed where that is asked for. Wraps a device;
 * closing it closes the wrapped one. ---- */
typedef enum {
    TS_TIME_LINEAR,
    TS_TIME_CONV,
    TS_TIME_ATTENTION,
    TS_TIME_SEARCH,
    TS_TIME_NORM,
    TS_TIME_ROPE,
    TS_TIME_COPY,
    TS_TIME_OTHER,
    TS_TIMES
} ts_time;
typedef struct {
    double seconds[TS_TIMES], flops[TS_TIMES];
    long calls[TS_TIMES];
} ts_profile;
ts_status ts_profile_open(ts_device *inner, ts_device **);
/* From now on, seconds too (or no more). They are of the queue, without a join that would not have
 * been there. *was: how it was before; may be NULL. TS_EMEMORY. Nothing for a device that is no
 * profile. */
ts_status ts_profile_time(ts_device *, bool on, bool *was);
/* Joins where operations were timed. Zeros for a device that is not a profile. */
ts_status ts_profile_read(ts_device *, ts_profile *, bool reset);
const char *ts_time_name(ts_time);
#endif
