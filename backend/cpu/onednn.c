/* oneDNN's matmul and convolution primitives behind ts_linear and ts_conv.
 *
 * A primitive is made once for a shape, its types, the layout of its weights and what is fused
 * behind it, in the counting run; calling it again only sets addresses. The PRIMITIVES last used
 * are kept, found by a hash of all that (some 50 kB each: texts of many lengths have many). The
 * first use of a weight lets oneDNN choose the layout, which becomes a number that indexes
 * `layout`; later uses of the weight take it as it is. Where oneDNN has only its reference
 * code for that (a convolution whose chunk of frames grew), the later use chooses anew, and the
 * weight is packed for it; the earlier one, run once a clip, has the weights moved into scratch
 * first. y = resid + gate * act(x W' + b) is fused as eltwise, binary and sum, oneDNN's order of
 * operations being ours; what does not fit that (a gate chosen per row, an f32 x with a bf16 y) is
 * computed as act(x W' + b) into f32 scratch and combined by a pass of our own. */
#include "backend/cpu/onednn.h"

#include "backend/cpu/dnnl_compat.h"
#include "backend/cpu/ref.h"
#include "backend/hash.h"
#include "backend/quiet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINEAR, CONV, PRODUCT };
typedef struct {                                    /* compared byte by byte: zero before filling */
    int kind, xt, yt, act, bias, gate, sum, layout; /* layout -1: oneDNN may choose */
    long x[5], w[5], y[5], ldx, ldy;
    int stride[3], pad[6];
} key;

typedef struct {
    key k;
    dnnl_primitive_t p;
    dnnl_memory_t x, w, b, y, gate, scratch;
    /* weights from the layout of k to the one that is fast here; NULL: they are in it */
    dnnl_primitive_t move;
    dnnl_memory_t from;
    /* moved_bytes: of the scratch, before oneDNN's own */
    size_t scratch_bytes, weight_bytes, moved_bytes;
    int layout;    /* of the weights as this primitive takes them; 0: row-major as stored */
    uint64_t used; /* when last, by uses of any */
    uint32_t bucket;
    int next; /* in its bucket: index + 1; 0: the last */
} entry;
enum { PRIMITIVES = 512, BUCKETS = 1024 };

struct ts_dnnl {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    entry e[PRIMITIVES];
    int n, bucket[BUCKETS]; /* of each the first: index + 1 */
    uint64_t uses;
    /* number i + 1; k: of the primitive that chose it, which tells the shape */
    struct {
        desc d;
        key k;
    } * layout;
    int layouts;
    bool no_memory; /* that is why an entry was not built */
};

static ts_status refuse_primitive(ts_cpu *c, const char *what, const key *k)
{
    return ts_fail(c->dev.err, TS_EDEVICE,
                   "oneDNN can not make a %s of [%ld, %ld, %ld, %ld] %s and [%ld, %ld] weights",
                   what, k->x[0], k->x[1], k->x[2], k->x[3], ts_dtype_name((ts_dtype)k->xt),
                   k->w[0], k->w[1]);
}

static dnnl_data_type_t type_of(int t) { return t == TS_BF16 ? dnnl_bf16 : dnnl_f32; }

ts_status ts_onednn_open(ts_cpu *c)
{
    c->dnnl = calloc(1, sizeof *c->dnnl);
    if (!c->dnnl) return ts_fail(c->dev.err, TS_EMEMORY, "no memory for a device");
    /* only counts before oneDNN's first use in the process */
    if (c->level == TS_LEVEL_AVX2) dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx2);
    if (dnnl_engine_create(&c->dnnl->engine, dnnl_cpu, 0) != dnnl_success ||
        dnnl_stream_create(&c->dnnl->stream, c->dnnl->engine, dnnl_stream_default_flags) !=
            dnnl_success)
        return ts_fail(c->dev.err, TS_EDEVICE, "oneDNN does not start on this machine");
    c->dev.has_bf16 = c->dev.has_bf16 &&
                      (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core_bf16) ==
                          dnnl_cpu_isa_avx512_core_bf16;
    return TS_OK;
}

static void drop_memory(dnnl_memory_t m)
{
    if (m) dnnl_memory_destroy(m);
}

static void drop_entry(entry *e)
{
    drop_memory(e->x);
    drop_memory(e->w);
    drop_memory(e->b);
    drop_memory(e->y);
    drop_memory(e->gate);
    drop_memory(e->scratch);
    drop_memory(e->from);
    if (e->move) dnnl_primitive_destroy(e->move);
    if (e->p) dnnl_primitive_destroy(e->p);
}

