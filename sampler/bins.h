/* Sizes that PixArt was trained on: a list of aspect ratios for each resolution. */
#ifndef TS_BINS_H
#define TS_BINS_H
#include <stdbool.h>
/* The size of the list of `sample_size` (of the latent, 8 pixels each) whose ratio of height to
 * width is nearest to that of w x h, in their place. False: there is no list for it. */
bool ts_bin(int sample_size, int *w, int *h);
#endif
