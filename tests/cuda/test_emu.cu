/* The emulator itself: every fault that it promises to find, and the host's side of it. */
#include "backend/cuda/ptx.h"

#include "tests/cuda/device.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- kernels with a fault, and their neighbours without ---- */
__global__ void half_ends_early(int *, const int *)
{
    if (threadIdx.x < 16)
        __syncthreads();
    else
        __syncwarp(0xFFFF0000);
}
__global__ void two_barriers(int *, const int *)
{
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncthreads();
}
__global__ void half_shuffles(int *p, const int *)
{
    if (threadIdx.x < 16) *p = __shfl_sync(~0u, 1, 0);
}
__global__ void two_places(int *p, const int *)
{
    if (threadIdx.x & 1)
        *p = __shfl_sync(~0u, 1, 0);
    else
        *p = __shfl_sync(~0u, 1, 0);
}
__global__ void foreign_mask(int *p, const int *) { *p = __shfl_sync(1u, 1, 0); }
__global__ void writes_beyond(int *p, const int *) { p[threadIdx.x] = 1; }
__global__ void writes_misaligned(int *p, const int *)
{
    if (threadIdx.x == 0) *(uint4 *)(p + 1) = make_uint4(0, 0, 0, 0);
}
__global__ void writes_beyond_shared(int *p, const int *)
{
    TS_SHARED(s);
    ((int *)s)[threadIdx.x] = 1;
    __syncthreads();
    p[0] = 0;
}
__global__ void reads_unwritten(int *p, const int *)
{
    TS_SHARED(s);
    p[threadIdx.x] = ((int *)s)[threadIdx.x];
}
__global__ void races(int *p, const int *)
{
    TS_SHARED(s);
    int t = (int)threadIdx.x;
    ((int *)s)[t] = t;
    p[t] = ((int *)s)[t & ~1];
}
__global__ void waits_for_warp(int *p, const int *)
{
    TS_SHARED(s);
    int t = (int)threadIdx.x;
    ((int *)s)[t] = t;
    __syncwarp();
    p[t] = ((int *)s)[t ^ 1];
}
__global__ void waits_for_warp_only(int *p, const int *)
{
    TS_SHARED(s);
    int t = (int)threadIdx.x;
    ((int *)s)[t] = t;
    __syncwarp();
    if (t >= 32) p[t] = ((int *)s)[t - 32];
}
__global__ void overwrites_readers(int *p, const int *)
{
    TS_SHARED(s);
    int t = (int)threadIdx.x;
    ((int *)s)[t] = t;
    __syncthreads();
    p[t] = ((int *)s)[(t + 1) % 64];
    ((int *)s)[t] = 0;
}
__global__ void races_in_static(int *p, const int *)
{
    __shared__ int s[64];
    int t = (int)threadIdx.x;
    s[t] = t;
    p[t] = s[t & 31];
}
__global__ void blocks_race(int *p, const int *)
{
    if (threadIdx.x == 0) p[0] += 1;
}
__global__ void blocks_add(int *p, const int *) { atomicAdd(p, 1); }
__global__ void adds_to_nothing(int *, const int *)
{
    TS_SHARED(s);
    atomicAdd((int *)s, 1);
}
__global__ void reads_copy_early(int *p, const int *q)
{
    TS_SHARED(s);
    ts_cp16(s, q, 16);
    ts_cp_commit();
    p[0] = *(int *)s;
    ts_cp_wait<0>();
}
__global__ void leaves_copy(int *, const int *q)
{
    TS_SHARED(s);
    ts_cp16(s, q, 16);
    ts_cp_commit();
}
__global__ void copies_without_barrier(int *p, const int *q)
{
    TS_SHARED(s);
    int t = (int)threadIdx.x;
    ts_cp16(s + 16 * t, q + 4 * t, 16);
    ts_cp_commit();
    ts_cp_wait<0>();
    p[t] = ((int *)s)[4 * (t & ~1)];
}
__global__ void copies_misaligned(int *, const int *q)
{
    TS_SHARED(s);
    ts_cp16(s, q + 1, 16);
    ts_cp_commit();
    ts_cp_wait<0>();
}
__global__ void counts_groups(int *p, const int *q)
{
    TS_SHARED(s);
    ts_cp16(s, q, 16);
    ts_cp_commit();
    ts_cp16(s + 16, q + 4, 16);
    ts_cp_commit();
    ts_cp_wait<1>();
    p[0] = *(int *)s; /* the first has come, the second not */
    ts_cp_wait<0>();
    p[1] = *(int *)(s + 16);
}
__global__ void reads_host(int *p, const int *q) { p[0] = **(const int *const *)q; }

