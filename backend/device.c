/* Which device a context computes on. The only file above backend/cpu and backend/cuda that
 * knows them. */
#include "backend/device.h"

#include "backend/cpu/cpu.h"
#include "backend/cpu/limits.h"
#ifdef TS_CUDA
#include "backend/cuda/open.h"
#endif

#include <string.h>

int ts_device_cpus(void) { return ts_limit_threads(); }

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
