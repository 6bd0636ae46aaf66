/* Scaled dot product attention by cuDNN's backend interface, the library loaded when it is asked
 * for: what dense attention is measured against. One operation is a graph; of the engines that the
 * heuristics name the first that makes a plan is taken. */
#include "tests/cuda/bench/bench.h"

#include "backend/cuda/cuda.h"

#include <cudnn.h>
#include <dlfcn.h>
#include <stdlib.h>

enum { MADE = 64, CANDIDATES = 16, TENSORS = 5 };
#define FUNCTIONS(F)                 \
    F(cudnnCreate)                   \
    F(cudnnDestroy)                  \
    F(cudnnSetStream)                \
    F(cudnnGetErrorString)           \
    F(cudnnBackendCreateDescriptor)  \
    F(cudnnBackendDestroyDescriptor) \
    F(cudnnBackendFinalize)          \
    F(cudnnBackendSetAttribute)      \
    F(cudnnBackendGetAttribute)      \
    F(cudnnBackendExecute)

struct bench_sdpa {
    void *library;
    cudnnHandle_t handle;
    cudnnBackendDescriptor_t made[MADE], plan, pack;
    int n;
    char *memory; /* of the device: the scale, then workspace */
#define POINTER(f) __typeof__(f) *(f);
    FUNCTIONS(POINTER)
};