void ts_onednn_close(ts_cpu *c)
{
    struct ts_dnnl *d = c->dnnl;
    if (!d) return;
    for (int i = 0; i < d->n; i++) drop_entry(d->e + i);
    for (int i = 0; i < d->layouts; i++) drop_desc(&d->layout[i].d);
    if (d->stream) dnnl_stream_destroy(d->stream);
    if (d->engine) dnnl_engine_destroy(d->engine);
    free(d->layout);
    free(d);
}

void ts_onednn_version(char *out, size_t size)
{
    const dnnl_version_t *v = dnnl_version();
    snprintf(out, size, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
}

/* ---- making primitives ---- */
typedef struct {
    desc x, w, plain, b, y, gate;
} descs;

static void drop_all(descs *s)
{
    drop_desc(&s->x);
    drop_desc(&s->w);
    drop_desc(&s->plain);
    drop_desc(&s->b);
    drop_desc(&s->y);
    drop_desc(&s->gate);
}

/* One kernel in time: frames are the batch of a 2-D convolution. */
static bool is_one_frame(const key *k)
{
    return k->w[2] == 1 && k->stride[0] == 1 && k->pad[0] == 0 && k->pad[1] == 0;
}

/* `rows` outputs of a weight as they are stored; returns the number of dimensions, which of them
 * counts outputs in `axis`. */
static int shape_of(const key *k, long rows, dnnl_dims_t dim, dnnl_dims_t stride, int *axis)
{
    const long *w = k->w;
    *axis = k->kind == LINEAR;
    if (k->kind == LINEAR) {
        dim[0] = w[1];
        dim[1] = rows;
        stride[0] = 1;
        stride[1] = w[1];
        return 2;
    }
    int n = 0;
    long step = w[1] * w[2] * w[3] * w[4];
    for (int i = 0; i < 5; i++) {
        if (i) step /= w[i];
        if (i == 2 && is_one_frame(k)) continue;
        dim[n] = i ? w[i] : rows;
        stride[n++] = step;
    }
    return n;
}

static bool plain_desc(desc *d, const key *k, long rows)
{
    dnnl_dims_t dim, stride;
    int axis, n = shape_of(k, rows, dim, stride, &axis);
    return make_desc(d, n, dim, type_of(k->xt), stride);
}

static bool weight_descs(const key *k, descs *s)
{
    dnnl_dims_t dim, stride;
    int axis, n = shape_of(k, k->w[0], dim, stride, &axis);
    return plain_desc(&s->plain, k, k->w[0]) &&
           (k->layout >= 0 || make_desc(&s->w, n, dim, type_of(k->xt), NULL));
}

/* The number of a layout; 0 when it is the plain one, -1: no memory. */
static int layout_number(struct ts_dnnl *d, desc_ref w, const desc *plain, const key *k)
{
    if (dnnl_memory_desc_equal(w, refer_to_desc(plain))) return 0;
    for (int i = 0; i < d->layouts; i++)
        if (dnnl_memory_desc_equal(w, refer_to_desc(&d->layout[i].d)) &&
            d->layout[i].k.kind == k->kind)
            return i + 1;
    void *more = realloc(d->layout, (size_t)(d->layouts + 1) * sizeof *d->layout);
    d->no_memory = !more;
    if (!more) return -1;
    d->layout = more;
    memset(d->layout + d->layouts, 0, sizeof *d->layout);
    d->layout[d->layouts].k = *k;
    if (!keep_desc(&d->layout[d->layouts].d, w)) return -1;
    return ++d->layouts;
}

static bool linear_descs(const key *k, descs *s)
{
    long M = k->x[0], K = k->x[1], O = k->w[0];
    return weight_descs(k, s) &&
           make_desc(&s->x, 2, (dnnl_dims_t){M, K}, type_of(k->xt), (dnnl_dims_t){k->ldx, 1}) &&
           make_desc(&s->b, 2, (dnnl_dims_t){1, O}, dnnl_f32, (dnnl_dims_t){O, 1}) &&
           make_desc(&s->gate, 2, (dnnl_dims_t){1, O}, dnnl_f32, (dnnl_dims_t){O, 1}) &&
           make_desc(&s->y, 2, (dnnl_dims_t){M, O}, type_of(k->yt), (dnnl_dims_t){k->ldy, 1});
}

static bool conv_descs(const key *k, descs *s)
{
    long F = k->x[0], H = k->x[1], W = k->x[2], C = k->x[3], O = k->w[0], f = k->y[0], h = k->y[1],
         w = k->y[2];
    dnnl_data_type_t xt = type_of(k->xt), yt = type_of(k->yt);
    if (!weight_descs(k, s) || !make_desc(&s->b, 1, (dnnl_dims_t){O}, dnnl_f32, (dnnl_dims_t){1}))
        return false;
    if (is_one_frame(k))
        return make_desc(&s->x, 4, (dnnl_dims_t){F, C, H, W}, xt,
                         (dnnl_dims_t){H * W * C, 1, W * C, C}) &&
               make_desc(&s->y, 4, (dnnl_dims_t){f, O, h, w}, yt,
                         (dnnl_dims_t){h * w * O, 1, w * O, O});
    return make_desc(&s->x, 5, (dnnl_dims_t){1, C, F, H, W}, xt,
                     (dnnl_dims_t){F * H * W * C, 1, H * W * C, W * C, C}) &&
           make_desc(&s->y, 5, (dnnl_dims_t){1, O, f, h, w}, yt,
                     (dnnl_dims_t){f * h * w * O, 1, h * w * O, w * O, O});
}

/* n products of packed matrices. */
static bool product_descs(const key *k, descs *s)
{
    long n = k->x[0], M = k->x[1], K = k->x[2], N = k->w[2];
    return make_desc(&s->x, 3, (dnnl_dims_t){n, M, K}, type_of(k->xt),
                     (dnnl_dims_t){M * K, K, 1}) &&
           make_desc(&s->plain, 3, (dnnl_dims_t){n, K, N}, type_of(k->xt),
                     (dnnl_dims_t){K * N, N, 1}) &&
           make_desc(&s->y, 3, (dnnl_dims_t){n, M, N}, type_of(k->yt), (dnnl_dims_t){M * N, N, 1});
}

static bool fuse_operations(const key *k, const descs *s, dnnl_primitive_attr_t attr)
{
    static const struct {
        dnnl_alg_kind_t kind;
        float alpha;
    } eltwise[] = {[TS_ACT_SILU] = {dnnl_eltwise_swish, 1},
                   [TS_ACT_GELU] = {dnnl_eltwise_gelu_erf, 0},
                   [TS_ACT_GELU_TANH] = {dnnl_eltwise_gelu_tanh, 0},
                   [TS_ACT_QUICK_GELU] = {dnnl_eltwise_swish, 1.702f},
                   [TS_ACT_RELU] = {dnnl_eltwise_relu, 0}};
    dnnl_post_ops_t p;
    if (dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user) != dnnl_success)
        return false;
    if (dnnl_post_ops_create(&p) != dnnl_success) return false;
    bool ok = !k->act || append_eltwise(p, eltwise[k->act].kind, eltwise[k->act].alpha);
    if (k->gate)
        ok = ok && dnnl_post_ops_append_binary(p, dnnl_binary_mul, refer_to_desc(&s->gate)) ==
                       dnnl_success;
    if (k->sum) ok = ok && append_sum(p);
    ok = ok && dnnl_primitive_attr_set_post_ops(attr, p) == dnnl_success;
    dnnl_post_ops_destroy(p);
    return ok;
}

