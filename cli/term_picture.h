/* Pictures on a terminal: kitty's graphics protocol (sw.kovidgoyal.net/kitty/graphics-protocol), or
 * sixel (DEC STD 070). */
#ifndef TS_TERM_PICTURE_H
#define TS_TERM_PICTURE_H
#include <stdint.h>
#include <stdio.h>

typedef enum { TS_TERM_NONE, TS_TERM_KITTY, TS_TERM_SIXEL } ts_term_kind;
/* Which of them the terminal behind fd understands, by asking it. It has so many milliseconds to
 * answer; one that says what it is answers at once. NONE, too: fd is no terminal, or not this
 * process's to ask (in the background). */
ts_term_kind ts_term_ask(int fd, int milliseconds);
/* rgb [h, w, 3] where the cursor is, and a line end. Nothing for TS_TERM_NONE. */
void ts_term_put(FILE *, ts_term_kind, int w, int h, const uint8_t *rgb);
#endif
