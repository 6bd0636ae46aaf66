/* The CPU device: opening, memory, and the checks that stand before every operation. On a counting
 * device an operation ends after its checks. */
#include "backend/cpu/limits.h"
#include "backend/cpu/onednn.h"
#include "backend/cpu/ref.h"
#include "backend/cpu/rest.h"
#include "backend/cpu/topk.h"
#include "backend/shapes.h"

#include <cpuid.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static ts_cpu *cpu_of(ts_device *d) { return (ts_cpu *)d; }

/* OpenMP's pool, which oneDNN shares, has a size for each calling thread. An operation works with
 * the size of its device, and leaves the caller's as it was: neither the host's own loops nor a
 * device of another thread notice. Kernels share work among exactly that many threads: a smaller
 * team, as OMP_DYNAMIC, OMP_MAX_ACTIVE_LEVELS or a call from within a parallel region of the host
 * would have it, would leave a part undone. */
typedef struct {
    int threads, dynamic, levels;
} team;

static team begin_call(const ts_cpu *c)
{
    team was = {omp_get_max_threads(), omp_get_dynamic(), omp_get_max_active_levels()};
    int level = omp_get_active_level() + 1;
    if (was.threads != c->threads) omp_set_num_threads(c->threads);
    if (was.dynamic) omp_set_dynamic(0);
    if (was.levels < level) omp_set_max_active_levels(level);
    return was;
}

static void end_call(const ts_cpu *c, team was)
{
    if (was.threads != c->threads) omp_set_num_threads(was.threads);
    if (was.dynamic) omp_set_dynamic(was.dynamic);
    if (was.levels < omp_get_active_level() + 1) omp_set_max_active_levels(was.levels);
}

/* ---- memory ---- */
/* Large pages where the system has them: kernels walk through rows that are a page apart, and a
 * missed translation costs as much as a missed line. NULL: no memory. */
static void *allocate_pages(size_t bytes)
{
    enum { LARGE = 2 << 20 };
    void *m = NULL;
    bool large = bytes >= 2 * (size_t)LARGE;
    if (posix_memalign(&m, large ? LARGE : 4096, bytes ? bytes : 1)) return NULL;
    if (large) madvise(m, bytes / LARGE * LARGE, MADV_HUGEPAGE);
    return m;
}

static const char *const levels[] = {"ref", "avx2", "avx512", "avx512_bf16"};

static ts_status cpu_memory(ts_device *d, size_t *available, size_t *total)
{
    (void)d;
    *total = ts_limit_all_memory();
    *available = ts_limit_unused_memory();
    return TS_OK;
}

static void cpu_facts(ts_device *d, ts_device_facts *f)
{
    ts_cpu *c = cpu_of(d);
    *f = (ts_device_facts){levels[c->level], c->threads, c->packing};
}

static size_t cpu_scratch_wanted(ts_device *d)
{
    size_t want = cpu_of(d)->scratch_want;
    cpu_of(d)->scratch_want = 0;
    return want;
}

static void cpu_about(ts_device *d, char *text, size_t size)
{
    ts_cpu *c = cpu_of(d);
    char library[64];
    ts_onednn_version(library, sizeof library);
    snprintf(text, size, "device cpu, level %s, %d threads, %s\n%s", levels[c->level], c->threads,
             d->has_bf16 ? "f32 and bf16" : "f32 alone", library);
}

static ts_status cpu_alloc(ts_device *d, size_t bytes, ts_ptr *p)
{
    void *m = allocate_pages(bytes);
    if (!m) return ts_fail(d->err, TS_EMEMORY, "no memory for %.1f MB", (double)bytes / 1e6);
    p->at = (uintptr_t)m;
    return TS_OK;
}

static void cpu_release(ts_device *d, ts_ptr p)
{
    (void)d;
    free(ts_host_of(p));
}

static ts_ptr cpu_adopt(ts_device *d, const void *host, size_t bytes)
{
    (void)d;
    (void)bytes;
    return (ts_ptr){(uintptr_t)host};
}

static ts_status cpu_upload(ts_device *d, ts_ptr p, const void *host, size_t bytes)
{
    if (!d->counting) memcpy(ts_host_of(p), host, bytes);
    return TS_OK;
}

