/* The host's calls: streams as queues, events as places in them, graphs as kept queues. */
#include "emu.h"

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <map>
#include <memory>
#include <set>
#include <vector>

namespace
{
struct work {
    const char *what;
    std::function<bool()> run;
    emu_known host = {}; /* what the host had waited for when it queued it */
};
struct moment { /* of an event's last record */
    emu_stream *on = nullptr;
    long place = 0;
    double seconds = -1; /* when it came; < 0: not yet */
    emu_known known = {};
};
const long ALL = 1L << 62;
} /* namespace */
struct emu_stream {
    std::deque<work> todo;
    emu_graph *capture;
    long done;
    int id;
    emu_known known; /* of this and other streams, by what runs next */
};
struct emu_event {
    std::shared_ptr<moment> at;
    bool timed;
};
struct emu_graph {
    std::vector<work> list;
};

cudaError_t emu_sticky;
static cudaError_t last;
static size_t used;
static int depth; /* of work in progress: the device's memory is open */
static long events, graphs, allocations;
static std::set<emu_stream *> streams;
static int stream_ids;
static emu_known host_known;
static std::map<char *, size_t> pinned; /* by end */
static std::map<const void *, int> shared_limit;

static size_t memory_size(void) { return emu_opt.memory ? emu_opt.memory : (size_t)8 << 30; }
static int most_shared(void) { return emu_opt.shared ? emu_opt.shared : 101376; }
static int device_count(void)
{
    return emu_opt.devices < 0 ? 0 : emu_opt.devices ? emu_opt.devices : 1;
}
static cudaError_t answer(cudaError_t e)
{
    if (e) last = e;
    return e;
}
/* Of every call that may fail: failures on demand, then what broke the device. */
static cudaError_t begin_call(void)
{
    emu_count.calls++;
    if (emu_opt.fail_after > 0 && --emu_opt.fail_after == 0)
        return answer(emu_opt.fail_with ? (cudaError_t)emu_opt.fail_with : cudaErrorLaunchFailure);
    return answer(emu_sticky);
}
#define CALL()                            \
    do {                                  \
        cudaError_t call_ = begin_call(); \
        if (call_) return call_;          \
    } while (0)

void emu_set(emu_options o)
{
    if (emu_opt.guard && !o.guard) emu_memory_guard(true);
    emu_opt = o;
    if (o.guard) emu_memory_guard(false);
}
emu_stats emu_stats_read(int reset)
{
    emu_stats s = emu_count;
    if (reset) emu_count = {};
    return s;
}
long emu_open_handles(void)
{
    return (long)streams.size() + (long)pinned.size() + events + graphs + allocations;
}

/* ---- streams ---- */
static void learn(emu_known *to, const emu_known &from)
{
    for (auto &k : from) {
        long &place = (*to)[k.first];
        place = std::max(place, k.second);
    }
}
static void open_memory(void)
{
    if (depth++ == 0 && emu_opt.guard) emu_memory_guard(true);
}
static void close_memory(void)
{
    if (--depth == 0 && emu_opt.guard) emu_memory_guard(false);
}

static void drain(emu_stream *s, long until) /* places below `until` */
{
    open_memory();
    while (!s->todo.empty() && s->done < until) {
        work w = std::move(s->todo.front());
        s->todo.pop_front();
        s->known[s->id] = ++s->done;
        learn(&s->known, w.host);
        emu_work_begin(s->id, s->done, &s->known);
        if (!emu_sticky && !w.run()) emu_sticky = cudaErrorLaunchFailure;
    }
    close_memory();
}
static void wait_for(emu_stream *s)
{
    drain(s, ALL);
    learn(&host_known, s->known);
}
/* In the order in which they were made: where they lie differs from program to program. */
static void drain_all(void)
{
    std::vector<emu_stream *> all(streams.begin(), streams.end());
    std::sort(all.begin(), all.end(),
              [](const emu_stream *a, const emu_stream *b) { return a->id < b->id; });
    for (emu_stream *s : all) wait_for(s);
}

