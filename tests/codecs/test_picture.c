/* Pictures in: every format, EXIF's eight orientations, resizing against Pillow's Lanczos filter in
 * floating point, and files that are none. */
#include "codecs/picture.h"

#include "codecs/picture_resize.h"
#include "codecs/png.h"
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* 16x8 pixels: red on the left, green over blue on the right. */
static const uint8_t jpeg[] = {
    255, 216, 255, 224, 0,   16,  74,  70,  73,  70,  0,   1,   1,   0,   0,   1,   0,   1,   0,
    0,   255, 219, 0,   67,  0,   2,   1,   1,   1,   1,   1,   2,   1,   1,   1,   2,   2,   2,
    2,   2,   4,   3,   2,   2,   2,   2,   5,   4,   4,   3,   4,   6,   5,   6,   6,   6,   5,
    6,   6,   6,   7,   9,   8,   6,   7,   9,   7,   6,   6,   8,   11,  8,   9,   10,  10,  10,
    10,  10,  6,   8,   11,  12,  11,  10,  12,  9,   10,  10,  10,  255, 219, 0,   67,  1,   2,
    2,   2,   2,   2,   2,   5,   3,   3,   5,   10,  7,   6,   7,   10,  10,  10,  10,  10,  10,
    10,  10,  10,  10,  10,  10,  10,  10,  10,  10,  10,  10,  10,  10,  10,  10,  10,  10,  10,
    10,  10,  10,  10,  10,  10,  10,  10,  10,  10,  10,  10,  10,  10,  10,  10,  10,  10,  10,
    10,  10,  10,  10,  10,  10,  255, 192, 0,   17,  8,   0,   8,   0,   16,  3,   1,   17,  0,
    2,   17,  1,   3,   17,  1,   255, 196, 0,   31,  0,   0,   1,   5,   1,   1,   1,   1,   1,
    1,   0,   0,   0,   0,   0,   0,   0,   0,   1,   2,   3,   4,   5,   6,   7,   8,   9,   10,
    11,  255, 196, 0,   181, 16,  0,   2,   1,   3,   3,   2,   4,   3,   5,   5,   4,   4,   0,
    0,   1,   125, 1,   2,   3,   0,   4,   17,  5,   18,  33,  49,  65,  6,   19,  81,  97,  7,
    34,  113, 20,  50,  129, 145, 161, 8,   35,  66,  177, 193, 21,  82,  209, 240, 36,  51,  98,
    114, 130, 9,   10,  22,  23,  24,  25,  26,  37,  38,  39,  40,  41,  42,  52,  53,  54,  55,
    56,  57,  58,  67,  68,  69,  70,  71,  72,  73,  74,  83,  84,  85,  86,  87,  88,  89,  90,
    99,  100, 101, 102, 103, 104, 105, 106, 115, 116, 117, 118, 119, 120, 121, 122, 131, 132, 133,
    134, 135, 136, 137, 138, 146, 147, 148, 149, 150, 151, 152, 153, 154, 162, 163, 164, 165, 166,
    167, 168, 169, 170, 178, 179, 180, 181, 182, 183, 184, 185, 186, 194, 195, 196, 197, 198, 199,
    200, 201, 202, 210, 211, 212, 213, 214, 215, 216, 217, 218, 225, 226, 227, 228, 229, 230, 231,
    232, 233, 234, 241, 242, 243, 244, 245, 246, 247, 248, 249, 250, 255, 196, 0,   31,  1,   0,
    3,   1,   1,   1,   1,   1,   1,   1,   1,   1,   0,   0,   0,   0,   0,   0,   1,   2,   3,
    4,   5,   6,   7,   8,   9,   10,  11,  255, 196, 0,   181, 17,  0,   2,   1,   2,   4,   4,
    3,   4,   7,   5,   4,   4,   0,   1,   2,   119, 0,   1,   2,   3,   17,  4,   5,   33,  49,
    6,   18,  65,  81,  7,   97,  113, 19,  34,  50,  129, 8,   20,  66,  145, 161, 177, 193, 9,
    35,  51,  82,  240, 21,  98,  114, 209, 10,  22,  36,  52,  225, 37,  241, 23,  24,  25,  26,
    38,  39,  40,  41,  42,  53,  54,  55,  56,  57,  58,  67,  68,  69,  70,  71,  72,  73,  74,
    83,  84,  85,  86,  87,  88,  89,  90,  99,  100, 101, 102, 103, 104, 105, 106, 115, 116, 117,
    118, 119, 120, 121, 122, 130, 131, 132, 133, 134, 135, 136, 137, 138, 146, 147, 148, 149, 150,
    151, 152, 153, 154, 162, 163, 164, 165, 166, 167, 168, 169, 170, 178, 179, 180, 181, 182, 183,
    184, 185, 186, 194, 195, 196, 197, 198, 199, 200, 201, 202, 210, 211, 212, 213, 214, 215, 216,
    217, 218, 226, 227, 228, 229, 230, 231, 232, 233, 234, 242, 243, 244, 245, 246, 247, 248, 249,
    250, 255, 218, 0,   12,  3,   1,   0,   2,   17,  3,   17,  0,   63,  0,   249, 30,  191, 151,
    207, 247, 128, 236, 63,  225, 243, 191, 245, 109, 223, 249, 120, 255, 0,   247, 29,  127, 120,
    127, 197, 37,  127, 234, 179, 255, 0,   204, 119, 255, 0,   127, 31,  242, 95,  255, 0,   18,
    221, 255, 0,   83,  79,  252, 161, 255, 0,   221, 143, 255, 217};

