/* Tables on stdout, and numbers for people. */
#ifndef TS_TABLE_H
#define TS_TABLE_H

/* "1.5 GB", "320 MB"; powers of 1000 */
const char *ts_bytes_text(double bytes, char out[32]);
/* One row: a label, then text. */
void ts_table_row(const char *label, const char *format, ...) __attribute__((format(printf, 2, 3)));
#endif
