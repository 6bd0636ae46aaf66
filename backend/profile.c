/* A device that decorates another: every operation is passed on, its calls and floating-point
 * operations added up, on a counting device as well: what a run will cost. Where it is asked for,
 * operations stand between two marks of the queue, which are read when something joins anyway: a
 * step is timed without waiting for any of its operations. */
#include "backend/ctx.h"

#include <stdlib.h>

/* most operations between two joins; a device keeps more moments than these need */
enum { SPANS = TS_MOMENTS / 4 };
typedef struct {
    ts_time what;
    ts_moment from, to;
} span;
typedef struct {
    ts_device dev; /* first */
    ts_device *inner;
    ts_profile sum;
    span *span; /* of operations that were queued and may not be done; NULL: nothing is timed */
    int spans;
} profile;

static ts_device *prepare_inner(ts_device *d)
{
    profile *p = (profile *)d;
    p->inner->counting = d->counting;
    p->inner->time_packing = d->time_packing;
    p->inner->wish = d->wish;
    p->inner->wish_user = d->wish_user;
    return p->inner;
}

/* After whatever joins: the marks have passed. */
static ts_status read_spans(profile *p)
{
    ts_status st = TS_OK;
    for (int i = 0; i < p->spans && !st; i++) {
        double seconds = 0;
        st = p->inner->ops->elapsed(p->inner, p->span[i].from, p->span[i].to, &seconds);
        p->sum.seconds[p->span[i].what] += seconds;
    }
    p->spans = 0;
    return st;
}

static ts_status begin_span(profile *p)
{
    ts_status st = TS_OK;
    if (!p->span || p->dev.counting) return TS_OK;
    if (p->spans == SPANS) {
        TRY(p->inner->ops->join(p->inner));
        TRY(read_spans(p));
    }
    TRY(p->inner->ops->mark(p->inner, &p->span[p->spans].from));
done:
    return st;
}

static ts_status end_span(profile *p, ts_time what, double flops)
{
    p->sum.flops[what] += flops;
    p->sum.calls[what]++;
    if (!p->span || p->dev.counting) return TS_OK;
    span *s = p->span + p->spans++;
    s->what = what;
    return p->inner->ops->mark(p->inner, &s->to);
}

#define PASS(name, args, what, flops)                         \
    static ts_status pass_##name(ts_device *d, const args *a) \
    {                                                         \
        ts_device *in = prepare_inner(d);                     \
        ts_status st = begin_span((profile *)d);              \
        if (!st) st = in->ops->name(in, a);                   \
        return st ? st : end_span((profile *)d, what, flops); \
    }
static double linear_flops(const ts_linear *a)
{
    return 2.0 * (double)ts_rows(a->x) * (double)a->x.dim[a->x.nd - 1] * (double)a->w->t.dim[0];
}
static double conv_flops(const ts_conv *a)
{
    return 2.0 * (double)ts_rows(a->y) * (double)ts_count(a->w->t);
}
static double attention_flops(const ts_attention *a) /* of the blocks that are read */
{
    double share = 0;
    for (long b = 0; b < a->q.dim[0]; b++) share += a->plan && a->plan[b] ? a->plan[b]->share : 1;
    return 4.0 * share * (double)a->q.dim[1] * (double)a->k.dim[1] *
           (double)(a->q.dim[2] * a->q.dim[3]) / (a->every > 1 ? a->every : 1);
}
static double pool_sums_flops(const ts_pool_sums *a)
{
    return 2.0 * (double)ts_count(a->q) * (double)a->k.dim[1];
}
static ts_status pass_peak(ts_device *d, ts_dtype type, double *flops)
{
    return prepare_inner(d)->ops->peak(prepare_inner(d), type, flops);
}
PASS(copy, ts_copy, TS_TIME_COPY, 0)
PASS(gather, ts_gather, TS_TIME_COPY, 0)
PASS(linear, ts_linear, TS_TIME_LINEAR, linear_flops(a))
PASS(conv, ts_conv, TS_TIME_CONV, conv_flops(a))
PASS(norm, ts_norm, TS_TIME_NORM, 0)
PASS(activate, ts_activate, TS_TIME_OTHER, 0)
PASS(rope, ts_rope, TS_TIME_ROPE, 0)
PASS(attention, ts_attention, TS_TIME_ATTENTION, attention_flops(a))
PASS(block_sums, ts_block_sums, TS_TIME_SEARCH,
     2.0 * (double)a->q.dim[0] * (double)a->q.dim[1] * (double)a->q.dim[1] *
         (double)(a->q.dim[2] * a->q.dim[3]))