static char *path_in(const char *name)
{
    static char path[4096];
    char *dir = testing_tmp();
    snprintf(path, sizeof path, "%s/%s", dir, name);
    free(dir);
    return path;
}

static const char *write_file(const char *name, const void *data, size_t n)
{
    const char *path = path_in(name);
    FILE *f = fopen(path, "wb");
    ck_assert(f && fwrite(data, 1, n, f) == n);
    fclose(f);
    return path;
}

/* The letter of a pixel: r g b, else ? */
static char colour(const ts_picture *p, int x, int y)
{
    const uint8_t *c = p->rgb + ((size_t)y * (size_t)p->w + (size_t)x) * 3;
    for (int k = 0; k < 3; k++)
        if (c[k] > 220 && c[(k + 1) % 3] < 40 && c[(k + 2) % 3] < 40) return "rgb"[k];
    return '?';
}

/* The picture's corners: top left, top right, bottom left, bottom right. */
static void expect_corners(const ts_picture *p, int w, int h, const char *want)
{
    char got[5] = {colour(p, 1, 1), colour(p, p->w - 2, 1), colour(p, 1, p->h - 2),
                   colour(p, p->w - 2, p->h - 2), 0};
    ck_assert_msg(p->w == w && p->h == h && !strcmp(got, want),
                  "%dx%d, corners %s, expected %dx%d, %s", p->w, p->h, got, w, h, want);
}

START_TEST(orientations)
{
    static const struct {
        int w, h;
        const char *corners;
    } want[9] = {{16, 8, "rgrb"}, {16, 8, "rgrb"}, {16, 8, "grbr"},
                 {16, 8, "brgr"}, {16, 8, "rbrg"}, {8, 16, "rrgb"},
                 {8, 16, "rrbg"}, {8, 16, "bgrr"}, {8, 16, "gbrr"}};
    ts_err err = {0};
    ts_picture p;
    int o = _i;
    /* APP1: Exif, big-endian TIFF, one directory with one entry 0x0112 SHORT */
    uint8_t app1[] = {0xFF, 0xE1, 0, 34, 'E', 'x',        'i', 'f', 0, 0,    'M', 'M',
                      0,    42,   0, 0,  0,   8,          0,   1,   1, 0x12, 0,   3,
                      0,    0,    0, 1,  0,   (uint8_t)o, 0,   0,   0, 0,    0,   0};
    uint8_t file[sizeof jpeg + sizeof app1];
    memcpy(file, jpeg, 2);
    memcpy(file + 2, app1, sizeof app1);
    memcpy(file + 2 + sizeof app1, jpeg + 2, sizeof jpeg - 2);
    const char *path = write_file("a.jpg", file, sizeof file);
    ck_assert_msg(ts_picture_read(&err, path, &p) == TS_OK, "%s", err.text);
    expect_corners(&p, want[o].w, want[o].h, want[o].corners); /* 0 is no orientation and means 1 */
    ts_picture_free(&p);
}
END_TEST

