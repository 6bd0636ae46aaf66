/* Pictures in JPEG and WebP: near to what was given, the same bytes again, with text that is read
 * back; what is refused. */
#include "tests/codecs/test_files.h"

#include "codecs/picture.h"
#include "codecs/picture_write.h"

static const char *const names[] = {"a.jpg", "a.webp", "a.jpeg", "b.webp"};
enum { NAMES = sizeof names / sizeof *names, W = 37, H = 22 };

/* Smooth in both directions, so that what is lost is small. */
static void draw(float *rgb)
{
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) {
            float *p = rgb + 3 * (y * W + x);
            p[0] = (float)x / (W - 1);
            p[1] = (float)y / (H - 1);
            p[2] = 0.25f + 0.5f * (float)(x + y) / (W + H);
        }
}

static void write_quality(const char *path, int quality, const char *json, bool metadata);

/* JSON of n bytes. */
static char *long_json(size_t n)
{
    char *s = malloc(n + 64);
    strcpy(s, "{\"tessera\":\"1\",\"prompt\":\"a < b & c > d \xC3\xA9 ");
    size_t at = strlen(s);
    for (; at < n; at++) s[at] = "ab<&"[at % 4];
    strcpy(s + at, "\"}");
    return s;
}

static void write_one(const char *path, const char *json, bool metadata)
{
    write_quality(path, 0, json, metadata);
}

static void write_quality(const char *path, int quality, const char *json, bool metadata)
{
    static float rgb[3 * W * H];
    ts_file_options o = plain();
    ts_sink *sink;
    o.metadata = metadata;
    o.overwrite = true;
    o.quality = quality;
    draw(rgb);
    ck_assert_msg(!ts_file_open(&err, path, &o, &sink), "%s", err.text);
    ck_assert_msg(!sink->open(sink, W, H, 1, 16, json), "%s", sink->error);
    ck_assert_msg(!sink->frame(sink, &(ts_frame){.w = W, .h = H, .rgb = rgb}), "%s", sink->error);
    ck_assert_msg(!sink->close(sink), "%s", sink->error);
    ts_file_close(sink);
}

START_TEST(pictures_come_back)
{
    char *folder = testing_tmp(), *path = path_in(folder, names[_i]),
         *other = path_in(folder, "b.jpg");
    static float rgb[3 * W * H];
    ts_picture p;
    char *json;
    draw(rgb);
    write_one(path, "{\"tessera\":\"1\"}", true);
    ck_assert_msg(!ts_picture_read(&err, path, &p), "%s", err.text);
    ck_assert(p.w == W && p.h == H);
    double sum = 0;
    for (int i = 0; i < 3 * W * H; i++) {
        double d = p.rgb[i] - 255.0 * rgb[i];
        sum += d * d;
    }
    /* a standard deviation of two levels, or 42 dB; of three where chroma is halved */
    ck_assert_msg(sum / (3.0 * W * H) < (strstr(path, ".webp") ? 9 : 4), "%s: %.2f", path,
                  sum / (3.0 * W * H));
    ts_picture_free(&p);
    ck_assert_msg(!ts_file_info(&err, path, &json), "%s", err.text);
    ck_assert_str_eq(json, "{\"tessera\":\"1\"}");
    free(json);
    /* again the same, and nothing but the picture where no metadata are wanted */
    if (strcasecmp(names[_i] + 1, ".jpg") == 0) {
        write_one(other, "{\"tessera\":\"1\"}", true);
        size_t n[2];
        uint8_t *one = bytes_of(path, n), *two = bytes_of(other, n + 1);
        ck_assert(n[0] == n[1] && !memcmp(one, two, n[0]));
        free(one);
        free(two);
    }
    write_one(path, "{\"tessera\":\"1\"}", false);
    ck_assert_msg(!ts_file_info(&err, path, &json), "%s", err.text);
    ck_assert_ptr_null(json);
    free(folder);
}
END_TEST

/* Mean squared error, in levels. */
static double error_of(const char *path)
{
    static float rgb[3 * W * H];
    ts_picture p;
    double sum = 0;
    draw(rgb);
    ck_assert_msg(!ts_picture_read(&err, path, &p), "%s", err.text);
    for (int i = 0; i < 3 * W * H; i++) {
        double d = p.rgb[i] - rintf(255 * rgb[i]);
        sum += d * d;
    }
    ts_picture_free(&p);
    return sum / (3.0 * W * H);
}

