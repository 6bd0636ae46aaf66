/* Output files: names, checks before any work, PNG and its text, numbered frames, what is left after abort and failure, what is read back. */
#include "test_files.h"

#include <errno.h>
#include <png.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

static const char JSON[] = "{\"tessera\":\"0.1.0\",\"prompt\":\"ein Fuchs\"}";
static const char *const SINGLE[] = {"a.png", "a.mp4", "a.webm", "a.gif"};

/* ---- reading with libpng, apart from png.c ---- */

static uint8_t *read_png(const char *path, int *w, int *h)
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

/* A text chunk: its compression as libpng names it, and the text; malloc'd. NULL: none. */
static char *png_text_of(const char *path, const char *key, int *compression)
{
    FILE *f = fopen(path, "rb");
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_textp text;
    int n;
    char *out = NULL;
    png_init_io(png, f);
    png_read_info(png, info);
    png_get_text(png, info, &text, &n);
    for (int i = 0; i < n; i++)
        if (strcmp(text[i].key, key) == 0) {
            ck_assert_msg(!out, "%s stands twice", key);
            out = strdup(text[i].text);
            *compression = text[i].compression;
        }
    png_destroy_read_struct(&png, &info, NULL);
    fclose(f);
    return out;
}

static void check_png_tool(const char *path)
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

/* ---- names ---- */

static void is_kind(const char *path, ts_file_kind want)
{
    ts_file_kind kind = (ts_file_kind)-1;
    ck_assert_msg(ts_file_kind_of(&err, path, &kind) == TS_OK, "%s: %s", path, err.text);
    ck_assert_msg(kind == want, "%s: kind %d, expected %d", path, kind, want);
}

START_TEST(test_kinds)
{
    char *d = testing_tmp();
    is_kind("a.png", TS_FILE_PNG);
    is_kind("x/a.PNG", TS_FILE_PNG);
    is_kind("x.gif/a.mp4", TS_FILE_MP4);
    is_kind("a.b.webm", TS_FILE_WEBM);
    is_kind("a.gif", TS_FILE_GIF);
    is_kind("50%/a.png", TS_FILE_PNG);
    is_kind("50%.mp4", TS_FILE_MP4);
    is_kind("f-%d.png", TS_FILE_FRAMES);
    is_kind("f-%04d.png", TS_FILE_FRAMES);
    is_kind("%09d.png", TS_FILE_FRAMES);
    is_kind("not-there/", TS_FILE_FRAMES);
    is_kind(d, TS_FILE_FRAMES);
    is_kind(path_in(d, ""), TS_FILE_FRAMES);
    ck_assert_int_eq(mkdir(path_in(d, "clips.mp4"), 0777), 0);
    is_kind(path_in(d, "clips.mp4"), TS_FILE_FRAMES);
    free(d);
}
END_TEST

START_TEST(test_kinds_unknown)
{
    static const char *const BAD[] = {"a", "", "a.avi", "a.jpg", "a.", ".png", "x/.mp4", "a.png.txt", "mp4", "%04d", "f-%04d.jpg"};
    ts_file_kind kind;
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        ck_assert_msg(ts_file_kind_of(&err, BAD[i], &kind) == TS_EUSAGE, "'%s' was taken", BAD[i]);
        for (int k = 0; k < 4; k++) ck_assert_msg(strstr(err.text, SINGLE[k] + 1), "%s does not say %s", err.text, SINGLE[k] + 1);
    }
}
END_TEST

START_TEST(test_patterns_bad)
{
    static const char *const BAD[] = {"%s.png", "%4d.png", "%d%d.png", "%04d-%04d.png", "%.png", "100%.png", "%%.png", "%d%%.png", "%i.png", "%-4d.png", "%0d.png", "%010d.png", "%0000000000004d.png", "%ld.png", "%n.png"};
    ts_file_kind kind;
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        ck_assert_msg(ts_file_kind_of(&err, BAD[i], &kind) == TS_EUSAGE, "'%s' was taken", BAD[i]);
        ck_assert_msg(strstr(err.text, "exactly one %d or %0Nd") != NULL, "%s", err.text);
    }
}
END_TEST

/* ---- checks before any work ---- */