static bool describe_primitive(struct ts_dnnl *d, const key *k, const descs *s,
                               dnnl_primitive_attr_t attr, dnnl_primitive_desc_t *pd)
{
    desc_ref w = k->layout < 0    ? refer_to_desc(&s->w)
                 : k->layout == 0 ? refer_to_desc(&s->plain)
                                  : refer_to_desc(&d->layout[k->layout - 1].d),
             b = k->bias ? refer_to_desc(&s->b) : NULL;
    if (k->kind != CONV)
        return describe_matmul(pd, d->engine, refer_to_desc(&s->x), w, b, refer_to_desc(&s->y),
                               attr);
    bool two = is_one_frame(k);
    dnnl_dims_t stride, before, after;
    for (int i = two, n = 0; i < 3; i++, n++) {
        stride[n] = k->stride[i];
        before[n] = k->pad[2 * i];
        after[n] = k->pad[2 * i + 1];
    }
    return describe_conv(pd, d->engine, refer_to_desc(&s->x), w, b, refer_to_desc(&s->y), stride,
                         before, after, attr);
}

/* oneDNN's reference code is hundreds of times slower than its generated code. */
static bool is_slow(dnnl_primitive_desc_t pd)
{
    const char *name = "";
    return dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, (void *)&name) ==
               dnnl_success &&
           !strncmp(name, "ref", 3);
}

static bool move_weights(struct ts_dnnl *d, entry *e, const descs *s, desc_ref to)
{
    desc_ref from = e->k.layout ? refer_to_desc(&d->layout[e->k.layout - 1].d)
                                : refer_to_desc(&s->plain);
    dnnl_primitive_desc_t pd = NULL;
    bool ok = dnnl_reorder_primitive_desc_create(&pd, from, d->engine, to, d->engine, NULL) ==
                  dnnl_success &&
              dnnl_primitive_create(&e->move, pd) == dnnl_success &&
              dnnl_memory_create(&e->from, from, d->engine, DNNL_MEMORY_NONE) == dnnl_success;
    if (pd) dnnl_primitive_desc_destroy(pd);
    e->moved_bytes = (e->weight_bytes + 63) & ~(size_t)63;
    e->scratch_bytes += e->moved_bytes;
    return ok;
}

