/* Enlarging. swscale takes pictures in RGB through a subsampled YUV when it scales, so each channel
 * goes through it alone, as a grey picture of 16 bits: no colour moves, and an even surface stays
 * exactly what it was. */
#include "codecs/files_scale.h"

#include <stdlib.h>
#include <string.h>

#include <libavutil/mem.h>
#include <libswscale/swscale.h>

/* swscale's vector code may read and write past the end of a row */
enum { MAX_SIDE = 32767, PADDING = 64 };

struct ts_enlarge {
    int w, h, n;
    size_t from_row, to_row; /* in samples */
    uint16_t *from, *to;     /* one channel */
    struct SwsContext *sws;
};

ts_status ts_enlarge_new(ts_err *err, int w, int h, int n, ts_enlarge **out)
{
    ts_status st = TS_OK;
    ts_enlarge *e = calloc(1, sizeof *e);
    if (!e) return ts_fail(err, TS_EMEMORY, "no memory to enlarge %dx%d", w, h);
    if (n < 1 || w > MAX_SIDE / n || h > MAX_SIDE / n)
        TRY(ts_fail(err, TS_EUSAGE, "%dx%d enlarged by %d is too large, expected at most %d a side",
                    w, h, n, MAX_SIDE));
    *e = (ts_enlarge){
        .w = w, .h = h, .n = n, .from_row = (size_t)w + PADDING, .to_row = (size_t)w * n + PADDING};
    e->from = av_calloc(e->from_row * (h + 1), sizeof *e->from);
    e->to = av_calloc(e->to_row * ((size_t)h * n + 1), sizeof *e->to);
    e->sws = sws_getContext(w, h, AV_PIX_FMT_GRAY16, w * n, h * n, AV_PIX_FMT_GRAY16,
                            SWS_LANCZOS | SWS_ACCURATE_RND | SWS_BITEXACT, NULL, NULL, NULL);
    if (!e->from || !e->to || !e->sws)
        TRY(ts_fail(err, TS_EMEMORY, "no memory to enlarge %dx%d by %d", w, h, n));
    *out = e;
    e = NULL;
done:
    ts_enlarge_free(e);
    return st;
}

void ts_enlarge_free(ts_enlarge *e)
{
    if (!e) return;
    av_free(e->from);
    av_free(e->to);
    sws_freeContext(e->sws);
    free(e);
}

void ts_enlarge_run(ts_enlarge *e, const uint8_t *from, uint8_t *to)
{
    int w = e->w * e->n, h = e->h * e->n;
    const uint8_t *source[4] = {(const uint8_t *)e->from};
    uint8_t *target[4] = {(uint8_t *)e->to};
    int source_stride[4] = {(int)(e->from_row * sizeof *e->from)},
        target_stride[4] = {(int)(e->to_row * sizeof *e->to)};
    for (int c = 0; c < 3; c++) {
        for (int y = 0; y < e->h; y++)
            for (int x = 0; x < e->w; x++)
                e->from[y * e->from_row + x] = (uint16_t)(from[((size_t)y * e->w + x) * 3 + c] *
                                                          257);
        sws_scale(e->sws, source, source_stride, 0, e->h, target, target_stride);
        for (int y = 0; y < h; y++)
            for (int x = 0; x < w; x++)
                to[((size_t)y * w + x) * 3 + c] = (uint8_t)((e->to[y * e->to_row + x] + 128) / 257);
    }
}