PASS(block_means, ts_block_means, TS_TIME_SEARCH, 0)
PASS(topk, ts_topk, TS_TIME_SEARCH, 0)
PASS(pool, ts_pool, TS_TIME_SEARCH, 0)
PASS(pool_sums, ts_pool_sums, TS_TIME_SEARCH, pool_sums_flops(a))
PASS(rest_linear, ts_rest_linear, TS_TIME_ATTENTION, 0)
PASS(head_errors, ts_head_errors, TS_TIME_SEARCH, 0)
PASS(choose, ts_choose, TS_TIME_SEARCH, 0)
PASS(lincomb, ts_lincomb, TS_TIME_OTHER, 0)
PASS(randn, ts_randn, TS_TIME_OTHER, 0)
PASS(resample, ts_resample, TS_TIME_COPY, 0)
PASS(affine, ts_affine, TS_TIME_OTHER, 0)

static ts_status pass_memory(ts_device *d, size_t *available, size_t *total)
{
    ts_device *in = prepare_inner(d);
    return in->ops->memory(in, available, total);
}
static void pass_facts(ts_device *d, ts_device_facts *f)
{
    ts_device *in = prepare_inner(d);
    in->ops->facts(in, f);
}
static size_t pass_scratch(ts_device *d)
{
    ts_device *in = prepare_inner(d);
    return in->ops->scratch(in);
}
static void pass_about(ts_device *d, char *text, size_t size)
{
    ts_device *in = prepare_inner(d);
    in->ops->about(in, text, size);
}
static ts_status pass_alloc(ts_device *d, size_t n, ts_ptr *p)
{
    ts_device *in = prepare_inner(d);
    return in->ops->alloc(in, n, p);
}
static void pass_release(ts_device *d, ts_ptr p)
{
    ts_device *in = prepare_inner(d);
    in->ops->free(in, p);
}
static ts_ptr pass_adopt(ts_device *d, const void *host, size_t n)
{
    ts_device *in = prepare_inner(d);
    return in->ops->adopt(in, host, n);
}
static ts_status pass_upload(ts_device *d, ts_ptr p, const void *host, size_t n)
{
    ts_device *in = prepare_inner(d);
    return in->ops->upload(in, p, host, n);
}
static ts_status pass_download(ts_device *d, void *host, ts_ptr p, size_t n)
{
    ts_device *in = prepare_inner(d);
    ts_status st = in->ops->download(in, host, p, n);
    return st ? st : read_spans((profile *)d);
}
static ts_status pass_join(ts_device *d)
{
    ts_device *in = prepare_inner(d);
    ts_status st = in->ops->join(in);
    return st ? st : read_spans((profile *)d);
}
static ts_status pass_pack(ts_device *d, const ts_host *from, long first, const ts_weight *to,
                           ts_ptr at)
{
    ts_device *in = prepare_inner(d);
    return in->ops->pack(in, from, first, to, at);
}
static ts_status pass_upload_ahead(ts_device *d, ts_ptr dst, const void *host, size_t n,
                                   ts_ticket *t)
{
    ts_device *in = prepare_inner(d);
    return in->ops->upload_ahead(in, dst, host, n, t);
}
static ts_status pass_pack_ahead(ts_device *d, const ts_host *from, long first, const ts_weight *to,
                                 ts_ptr at, ts_ticket *t)
{
    ts_device *in = prepare_inner(d);
    return in->ops->pack_ahead(in, from, first, to, at, t);
}
static ts_status pass_wait_ahead(ts_device *d, ts_ticket t)
{
    ts_device *in = prepare_inner(d);
    return in->ops->wait(in, t);
}
static ts_status pass_mark_time(ts_device *d, ts_moment *m)
{
    ts_device *in = prepare_inner(d);
    return in->ops->mark(in, m);
}
static ts_status pass_elapsed(ts_device *d, ts_moment from, ts_moment to, double *seconds)
{
    ts_device *in = prepare_inner(d);
    return in->ops->elapsed(in, from, to, seconds);
}
static ts_status pass_zero(ts_device *d, ts_ptr p, size_t n)
{
    ts_device *in = prepare_inner(d);
    return in->ops->zero(in, p, n);
}
static ts_status pass_check(ts_device *d, ts_tensor t, int tag)
{
    ts_device *in = prepare_inner(d);
    ts_status st = begin_span((profile *)d);
    if (!st) st = in->ops->check(in, t, tag);
    return st ? st : end_span((profile *)d, TS_TIME_OTHER, 0);
}
static ts_status pass_checked(ts_device *d, int *tag)
{
    ts_device *in = prepare_inner(d);
    ts_status st = in->ops->checked(in, tag);
    return st ? st : read_spans((profile *)d);
}