static cudaError_t queue_work(emu_stream *s, work w)
{
    /* the default stream waits for all others: a backend has no use for it */
    if (!s || !streams.count(s)) return answer(cudaErrorInvalidResourceHandle);
    w.host = host_known;
    if (s->capture) {
        s->capture->list.push_back(std::move(w));
    } else {
        s->todo.push_back(std::move(w));
        if (!emu_opt.late) drain(s, ALL);
    }
    return answer(emu_sticky);
}
static bool is_capturing(void)
{
    for (emu_stream *s : streams)
        if (s->capture) return true;
    return false;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags)
{
    CALL();
    if (flags != cudaStreamNonBlocking) return answer(cudaErrorInvalidValue);
    *s = new emu_stream{{}, nullptr, 0, ++stream_ids, {}};
    streams.insert(*s);
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    if (!streams.count(s)) return answer(cudaErrorInvalidResourceHandle);
    wait_for(s); /* the real one does not wait: its work is done some time */
    streams.erase(s);
    delete s;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    CALL();
    if (!streams.count(s)) return answer(cudaErrorInvalidResourceHandle);
    if (s->capture) return answer(cudaErrorStreamCaptureUnsupported);
    wait_for(s);
    return answer(emu_sticky);
}
/* Whoever asks again and again gets somewhere: a step of the queue is done each time. */
cudaError_t cudaStreamQuery(cudaStream_t s)
{
    CALL();
    if (!streams.count(s)) return answer(cudaErrorInvalidResourceHandle);
    if (s->capture) return answer(cudaErrorStreamCaptureUnsupported);
    if (s->todo.empty()) {
        learn(&host_known, s->known);
        return answer(emu_sticky);
    }
    drain(s, s->done + 1);
    return cudaErrorNotReady;
}
cudaError_t cudaDeviceSynchronize(void)
{
    CALL();
    if (is_capturing()) return answer(cudaErrorStreamCaptureUnsupported);
    drain_all();
    return answer(emu_sticky);
}

/* ---- events ---- */
static double read_clock(void)
{
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags)
{
    CALL();
    *e = new emu_event{nullptr, !(flags & cudaEventDisableTiming)};
    events++;
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *e) { return cudaEventCreateWithFlags(e, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    if (!e) return answer(cudaErrorInvalidResourceHandle);
    delete e;
    events--;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
    CALL();
    if (!e || !streams.count(s)) return answer(cudaErrorInvalidResourceHandle);
    if (s->capture) return answer(cudaErrorStreamCaptureUnsupported); /* the real one may */
    auto m = std::make_shared<moment>();
    m->on = s;
    m->place = s->done + (long)s->todo.size() + 1;
    e->at = m;
    return queue_work(s, {"event", [m, s] {
                              m->seconds = read_clock();
                              m->known = s->known;
                              return true;
                          }});
}
static void reach(const moment *m)
{
    if (m && m->seconds < 0 && streams.count(m->on)) drain(m->on, m->place);
}
cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    CALL();
    if (is_capturing()) return answer(cudaErrorStreamCaptureUnsupported);
    reach(e->at.get());
    if (e->at) learn(&host_known, e->at->known);
    return answer(emu_sticky);
}
cudaError_t cudaEventQuery(cudaEvent_t e)
{
    CALL();
    if (!e->at || e->at->seconds >= 0) {
        if (e->at) learn(&host_known, e->at->known);
        return answer(emu_sticky);
    }
    if (streams.count(e->at->on)) drain(e->at->on, e->at->on->done + 1);
    return cudaErrorNotReady;
}
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
    CALL();
    if (!from->timed || !to->timed || !from->at || !to->at)
        return answer(cudaErrorInvalidResourceHandle);
    if (from->at->seconds < 0 || to->at->seconds < 0) return answer(cudaErrorNotReady);
    *ms = (float)(1e3 * (to->at->seconds - from->at->seconds));
    return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned)
{
    CALL();
    auto m = e->at; /* as it is now */
    return queue_work(s, {"wait", [m, s] {
                              reach(m.get());
                              if (m) learn(&s->known, m->known);
                              return true;
                          }});
}

