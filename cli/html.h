/* What the pages of bench and batch have in common. All write to an open stream; nothing fails. */
#ifndef TS_HTML_H
#define TS_HTML_H
#include <stdio.h>

void ts_html_text(FILE *, const char *); /* with what is special in HTML escaped */
/* A file's bytes as a data: address of a kind like "image/png"; nothing when it can not be read. */
void ts_html_data(FILE *, const char *path, const char *kind);
#endif
