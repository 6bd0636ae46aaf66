/* cuDNN, by the backend interface of its C library, loaded when a device is opened. A convolution,
 * or attention, is one operation in a graph; of the engines that the library's heuristics name, the
 * first is taken that computes as it was asked to, can be made and needs no more workspace than may
 * be had. */
#include "backend/cuda/cuda_dnn.h"

#include <cudnn.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MADE = 128, CANDIDATES = 32, KEPT = 128, X = 1, W, Y, HEADS = 5 };

#define FUNCTIONS(F)                 \
    F(cudnnCreate)                   \
    F(cudnnDestroy)                  \
    F(cudnnSetStream)                \
    F(cudnnGetVersion)               \
    F(cudnnGetErrorString)           \
    F(cudnnBackendCreateDescriptor)  \
    F(cudnnBackendDestroyDescriptor) \
    F(cudnnBackendFinalize)          \
    F(cudnnBackendSetAttribute)      \
    F(cudnnBackendGetAttribute)      \
    F(cudnnBackendExecute)

/* One of them, the other zeros. */
typedef struct {
    ts_dnn_shape conv;
    ts_dnn_heads heads;
} operation;
typedef struct {
    operation of;
    cudnnBackendDescriptor_t plan; /* NULL: there is none */
    size_t workspace;
} kept_plan;

struct ts_dnn {
    void *library;
    cudnnHandle_t handle;
    char version[32];
    kept_plan kept[KEPT];
    int plans, next;
    long runs;
#define POINTER(f) __typeof__(f) *(f);
    FUNCTIONS(POINTER)
};

/* Descriptors of one graph, destroyed together. */
typedef struct {
    ts_dnn *dnn;
    cudnnBackendDescriptor_t made[MADE];
    int n;
} bin;

#define SET(d, name, type, n, p)                                                               \
    do {                                                                                       \
        if ((st = b->dnn->cudnnBackendSetAttribute(d, CUDNN_ATTR_##name, CUDNN_TYPE_##type, n, \
                                                   p)) != CUDNN_STATUS_SUCCESS)                \
            return st;                                                                         \
    } while (0)

