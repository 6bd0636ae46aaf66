/* The CUDA device's own state: shared by the files of backend/cuda, invisible above the seam.
 *
 * One stream is the device's queue. What goes ahead of it (weights) takes two more. Nothing that an
 * operation does waits for the device: `joins` counts what does. */
#ifndef TS_CUDA_H
#define TS_CUDA_H
#include "backend/cuda/cuda_dnn.h"
#include "backend/cuda/cuda_lt.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/open.h"
#include "backend/device.h"

enum {
    TS_CUDA_HALVES = 2,
    TS_CUDA_TICKETS = 64, /* kept at a time; an older one has passed when a later one has */
    TS_CUDA_PACE = 64,    /* moments are made so many at a time */
    TS_CUDA_NAMES = 4     /* of operations, for the sentence of what fails */
};

/* What stands between the host's memory and the device's: pinned memory that copies go through,
 * and room on the device for numbers that are yet to be cast. */
typedef struct {
    size_t half; /* bytes of each */
    char *pinned[TS_CUDA_HALVES];
    void *raw[TS_CUDA_HALVES];
    cudaEvent_t free[TS_CUDA_HALVES]; /* the queue is done with it */
    bool used[TS_CUDA_HALVES];        /* free[] was recorded */
    int now;                          /* the half that is being filled, from `at` on */
    size_t at;
} ts_cuda_stage;

/* A copy from the host's memory that a stream begins by itself. */
typedef struct ts_cuda_job ts_cuda_job;
struct ts_cuda_job {
    ts_cuda_job *next;
    uint64_t ticket;
    void *to;
    const void *from;
    size_t bytes;
};

typedef struct {
    ts_device dev; /* first: a ts_device * is a ts_cuda * */
    int index;
    char title[256]; /* of the GPU, by its maker */
    char level[16];  /* "sm_89" */
    int driver, runtime;
    ts_cuda_chip chip;
    cudaStream_t queue, ahead[TS_CUDA_HALVES];
    ts_cuda_stage stage, ahead_stage; /* the second one's halves belong to one stream each */
    ts_cuda_job *jobs;
    cudaEvent_t ticket[TS_CUDA_TICKETS], fence, beside;
    uint64_t tickets, waited;
    cudaEvent_t *moment; /* [TS_MOMENTS], those made so far, in turns */
    uint64_t moments;
    long made;
    void *scratch; /* for whatever an operation needs while it runs */
    size_t scratch_size, scratch_want;
    ts_cuda_fault *fault;              /* on the device */
    ts_cuda_fault *seen;               /* pinned: what it was at the last join */
    bool faulty;                       /* something that may have written to it is queued */
    void *back;                        /* pinned: what downloads go through */
    ts_lt *lt;                         /* products; never NULL */
    ts_dnn *dnn;                       /* convolutions; NULL: by products */
    long dense_by_dnn;                 /* dense attention of as many tokens too */
    char dnn_missing[160];             /* why */
    const char *queued[TS_CUDA_NAMES]; /* the operations that were queued last, in turns */
    int queuing;
    long joins;
} ts_cuda;

/* ts_cuda_open with stages of `half` bytes, a multiple of 4096; for tests. */
ts_status ts_cuda_open_with(ts_device_options, size_t half, const ts_env *, ts_err *, ts_device **);
/* How often the host has waited for the device, all in all. */
long ts_cuda_joins(ts_device *);

static inline ts_cuda *ts_cuda_of(ts_device *d) { return (ts_cuda *)d; }
static inline void *ts_cuda_at(ts_ptr p) { return (void *)(uintptr_t)p.at; }

/* TS_OK; TS_EMEMORY; or TS_EDEVICE: what was being done, what CUDA says, what was queued last. */
ts_status ts_cuda_result(ts_cuda *, cudaError_t, const char *what);
/* At least `bytes` on the device, 256-byte aligned, until the next operation. Counting: records the
 * maximum and gives NULL. */
ts_status ts_cuda_scratch(ts_cuda *, size_t bytes, void **);

/* Memory of the device. TS_EMEMORY: for what (may be ""), how much, what is free, advice. */
ts_status ts_cuda_take(ts_cuda *, size_t bytes, const char *what, const char *advice, void **);
extern const char ts_cuda_others[]; /* advice where weights are not the reason */

/* cuda_stage.c */
ts_status ts_cuda_stage_open(ts_cuda *, size_t half);
void ts_cuda_stage_close(ts_cuda *);
ts_status ts_cuda_upload(ts_device *, ts_ptr, const void *host, size_t bytes);
ts_status ts_cuda_upload_ahead(ts_device *, ts_ptr dst, const void *host, size_t bytes,
                               ts_ticket *);
ts_status ts_cuda_pack(ts_device *, const ts_host *, long first, const ts_weight *, ts_ptr);
ts_status ts_cuda_pack_ahead(ts_device *, const ts_host *, long first, const ts_weight *, ts_ptr,
                             ts_ticket *);
ts_status ts_cuda_wait(ts_device *, ts_ticket);
ts_status ts_cuda_download(ts_device *, void *host, ts_ptr, size_t bytes);
ts_status ts_cuda_join(ts_device *);
ts_status ts_cuda_mark(ts_device *, ts_moment *);
ts_status ts_cuda_elapsed(ts_device *, ts_moment from, ts_moment to, double *seconds);

/* cuda_product.c: arguments have been checked; also while counting */
enum { TS_CUDA_TAPS_LAST = 1 }; /* layout: a kernel as [O, kt, kh, kw, C] */
ts_status ts_cuda_linear(ts_cuda *, const ts_linear *);
ts_status ts_cuda_conv(ts_cuda *, const ts_conv *);
ts_status ts_cuda_peak(ts_cuda *, ts_dtype, double *flops);
#endif