static void refused(const char *path, ts_file_options o, ts_status want, const char *word)
{
    ts_sink *sink = NULL;
    ts_status st = ts_file_open(&err, path, &o, &sink);
    ck_assert_msg(st == want, "%s: status %d, expected %d (%s)", path, st, want, st ? err.text : "");
    ck_assert_msg(!sink && strstr(err.text, word), "'%s' does not say '%s'", err.text, word);
}

START_TEST(test_refused_at_once)
{
    char *d = testing_tmp();
    ts_file_options o = plain();
    for (int i = 0; i < 4; i++) {
        char *file = path_in(d, SINGLE[i]);
        write_text(file, "old");
        refused(file, o, TS_EUSAGE, "exists already");
        refused(file, o, TS_EUSAGE, file);
        unlink(file);
        refused(path_in(d, "no/a.gif"), o, TS_EIO, "No such file");
    }
    write_text(path_in(d, "plain"), "");
    refused(path_in(d, "plain/a.png"), o, TS_EIO, "is not a folder");
    refused(path_in(d, "no/folder/"), o, TS_EIO, "No such file");
    refused(path_in(d, "a.xyz"), o, TS_EUSAGE, ".webm");
    o.crf = 52;
    refused(path_in(d, "a.mp4"), o, TS_EUSAGE, "0 (best) to 51");
    o.crf = 64;
    refused(path_in(d, "a.webm"), o, TS_EUSAGE, "0 (best) to 63");
    o = plain();
    o.scale = -1;
    refused(path_in(d, "a.png"), o, TS_EUSAGE, "scale -1");
    ck_assert_int_eq(files_in(d), 1); /* nothing but "plain" */
    free(d);
}
END_TEST

START_TEST(test_folder_not_writable)
{
    char *d = testing_tmp(), *shut = path_in(d, "shut");
    bool root = geteuid() == 0;
    ck_assert_int_eq(chmod(d, 0711), 0);
    ck_assert_int_eq(mkdir(shut, 0555), 0);
    if (root && seteuid(65534) != 0) { /* root may write anywhere */
        printf("skip: can not act as another user\n");
    } else {
        refused(path_in(shut, "a.mp4"), plain(), TS_EIO, "Permission denied");
        refused(path_in(shut, "f-%d.png"), plain(), TS_EIO, "Permission denied");
        refused(path_in(shut, "new/"), plain(), TS_EIO, "Permission denied");
    }
    if (root) ck_assert_int_eq(seteuid(0), 0);
    free(d);
}
END_TEST

START_TEST(test_one_png_holds_one_frame)
{
    char *d = testing_tmp();
    ts_file_options o = plain();
    ts_sink *sink = NULL;
    ck_assert_int_eq(ts_file_open(&err, path_in(d, "a.png"), &o, &sink), TS_OK);
    ck_assert_int_eq(sink->open(sink, 8, 8, 2, 16, NULL), TS_EUSAGE);
    ck_assert_msg(strstr(sink->error, "%04d") && strstr(sink->error, "2 frames"), "%s", sink->error);
    sink->abort(sink);
    ts_file_close(sink);
    ck_assert_int_eq(files_in(d), 0);
    free(d);
}
END_TEST

/* The caller's slips are answered, not obeyed. */
START_TEST(test_sink_order)
{
    char *d = testing_tmp();
    ts_file_options o = plain();
    float *rgb = flat(8, 8, 0, 0, 0);
    for (int i = 0; i < 4; i++) {
        ts_sink *sink = NULL;
        ck_assert_int_eq(ts_file_open(&err, path_in(d, SINGLE[i]), &o, &sink), TS_OK);
        ck_assert_int_eq(sink->frame(sink, &(ts_frame){.w = 8, .h = 8, .index = 0, .rgb = rgb}), TS_EUSAGE);
        ts_file_close(sink);
        ck_assert_int_eq(ts_file_open(&err, path_in(d, SINGLE[i]), &o, &sink), TS_OK);
        ck_assert_int_eq(sink->open(sink, 8, 8, 1, 16, NULL), TS_OK);
        ck_assert_int_eq(sink->frame(sink, &(ts_frame){.w = 8, .h = 16, .index = 0, .rgb = rgb}), TS_ESHAPE);
        ck_assert_int_eq(sink->frame(sink, &(ts_frame){.w = 8, .h = 8, .index = 0, .rgb = rgb}), TS_EUSAGE); /* after a failure */
        ts_file_close(sink);
        ck_assert_int_eq(ts_file_open(&err, path_in(d, SINGLE[i]), &o, &sink), TS_OK);
        ck_assert_int_eq(sink->open(sink, 8, 8, 1, 16, NULL), TS_OK);
        ck_assert_int_eq(sink->close(sink), TS_EUSAGE); /* a frame is missing */
        ck_assert_ptr_nonnull(strstr(sink->error, "0 frames, expected 1"));
        ts_file_close(sink);
    }
    ck_assert_int_eq(files_in(d), 0);
    ts_file_close(NULL);
    free(rgb);
    free(d);
}
END_TEST

