/* The token grid: how many tokens a latent gives and in which order attention sees them. */
#include "attention/grid.h"

ts_grid ts_grid_of(int F, int H, int W)
{
    int n = F * H * W;
    return (ts_grid){.F = F, .H = H, .W = W, .N = n, .nb = (n + TS_BLOCK - 1) / TS_BLOCK};
}
