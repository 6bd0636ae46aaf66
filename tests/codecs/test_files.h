/* What the tests of output files share: synthetic frames, sinks with a record of what they said,
 * folders, bytes, and other programs. */
#ifndef TEST_FILES_H
#define TEST_FILES_H
#include "codecs/files.h"
#include "tests/testing.h"

#include <dirent.h>
#include <math.h>
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define HELPER static inline __attribute__((unused))

static ts_err err;
static char said[4096]; /* every warning, one a line */

HELPER void hear(void *user, const char *sentence)
{
    (void)user;
    size_t n = strlen(said);
    snprintf(said + n, sizeof said - n, "%s\n", sentence);
}
static const ts_env ears = {.warn = hear};
static const char *const SINGLE[] __attribute__((unused)) = {"a.png", "a.mp4", "a.webm", "a.gif"};

HELPER ts_file_options plain(void)
{
    return (ts_file_options){.crf = -1, .scale = 1, .env = &ears};
}

/* FOLDER/NAME, for the life of the program. */
HELPER char *path_in(const char *folder, const char *name)
{
    static struct kept {
        struct kept *next;
        char path[];
    } * all;
    struct kept *k = malloc(sizeof *k + strlen(folder) + strlen(name) + 2);
    sprintf(k->path, "%s/%s", folder, name);
    k->next = all;
    all = k;
    return k->path;
}

HELPER int files_in(const char *folder) /* asserts nothing, which writes */
{
    int n = 0;
    DIR *d = opendir(folder);
    if (!d) return -1;
    for (struct dirent *e; (e = readdir(d));)
        n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
    closedir(d);
    return n;
}

HELPER bool there(const char *path)
{
    struct stat s;
    return lstat(path, &s) == 0;
}

HELPER uint8_t *bytes_of(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    ck_assert_msg(f != NULL, "%s is not there", path);
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f);
    rewind(f);
    uint8_t *b = malloc(*n + 1);
    ck_assert_uint_eq(fread(b, 1, *n, f), *n);
    b[*n] = 0;
    fclose(f);
    return b;
}

HELPER void write_bytes(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(bytes, 1, n, f), n);
    ck_assert_int_eq(fclose(f), 0);
}

HELPER void write_text(const char *path, const char *text)
{
    write_bytes(path, text, strlen(text));
}

HELPER const uint8_t *find_bytes(const uint8_t *in, size_t n, const char *what)
{
    return memmem(in, n, what, strlen(what));
}

/* A smooth gradient with a square that moves: what a clip looks like to a codec. */
HELPER float *picture(int w, int h, int index)
{
    float *rgb = malloc(sizeof *rgb * (size_t)w * h * 3);
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            float *p = rgb + ((size_t)y * w + x) * 3;
            bool square = x >= w / 4 + index && x < w / 2 + index && y >= h / 4 && y < h / 2;
            p[0] = square ? 0.9f : (float)x / (float)w;
            p[1] = square ? 0.8f : (float)y / (float)h;
            p[2] = square ? 0.1f : 0.5f;
        }
    return rgb;
}

HELPER float *flat(int w, int h, float r, float g, float b)
{
    float *rgb = malloc(sizeof *rgb * (size_t)w * h * 3);
    for (size_t i = 0; i < (size_t)w * h; i++) {
        rgb[3 * i] = r;
        rgb[3 * i + 1] = g;
        rgb[3 * i + 2] = b;
    }
    return rgb;
}

/* All of a clip of `picture`s; the first failing status. The caller aborts and frees. */
HELPER ts_status pour(ts_sink *sink, int w, int h, int frames, double fps, const char *json)
{
    ts_status st = sink->open(sink, w, h, frames, fps, json);
    for (int i = 0; i < frames && st == TS_OK; i++) {
        float *rgb = picture(w, h, i);
        st = sink->frame(sink, &(ts_frame){.w = w, .h = h, .index = i, .rgb = rgb});
        free(rgb);
    }
    return st == TS_OK ? sink->close(sink) : st;
}

