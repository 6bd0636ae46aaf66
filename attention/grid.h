/* The tokens of a picture or clip in the order in which attention sees them. */
#ifndef TS_GRID_H
#define TS_GRID_H
#include "backend/backend.h"
typedef struct {
    int F, H, W; /* tokens along time, height, width (after patching); raster order: frames slowest */
    int N, nb;   /* F H W, and blocks of TS_BLOCK */
} ts_grid;
ts_grid ts_grid_of(int F, int H, int W);
#endif
