/* A contact sheet of pictures. */
#ifndef TS_SHEET_H
#define TS_SHEET_H
#include "backend/base.h"

typedef struct ts_sheet ts_sheet;
/* A sink whose frames become one picture of `to`, which must outlive it. NULL: no memory. */
ts_sheet *ts_sheet_new(ts_sink *to);
ts_sink *ts_sheet_sink(ts_sheet *);
void ts_sheet_free(ts_sheet *); /* NULL is legal */
#endif