struct fault {
    const char *name;
    void (*kernel)(int *, const int *);
    unsigned blocks, threads;
    size_t shared;
    const char *words; /* of the finding in the forward order; "" nothing may be found in any */
};
#define FAULT(kernel, blocks, threads, shared, words)   \
    {                                                   \
#kernel, kernel, blocks, threads, shared, words \
    }
static const fault faults[] = {
    FAULT(half_ends_early, 1, 32, 0, ""), /* legal */
    FAULT(two_barriers, 1, 64, 0, "wait for each other"),
    FAULT(half_shuffles, 1, 32, 0, "wait for each other"),
    FAULT(two_places, 1, 32, 0, "wait in __shfl_sync"),
    FAULT(foreign_mask, 1, 32, 0, "not in its mask"),
    FAULT(writes_beyond, 1, 128, 0, "bytes 256 to 259 of device memory of 256"),
    FAULT(writes_misaligned, 1, 32, 0, "not aligned"),
    FAULT(writes_beyond_shared, 1, 64, 128, "of shared memory of 128"),
    FAULT(reads_unwritten, 1, 32, 256, "nobody has written"),
    FAULT(races, 1, 32, 256, "no barrier between"),
    FAULT(waits_for_warp, 1, 32, 256, ""),
    FAULT(waits_for_warp_only, 1, 64, 256, "no barrier between"),
    FAULT(overwrites_readers, 1, 64, 256, "still reads: no barrier between"),
    FAULT(races_in_static, 1, 64, 0, "no barrier between"),
    FAULT(blocks_race, 2, 32, 0, "another block"),
    FAULT(blocks_add, 2, 32, 0, ""),
    FAULT(adds_to_nothing, 1, 1, 16, "nobody has written"),
    FAULT(reads_copy_early, 1, 1, 256, "no wait"),
    FAULT(leaves_copy, 1, 1, 256, "nobody has waited for"),
    FAULT(copies_without_barrier, 1, 32, 512, "no barrier between"),
    FAULT(copies_misaligned, 1, 1, 256, "not aligned"),
    FAULT(counts_groups, 1, 1, 256, ""),
    FAULT(reads_host, 1, 1, 0, "neither shared nor the device's"),
};
enum { FAULTS = sizeof faults / sizeof *faults };

START_TEST(fault_is_found)
{
    const fault *f = faults + _i;
    static const int host =
        1; /* constants of the program are a kernel's to read, and its stack's not */
    int here[4] = {host, host, host, host};
    std::vector<int> numbers(256, 7);
    const int *outside = here;
    if (f->kernel == reads_host) memcpy(numbers.data(), &outside, sizeof outside);
    int *p = test_take<int>(64), *q = test_give(numbers);
    ck_cuda(cudaMemsetAsync(p, 0, 256, test_stream()));
    for (int order = 0; order < TEST_ORDERS; order++) {
        test_order(order);
        TS_LAUNCH(f->kernel, f->blocks, f->threads, f->shared, test_stream(), p, q);
        std::string found = test_found();
        const char *words = order ? "" : f->words;
        bool fine = *f->words ? !found.empty() && found.find(words) != std::string::npos
                              : found.empty();
        ck_assert_msg(fine, "%s, order %d: \"%s\"", f->name, order, found.c_str());
    }
}
END_TEST

START_TEST(impossible_launches_are_refused)
{
    int *p = test_take<int>(64);
    const cudaError_t refused = cudaErrorInvalidValue;
    auto launch = [&](unsigned blocks, unsigned threads, size_t shared) {
        return TS_LAUNCH(reads_unwritten, blocks, threads, shared, test_stream(), p, p);
    };
    ck_assert_int_eq(launch(1, 1, 50000), refused); /* more than 48 KB must be asked for */
    ck_cuda(cudaFuncSetAttribute((const void *)reads_unwritten,
                                 cudaFuncAttributeMaxDynamicSharedMemorySize, 50000));
    ck_assert_int_eq(launch(1, 1, 50001), refused);
    ck_assert_int_eq(launch(1, 1025, 0), refused);
    ck_assert_int_eq(launch(0, 1, 0), refused);
    ck_assert_int_eq(TS_LAUNCH(reads_unwritten, dim3(1, 65536), 1, 0, test_stream(), p, p),
                     refused);
    ck_assert_int_eq(TS_LAUNCH(reads_unwritten, 1, 1, 0, NULL, p, p),
                     cudaErrorInvalidResourceHandle);
    ck_assert_int_eq(cudaFuncSetAttribute((const void *)reads_unwritten,
                                          cudaFuncAttributeMaxDynamicSharedMemorySize, 1 << 20),
                     refused);
    ck_well("launch");
}
END_TEST

