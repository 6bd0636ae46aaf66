/* Tables on stdout. */
#include "cli/table.h"

#include <stdarg.h>
#include <stdio.h>

const char *ts_flops_text(double x, char out[32])
{
    static const char *const unit[] = {"GFLOP", "TFLOP", "PFLOP", "EFLOP"};
    int i = 0;
    for (x /= 1e9; x >= 999.5 && i < 3; i++) x /= 1000;
    snprintf(out, 32, "%.*f %s", x < 9.995 ? 2 : x < 99.95 ? 1 : 0, x, unit[i]);
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
