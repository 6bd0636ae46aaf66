/* A device for tests of the code above the seam: the CPU's operations behind addresses that are not
 * memory (2^60 higher, not canonical), so that code which dereferences one faults, and it can not
 * adopt host bytes. Like a device beside its caller it is lazy: operations are queued and run at
 * the next join, download or `checked`, which is where their errors come out; wrong shapes are
 * refused at once. What an operation's arguments point to is read before the call returns, and the
 * bytes of upload and pack as well; those of upload_ahead and pack_ahead are read at the `wait` for
 * them, and until then their target holds NaN. Whoever keeps such memory too short, or reads a
 * target without waiting, gets other numbers than on the CPU. */
#include "backend/shapes.h"
#include "tests/testing.h"

#include <malloc.h>
#include <stdlib.h>

#define FAR (UINT64_C(1) << 60)

/* A weight's stand-in: what the operation asks for goes to the weight that it stands for. */
typedef struct {
    ts_weight w; /* first */
    const ts_weight *of;
} stand_in;

typedef struct queued queued;
struct queued { /* one call: a copy of all that it was given */
    queued *next;
    ts_status (*run)(ts_device *inner, queued *);
    union {
        ts_copy copy;
        ts_gather gather;
        ts_linear linear;
        ts_conv conv;
        ts_norm norm;
        ts_activate activate;
        ts_rope rope;
        ts_attention attention;
        ts_block_sums block_sums;
        ts_block_means block_means;
        ts_topk topk;
        ts_pool pool;
        ts_pool_sums pool_sums;
        ts_rest_linear rest_linear;
        ts_head_errors head_errors;
        ts_choose choose;
        ts_lincomb lincomb;
        ts_randn randn;
        ts_resample resample;
        ts_affine affine;
        ts_tensor check;
        ts_host pack;
        int fill; /* zero */
    } a;
    stand_in w, b;
    int *nk;
    ts_plan *plan;
    const ts_plan **plans;
    ts_ptr at; /* upload, pack, zero */
    size_t bytes;
    void *data;         /* of this call: a copy of the host's */
    const void *theirs; /* ahead: the host's own */
    uint64_t id;        /* moment or ticket */
    long first;         /* pack: row */
    int tag;
    void *user; /* mark */
};

typedef struct {
    ts_device dev; /* first */
    ts_device *inner;
    queued *first, **last;   /* in order; *last is where the next one goes */
    queued *ahead, **behind; /* nobody has waited for these */
    uint64_t ids;
    ts_moment *moment; /* [moments] of the inner device */
    uint64_t moments, passed;
} far;

static far *far_of(ts_device *d) { return (far *)d; }

static ts_device *behind_far(ts_device *d)
{
    far *f = far_of(d);
    f->inner->counting = d->counting;
    return f->inner;
}

/* ---- addresses ---- */
/* Counting arenas and unread vectors have addresses that are no memory (2^59 and more); they and
 * what is absent go through as they are. Whatever else is below FAR is the host's own memory, which
 * no operation may be given. */
static ts_ptr near_ptr(ts_ptr p)
{
    if (p.at >= FAR) return (ts_ptr){p.at - FAR};
    ck_assert_msg(!p.at || p.at >= FAR / 2, "%#llx is an address of the host, not of this device",
                  (unsigned long long)p.at);
    return p;
}

static void bring_near(ts_tensor *t) { t->p = near_ptr(t->p); }

static const ts_weight *near_weight(const ts_weight *w, stand_in *copy)
{
    if (!w) return NULL;
    *copy = (stand_in){*w, w};
    bring_near(&copy->w.t);
    bring_near(&copy->w.scale);
    return &copy->w;
}

static void pass_wish(void *user, const ts_weight *w, ts_form f)
{
    ts_wish(user, ((const stand_in *)w)->of, f);
}

/* ---- the queue ---- */
static queued *new_call(ts_status (*run)(ts_device *, queued *))
{
    queued *c = calloc(1, sizeof *c);
    ck_assert_ptr_nonnull(c);
    c->run = run;
    return c;
}

static void *copy_bytes(const void *from, size_t bytes)
{
    void *to = malloc(bytes ? bytes : 1);
    ck_assert_ptr_nonnull(to);
    if (bytes) memcpy(to, from, bytes);
    return to;
}

static void free_call(queued *c)
{
    free(c->nk);
    free(c->plan);
    free(c->plans);
    free(c->data);
    free(c);
}