static bool make_memories(struct ts_dnnl *d, entry *e, const descs *s, dnnl_primitive_desc_t pd)
{
    desc_ref w = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0),
             t = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    e->layout = layout_number(d, w, &s->plain, &e->k);
    e->weight_bytes = dnnl_memory_desc_get_size(w);
    e->scratch_bytes = dnnl_memory_desc_get_size(t);
    bool ok = e->layout >= 0 &&
              dnnl_memory_create(&e->x, refer_to_desc(&s->x), d->engine, DNNL_MEMORY_NONE) ==
                  dnnl_success &&
              dnnl_memory_create(&e->w, w, d->engine, DNNL_MEMORY_NONE) == dnnl_success &&
              dnnl_memory_create(&e->y, refer_to_desc(&s->y), d->engine, DNNL_MEMORY_NONE) ==
                  dnnl_success &&
              dnnl_memory_create(&e->scratch, t, d->engine, DNNL_MEMORY_NONE) == dnnl_success;
    if (e->k.bias)
        ok = ok && dnnl_memory_create(&e->b, refer_to_desc(&s->b), d->engine, DNNL_MEMORY_NONE) ==
                       dnnl_success;
    if (e->k.gate)
        ok = ok && dnnl_memory_create(&e->gate, refer_to_desc(&s->gate), d->engine,
                                      DNNL_MEMORY_NONE) == dnnl_success;
    if (e->k.layout >= 0 && e->layout != e->k.layout) ok = ok && move_weights(d, e, s, w);
    return ok;
}

static bool describe_as(struct ts_dnnl *d, const key *k, descs *s, dnnl_primitive_attr_t attr,
                        dnnl_primitive_desc_t *pd)
{
    static bool (*const describe[])(const key *, descs *) = {linear_descs, conv_descs,
                                                             product_descs};
    return describe[k->kind](k, s) && fuse_operations(k, s, attr) &&
           describe_primitive(d, k, s, attr, pd);
}

/* With the weights' layout free, where the given one is slow; the given one again when that is no
 * better. */
static void describe_faster(struct ts_dnnl *d, const key *k, descs *s, dnnl_primitive_attr_t attr,
                            dnnl_primitive_desc_t *pd)
{
    key loose = *k;
    descs t = {0};
    dnnl_primitive_desc_t other = NULL;
    loose.layout = -1;
    if (describe_as(d, &loose, &t, attr, &other) && !is_slow(other)) {
        dnnl_primitive_desc_destroy(*pd);
        drop_all(s);
        *pd = other;
        *s = t;
        return;
    }
    if (other) dnnl_primitive_desc_destroy(other);
    drop_all(&t);
}

static bool build_entry(struct ts_dnnl *d, entry *e)
{
    descs s = {0};
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t pd = NULL;
    bool ok = dnnl_primitive_attr_create(&attr) == dnnl_success &&
              describe_as(d, &e->k, &s, attr, &pd);
    if (ok && e->k.kind != PRODUCT && e->k.layout >= 0 && is_slow(pd))
        describe_faster(d, &e->k, &s, attr, &pd);
    ok = ok && make_memories(d, e, &s, pd) && dnnl_primitive_create(&e->p, pd) == dnnl_success;
    if (pd) dnnl_primitive_desc_destroy(pd);
    if (attr) dnnl_primitive_attr_destroy(attr);
    drop_all(&s);
    return ok;
}

/* A place for one more: unused, or of the primitive that has not been used for longest. */
static entry *free_entry(struct ts_dnnl *d)
{
    if (d->n < PRIMITIVES) return d->e + d->n++;
    entry *oldest = d->e;
    for (int i = 1; i < d->n; i++)
        if (d->e[i].used < oldest->used) oldest = d->e + i;
    int *link = d->bucket + oldest->bucket;
    while (d->e + *link - 1 != oldest) link = &d->e[*link - 1].next;
    *link = oldest->next;
    drop_entry(oldest);
    return oldest;
}

/* Finds or makes the primitive of a key; it is there until the next call. */
static ts_status find_primitive(ts_cpu *c, const key *k, entry **out)
{
    struct ts_dnnl *d = c->dnnl;
    entry made = {.bucket = (uint32_t)(ts_hash(TS_HASH, k, sizeof *k) % BUCKETS)}, *e;
    memcpy(&made.k, k, sizeof *k); /* padding included, which is compared */
    for (int i = d->bucket[made.bucket]; i; i = d->e[i - 1].next)
        /* NOLINTNEXTLINE(bugprone-suspicious-memory-comparison,cert-*): zeroed before filled */
        if (!memcmp(&d->e[i - 1].k, k, sizeof *k)) {
            *out = d->e + i - 1;
            (*out)->used = ++d->uses;
            return TS_OK;
        }
    if (!build_entry(d, &made)) {
        drop_entry(&made);
        if (d->no_memory)
            return ts_fail(c->dev.err, TS_EMEMORY, "no memory for what oneDNN is asked for");
        return refuse_primitive(c, k->kind == CONV ? "convolution" : "matmul", k);
    }
    e = free_entry(d);
    made.used = ++d->uses;
    made.next = d->bucket[made.bucket];
    *e = made;
    d->bucket[made.bucket] = (int)(e - d->e) + 1;
    *out = e;
    return TS_OK;
}

