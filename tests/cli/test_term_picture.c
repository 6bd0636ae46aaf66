/* Pictures on terminals: a pseudo-terminal answers as terminals do; what is sent is decoded. */
#include "cli/term_picture.c"

#include "tests/cli/program.h"

#include <fcntl.h>
#include <pthread.h>

/* ---- asking ---- */
typedef struct {
    int master;
    const char *answer; /* NULL: none */
    char asked[128];
} terminal;

static void *answer(void *user)
{
    terminal *t = user;
    size_t n = 0;
    while (!strstr(t->asked, "\x1b[c")) {
        ssize_t got = read(t->master, t->asked + n, sizeof t->asked - 1 - n);
        if (got < 1) return NULL;
        n += (size_t)got;
    }
    if (t->answer) ck_assert_int_gt(write(t->master, t->answer, strlen(t->answer)), 0);
    return NULL;
}

static const struct {
    const char *answer;
    ts_term_kind kind;
} answers[] = {
    {"\x1b_Gi=31;OK\x1b\\\x1b[?62;c", TS_TERM_KITTY},
    {"x\x1b_Gi=31;OK\x1b\\\x1b[?62;4c", TS_TERM_KITTY},
    {"\x1b[?62;4;22c", TS_TERM_SIXEL},
    {"\x1b[?4c", TS_TERM_SIXEL},
    {"\x1b[?62;22;4c", TS_TERM_SIXEL},
    {"\x1b_Gi=31;ENOTSUPPORTED\x1b\\\x1b[?64;14;44c", TS_TERM_NONE},
    {"\x1b[?6c", TS_TERM_NONE},
    {NULL, TS_TERM_NONE},
};

START_TEST(asking)
{
    terminal t = {.master = posix_openpt(O_RDWR | O_NOCTTY), .answer = answers[_i].answer};
    pthread_t thread;
    struct termios before, after;
    ck_assert(t.master >= 0 && !grantpt(t.master) && !unlockpt(t.master));
    int fd = open(ptsname(t.master), O_RDWR | O_NOCTTY);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(tcgetattr(fd, &before), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, answer, &t), 0);
    /* the silent one is not waited for long */
    ck_assert_int_eq(ts_term_ask(fd, t.answer ? 60000 : 10), answers[_i].kind);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_int_eq(tcgetattr(fd, &after), 0);
    ck_assert(before.c_lflag == after.c_lflag && (after.c_lflag & ECHO));
    close(fd);
    close(t.master);
}
END_TEST

START_TEST(no_terminal)
{
    int fd = open("/dev/null", O_RDWR);
    ck_assert_int_eq(ts_term_ask(fd, 60000), TS_TERM_NONE);
    close(fd);
}
END_TEST

/* ---- what is sent ---- */
enum { W = 45, H = 31 }; /* more than a chunk; a last band of one row */
static uint8_t picture[H][W][3];

static char *sent(ts_term_kind kind)
{
    char *text;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    ts_term_put(f, kind, W, H, picture[0][0]);
    fclose(f);
    return text;
}

static void fill(int levels)
{
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++)
            for (int k = 0; k < 3; k++)
                picture[y][x][k] = (uint8_t)((x * (k + 1) + y * 3) % levels * 255 / (levels - 1));
}

START_TEST(kitty)
{
    fill(256);
    char *text = sent(TS_TERM_KITTY), *s = text;
    const uint8_t *want = picture[0][0];
    size_t n = 0;
    ck_assert(strstr(text, "\x1b_Ga=T,f=24,q=2,s=45,v=31,m=1;") == text);
    for (int chunk = 0; *s == '\x1b'; chunk++) {
        bool more = strstr(s, "m=1;") && strstr(s, "m=1;") < strchr(s, ';');
        if (chunk) ck_assert(!strncmp(s, more ? "\x1b_Gm=1;" : "\x1b_Gm=0;", 7));
        char digits[4097];
        uint8_t bytes[4097 / 4 * 3 + 3];
        size_t got, length = strcspn(s = strchr(s, ';') + 1, "\x1b");
        ck_assert(length <= 4096 && length % 4 == 0);
        snprintf(digits, sizeof digits, "%.*s", (int)length, s);
        ck_assert(ts_base64_decode(digits, bytes, &got) && n + got <= sizeof picture);
        ck_assert(!memcmp(bytes, want + n, got));
        n += got;
        s += length;
        ck_assert(!strncmp(s, "\x1b\\", 2));
        s += 2;
        ck_assert((*s == '\n') == (n == sizeof picture));
    }
    ck_assert_str_eq(s, "\n");
    free(text);
}
END_TEST

/* The dots of every band; each place is set once, by a colour whose levels are the nearest two. */
START_TEST(sixel)
{
    for (int levels = 6; levels <= 256; levels += 250) {
        static int colour[H][W];
        int x = 0, y = 0, c = 0, n;
        fill(levels);
        char *text = sent(TS_TERM_SIXEL), *s = text + strlen("\x1bP0;1;0q\"1;1;45;31");
        memset(colour, 0xff, sizeof colour);
        ck_assert(strstr(text, "\x1bP0;1;0q\"1;1;45;31#0;2;0;0;0#1;2;0;0;20#") == text);
        ck_assert(strstr(text, "#215;2;100;100;100#"));
        for (; *s != '\x1b';) {
            int run = 1;
            if (*s == '#') {
                c = (int)strtol(s + 1, &s, 10);
                while (*s == ';') strtol(s + 1, &s, 10);
                continue;
            }
            if (*s == '!') run = (int)strtol(s + 1, &s, 10);
            for (n = 0; *s >= '?' && *s <= '~' && n < run; n++, x++)
                for (int k = 0; k < 6; k++)
                    if ((*s - '?') >> k & 1) {
                        ck_assert(x < W && y + k < H && colour[y + k][x] == -1);
                        colour[y + k][x] = c;
                    }
            if (*s == '$' || *s == '-') x = 0;
            if (*s++ == '-') y += 6;
        }
        ck_assert_str_eq(s, "\x1b\\\n");
        for (y = 0; y < H; y++)
            for (x = 0; x < W; x++)
                for (int k = 0; k < 3; k++) {
                    int level = colour[y][x] / (k == 0 ? 36 : k == 1 ? 6 : 1) % 6;
                    double off = picture[y][x][k] - level * 51.0;
                    ck_assert_msg(colour[y][x] >= 0 && off > -51 && off < 51, "%d, %d: %g", x, y,
                                  off);
                    if (levels == 6) ck_assert(off == 0);
                }
        free(text);
    }
}
END_TEST

/* Standard error is a file here. */
START_TEST(the_program_needs_a_terminal)
{
    const program_result *r = program_run("generate x --frames 1 --dry-run --preview term");
    program_expect(r, 2);
    ck_assert_msg(strstr(r->err, "preview term: standard error is no terminal"), "%s", r->err);
    r = program_run("generate x --frames 1 --dry-run --preview term --progress json");
    program_expect(r, 2);
    ck_assert_msg(strstr(r->err, "preview term:"), "%s", r->err);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pictures on terminals");
    TCase *tc = tcase_create("pictures on terminals");
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, asking, 0, sizeof answers / sizeof *answers);
    tcase_add_test(tc, no_terminal);
    tcase_add_test(tc, kitty);
    tcase_add_test(tc, sixel);
    tcase_add_test(tc, the_program_needs_a_terminal);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
