/* A contact sheet of pictures. */
#ifndef TS_SHEET_H
#define TS_SHEET_H
#include "backend/base.h"
#include "backend/err.h"

typedef struct ts_sheet ts_sheet;
/* Pixels of the sheet of so many pictures of w x h: as many columns as make it nearest to a
 * square. */
void ts_sheet_size(int w, int h, int frames, long *width, long *height);
/* Where picture i of them stands: pixels from the left and from the top. */
void ts_sheet_place(int w, int h, int frames, int i, long *left, long *top);
/* Before any work: it is not too large. TS_EUSAGE. */
ts_status ts_sheet_check(ts_err *, int w, int h, int frames);
/* A sink whose frames become one picture of `to`, which must outlive it. NULL: no memory. */
ts_sheet *ts_sheet_new(ts_sink *to);
ts_sink *ts_sheet_sink(ts_sheet *);
void ts_sheet_free(ts_sheet *); /* NULL is legal */
#endif