/* More of it is more bytes and less error, to none in WebP; without it 95 is meant. */
START_TEST(quality)
{
    static const int of[] = {30, 60, 85, 100, 95, 0};
    enum { QUALITIES = sizeof of / sizeof *of };
    char *folder = testing_tmp(), *path = path_in(folder, names[_i]);
    ts_file_options o = plain();
    size_t n[QUALITIES];
    double off[QUALITIES];
    for (int i = 0; i < QUALITIES; i++) {
        write_quality(path, of[i], NULL, false);
        free(bytes_of(path, n + i));
        off[i] = error_of(path);
    }
    for (int i = 1; i < 4; i++)
        ck_assert_msg(off[i] < off[i - 1] && (n[i] > n[i - 1] || of[i] == 100),
                      "%s at %d: %zu bytes, error %.2f; at %d: %zu, %.2f", path, of[i], n[i],
                      off[i], of[i - 1], n[i - 1], off[i - 1]);
    if (strstr(path, ".webp")) ck_assert_double_eq(off[3], 0);
    ck_assert(n[4] == n[5] && off[4] == off[5]);
    o.quality = 101;
    refused(path_in(folder, "b.webp"), o, TS_EUSAGE, "quality 101, expected 1 to 100");
    free(folder);
}
END_TEST

/* The quantiser of one of the low horizontal frequencies of a JPEG's first table. */
static int quantiser_of(const char *path)
{
    size_t n, at = 2;
    uint8_t *b = bytes_of(path, &n);
    while (at + 8 < n && b[at + 1] != 0xdb) at += 2 + (size_t)(b[at + 2] << 8 | b[at + 3]);
    ck_assert(at + 8 < n);
    int q = b[at + 4 + 2];
    free(b);
    return q;
}

/* Below 50 quantisers are as the reciprocal of the quality, above it a straight line to 100, as
 * libjpeg has it; rounding is of a few percent. */
START_TEST(quality_is_of_libjpegs_scale)
{
    static const int of[] = {30, 40, 50, 75};
    static const double times[] = {5 / 3., 1.25, 1, 0.5};
    char *folder = testing_tmp(), *path = path_in(folder, "q.jpg");
    int q[4];
    for (int i = 0; i < 4; i++) {
        write_quality(path, of[i], NULL, false);
        q[i] = quantiser_of(path);
    }
    for (int i = 0; i < 4; i++)
        ck_assert_msg(fabs(q[i] - times[i] * q[2]) < 1 + 0.05 * q[2], "%d: %d, of 50: %d", of[i],
                      q[i], q[2]);
    free(folder);
}
END_TEST

START_TEST(texts_of_any_length)
{
    static const size_t lengths[] = {60, 61, 65525, 65526, 200000};
    char *folder = testing_tmp(), *path = path_in(folder, names[_i]);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        char *json = long_json(lengths[i]), *back;
        ts_picture p;
        write_one(path, json, true);
        ck_assert_msg(!ts_file_info(&err, path, &back), "%s", err.text);
        ck_assert_msg(back && !strcmp(back, json), "%s: %zu bytes", path, lengths[i]);
        ck_assert_msg(!ts_picture_read(&err, path, &p), "%s", err.text);
        ts_picture_free(&p);
        free(back);
        free(json);
    }
    free(folder);
}
END_TEST

START_TEST(what_does_not_fit)
{
    char *folder = testing_tmp(), *path = path_in(folder, names[_i]);
    ts_file_options o = plain();
    ts_sink *sink;
    ck_assert_int_eq(ts_file_check_size(&err, path, &o, 70000, 16, 1), TS_EUSAGE);
    ck_assert_msg(strstr(err.text, "70000x16 is too large"), "%s", err.text);
    ck_assert_int_eq(ts_file_check_size(&err, path, &o, 16000, 16, 1), TS_OK);
    ck_assert_int_eq(ts_file_open(&err, path, &o, &sink), TS_OK);
    bool webp = strstr(path, ".webp") != NULL;
    ck_assert_int_eq(sink->open(sink, W, H, 2, webp ? 0 : 16, NULL), TS_EUSAGE);
    ck_assert_msg(strstr(sink->error, webp ? "0 frames a second, expected more"
                                           : "2 frames do not fit one picture"),
                  "%s", sink->error);
    ts_file_close(sink);
    ck_assert_int_eq(files_in(folder), 0);
    free(folder);
}
END_TEST

