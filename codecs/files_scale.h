/* Enlarging finished pictures by a whole factor, with swscale's Lanczos filter. */
#ifndef TS_FILES_SCALE_H
#define TS_FILES_SCALE_H
#include "backend/ctx.h"

typedef struct ts_enlarge ts_enlarge;
/* From w x h to w n x h n. TS_EUSAGE: larger than any file here can be; TS_EMEMORY. */
ts_status ts_enlarge_new(ts_err *, int w, int h, int n, ts_enlarge **);
void ts_enlarge_free(ts_enlarge *); /* NULL is legal */
/* from: [h, w, 3]; to: [h n, w n, 3] */
void ts_enlarge_run(ts_enlarge *, const uint8_t *from, uint8_t *to);
#endif
