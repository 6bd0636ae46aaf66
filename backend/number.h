/* Numbers as text: what programs write and read for each other has a decimal point, whatever the
 * locale of the host program. */
#ifndef TS_NUMBER_H
#define TS_NUMBER_H
#include <locale.h>
#include <stdbool.h>
#include <stdint.h>

/* The decimal number that text begins with ("1", "-0.25", "1e-3"; no infinity, no NaN, no
 * hexadecimal, no white space before it); *end behind it. false: there is none, or it is too large
 * for a double; then *end = text. */
bool ts_number_prefix(const char *text, double *out, const char **end);
/* The text is such a number and nothing else. */
bool ts_number_read(const char *text, double *out);
/* The digits that text begins with as a whole number; the same way of failing. */
bool ts_whole_prefix(const char *text, uint64_t *out, const char **end);
/* The text is digits and nothing else, and they stand for `most` at most. */
bool ts_whole_read(const char *text, uint64_t most, uint64_t *out);

/* Between the two, what this thread prints has a decimal point; no other thread notices. */
locale_t ts_point_begin(void);
void ts_point_end(locale_t was);

enum { TS_NUMBER_TEXT = 32 };
/* The shortest decimal (of 6 digits at least, zeros at the end left out) that reads back as the
 * same double; whole numbers below 2^53 without an exponent. Returns out. */
const char *ts_number_text(double, char out[TS_NUMBER_TEXT]);
/* For people: "1.5 GB", "320 MB"; powers of 1000. Returns out. */
const char *ts_bytes_text(double bytes, char out[TS_NUMBER_TEXT]);
#endif