static ts_status cpu_download(ts_device *d, void *host, ts_ptr p, size_t bytes)
{
    if (d->counting)
        memset(host, 0, bytes);
    else
        memcpy(host, ts_host_of(p), bytes);
    return TS_OK;
}

static ts_status cpu_join(ts_device *d)
{
    (void)d;
    return TS_OK;
}

static ts_status cpu_mark_time(ts_device *d, ts_moment *m)
{
    (void)d;
    m->seconds = ts_seconds();
    return TS_OK;
}

static ts_status cpu_elapsed(ts_device *d, ts_moment from, ts_moment to, double *seconds)
{
    *seconds = d->counting ? 0 : to.seconds - from.seconds;
    return TS_OK;
}

static ts_status cpu_zero(ts_device *d, ts_ptr p, size_t bytes)
{
    if (!d->counting) memset(ts_host_of(p), 0, bytes);
    return TS_OK;
}

ts_status ts_cpu_scratch(ts_cpu *c, size_t bytes, void **out)
{
    *out = NULL;
    if (bytes > c->scratch_want) c->scratch_want = bytes;
    if (c->dev.counting) return TS_OK;
    if (c->scratch_want > c->scratch_size) {
        free(c->scratch);
        c->scratch = NULL;
        c->scratch_size = 0;
        c->scratch = allocate_pages(c->scratch_want);
        if (!c->scratch)
            return ts_fail(c->dev.err, TS_EMEMORY, "no memory for %.1f MB of scratch",
                           (double)c->scratch_want / 1e6);
        c->scratch_size = c->scratch_want;
    }
    *out = c->scratch;
    return TS_OK;
}

/* ---- operations: run_* know that shapes fit ---- */
static void wish_row_major(ts_cpu *c, const ts_weight *w, ts_dtype type)
{
    ts_wish(&c->dev, w, (ts_form){type, 0, (size_t)ts_count(w->t) * ts_dtype_size(type)});
}

/* oneDNN has no plain C path and no bf16 without the instructions. */
static bool by_onednn(const ts_cpu *c, ts_dtype x)
{
    return c->dnnl && (x == TS_F32 || c->dev.has_bf16);
}

static ts_status cpu_pack(ts_device *d, const ts_host *from, long first, const ts_weight *to,
                          ts_ptr at)
{
    ts_cpu *c = cpu_of(d);
    ts_status st = ts_shapes_pack(d, from, first, to, at);
    if (st) return st;
    team was = begin_call(c);
    if (c->dnnl) {
        st = ts_onednn_pack(c, from, first, to, at);
    } else {
        size_t above = (size_t)(first * (ts_count(to->t) / to->t.dim[0]));
        ts_pack_ref(from, to->want.type,
                    ts_host_of(ts_at(at, above * ts_dtype_size(to->want.type))));
    }
    end_call(c, was);
    return st;
}

/* The CPU's queue is the caller itself: what may be ahead is done at once. */
static ts_status cpu_upload_ahead(ts_device *d, ts_ptr dst, const void *host, size_t bytes,
                                  ts_ticket *ticket)
{
    *ticket = (ts_ticket){0};
    return cpu_upload(d, dst, host, bytes);
}

static ts_status cpu_pack_ahead(ts_device *d, const ts_host *from, long first, const ts_weight *to,
                                ts_ptr at, ts_ticket *ticket)
{
    *ticket = (ts_ticket){0};
    return cpu_pack(d, from, first, to, at);
}

static ts_status cpu_wait_ahead(ts_device *d, ts_ticket ticket)
{
    (void)d;
    (void)ticket;
    return TS_OK;
}

static ts_status run_linear(ts_cpu *c, const ts_linear *a)
{
    if (by_onednn(c, a->x.type)) return ts_onednn_linear(c, a);
    if (c->dev.counting)
        wish_row_major(c, a->w, a->x.type);
    else
        ts_linear_ref(a);
    return TS_OK;
}

static ts_status run_conv(ts_cpu *c, const ts_conv *a)
{
    if (by_onednn(c, a->x.type)) return ts_onednn_conv(c, a);
    if (c->dev.counting)
        wish_row_major(c, a->w, a->x.type);
    else
        ts_conv_ref(a);
    return TS_OK;
}

