/* Pages as a browser draws them: headless Chromium at 390, 1280 and 2560 pixels of width. */
#ifndef PAGES_H
#define PAGES_H
#include <stdbool.h>

/* false: there is no Chromium; says "skip" once */
bool pages_can_be_drawn(void);
/* What is wrong with a page, a line each, "": nothing; static buffer of the next call's. It scrolls
 * sideways; text leaves it, is smaller than 9 pixels, has no room, or lies upon another label of a
 * chart; a picture or a clip does not load or is drawn in one colour; a link leads to no file, or
 * out of the page; a script fails. */
const char *pages_faults(const char *path);
void pages_expect_sound(const char *path); /* or the test fails with them */
#endif
