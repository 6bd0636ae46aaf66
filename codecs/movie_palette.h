/* 255 colours for a whole clip, and pictures in them: what a GIF needs. */
#ifndef TS_MOVIE_PALETTE_H
#define TS_MOVIE_PALETTE_H
#include "backend/ctx.h"

typedef struct ts_palette ts_palette;
ts_status ts_palette_new(ts_err *, ts_palette **); /* TS_EMEMORY */
void ts_palette_free(ts_palette *);                /* NULL is legal */
void ts_palette_count(ts_palette *, const uint8_t *rgb, size_t pixels);
/* Chooses the colours that suit what was counted; once. TS_EMEMORY. */
ts_status ts_palette_make(ts_err *, ts_palette *);
/* 256 of 0xAARRGGBB. The last is transparent and stands for no pixel: the encoder marks with it
 * what did not change. */
const uint32_t *ts_palette_colours(const ts_palette *);
/* rgb: [h, w, 3]; out: [h, w]. TS_EMEMORY. */
ts_status ts_palette_dither(ts_err *, ts_palette *, int w, int h, const uint8_t *rgb, uint8_t *out);
#endif