static bool load_dnn(ts_dnn *d, char *why, size_t size)
{
    static const char *const names[] = {"libcudnn.so.9", "libcudnn.so"};
    for (size_t i = 0; !d->library && i < sizeof names / sizeof *names; i++) {
        d->library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
        const char *said = d->library ? NULL : dlerror();
        if (!i && said) snprintf(why, size, "no cuDNN (%s)", said);
    }
    if (!d->library) return false;
#define LOAD(f)                                             \
    *(void **)&d->f = dlsym(d->library, #f);                \
    if (!d->f) {                                            \
        snprintf(why, size, "no cuDNN (it has no %s)", #f); \
        return false;                                       \
    }
    FUNCTIONS(LOAD)
    return true;
}

ts_dnn *ts_dnn_open(char *why, size_t size)
{
    ts_dnn *d = calloc(1, sizeof *d);
    if (!d) {
        snprintf(why, size, "no cuDNN (no memory)");
        return NULL;
    }
    if (!load_dnn(d, why, size)) {
        ts_dnn_close(d);
        return NULL;
    }
    size_t v = d->cudnnGetVersion();
    snprintf(d->version, sizeof d->version, "cuDNN %zu.%zu.%zu", v / 10000, v % 10000 / 100,
             v % 100);
    cudnnStatus_t st = d->cudnnCreate(&d->handle);
    if (st) {
        snprintf(why, size, "no cuDNN (%s does not begin: %s)", d->version,
                 d->cudnnGetErrorString(st));
        ts_dnn_close(d);
        return NULL;
    }
    return d;
}

void ts_dnn_close(ts_dnn *d)
{
    if (!d) return;
    for (int i = 0; i < d->plans; i++)
        if (d->kept[i].plan) d->cudnnBackendDestroyDescriptor(d->kept[i].plan);
    if (d->handle) d->cudnnDestroy(d->handle);
    if (d->library) dlclose(d->library);
    free(d);
}

const char *ts_dnn_version(const ts_dnn *d) { return d->version; }
long ts_dnn_runs(const ts_dnn *d) { return d ? d->runs : 0; }

/* ---- a graph of one convolution ---- */
static cudnnStatus_t make_descriptor(bin *b, cudnnBackendDescriptorType_t type,
                                     cudnnBackendDescriptor_t *d)
{
    cudnnStatus_t st = b->dnn->cudnnBackendCreateDescriptor(type, d);
    if (st == CUDNN_STATUS_SUCCESS) b->made[b->n++] = *d;
    return st;
}

static void empty_bin(bin *b)
{
    while (b->n) b->dnn->cudnnBackendDestroyDescriptor(b->made[--b->n]);
}

/* value: one number of the host, given with each run */
static cudnnStatus_t make_any_tensor(bin *b, int64_t id, ts_dtype dtype, int nd, const int64_t *dim,
                                     const int64_t *step, bool value, cudnnBackendDescriptor_t *d)
{
    cudnnStatus_t st;
    int64_t align = 16;
    cudnnDataType_t type = dtype == TS_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
    if ((st = make_descriptor(b, CUDNN_BACKEND_TENSOR_DESCRIPTOR, d))) return st;
    SET(*d, TENSOR_UNIQUE_ID, INT64, 1, &id);
    SET(*d, TENSOR_DATA_TYPE, DATA_TYPE, 1, &type);
    SET(*d, TENSOR_DIMENSIONS, INT64, nd, dim);
    SET(*d, TENSOR_STRIDES, INT64, nd, step);
    SET(*d, TENSOR_BYTE_ALIGNMENT, INT64, 1, &align);
    if (value) SET(*d, TENSOR_IS_BY_VALUE, BOOLEAN, 1, &value);
    return b->dnn->cudnnBackendFinalize(*d);
}

static cudnnStatus_t make_operation_graph(bin *b, cudnnBackendDescriptor_t op,
                                          cudnnBackendDescriptor_t *graph)
{
    cudnnStatus_t st;
    if ((st = b->dnn->cudnnBackendFinalize(op))) return st;
    if ((st = make_descriptor(b, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, graph))) return st;
    SET(*graph, OPERATIONGRAPH_OPS, BACKEND_DESCRIPTOR, 1, &op);
    SET(*graph, OPERATIONGRAPH_HANDLE, HANDLE, 1, &b->dnn->handle);
    return b->dnn->cudnnBackendFinalize(*graph);
}

/* Dimensions [n, c, f, h, w] of numbers that lie channels last. */
static cudnnStatus_t make_tensor(bin *b, int64_t id, ts_dtype dtype, long n, long c,
                                 const long grid[3], cudnnBackendDescriptor_t *d)
{
    int64_t dim[5] = {n, c, grid[0], grid[1], grid[2]};
    int64_t step[5] = {c * grid[0] * grid[1] * grid[2], 1, grid[1] * grid[2] * c, grid[2] * c, c};
    return make_any_tensor(b, id, dtype, 5, dim, step, false, d);
}

static cudnnStatus_t make_convolution(bin *b, const ts_dnn_shape *s, cudnnBackendDescriptor_t *d)
{
    cudnnStatus_t st;
    cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    cudnnDataType_t sums = CUDNN_DATA_FLOAT;
    int64_t dims = 3, one[3] = {1, 1, 1}, before[3], after[3], stride[3];
    for (int i = 0; i < 3; i++) {
        before[i] = s->before[i];
        after[i] = s->after[i];
        stride[i] = s->stride[i];
    }
    if ((st = make_descriptor(b, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, d))) return st;
    SET(*d, CONVOLUTION_COMP_TYPE, DATA_TYPE, 1, &sums);
    SET(*d, CONVOLUTION_CONV_MODE, CONVOLUTION_MODE, 1, &mode);
    SET(*d, CONVOLUTION_SPATIAL_DIMS, INT64, 1, &dims);
    SET(*d, CONVOLUTION_PRE_PADDINGS, INT64, 3, before);
    SET(*d, CONVOLUTION_POST_PADDINGS, INT64, 3, after);
    SET(*d, CONVOLUTION_DILATIONS, INT64, 3, one);
    SET(*d, CONVOLUTION_FILTER_STRIDES, INT64, 3, stride);
    return b->dnn->cudnnBackendFinalize(*d);
}

static cudnnStatus_t make_conv_graph(bin *b, const ts_dnn_shape *s, cudnnBackendDescriptor_t *graph)
{
    cudnnStatus_t st;
    cudnnBackendDescriptor_t x, w, y, c, op;
    float alpha = 1, beta = 0;
    if ((st = make_tensor(b, X, s->type, 1, s->C, s->x, &x))) return st;
    if ((st = make_tensor(b, W, s->type, s->O, s->C, s->kernel, &w))) return st;
    if ((st = make_tensor(b, Y, s->type, 1, s->O, s->y, &y))) return st;
    if ((st = make_convolution(b, s, &c))) return st;
    if ((st = make_descriptor(b, CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, &op)))
        return st;
    SET(op, OPERATION_CONVOLUTION_FORWARD_X, BACKEND_DESCRIPTOR, 1, &x);
    SET(op, OPERATION_CONVOLUTION_FORWARD_W, BACKEND_DESCRIPTOR, 1, &w);
    SET(op, OPERATION_CONVOLUTION_FORWARD_Y, BACKEND_DESCRIPTOR, 1, &y);
    SET(op, OPERATION_CONVOLUTION_FORWARD_CONV_DESC, BACKEND_DESCRIPTOR, 1, &c);
    SET(op, OPERATION_CONVOLUTION_FORWARD_ALPHA, FLOAT, 1, &alpha);
    SET(op, OPERATION_CONVOLUTION_FORWARD_BETA, FLOAT, 1, &beta);
    return make_operation_graph(b, op, graph);
}

/* Tensors 1 to 4: q, k, v, out as [1, A, N, D] over rows of tokens; 5: the scale. */
static cudnnStatus_t make_heads_graph(bin *b, const ts_dnn_heads *s,
                                      cudnnBackendDescriptor_t *graph)
{
    cudnnStatus_t st;
    cudnnBackendDescriptor_t t[HEADS], op;
    const int64_t rows[4] = {s->Nq, s->Nk, s->Nk, s->Nq}, one[4] = {1, 1, 1, 1};
    const int64_t ld[4] = {s->ldq, s->ldk, s->ldv, s->ldo};
    for (int i = 0; i < 4; i++) {
        int64_t dim[4] = {1, s->A, rows[i], s->D}, step[4] = {rows[i] * ld[i], s->D, ld[i], 1};
        if ((st = make_any_tensor(b, i + 1, TS_BF16, 4, dim, step, false, t + i))) return st;
    }
    if ((st = make_any_tensor(b, HEADS, TS_F32, 4, one, one, true, t + 4))) return st;
    if ((st = make_descriptor(b, CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR, &op))) return st;
    SET(op, OPERATION_SDPA_FWD_QDESC, BACKEND_DESCRIPTOR, 1, t);
    SET(op, OPERATION_SDPA_FWD_KDESC, BACKEND_DESCRIPTOR, 1, t + 1);
    SET(op, OPERATION_SDPA_FWD_VDESC, BACKEND_DESCRIPTOR, 1, t + 2);
    SET(op, OPERATION_SDPA_FWD_ODESC, BACKEND_DESCRIPTOR, 1, t + 3);
    SET(op, OPERATION_SDPA_FWD_SCALEDESC, BACKEND_DESCRIPTOR, 1, t + 4);
    return make_operation_graph(b, op, graph);
}

static cudnnStatus_t ask_dnn(bin *b, cudnnBackendDescriptor_t graph, cudnnBackendHeurMode_t mode,
                             cudnnBackendDescriptor_t config[CANDIDATES], int64_t *n)
{
    cudnnStatus_t st;
    cudnnBackendDescriptor_t heuristic;
    *n = 0;
    if ((st = make_descriptor(b, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, &heuristic))) return st;
    SET(heuristic, ENGINEHEUR_OPERATION_GRAPH, BACKEND_DESCRIPTOR, 1, &graph);
    SET(heuristic, ENGINEHEUR_MODE, HEUR_MODE, 1, &mode);
    if ((st = b->dnn->cudnnBackendFinalize(heuristic))) return st;
    for (int i = 0; i < CANDIDATES; i++)
        if ((st = make_descriptor(b, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, config + i))) return st;
    return b->dnn->cudnnBackendGetAttribute(heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                            CUDNN_TYPE_BACKEND_DESCRIPTOR, CANDIDATES, n, config);
}

/* Whether the engine gives the same bits every time, sums in f32, and multiplies f32 as f32 (tensor
 * cores would drop 13 bits of it). False also where it does not say. */
static bool computes_as_asked(bin *b, cudnnBackendDescriptor_t config, ts_dtype type)
{
    cudnnBackendDescriptor_t engine;
    cudnnBackendNumericalNote_t note[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    int64_t n = 0;
    if (make_descriptor(b, CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine) ||
        b->dnn->cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE,
                                         CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n, &engine) ||
        b->dnn->cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                         CUDNN_TYPE_NUMERICAL_NOTE, CUDNN_NUMERICAL_NOTE_TYPE_COUNT,
                                         &n, note))
        return false;
    for (int64_t i = 0; i < n; i++) {
        bool less = note[i] == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC ||
                    note[i] == CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION;
        bool narrow = note[i] == CUDNN_NUMERICAL_NOTE_TENSOR_CORE ||
                      note[i] == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS;
        if (less || (type == TS_F32 && narrow)) return false;
    }
    return true;
}

/* Not of the bin: it outlives the graph. */
static cudnnStatus_t make_plan(ts_dnn *d, cudnnBackendDescriptor_t config,
                               cudnnBackendDescriptor_t *plan, size_t *workspace)
{
    cudnnStatus_t st = d->cudnnBackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR,
                                                       plan);
    int64_t n, bytes = 0;
    if (st) return st;
    st = d->cudnnBackendSetAttribute(*plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG,
                                     CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &config);
    if (!st)
        st = d->cudnnBackendSetAttribute(*plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE,
                                         1, &d->handle);
    if (!st) st = d->cudnnBackendFinalize(*plan);
    if (!st)
        st = d->cudnnBackendGetAttribute(*plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                         CUDNN_TYPE_INT64, 1, &n, &bytes);
    *workspace = (size_t)bytes;
    if (st) d->cudnnBackendDestroyDescriptor(*plan);
    return st;
}

