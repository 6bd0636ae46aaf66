/* Tables on stdout. */
#include "cli/table.h"

#include <stdarg.h>
#include <stdio.h>

const char *ts_bytes_text(double x, char out[32])
{
    static const char *const unit[] = {"bytes", "kB", "MB", "GB", "TB"};
    int i = 0;
    for (; x >= 999.5 && i < 4; i++) x /= 1000;
    snprintf(out, 32, x < 10 && i ? "%.1f %s" : "%.0f %s", x, unit[i]);
    return out;
}

void ts_table_row(const char *label, const char *format, ...)
{
    va_list list;
    printf("%-12s ", label);
    va_start(list, format);
    vprintf(format, list);
    va_end(list);
    putchar('\n');
}