/* ---- PNG ---- */

START_TEST(test_png_bytes)
{
    enum { W = 37, H = 21 };
    char *d = testing_tmp(), *file = path_in(d, "a.png");
    float rgb[W * H * 3];
    int w, h;
    for (int i = 0; i < W * H * 3; i++) rgb[i] = (float)(i % 511) / 510; /* every level and every middle between two */
    rgb[0] = -1;
    rgb[1] = 2;
    rgb[2] = NAN;
    rgb[3] = INFINITY;
    rgb[4] = -INFINITY;
    write_still(file, plain(), W, H, 1, rgb);
    uint8_t *got = read_png(file, &w, &h);
    ck_assert_int_eq(w, W);
    ck_assert_int_eq(h, H);
    ck_assert_int_eq(got[0], 0);
    ck_assert_int_eq(got[1], 255);
    ck_assert_int_eq(got[2], 0);
    ck_assert_int_eq(got[3], 255);
    ck_assert_int_eq(got[4], 0);
    for (int i = 5; i < W * H * 3; i++) ck_assert_int_eq(got[i], (int)rintf(rgb[i] * 255));
    check_png_tool(file);
    ck_assert_int_eq(files_in(d), 1);
    free(got);
    free(d);
}
END_TEST

START_TEST(test_png_halves_to_even)
{
    char *d = testing_tmp(), *file = path_in(d, "a.png");
    /* floats whose product with 255 is exactly a half: 0.5 -> 127.5 -> 128; 0.1, 0.3, 0.7 and 0.9 are nearest to 25.5, 76.5, 178.5 and 229.5 */
    float rgb[6] = {0.5f, 0.1f, 0.3f, 0.7f, 0.9f, 1};
    int w, h, halves = 0;
    write_still(file, plain(), 2, 1, 1, rgb);
    uint8_t *got = read_png(file, &w, &h);
    for (int i = 0; i < 6; i++) {
        float v = rgb[i] * 255;
        bool half = v - floorf(v) == 0.5f;
        halves += half;
        if (half) ck_assert_int_eq(got[i] % 2, 0);
        ck_assert_int_eq(got[i], (int)rintf(v));
    }
    ck_assert_int_ge(halves, 1);
    ck_assert_int_eq(got[0], 128);
    free(got);
    free(d);
}
END_TEST

START_TEST(test_png_text)
{
    static const struct { const char *text; int compression; const char *stored; } CASES[] = {
        {"a fox\nNegative prompt: blur\nSteps: 3, Seed: 7", PNG_TEXT_COMPRESSION_NONE, "a fox\nNegative prompt: blur\nSteps: 3, Seed: 7"},
        {"Füchse ÿ", PNG_TEXT_COMPRESSION_NONE, "F\xfc" "chse \xff"},
        {"狐 über", PNG_ITXT_COMPRESSION_NONE, "狐 über"},
        {"Ā", PNG_ITXT_COMPRESSION_NONE, "Ā"}, /* U+0100: the first that Latin-1 has not */
    };
    char *d = testing_tmp(), *file = path_in(d, "a.png");
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        ts_file_options o = plain();
        int compression = -9;
        o.metadata = o.overwrite = true;
        o.parameters = CASES[i].text;
        write_clip(file, o, 16, 8, 1, 16, JSON);
        char *text = png_text_of(file, "parameters", &compression);
        ck_assert_str_eq(text, CASES[i].stored);
        ck_assert_int_eq(compression, CASES[i].compression);
        free(text);
        text = png_text_of(file, "tessera", &compression);
        ck_assert_str_eq(text, JSON);
        ck_assert_int_eq(compression, PNG_ITXT_COMPRESSION_NONE);
        free(text);
        check_png_tool(file);
    }
    free(d);
}
END_TEST