/* Runs what has been queued, up to the first that fails. It was to be computed, whether or not the
 * device counts by now. */
static ts_status run_queue(ts_device *d)
{
    far *f = far_of(d);
    ts_status st = TS_OK;
    f->inner->counting = false;
    while (f->first) {
        queued *c = f->first;
        f->first = c->next;
        if (!st) st = c->run(f->inner, c);
        free_call(c);
    }
    f->last = &f->first;
    return st;
}

/* `fits`: what the shapes of the call were found to be. A counting device runs it at once. */
static ts_status queue_call(ts_device *d, queued *c, ts_status fits)
{
    far *f = far_of(d);
    if (fits || d->counting) {
        ts_status st = fits ? fits : c->run(behind_far(d), c);
        free_call(c);
        return st;
    }
    *f->last = c;
    f->last = &c->next;
    return TS_OK;
}

/* ---- memory ---- */
static ts_status late_memory(ts_device *d, size_t *available, size_t *total)
{
    return behind_far(d)->ops->memory(behind_far(d), available, total);
}
static void late_facts(ts_device *d, ts_device_facts *f)
{
    behind_far(d)->ops->facts(behind_far(d), f);
}
static size_t late_scratch(ts_device *d) { return behind_far(d)->ops->scratch(behind_far(d)); }
static void late_about(ts_device *d, char *text, size_t size)
{
    behind_far(d)->ops->about(behind_far(d), text, size);
}

static ts_status late_alloc(ts_device *d, size_t n, ts_ptr *p)
{
    ts_device *in = behind_far(d);
    ts_status st = in->ops->alloc(in, n, p);
    if (st) return st;
    memset((void *)(uintptr_t)p->at, 0xFF, n);
    p->at += FAR;
    return TS_OK;
}

/* After what uses it. What fails there has nobody to be told: it would have been lost as well. */
static void late_release(ts_device *d, ts_ptr p)
{
    uint64_t begin = near_ptr(p).at;
    if (!p.at) return;
    size_t size = malloc_usable_size((void *)(uintptr_t)begin);
    for (queued *c = far_of(d)->ahead; c; c = c->next)
        ck_assert_msg(c->at.at < begin || c->at.at >= begin + size,
                      "memory is freed into which something is still copied: wait for it");
    (void)run_queue(d);
    behind_far(d)->ops->free(behind_far(d), near_ptr(p));
}

static ts_ptr late_adopt(ts_device *d, const void *host, size_t n)
{
    (void)d;
    (void)host;
    (void)n;
    return (ts_ptr){0};
}

static ts_status run_upload(ts_device *in, queued *c)
{
    return in->ops->upload(in, c->at, c->data, c->bytes);
}

static queued *upload_call(ts_device *d, ts_ptr p, const void *host, size_t n)
{
    ck_assert_msg(d->counting || p.at >= FAR, "upload to an address that is not this device's");
    queued *c = new_call(run_upload);
    c->at = near_ptr(p);
    c->bytes = n;
    c->theirs = host;
    return c;
}

static ts_status late_upload(ts_device *d, ts_ptr p, const void *host, size_t n)
{
    queued *c = upload_call(d, p, host, n);
    if (!d->counting) c->data = copy_bytes(host, n);
    return queue_call(d, c, TS_OK);
}

static ts_status late_download(ts_device *d, void *host, ts_ptr p, size_t n)
{
    ck_assert_msg(d->counting || p.at >= FAR, "download from an address that is not this device's");
    ts_status st = run_queue(d);
    return st ? st : behind_far(d)->ops->download(behind_far(d), host, near_ptr(p), n);
}

static ts_status run_fill(ts_device *in, queued *c)
{
    if (in->counting || !c->bytes) return TS_OK;
    memset((void *)(uintptr_t)c->at.at, c->a.fill, c->bytes);
    return TS_OK;
}

static ts_status fill_bytes(ts_device *d, ts_ptr p, size_t n, int byte)
{
    queued *c = new_call(run_fill);
    c->at = p;
    c->bytes = n;
    c->a.fill = byte;
    return queue_call(d, c, TS_OK);
}

static ts_status late_zero(ts_device *d, ts_ptr p, size_t n)
{
    return fill_bytes(d, near_ptr(p), n, 0);
}

static ts_status run_pack(ts_device *in, queued *c)
{
    return in->ops->pack(in, &c->a.pack, c->first, &c->w.w, c->at);
}