static void search_plan(ts_dnn *d, kept_plan *p, size_t most)
{
    static const cudnnBackendHeurMode_t modes[] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK};
    for (int k = 0; k < 2 && !p->plan; k++) {
        bin b = {.dnn = d};
        cudnnBackendDescriptor_t graph, config[CANDIDATES];
        int64_t n = 0;
        cudnnStatus_t st = p->of.heads.A ? make_heads_graph(&b, &p->of.heads, &graph)
                                         : make_conv_graph(&b, &p->of.conv, &graph);
        if (!st) st = ask_dnn(&b, graph, modes[k], config, &n);
        ts_dtype type = p->of.heads.A ? TS_BF16 : p->of.conv.type;
        for (int64_t i = 0; !st && !p->plan && i < n; i++) {
            if (!computes_as_asked(&b, config[i], type)) continue;
            if (make_plan(d, config[i], &p->plan, &p->workspace)) {
                p->plan = NULL;
            } else if (p->workspace > most) {
                d->cudnnBackendDestroyDescriptor(p->plan);
                p->plan = NULL;
            }
        }
        empty_bin(&b);
    }
}

static kept_plan *find_plan(ts_dnn *d, const operation *o)
{
    for (int i = 0; i < d->plans; i++)
        if (!memcmp(&d->kept[i].of, o, sizeof *o)) return d->kept + i;
    return NULL;
}