START_TEST(failed_kernel_breaks_the_device)
{
    int *p = test_take<int>(64);
    TS_LAUNCH(writes_beyond, 1, 128, 0, test_stream(), p, p);
    ck_assert_int_eq(cudaStreamSynchronize(test_stream()), cudaErrorLaunchFailure);
    void *more;
    ck_assert_int_eq(cudaMalloc(&more, 16), cudaErrorLaunchFailure);
    ck_assert_int_eq(cudaGetLastError(), cudaErrorLaunchFailure);
    ck_assert_int_eq(cudaGetLastError(), cudaErrorLaunchFailure); /* it sticks */
    ck_assert(strstr(emu_error(), "writes_beyond"));
    ck_cuda(cudaMalloc(&more, 16));
    ck_cuda(cudaFree(more));
}
END_TEST

/* ---- the host's side ---- */
__global__ void add_up(int *sum, const int *p) { atomicAdd(sum, p[threadIdx.x]); }
__global__ void double_all(int *p, const int *) { p[threadIdx.x] *= 2; }

START_TEST(events_order_streams)
{
    void *v;
    int *p = test_take<int>(32);
    cudaStream_t other;
    cudaEvent_t e, f;
    ck_cuda(cudaHostAlloc(&v, 128, cudaHostAllocDefault));
    int *pinned = (int *)v;
    ck_cuda(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
    ck_cuda(cudaEventCreate(&e));
    ck_cuda(cudaEventCreate(&f));
    for (int i = 0; i < 32; i++) pinned[i] = i + 1;
    ck_cuda(cudaMemcpyAsync(p, pinned, 128, cudaMemcpyHostToDevice, test_stream()));
    ck_cuda(TS_LAUNCH(double_all, 1, 32, 0, test_stream(), p, p));
    ck_cuda(cudaEventRecord(e, test_stream()));
    ck_cuda(cudaStreamWaitEvent(other, e, 0));
    ck_cuda(cudaMemcpyAsync(pinned, p, 128, cudaMemcpyDeviceToHost, other));
    ck_cuda(cudaEventRecord(f, other));
    ck_assert_int_eq(pinned[3], 4); /* nothing has come before somebody waits */
    float ms;
    ck_assert_int_eq(cudaEventElapsedTime(&ms, e, f), cudaErrorNotReady);
    ck_assert_int_eq(cudaEventQuery(f), cudaErrorNotReady);
    ck_cuda(cudaEventSynchronize(f));
    ck_assert_int_eq(pinned[3], 8);
    ck_cuda(cudaEventElapsedTime(&ms, e, f));
    ck_assert(ms >= 0);
    ck_cuda(cudaEventQuery(f));
    ck_cuda(cudaStreamQuery(other));
    /* a buffer that is reused before it was read shows */
    ck_cuda(cudaMemcpyAsync(p, pinned, 128, cudaMemcpyHostToDevice, test_stream()));
    pinned[3] = 1000;
    ck_assert_int_eq(test_fetch(p, 32)[3], 1000);
    ck_cuda(cudaFreeHost(pinned));
    ck_cuda(cudaStreamDestroy(other));
    ck_cuda(cudaEventDestroy(e));
    ck_cuda(cudaEventDestroy(f));
}
END_TEST

/* Two streams and a slot that one fills and the other reads, in turns: with every event that it
 * takes, and with one of them left out. */
enum { WITHOUT_COPY, WITHOUT_READER, ALL_EVENTS };
static std::string fill_and_read(int missing, int order)
{
    void *v;
    int *slot = test_take<int>(32), *sum = test_give(std::vector<int>(1, 0));
    cudaStream_t copies;
    cudaEvent_t copied, read;
    test_order(order);
    ck_cuda(cudaHostAlloc(&v, 128, cudaHostAllocDefault));
    memset(v, 0, 128);
    ck_cuda(cudaStreamCreateWithFlags(&copies, cudaStreamNonBlocking));
    ck_cuda(cudaEventCreateWithFlags(&copied, cudaEventDisableTiming));
    ck_cuda(cudaEventCreateWithFlags(&read, cudaEventDisableTiming));
    for (int i = 0; i < 3; i++) {
        if (i && missing != WITHOUT_READER) cudaStreamWaitEvent(copies, read, 0);
        cudaMemcpyAsync(slot, v, 128, cudaMemcpyHostToDevice, copies);
        cudaEventRecord(copied, copies);
        if (missing != WITHOUT_COPY) cudaStreamWaitEvent(test_stream(), copied, 0);
        TS_LAUNCH(add_up, 1, 32, 0, test_stream(), sum, slot);
        cudaEventRecord(read, test_stream());
    }
    cudaDeviceSynchronize();
    std::string found = test_found();
    ck_cuda(cudaStreamDestroy(copies));
    ck_cuda(cudaEventDestroy(copied));
    ck_cuda(cudaEventDestroy(read));
    ck_cuda(cudaFreeHost(v));
    return found;
}
START_TEST(streams_race_without_events)
{
    for (int order = 0; order < 2; order++) {
        std::string found = fill_and_read(ALL_EVENTS, order);
        ck_assert_msg(found.empty(), "%s", found.c_str());
        found = fill_and_read(WITHOUT_READER, order);
        ck_assert_msg(found.find("another stream reads: no event") != std::string::npos, "%s",
                      found.c_str());
        found = fill_and_read(WITHOUT_COPY, order);
        ck_assert_msg(!found.empty(), "not found");
    }
}
END_TEST
/* What the host has waited for comes before all that it queues then. */
START_TEST(host_orders_streams_by_waiting)
{
    int *p = test_take<int>(32);
    cudaStream_t other;
    ck_cuda(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
    for (int waits = 1; waits >= 0; waits--) {
        ck_cuda(cudaMemsetAsync(p, 0, 128, test_stream()));
        if (waits) ck_cuda(cudaStreamSynchronize(test_stream()));
        cudaMemsetAsync(p, 0, 128, other);
        cudaDeviceSynchronize();
        std::string found = test_found();
        ck_assert_msg(waits ? found.empty() : found.find("another stream") != std::string::npos,
                      "%d: %s", waits, found.c_str());
    }
    ck_cuda(cudaStreamDestroy(other));
}
END_TEST

/* The host's loads from the device's memory end its process, with a sentence. */
START_TEST(load_by_the_host_is_a_fault)
{
    emu_options o = {};
    o.guard = 1;
    volatile int *p = test_give(std::vector<int>(32, 1));
    TS_LAUNCH(blocks_add, 1, 1, 0, test_stream(), (int *)p, (int *)p);
    ck_well("launch");
    emu_set(o);
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        int null = open("/dev/null", O_WRONLY);
        dup2(null, 2);
        _exit(p[0]);
    }
    int status = 0;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 139, "status %x", status);
}
END_TEST