static char *long_json(size_t n)
{
    char *json = malloc(n + 64), *p = json + sprintf(json, "{\"tessera\":\"0.1.0\",\"prompt\":\"");
    for (size_t i = 0; i + 4 < n; i += 3) p += sprintf(p, "%s", i % 2 ? "狐" : "abc");
    strcpy(p, "\"}");
    return json;
}

START_TEST(test_metadata_round_trip)
{
    char *d = testing_tmp(), *json[] = {strdup(JSON), strdup("{\"tessera\":\"0.1.0\",\"prompt\":\"狐 \\\"🦊\\\" \\n ü\"}"), long_json(300000)};
    static const char *const NAMES[] = {"a.png", "a.mp4", "a.webm", "a.gif", "f-%d.png"};
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < 5; i++) {
            ts_file_options o = plain();
            o.metadata = o.overwrite = true;
            o.title = o.parameters = json[k];
            write_clip(path_in(d, NAMES[i]), o, 16, 16, i ? 2 : 1, 16, json[k]);
            char *back = info_of(path_in(d, i < 4 ? NAMES[i] : "f-1.png"));
            ck_assert_msg(back && strcmp(back, json[k]) == 0, "%s, text %d: %.80s", NAMES[i], k, back ? back : "nothing");
            free(back);
        }
    int compression;
    char *text = png_text_of(path_in(d, "a.png"), "tessera", &compression);
    ck_assert_int_eq(compression, PNG_ITXT_COMPRESSION_zTXt);
    ck_assert_str_eq(text, json[2]);
    free(text);
    for (int k = 0; k < 3; k++) free(json[k]);
    free(d);
}
END_TEST

START_TEST(test_no_metadata)
{
    char *d = testing_tmp();
    for (int i = 0; i < 4; i++) {
        ts_file_options o = plain();
        size_t n;
        o.title = o.parameters = "a secret fox";
        write_clip(path_in(d, SINGLE[i]), o, 16, 16, 1, 16, JSON);
        ck_assert_ptr_null(info_of(path_in(d, SINGLE[i])));
        uint8_t *b = bytes_of(path_in(d, SINGLE[i]), &n);
        ck_assert_ptr_null(find_bytes(b, n, "fox"));
        ck_assert_ptr_null(find_bytes(b, n, "tessera"));
        free(b);
    }
    free(d);
}
END_TEST

/* JSON that is not ours, text that is not JSON: no error, and nothing. */
START_TEST(test_foreign_text)
{
    static const char *const TEXTS[] = {"{\"prompt\":1}", "just words", "[\"tessera\"]", "{\"tessera\":", ""};
    char *d = testing_tmp();
    for (int i = 0; i < 4; i++)
        for (size_t k = 0; k < sizeof TEXTS / sizeof *TEXTS; k++) {
            ts_file_options o = plain();
            o.metadata = o.overwrite = true;
            write_clip(path_in(d, SINGLE[i]), o, 16, 16, 1, 16, TEXTS[k]);
            ck_assert_msg(!info_of(path_in(d, SINGLE[i])), "%s with '%s'", SINGLE[i], TEXTS[k]);
        }
    free(d);
}
END_TEST

static void unreadable(const char *path)
{
    char *json = (char *)path;
    ts_status st = ts_file_info(&err, path, &json);
    ck_assert_msg(st == TS_EMODEL && !json, "%s: status %d", path, st);
    ck_assert_msg(strncmp(err.text, path, strlen(path)) == 0, "%s", err.text);
}

