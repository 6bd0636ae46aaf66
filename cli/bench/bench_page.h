/* The HTML report of a bench of clips in parts. All write to an open stream; nothing fails. */
#ifndef TS_BENCH_PAGE_H
#define TS_BENCH_PAGE_H
#include "cli/bench/bench.h"

/* behind its mark; may break at commas; not for SVG */
void ts_bench_name(FILE *, int line, const char *policy);
const char *ts_bench_colour(int line); /* "#rrggbb"; 0: dense */
void ts_bench_mark(FILE *, int line);  /* for SVG, around 0, 0, 7 pixels to each side */
const char *ts_bench_decibels(double psnr, char out[24]); /* "31.20 dB", "equal", "-" */
/* Charts, each with its heading: seconds with Amdahl's ideal, PSNR and SSIM as bars, PSNR over
 * speed (a line a series, and the frontier), PSNR over the frames of a prompt. Without anything to
 * show they write nothing. */
void ts_bench_times(FILE *, const ts_bench *);
void ts_bench_fidelity(FILE *, const ts_bench *);
/* over the gain that was measured or, where that is void, by arithmetic */
void ts_bench_curve(FILE *, const ts_bench *, const ts_bench_words *);
void ts_bench_over_frames(FILE *, const ts_bench *, int prompt);
#endif