struct addition {
    int *p, n;
};
static void add_hundred(void *v)
{
    addition *a = (addition *)v;
    size_t bytes = (size_t)a->n * sizeof(int);
    if (!emu_device_ptr(a->p, bytes)) return;
    for (int i = 0; i < a->n; i++) a->p[i] += 100;
    emu_device_wrote(a->p, bytes);
}
START_TEST(stand_in_of_a_library_keeps_its_place)
{
    int *p = test_take<int>(32);
    addition a = {p, 32};
    ck_cuda(cudaMemsetAsync(p, 0, 128, test_stream()));
    ck_cuda(TS_LAUNCH(blocks_add, 1, 32, 0, test_stream(), p, p));
    emu_enqueue(test_stream(), "a library's stand-in", add_hundred, &a, sizeof a);
    ck_cuda(TS_LAUNCH(double_all, 1, 32, 0, test_stream(), p, p));
    a.n = 0; /* it was copied */
    std::vector<int> t = test_fetch(p, 2);
    ck_assert_int_eq(t[0], 264);
    ck_assert_int_eq(t[1], 200);
}
END_TEST

START_TEST(graph_is_replayed)
{
    cudaGraph_t g;
    cudaGraphExec_t x;
    void *none;
    int *p = test_take<int>(32), local = 0;
    ck_cuda(cudaMemsetAsync(p, 0, 128, test_stream()));
    ck_cuda(cudaStreamBeginCapture(test_stream(), cudaStreamCaptureModeThreadLocal));
    ck_cuda(TS_LAUNCH(blocks_add, 1, 32, 0, test_stream(), p, p));
    /* no waiting, allocating or copying from pageable memory meanwhile */
    ck_assert_int_eq(cudaStreamSynchronize(test_stream()), cudaErrorStreamCaptureUnsupported);
    ck_assert_int_eq(cudaMalloc(&none, 16), cudaErrorStreamCaptureUnsupported);
    ck_assert_int_eq(cudaMemcpyAsync(p, &local, 4, cudaMemcpyHostToDevice, test_stream()),
                     cudaErrorStreamCaptureUnsupported);
    ck_cuda(cudaStreamEndCapture(test_stream(), &g));
    ck_cuda(cudaGraphInstantiate(&x, g, 0));
    ck_cuda(cudaGraphDestroy(g));
    for (int i = 0; i < 3; i++) ck_cuda(cudaGraphLaunch(x, test_stream()));
    ck_assert_int_eq(test_fetch(p, 1)[0], 96);
    ck_cuda(cudaGraphExecDestroy(x));
}
END_TEST