static queued *pack_call(const ts_host *from, long first, const ts_weight *to, ts_ptr at)
{
    queued *c = new_call(run_pack);
    size_t n = ts_dtype_size(from->type);
    for (int i = 0; i < from->nd; i++) n *= (size_t)from->dim[i];
    c->a.pack = *from;
    c->first = first;
    c->theirs = from->data;
    c->bytes = n;
    near_weight(to, &c->w);
    c->at = near_ptr(at);
    return c;
}

static void read_pack(queued *c)
{
    c->data = copy_bytes(c->theirs, c->bytes);
    c->a.pack.data = c->data;
}

static ts_status late_pack(ts_device *d, const ts_host *from, long first, const ts_weight *to,
                           ts_ptr at)
{
    ts_status fits = ts_shapes_pack(behind_far(d), from, first, to, at);
    if (fits) return fits;
    queued *c = pack_call(from, first, to, at);
    read_pack(c);
    return queue_call(d, c, TS_OK);
}

/* ---- beside the queue ---- */
static ts_status go_ahead(ts_device *d, queued *c, size_t bytes, ts_ticket *t)
{
    far *f = far_of(d);
    *t = (ts_ticket){0};
    if (d->counting) return queue_call(d, c, TS_OK);
    t->id = c->id = ++f->ids;
    *f->behind = c;
    f->behind = &c->next;
    return fill_bytes(d, c->at, bytes, 0xFF);
}

static ts_status late_upload_ahead(ts_device *d, ts_ptr dst, const void *host, size_t n,
                                   ts_ticket *t)
{
    return go_ahead(d, upload_call(d, dst, host, n), n, t);
}

static ts_status late_pack_ahead(ts_device *d, const ts_host *from, long first, const ts_weight *to,
                                 ts_ptr at, ts_ticket *t)
{
    ts_status fits = ts_shapes_pack(behind_far(d), from, first, to, at);
    return fits ? fits : go_ahead(d, pack_call(from, first, to, at), first ? 0 : to->want.bytes, t);
}

static ts_status late_wait_ahead(ts_device *d, ts_ticket t)
{
    far *f = far_of(d);
    while (f->ahead && f->ahead->id <= t.id) {
        queued *c = f->ahead;
        if (!(f->ahead = c->next)) f->behind = &f->ahead;
        c->next = NULL;
        if (c->run == run_pack)
            read_pack(c);
        else
            c->data = copy_bytes(c->theirs, c->bytes);
        queue_call(d, c, TS_OK);
    }
    return TS_OK;
}

/* ---- joins and moments ---- */
static ts_status late_join(ts_device *d)
{
    ts_status st = run_queue(d);
    return st ? st : behind_far(d)->ops->join(behind_far(d));
}

static ts_status run_mark(ts_device *in, queued *c)
{
    far *f = c->user;
    f->passed = c->id;
    return in->ops->mark(in, f->moment + c->id - 1);
}

static ts_status late_mark_time(ts_device *d, ts_moment *m)
{
    far *f = far_of(d);
    queued *c = new_call(run_mark);
    void *more = realloc(f->moment, (size_t)(f->moments + 1) * sizeof *f->moment);
    ck_assert_ptr_nonnull(more);
    f->moment = more;
    m->id = c->id = ++f->moments;
    m->seconds = 0;
    c->user = f;
    return queue_call(d, c, TS_OK);
}

static ts_status late_elapsed(ts_device *d, ts_moment from, ts_moment to, double *seconds)
{
    far *f = far_of(d);
    ck_assert_msg(from.id && to.id && from.id <= f->passed && to.id <= f->passed,
                  "a moment that has not passed: nothing has joined since");
    return behind_far(d)->ops->elapsed(behind_far(d), f->moment[from.id - 1], f->moment[to.id - 1],
                                       seconds);
}

static ts_status run_check(ts_device *in, queued *c)
{
    return in->ops->check(in, c->a.check, c->tag);
}

static ts_status late_check(ts_device *d, ts_tensor t, int tag)
{
    queued *c = new_call(run_check);
    c->a.check = t;
    c->tag = tag;
    bring_near(&c->a.check);
    return queue_call(d, c, ts_shapes_check(behind_far(d), c->a.check, tag));
}

static ts_status late_checked(ts_device *d, int *tag)
{
    ts_status st = run_queue(d);
    *tag = 0;
    return st ? st : behind_far(d)->ops->checked(behind_far(d), tag);
}

/* ---- operations ---- */
static void move_copy(queued *c)
{
    c->a.copy.src = near_ptr(c->a.copy.src);
    c->a.copy.dst = near_ptr(c->a.copy.dst);
}