static bool plan_operation(ts_dnn *d, const operation *o, size_t most, size_t *workspace)
{
    kept_plan *p = find_plan(d, o);
    if (!p) {
        if (d->plans < KEPT) d->plans++;
        p = d->kept + d->next;
        d->next = (d->next + 1) % KEPT;
        if (p->plan) d->cudnnBackendDestroyDescriptor(p->plan);
        *p = (kept_plan){.of = *o};
        search_plan(d, p, most);
    }
    *workspace = p->workspace;
    return p->plan != NULL;
}

static operation operation_of(const ts_dnn_shape *conv, const ts_dnn_heads *heads)
{
    operation o;
    memset(&o, 0, sizeof o); /* it is compared as bytes */
    if (conv) o.conv = *conv;
    if (heads) o.heads = *heads;
    return o;
}

bool ts_dnn_plan_conv(ts_dnn *d, const ts_dnn_shape *s, size_t most, size_t *workspace)
{
    operation o = operation_of(s, NULL);
    return plan_operation(d, &o, most, workspace);
}

bool ts_dnn_plan_attention(ts_dnn *d, const ts_dnn_heads *s, size_t most, size_t *workspace)
{
    operation o = operation_of(NULL, s);
    return plan_operation(d, &o, most, workspace);
}

/* ---- running ---- */
static cudnnStatus_t fill_pack(bin *b, int n, void **pointer, void *workspace,
                               cudnnBackendDescriptor_t *pack)
{
    cudnnStatus_t st;
    static const int64_t ids[HEADS] = {1, 2, 3, 4, 5};
    if ((st = make_descriptor(b, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, pack))) return st;
    SET(*pack, VARIANT_PACK_DATA_POINTERS, VOID_PTR, n, pointer);
    SET(*pack, VARIANT_PACK_UNIQUE_IDS, INT64, n, ids);
    SET(*pack, VARIANT_PACK_WORKSPACE, VOID_PTR, 1, &workspace);
    return b->dnn->cudnnBackendFinalize(*pack);
}

