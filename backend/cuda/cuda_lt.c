/* cuBLASLt, by its C interface, loaded when a device is opened: one binary runs where it is and
 * says so where it is not. What the library chose for a shape is kept. */
#include "backend/cuda/cuda_lt.h"

#include <cublasLt.h>
#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEPT = 512 }; /* shapes; then the oldest goes */

#define FUNCTIONS(X)                        \
    X(cublasLtCreate)                       \
    X(cublasLtDestroy)                      \
    X(cublasLtGetVersion)                   \
    X(cublasLtGetStatusString)              \
    X(cublasLtMatmulDescCreate)             \
    X(cublasLtMatmulDescDestroy)            \
    X(cublasLtMatmulDescSetAttribute)       \
    X(cublasLtMatrixLayoutCreate)           \
    X(cublasLtMatrixLayoutDestroy)          \
    X(cublasLtMatmulPreferenceCreate)       \
    X(cublasLtMatmulPreferenceDestroy)      \
    X(cublasLtMatmulPreferenceSetAttribute) \
    X(cublasLtMatmulAlgoGetHeuristic)       \
    X(cublasLtMatmul)

/* What a choice depends on. */
typedef struct {
    long m, n, k, lda, ldb, ldc, ldd;
    int in, out, adds, last; /* last: a cublasLtEpilogue_t */
    unsigned align[4];       /* of A, B, C, D: bytes, a power of two up to 16 */
} shape;

typedef struct {
    shape of;
    cublasLtMatmulDesc_t op;
    cublasLtMatrixLayout_t a, b, c, d;
    cublasLtMatmulAlgo_t algo;
    bool none; /* the library has no way of doing it */
} choice;

struct ts_lt {
    void *library;
    cublasLtHandle_t handle;
    char version[32];
    choice *kept[KEPT];
    int next;
#define POINTER(f) __typeof__(f) *(f);
    FUNCTIONS(POINTER)
};

