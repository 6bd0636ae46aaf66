/* PNG by libpng: the picture as it is, no gamma, no interlacing; text stands before the picture, so
 * that it is read without decoding. libpng leaves on errors by longjmp: each function that calls it
 * keeps what has to be freed in one struct that the jump does not touch. */
#include "codecs/png.h"

#include <errno.h>
#include <png.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LONG_TEXT = 1024, MAX_CHUNK = 64 << 20 };

typedef struct {
    FILE *file;
    png_structp png;
    png_infop info;
    char *latin;
    int why;           /* errno of the failing call */
    char message[128]; /* libpng's own */
} job;

static void on_error(png_structp png, png_const_charp message)
{
    job *j = png_get_error_ptr(png);
    j->why = errno;
    snprintf(j->message, sizeof j->message, "%s", message);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message;
}

static const char *describe_failure(const job *j) { return j->why ? strerror(j->why) : j->message; }

/* UTF-8 as Latin-1; NULL: it can not be said so. */
static char *to_latin(const char *text)
{
    const unsigned char *p = (const unsigned char *)text;
    char *out = malloc(strlen(text) + 1), *q = out;
    while (out && *p) {
        if (*p < 0x80) {
            *q++ = (char)*p++;
        } else if ((*p == 0xc2 || *p == 0xc3) && (p[1] & 0xc0) == 0x80) {
            *q++ = (char)((*p & 3) << 6 | (p[1] & 0x3f));
            p += 2;
        } else {
            free(out);
            return NULL;
        }
    }
    if (out) *q = 0;
    return out;
}

static void set_text(job *j, const ts_png_text *text)
{
    png_text chunk[2];
    int n = 0;
    memset(chunk, 0, sizeof chunk);
    if (text->parameters) {
        j->latin = to_latin(text->parameters);
        chunk[n].compression = j->latin ? PNG_TEXT_COMPRESSION_NONE : PNG_ITXT_COMPRESSION_NONE;
        chunk[n].key = (png_charp) "parameters";
        chunk[n].text = j->latin ? j->latin : (png_charp)text->parameters;
        n++;
    }
    if (text->json) {
        chunk[n].compression = strlen(text->json) > LONG_TEXT ? PNG_ITXT_COMPRESSION_zTXt
                                                              : PNG_ITXT_COMPRESSION_NONE;
        chunk[n].key = (png_charp) "tessera";
        chunk[n].text = (png_charp)text->json;
        n++;
    }
    if (n) png_set_text(j->png, j->info, chunk, n);
}

/* false: libpng failed and `j` says why. */
static bool encode_png(job *j, int w, int h, const uint8_t *rgb, const ts_png_text *text)
{
    if (setjmp(png_jmpbuf(j->png))) return false;
    errno = 0;
    png_init_io(j->png, j->file);
    png_set_user_limits(j->png, TS_PNG_MAX_SIDE, TS_PNG_MAX_SIDE);
    png_set_IHDR(j->png, j->info, (png_uint_32)w, (png_uint_32)h, 8, PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_BASE, PNG_FILTER_TYPE_BASE);
    set_text(j, text);
    png_write_info(j->png, j->info);
    for (int y = 0; y < h; y++) png_write_row(j->png, rgb + (size_t)y * w * 3);
    png_write_end(j->png, NULL);
    return true;
}

ts_status ts_png_write(ts_err *err, const char *path, int w, int h, const uint8_t *rgb,
                       const ts_png_text *text)
{
    ts_status st = TS_OK;
    job j = {0};
    j.file = fopen(path, "wbe");
    if (!j.file)
        TRY(ts_fail(err, TS_EIO, "%s: can not be written: %s", text->name, strerror(errno)));
    j.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &j, on_error, on_warning);
    j.info = j.png ? png_create_info_struct(j.png) : NULL;
    if (!j.info) TRY(ts_fail(err, TS_EMEMORY, "%s: no memory to write a PNG", text->name));
    if (!encode_png(&j, w, h, rgb, text))
        TRY(ts_fail(err, TS_EIO, "%s: can not be written: %s", text->name, describe_failure(&j)));
    if (fflush(j.file) != 0)
        TRY(ts_fail(err, TS_EIO, "%s: can not be written: %s", text->name, strerror(errno)));
done:
    png_destroy_write_struct(&j.png, &j.info);
    if (j.file && fclose(j.file) != 0 && st == TS_OK)
        st = ts_fail(err, TS_EIO, "%s: can not be written: %s", text->name, strerror(errno));
    free(j.latin);
    return st;
}

static bool read_info(job *j)
{
    if (setjmp(png_jmpbuf(j->png))) return false;
    png_init_io(j->png, j->file);
    png_set_user_limits(j->png, TS_PNG_MAX_SIDE, TS_PNG_MAX_SIDE);
    png_set_chunk_malloc_max(j->png, MAX_CHUNK);
    png_read_info(j->png, j->info);
    return true;
}

ts_status ts_png_read_text(ts_err *err, const char *path, const char *key, char **out)
{
    ts_status st = TS_OK;
    job j = {0};
    png_textp text;
    int n;
    *out = NULL;
    j.file = fopen(path, "rbe");
    if (!j.file) TRY(ts_fail(err, TS_EMODEL, "%s: can not be read: %s", path, strerror(errno)));
    j.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &j, on_error, on_warning);
    j.info = j.png ? png_create_info_struct(j.png) : NULL;
    if (!j.info) TRY(ts_fail(err, TS_EMEMORY, "%s: no memory to read a PNG", path));
    if (!read_info(&j)) TRY(ts_fail(err, TS_EMODEL, "%s: is not a whole PNG: %s", path, j.message));
    png_get_text(j.png, j.info, &text, &n);
    for (int i = 0; i < n && !*out; i++)
        if (strcmp(text[i].key, key) == 0) {
            *out = strdup(text[i].text);
            if (!*out) TRY(ts_fail(err, TS_EMEMORY, "%s: no memory for its text", path));
        }
done:
    png_destroy_read_struct(&j.png, &j.info, NULL);
    if (j.file) fclose(j.file);
    return st;
}
