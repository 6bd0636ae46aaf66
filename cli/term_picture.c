/* Asks a terminal, and encodes for it. Sixel has 216 colours here, six levels of each channel, with
 * ordered dithering; kitty's takes all, as base64. */
#include "cli/term_picture.h"

#include "backend/base64.h"

#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

/* ---- asking ---- */
/* A picture of one pixel that is only tried, and what every terminal answers: its attributes. */
static const char question[] = "\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\\x1b[c";

/* ESC [ ? 62 ; 4 ; 22 c: the end of the answer. 4: sixel. */
static const char *find_attributes(const char *answer)
{
    const char *at = strstr(answer, "\x1b[?");
    if (!at) return NULL;
    at += 3;
    return at[strspn(at, "0123456789;")] == 'c' ? at : NULL;
}

static bool has_sixel(const char *attributes)
{
    for (const char *s = attributes; *s != 'c'; s++)
        if (*s == '4' && (s[-1] == ';' || s[-1] == '?') && (s[1] == ';' || s[1] == 'c'))
            return true;
    return false;
}

static long milliseconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static ts_term_kind read_answer(int fd, int milliseconds)
{
    char answer[512] = "";
    size_t n = 0;
    long end = milliseconds_now() + milliseconds, left;
    while ((left = end - milliseconds_now()) > 0 && n + 1 < sizeof answer) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, (int)left) < 1) break;
        ssize_t got = read(fd, answer + n, sizeof answer - 1 - n);
        if (got < 1) break;
        n += (size_t)got;
        answer[n] = 0;
        const char *attributes = find_attributes(answer);
        if (!attributes) continue;
        if (strstr(answer, "\x1b_Gi=31;OK")) return TS_TERM_KITTY;
        return has_sixel(attributes) ? TS_TERM_SIXEL : TS_TERM_NONE;
    }
    return TS_TERM_NONE;
}

ts_term_kind ts_term_ask(int fd, int milliseconds)
{
    struct termios was, raw;
    pid_t front = tcgetpgrp(fd);
    ts_term_kind kind = TS_TERM_NONE;
    if ((front != -1 && front != getpgrp()) || tcgetattr(fd, &was)) return kind;
    raw = was;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    raw.c_cc[VMIN] = 0;
    raw.c_cc[VTIME] = 0;
    if (tcsetattr(fd, TCSANOW, &raw)) return kind;
    if (write(fd, question, sizeof question - 1) == (ssize_t)sizeof question - 1)
        kind = read_answer(fd, milliseconds);
    tcsetattr(fd, TCSANOW, &was);
    return kind;
}

/* ---- kitty ---- */
static void put_kitty(FILE *f, int w, int h, const uint8_t *rgb)
{
    enum { CHUNK = 3072 }; /* bytes, 4096 digits: whole pixels, without padding */
    char digits[CHUNK / 3 * 4 + 1];
    size_t n = (size_t)w * (size_t)h * 3;
    for (size_t at = 0; at < n; at += CHUNK) {
        size_t some = n - at < CHUNK ? n - at : CHUNK;
        fputs("\x1b_G", f);
        if (!at) fprintf(f, "a=T,f=24,q=2,s=%d,v=%d,", w, h);
        ts_base64_encode(rgb + at, some, digits);
        fprintf(f, "m=%d;%s\x1b\\", at + some < n, digits);
    }
}

/* ---- sixel ---- */
enum { LEVELS = 6, COLOURS = LEVELS * LEVELS * LEVELS, BAND = 6 };

static uint8_t choose_colour(const uint8_t *rgb, int x, int y)
{
    static const int bayer[4][4] = {{0, 8, 2, 10}, {12, 4, 14, 6}, {3, 11, 1, 9}, {15, 7, 13, 5}};
    int colour = 0, more = 255 * (2 * bayer[y % 4][x % 4] + 1) / 32; /* of one level, 0 to 255 */
    for (int k = 0; k < 3; k++) colour = colour * LEVELS + (rgb[k] * (LEVELS - 1) + more) / 255;
    return (uint8_t)colour;
}

static void put_run(FILE *f, int n, int bits)
{
    if (n > 3)
        fprintf(f, "!%d%c", n, '?' + bits);
    else
        while (n-- > 0) fputc('?' + bits, f);
}

/* Rows y .. y + 5: for each colour that is there a line of six dots high. */
static void put_band(FILE *f, int w, int rows, const uint8_t *colours)
{
    for (int c = 0; c < COLOURS; c++) {
        int run = 0, last = 0;
        if (!memchr(colours, c, (size_t)w * (size_t)rows)) continue;
        fprintf(f, "#%d", c);
        for (int x = 0; x < w; x++) {
            int bits = 0;
            for (int y = 0; y < rows; y++) bits |= (colours[y * w + x] == c) << y;
            if (x && bits != last) {
                put_run(f, run, last);
                run = 0;
            }
            last = bits;
            run++;
        }
        put_run(f, run, last);
        fputc('$', f);
    }
    fputc('-', f);
}

static void put_sixel(FILE *f, int w, int h, const uint8_t *rgb)
{
    uint8_t *colours = malloc((size_t)w * BAND);
    if (!colours) return;
    fprintf(f, "\x1bP0;1;0q\"1;1;%d;%d", w, h);
    for (int c = 0; c < COLOURS; c++)
        fprintf(f, "#%d;2;%d;%d;%d", c, c / 36 * 20, c / 6 % 6 * 20, c % 6 * 20); /* percent */
    for (int y = 0; y < h; y += BAND) {
        int rows = h - y < BAND ? h - y : BAND;
        for (int i = 0; i < rows * w; i++)
            colours[i] = choose_colour(rgb + 3 * ((long)y * w + i), i % w, y + i / w);
        put_band(f, w, rows, colours);
    }
    fputs("\x1b\\", f);
    free(colours);
}

void ts_term_put(FILE *f, ts_term_kind kind, int w, int h, const uint8_t *rgb)
{
    if (kind == TS_TERM_NONE) return;
    if (kind == TS_TERM_KITTY)
        put_kitty(f, w, h, rgb);
    else
        put_sixel(f, w, h, rgb);
    fputc('\n', f);
    fflush(f);
}
