/* Which device a context computes on. The only file above backend/cpu that knows it. */
#include "backend/device.h"

#include "backend/cpu/cpu.h"

#include <string.h>

ts_status ts_device_open(ts_device_options o, const ts_env *env, ts_err *err, ts_device **out)
{
    const char *kind = o.kind ? o.kind : "auto";
    *out = NULL;
    if (!strcmp(kind, "auto") || !strcmp(kind, "cpu")) return ts_cpu_open(o, env, err, out);
    if (!strcmp(kind, "cuda") || !strncmp(kind, "cuda:", 5))
        return ts_fail(err, TS_EDEVICE, "device %s: this program was built without CUDA", kind);
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
