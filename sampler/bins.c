/* The aspect-ratio tables of diffusers' PixArt pipelines, as one: those of 512 and 256 pixels have
 * half and a quarter of the sizes for 1024, that of 2048 the double, and seven ratios more. */
#include "sampler/bins.h"

#include <math.h>
#include <stddef.h>

static const struct {
    double ratio;
    int h, w;
    bool only_2048;
} table[] = {{0.25, 512, 2048, false}, {0.26, 512, 1984, true},  {0.27, 512, 1920, true},
             {0.28, 512, 1856, false}, {0.32, 576, 1792, false}, {0.33, 576, 1728, false},
             {0.35, 576, 1664, false}, {0.4, 640, 1600, false},  {0.42, 640, 1536, false},
             {0.48, 704, 1472, false}, {0.5, 704, 1408, false},  {0.52, 704, 1344, false},
             {0.57, 768, 1344, false}, {0.6, 768, 1280, false},  {0.68, 832, 1216, false},
             {0.72, 832, 1152, false}, {0.78, 896, 1152, false}, {0.82, 896, 1088, false},
             {0.88, 960, 1088, false}, {0.94, 960, 1024, false}, {1.0, 1024, 1024, false},
             {1.07, 1024, 960, false}, {1.13, 1088, 960, false}, {1.21, 1088, 896, false},
             {1.29, 1152, 896, false}, {1.38, 1152, 832, false}, {1.46, 1216, 832, false},
             {1.67, 1280, 768, false}, {1.75, 1344, 768, false}, {2.0, 1408, 704, false},
             {2.09, 1472, 704, false}, {2.4, 1536, 640, false},  {2.5, 1600, 640, false},
             {2.89, 1664, 576, true},  {3.0, 1728, 576, false},  {3.11, 1792, 576, true},
             {3.62, 1856, 512, true},  {3.75, 1920, 512, true},  {3.88, 1984, 512, true},
             {4.0, 2048, 512, false}};

bool ts_bin(int sample_size, int *w, int *h)
{
    double ratio = (double)*h / *w, nearest = INFINITY;
    if (sample_size != 32 && sample_size != 64 && sample_size != 128 && sample_size != 256)
        return false;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        double off = fabs(table[i].ratio - ratio);
        /* the first of two that are equally near */
        if ((table[i].only_2048 && sample_size != 256) || off >= nearest) continue;
        nearest = off;
        *h = table[i].h * sample_size / 128;
        *w = table[i].w * sample_size / 128;
    }
    return true;
}