int ts_onednn_primitives(const ts_cpu *c) { return c->dnnl->n; }

typedef struct {
    ts_ptr x, b, y, gate;
} operands;

static bool run_primitive(const struct ts_dnnl *d, dnnl_primitive_t p, int n,
                          const dnnl_exec_arg_t *a)
{
    sigset_t was = ts_quiet_begin();
    bool ok = dnnl_primitive_execute(p, d->stream, n, a) == dnnl_success &&
              dnnl_stream_wait(d->stream) == dnnl_success;
    ts_quiet_end(was);
    return ok;
}

static ts_status execute_primitive(ts_cpu *c, const entry *e, const ts_weight *w, operands o,
                                   void *scratch)
{
    struct ts_dnnl *d = c->dnnl;
    dnnl_exec_arg_t a[6] = {{DNNL_ARG_SRC, e->x},
                            {DNNL_ARG_WEIGHTS, e->w},
                            {DNNL_ARG_DST, e->y},
                            {DNNL_ARG_SCRATCHPAD, e->scratch}};
    int n = 4;
    dnnl_memory_set_data_handle(e->x, ts_host_of(o.x));
    dnnl_memory_set_data_handle(e->w, e->move ? scratch : ts_host_of(w->t.p));
    dnnl_memory_set_data_handle(e->y, ts_host_of(o.y));
    dnnl_memory_set_data_handle(e->scratch, (char *)scratch + e->moved_bytes);
    if (e->k.bias) {
        dnnl_memory_set_data_handle(e->b, ts_host_of(o.b));
        a[n++] = (dnnl_exec_arg_t){DNNL_ARG_BIAS, e->b};
    }
    if (e->k.gate) {
        dnnl_memory_set_data_handle(e->gate, ts_host_of(o.gate));
        a[n++] = (dnnl_exec_arg_t){
            DNNL_ARG_ATTR_MULTIPLE_POST_OP(e->k.act ? 1 : 0) | DNNL_ARG_SRC_1, e->gate};
    }
    if (e->move) {
        dnnl_exec_arg_t m[2] = {{DNNL_ARG_FROM, e->from}, {DNNL_ARG_TO, e->w}};
        dnnl_memory_set_data_handle(e->from, ts_host_of(w->t.p));
        if (!run_primitive(d, e->move, 2, m))
            return ts_fail(c->dev.err, TS_EDEVICE, "oneDNN could not move the weights of a layer");
    }
    if (!run_primitive(d, e->p, n, a))
        return ts_fail(c->dev.err, TS_EDEVICE, "oneDNN could not run a %s",
                       e->k.kind == CONV ? "convolution" : "matmul");
    return TS_OK;
}

/* The layout that a key asks for: of a weight in memory what it has, of one that another operation
 * has counted what that chose, else free. */
static int layout_for(const ts_cpu *c, const ts_weight *w, ts_dtype xt)
{
    if (!c->dev.counting) return w->layout;
    return w->want.bytes && w->want.type == xt ? w->want.layout : -1;
}

/* Outputs that pack converts at a time: about 8 MB. */
static long slice_of(const ts_weight *w, ts_dtype type)
{
    enum { BYTES = 8 << 20, BLOCK = TS_PACK_ROWS };
    long O = w->t.dim[0], row = ts_count(w->t) / O * (long)ts_dtype_size(type),
         n = BYTES / row / BLOCK * BLOCK;
    return n < BLOCK ? (O < BLOCK ? O : BLOCK) : n < O ? n : O;
}

static size_t slice_bytes(const ts_weight *w, ts_dtype type)
{
    return (size_t)(slice_of(w, type) * (ts_count(w->t) / w->t.dim[0])) * ts_dtype_size(type);
}

static ts_status wish_layout(ts_cpu *c, const ts_weight *w, const entry *e, ts_dtype xt)
{
    void *none;
    if (w->want.bytes && w->want.type != xt)
        return ts_fail(
            c->dev.err, TS_EDEVICE,
            "a weight [%ld, %ld] is used in %s and in %s: it can be resident in one type only",
            w->t.dim[0], ts_count(w->t) / w->t.dim[0], ts_dtype_name(w->want.type),
            ts_dtype_name(xt));
    ts_wish(&c->dev, w, (ts_form){xt, e->layout, e->weight_bytes});
    return e->layout ? ts_cpu_scratch(c, slice_bytes(w, xt), &none) : TS_OK;
}

