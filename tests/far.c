/* A device far away: every address it gives is 2^60 beyond memory, so that code above the seam
 * which dereferences one faults, and it can not adopt host bytes. The operations are the inner
 * device's. */
#include "tests/testing.h"

#include <stdlib.h>

#define FAR (UINT64_C(1) << 60)

typedef struct {
    ts_device dev; /* first */
    ts_device *inner;
} far;

static ts_device *inner_of(ts_device *d)
{
    far *f = (far *)d;
    f->inner->counting = d->counting;
    return f->inner;
}

/* Counting arenas and unread vectors have addresses that are no memory (2^59 and more, below 4096);
 * they go through as they are. Whatever else is below FAR is the host's own memory, which no
 * operation may be given. */
static ts_ptr near(ts_ptr p)
{
    if (p.at >= FAR) return (ts_ptr){p.at - FAR};
    ck_assert_msg(p.at < 4096 || p.at >= FAR / 2,
                  "%#llx is an address of the host, not of this device", (unsigned long long)p.at);
    return p;
}
static ts_tensor near_t(ts_tensor t)
{
    t.p = near(t.p);
    return t;
}

/* A weight's stand-in: what the operation asks for goes to the weight that it stands for. */
typedef struct {
    ts_weight w; /* first */
    const ts_weight *of;
} stand_in;

static const ts_weight *near_w(const ts_weight *w, stand_in *copy)
{
    if (!w) return NULL;
    *copy = (stand_in){*w, w};
    copy->w.t = near_t(w->t);
    return &copy->w;
}

static void pass_wish(void *user, const ts_weight *w, ts_form f)
{
    ts_wish(user, ((const stand_in *)w)->of, f);
}

static ts_status memory(ts_device *d, size_t *available, size_t *total)
{
    return inner_of(d)->ops->memory(inner_of(d), available, total);
}
static void facts(ts_device *d, ts_device_facts *f) { inner_of(d)->ops->facts(inner_of(d), f); }
static void about(ts_device *d, char *text, size_t size)
{
    inner_of(d)->ops->about(inner_of(d), text, size);
}

static ts_status alloc(ts_device *d, size_t n, ts_ptr *p)
{
    ts_device *in = inner_of(d);
    ts_status st = in->ops->alloc(in, n, p);
    if (!st) p->at += FAR;
    return st;
}

static void release(ts_device *d, ts_ptr p)
{
    ts_device *in = inner_of(d);
    if (p.at) in->ops->free(in, near(p));
}

static ts_ptr adopt(ts_device *d, const void *host, size_t n)
{
    (void)d;
    (void)host;
    (void)n;
    return (ts_ptr){0};
}

static ts_status upload(ts_device *d, ts_ptr p, const void *host, size_t n)
{
    ck_assert_msg(d->counting || p.at >= FAR, "upload to an address that is not this device's");
    return inner_of(d)->ops->upload(inner_of(d), near(p), host, n);
}

static ts_status download(ts_device *d, void *host, ts_ptr p, size_t n)
{
    ck_assert_msg(d->counting || p.at >= FAR, "download from an address that is not this device's");
    return inner_of(d)->ops->download(inner_of(d), host, near(p), n);
}

static ts_status join(ts_device *d) { return inner_of(d)->ops->join(inner_of(d)); }
static ts_status mark_time(ts_device *d, ts_moment *m)
{
    return inner_of(d)->ops->mark(inner_of(d), m);
}
static ts_status elapsed(ts_device *d, ts_moment from, ts_moment to, double *seconds)
{
    return inner_of(d)->ops->elapsed(inner_of(d), from, to, seconds);
}
static ts_status zero(ts_device *d, ts_ptr p, size_t n)
{
    return inner_of(d)->ops->zero(inner_of(d), near(p), n);
}

static ts_status pack(ts_device *d, const ts_host *from, long first, const ts_weight *to, ts_ptr at)
{
    return inner_of(d)->ops->pack(inner_of(d), from, first, to, near(at));
}

static ts_status upload_ahead(ts_device *d, ts_ptr dst, const void *host, size_t n, ts_ticket *t)
{
    ck_assert_msg(d->counting || dst.at >= FAR, "upload to an address that is not this device's");
    return inner_of(d)->ops->upload_ahead(inner_of(d), near(dst), host, n, t);
}

static ts_status pack_ahead(ts_device *d, const ts_host *from, long first, const ts_weight *to,
                            ts_ptr at, ts_ticket *t)
{
    return inner_of(d)->ops->pack_ahead(inner_of(d), from, first, to, near(at), t);
}

static ts_status wait_ahead(ts_device *d, ts_ticket t)
{
    return inner_of(d)->ops->wait(inner_of(d), t);
}

static ts_status copy(ts_device *d, const ts_copy *a)
{
    ts_copy b = *a;
    b.src = near(a->src);
    b.dst = near(a->dst);
    return inner_of(d)->ops->copy(inner_of(d), &b);
}

static ts_status gather(ts_device *d, const ts_gather *a)
{
    return ts_gather_op(inner_of(d), (ts_gather){near_t(a->x), near_t(a->ids), near_t(a->y)});
}

static ts_status linear(ts_device *d, const ts_linear *a)
{
    ts_linear l = *a;
    stand_in w, b;
    l.x = near_t(a->x);
    l.gate = near_t(a->gate);
    l.sel = near_t(a->sel);
    l.resid = near_t(a->resid);
    l.y = near_t(a->y);
    l.w = near_w(a->w, &w);
    l.b = near_w(a->b, &b);
    return inner_of(d)->ops->linear(inner_of(d), &l);
}

