/* The CPU device's own state: shared by the files of backend/cpu, invisible above the seam. */
#ifndef TS_CPU_H
#define TS_CPU_H
#include "backend/cpu/simd.h"

typedef struct {
    ts_device dev; /* first: a ts_device * is a ts_cpu * */
    ts_level level;
    int threads;
    double packing; /* of ts_device_facts */
    size_t cache;   /* bytes of the last cache, for each CPU that shares it */
    void *scratch;  /* one buffer for whatever an operation needs while it runs */
    size_t scratch_size, scratch_want;
    int bad_tag;          /* of check: the first, 0: none */
    ts_simd run;          /* kernels of the level */
    struct ts_dnnl *dnnl; /* primitives and their cache; backend/cpu/onednn.c */
} ts_cpu;

/* What ts_device_open opens as "cpu". */
ts_status ts_cpu_open(ts_device_options, const ts_env *, ts_err *, ts_device **);

static inline void *ts_host_of(ts_ptr p) { return (void *)(uintptr_t)p.at; }
static inline const float *ts_numbers_of(const ts_weight *w)
{
    return w ? (const float *)ts_host_of(w->t.p) : NULL;
}
/* The row of a table of modulation that row `row` of x takes; NULL: there is no table. */
static inline const float *ts_table_row(ts_tensor t, ts_tensor sel, long row)
{
    if (!ts_there(t)) return NULL;
    return (const float *)ts_host_of(t.p) +
           (ts_there(sel) ? ((const uint8_t *)ts_host_of(sel.p))[row] : 0) * t.ld;
}
/* At least `bytes`, 64-byte aligned, valid until the next call. Counting: records the maximum and
 * returns NULL. Later calls within the maximum allocate nothing. */
ts_status ts_cpu_scratch(ts_cpu *, size_t bytes, void **);
/* True once stop was asked for: read between work items. */
static inline bool ts_cpu_stop(const ts_cpu *c)
{
    return c->dev.env && c->dev.env->stop && __atomic_load_n(c->dev.env->stop, __ATOMIC_RELAXED);
}

/* attention.c: picks the kernel of the level, also counts scratch. */
ts_status ts_cpu_attention(ts_cpu *, const ts_attention *);
ts_status ts_cpu_block_sums(ts_cpu *, const ts_block_sums *);
ts_status ts_cpu_pool_sums(ts_cpu *, const ts_pool_sums *);
double ts_cpu_peak(ts_cpu *, ts_dtype);
#endif
