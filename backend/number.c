/* The C library's conversions under its C locale, which needs no memory and can not fail to be
 * there. uselocale touches this thread alone. */
#include "backend/number.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static locale_t c_locale(void) { return newlocale(LC_ALL_MASK, "C", (locale_t)0); }

locale_t ts_point_begin(void) { return uselocale(c_locale()); }
void ts_point_end(locale_t was) { freelocale(uselocale(was)); }

static double strtod_c(const char *text, char **end)
{
    locale_t c = c_locale();
    double x = strtod_l(text, end, c);
    freelocale(c);
    return x;
}

/* What strtod would read beside decimal numbers begins with none of these. */
static bool begins_number(const char *s)
{
    if (*s == '+' || *s == '-') s++;
    if (s[0] == '0' && (s[1] == 'x' || s[1] == 'X')) return false;
    return (*s >= '0' && *s <= '9') || (s[0] == '.' && s[1] >= '0' && s[1] <= '9');
}

bool ts_number_prefix(const char *text, double *out, const char **end)
{
    char *behind;
    *end = text;
    if (!begins_number(text)) return false;
    double x = strtod_c(text, &behind);
    if (!isfinite(x)) return false;
    *out = x;
    *end = behind;
    return true;
}

bool ts_number_read(const char *text, double *out)
{
    const char *end;
    double x;
    if (!ts_number_prefix(text, &x, &end) || *end) return false;
    *out = x;
    return true;
}

bool ts_whole_prefix(const char *text, uint64_t *out, const char **end)
{
    uint64_t x = 0;
    const char *s = text;
    *end = text;
    for (; *s >= '0' && *s <= '9'; s++) {
        uint64_t digit = (uint64_t)(*s - '0');
        if (x > (UINT64_MAX - digit) / 10) return false;
        x = 10 * x + digit;
    }
    if (s == text) return false;
    *out = x;
    *end = s;
    return true;
}

bool ts_whole_read(const char *text, uint64_t most, uint64_t *out)
{
    const char *end;
    uint64_t x;
    if (!ts_whole_prefix(text, &x, &end) || *end || x > most) return false;
    *out = x;
    return true;
}

const char *ts_number_text(double x, char out[TS_NUMBER_TEXT])
{
    locale_t c = c_locale(), was = uselocale(c);
    if (x == floor(x) && fabs(x) < 0x1p53) {
        snprintf(out, TS_NUMBER_TEXT, "%.0f", x);
    } else {
        int digits = 6;
        do snprintf(out, TS_NUMBER_TEXT, "%.*g", digits, x);
        while (digits++ < 17 && strtod_l(out, NULL, c) != x);
    }
    uselocale(was);
    freelocale(c);
    return out;
}

const char *ts_bytes_text(double x, char out[TS_NUMBER_TEXT])
{
    static const char *const UNITS[] = {"bytes", "kB", "MB", "GB", "TB"};
    int i = 0;
    for (; x >= 999.5 && i < 4; i++) x /= 1000;
    snprintf(out, TS_NUMBER_TEXT, x < 9.95 && i ? "%.1f %s" : "%.0f %s", x, UNITS[i]);
    return out;
}
