/* The HTML reports of benches in parts. All write to an open stream; nothing fails. */
#ifndef TS_BENCH_PAGE_H
#define TS_BENCH_PAGE_H
#include "cli/bench/bench.h"

/* ---- of every page ---- */
/* Up to the heading; complete false: says so. The page ends after ts_bench_footer with
 * "</body></html>". */
void ts_bench_page_begin(FILE *, const char *title, bool complete);
/* Why gains are void ("": they are not), and what stands all the same ("": nothing). */
void ts_bench_why(FILE *, const char *why, const char *stands);
void ts_bench_lines(FILE *, const char line[][TS_VERDICT_TEXT], int n);
void ts_bench_fact(FILE *, const char *what, const char *value); /* within <ul class="facts"> */
/* precision NULL: not said */
void ts_bench_machine_facts(FILE *, const ts_bench_machine *, const char *precision);
void ts_bench_footer(FILE *, ts_ctx *);

/* ---- of clips ---- */
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