/* pointer: of tensors 1 to n */
static cudnnStatus_t run_operation(ts_dnn *d, const operation *o, int n, void **pointer,
                                   void *workspace, cudaStream_t stream)
{
    bin b = {.dnn = d};
    cudnnBackendDescriptor_t pack;
    const kept_plan *p = find_plan(d, o);
    cudnnStatus_t st = p && p->plan ? d->cudnnSetStream(d->handle, stream) : CUDNN_STATUS_BAD_PARAM;
    if (!st) st = fill_pack(&b, n, pointer, workspace, &pack);
    if (!st) st = d->cudnnBackendExecute(d->handle, p->plan, pack);
    empty_bin(&b);
    if (!st) d->runs++;
    return st;
}

ts_status ts_dnn_conv(ts_dnn *d, ts_err *err, const ts_dnn_shape *s, const void *x, const void *w,
                      void *y, void *workspace, cudaStream_t stream)
{
    void *pointer[3] = {(void *)x, (void *)w, y};
    operation o = operation_of(s, NULL);
    cudnnStatus_t st = run_operation(d, &o, 3, pointer, workspace, stream);
    if (!st) return TS_OK;
    return ts_fail(err, TS_EDEVICE,
                   "%s: a convolution of [%ld, %ld, %ld, %ld] with %ld kernels of %ld x %ld x %ld: "
                   "%s",
                   d->version, s->x[0], s->x[1], s->x[2], s->C, s->O, s->kernel[0], s->kernel[1],
                   s->kernel[2], d->cudnnGetErrorString(st));
}

ts_status ts_dnn_attention(ts_dnn *d, ts_err *err, const ts_dnn_heads *s, const void *q,
                           const void *k, const void *v, void *out, float scale, void *workspace,
                           cudaStream_t stream)
{
    void *pointer[HEADS] = {(void *)q, (void *)k, (void *)v, out, &scale};
    operation o = operation_of(NULL, s);
    cudnnStatus_t st = run_operation(d, &o, HEADS, pointer, workspace, stream);
    if (!st) return TS_OK;
    return ts_fail(err, TS_EDEVICE, "%s: attention of %ld tokens to %ld, %ld heads of %ld: %s",
                   d->version, s->Nq, s->Nk, s->A, s->D, d->cudnnGetErrorString(st));
}
