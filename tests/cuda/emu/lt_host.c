/* The twin of backend/cuda/cuda_lt.c on the host, for the emulated device: the same arguments,
 * which are the library's column-major ones, queued on the same stream. It refuses what cuBLASLt
 * refuses, and a bias of an odd number, so that products are finished both ways. */
#include "backend/cpu/ref.h"
#include "backend/cuda/cuda_lt.h"

#include <stdlib.h>

struct ts_lt {
    int nothing;
};

ts_status ts_lt_open(ts_err *err, ts_lt **out)
{
    *out = calloc(1, sizeof **out);
    return *out ? TS_OK : ts_fail(err, TS_EMEMORY, "no memory for the twin of cuBLASLt");
}
void ts_lt_close(ts_lt *lt) { free(lt); }
const char *ts_lt_version(const ts_lt *lt)
{
    (void)lt;
    return "products by the host";
}

/* Sums in eight parts, added in double: closer than a device's, which is what f32 bounds allow. */
static float dot_columns(const ts_lt_product *p, long row, long column)
{
    enum { PARTS = 8 };
    double all = 0;
    float part[PARTS] = {0};
    for (long k = 0; k < p->k; k++) {
        part[k % PARTS] += ts_load(p->a, p->in, row * p->lda + k) *
                           ts_load(p->b, p->in, column * p->ldb + k);
        if (k % 256 < 256 - PARTS) continue;
        all += (double)part[k % PARTS];
        part[k % PARTS] = 0;
    }
    for (int i = 0; i < PARTS; i++) all += (double)part[i];
    return (float)all;
}

static void run_product(void *args)
{
    const ts_lt_product *p = args;
    size_t size = ts_dtype_size(p->out);
    for (long j = 0; j < p->n; j++) {
        for (long i = 0; i < p->m; i++) {
            float x = dot_columns(p, i, j);
            if (p->bias) x += ts_load(p->bias, p->out, i);
            if (p->c) x += ts_load(p->c, p->out, j * p->ldc + i);
            if (p->gelu) x = ts_act_ref(TS_ACT_GELU_TANH, x);
            ts_store(p->d, p->out, j * p->ldd + i, x);
        }
        emu_device_wrote((char *)p->d + (size_t)(j * p->ldd) * size, (size_t)p->m * size);
    }
}

bool ts_lt_has(ts_lt *lt, const ts_lt_product *p)
{
    (void)lt;
    bool types = p->in == TS_BF16 ? p->out == TS_BF16 || p->out == TS_F32
                                  : p->in == TS_F32 && p->out == TS_F32;
    return types && !(p->bias && p->m % 2) && p->m > 0 && p->n > 0 && p->k > 0 && p->lda >= p->k &&
           p->ldb >= p->k && p->ldd >= p->m && !(p->c && p->ldc < p->m);
}

ts_status ts_lt_run(ts_lt *lt, ts_err *err, const ts_lt_product *p, void *workspace,
                    cudaStream_t stream)
{
    if (!ts_lt_has(lt, p) || !workspace)
        return ts_fail(err, TS_EDEVICE,
                       "products by the host: [%ld, %ld] and [%ld, %ld] is refused", p->n, p->k,
                       p->k, p->m);
    emu_enqueue(stream, "product", run_product, p, sizeof *p);
    return TS_OK;
}
