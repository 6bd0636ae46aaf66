/* A picture to begin with: bytes -> stb_image, else libav -> upright -> resized. */
#include "codecs/picture.h"

#include "codecs/picture_exif.h"
#include "codecs/picture_libav.h"
#include "codecs/picture_stb.h"
#include "weights/file.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BYTES = 1 << 30, MOST_PIXELS = 1 << 28, LOBES = 3 };

/* Where the stored first row and column are seen: 1 top left, 2 top right, 3 bottom right, 4 bottom
 * left, 5 left top, 6 right top, 7 right bottom, 8 left bottom. */
static ts_status turn_upright(ts_err *err, const char *path, ts_picture *p, int o)
{
    if (o == 1) return TS_OK;
    /* in the stored picture */
    bool swap = o >= 5, from_right = o == 2 || o == 3 || o == 7 || o == 8,
         from_bottom = o == 3 || o == 4 || o == 6 || o == 7;
    ts_picture t = {.w = swap ? p->h : p->w,
                    .h = swap ? p->w : p->h,
                    .rgb = malloc((size_t)p->w * (size_t)p->h * 3)};
    if (!t.rgb) return ts_fail(err, TS_EMEMORY, "%s: no memory for %dx%d pixels", path, p->w, p->h);
    for (int y = 0; y < t.h; y++)
        for (int x = 0; x < t.w; x++) {
            int i = swap ? y : x, j = swap ? x : y; /* column and row of the stored one */
            if (from_right) i = p->w - 1 - i;
            if (from_bottom) j = p->h - 1 - j;
            memcpy(t.rgb + ((size_t)y * (size_t)t.w + (size_t)x) * 3,
                   p->rgb + ((size_t)j * (size_t)p->w + (size_t)i) * 3, 3);
        }
    t.see_through = p->see_through;
    ts_picture_free(p);
    *p = t;
    return TS_OK;
}

/* RGBA into RGB in place, whatever the fourth says. */
static void drop_alpha(ts_picture *p)
{
    size_t n = (size_t)p->w * (size_t)p->h;
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c < 3; c++) p->rgb[3 * i + c] = p->rgb[4 * i + c];
}

/* RGBA into RGB in place, on white. A picture that is transparent all over has a fourth channel
 * that says nothing, as TGAs have: then it is left out. */
static void put_on_white(ts_picture *p)
{
    size_t n = (size_t)p->w * (size_t)p->h;
    bool any = false;
    for (size_t i = 0; i < n; i++) {
        any = any || p->rgb[4 * i + 3];
        p->see_through = p->see_through || p->rgb[4 * i + 3] < 255;
    }
    p->see_through = any && p->see_through;
    for (size_t i = 0; i < n; i++) {
        int a = any ? p->rgb[4 * i + 3] : 255;
        for (size_t c = 0; c < 3; c++)
            p->rgb[3 * i + c] = (uint8_t)((p->rgb[4 * i + c] * a + 255 * (255 - a) + 127) / 255);
    }
}

/* All of standard input. */
static ts_status read_standard(ts_err *err, const char *name, uint8_t **data, size_t *size)
{
    ts_status st = TS_OK;
    size_t room = 0, n = 0;
    *data = NULL;
    while (n <= MOST_BYTES && !feof(stdin)) {
        if (n == room) {
            room = room ? 2 * room : 1 << 16;
            uint8_t *more = realloc(*data, room);
            if (!more) TRY(ts_fail(err, TS_EMEMORY, "%s: no memory for %zu bytes", name, room));
            *data = more;
        }
        n += fread(*data + n, 1, room - n, stdin);
        if (ferror(stdin)) TRY(ts_fail(err, TS_EMODEL, "%s: %s", name, strerror(errno)));
    }
    if (n > MOST_BYTES)
        TRY(ts_fail(err, TS_EMODEL, "%s: more than %d bytes are too many for a picture", name,
                    MOST_BYTES));
    *size = n;
done:
    return st;
}

static ts_status check_pixels(ts_err *err, const char *name, long w, long h)
{
    if (w * h <= MOST_PIXELS) return TS_OK;
    return ts_fail(err, TS_EMODEL, "%s: %ldx%ld pixels, at most %d are read", name, w, h,
                   MOST_PIXELS);
}

/* stb_image calls a PNG that is too large for it an unknown kind: how large it is stands in front.
 */