START_TEST(test_info_unreadable)
{
    char *d = testing_tmp();
    ts_file_options o = plain();
    size_t n;
    unreadable(path_in(d, "none.mp4"));
    unreadable(d);
    write_text(path_in(d, "empty.mp4"), "");
    write_text(path_in(d, "a.txt"), "WEBVTT\n\n00:00.000 --> 00:01.000\nwords\n");
    write_text(path_in(d, "b.mp4"), "#EXTM3U\n#EXT-X-TARGETDURATION:1\n/etc/passwd\n");
    write_text(path_in(d, "c.json"), JSON);
    write_text(path_in(d, "d.png"), "\x89PNG\r\n\x1a\n");
    write_text(path_in(d, "e.gif"), "GIF89a");
    unreadable(path_in(d, "empty.mp4"));
    unreadable(path_in(d, "a.txt"));
    unreadable(path_in(d, "b.mp4"));
    unreadable(path_in(d, "c.json"));
    unreadable(path_in(d, "d.png"));
    unreadable(path_in(d, "e.gif"));
    o.metadata = true;
    write_clip(path_in(d, "a.gif"), o, 16, 16, 2, 16, JSON);
    uint8_t *b = bytes_of(path_in(d, "a.gif"), &n);
    for (size_t part = 1; part < n; part++) { /* every beginning of a GIF */
        write_bytes(path_in(d, "part.gif"), b, part);
        unreadable(path_in(d, "part.gif"));
    }
    free(b);
    free(d);
}
END_TEST

/* The content tells what a file is, not its name. */
START_TEST(test_info_by_content)
{
    char *d = testing_tmp();
    ts_file_options o = plain();
    o.metadata = true;
    for (int i = 0; i < 4; i++) {
        write_clip(path_in(d, SINGLE[i]), o, 16, 16, 1, 16, JSON);
        ck_assert_int_eq(rename(path_in(d, SINGLE[i]), path_in(d, "renamed.bin")), 0);
        char *json = info_of(path_in(d, "renamed.bin"));
        ck_assert_str_eq(json, JSON);
        free(json);
    }
    free(d);
}
END_TEST

/* ---- enlarging ---- */

START_TEST(test_scale_flat)
{
    char *d = testing_tmp(), *file = path_in(d, "a.png");
    for (int v = 0; v < 256; v += 5) {
        ts_file_options o = plain();
        int w, h;
        float *rgb = flat(5, 3, (float)v / 255, (float)(255 - v) / 255, 0.2f);
        o.scale = 3;
        o.overwrite = true;
        write_still(file, o, 5, 3, 1, rgb);
        uint8_t *got = read_png(file, &w, &h);
        ck_assert_int_eq(w, 15);
        ck_assert_int_eq(h, 9);
        for (int i = 0; i < 15 * 9; i++) {
            ck_assert_int_eq(got[3 * i], v);
            ck_assert_int_eq(got[3 * i + 1], 255 - v);
            ck_assert_int_eq(got[3 * i + 2], 51);
        }
        free(got);
        free(rgb);
    }
    free(d);
}
END_TEST

/* A plane stays the plane sampled at (x + 1/2) / n - 1/2. Lanczos of 3 lobes, its weights made to sum to one, misses a slope by at most 2% of a step: below 0.1 at a slope of 4; with two roundings to
 * 8 bits that is 1.1. Further than 3 pixels from the edge. */
START_TEST(test_scale_ramp)
{
    enum { W = 48, H = 32, N = 4 };
    char *d = testing_tmp(), *file = path_in(d, "a.png");
    ts_file_options o = plain();
    float *rgb = malloc(sizeof *rgb * W * H * 3);
    int w, h;
    for (int i = 0; i < W * H; i++) {
        rgb[3 * i] = (float)(4 * (i % W)) / 255;
        rgb[3 * i + 1] = (float)(4 * (i / W)) / 255;
        rgb[3 * i + 2] = (float)(2 * (i % W) + 3 * (i / W)) / 255;
    }
    o.scale = N;
    write_still(file, o, W, H, 1, rgb);
    uint8_t *got = read_png(file, &w, &h);
    ck_assert_int_eq(w, W * N);
    ck_assert_int_eq(h, H * N);
    for (int y = 3 * N; y < h - 3 * N; y++)
        for (int x = 3 * N; x < w - 3 * N; x++) {
            double u = (x + 0.5) / N - 0.5, v = (y + 0.5) / N - 0.5;
            const uint8_t *p = got + ((size_t)y * w + x) * 3;
            ck_assert_double_le(fabs(p[0] - 4 * u), 1.1);
            ck_assert_double_le(fabs(p[1] - 4 * v), 1.1);
            ck_assert_double_le(fabs(p[2] - 2 * u - 3 * v), 1.1);
        }
    free(got);
    free(rgb);
    free(d);
}
END_TEST

/* ---- numbered frames ---- */