/* The chunks of a WebP that have this name. */
static int chunks_of(const uint8_t *b, size_t n, const char *name)
{
    int found = 0;
    for (size_t at = 12, size; at + 8 <= n; at += 8 + size + (size & 1)) {
        size = b[at + 4] | b[at + 5] << 8 | b[at + 6] << 16 | (size_t)b[at + 7] << 24;
        found += !memcmp(b + at, name, 4);
    }
    return found;
}

/* An animation is all frames at their rate, for ever, with the text of a picture; what does not
 * move may be fewer. */
START_TEST(animations)
{
    static const char json[] = "{\"tessera\":\"1\",\"prompt\":\"a < b\"}";
    char *folder = testing_tmp(), *path = path_in(folder, "a.webp"), *text;
    ts_file_options o = plain();
    ts_movie_facts m;
    size_t n[2];
    o.metadata = o.overwrite = true;
    write_clip(path, o, 64, 48, 9, 12, json);
    ck_assert_str_eq(said, "");
    ck_assert_msg(!ts_movie_probe(&err, path, &m), "%s", err.text);
    ck_assert_str_eq(m.container, "WebP");
    ck_assert(m.w == 64 && m.h == 48 && m.frames == 9);
    ck_assert_double_eq_tol(m.seconds, 9 / 12.0, 0.002); /* whole milliseconds, the last a mean */
    ck_assert_msg(!ts_file_info(&err, path, &text), "%s", err.text);
    ck_assert_str_eq(text, json);
    free(text);
    uint8_t *b = bytes_of(path, n);
    ck_assert_uint_eq(n[0], 8 + (b[4] | b[5] << 8 | b[6] << 16 | (size_t)b[7] << 24));
    ck_assert(chunks_of(b, n[0], "ANMF") == 9 && chunks_of(b, n[0], "VP8X") == 1 &&
              chunks_of(b, n[0], "XMP ") == 1);
    const uint8_t *loop = find_bytes(b, n[0], "ANIM");
    ck_assert(loop && loop[12] == 0 && loop[13] == 0);
    write_clip(path, o, 64, 48, 9, 12, json);
    uint8_t *again = bytes_of(path, n + 1);
    ck_assert(n[0] == n[1] && !memcmp(b, again, n[0]));
    free(b);
    free(again);
    o.metadata = false;
    o.quality = 10;
    write_clip(path, o, 64, 48, 9, 12, json);
    free(bytes_of(path, n));
    ck_assert_uint_lt(n[0], n[1] - sizeof json);
    ck_assert_msg(!ts_file_info(&err, path, &text) && !text, "metadata");
    float *rgb = flat(64, 48, 1, 0.5f, 0);
    o.metadata = true;
    write_still(path, o, 64, 48, 9, rgb);
    free(rgb);
    ck_assert_msg(!ts_movie_probe(&err, path, &m), "%s", err.text);
    ck_assert(m.w == 64 && m.h == 48);
    free(folder);
}
END_TEST

/* One can begin from an animation, too: from its first frame, which lossless is that to the level.
 */