static ts_status check_png(ts_err *err, const char *name, const uint8_t *data, size_t size)
{
    enum { SIZES = 16, END = 24 };
    const uint8_t *b = data + SIZES;
    if (size < END || memcmp(data, "\x89PNG\r\n\x1a\n", 8) || memcmp(data + 12, "IHDR", 4))
        return TS_OK;
    return check_pixels(err, name, (long)b[0] << 24 | b[1] << 16 | b[2] << 8 | b[3],
                        (long)b[4] << 24 | b[5] << 16 | b[6] << 8 | b[7]);
}

/* The largest Huffman table of a JPEG, in codes; 0: there is none. stb_image before 2.28 takes
 * tables of more than the 256 that there are (ITU T.81, B.2.4.2), and writes behind its own.
 * Markers are found as it finds them: behind a segment the next FF that no FF follows, in a scan
 * the next that is neither a byte FF (FF 00) nor a restart. */
static int largest_table(const uint8_t *data, size_t size)
{
    enum { START = 0xd8, TABLES = 0xc4, SCAN = 0xda, END = 0xd9, COUNTS = 16 };
    int most = 0;
    bool scan = false;
    if (size < 2 || data[0] != 0xff || data[1] != START) return 0;
    for (size_t at = 2; at + 1 < size;) {
        int m = data[at + 1];
        bool inside = scan && (!m || (m >= 0xd0 && m < START));
        if (data[at] != 0xff || m == 0xff || inside) {
            at++;
            continue;
        }
        at += 2;
        scan = scan && !m;
        if (!m || m == 1 || (m >= 0xd0 && m <= END) || at + 2 > size) continue;
        size_t length = (size_t)data[at] << 8 | data[at + 1],
               end = length < 2 || length > size - at ? size : at + length;
        scan = m == SCAN;
        for (size_t t = at + 2; m == TABLES && t < end;) {
            int codes = 0;
            for (size_t i = 1; i <= COUNTS && t + i < size; i++) codes += data[t + i];
            if (codes > most) most = codes;
            t += 1 + COUNTS + (size_t)codes;
        }
        at = end;
    }
    return most;
}

/* Sizes, and pixels of *channels each. */
static ts_status decode_picture(ts_err *err, const char *name, const uint8_t *data, size_t size,
                                int *channels, ts_picture *out)
{
    enum { CODES = 256 };
    bool known;
    ts_status large = check_png(err, name, data, size);
    if (large) return large;
    int codes = largest_table(data, size);
    if (codes > CODES)
        return ts_fail(err, TS_EMODEL,
                       "%s: a damaged picture: a Huffman table of %d codes, expected at most %d",
                       name, codes, CODES);
    if (!stbi_info_from_memory(data, (int)size, &out->w, &out->h, channels)) {
        const char *why = stbi_failure_reason();
        ts_status st = ts_picture_decode_libav(err, name, data, size, MOST_PIXELS, &known, channels,
                                               out);
        return st || known ? st
                           : ts_fail(err, TS_EMODEL,
                                     "%s: not a picture that can be read (PNG, JPEG, WebP, TIFF, "
                                     "GIF, BMP, TGA): %s",
                                     name, why);
    }
    large = check_pixels(err, name, out->w, out->h);
    if (large) return large;
    int n = *channels == 2 || *channels == 4 ? 4 : 3;
    out->rgb = stbi_load_from_memory(data, (int)size, &out->w, &out->h, channels, n);
    *channels = n;
    return out->rgb
               ? TS_OK
               : ts_fail(err, TS_EMODEL, "%s: a damaged picture: %s", name, stbi_failure_reason());
}

/* flatten: RGBA into RGB in place */
static ts_status read_upright(ts_err *err, const char *path, void (*flatten)(ts_picture *),
                              ts_picture *out)
{
    ts_status st = TS_OK;
    bool standard = !strcmp(path, "-");
    const char *name = standard ? "standard input" : path;
    uint8_t *data = NULL;
    size_t size = 0;
    int channels;
    *out = (ts_picture){0};
    TRY(standard ? read_standard(err, name, &data, &size)
                 : ts_file_read(err, path, MOST_BYTES, "a picture", &data, &size));
    TRY(decode_picture(err, name, data, size, &channels, out));
    if (channels == 4) flatten(out);
    TRY(turn_upright(err, name, out, ts_picture_orientation(path, data, size)));
done:
    free(data);
    if (st) ts_picture_free(out);
    return st;
}