START_TEST(test_frames)
{
    static const struct { const char *path, *first, *last; } CASES[] = {{"f-%03d.png", "f-000.png", "f-010.png"}, {"%d-x.png", "0-x.png", "10-x.png"}, {"new/", "new/0000.png", "new/0010.png"}, {"old", "old/0000.png", "old/0010.png"}};
    char *d = testing_tmp();
    ck_assert_int_eq(mkdir(path_in(d, "old"), 0777), 0);
    for (int k = 0; k < 4; k++) {
        ts_file_options o = plain();
        int w, h;
        write_clip(path_in(d, CASES[k].path), o, 24, 16, 11, 16, NULL);
        ck_assert(there(path_in(d, CASES[k].first)));
        uint8_t *got = read_png(path_in(d, CASES[k].last), &w, &h);
        float *want = picture(24, 16, 10);
        for (int i = 0; i < 24 * 16 * 3; i++) ck_assert_int_eq(got[i], (int)rintf(want[i] * 255));
        free(got);
        free(want);
        refused(path_in(d, CASES[k].path), o, TS_EUSAGE, CASES[k].first);
    }
    ck_assert_int_eq(files_in(d), 11 + 11 + 2);
    ck_assert_int_eq(files_in(path_in(d, "new")), 11);
    free(d);
}
END_TEST

/* Each frame is there, whole, as soon as it was taken. */
START_TEST(test_frames_appear)
{
    char *d = testing_tmp();
    ts_file_options o = plain();
    ts_sink *sink = NULL;
    ck_assert_int_eq(ts_file_open(&err, path_in(d, "%d.png"), &o, &sink), TS_OK);
    ck_assert_int_eq(sink->open(sink, 8, 8, 3, 16, NULL), TS_OK);
    float *rgb = flat(8, 8, 1, 0, 0);
    for (int i = 0; i < 2; i++) {
        char name[32];
        int w, h;
        ck_assert_int_eq(sink->frame(sink, &(ts_frame){.w = 8, .h = 8, .index = i, .rgb = rgb}), TS_OK);
        snprintf(name, sizeof name, "%d.png", i);
        free(read_png(path_in(d, name), &w, &h));
        ck_assert_int_eq(files_in(d), i + 1);
    }
    ts_file_close(sink);
    ck_assert_int_eq(files_in(d), 0);
    free(rgb);
    free(d);
}
END_TEST

START_TEST(test_frames_of_an_older_run)
{
    char *d = testing_tmp(), *path = path_in(d, "f%d.png");
    ts_file_options o = plain();
    write_clip(path, o, 8, 8, 5, 16, NULL);
    write_text(path_in(d, "f01.png"), ""); /* not a name of this pattern */
    write_text(path_in(d, "fx.png"), "");
    o.overwrite = true;
    write_clip(path, o, 8, 8, 5, 16, NULL);
    ck_assert_str_eq(said, "");
    write_clip(path, o, 8, 8, 3, 16, NULL);
    ck_assert_msg(strstr(said, "frame 3 and what follows it are of an older run"), "%s", said);
    for (int i = 0; i < 5; i++) {
        char name[32];
        snprintf(name, sizeof name, "f%d.png", i);
        ck_assert_int_eq(unlink(path_in(d, name)), 0);
    }
    o.overwrite = false;
    write_clip(path, o, 8, 8, 1, 16, NULL); /* f01.png and fx.png stand in nobody's way */
    free(d);
}
END_TEST

/* ---- overwriting, aborting ---- */

START_TEST(test_overwrite)
{
    char *d = testing_tmp();
    for (int i = 0; i < 4; i++) {
        char *file = path_in(d, SINGLE[i]);
        ts_file_options o = plain();
        ts_sink *sink = NULL;
        size_t n;
        write_text(file, "old");
        o.overwrite = true;
        ck_assert_int_eq(ts_file_open(&err, file, &o, &sink), TS_OK);
        ck_assert_int_eq(sink->open(sink, 16, 16, 1, 16, NULL), TS_OK);
        float *rgb = flat(16, 16, 0, 1, 0);
        ck_assert_int_eq(sink->frame(sink, &(ts_frame){.w = 16, .h = 16, .index = 0, .rgb = rgb}), TS_OK);
        uint8_t *b = bytes_of(file, &n);
        ck_assert_str_eq((char *)b, "old"); /* until the new one is whole */
        free(b);
        ck_assert_int_eq(sink->close(sink), TS_OK);
        sink->abort(sink); /* too late to do anything */
        ts_file_close(sink);
        b = bytes_of(file, &n);
        ck_assert_uint_gt(n, 32);
        free(b);
        free(rgb);
    }
    ck_assert_int_eq(files_in(d), 4);
    free(d);
}
END_TEST

