/* A CUDA runtime that runs on the host: the part of the host API that a backend of one device
 * needs, in C, spelled as CUDA's own header spells it. Work of a stream is kept in a queue and
 * carried out as late as the API allows (emu_options.late) or at once: host code that forgets to
 * wait, reuses a buffer too early or dereferences device memory fails with one of the two. */
#ifndef EMU_CUDA_RUNTIME_API_H
#define EMU_CUDA_RUNTIME_API_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif
#define CUDART_VERSION 13000
enum cudaError {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInsufficientDriver = 35,
    cudaErrorNoDevice = 100,
    cudaErrorInvalidDevice = 101,
    cudaErrorNoKernelImageForDevice = 209,
    cudaErrorInvalidResourceHandle = 400,
    cudaErrorNotReady = 600,
    cudaErrorIllegalAddress = 700,
    cudaErrorLaunchFailure = 719,
    cudaErrorStreamCaptureUnsupported = 900,
    cudaErrorUnknown = 999
};
typedef enum cudaError cudaError_t;
enum cudaMemcpyKind {
    cudaMemcpyHostToHost,
    cudaMemcpyHostToDevice,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice,
    cudaMemcpyDefault
};
enum cudaStreamCaptureMode {
    cudaStreamCaptureModeGlobal,
    cudaStreamCaptureModeThreadLocal,
    cudaStreamCaptureModeRelaxed
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum cudaDeviceAttr {
    cudaDevAttrMultiProcessorCount = 16,
    cudaDevAttrComputeCapabilityMajor = 75,
    cudaDevAttrComputeCapabilityMinor = 76,
    cudaDevAttrMaxSharedMemoryPerBlockOptin = 97
};
#define cudaStreamNonBlocking 1
#define cudaEventDefault 0
#define cudaEventDisableTiming 2
#define cudaHostAllocDefault 0
#define cudaHostAllocPortable 1
#define cudaHostAllocMapped 2
typedef struct emu_stream *cudaStream_t;
typedef struct emu_event *cudaEvent_t;
typedef struct emu_graph *cudaGraph_t;
typedef struct emu_graph *cudaGraphExec_t;
struct cudaDeviceProp {
    char name[256];
    size_t totalGlobalMem, sharedMemPerBlockOptin;
    int major, minor, multiProcessorCount, l2CacheSize;
};

const char *cudaGetErrorString(cudaError_t);
const char *cudaGetErrorName(cudaError_t);
cudaError_t cudaGetLastError(void);
cudaError_t cudaPeekAtLastError(void);
cudaError_t cudaDriverGetVersion(int *);
cudaError_t cudaRuntimeGetVersion(int *);
cudaError_t cudaGetDeviceCount(int *);
cudaError_t cudaSetDevice(int);
cudaError_t cudaGetDevice(int *);
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *, int);
cudaError_t cudaDeviceGetAttribute(int *, enum cudaDeviceAttr, int device);
cudaError_t cudaMemGetInfo(size_t *free, size_t *total);
cudaError_t cudaMalloc(void **, size_t);
cudaError_t cudaFree(void *);
cudaError_t cudaMallocHost(void **, size_t);
cudaError_t cudaHostAlloc(void **, size_t, unsigned flags);
cudaError_t cudaFreeHost(void *);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t, enum cudaMemcpyKind, cudaStream_t);
cudaError_t cudaMemsetAsync(void *, int value, size_t, cudaStream_t);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t);
cudaError_t cudaStreamSynchronize(cudaStream_t);
cudaError_t cudaStreamQuery(cudaStream_t);
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned flags);
cudaError_t cudaLaunchHostFunc(cudaStream_t, void (*)(void *), void *);
cudaError_t cudaDeviceSynchronize(void);
cudaError_t cudaEventCreate(cudaEvent_t *);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *, unsigned flags);
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t);
cudaError_t cudaEventSynchronize(cudaEvent_t);
cudaError_t cudaEventQuery(cudaEvent_t);
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to);
cudaError_t cudaEventDestroy(cudaEvent_t);
cudaError_t cudaStreamBeginCapture(cudaStream_t, enum cudaStreamCaptureMode);
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t *);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *, cudaGraph_t, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t);
cudaError_t cudaGraphDestroy(cudaGraph_t);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t);
cudaError_t cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute, int value);

/* ---- of the emulator alone: tests turn these ---- */
/* in which the threads of a block, and the blocks of a grid, take their turns */
typedef enum { EMU_FORWARD, EMU_BACKWARD, EMU_SHUFFLED } emu_order;
typedef struct {
    int late;  /* 1: work of a stream is done when somebody waits for it, 0: at once */
    int guard; /* 1: device memory is inaccessible while the host runs */
    emu_order order;
    unsigned seed;    /* of EMU_SHUFFLED */
    size_t memory;    /* of the device; 0: 8 GB */
    int shared;       /* most bytes of shared memory a block; 0: 101376, an RTX 4090's */
    int fail_after;   /* n > 0: the n-th host call from now fails, as `fail_with` says */
    int fail_with;    /* a cudaError_t; 0: cudaErrorLaunchFailure */
    int devices;      /* of the machine; 0: one; -1: none; -2: none, for want of a driver */
    int major, minor; /* compute capability; 0 0: 8.9 */
    int processors;   /* streaming multiprocessors; 0: 4 */
} emu_options;
typedef struct {
    long launches, blocks, collectives, barriers, mma, ldmatrix, ldmatrix_conflicts, cp_async;
    long pageable; /* copies from or to memory that is not pinned */
    long checked;  /* loads and stores */
    long calls;    /* of the host that may fail */
} emu_stats;
/* What an earlier call has set is set back. */
void emu_set(emu_options);
/* What the emulator found, a sentence; "" nothing. Reading it clears it and the sticky error of the
 * device. Valid until the next call. */
const char *emu_error(void);
emu_stats emu_stats_read(int reset);
/* Streams, events, graphs, device and pinned memory that nobody has given back. */
long emu_open_handles(void);
/* p, if all bytes are the device's and the device is at work (stand-ins of libraries ask); else
 * NULL */
void *emu_device_ptr(const void *p, size_t bytes);
/* For kernels' shadow: a stand-in has written these bytes. */
void emu_device_wrote(const void *p, size_t bytes);
/* A stand-in's work, queued; args are copied now. */
void emu_enqueue(cudaStream_t, const char *what, void (*run)(void *), const void *args,
                 size_t bytes);
#ifdef __cplusplus
}
#endif
#endif