static ts_status conv(ts_device *d, const ts_conv *a)
{
    ts_conv l = *a;
    stand_in w, b;
    l.x = near_t(a->x);
    l.resid = near_t(a->resid);
    l.y = near_t(a->y);
    l.w = near_w(a->w, &w);
    l.b = near_w(a->b, &b);
    return inner_of(d)->ops->conv(inner_of(d), &l);
}

static ts_status norm(ts_device *d, const ts_norm *a)
{
    ts_norm l = *a;
    stand_in w, b;
    l.x = near_t(a->x);
    l.scale = near_t(a->scale);
    l.shift = near_t(a->shift);
    l.sel = near_t(a->sel);
    l.y = near_t(a->y);
    l.w = near_w(a->w, &w);
    l.b = near_w(a->b, &b);
    return inner_of(d)->ops->norm(inner_of(d), &l);
}

static ts_status activate(ts_device *d, const ts_activate *a)
{
    return ts_activate_op(inner_of(d),
                          (ts_activate){a->act, near_t(a->x), near_t(a->mul), near_t(a->y)});
}

static ts_status rope(ts_device *d, const ts_rope *a)
{
    return ts_rope_op(inner_of(d), (ts_rope){near_t(a->x), near_t(a->cos), near_t(a->sin)});
}

static ts_status attention(ts_device *d, const ts_attention *a)
{
    ts_attention l = *a;
    long B = a->q.dim[0];
    ts_plan plan[B];
    const ts_plan *plans[B];
    l.q = near_t(a->q);
    l.k = near_t(a->k);
    l.v = near_t(a->v);
    l.out = near_t(a->out);
    l.bias = near_t(a->bias);
    l.lse = near_t(a->lse);
    l.sums = near_t(a->sums);
    for (long b = 0; a->plan && b < B; b++) {
        plans[b] = a->plan[b] ? &plan[b] : NULL;
        if (a->plan[b]) {
            plan[b] = *a->plan[b];
            plan[b].bits = near(a->plan[b]->bits);
        }
    }
    if (a->plan) l.plan = plans;
    return inner_of(d)->ops->attention(inner_of(d), &l);
}

static ts_status peak(ts_device *d, ts_dtype type, double *flops)
{
    return inner_of(d)->ops->peak(inner_of(d), type, flops);
}

static ts_status block_sums(ts_device *d, const ts_block_sums *a)
{
    return ts_block_sums_op(inner_of(d), (ts_block_sums){near_t(a->q), near_t(a->k), a->scale,
                                                         near_t(a->lse), near_t(a->sums)});
}

static ts_status block_means(ts_device *d, const ts_block_means *a)
{
    return ts_block_means_op(inner_of(d),
                             (ts_block_means){near_t(a->q), near_t(a->k), near_t(a->scores)});
}

static ts_status choose(ts_device *d, const ts_topk *a)
{
    ts_topk s = *a;
    s.scores = near_t(a->scores);
    s.plan.bits = near(a->plan.bits);
    s.stat = near_t(a->stat);
    return inner_of(d)->ops->topk(inner_of(d), &s);
}

static ts_status lincomb(ts_device *d, const ts_lincomb *a)
{
    ts_lincomb l = *a;
    for (int i = 0; i < a->n; i++) l.x[i] = near_t(a->x[i]);
    l.y = near_t(a->y);
    return inner_of(d)->ops->lincomb(inner_of(d), &l);
}

static ts_status resample(ts_device *d, const ts_resample *a)
{
    ts_resample l = *a;
    l.x = near_t(a->x);
    l.y = near_t(a->y);
    return inner_of(d)->ops->resample(inner_of(d), &l);
}

static ts_status affine(ts_device *d, const ts_affine *a)
{
    ts_affine l = *a;
    l.x.p = near(a->x.p);
    l.s.p = near(a->s.p);
    l.b.p = near(a->b.p);
    l.y.p = near(a->y.p);
    return ts_affine_op(inner_of(d), l);
}

static ts_status check(ts_device *d, ts_tensor t, int tag)
{
    return inner_of(d)->ops->check(inner_of(d), near_t(t), tag);
}
static ts_status checked(ts_device *d, int *tag)
{
    return inner_of(d)->ops->checked(inner_of(d), tag);
}

static void shut(ts_device *d)
{
    ts_device_close(((far *)d)->inner);
    free(d);
}

static const ts_ops ops = {.memory = memory,
                           .facts = facts,
                           .about = about,
                           .alloc = alloc,
                           .free = release,
                           .adopt = adopt,
                           .upload = upload,
                           .upload_ahead = upload_ahead,
                           .pack_ahead = pack_ahead,
                           .wait = wait_ahead,
                           .download = download,
                           .join = join,
                           .mark = mark_time,
                           .elapsed = elapsed,
                           .pack = pack,
                           .zero = zero,
                           .copy = copy,
                           .gather = gather,
                           .linear = linear,
                           .conv = conv,
                           .norm = norm,
                           .activate = activate,
                           .rope = rope,
                           .attention = attention,
                           .block_sums = block_sums,
                           .block_means = block_means,
                           .topk = choose,
                           .peak = peak,
                           .lincomb = lincomb,
                           .resample = resample,
                           .affine = affine,
                           .check = check,
                           .checked = checked,
                           .close = shut};

ts_status ts_far_open(ts_device *inner, ts_device **out)
{
    far *f = calloc(1, sizeof *f);
    if (!f) return ts_fail(inner->err, TS_EMEMORY, "no memory for a device");
    f->dev = *inner;
    f->dev.ops = &ops;
    f->dev.name = "far";
    f->inner = inner;
    inner->wish = pass_wish;
    inner->wish_user = f;
    *out = &f->dev;
    return TS_OK;
}