START_TEST(test_abort_leaves_nothing)
{
    static const char *const NAMES[] = {"a.png", "a.mp4", "a.webm", "a.gif", "f-%04d.png", "new/"};
    char *d = testing_tmp();
    float *rgb = flat(16, 16, 0, 1, 0);
    for (int i = 0; i < 6; i++)
        for (int when = 0; when < 4; when++) { /* before open, after it, after a frame, by free alone */
            ts_file_options o = plain();
            ts_sink *sink = NULL;
            ck_assert_int_eq(ts_file_open(&err, path_in(d, NAMES[i]), &o, &sink), TS_OK);
            if (when > 0) {
                ck_assert_msg(sink->open(sink, 16, 16, i ? 3 : 1, 16, JSON) == TS_OK, "%s", sink->error);
                if (i < 4) ck_assert_int_eq(files_in(d), 1); /* the temporary one */
            }
            if (when > 1) ck_assert_int_eq(sink->frame(sink, &(ts_frame){.w = 16, .h = 16, .index = 0, .rgb = rgb}), TS_OK);
            if (when < 3) {
                sink->abort(sink);
                ck_assert_int_eq(files_in(d), 0);
                sink->abort(sink);
            }
            ts_file_close(sink);
            ck_assert_int_eq(files_in(d), 0);
        }
    free(rgb);
    free(d);
}
END_TEST

/* Two sinks of one process and one name do not write into one file, and long names fit. */
START_TEST(test_temporary_names)
{
    char *d = testing_tmp(), name[256];
    ts_file_options o = plain();
    ts_sink *a = NULL, *b = NULL;
    memset(name, 'n', 251);
    strcpy(name + 251, ".png");
    ck_assert_int_eq(ts_file_open(&err, path_in(d, name), &o, &a), TS_OK);
    ck_assert_int_eq(ts_file_open(&err, path_in(d, name), &o, &b), TS_OK);
    ck_assert_msg(a->open(a, 8, 8, 1, 16, NULL) == TS_OK, "%s", a->error);
    ck_assert_msg(b->open(b, 8, 8, 1, 16, NULL) == TS_OK, "%s", b->error);
    ck_assert_int_eq(files_in(d), 2);
    ts_file_close(a);
    float *rgb = flat(8, 8, 1, 1, 1);
    ck_assert_int_eq(b->frame(b, &(ts_frame){.w = 8, .h = 8, .index = 0, .rgb = rgb}), TS_OK);
    ck_assert_msg(b->close(b) == TS_OK, "%s", b->error);
    ts_file_close(b);
    ck_assert_int_eq(files_in(d), 1);
    ck_assert(there(path_in(d, name)));
    free(rgb);
    free(d);
}
END_TEST

/* ---- no room ---- */

typedef struct { ts_status st; char text[512]; int left; } attempt;

/* Writes a clip where there is no room. Asserts nothing: Check itself writes a file at every assertion. */
static attempt try_clip(const char *folder, const char *path)
{
    attempt a = {0};
    ts_file_options o = plain();
    ts_sink *sink = NULL;
    o.metadata = true;
    a.st = ts_file_open(&err, path, &o, &sink);
    snprintf(a.text, sizeof a.text, "%s", err.text);
    if (sink) {
        a.st = pour(sink, 64, 48, strstr(path, "a.png") ? 1 : 6, 16, JSON);
        snprintf(a.text, sizeof a.text, "%s", sink->error);
        sink->abort(sink);
        ts_file_close(sink);
    }
    a.left = files_in(folder);
    return a;
}

/* One sentence with the path and the reason, nothing left. */
static void check_attempt(const attempt *a, const char *folder, const char *reason, int left)
{
    ck_assert_msg(a->st == TS_EIO, "status %d, %s", a->st, a->text);
    ck_assert_msg(strstr(a->text, folder) && strstr(a->text, reason), "%s", a->text);
    ck_assert_msg(a->left == left, "%s: %d files, expected %d", a->text, a->left, left);
}