static void move_gather(queued *c)
{
    bring_near(&c->a.gather.x);
    bring_near(&c->a.gather.ids);
    bring_near(&c->a.gather.y);
}

static void move_linear(queued *c)
{
    ts_linear *a = &c->a.linear;
    ts_tensor *t[] = {&a->x, &a->gate, &a->sel, &a->resid, &a->y};
    for (int i = 0; i < 5; i++) bring_near(t[i]);
    a->w = near_weight(a->w, &c->w);
    a->b = near_weight(a->b, &c->b);
}

static void move_conv(queued *c)
{
    ts_conv *a = &c->a.conv;
    bring_near(&a->x);
    bring_near(&a->resid);
    bring_near(&a->y);
    a->w = near_weight(a->w, &c->w);
    a->b = near_weight(a->b, &c->b);
}

static void move_norm(queued *c)
{
    ts_norm *a = &c->a.norm;
    ts_tensor *t[] = {&a->x, &a->scale, &a->shift, &a->sel, &a->y};
    for (int i = 0; i < 5; i++) bring_near(t[i]);
    a->w = near_weight(a->w, &c->w);
    a->b = near_weight(a->b, &c->b);
}

static void move_activate(queued *c)
{
    bring_near(&c->a.activate.x);
    bring_near(&c->a.activate.mul);
    bring_near(&c->a.activate.y);
}

static void move_rope(queued *c)
{
    bring_near(&c->a.rope.x);
    bring_near(&c->a.rope.cos);
    bring_near(&c->a.rope.sin);
}

static void move_attention(queued *c)
{
    ts_attention *a = &c->a.attention;
    size_t B = (size_t)(a->q.dim[0] > 0 ? a->q.dim[0] : 0);
    ts_tensor *t[] = {&a->q,   &a->k,    &a->v,        &a->out,      &a->bias,
                      &a->lse, &a->sums, &a->pooled_k, &a->pooled_v, &a->form};
    for (int i = 0; i < 10; i++) bring_near(t[i]);
    if (a->nk) a->nk = c->nk = copy_bytes(a->nk, B * sizeof *c->nk);
    if (!a->plan) return;
    c->plans = copy_bytes(a->plan, B * sizeof *c->plans);
    c->plan = calloc(B + 1, sizeof *c->plan);
    ck_assert_ptr_nonnull(c->plan);
    for (size_t b = 0; b < B; b++) {
        if (!c->plans[b]) continue;
        c->plan[b] = *c->plans[b];
        c->plan[b].bits = near_ptr(c->plan[b].bits);
        c->plans[b] = c->plan + b;
    }
    a->plan = c->plans;
}

static void move_block_sums(queued *c)
{
    ts_block_sums *a = &c->a.block_sums;
    ts_tensor *t[] = {&a->q, &a->k, &a->lse, &a->sums};
    for (int i = 0; i < 4; i++) bring_near(t[i]);
}

static void move_block_means(queued *c)
{
    bring_near(&c->a.block_means.q);
    bring_near(&c->a.block_means.k);
    bring_near(&c->a.block_means.scores);
}

static void move_pool(queued *c)
{
    bring_near(&c->a.pool.x);
    bring_near(&c->a.pool.y);
}

static void move_pool_sums(queued *c)
{
    ts_pool_sums *a = &c->a.pool_sums;
    ts_tensor *t[] = {&a->q, &a->k, &a->lse, &a->sums};
    for (int i = 0; i < 4; i++) bring_near(t[i]);
}

static void move_rest_linear(queued *c)
{
    ts_rest_linear *a = &c->a.rest_linear;
    ts_tensor *t[] = {&a->q,        &a->k,    &a->v,   &a->out, &a->pooled_k,
                      &a->pooled_v, &a->sums, &a->own, &a->lse, &a->form};
    for (int i = 0; i < 10; i++) bring_near(t[i]);
    a->plan.bits = near_ptr(a->plan.bits);
}

static void move_head_errors(queued *c)
{
    bring_near(&c->a.head_errors.x);
    bring_near(&c->a.head_errors.of);
    bring_near(&c->a.head_errors.error);
}

static void move_choose(queued *c)
{
    bring_near(&c->a.choose.error);
    bring_near(&c->a.choose.choice);
    bring_near(&c->a.choose.stat);
}

