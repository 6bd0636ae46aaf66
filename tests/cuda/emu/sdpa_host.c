/* The twin of tests/cuda/bench/bench_sdpa.c for the emulated device: the device's own kernel. */
#include "tests/cuda/bench/bench.h"

#include <stdlib.h>

struct bench_sdpa {
    ts_device *dev;
    ts_attention a;
};

bench_sdpa *bench_sdpa_open(bench *b, const ts_attention *a, char *why, size_t size)
{
    bench_sdpa *s = malloc(sizeof *s);
    if (!s) {
        snprintf(why, size, "no memory");
        return NULL;
    }
    *s = (bench_sdpa){b->device, *a};
    return s;
}
ts_status bench_sdpa_run(bench_sdpa *s, ts_err *err)
{
    (void)err;
    return ts_attention_op(s->dev, s->a);
}
void bench_sdpa_close(bench_sdpa *s) { free(s); }