#define SET(d, name, type, n, p)                                                               \
    do {                                                                                       \
        if ((st = s->cudnnBackendSetAttribute(d, CUDNN_ATTR_##name, CUDNN_TYPE_##type, n, p))) \
            return st;                                                                         \
    } while (0)

static cudnnStatus_t make(bench_sdpa *s, cudnnBackendDescriptorType_t type,
                          cudnnBackendDescriptor_t *d)
{
    if (s->n == MADE) return CUDNN_STATUS_INTERNAL_ERROR;
    cudnnStatus_t st = s->cudnnBackendCreateDescriptor(type, d);
    if (!st) s->made[s->n++] = *d;
    return st;
}

static cudnnStatus_t make_tensor(bench_sdpa *s, int64_t id, cudnnDataType_t type,
                                 const int64_t dim[4], const int64_t step[4],
                                 cudnnBackendDescriptor_t *d)
{
    cudnnStatus_t st;
    int64_t align = 16;
    if ((st = make(s, CUDNN_BACKEND_TENSOR_DESCRIPTOR, d))) return st;
    SET(*d, TENSOR_UNIQUE_ID, INT64, 1, &id);
    SET(*d, TENSOR_DATA_TYPE, DATA_TYPE, 1, &type);
    SET(*d, TENSOR_DIMENSIONS, INT64, 4, dim);
    SET(*d, TENSOR_STRIDES, INT64, 4, step);
    SET(*d, TENSOR_BYTE_ALIGNMENT, INT64, 1, &align);
    return s->cudnnBackendFinalize(*d);
}

/* Tensors 1 to 4: q, k, v, out as [1, A, N, D] over rows of tokens; 5: the scale. */
static cudnnStatus_t make_graph(bench_sdpa *s, const ts_attention *a,
                                cudnnBackendDescriptor_t *graph)
{
    cudnnStatus_t st;
    cudnnBackendDescriptor_t t[TENSORS], op;
    int64_t N = a->q.dim[1], A = a->q.dim[2], D = a->q.dim[3];
    int64_t dim[4] = {1, A, N, D}, step[4] = {N * A * D, D, A * D, 1}, one[4] = {1, 1, 1, 1};
    for (int i = 0; i < 4; i++)
        if ((st = make_tensor(s, i + 1, CUDNN_DATA_BFLOAT16, dim, step, t + i))) return st;
    if ((st = make_tensor(s, TENSORS, CUDNN_DATA_FLOAT, one, one, t + 4))) return st;
    if ((st = make(s, CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR, &op))) return st;
    SET(op, OPERATION_SDPA_FWD_QDESC, BACKEND_DESCRIPTOR, 1, t);
    SET(op, OPERATION_SDPA_FWD_KDESC, BACKEND_DESCRIPTOR, 1, t + 1);
    SET(op, OPERATION_SDPA_FWD_VDESC, BACKEND_DESCRIPTOR, 1, t + 2);
    SET(op, OPERATION_SDPA_FWD_ODESC, BACKEND_DESCRIPTOR, 1, t + 3);
    SET(op, OPERATION_SDPA_FWD_SCALEDESC, BACKEND_DESCRIPTOR, 1, t + 4);
    if ((st = s->cudnnBackendFinalize(op))) return st;
    if ((st = make(s, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, graph))) return st;
    SET(*graph, OPERATIONGRAPH_OPS, BACKEND_DESCRIPTOR, 1, &op);
    SET(*graph, OPERATIONGRAPH_HANDLE, HANDLE, 1, &s->handle);
    return s->cudnnBackendFinalize(*graph);
}

static cudnnStatus_t make_plan(bench_sdpa *s, cudnnBackendDescriptor_t graph, size_t *workspace)
{
    cudnnStatus_t st;
    cudnnBackendDescriptor_t heuristic, config[CANDIDATES];
    cudnnBackendHeurMode_t mode = CUDNN_HEUR_MODE_A;
    int64_t n = 0, k, bytes = 0;
    if ((st = make(s, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, &heuristic))) return st;
    SET(heuristic, ENGINEHEUR_OPERATION_GRAPH, BACKEND_DESCRIPTOR, 1, &graph);
    SET(heuristic, ENGINEHEUR_MODE, HEUR_MODE, 1, &mode);
    if ((st = s->cudnnBackendFinalize(heuristic))) return st;
    for (int i = 0; i < CANDIDATES; i++)
        if ((st = make(s, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, config + i))) return st;
    st = s->cudnnBackendGetAttribute(heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                     CUDNN_TYPE_BACKEND_DESCRIPTOR, CANDIDATES, &n, config);
    if (!st && !n) st = CUDNN_STATUS_NOT_SUPPORTED;
    for (int64_t i = 0; i < n; i++) {
        if ((st = make(s, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &s->plan))) return st;
        SET(s->plan, EXECUTION_PLAN_ENGINE_CONFIG, BACKEND_DESCRIPTOR, 1, config + i);
        SET(s->plan, EXECUTION_PLAN_HANDLE, HANDLE, 1, &s->handle);
        if (!(st = s->cudnnBackendFinalize(s->plan))) break;
    }
    if (!st)
        st = s->cudnnBackendGetAttribute(s->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                         CUDNN_TYPE_INT64, 1, &k, &bytes);
    *workspace = (size_t)bytes;
    return st;
}

static cudnnStatus_t make_pack(bench_sdpa *s, const ts_attention *a)
{
    cudnnStatus_t st;
    int64_t ids[TENSORS] = {1, 2, 3, 4, 5};
    void *workspace = s->memory + 256;
    void *at[TENSORS] = {ts_cuda_at(a->q.p), ts_cuda_at(a->k.p), ts_cuda_at(a->v.p),
                         ts_cuda_at(a->out.p), s->memory};
    if ((st = make(s, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &s->pack))) return st;
    SET(s->pack, VARIANT_PACK_DATA_POINTERS, VOID_PTR, TENSORS, at);
    SET(s->pack, VARIANT_PACK_UNIQUE_IDS, INT64, TENSORS, ids);
    SET(s->pack, VARIANT_PACK_WORKSPACE, VOID_PTR, 1, &workspace);
    return s->cudnnBackendFinalize(s->pack);
}

static bool load(bench_sdpa *s, char *why, size_t size)
{
    s->library = dlopen("libcudnn.so.9", RTLD_NOW | RTLD_LOCAL);
    if (!s->library) {
        snprintf(why, size, "no cuDNN to compare with: %s", dlerror());
        return false;
    }
#define LOAD(f)                                                            \
    *(void **)&s->f = dlsym(s->library, #f);                               \
    if (!s->f) {                                                           \
        snprintf(why, size, "no cuDNN to compare with: it has no %s", #f); \
        return false;                                                      \
    }
    FUNCTIONS(LOAD)
    return true;
}

bench_sdpa *bench_sdpa_open(bench *b, const ts_attention *a, char *why, size_t size)
{
    size_t workspace = 0;
    cudnnBackendDescriptor_t graph;
    ts_cuda *c = ts_cuda_of(b->device);
    bench_sdpa *s = calloc(1, sizeof *s);
    if (!s) {
        snprintf(why, size, "no memory");
        return NULL;
    }
    if (!load(s, why, size)) goto refused;
    cudnnStatus_t st = s->cudnnCreate(&s->handle);
    if (!st) st = s->cudnnSetStream(s->handle, c->queue);
    if (!st) st = make_graph(s, a, &graph);
    if (!st) st = make_plan(s, graph, &workspace);
    if (!st && (cudaMalloc((void **)&s->memory, 256 + workspace) ||
                cudaMemcpy(s->memory, &a->scale, sizeof a->scale, cudaMemcpyHostToDevice)))
        st = CUDNN_STATUS_ALLOC_FAILED;
    if (!st) st = make_pack(s, a);
    if (!st) return s;
    snprintf(why, size, "cuDNN does not do attention of %ld tokens, %ld heads of %ld: %s",
             a->q.dim[1], a->q.dim[2], a->q.dim[3], s->cudnnGetErrorString(st));
refused:
    bench_sdpa_close(s);
    return NULL;
}

ts_status bench_sdpa_run(bench_sdpa *s, ts_err *err)
{
    cudnnStatus_t st = s->cudnnBackendExecute(s->handle, s->plan, s->pack);
    if (!st) return TS_OK;
    return ts_fail(err, TS_EDEVICE, "attention by cuDNN: %s", s->cudnnGetErrorString(st));
}

void bench_sdpa_close(bench_sdpa *s)
{
    if (!s) return;
    while (s->n) s->cudnnBackendDestroyDescriptor(s->made[--s->n]);
    if (s->handle) s->cudnnDestroy(s->handle);
    if (s->memory) cudaFree(s->memory);
    if (s->library) dlclose(s->library);
    free(s);
}