HELPER void write_clip(const char *path, ts_file_options o, int w, int h, int frames, double fps,
                       const char *json)
{
    ts_sink *sink = NULL;
    said[0] = 0;
    ck_assert_msg(ts_file_open(&err, path, &o, &sink) == TS_OK, "%s", err.text);
    ts_status st = pour(sink, w, h, frames, fps, json);
    ck_assert_msg(st == TS_OK, "%s", sink->error);
    ts_file_close(sink);
}

/* `frames` times the same picture. */
HELPER void write_still(const char *path, ts_file_options o, int w, int h, int frames,
                        const float *rgb)
{
    ts_sink *sink = NULL;
    ck_assert_msg(ts_file_open(&err, path, &o, &sink) == TS_OK, "%s", err.text);
    ck_assert_msg(sink->open(sink, w, h, frames, 16, NULL) == TS_OK, "%s", sink->error);
    for (int i = 0; i < frames; i++)
        ck_assert_msg(sink->frame(sink, &(ts_frame){.w = w, .h = h, .index = i, .rgb = rgb}) ==
                          TS_OK,
                      "%s", sink->error);
    ck_assert_msg(sink->close(sink) == TS_OK, "%s", sink->error);
    ts_file_close(sink);
}

HELPER char *info_of(const char *path)
{
    char *json = NULL;
    ck_assert_msg(ts_file_info(&err, path, &json) == TS_OK, "%s", err.text);
    return json;
}

/* What a program prints; malloc'd. NULL: it failed. */
HELPER uint8_t *output_of(const char *command, size_t *n)
{
    FILE *f = popen(command, "r");
    ck_assert_ptr_nonnull(f);
    size_t size = 1 << 16;
    uint8_t *b = malloc(size + 1);
    *n = 0;
    for (size_t got; (got = fread(b + *n, 1, size - *n, f)) > 0;) {
        *n += got;
        if (*n == size) b = realloc(b, (size *= 2) + 1);
    }
    b[*n] = 0;
    if (pclose(f) == 0) return b;
    free(b);
    return NULL;
}

/* false, and says so: a tool is missing. */
HELPER bool have(const char *tool)
{
    char command[256];
    snprintf(command, sizeof command, "command -v %s >/dev/null", tool);
    if (system(command) == 0) return true;
    printf("skip: %s is not installed\n", tool);
    return false;
}

/* A PNG read by libpng, apart from png.c; malloc'd. */
HELPER uint8_t *read_png(const char *path, int *w, int *h)
{
    png_image image = {.version = PNG_IMAGE_VERSION};
    ck_assert_msg(png_image_begin_read_from_file(&image, path), "%s: %s", path, image.message);
    ck_assert_uint_eq(image.format & (PNG_FORMAT_FLAG_ALPHA | PNG_FORMAT_FLAG_LINEAR), 0);
    image.format = PNG_FORMAT_RGB;
    uint8_t *rgb = malloc(PNG_IMAGE_SIZE(image));
    ck_assert(png_image_finish_read(&image, NULL, rgb, 0, NULL));
    *w = (int)image.width;
    *h = (int)image.height;
    return rgb;
}

HELPER void check_png_tool(const char *path)
{
    char command[4200];
    size_t n;
    if (!have("pngcheck")) return;
    snprintf(command, sizeof command, "pngcheck -v '%s'", path);
    uint8_t *out = output_of(command, &n);
    ck_assert_msg(out != NULL, "pngcheck does not like %s", path);
    ck_assert_ptr_nonnull(find_bytes(out, n, "24-bit RGB, non-interlaced"));
    free(out);
}

/* Such a file can not be opened; the sentence has that word. */
HELPER void refused(const char *path, ts_file_options o, ts_status want, const char *word)
{
    ts_sink *sink = NULL;
    ts_status st = ts_file_open(&err, path, &o, &sink);
    ck_assert_msg(st == want, "%s: status %d, expected %d (%s)", path, st, want,
                  st ? err.text : "");
    ck_assert_msg(!sink && strstr(err.text, word), "'%s' does not say '%s'", err.text, word);
}
#endif
