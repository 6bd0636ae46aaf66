/* Tables on stdout, and numbers for people. */
#ifndef TS_TABLE_H
#define TS_TABLE_H

/* "1.50 TFLOP", "320 GFLOP" of operations */
const char *ts_flops_text(double flops, char out[32]);
/* One row: a label, then text. */
void ts_table_row(const char *label, const char *format, ...) __attribute__((format(printf, 2, 3)));
#endif
