/* In place of backend/cpu/onednn.c and backend/host_product.c where oneDNN is not installed:
 * programs that run on a GPU are linked with it and open no CPU but that of level "ref". */
#include "backend/cpu/onednn.h"
#include "backend/host_product.h"

#include <stdio.h>

static ts_status refuse_onednn(ts_cpu *c)
{
    return ts_fail(c->dev.err, TS_EDEVICE, "this program was built without oneDNN");
}
ts_status ts_onednn_open(ts_cpu *c) { return refuse_onednn(c); }
void ts_onednn_close(ts_cpu *c) { (void)c; }
ts_status ts_onednn_linear(ts_cpu *c, const ts_linear *a)
{
    (void)a;
    return refuse_onednn(c);
}
ts_status ts_onednn_conv(ts_cpu *c, const ts_conv *a)
{
    (void)a;
    return refuse_onednn(c);
}
ts_status ts_onednn_product_scratch(ts_cpu *c, const ts_product *p, size_t *bytes)
{
    (void)p;
    (void)bytes;
    return refuse_onednn(c);
}
ts_status ts_onednn_product(ts_cpu *c, const ts_product *p, const void *x, const void *w, void *y,
                            void *scratch)
{
    (void)p;
    (void)x;
    (void)w;
    (void)y;
    (void)scratch;
    return refuse_onednn(c);
}
int ts_onednn_primitives(const ts_cpu *c)
{
    (void)c;
    return 0;
}
ts_status ts_onednn_pack(ts_cpu *c, const ts_host *from, long first, const ts_weight *to, ts_ptr at)
{
    (void)from;
    (void)first;
    (void)to;
    (void)at;
    return refuse_onednn(c);
}
void ts_onednn_version(char *out, size_t size) { snprintf(out, size, "no oneDNN"); }

void ts_host_add_product(float *y, const float *b, const float *a, long m, long n, long k, float s)
{
    for (long i = 0; i < m; i++)
        for (long r = 0; r < k; r++)
            for (long j = 0; j < n; j++) y[i * n + j] += s * b[i * k + r] * a[r * n + j];
}