static void copy_tensor_rows(ts_tensor from, ts_tensor to)
{
    long rows = ts_rows(from), n = from.dim[from.nd - 1];
    size_t size = ts_dtype_size(from.type);
    const char *s = ts_host_of(from.p);
    char *d = ts_host_of(to.p);
    if (s == d && from.ld == to.ld) return;
#pragma omp parallel for schedule(static)
    for (long m = 0; m < rows; m++)
        memmove(d + (size_t)(m * to.ld) * size, s + (size_t)(m * from.ld) * size, (size_t)n * size);
}

/* y = resid + gate * t, row by row. t f32 [M, O] */
static void combine_output(const ts_linear *a, const float *t)
{
    long M = ts_rows(a->y), O = a->y.dim[a->y.nd - 1];
#pragma omp parallel for schedule(static)
    for (long m = 0; m < M; m++) {
        long row = ts_there(a->sel) ? ((const uint8_t *)ts_host_of(a->sel.p))[m] : 0;
        const float *g = ts_there(a->gate) ? (const float *)ts_host_of(a->gate.p) + row * a->gate.ld
                                           : NULL;
        for (long o = 0; o < O; o++) {
            float v = t[m * O + o] * (g ? g[o] : 1);
            if (ts_there(a->resid))
                v += ts_load(ts_host_of(a->resid.p), a->resid.type, m * a->resid.ld + o);
            ts_store(ts_host_of(a->y.p), a->y.type, m * a->y.ld + o, v);
        }
    }
}

/* A product that is gated before the sum is one primitive with AVX-512 only; below that oneDNN has
 * its reference code for it. */
static bool fuses_gates(void)
{
    return (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core) == dnnl_cpu_isa_avx512_core;
}

static bool is_apart(const ts_linear *a)
{
    return (ts_there(a->gate) && (ts_there(a->sel) || !fuses_gates())) ||
           (a->x.type == TS_F32 && a->y.type == TS_BF16);
}

static ts_status linear_at_once(ts_cpu *c, const ts_linear *a)
{
    long M = ts_rows(a->x), K = a->x.dim[a->x.nd - 1], O = a->w->t.dim[0];
    bool apart = is_apart(a);
    key k;
    entry *e;
    void *scratch;
    memset(&k, 0, sizeof k);
    k.kind = LINEAR;
    k.xt = a->x.type;
    k.yt = apart ? TS_F32 : a->y.type;
    k.act = a->act;
    k.bias = a->b != NULL;
    k.gate = !apart && ts_there(a->gate);
    k.sum = !apart && ts_there(a->resid);
    k.layout = layout_for(c, a->w, a->x.type);
    k.x[0] = M;
    k.x[1] = K;
    k.w[0] = O;
    k.w[1] = K;
    k.ldx = M > 1 ? a->x.ld : K;
    k.ldy = apart || M == 1 ? O : a->y.ld;
    ts_status st = find_primitive(c, &k, &e);
    if (st) return st;
    size_t aside = apart ? ((size_t)(M * O) * sizeof(float) + 63) & ~(size_t)63 : 0;
    st = ts_cpu_scratch(c, aside + e->scratch_bytes, &scratch);
    if (st) return st;
    if (c->dev.counting) return wish_layout(c, a->w, e, a->x.type);
    if (k.sum) copy_tensor_rows(a->resid, a->y);
    ts_ptr y = apart ? (ts_ptr){(uintptr_t)scratch} : a->y.p;
    st = execute_primitive(c, e, a->w,
                           (operands){a->x.p, a->b ? a->b->t.p : (ts_ptr){0}, y, a->gate.p},
                           (char *)scratch + aside);
    if (!st && apart) combine_output(a, scratch);
    return st;
}

static ts_status find_product(ts_cpu *c, const ts_product *p, entry **e)
{
    key k;
    memset(&k, 0, sizeof k);
    k.kind = PRODUCT;
    k.xt = p->in;
    k.yt = p->out;
    k.x[0] = k.w[0] = p->n;
    k.x[1] = p->M;
    k.x[2] = k.w[1] = p->K;
    k.w[2] = p->N;
    return find_primitive(c, &k, e);
}

ts_status ts_onednn_product_scratch(ts_cpu *c, const ts_product *p, size_t *bytes)
{
    entry *e;
    ts_status st = find_product(c, p, &e);
    if (!st && e->scratch_bytes > *bytes) *bytes = e->scratch_bytes;
    return st;
}