/* ---- memory ---- */
cudaError_t cudaMalloc(void **p, size_t n)
{
    CALL();
    *p = nullptr;
    if (is_capturing()) return answer(cudaErrorStreamCaptureUnsupported);
    if (!n) return cudaSuccess;
    if (n > memory_size() || used > memory_size() - n || !(*p = emu_memory_take(n)))
        return answer(cudaErrorMemoryAllocation);
    used += n;
    allocations++;
    if (emu_opt.guard) emu_memory_guard(depth > 0);
    return cudaSuccess;
}
cudaError_t cudaFree(void *p)
{
    size_t n;
    if (!p) return cudaSuccess;
    drain_all(); /* as the real one, it waits */
    if (!emu_memory_give(p, &n)) return answer(cudaErrorInvalidValue);
    used -= n;
    allocations--;
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *free, size_t *total)
{
    CALL();
    *free = memory_size() > used ? memory_size() - used : 0;
    *total = memory_size();
    return cudaSuccess;
}
cudaError_t cudaHostAlloc(void **p, size_t n, unsigned)
{
    CALL();
    *p = aligned_alloc(4096, (n + 4095) / 4096 * 4096);
    if (!*p) return answer(cudaErrorMemoryAllocation);
    pinned[(char *)*p + n] = n;
    return cudaSuccess;
}
cudaError_t cudaMallocHost(void **p, size_t n) { return cudaHostAlloc(p, n, 0); }
cudaError_t cudaFreeHost(void *p)
{
    if (!p) return cudaSuccess;
    drain_all();
    for (auto i = pinned.begin(); i != pinned.end(); ++i) {
        if (i->first - i->second != p) continue;
        pinned.erase(i);
        free(p);
        return cudaSuccess;
    }
    return answer(cudaErrorInvalidValue);
}
static bool is_pinned(const void *p, size_t n)
{
    auto i = pinned.lower_bound((char *)p + n);
    return i != pinned.end() && i->first - i->second <= (const char *)p;
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n, enum cudaMemcpyKind kind,
                            cudaStream_t s)
{
    CALL();
    const bool both = kind == cudaMemcpyDeviceToDevice;
    const bool in = kind == cudaMemcpyHostToDevice || both;
    const bool out = kind == cudaMemcpyDeviceToHost || both;
    if (!n) return cudaSuccess;
    if ((in && !emu_memory_holds(to, n)) || (out && !emu_memory_holds(from, n)))
        return answer(cudaErrorInvalidValue);
    if ((in && !out && emu_memory_holds(from, 1)) || (out && !in && emu_memory_holds(to, 1)))
        return answer(cudaErrorInvalidValue);
    const bool pageable = in != out && !is_pinned(in ? from : to, n);
    if (pageable && s && streams.count(s) && s->capture)
        return answer(cudaErrorStreamCaptureUnsupported);
    cudaError_t e = queue_work(s, {"copy", [=] {
                                       if (out && !emu_memory_reads("copy", from, n)) return false;
                                       if (in && !emu_memory_writes("copy", to, n)) return false;
                                       memmove(to, from, n);
                                       return true;
                                   }});
    if (!pageable || e) return e;
    /* the real one stages it, and comes back when the host's bytes may be used again */
    emu_count.pageable++;
    wait_for(s);
    return answer(emu_sticky);
}
cudaError_t cudaMemsetAsync(void *p, int v, size_t n, cudaStream_t s)
{
    CALL();
    if (!n) return cudaSuccess;
    if (!emu_memory_holds(p, n)) return answer(cudaErrorInvalidValue);
    return queue_work(s, {"fill", [=] {
                              if (!emu_memory_writes("fill", p, n)) return false;
                              memset(p, v, n);
                              return true;
                          }});
}

cudaError_t cudaLaunchHostFunc(cudaStream_t s, void (*f)(void *), void *user)
{
    CALL();
    return queue_work(s, {"host function", [=] {
                              f(user);
                              return true;
                          }});
}

/* ---- stand-ins of libraries ---- */
static bool twin_failed; /* a stand-in raced */
void *emu_device_ptr(const void *p, size_t n)
{
    if (depth <= 0 || !emu_memory_holds(p, n)) return nullptr;
    if (!emu_memory_reads("stand-in", p, n)) twin_failed = true;
    return (void *)p;
}
void emu_device_wrote(const void *p, size_t n)
{
    if (!emu_memory_writes("stand-in", p, n)) twin_failed = true;
}
void emu_enqueue(cudaStream_t s, const char *what, void (*run)(void *), const void *args, size_t n)
{
    std::vector<char> kept((const char *)args, (const char *)args + n);
    queue_work(s, {what, [kept, run]() mutable {
                       twin_failed = false;
                       run(kept.data());
                       return !twin_failed;
                   }});
}

