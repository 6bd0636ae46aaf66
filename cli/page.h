/* What the pages of bench and batch have in common. All write to an open stream; nothing fails. */
#ifndef TS_PAGE_H
#define TS_PAGE_H
#include <stdio.h>

void ts_page_text(FILE *, const char *); /* with what is special in HTML escaped */
/* A file's bytes as a data: address of a kind like "image/png"; nothing when it can not be read. */
void ts_page_data(FILE *, const char *path, const char *kind);
#endif