static ts_status run_norm(ts_cpu *c, const ts_norm *a)
{
    void *scratch;
    ts_status st = ts_cpu_scratch(c, ts_norm_scratch(a), &scratch);
    if (!st && !c->dev.counting) c->run.norm(a, scratch);
    return st;
}

static ts_status run_gather(ts_cpu *c, const ts_gather *a)
{
    const int32_t *id = ts_host_of(a->ids.p);
    if (c->dev.counting) return TS_OK;
    for (long i = 0; i < ts_count(a->ids); i++)
        if (id[i] < 0 || id[i] >= a->x.dim[0])
            return ts_fail(c->dev.err, TS_ESHAPE, "gather: id %d at %ld, the table has %ld rows",
                           id[i], i, a->x.dim[0]);
    c->run.gather(a);
    return TS_OK;
}

static ts_status run_resample(ts_cpu *c, const ts_resample *a)
{
    void *scratch;
    ts_status st = ts_cpu_scratch(c, ts_resample_scratch(a), &scratch);
    if (!st && !c->dev.counting) c->run.resample(a, scratch);
    return st;
}

static ts_status run_activate(ts_cpu *c, const ts_activate *a)
{
    if (!c->dev.counting) c->run.activate(a);
    return TS_OK;
}

static ts_status run_rope(ts_cpu *c, const ts_rope *a)
{
    if (!c->dev.counting) c->run.rope(a);
    return TS_OK;
}

static ts_status run_copy(ts_cpu *c, const ts_copy *a)
{
    if (!c->dev.counting) c->run.copy(a);
    return TS_OK;
}

static ts_status run_lincomb(ts_cpu *c, const ts_lincomb *a)
{
    if (!c->dev.counting) c->run.lincomb(a);
    return TS_OK;
}

static ts_status run_affine(ts_cpu *c, const ts_affine *a)
{
    if (!c->dev.counting) c->run.affine(a);
    return TS_OK;
}

static ts_status run_randn(ts_cpu *c, const ts_randn *a)
{
    if (!c->dev.counting) ts_randn_ref(a);
    return TS_OK;
}

#define OPERATION(name, run)                                      \
    static ts_status cpu_##name(ts_device *d, const ts_##name *a) \
    {                                                             \
        ts_status st = ts_shapes_##name(d, a);                    \
        if (st) return st;                                        \
        team was = begin_call(cpu_of(d));                         \
        st = run(cpu_of(d), a);                                   \
        end_call(cpu_of(d), was);                                 \
        return st;                                                \
    }
OPERATION(linear, run_linear)
OPERATION(conv, run_conv)
OPERATION(norm, run_norm)
OPERATION(gather, run_gather)
OPERATION(resample, run_resample)
OPERATION(activate, run_activate)
OPERATION(rope, run_rope)
OPERATION(copy, run_copy)
OPERATION(lincomb, run_lincomb)
OPERATION(affine, run_affine)
OPERATION(randn, run_randn)
OPERATION(attention, ts_cpu_attention)
OPERATION(block_sums, ts_cpu_block_sums)
OPERATION(block_means, ts_cpu_block_means)
OPERATION(topk, ts_cpu_topk)
OPERATION(pool, ts_cpu_pool)
OPERATION(pool_sums, ts_cpu_pool_sums)
OPERATION(rest_linear, ts_cpu_rest_linear)
OPERATION(head_errors, ts_cpu_head_errors)
OPERATION(choose, ts_cpu_choose)

static ts_status cpu_peak(ts_device *d, ts_dtype type, double *flops)
{
    ts_cpu *c = cpu_of(d);
    team was = begin_call(c);
    *flops = d->counting ? 0 : ts_cpu_peak(c, type);
    end_call(c, was);
    return TS_OK;
}

static ts_status cpu_check(ts_device *d, ts_tensor t, int tag)
{
    ts_cpu *c = cpu_of(d);
    ts_status st = ts_shapes_check(d, t, tag);
    if (st || d->counting || c->bad_tag) return st;
    team was = begin_call(c);
    if (!c->run.finite(t)) c->bad_tag = tag;
    end_call(c, was);
    return TS_OK;
}

static ts_status cpu_checked(ts_device *d, int *tag)
{
    *tag = cpu_of(d)->bad_tag;
    cpu_of(d)->bad_tag = 0;
    return TS_OK;
}

