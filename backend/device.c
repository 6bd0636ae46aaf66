/* Which device a context computes on. The only file above backend/cpu and backend/cuda that
 * knows them. */
#include "backend/device.h"

#include "backend/cpu/cpu.h"
#include "backend/cpu/limits.h"
#include "backend/number.h"
#ifdef TS_CUDA
#include "backend/cuda/open.h"
#endif

#include <string.h>

int ts_device_cpus(void) { return ts_limit_threads(); }

size_t ts_device_resident(void) { return ts_limit_resident(); }

/* Stacks and arenas of threads (of OpenMP and of the movie encoder), generated code. Measured: a
 * run of the default model on two threads takes 220 MB beside what it was counted to take. */
ts_status ts_device_room(ts_device *d, size_t *bytes)
{
    enum { EACH = 192 << 20, THREAD = 32 << 20 };
    size_t room = ts_limit_address_room(),
           need = (size_t)EACH + (size_t)ts_facts(d).threads * (size_t)THREAD;
    char left[TS_NUMBER_TEXT], least[TS_NUMBER_TEXT];
    *bytes = room;
    if (room == SIZE_MAX || d->own_memory) return TS_OK;
    *bytes = room < need ? 0 : room - need;
    if (*bytes) return TS_OK;
    return ts_fail(d->err, TS_EMEMORY,
                   "the address space is limited (ulimit -v): %s of it are left beside the program "
                   "and the weights, threads and libraries alone need %s",
                   ts_bytes_text((double)room, left), ts_bytes_text((double)need, least));
}

#ifdef TS_CUDA
bool ts_device_has_cuda(void) { return true; }

static ts_status open_cuda(ts_device_options o, const ts_env *env, ts_err *err, ts_device **out)
{
    return ts_cuda_open(o, env, err, out);
}
#else
bool ts_device_has_cuda(void) { return false; }

static ts_status open_cuda(ts_device_options o, const ts_env *env, ts_err *err, ts_device **out)
{
    (void)env;
    *out = NULL;
    return ts_fail(err, TS_EDEVICE,
                   "device %s: this program was built without CUDA (make CUDA=1 builds it with)",
                   o.kind ? o.kind : "auto");
}
#endif

/* The GPU, where there is one that works; else the CPU, which says why if that may surprise. */
static ts_status open_best(ts_device_options o, const ts_env *env, ts_err *err, ts_device **out)
{
#ifdef TS_CUDA
    ts_err why = {0};
    if (!o.level && ts_cuda_present()) {
        o.kind = "cuda";
        if (!ts_cuda_open(o, env, &why, out)) {
            (*out)->err = err;
            return TS_OK;
        }
        if (env && env->warn) env->warn(env->user, why.text);
    }
#endif
    return ts_cpu_open(o, env, err, out);
}

ts_status ts_device_open(ts_device_options o, const ts_env *env, ts_err *err, ts_device **out)
{
    const char *kind = o.kind ? o.kind : "auto";
    *out = NULL;
    if (!strcmp(kind, "auto")) return open_best(o, env, err, out);
    if (!strcmp(kind, "cpu")) return ts_cpu_open(o, env, err, out);
    if (!strcmp(kind, "cuda") || !strncmp(kind, "cuda:", 5)) return open_cuda(o, env, err, out);
    return ts_fail(err, TS_EUSAGE, "device %s: must be auto, cpu, cuda or cuda:NUMBER", kind);
}

void ts_device_close(ts_device *d)
{
    if (d) d->ops->close(d);
}

ts_device_facts ts_facts(ts_device *d)
{
    ts_device_facts f;
    d->ops->facts(d, &f);
    return f;
}