static ts_status load_lt(ts_lt *lt, ts_err *err)
{
    static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"};
    char first[256] = "";
    for (size_t i = 0; !lt->library && i < sizeof names / sizeof *names; i++) {
        lt->library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
        const char *why = lt->library ? NULL : dlerror();
        if (!i && why) snprintf(first, sizeof first, "%s", why);
    }
    if (!lt->library) return ts_fail(err, TS_EDEVICE, "cuBLASLt is not here: %s", first);
#define LOAD(f)                                \
    *(void **)&lt->f = dlsym(lt->library, #f); \
    if (!lt->f) return ts_fail(err, TS_EDEVICE, "cuBLASLt: the library has no %s", #f);
    FUNCTIONS(LOAD)
    return TS_OK;
}

ts_status ts_lt_open(ts_err *err, ts_lt **out)
{
    ts_status st;
    ts_lt *lt = calloc(1, sizeof *lt);
    *out = NULL;
    if (!lt) return ts_fail(err, TS_EMEMORY, "no memory for cuBLASLt");
    TRY(load_lt(lt, err));
    size_t v = lt->cublasLtGetVersion();
    snprintf(lt->version, sizeof lt->version, "cuBLAS %zu.%zu", v / 10000, v % 10000 / 100);
    cublasStatus_t e = lt->cublasLtCreate(&lt->handle);
    if (e)
        TRY(ts_fail(err, TS_EDEVICE, "%s does not begin: %s", lt->version,
                    lt->cublasLtGetStatusString(e)));
    *out = lt;
    lt = NULL;
done:
    ts_lt_close(lt);
    return st;
}

static void free_choice(ts_lt *lt, choice *c)
{
    if (!c) return;
    if (c->op) lt->cublasLtMatmulDescDestroy(c->op);
    cublasLtMatrixLayout_t all[] = {c->a, c->b, c->c, c->d};
    for (int i = 0; i < 4; i++)
        if (all[i]) lt->cublasLtMatrixLayoutDestroy(all[i]);
    free(c);
}

void ts_lt_close(ts_lt *lt)
{
    if (!lt) return;
    for (int i = 0; i < KEPT; i++) free_choice(lt, lt->kept[i]);
    if (lt->handle) lt->cublasLtDestroy(lt->handle);
    if (lt->library) dlclose(lt->library);
    free(lt);
}

const char *ts_lt_version(const ts_lt *lt) { return lt->version; }

/* ---- choosing ---- */
static unsigned alignment_of(const void *p, long ld, ts_dtype type)
{
    uintptr_t x = (uintptr_t)p | (uintptr_t)ld * ts_dtype_size(type) | 16;
    return (unsigned)(x & -x);
}

static cublasLtEpilogue_t epilogue_of(const ts_lt_product *p)
{
    if (p->gelu) return p->bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
    return p->bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
}

static shape shape_of_product(const ts_lt_product *p)
{
    shape s;
    memset(&s, 0, sizeof s); /* it is compared as bytes */
    s.m = p->m;
    s.n = p->n;
    s.k = p->k;
    s.lda = p->lda;
    s.ldb = p->ldb;
    s.ldc = p->c ? p->ldc : p->ldd;
    s.ldd = p->ldd;
    s.in = p->in;
    s.out = p->out;
    s.adds = p->c != NULL;
    s.last = (int)epilogue_of(p);
    s.align[0] = alignment_of(p->a, p->lda, p->in);
    s.align[1] = alignment_of(p->b, p->ldb, p->in);
    s.align[2] = p->c ? alignment_of(p->c, p->ldc, p->out) : 16;
    s.align[3] = alignment_of(p->d, p->ldd, p->out);
    return s;
}

static cudaDataType_t lt_type(int t) { return t == TS_BF16 ? CUDA_R_16BF : CUDA_R_32F; }

static cublasStatus_t make_layouts(ts_lt *lt, choice *c)
{
    const shape *s = &c->of;
    uint64_t m = (uint64_t)s->m, n = (uint64_t)s->n, k = (uint64_t)s->k;
    cublasStatus_t e = lt->cublasLtMatrixLayoutCreate(&c->a, lt_type(s->in), k, m, s->lda);
    if (!e) e = lt->cublasLtMatrixLayoutCreate(&c->b, lt_type(s->in), k, n, s->ldb);
    if (!e) e = lt->cublasLtMatrixLayoutCreate(&c->c, lt_type(s->out), m, n, s->ldc);
    if (!e) e = lt->cublasLtMatrixLayoutCreate(&c->d, lt_type(s->out), m, n, s->ldd);
    return e;
}

static cublasStatus_t make_operation(ts_lt *lt, choice *c)
{
    cublasOperation_t t = CUBLAS_OP_T, n = CUBLAS_OP_N;
    cublasLtEpilogue_t last = (cublasLtEpilogue_t)c->of.last;
    cudaDataType_t f32 = CUDA_R_32F, out = lt_type(c->of.out);
    cublasStatus_t e = lt->cublasLtMatmulDescCreate(&c->op, CUBLAS_COMPUTE_32F, f32);
#define SET(name, value)                                                                 \
    if (!e)                                                                              \
    e = lt->cublasLtMatmulDescSetAttribute(c->op, CUBLASLT_MATMUL_DESC_##name, &(value), \
                                           sizeof(value))
    SET(TRANSA, t);
    SET(TRANSB, n);
    SET(EPILOGUE, last);
    SET(BIAS_DATA_TYPE, out);
#undef SET
    return e;
}

static cublasStatus_t ask_lt(ts_lt *lt, choice *c, int *found)
{
    static const cublasLtMatmulPreferenceAttributes_t names[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    cublasLtMatmulPreference_t pref = NULL;
    cublasLtMatmulHeuristicResult_t best;
    size_t most = TS_LT_WORKSPACE;
    *found = 0;
    cublasStatus_t e = lt->cublasLtMatmulPreferenceCreate(&pref);
    if (!e)
        e = lt->cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                     &most, sizeof most);
    for (int i = 0; !e && i < 4; i++) {
        uint32_t align = c->of.align[i];
        e = lt->cublasLtMatmulPreferenceSetAttribute(pref, names[i], &align, sizeof align);
    }
    if (!e)
        e = lt->cublasLtMatmulAlgoGetHeuristic(lt->handle, c->op, c->a, c->b, c->c, c->d, pref, 1,
                                               &best, found);
    if (!e && *found) c->algo = best.algo;
    if (pref) lt->cublasLtMatmulPreferenceDestroy(pref);
    return e;
}

static ts_status refuse_product(ts_lt *lt, ts_err *err, const shape *s, cublasStatus_t e)
{
    return ts_fail(err, TS_EDEVICE, "%s: a product of [%ld, %ld] and [%ld, %ld], %s to %s: %s",
                   lt->version, s->n, s->k, s->k, s->m, ts_dtype_name((ts_dtype)s->in),
                   ts_dtype_name((ts_dtype)s->out),
                   e ? lt->cublasLtGetStatusString(e) : "it has no way of doing it");
}

static ts_status find_choice(ts_lt *lt, ts_err *err, const shape *s, choice **out)
{
    for (int i = 0; i < KEPT; i++) {
        choice *c = lt->kept[(lt->next + KEPT - 1 - i) % KEPT];
        if (!c) break;
        if (!memcmp(&c->of, s, sizeof *s)) return *out = c, TS_OK;
    }
    int found = 0;
    choice *c = calloc(1, sizeof *c);
    if (!c) return ts_fail(err, TS_EMEMORY, "no memory for a product");
    c->of = *s;
    cublasStatus_t e = make_operation(lt, c);
    if (!e) e = make_layouts(lt, c);
    if (!e) e = ask_lt(lt, c, &found);
    if (e && e != CUBLAS_STATUS_NOT_SUPPORTED) {
        free_choice(lt, c);
        return refuse_product(lt, err, s, e);
    }
    c->none = e || !found;
    free_choice(lt, lt->kept[lt->next]);
    lt->kept[lt->next] = c;
    lt->next = (lt->next + 1) % KEPT;
    *out = c;
    return TS_OK;
}

bool ts_lt_has(ts_lt *lt, const ts_lt_product *p)
{
    ts_err unsaid = {0}; /* what is wrong comes out of ts_lt_run */
    choice *c = NULL;
    shape s = shape_of_product(p);
    return find_choice(lt, &unsaid, &s, &c) || !c->none;
}

ts_status ts_lt_run(ts_lt *lt, ts_err *err, const ts_lt_product *p, void *workspace,
                    cudaStream_t stream)
{
    choice *c = NULL;
    shape s = shape_of_product(p);
    ts_status st = find_choice(lt, err, &s, &c);
    if (st) return st;
    if (c->none) return refuse_product(lt, err, &s, CUBLAS_STATUS_SUCCESS);
    const float one = 1, beta = p->c ? 1 : 0;
    cublasStatus_t e = CUBLAS_STATUS_SUCCESS;
    if (p->bias)
        e = lt->cublasLtMatmulDescSetAttribute(c->op, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->bias,
                                               sizeof p->bias);
    if (!e)
        e = lt->cublasLtMatmul(lt->handle, c->op, &one, p->a, c->a, p->b, c->b, &beta,
                               p->c ? p->c : p->d, c->c, p->d, c->d, &c->algo, workspace,
                               TS_LT_WORKSPACE, stream);
    return e ? refuse_product(lt, err, &s, e) : TS_OK;
}