static const char *const ALL[] = {"a.png", "a.mp4", "a.webm", "a.gif", "f-%04d.png", "new/"};

/* Files may be so long and no longer: the failure comes with the header, a frame, the trailer, the index that moves to the front, the comment. */
START_TEST(test_file_too_long)
{
    enum { LIMITS = 17 };
    struct rlimit old, small;
    attempt got[LIMITS];
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
    void (*before)(int) = signal(SIGXFSZ, SIG_IGN);
    for (int i = 0; i < 6; i++) {
        char *whole = testing_tmp(), *d = testing_tmp(), *path = path_in(d, ALL[i]);
        const char *one = i == 4 ? "f-0000.png" : i == 5 ? "new/0000.png" : ALL[i];
        ts_file_options o = plain();
        size_t n;
        o.metadata = true;
        write_clip(path_in(whole, ALL[i]), o, 64, 48, i ? 6 : 1, 16, JSON);
        free(bytes_of(path_in(whole, one), &n));
        for (int k = 0; k < LIMITS; k++) {
            small = old;
            small.rlim_cur = k < LIMITS - 1 ? n * k / (LIMITS - 1) : n - 1;
            setrlimit(RLIMIT_FSIZE, &small);
            got[k] = try_clip(d, path);
            setrlimit(RLIMIT_FSIZE, &old);
        }
        for (int k = 0; k < LIMITS; k++) check_attempt(&got[k], d, "File too large", 0);
        free(whole);
        free(d);
    }
    signal(SIGXFSZ, before);
}
END_TEST

START_TEST(test_disk_full)
{
    char *d = testing_tmp(), *disk = path_in(d, "disk"), *paths[6], big[1 << 12] = {1};
    attempt got[6];
    ck_assert_int_eq(mkdir(disk, 0777), 0);
    for (int i = 0; i < 6; i++) paths[i] = path_in(disk, ALL[i]);
    FILE *f = NULL;
    if (mount("tmpfs", disk, "tmpfs", 0, "size=64k") != 0) {
        printf("skip: no small file system can be mounted: %s\n", strerror(errno));
    } else {
        f = fopen(path_in(disk, "filler"), "wb"); /* all of it */
        while (f && fwrite(big, 1, sizeof big, f) == sizeof big && fflush(f) == 0) continue;
        if (f) fclose(f);
        for (int i = 0; i < 6; i++) got[i] = try_clip(disk, paths[i]); /* nothing is asserted while it is mounted */
        ck_assert_int_eq(umount(disk), 0);
        for (int i = 0; i < 6; i++) check_attempt(&got[i], disk, "No space left on device", 1);
    }
    free(d);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("files");
    TCase *c = tcase_create("files");
    tcase_set_timeout(c, 300);
    suite_add_tcase(s, c);
    tcase_add_test(c, test_kinds);
    tcase_add_test(c, test_kinds_unknown);
    tcase_add_test(c, test_patterns_bad);
    tcase_add_test(c, test_refused_at_once);
    tcase_add_test(c, test_folder_not_writable);
    tcase_add_test(c, test_one_png_holds_one_frame);
    tcase_add_test(c, test_sink_order);
    tcase_add_test(c, test_png_bytes);
    tcase_add_test(c, test_png_halves_to_even);
    tcase_add_test(c, test_png_text);
    tcase_add_test(c, test_metadata_round_trip);
    tcase_add_test(c, test_no_metadata);
    tcase_add_test(c, test_foreign_text);
    tcase_add_test(c, test_info_unreadable);
    tcase_add_test(c, test_info_by_content);
    tcase_add_test(c, test_scale_flat);
    tcase_add_test(c, test_scale_ramp);
    tcase_add_test(c, test_frames);
    tcase_add_test(c, test_frames_appear);
    tcase_add_test(c, test_frames_of_an_older_run);
    tcase_add_test(c, test_overwrite);
    tcase_add_test(c, test_abort_leaves_nothing);
    tcase_add_test(c, test_temporary_names);
    tcase_add_test(c, test_file_too_long);
    tcase_add_test(c, test_disk_full);
    return testing_main(s);
}