START_TEST(failures_come_on_demand)
{
    void *none;
    int n;
    emu_options o = {};
    o.fail_after = 2;
    o.memory = 4096;
    emu_set(o);
    ck_cuda(cudaSetDevice(0));
    ck_assert_int_eq(cudaSetDevice(0), cudaErrorLaunchFailure);
    ck_cuda(cudaSetDevice(0)); /* once */
    ck_assert_int_eq(cudaMalloc(&none, 1 << 20), cudaErrorMemoryAllocation);
    ck_assert_ptr_null(none);
    o.fail_after = 1;
    o.fail_with = cudaErrorMemoryAllocation;
    emu_set(o);
    ck_assert_int_eq(cudaMalloc(&none, 16), cudaErrorMemoryAllocation);
    o = {};
    o.devices = -1;
    emu_set(o);
    ck_assert_int_eq(cudaGetDeviceCount(&n), cudaErrorNoDevice);
    o.devices = -2;
    emu_set(o);
    ck_assert_int_eq(cudaGetDeviceCount(&n), cudaErrorInsufficientDriver);
    ck_assert_int_eq(n, 0);
}
END_TEST

START_TEST(memory_is_the_devices_alone)
{
    int *p = test_take<int>(32);
    emu_options o = {};
    o.late = 1;
    o.guard = 1; /* a load by the host is a fault of the machine: this program would end */
    emu_set(o);
    ck_cuda(cudaMemsetAsync(p, 0, 128, test_stream()));
    ck_cuda(TS_LAUNCH(blocks_add, 1, 32, 0, test_stream(), p, p));
    ck_assert_int_eq(test_fetch(p, 1)[0], 32);
}
END_TEST

START_TEST(handles_are_counted)
{
    void *p, *h;
    cudaEvent_t e;
    long before = emu_open_handles();
    ck_cuda(cudaMalloc(&p, 16));
    ck_cuda(cudaHostAlloc(&h, 16, cudaHostAllocDefault));
    ck_cuda(cudaEventCreateWithFlags(&e, cudaEventDisableTiming));
    ck_assert_int_eq(emu_open_handles(), before + 3);
    ck_cuda(cudaFree(p));
    ck_cuda(cudaFreeHost(h));
    ck_cuda(cudaEventDestroy(e));
    ck_assert_int_eq(emu_open_handles(), before);
    ck_assert_int_eq(cudaFree(p), cudaErrorInvalidValue); /* twice */
    cudaGetLastError();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("emu");
    TCase *c = tcase_create("faults");
    tcase_add_checked_fixture(c, test_order_default, test_release);
    tcase_add_loop_test(c, fault_is_found, 0, FAULTS);
    tcase_add_test(c, impossible_launches_are_refused);
    tcase_add_test(c, failed_kernel_breaks_the_device);
    suite_add_tcase(s, c);
    c = tcase_create("host");
    tcase_add_checked_fixture(c, test_order_default, test_release);
    tcase_add_test(c, events_order_streams);
    tcase_add_test(c, streams_race_without_events);
    tcase_add_test(c, host_orders_streams_by_waiting);
    tcase_add_test(c, load_by_the_host_is_a_fault);
    tcase_add_test(c, stand_in_of_a_library_keeps_its_place);
    tcase_add_test(c, graph_is_replayed);
    tcase_add_test(c, failures_come_on_demand);
    tcase_add_test(c, memory_is_the_devices_alone);
    tcase_add_test(c, handles_are_counted);
    suite_add_tcase(s, c);
    return testing_main(s);
}