ts_status ts_picture_read(ts_err *err, const char *path, ts_picture *out)
{
    return read_upright(err, path, put_on_white, out);
}

ts_status ts_picture_read_colours(ts_err *err, const char *path, ts_picture *out)
{
    return read_upright(err, path, drop_alpha, out);
}

void ts_picture_free(ts_picture *p)
{
    free(p->rgb);
    p->rgb = NULL;
}

/* ---- resizing ---- */
/* of one place: weights of source places first .. first + n - 1 */
typedef struct {
    int first, n;
    float *w;
} taps;

static double lanczos_weight(double x)
{
    double p = M_PI * x;
    return fabs(x) >= LOBES ? 0 : fabs(p) < 1e-9 ? 1 : LOBES * sin(p) * sin(p / LOBES) / (p * p);
}

/* Places 0 .. n - 1 of an axis that is `scale` source places to one and begins at source place
 * `start`; their weights sum to 1. */
static ts_status make_taps(ts_err *err, int from, double scale, double start, int n, taps **out)
{
    double wide = scale > 1 ? scale : 1;
    int most = 2 * (int)ceil(LOBES * wide) + 2;
    taps *t = calloc((size_t)n, sizeof *t);
    float *w = calloc((size_t)n * (size_t)most, sizeof *w);
    *out = t;
    if (!t || !w) {
        free(t);
        free(w);
        *out = NULL;
        return ts_fail(err, TS_EMEMORY, "no memory to resize a picture");
    }
    for (int i = 0; i < n; i++) {
        double at = start + (i + 0.5) * scale, sum = 0;
        int a = (int)floor(at - LOBES * wide), b = (int)ceil(at + LOBES * wide);
        t[i] = (taps){.first = a < 0 ? 0 : a, .w = w + (size_t)i * (size_t)most};
        if (b > from) b = from;
        t[i].n = b - t[i].first < most ? b - t[i].first : most;
        for (int k = 0; k < t[i].n; k++) sum += lanczos_weight((t[i].first + k + 0.5 - at) / wide);
        for (int k = 0; k < t[i].n; k++)
            t[i].w[k] = (float)(lanczos_weight((t[i].first + k + 0.5 - at) / wide) / sum);
    }
    return TS_OK; /* NOLINT(clang-analyzer-unix.Malloc): t[0] has w */
}

static void free_taps(taps *t)
{
    if (t) free(t->w); /* one block for all */
    free(t);
}

ts_status ts_picture_cover(ts_err *err, const ts_picture *p, int w, int h, float *out)
{
    ts_status st = TS_OK;
    double scale = fmin((double)p->w / w, (double)p->h / h); /* source places to one */
    taps *x = NULL, *y = NULL;
    /* columns done, rows not yet */
    float *lines = malloc((size_t)p->h * (size_t)w * 3 * sizeof *lines);
    if (!lines) TRY(ts_fail(err, TS_EMEMORY, "no memory to resize a picture of %dx%d", p->w, p->h));
    TRY(make_taps(err, p->w, scale, (p->w - w * scale) / 2, w, &x));
    TRY(make_taps(err, p->h, scale, (p->h - h * scale) / 2, h, &y));
    for (int j = 0; j < p->h; j++)
        for (int i = 0; i < w; i++)
            for (int c = 0; c < 3; c++) {
                float s = 0;
                for (int k = 0; k < x[i].n; k++)
                    s += x[i].w[k] *
                         (float)p->rgb[((size_t)j * (size_t)p->w + (size_t)(x[i].first + k)) * 3 +
                                       (size_t)c];
                lines[((size_t)j * (size_t)w + (size_t)i) * 3 + (size_t)c] = s / 255;
            }
    for (int j = 0; j < h; j++)
        for (int i = 0; i < 3 * w; i++) {
            float s = 0;
            for (int k = 0; k < y[j].n; k++)
                s += y[j].w[k] * lines[(size_t)(y[j].first + k) * (size_t)w * 3 + (size_t)i];
            out[(size_t)j * (size_t)w * 3 + (size_t)i] = s < 0 ? 0 : s > 1 ? 1 : s;
        }
done:
    free_taps(x);
    free_taps(y);
    free(lines);
    return st;
}