/* ---- kernels, graphs ---- */
cudaError_t cudaFuncSetAttribute(const void *k, enum cudaFuncAttribute, int value)
{
    CALL();
    if (value > most_shared()) return answer(cudaErrorInvalidValue);
    shared_limit[k] = value;
    return cudaSuccess;
}
cudaError_t emu_launch_any(const char *name, const void *kernel, dim3 grid, dim3 block,
                           size_t shared, cudaStream_t s, void (*call)(const void *),
                           const void *params, size_t bytes)
{
    CALL();
    const unsigned long n = (unsigned long)block.x * block.y * block.z;
    if (n < 1 || n > 1024 || block.z > 64 || !grid.x || !grid.y || !grid.z || grid.y > 65535 ||
        grid.z > 65535 || grid.x > 2147483647u)
        return answer(cudaErrorInvalidValue);
    if (shared > 49152 && (!shared_limit.count(kernel) || shared_limit[kernel] < (int)shared))
        return answer(cudaErrorInvalidValue);
    std::vector<char> kept((const char *)params, (const char *)params + bytes);
    return queue_work(
        s,
        {name, [=] { return emu_run_grid(name, grid, block, shared, call, kept.data(), bytes); }});
}
cudaError_t cudaStreamBeginCapture(cudaStream_t s, enum cudaStreamCaptureMode)
{
    CALL();
    if (!streams.count(s)) return answer(cudaErrorInvalidResourceHandle);
    if (s->capture) return answer(cudaErrorStreamCaptureUnsupported);
    s->capture = new emu_graph{};
    graphs++;
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g)
{
    CALL();
    if (!s->capture) return answer(cudaErrorInvalidValue);
    *g = s->capture;
    s->capture = nullptr;
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *x, cudaGraph_t g, unsigned long long)
{
    CALL();
    *x = new emu_graph(*g);
    graphs++;
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t x, cudaStream_t s)
{
    CALL();
    for (work &w : x->list) queue_work(s, w);
    return answer(emu_sticky);
}
cudaError_t cudaGraphDestroy(cudaGraph_t g)
{
    delete g;
    graphs--;
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t g) { return cudaGraphDestroy(g); }

/* ---- the rest ---- */
cudaError_t cudaGetLastError(void)
{
    cudaError_t e = last;
    last = emu_sticky;
    return e;
}
cudaError_t cudaPeekAtLastError(void) { return last; }
cudaError_t cudaRuntimeGetVersion(int *v) { return *v = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaDriverGetVersion(int *v)
{
    *v = emu_opt.devices == -2 ? 0 : CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int *n)
{
    *n = device_count();
    if (*n) return cudaSuccess;
    return answer(emu_opt.devices == -2 ? cudaErrorInsufficientDriver : cudaErrorNoDevice);
}
cudaError_t cudaSetDevice(int i)
{
    CALL();
    return i < 0 || i >= device_count() ? answer(cudaErrorInvalidDevice) : cudaSuccess;
}
cudaError_t cudaGetDevice(int *i) { return *i = 0, cudaSuccess; }
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int i)
{
    CALL();
    if (i < 0 || i >= device_count()) return answer(cudaErrorInvalidDevice);
    *p = {"emulated", memory_size(), (size_t)most_shared(), 8, 9, 4, 1 << 20};
    if (emu_opt.major) {
        p->major = emu_opt.major;
        p->minor = emu_opt.minor;
    }
    if (emu_opt.processors) p->multiProcessorCount = emu_opt.processors;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *v, enum cudaDeviceAttr a, int i)
{
    struct cudaDeviceProp p;
    cudaError_t e = cudaGetDeviceProperties(&p, i);
    if (e) return e;
    switch (a) {
    case cudaDevAttrMultiProcessorCount: *v = p.multiProcessorCount; break;
    case cudaDevAttrComputeCapabilityMajor: *v = p.major; break;
    case cudaDevAttrComputeCapabilityMinor: *v = p.minor; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *v = most_shared(); break;
    default: return answer(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}
static const struct {
    cudaError_t code;
    const char *name, *text;
} names[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress",
     "an illegal memory access was encountered"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
};
const char *cudaGetErrorString(cudaError_t e)
{
    for (auto &n : names)
        if (n.code == e) return n.text;
    return "unrecognized error code";
}
const char *cudaGetErrorName(cudaError_t e)
{
    for (auto &n : names)
        if (n.code == e) return n.name;
    return "unrecognized error code";
}