START_TEST(first_frame_of_an_animation)
{
    char *folder = testing_tmp(), *path = path_in(folder, "a.webp");
    ts_file_options o = plain();
    ts_picture p;
    float *rgb = picture(64, 48, 0);
    o.overwrite = true;
    for (int lossless = 0; lossless < 2; lossless++) {
        double sum = 0;
        o.quality = lossless ? 100 : 90;
        write_clip(path, o, 64, 48, 5, 12, NULL);
        ck_assert_msg(!ts_picture_read(&err, path, &p), "%s", err.text);
        ck_assert(p.w == 64 && p.h == 48 && !p.see_through);
        for (int i = 0; i < 64 * 48 * 3; i++) sum += pow(p.rgb[i] - rintf(255 * rgb[i]), 2);
        /* chroma of a hard edge is halved */
        ck_assert_msg(lossless ? sum == 0 : sum / (64 * 48 * 3) < 100, "%.2f", sum / (64 * 48 * 3));
        ts_picture_free(&p);
    }
    size_t n;
    uint8_t *b = bytes_of(path, &n);
    for (size_t cut = 0; cut < n; cut += 3) { /* refused, or a picture of what is there */
        write_bytes(path, b, cut);
        if (!ts_picture_read(&err, path, &p)) ts_picture_free(&p);
    }
    free(b);
    free(rgb);
    free(folder);
}
END_TEST

/* Frames of every kind of picture, each with the text of the clip. */
START_TEST(numbered)
{
    static const char *const patterns[] = {"f-%d.jpg", "%04d.WEBP", "f-%02d.jpeg"},
                             *const last[] = {"f-2.jpg", "0002.WEBP", "f-02.jpeg"};
    char *folder = testing_tmp();
    for (int i = 0; i < 3; i++) {
        ts_file_options o = plain();
        char *text;
        ts_picture p;
        o.metadata = true;
        write_clip(path_in(folder, patterns[i]), o, W, H, 3, 12, "{\"tessera\":\"1\"}");
        ck_assert_int_eq(files_in(folder), 3 * (i + 1));
        ck_assert_msg(!ts_file_info(&err, path_in(folder, last[i]), &text), "%s", err.text);
        ck_assert_str_eq(text, "{\"tessera\":\"1\"}");
        free(text);
        ck_assert_msg(!ts_picture_read(&err, path_in(folder, last[i]), &p), "%s", err.text);
        ck_assert(p.w == W && p.h == H);
        ts_picture_free(&p);
        refused(path_in(folder, patterns[i]), o, TS_EUSAGE, "exists already");
        ck_assert_int_eq(ts_file_check_size(&err, path_in(folder, patterns[i]), &o, 70000, 16, 3),
                         TS_EUSAGE);
    }
    free(folder);
}
END_TEST

/* Damaged files of ours, and files of others, carry nothing and end nothing. */
START_TEST(damaged_texts)
{
    char *folder = testing_tmp(), *path = path_in(folder, names[_i]), *json = long_json(100), *text;
    static uint8_t b[1 << 16];
    ts_movie_facts m;
    ts_file_options o = plain();
    o.metadata = true;
    if (_i == NAMES - 1) /* an animation, too */
        write_clip(path, o, W, H, 3, 12, json);
    else
        write_one(path, json, true);
    FILE *f = fopen(path, "rb");
    size_t n = fread(b, 1, sizeof b, f);
    fclose(f);
    for (size_t cut = 0; cut < n; cut += 7) {
        f = fopen(path, "wb");
        fwrite(b, 1, cut, f);
        fclose(f);
        ck_assert_int_eq(ts_picture_read_text(&err, path, &text), TS_OK);
        ck_assert(!text || !strcmp(text, json));
        free(text);
    }
    for (size_t at = 0; at < 400 && at < n; at++) {
        uint8_t was = b[at];
        b[at] ^= 0x5a;
        f = fopen(path, "wb");
        fwrite(b, 1, n, f);
        fclose(f);
        ck_assert_int_eq(ts_picture_read_text(&err, path, &text), TS_OK);
        ts_movie_probe(&err, path, &m);
        free(text);
        b[at] = was;
    }
    free(json);
    free(folder);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("files_picture");
    TCase *tc = tcase_create("files_picture");
    tcase_add_loop_test(tc, pictures_come_back, 0, NAMES);
    tcase_add_loop_test(tc, quality, 0, NAMES);
    tcase_add_test(tc, quality_is_of_libjpegs_scale);
    tcase_add_loop_test(tc, texts_of_any_length, 0, NAMES);
    tcase_add_loop_test(tc, what_does_not_fit, 0, NAMES);
    tcase_add_test(tc, animations);
    tcase_add_test(tc, first_frame_of_an_animation);
    tcase_add_test(tc, numbered);
    tcase_add_loop_test(tc, damaged_texts, 0, NAMES);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