static void move_topk(queued *c)
{
    bring_near(&c->a.topk.who);
    bring_near(&c->a.topk.weights);
    bring_near(&c->a.topk.scores);
    bring_near(&c->a.topk.stat);
    c->a.topk.plan.bits = near_ptr(c->a.topk.plan.bits);
}

static void move_lincomb(queued *c)
{
    for (int i = 0; i < c->a.lincomb.n && i < 8; i++) bring_near(c->a.lincomb.x + i);
    bring_near(&c->a.lincomb.y);
}

static void move_randn(queued *c) { bring_near(&c->a.randn.y); }

static void move_resample(queued *c)
{
    bring_near(&c->a.resample.x);
    bring_near(&c->a.resample.y);
}

static void move_affine(queued *c)
{
    c->a.affine.x.p = near_ptr(c->a.affine.x.p);
    c->a.affine.s.p = near_ptr(c->a.affine.s.p);
    c->a.affine.b.p = near_ptr(c->a.affine.b.p);
    c->a.affine.y.p = near_ptr(c->a.affine.y.p);
}

#define OPERATION(name)                                                       \
    static ts_status run_##name(ts_device *in, queued *c)                     \
    {                                                                         \
        return in->ops->name(in, &c->a.name);                                 \
    }                                                                         \
    static ts_status late_##name(ts_device *d, const ts_##name *a)            \
    {                                                                         \
        queued *c = new_call(run_##name);                                     \
        c->a.name = *a;                                                       \
        move_##name(c);                                                       \
        return queue_call(d, c, ts_shapes_##name(behind_far(d), &c->a.name)); \
    }
OPERATION(copy)
OPERATION(gather)
OPERATION(linear)
OPERATION(conv)
OPERATION(norm)
OPERATION(activate)
OPERATION(rope)
OPERATION(attention)
OPERATION(block_sums)
OPERATION(block_means)
OPERATION(topk)
OPERATION(pool)
OPERATION(pool_sums)
OPERATION(rest_linear)
OPERATION(head_errors)
OPERATION(choose)
OPERATION(lincomb)
OPERATION(randn)
OPERATION(resample)
OPERATION(affine)

static ts_status late_peak(ts_device *d, ts_dtype type, double *flops)
{
    return behind_far(d)->ops->peak(behind_far(d), type, flops);
}

/* What nobody has joined is lost. */
static void late_close(ts_device *d)
{
    far *f = far_of(d);
    for (queued *c; (c = f->first); free_call(c)) {
        f->first = c->next;
    }
    for (queued *c; (c = f->ahead); free_call(c)) f->ahead = c->next;
    ts_device_close(f->inner);
    free(f->moment);
    free(f);
}

static const ts_ops ops = {.memory = late_memory,
                           .facts = late_facts,
                           .scratch = late_scratch,
                           .about = late_about,
                           .alloc = late_alloc,
                           .free = late_release,
                           .adopt = late_adopt,
                           .upload = late_upload,
                           .upload_ahead = late_upload_ahead,
                           .pack_ahead = late_pack_ahead,
                           .wait = late_wait_ahead,
                           .download = late_download,
                           .join = late_join,
                           .mark = late_mark_time,
                           .elapsed = late_elapsed,
                           .pack = late_pack,
                           .zero = late_zero,
                           .copy = late_copy,
                           .gather = late_gather,
                           .linear = late_linear,
                           .conv = late_conv,
                           .norm = late_norm,
                           .activate = late_activate,
                           .rope = late_rope,
                           .attention = late_attention,
                           .block_sums = late_block_sums,
                           .block_means = late_block_means,
                           .topk = late_topk,
                           .pool = late_pool,
                           .pool_sums = late_pool_sums,
                           .rest_linear = late_rest_linear,
                           .head_errors = late_head_errors,
                           .choose = late_choose,
                           .peak = late_peak,
                           .lincomb = late_lincomb,
                           .randn = late_randn,
                           .resample = late_resample,
                           .affine = late_affine,
                           .check = late_check,
                           .checked = late_checked,
                           .close = late_close};

ts_status ts_far_open(ts_device *inner, ts_device **out)
{
    far *f = calloc(1, sizeof *f);
    if (!f) return ts_fail(inner->err, TS_EMEMORY, "no memory for a device");
    f->dev = *inner;
    f->dev.ops = &ops;
    f->dev.name = "far";
    f->dev.goes_ahead = true;
    f->inner = inner;
    f->last = &f->first;
    f->behind = &f->ahead;
    inner->wish = pass_wish;
    inner->wish_user = f;
    *out = &f->dev;
    return TS_OK;
}