/* Appends a chunk: length, type, data, CRC-32 of type and data. */
static size_t add_chunk(uint8_t *to, const char *type, const void *data, size_t n)
{
    const uint8_t length[4] = {0, 0, (uint8_t)(n >> 8), (uint8_t)n};
    uint32_t crc = UINT32_MAX;
    memcpy(to, length, 4);
    memcpy(to + 4, type, 4);
    memcpy(to + 8, data, n);
    for (size_t i = 4; i < n + 8; i++) {
        crc ^= to[i];
        for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    for (int i = 0; i < 4; i++) to[n + 8 + (size_t)i] = (uint8_t)(~crc >> (24 - 8 * i));
    return n + 12;
}

/* The picture of `jpeg` as a PNG, with the chunk before or behind the picture's data. */
static void expect_png(const char *type, const void *data, size_t n, bool behind, int w, int h,
                       const char *corners)
{
    ts_err err = {0};
    ts_picture p;
    ts_png_text text = {.name = "a.png"};
    const char *path = write_file("a.jpg", jpeg, sizeof jpeg);
    ck_assert_msg(ts_picture_read(&err, path, &p) == TS_OK, "%s", err.text);
    path = path_in("a.png");
    ck_assert_msg(ts_png_write(&err, path, p.w, p.h, p.rgb, &text) == TS_OK, "%s", err.text);
    ts_picture_free(&p);
    enum { HEAD = 8 + 25, END = 12, MOST = 1 << 16 };
    static uint8_t in[MOST], out[MOST];
    FILE *f = fopen(path, "rb");
    size_t size = fread(in, 1, MOST, f), at = behind ? size - END : HEAD;
    fclose(f);
    memset(out, 0, MOST);
    memcpy(out, in, at);
    size_t added = add_chunk(out + at, type, data, n);
    memcpy(out + at + added, in + at, size - at);
    path = write_file("b.png", out, size + added);
    ck_assert_msg(ts_picture_read(&err, path, &p) == TS_OK, "%s", err.text);
    expect_corners(&p, w, h, corners);
    ts_picture_free(&p);
}

START_TEST(orientations_in_png)
{
    const uint8_t big[] = {'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0,
                           3,   0,   0, 0,  1, 0, 6, 0, 0, 0, 0, 0,    0},
                  little[] = {'I', 'I', 42, 0, 8, 0, 0, 0, 1, 0, 0x12, 1, 3,
                              0,   1,   0,  0, 0, 8, 0, 0, 0, 0, 0,    0, 0};
    uint8_t named[6 + sizeof big] = "Exif\0";
    memcpy(named + 6, big, sizeof big);
    for (int behind = 0; behind < 2; behind++) {
        expect_png("eXIf", big, sizeof big, behind, 8, 16, "rrbg");
        expect_png("eXIf", little, sizeof little, behind, 8, 16, "gbrr");
        expect_png("eXIf", named, sizeof named, behind, 8, 16, "rrbg");
        expect_png("eXIf", big, 10, behind, 16, 8, "rgrb"); /* cut */
        expect_png("eXIf", big, 0, behind, 16, 8, "rgrb");
    }
    /* as ImageMagick writes it */
    char text[256];
    size_t n = (size_t)snprintf(text, sizeof text, "Raw profile type exif%c\nexif\n      %zu\n", 0,
                                sizeof named);
    for (size_t i = 0; i < sizeof named; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%02x%s", named[i], i == 20 ? "\n" : "");
    expect_png("tEXt", text, n, false, 8, 16, "rrbg");
    expect_png("tEXt", text, 40, false, 16, 8, "rgrb"); /* cut */
}
END_TEST

static void read_back(const char *path, int w, int h, const char *corners)
{
    ts_err err = {0};
    ts_picture p;
    ck_assert_msg(ts_picture_read(&err, path, &p) == TS_OK, "%s", err.text);
    expect_corners(&p, w, h, corners);
    ts_picture_free(&p);
}

START_TEST(formats)
{
    ts_err err = {0};
    uint8_t rgb[6 * 6 * 3] = {0}, bmp[54 + 6 * 20] = {0}, tga[18 + 6 * 6 * 4] = {0},
                        grey[18 + 4] = {0};
    for (int y = 0; y < 6; y++)
        for (int x = 0; x < 6; x++) {
            int c = x < 3 ? 0 : y < 3 ? 1 : 2;
            rgb[(y * 6 + x) * 3 + c] = 255;
            /* bottom up, blue first, rows of 4 n bytes */
            bmp[54 + (5 - y) * 20 + x * 3 + 2 - c] = 255;
            /* with a channel of transparency that says: all of it */
            tga[18 + (y * 6 + x) * 4 + 2 - c] = 255;
        }
    const char *png = path_in("a.png");
    ck_assert_msg(ts_png_write(&err, png, 6, 6, rgb, &(ts_png_text){.name = png}) == TS_OK, "%s",
                  err.text);
    read_back(png, 6, 6, "rgrb");
    memcpy(bmp, "BM", 2);
    bmp[2] = sizeof bmp;
    bmp[10] = 54;
    bmp[14] = 40;
    bmp[18] = 6;
    bmp[22] = 6;
    bmp[26] = 1;
    bmp[28] = 24;
    read_back(write_file("a.bmp", bmp, sizeof bmp), 6, 6, "rgrb");
    tga[2] = 2;
    tga[12] = 6;
    tga[14] = 6;
    tga[16] = 32;
    tga[17] = 0x28; /* top down */
    read_back(write_file("a.tga", tga, sizeof tga), 6, 6, "rgrb");
    grey[2] = 3;
    grey[12] = 2;
    grey[14] = 2;
    grey[16] = 8;
    grey[17] = 0x20;
    grey[18] = 7;
    grey[21] = 200;
    ts_picture p;
    ck_assert_msg(ts_picture_read(&err, write_file("g.tga", grey, sizeof grey), &p) == TS_OK, "%s",
                  err.text);
    ck_assert(p.w == 2 && p.h == 2 && p.rgb[0] == 7 && p.rgb[1] == 7 && p.rgb[2] == 7 &&
              p.rgb[9] == 200 && p.rgb[11] == 200);
    ts_picture_free(&p);
    read_back(write_file("a.jpeg", jpeg, sizeof jpeg), 16, 8, "rgrb");
}
END_TEST

/* The same picture by other programs. */
static const uint8_t gif[] = {
    71,  73,  70,  56,  57,  97,  16,  0,   8,   0,   247, 31,  0,   0,   0,   0,   36,  0,   0,
    72,  0,   0,   108, 0,   0,   144, 0,   0,   180, 0,   0,   216, 0,   0,   252, 0,   0,   0,
    36,  0,   36,  36,  0,   72,  36,  0,   108, 36,  0,   144, 36,  0,   180, 36,  0,   216, 36,
    0,   252, 36,  0,   0,   72,  0,   36,  72,  0,   72,  72,  0,   108, 72,  0,   144, 72,  0,
    180, 72,  0,   216, 72,  0,   252, 72,  0,   0,   108, 0,   36,  108, 0,   72,  108, 0,   108,
    108, 0,   144, 108, 0,   180, 108, 0,   216, 108, 0,   252, 108, 0,   0,   144, 0,   36,  144,
    0,   72,  144, 0,   108, 144, 0,   144, 144, 0,   180, 144, 0,   216, 144, 0,   252, 144, 0,
    0,   180, 0,   36,  180, 0,   72,  180, 0,   108, 180, 0,   144, 180, 0,   180, 180, 0,   216,
    180, 0,   252, 180, 0,   0,   216, 0,   36,  216, 0,   72,  216, 0,   108, 216, 0,   144, 216,
    0,   180, 216, 0,   216, 216, 0,   252, 216, 0,   0,   252, 0,   36,  252, 0,   72,  252, 0,
    108, 252, 0,   144, 252, 0,   180, 252, 0,   216, 252, 0,   252, 252, 0,   0,   0,   85,  36,
    0,   85,  72,  0,   85,  108, 0,   85,  144, 0,   85,  180, 0,   85,  216, 0,   85,  252, 0,
    85,  0,   36,  85,  36,  36,  85,  72,  36,  85,  108, 36,  85,  144, 36,  85,  180, 36,  85,
    216, 36,  85,  252, 36,  85,  0,   72,  85,  36,  72,  85,  72,  72,  85,  108, 72,  85,  144,
    72,  85,  180, 72,  85,  216, 72,  85,  252, 72,  85,  0,   108, 85,  36,  108, 85,  72,  108,
    85,  108, 108, 85,  144, 108, 85,  180, 108, 85,  216, 108, 85,  252, 108, 85,  0,   144, 85,
    36,  144, 85,  72,  144, 85,  108, 144, 85,  144, 144, 85,  180, 144, 85,  216, 144, 85,  252,
    144, 85,  0,   180, 85,  36,  180, 85,  72,  180, 85,  108, 180, 85,  144, 180, 85,  180, 180,
    85,  216, 180, 85,  252, 180, 85,  0,   216, 85,  36,  216, 85,  72,  216, 85,  108, 216, 85,
    144, 216, 85,  180, 216, 85,  216, 216, 85,  252, 216, 85,  0,   252, 85,  36,  252, 85,  72,
    252, 85,  108, 252, 85,  144, 252, 85,  180, 252, 85,  216, 252, 85,  252, 252, 85,  0,   0,
    170, 36,  0,   170, 72,  0,   170, 108, 0,   170, 144, 0,   170, 180, 0,   170, 216, 0,   170,
    252, 0,   170, 0,   36,  170, 36,  36,  170, 72,  36,  170, 108, 36,  170, 144, 36,  170, 180,
    36,  170, 216, 36,  170, 252, 36,  170, 0,   72,  170, 36,  72,  170, 72,  72,  170, 108, 72,
    170, 144, 72,  170, 180, 72,  170, 216, 72,  170, 252, 72,  170, 0,   108, 170, 36,  108, 170,
    72,  108, 170, 108, 108, 170, 144, 108, 170, 180, 108, 170, 216, 108, 170, 252, 108, 170, 0,
    144, 170, 36,  144, 170, 72,  144, 170, 108, 144, 170, 144, 144, 170, 180, 144, 170, 216, 144,
    170, 252, 144, 170, 0,   180, 170, 36,  180, 170, 72,  180, 170, 108, 180, 170, 144, 180, 170,
    180, 180, 170, 216, 180, 170, 252, 180, 170, 0,   216, 170, 36,  216, 170, 72,  216, 170, 108,
    216, 170, 144, 216, 170, 180, 216, 170, 216, 216, 170, 252, 216, 170, 0,   252, 170, 36,  252,
    170, 72,  252, 170, 108, 252, 170, 144, 252, 170, 180, 252, 170, 216, 252, 170, 252, 252, 170,
    0,   0,   255, 36,  0,   255, 72,  0,   255, 108, 0,   255, 144, 0,   255, 180, 0,   255, 216,
    0,   255, 252, 0,   255, 0,   36,  255, 36,  36,  255, 72,  36,  255, 108, 36,  255, 144, 36,
    255, 180, 36,  255, 216, 36,  255, 252, 36,  255, 0,   72,  255, 36,  72,  255, 72,  72,  255,
    108, 72,  255, 144, 72,  255, 180, 72,  255, 216, 72,  255, 252, 72,  255, 0,   108, 255, 36,
    108, 255, 72,  108, 255, 108, 108, 255, 144, 108, 255, 180, 108, 255, 216, 108, 255, 252, 108,
    255, 0,   144, 255, 36,  144, 255, 72,  144, 255, 108, 144, 255, 144, 144, 255, 180, 144, 255,
    216, 144, 255, 252, 144, 255, 0,   180, 255, 36,  180, 255, 72,  180, 255, 108, 180, 255, 144,
    180, 255, 180, 180, 255, 216, 180, 255, 252, 180, 255, 0,   216, 255, 36,  216, 255, 72,  216,
    255, 108, 216, 255, 144, 216, 255, 180, 216, 255, 216, 216, 255, 252, 216, 255, 0,   252, 255,
    36,  252, 255, 72,  252, 255, 108, 252, 255, 144, 252, 255, 180, 252, 255, 216, 252, 255, 252,
    252, 255, 33,  255, 11,  78,  69,  84,  83,  67,  65,  80,  69,  50,  46,  48,  3,   1,   0,
    0,   0,   33,  249, 4,   4,   0,   0,   31,  0,   44,  0,   0,   0,   0,   16,  0,   8,   0,
    0,   8,   42,  0,   15,  8,   28,  40,  16,  135, 193, 131, 6,   9,   18,  68,  136, 80,  225,
    64,  134, 7,   29,  22,  132, 136, 67,  226, 1,   96,  24,  51,  98,  180, 168, 81,  35,  199,
    142, 27,  37,  130, 196, 24,  16,  0,   59};
static const uint8_t webp[] = {
    82,  73, 70,  70, 52, 0,   0,   0,  87, 69,  66,  80,  86,  80,  56,  76,  39,  0,   0,  0,
    47,  15, 192, 1,  0,  23,  32,  16, 72, 218, 31,  122, 141, 249, 23,  16,  20,  249, 63, 218,
    252, 7,  95,  10, 8,  178, 109, 38, 57, 201, 129, 254, 10,  17,  253, 143, 210, 7,   27, 0};

/* A TIFF of 16x8 RGB in one strip, `big` or little endian, of an orientation; its length. */
static size_t make_tiff(uint8_t *to, bool big, int orientation)
{
    enum { HEADER = 8, PIXELS = 16 * 8 * 3, BITS = HEADER + PIXELS, DIRECTORY = BITS + 6 };
    const struct {
        int tag, type, count, value;
    } entry[] = {{256, 3, 1, 16}, {257, 3, 1, 8},      {258, 3, 3, BITS},        {259, 3, 1, 1},
                 {262, 3, 1, 2},  {273, 4, 1, HEADER}, {274, 3, 1, orientation}, {277, 3, 1, 3},
                 {278, 3, 1, 8},  {279, 4, 1, PIXELS}};
    enum { ENTRIES = sizeof entry / sizeof *entry };
    size_t at = 0;
#define PUT(value, bytes) \
    for (int b = 0; b < (bytes); b++) to[at++] = (uint8_t)((value) >> 8 * (big ? (bytes)-1 - b : b))
    to[at++] = big ? 'M' : 'I';
    to[at++] = big ? 'M' : 'I';
    PUT(42, 2);
    PUT(DIRECTORY, 4);
    for (int i = 0; i < 16 * 8; i++)
        for (int c = 0; c < 3; c++) to[at++] = c == (i % 16 < 8 ? 0 : i < 64 ? 1 : 2) ? 255 : 0;
    for (int c = 0; c < 3; c++) PUT(8, 2);
    PUT(ENTRIES, 2);
    for (int i = 0; i < ENTRIES; i++) {
        PUT(entry[i].tag, 2);
        PUT(entry[i].type, 2);
        PUT(entry[i].count, 4);
        bool inside = entry[i].type == 3 && entry[i].count == 1;
        PUT(entry[i].value, inside ? 2 : 4);
        if (inside) PUT(0, 2);
    }
    PUT(0, 4);
#undef PUT
    return at;
}

START_TEST(formats_of_libav)
{
    uint8_t tiff[1024];
    read_back(write_file("a.gif", gif, sizeof gif), 16, 8, "rgrb");
    read_back(write_file("a.webp", webp, sizeof webp), 16, 8, "rgrb");
    for (int big = 0; big < 2; big++) {
        size_t n = make_tiff(tiff, big, 1);
        read_back(write_file("a.tiff", tiff, n), 16, 8, "rgrb");
        n = make_tiff(tiff, big, 6);
        read_back(write_file("a.tiff", tiff, n), 8, 16, "rrbg");
        n = make_tiff(tiff, big, 9);
        read_back(write_file("a.tiff", tiff, n), 16, 8, "rgrb");
    }
    /* a WebP keeps EXIF behind its pixels */
    static const uint8_t exif[] = {'E', 'X', 'I', 'F', 26, 0, 0,    0, 'I', 'I', 42, 0,
                                   8,   0,   0,   0,   1,  0, 0x12, 1, 3,   0,   1,  0,
                                   0,   0,   8,   0,   0,  0, 0,    0, 0,   0};
    uint8_t turned[sizeof webp + sizeof exif];
    memcpy(turned, webp, sizeof webp);
    memcpy(turned + sizeof webp, exif, sizeof exif);
    turned[4] = (uint8_t)(turned[4] + sizeof exif);
    read_back(write_file("t.webp", turned, sizeof turned), 8, 16, "gbrr");
}
END_TEST

/* What is under a transparent pixel is not seen: white is; half of it half. */
START_TEST(transparent)
{
    ts_err err = {0};
    ts_picture p;
    uint8_t tga[18 + 2 * 2 * 4] = {0};
    static const uint8_t bgra[16] = {10, 20, 30, 255, 10, 20, 30, 0, 0, 0, 200, 128, 9, 9, 9, 1};
    static const uint8_t want[12] = {30, 20, 10, 255, 255, 255, 227, 127, 127, 254, 254, 254};
    tga[2] = 2;
    tga[12] = 2;
    tga[14] = 2;
    tga[16] = 32;
    tga[17] = 0x28;
    memcpy(tga + 18, bgra, sizeof bgra);
    ck_assert_msg(ts_picture_read(&err, write_file("t.tga", tga, sizeof tga), &p) == TS_OK, "%s",
                  err.text);
    ck_assert(p.see_through);
    for (int i = 0; i < 12; i++) ck_assert_msg(p.rgb[i] == want[i], "%d: %d", i, p.rgb[i]);
    ts_picture_free(&p);
}
END_TEST

/* What is under a transparent pixel counts where a picture is a condition. */
START_TEST(colours_below)
{
    ts_err err = {0};
    ts_picture p;
    uint8_t tga[18 + 2 * 4] = {0};
    static const uint8_t bgra[8] = {10, 20, 30, 255, 40, 50, 60, 0};
    tga[2] = 2;
    tga[12] = 2;
    tga[14] = 1;
    tga[16] = 32;
    tga[17] = 0x28;
    memcpy(tga + 18, bgra, sizeof bgra);
    ck_assert_msg(ts_picture_read_colours(&err, write_file("t.tga", tga, sizeof tga), &p) == TS_OK,
                  "%s", err.text);
    ck_assert(!memcmp(p.rgb, (uint8_t[]){30, 20, 10, 60, 50, 40}, 6));
    ts_picture_free(&p);
}
END_TEST

/* ---- refusals ---- */
static void refuse(const char *path, const char *says)
{
    ts_err err = {0};
    ts_picture p;
    ck_assert_int_eq(ts_picture_read(&err, path, &p), TS_EMODEL);
    ck_assert_msg(!strncmp(err.text, path, strlen(path)) && strstr(err.text, says),
                  "\"%s\" does not say \"%s\"", err.text, says);
    ck_assert_ptr_null(p.rgb);
}

/* More codes than a table has, in the first one, in the last, of one that the file's end cuts; the
 * place of a table is found where there are fill bytes, too. */
START_TEST(too_many_codes)
{
    uint8_t b[sizeof jpeg + 2], *last = NULL;
    for (size_t i = 0; i + 1 < sizeof jpeg; i++)
        if (jpeg[i] == 0xff && jpeg[i + 1] == 0xc4) {
            memcpy(b, jpeg, sizeof jpeg);
            b[i + 5 + 15] = 255;
            refuse(write_file("codes.jpg", b, sizeof jpeg), "a Huffman table of 2");
            b[i + 5 + 14] = 255;
            refuse(write_file("codes.jpg", b, i + 5 + 16),
                   "a damaged picture: a Huffman table of ");
            memmove(b + i + 2, b + i, sizeof jpeg - i);
            b[i + 1] = b[i + 2] = 0xff;
            refuse(write_file("codes.jpg", b, sizeof b), "expected at most 256");
            last = b;
        }
    ck_assert_ptr_nonnull(last);
}
END_TEST

START_TEST(no_pictures)
{
    refuse("/nowhere/photo.jpg", "No such file");
    refuse("/tmp", "not a file");
    refuse(write_file("empty.png", "", 0), "not a picture that can be read");
    refuse(write_file("text.png", "this is a text and no picture at all", 36),
           "not a picture that can be read (PNG, JPEG, WebP, TIFF, GIF, BMP, TGA)");
    refuse(write_file("cut.jpg", jpeg, 100), "not a picture that can be read");
    refuse(write_file("cut.webp", webp, 40), "a damaged picture");
    refuse(write_file("cut.gif", gif, 20), "a damaged picture");
    /* readers look for transparency up to the data */
    uint8_t huge[45] = {0x89, 'P', 'N', 'G', 13,       10,  26,  10,   0,  0, 0,
                        13,   'I', 'H', 'D', 'R',      0,   0,   0x41, 0,  0, 0,
                        0x41, 0,   8,   2,   [36] = 1, 'I', 'D', 'A',  'T'};
    refuse(write_file("huge.png", huge, sizeof huge),
           "16640x16640 pixels, at most 268435456 are read");
    huge[18] = huge[22] = 0xea; /* more than stb_image tells the kind of */
    huge[19] = huge[23] = 0x60;
    refuse(write_file("vast.png", huge, sizeof huge), "60000x60000 pixels, at most");
    huge[18] = 0;
    huge[19] = 4;
    huge[22] = 0;
    huge[23] = 4;
    refuse(write_file("cut.png", huge, sizeof huge), "a damaged picture");
}
END_TEST

/* ---- resizing bit by bit ---- */
static const struct {
    int w, h, to_w, to_h;
    ts_filter filter;
    uint32_t hash; /* FNV-1a of what Pillow 13 makes of noise_picture */
} exact[] = {
    {37, 29, 64, 48, TS_FILTER_LANCZOS, 0xd36cb68d},
    {37, 29, 16, 12, TS_FILTER_LANCZOS, 0xeed0bd16},
    {150, 70, 80, 48, TS_FILTER_LANCZOS, 0xac1e6f14},
    {40, 90, 41, 30, TS_FILTER_LANCZOS, 0xa5e7deb3}, /* down first */
    {40, 90, 40, 30, TS_FILTER_LANCZOS, 0x5bc897f9},
    {40, 90, 39, 90, TS_FILTER_LANCZOS, 0xc6c5b791},
    {3, 5, 7, 2, TS_FILTER_LANCZOS, 0xd4b9fa12},
    {1, 1, 6, 4, TS_FILTER_LANCZOS, 0xd4ab901d},
    {37, 29, 64, 48, TS_FILTER_BICUBIC, 0x7e5798b7},
    {90, 41, 30, 13, TS_FILTER_BICUBIC, 0x98ee12eb},
    {31, 200, 30, 193, TS_FILTER_BICUBIC, 0x737ff98e},
    {200, 31, 193, 30, TS_FILTER_BICUBIC, 0x63025499},
};
enum { EXACT = sizeof exact / sizeof *exact };

static ts_picture noise_picture(int w, int h)
{
    size_t n = (size_t)w * (size_t)h * 3;
    ts_picture p = {.w = w, .h = h, .rgb = malloc(n)};
    for (size_t j = 0; j < n; j++) {
        uint32_t x = 7 + (uint32_t)j * 0x9E3779B9U;
        x = (x ^ x >> 16) * 0x7feb352dU;
        x = (x ^ x >> 15) * 0x846ca68bU;
        p.rgb[j] = (uint8_t)((x ^ x >> 16) >> 24);
    }
    return p;
}

START_TEST(as_pillow_does)
{
    ts_err err = {0};
    ts_picture p = noise_picture(exact[_i].w, exact[_i].h), r;
    uint32_t h = 2166136261U;
    int w = exact[_i].to_w, high = exact[_i].to_h;
    ck_assert(ts_picture_resize(&err, &p, w, high, exact[_i].filter, &r) == TS_OK);
    ck_assert(r.w == w && r.h == high);
    for (int i = 0; i < w * high * 3; i++) h = (h ^ r.rgb[i]) * 16777619U;
    ck_assert_msg(h == exact[_i].hash, "%dx%d to %dx%d: %08x", p.w, p.h, w, high, h);
    ts_picture_free(&p);
    ts_picture_free(&r);
}
END_TEST

/* ---- resizing ---- */
static const struct {
    int w, h, to_w, to_h;
    double want[64];
} pillow[] = {
    {8,
     6,
     4,
     3,
     {87.2735, 136.4985, 139.0529, 130.8466, 136.2547, 149.5541, 145.7803, 123.2660, 109.8037,
      144.9957, 135.1807, 129.7394}},
    {6, 4, 9, 6, {-8.2956,  8.3878,   36.8639,  55.9327,  73.0950,  104.5163, 151.0990, 188.3092,
                  200.0776, 26.4177,  40.5947,  82.1353,  129.7570, 183.8647, 171.5749, 91.0758,
                  91.9452,  129.0092, 115.2032, 143.7536, 176.3233, 172.9124, 228.6056, 211.3799,
                  67.2643,  55.1681,  108.8535, 181.0968, 239.6958, 231.7176, 85.1276,  66.5612,
                  135.4411, 157.5879, 203.1741, 231.6306, 89.8089,  138.9162, 165.0024, 104.9698,
                  131.9533, 170.6266, 133.1505, 166.3971, 211.4749, -4.7966,  24.6655,  94.7218,
                  162.0519, 257.5536, 234.3678, 72.6779,  70.0331,  140.4065}},
    {20,
     10,
     6,
     3,
     {121.9762, 142.8658, 113.4850, 136.9531, 116.5079, 125.9742, 129.2165, 149.3536, 139.1275,
      136.6762, 164.2921, 132.2635, 143.1250, 133.0923, 139.1454, 141.7964, 129.5353, 142.2225}},
};

START_TEST(resizing)
{
    ts_err err = {0};
    for (size_t i = 0; i < sizeof pillow / sizeof *pillow; i++) {
        int w = pillow[i].w, h = pillow[i].h, n = pillow[i].to_w * pillow[i].to_h;
        uint8_t *rgb = malloc((size_t)(w * h) * 3);
        float out[64 * 3];
        for (int y = 0; y < h; y++)
            for (int x = 0; x < w; x++)
                memset(rgb + (y * w + x) * 3, (37 * x + 91 * y + 13 * x * y) % 256, 3);
        ck_assert(ts_picture_cover(&err, &(ts_picture){w, h, rgb, false}, pillow[i].to_w,
                                   pillow[i].to_h, out) == TS_OK);
        for (int k = 0; k < n; k++) {
            double want = fmin(fmax(pillow[i].want[k], 0), 255);
            ck_assert_msg(fabs(out[3 * k] * 255 - want) < 2e-3 && out[3 * k] == out[3 * k + 2],
                          "%dx%d, place %d: %.4f, expected %.4f", w, h, k, 255 * out[3 * k], want);
        }
        free(rgb);
    }
}
END_TEST

/* What covers more than is wanted loses as much at both ends; what fits already is not touched. */
START_TEST(middle)
{
    ts_err err = {0};
    uint8_t rgb[9 * 4 * 3];
    float out[4 * 4 * 3];
    for (int i = 0; i < 9 * 4; i++)
        for (int k = 0; k < 3; k++) rgb[3 * i + k] = (uint8_t)(10 * (i % 9) + k);
    ck_assert(ts_picture_cover(&err, &(ts_picture){9, 4, rgb, false}, 3, 4, out) == TS_OK);
    for (int y = 0; y < 4; y++)
        for (int x = 0; x < 3; x++)
            for (int k = 0; k < 3; k++)
                ck_assert_msg(fabsf(255 * out[(y * 3 + x) * 3 + k] - (float)(10 * (x + 3) + k)) <
                                  1e-3f,
                              "%d %d %d", x, y, k);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("picture");
    TCase *tc = tcase_create("picture");
    tcase_add_loop_test(tc, orientations, 0, 9);
    tcase_add_test(tc, orientations_in_png);
    tcase_add_test(tc, formats);
    tcase_add_test(tc, formats_of_libav);
    tcase_add_test(tc, transparent);
    tcase_add_test(tc, colours_below);
    tcase_add_loop_test(tc, as_pillow_does, 0, EXACT);
    tcase_add_test(tc, too_many_codes);
    tcase_add_test(tc, no_pictures);
    tcase_add_test(tc, resizing);
    tcase_add_test(tc, middle);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