static void cpu_close(ts_device *d)
{
    ts_onednn_close(cpu_of(d));
    free(cpu_of(d)->scratch);
    free(d);
}

static const ts_ops ops = {.memory = cpu_memory,
                           .facts = cpu_facts,
                           .scratch = cpu_scratch_wanted,
                           .about = cpu_about,
                           .alloc = cpu_alloc,
                           .free = cpu_release,
                           .adopt = cpu_adopt,
                           .upload = cpu_upload,
                           .upload_ahead = cpu_upload_ahead,
                           .pack_ahead = cpu_pack_ahead,
                           .wait = cpu_wait_ahead,
                           .download = cpu_download,
                           .join = cpu_join,
                           .mark = cpu_mark_time,
                           .elapsed = cpu_elapsed,
                           .pack = cpu_pack,
                           .zero = cpu_zero,
                           .copy = cpu_copy,
                           .gather = cpu_gather,
                           .linear = cpu_linear,
                           .conv = cpu_conv,
                           .norm = cpu_norm,
                           .activate = cpu_activate,
                           .rope = cpu_rope,
                           .attention = cpu_attention,
                           .block_sums = cpu_block_sums,
                           .block_means = cpu_block_means,
                           .topk = cpu_topk,
                           .pool = cpu_pool,
                           .pool_sums = cpu_pool_sums,
                           .rest_linear = cpu_rest_linear,
                           .head_errors = cpu_head_errors,
                           .choose = cpu_choose,
                           .peak = cpu_peak,
                           .lincomb = cpu_lincomb,
                           .randn = cpu_randn,
                           .resample = cpu_resample,
                           .affine = cpu_affine,
                           .check = cpu_check,
                           .checked = cpu_checked,
                           .close = cpu_close};

/* ---- opening ---- */

/* clang 14 has no name for it. */
static bool has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

static ts_level detect_level(void)
{
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    return avx512 && __builtin_cpu_supports("avx512bf16") ? TS_LEVEL_AVX512_BF16
           : avx512                                       ? TS_LEVEL_AVX512
           : avx2                                         ? TS_LEVEL_AVX2
                                                          : TS_LEVEL_REF;
}

static ts_status choose_level(const char *name, ts_err *err, ts_level *out)
{
    ts_level most = detect_level();
    *out = most;
    if (!name) return TS_OK;
    for (int i = 0; i <= TS_LEVEL_AVX512_BF16; i++)
        if (!strcmp(name, levels[i])) {
            if (i > (int)most)
                return ts_fail(err, TS_EUSAGE, "CPU level %s: this machine has at most %s", name,
                               levels[most]);
            *out = (ts_level)i;
            return TS_OK;
        }
    return ts_fail(err, TS_EUSAGE, "CPU level %s: must be ref, avx2, avx512 or avx512_bf16", name);
}

static void limit_team(ts_cpu *c, int asked, const ts_env *env)
{
    int most = omp_get_thread_limit();
    char text[96];
    if (c->threads <= most) return;
    c->threads = most;
    if (!asked || !env || !env->warn) return;
    snprintf(text, sizeof text, "%d threads: OpenMP's limit (OMP_THREAD_LIMIT) is %d, so many work",
             asked, most);
    env->warn(env->user, text);
}

ts_status ts_cpu_open(ts_device_options o, const ts_env *env, ts_err *err, ts_device **out)
{
    ts_level level;
    *out = NULL;
    ts_status st = choose_level(o.level, err, &level);
    if (st) return st;
    ts_cpu *c = calloc(1, sizeof *c);
    if (!c) return ts_fail(err, TS_EMEMORY, "no memory for a device");
    c->level = level;
    c->threads = o.threads > 0 ? o.threads : ts_limit_threads();
    limit_team(c, o.threads, env);
    c->cache = ts_limit_cache("");
    c->dev = (ts_device){.ops = &ops,
                         .wish = ts_keep_wish,
                         .err = err,
                         .env = env,
                         .has_bf16 = level == TS_LEVEL_AVX512_BF16,
                         .name = "cpu"};
    ts_simd_init(&c->run, level);
    if (level != TS_LEVEL_REF) st = ts_onednn_open(c);
    if (st)
        cpu_close(&c->dev);
    else
        *out = &c->dev;
    return st;
}