static void pass_close(ts_device *d)
{
    ts_device_close(((profile *)d)->inner);
    free(((profile *)d)->span);
    free(d);
}

static const ts_ops ops = {.memory = pass_memory,
                           .facts = pass_facts,
                           .scratch = pass_scratch,
                           .about = pass_about,
                           .alloc = pass_alloc,
                           .free = pass_release,
                           .adopt = pass_adopt,
                           .upload = pass_upload,
                           .upload_ahead = pass_upload_ahead,
                           .pack_ahead = pass_pack_ahead,
                           .wait = pass_wait_ahead,
                           .download = pass_download,
                           .join = pass_join,
                           .mark = pass_mark_time,
                           .elapsed = pass_elapsed,
                           .pack = pass_pack,
                           .zero = pass_zero,
                           .copy = pass_copy,
                           .gather = pass_gather,
                           .linear = pass_linear,
                           .conv = pass_conv,
                           .norm = pass_norm,
                           .activate = pass_activate,
                           .rope = pass_rope,
                           .attention = pass_attention,
                           .block_sums = pass_block_sums,
                           .block_means = pass_block_means,
                           .topk = pass_topk,
                           .pool = pass_pool,
                           .pool_sums = pass_pool_sums,
                           .rest_linear = pass_rest_linear,
                           .head_errors = pass_head_errors,
                           .choose = pass_choose,
                           .peak = pass_peak,
                           .lincomb = pass_lincomb,
                           .randn = pass_randn,
                           .resample = pass_resample,
                           .affine = pass_affine,
                           .check = pass_check,
                           .checked = pass_checked,
                           .close = pass_close};

ts_status ts_profile_open(ts_device *inner, ts_device **out)
{
    profile *p = calloc(1, sizeof *p);
    if (!p) return ts_fail(inner->err, TS_EMEMORY, "no memory for a profile");
    p->dev = *inner;
    p->dev.ops = &ops;
    p->inner = inner;
    *out = &p->dev;
    return TS_OK;
}

ts_status ts_profile_read(ts_device *d, ts_profile *out, bool reset)
{
    ts_status st = TS_OK;
    profile *p = (profile *)d;
    *out = (ts_profile){0};
    if (d->ops != &ops) return TS_OK;
    if (p->spans) TRY(pass_join(d));
    *out = p->sum;
    if (reset) p->sum = (ts_profile){0};
done:
    return st;
}

ts_status ts_profile_time(ts_device *d, bool on, bool *was)
{
    ts_status st = TS_OK;
    profile *p = (profile *)d;
    bool timed = d->ops == &ops && p->span;
    if (was) *was = timed;
    if (d->ops != &ops || on == timed) return TS_OK;
    if (on) {
        p->span = malloc(SPANS * sizeof *p->span);
        return p->span ? TS_OK : ts_fail(d->err, TS_EMEMORY, "no memory for a profile");
    }
    if (p->spans) TRY(pass_join(d));
    free(p->span);
    p->span = NULL;
done:
    return st;
}

const char *ts_time_name(ts_time t)
{
    static const char *const name[TS_TIMES] = {"linear", "convolution", "attention", "search",
                                               "norm",   "rope",        "copy",      "other"};
    return name[t];
}