ts_status ts_onednn_product(ts_cpu *c, const ts_product *p, const void *x, const void *w, void *y,
                            void *scratch)
{
    entry *e;
    ts_weight weight = {.t = {.p = {(uintptr_t)w}}};
    ts_status st = find_product(c, p, &e);
    return st ? st
              : execute_primitive(c, e, &weight,
                                  (operands){.x = {(uintptr_t)x}, .y = {(uintptr_t)y}}, scratch);
}

static ts_tensor slice_rows(ts_tensor t, long first, long rows)
{
    if (!ts_there(t)) return t;
    long width = t.dim[t.nd - 1], ld = t.ld;
    t = ts_tensor_of(ts_at(t.p, (size_t)(first * ld) * ts_dtype_size(t.type)), t.type, 2,
                     (long[]){rows, width});
    t.ld = ld;
    return t;
}

/* What is combined apart goes through scratch in pieces of rows, so that its size does not follow
 * the length of a clip. */
ts_status ts_onednn_linear(ts_cpu *c, const ts_linear *a)
{
    enum { BYTES = 16 << 20, LEAST = 256 };
    long M = ts_rows(a->x), O = a->w->t.dim[0],
         n = BYTES / (O * (long)sizeof(float)) / LEAST * LEAST;
    if (n < LEAST) n = LEAST;
    if (!is_apart(a) || M <= n) return linear_at_once(c, a);
    for (long m = 0; m < M; m += n) {
        ts_linear piece = *a;
        long rows = M - m < n ? M - m : n;
        piece.x = slice_rows(a->x, m, rows);
        piece.y = slice_rows(a->y, m, rows);
        piece.resid = slice_rows(a->resid, m, rows);
        if (ts_there(a->sel)) piece.sel = ts_tensor_of(ts_at(a->sel.p, (size_t)m), TS_U8, 1, &rows);
        ts_status st = linear_at_once(c, &piece);
        if (st) return st;
    }
    return TS_OK;
}

/* A 1x1x1 kernel is a linear layer over positions. */
static bool is_pointwise(const ts_conv *a, const key *k)
{
    bool plain = k->w[2] == 1 && k->w[3] == 1 && k->w[4] == 1;
    for (int i = 0; i < 3; i++)
        plain = plain && a->stride[i] == 1 && a->pad[2 * i] == 0 && a->pad[2 * i + 1] == 0;
    return plain;
}

ts_status ts_onednn_conv(ts_cpu *c, const ts_conv *a)
{
    const ts_tensor *w = &a->w->t;
    key k;
    entry *e;
    void *scratch;
    memset(&k, 0, sizeof k);
    k.kind = CONV;
    k.xt = a->x.type;
    k.yt = a->y.type;
    k.bias = a->b != NULL;
    k.sum = ts_there(a->resid);
    k.layout = layout_for(c, a->w, a->x.type);
    k.w[0] = w->dim[0];
    k.w[1] = w->dim[1];
    k.w[2] = w->nd == 5 ? w->dim[2] : 1;
    k.w[3] = w->dim[w->nd - 2];
    k.w[4] = w->dim[w->nd - 1];
    if (is_pointwise(a, &k))
        return ts_onednn_linear(
            c, &(ts_linear){.x = a->x, .w = a->w, .b = a->b, .resid = a->resid, .y = a->y});
    /* oneDNN takes packed channels, and bf16 out of bf16 only: other tensors go through scratch. */
    bool spread = a->x.ld != a->x.dim[3],
         apart = a->y.ld != a->y.dim[3] || (a->x.type == TS_F32 && a->y.type == TS_BF16);
    size_t x_bytes = spread ? ((size_t)ts_count(a->x) * ts_dtype_size(a->x.type) + 63) & ~(size_t)63
                            : 0,
           y_bytes = apart ? ((size_t)ts_count(a->y) * sizeof(float) + 63) & ~(size_t)63 : 0;
    if (apart) {
        k.yt = TS_F32;
        k.sum = 0;
    }
    for (int i = 0; i < 4; i++) {
        k.x[i] = a->x.dim[i];
        k.y[i] = a->y.dim[i];
    }
    memcpy(k.stride, a->stride, sizeof k.stride);
    memcpy(k.pad, a->pad, sizeof k.pad);
    ts_status st = find_primitive(c, &k, &e);
    if (st) return st;
    st = ts_cpu_scratch(c, x_bytes + y_bytes + e->scratch_bytes, &scratch);
    if (st) return st;
    if (c->dev.counting) return wish_layout(c, a->w, e, a->x.type);
    if (k.sum) copy_tensor_rows(a->resid, a->y);
    ts_tensor x = spread ? ts_tensor_of((ts_ptr){(uintptr_t)scratch}, a->x.type, 4, a->x.dim)
                         : a->x;
    ts_ptr y = apart ? (ts_ptr){(uintptr_t)scratch + x_bytes} : a->y.p;
    if (spread) copy_tensor_rows(a->x, x);
    st = execute_primitive(c, e, a->w, (operands){x.p, a->b ? a->b->t.p : (ts_ptr){0}, y, {0}},
                           (char *)scratch + x_bytes + y_bytes);
    if (!st && apart) combine_output(&(ts_linear){.resid = a->resid, .y = a->y}, ts_host_of(y));
    return st;
}

