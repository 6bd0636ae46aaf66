/* What cleaners of prompts share. Each appends to the buffer what becomes of s. */
#ifndef TS_CLEAN_H
#define TS_CLEAN_H
#include "prompts/buffer.h"
/* ftfy.fix_text without its repair of mojibake. */
void ts_fix_text(ts_buf *, const char *s);
/* html.unescape: named and numeric references of HTML5, also without their semicolon where that is
 * known. */
void ts_html_unescape(ts_buf *, const char *s);
/* The text of a piece of HTML as BeautifulSoup's html.parser sees it: tags, comments, scripts and
 * styles gone, references decoded. */
void ts_html_text(ts_buf *, const char *s);
#endif
