/* The token grid: how many tokens a latent gives and in which order attention sees them. */
#include "attention/grid.h"

ts_grid ts_grid_of(int F, int H, int W)
{
    int n = F * H * W;
    return (ts_grid){.F = F, .H = H, .W = W, .N = n, .nb = ts_sequence_of(n, 0).nb};
}

ts_sequence ts_sequence_of(int N, int L)
{
    int T = N + L, nb = (T + TS_BLOCK - 1) / TS_BLOCK;
    return (ts_sequence){.N = N, .L = L, .T = T, .nb = nb, .nv = L ? N / TS_BLOCK : nb};
}

static int smaller_of(int a, int b) { return a < b ? a : b; }

void ts_grid_order(const ts_grid *g, ts_order order, int32_t *at)
{
    int deep = g->F > 1 ? 4 : 1, side = g->F > 1 ? 4 : 8;
    if (order == TS_RASTER) {
        for (int i = 0; i < g->N; i++) at[i] = i;
        return;
    }
    for (int t0 = 0; t0 < g->F; t0 += deep)
        for (int y0 = 0; y0 < g->H; y0 += side)
            for (int x0 = 0; x0 < g->W; x0 += side)
                for (int t = t0; t < smaller_of(t0 + deep, g->F); t++)
                    for (int y = y0; y < smaller_of(y0 + side, g->H); y++)
                        for (int x = x0; x < smaller_of(x0 + side, g->W); x++)
                            *at++ = (t * g->H + y) * g->W + x;
}

const char *ts_order_name(ts_order order) { return order == TS_RASTER ? "raster" : "tile"; }