/* ---- packing ---- */
/* Rows of stored numbers in the type that is wanted. */
static void cast_rows(const ts_cpu *c, const ts_host *from, size_t first, long rows, long width,
                      ts_dtype type, void *to)
{
    ts_ptr src = {(uintptr_t)from->data + first * (size_t)width * ts_dtype_size(from->type)},
           dst = {(uintptr_t)to};
    c->run.copy(&(ts_copy){.src = src,
                           .dst = dst,
                           .stype = from->type,
                           .dtype = type,
                           .nd = 2,
                           .dim = {rows, width},
                           .ss = {width, 1},
                           .ds = {width, 1}});
}

/* The descriptor of outputs [first, first + rows) inside of a layout. */
static bool slice_desc(const struct ts_dnnl *d, int layout, long first, long rows, desc *out)
{
    const key *k = &d->layout[layout - 1].k;
    dnnl_dims_t dim, stride, from = {0};
    int axis;
    shape_of(k, rows, dim, stride, &axis);
    from[axis] = first;
    return part_of_desc(out, refer_to_desc(&d->layout[layout - 1].d), dim, from);
}

/* Outputs [first, first + rows), stored row-major at `from`, to their place in the layout at
 * `to`. */
static bool pack_to_layout(const struct ts_dnnl *d, int layout, long first, long rows,
                           const void *from, void *to)
{
    desc src = {0}, dst = {0};
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_t p = NULL;
    dnnl_memory_t a = NULL, b = NULL;
    bool ok = plain_desc(&src, &d->layout[layout - 1].k, rows) &&
              slice_desc(d, layout, first, rows, &dst) &&
              dnnl_reorder_primitive_desc_create(&pd, refer_to_desc(&src), d->engine,
                                                 refer_to_desc(&dst), d->engine,
                                                 NULL) == dnnl_success &&
              dnnl_primitive_create(&p, pd) == dnnl_success &&
              dnnl_memory_create(&a, refer_to_desc(&src), d->engine, (void *)(uintptr_t)from) ==
                  dnnl_success &&
              dnnl_memory_create(&b, refer_to_desc(&dst), d->engine, to) == dnnl_success;
    dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, a}, {DNNL_ARG_TO, b}};
    ok = ok && run_primitive(d, p, 2, args);
    drop_memory(a);
    drop_memory(b);
    drop_desc(&src);
    drop_desc(&dst);
    if (p) dnnl_primitive_destroy(p);
    if (pd) dnnl_primitive_desc_destroy(pd);
    return ok;
}

/* oneDNN reorders values of one type fast, of two slowly: another stored type is converted first, a
 * slice of outputs at a time. */
static bool pack_slices(ts_cpu *c, const ts_host *from, long first, const ts_weight *to, void *at,
                        void *aside)
{
    long O = from->dim[0], width = ts_count(to->t) / to->t.dim[0],
         n = from->type == to->want.type ? O : slice_of(to, to->want.type);
    bool ok = true;
    for (long o = 0; ok && o < O; o += n) {
        long rows = O - o < n ? O - o : n;
        const void *plain = from->data;
        if (aside) {
            cast_rows(c, from, (size_t)o, rows, width, to->want.type, aside);
            plain = aside;
        }
        ok = pack_to_layout(c->dnnl, to->want.layout, first + o, rows, plain, at);
    }
    return ok;
}

ts_status ts_onednn_pack(ts_cpu *c, const ts_host *from, long first, const ts_weight *to, ts_ptr at)
{
    ts_status st = TS_OK;
    void *aside = NULL;
    long width = ts_count(to->t) / to->t.dim[0];
    if (to->want.layout == 0) {
        at = ts_at(at, (size_t)(first * width) * ts_dtype_size(to->want.type));
        cast_rows(c, from, 0, from->dim[0], width, to->want.type, ts_host_of(at));
    } else {
        if (from->type != to->want.type)
            st = ts_cpu_scratch(c, slice_bytes(to, to->want.type), &aside);
        if (!st && !pack_slices(c, from, first, to, ts_host_of(at), aside))
            st = ts_fail(c->dev.err, TS_EDEVICE, "oneDNN could not pack a weight [%ld, %ld]",
                         to->t.dim[0], width);
    }
    return st;
}
