/* Clips read back by other programs: codec, size, frames, duration, tags, colours, order; palettes
 * of GIFs. */
#include "test_files.h"

#include "codecs/movie.h"
#include "codecs/movie_palette.h"

#include <libavcodec/avcodec.h>
#include <libswscale/swscale.h>
#include <unistd.h>

static const char JSON[] = "{\"tessera\":\"0.1.0\",\"prompt\":\"ein Füchslein 狐\",\"seed\":7}";

/* One line that ffprobe prints for `entries`, without the line's end. */
static void probe(const char *path, const char *entries, char *out, size_t size)
{
    char command[8192];
    size_t n;
    snprintf(command, sizeof command,
             "ffprobe -v error -count_frames -select_streams v:0 -show_entries '%s' -of "
             "default=nk=1:nw=1 '%s'",
             entries, path);
    char *text = (char *)output_of(command, &n);
    ck_assert_msg(text != NULL, "ffprobe does not like %s", path);
    text[strcspn(text, "\n")] = 0;
    snprintf(out, size, "%s", text);
    free(text);
}

static void probed(const char *path, const char *entries, const char *want)
{
    char got[4096];
    probe(path, entries, got, sizeof got);
    ck_assert_msg(strcmp(got, want) == 0, "%s of %s: %s, expected %s", entries, path, got, want);
}

static double probed_number(const char *path, const char *entries)
{
    char got[256];
    probe(path, entries, got, sizeof got);
    return strtod(got, NULL);
}

/* All frames, decoded by ffmpeg, in a format that is the stream's own (or RGB of a palette, which
 * is exact); malloc'd. */
static uint8_t *decode(const char *path, const char *format, size_t frame, int frames)
{
    char command[8192];
    size_t n;
    snprintf(command, sizeof command,
             "ffmpeg -v error -i '%s' -fps_mode passthrough -f rawvideo -pix_fmt %s -", path,
             format);
    uint8_t *bytes = output_of(command, &n);
    ck_assert_msg(bytes != NULL, "ffmpeg can not decode %s", path);
    ck_assert_msg(n == frame * frames, "%s: %zu bytes decoded, expected %d frames of %zu", path, n,
                  frames, frame);
    return bytes;
}

/* ---- what other readers see ---- */

START_TEST(test_streams)
{
    static const struct {
        const char *name, *codec, *format, *profile;
    } KINDS[] = {{"a.mp4", "h264", "mov,mp4,m4a,3gp,3g2,mj2", "High"},
                 {"a.webm", "vp9", "matroska,webm", "Profile 0"}};
    if (!have("ffprobe")) return;
    char *d = testing_tmp();
    bool x264 = avcodec_find_encoder_by_name("libx264") != NULL;
    for (int i = 0; i < 2; i++) {
        char *file = path_in(d, KINDS[i].name);
        ts_file_options o = plain();
        if (i == 0 && !x264) {
            printf("skip: no libx264\n");
            continue;
        }
        o.metadata = true;
        o.title = "ein Füchslein 狐";
        o.parameters = "not for clips";
        write_clip(file, o, 64, 48, 17, 16, JSON);
        ck_assert_str_eq(said, "");
        probed(file, "format=format_name", KINDS[i].format);
        probed(file, "stream=codec_name", KINDS[i].codec);
        probed(file, "stream=profile", KINDS[i].profile);
        probed(file, "stream=width", "64");
        probed(file, "stream=height", "48");
        probed(file, "stream=pix_fmt", "yuv420p");
        probed(file, "stream=color_range", "tv");
        probed(file, "stream=color_space", "bt709");
        probed(file, "stream=color_transfer", "bt709");
        probed(file, "stream=color_primaries", "bt709");
        probed(file, "stream=chroma_location", "left");
        probed(file, "stream=sample_aspect_ratio", "1:1");
        probed(file, "stream=r_frame_rate", "16/1");
        probed(file, "stream=avg_frame_rate", "16/1");
        probed(file, "stream=nb_read_frames", "17");
        probed(file, "format=nb_streams", "1");
        probed(file, "format_tags=title", "ein Füchslein 狐");
        probed(file, "format_tags=comment", JSON);
        /* containers round to 1/1000 s */
        ck_assert_double_eq_tol(probed_number(file, "format=duration"), 17 / 16.0, 0.001);
        ck_assert_double_eq_tol(probed_number(file, "format=start_time"), 0, 1e-9);
    }
    free(d);
}
END_TEST

START_TEST(test_gif_stream)
{
    if (!have("ffprobe")) return;
    char *d = testing_tmp(), *file = path_in(d, "a.gif");
    ts_file_options o = plain();
    size_t n;
    o.metadata = true;
    write_clip(file, o, 33, 17, 17, 16, JSON);
    ck_assert_msg(strstr(said, "frames last 6 or 7") && strstr(said, "at 16.67 all last the same"),
                  "%s", said);
    probed(file, "stream=codec_name", "gif");
    probed(file, "stream=width", "33");
    probed(file, "stream=height", "17");
    probed(file, "stream=nb_read_frames", "17");
    probed(file, "format_tags=comment", JSON);
    /* the last frame's end is rounded to 1/100 s */
    ck_assert_double_eq_tol(probed_number(file, "format=duration"), 17 / 16.0, 0.01);
    uint8_t *b = bytes_of(file, &n);
    const uint8_t *loop = find_bytes(b, n, "NETSCAPE2.0");
    ck_assert_ptr_nonnull(loop);
    ck_assert_mem_eq(loop + 11, "\3\1\0\0\0", 5); /* for ever */
    free(b);
    o.overwrite = true;
    write_clip(file, o, 33, 17, 2, 25, JSON);
    ck_assert_str_eq(said, "");
    write_clip(file, o, 33, 17, 5, 120, JSON);
    ck_assert_msg(strstr(said, "at most 50 frames a second"), "%s", said);
    ck_assert_double_eq_tol(probed_number(file, "format=duration"), 0.1, 0.001);
    probed(file, "stream=nb_read_frames", "5");
    free(d);
}
END_TEST

static const struct {
    double fps;
    const char *want;
} RATES[] = {
    {24, "24/1"}, {30000.0 / 1001, "30000/1001"}, {12.5, "25/2"}, {1, "1/1"}, {60, "60/1"}};

START_TEST(test_rates)
{
    if (!have("ffprobe")) return;
    char *d = testing_tmp(), *file = path_in(d, "a.mp4");
    for (size_t i = 0; i < sizeof RATES / sizeof *RATES; i++) {
        ts_file_options o = plain();
        o.overwrite = true;
        write_clip(file, o, 16, 16, 7, RATES[i].fps, NULL);
        probed(file, "stream=avg_frame_rate", RATES[i].want);
        ck_assert_double_eq_tol(probed_number(file, "stream=duration"), 7 / RATES[i].fps, 1e-4);
    }
    free(d);
}
END_TEST

/* A player can start before it has the whole file: the index stands before the pictures. */
START_TEST(test_faststart)
{
    char *d = testing_tmp(), *file = path_in(d, "a.mp4");
    size_t n, at = 0, moov = 0, mdat = 0;
    write_clip(file, plain(), 64, 48, 9, 16, NULL);
    uint8_t *b = bytes_of(file, &n);
    while (at + 8 <= n) { /* boxes: length, big-endian, and name */
        size_t size = (size_t)b[at] << 24 | (size_t)b[at + 1] << 16 | (size_t)b[at + 2] << 8 |
                      b[at + 3];
        if (memcmp(b + at + 4, "moov", 4) == 0) moov = at;
        if (memcmp(b + at + 4, "mdat", 4) == 0) mdat = at;
        ck_assert_uint_ge(size, 8);
        at += size;
    }
    ck_assert_uint_eq(at, n);
    ck_assert_msg(moov && mdat && moov < mdat, "moov at %zu, mdat at %zu", moov, mdat);
    free(b);
    free(d);
}
END_TEST

START_TEST(test_one_frame)
{
    static const char *const NAMES[] = {"a.mp4", "a.webm", "a.gif"};
    if (!have("ffprobe")) return;
    char *d = testing_tmp();
    for (int i = 0; i < 3; i++) {
        write_clip(path_in(d, NAMES[i]), plain(), 2, 2, 1, 16, NULL);
        probed(path_in(d, NAMES[i]), "stream=nb_read_frames", "1");
        probed(path_in(d, NAMES[i]), "stream=width", "2");
    }
    free(d);
}
END_TEST

START_TEST(test_same_bytes)
{
    static const char *const NAMES[] = {"a.mp4", "a.webm", "a.gif", "a.png"};
    char *d = testing_tmp();
    for (int i = 0; i < 4; i++) {
        ts_file_options o = plain();
        size_t n, m;
        int frames = i < 3 ? 40 : 1;
        o.metadata = o.overwrite = true;
        o.title = "a fox";
        write_clip(path_in(d, NAMES[i]), o, 160, 96, frames, 16, JSON);
        uint8_t *a = bytes_of(path_in(d, NAMES[i]), &n);
        for (int again = 0; again < 2; again++) {
            write_clip(path_in(d, NAMES[i]), o, 160, 96, frames, 16, JSON);
            uint8_t *b = bytes_of(path_in(d, NAMES[i]), &m);
            ck_assert_msg(n == m && memcmp(a, b, n) == 0, "%s differs", NAMES[i]);
            free(b);
        }
        free(a);
    }
    free(d);
}
END_TEST

START_TEST(test_crf)
{
    static const char *const NAMES[] = {"a.mp4", "a.webm"};
    char *d = testing_tmp();
    for (int i = 0; i < 2; i++) {
        size_t size[3];
        for (int k = 0; k < 3; k++) {
            ts_file_options o = plain();
            o.overwrite = true;
            o.crf = (const int[]){10, i ? 24 : 18, 45}[k];
            write_clip(path_in(d, NAMES[i]), o, 128, 96, 9, 16, NULL);
            free(bytes_of(path_in(d, NAMES[i]), &size[k]));
        }
        ck_assert_uint_gt(size[0], size[1]);
        ck_assert_uint_gt(size[1], size[2]);
        ts_file_options o = plain();
        size_t standard;
        o.overwrite = true;
        write_clip(path_in(d, NAMES[i]), o, 128, 96, 9, 16, NULL);
        free(bytes_of(path_in(d, NAMES[i]), &standard));
        ck_assert_uint_eq(standard, size[1]);
    }
    free(d);
}
END_TEST

/* What few players show is said; of what they all do, nothing. */
START_TEST(test_lossless_is_said)
{
    if (!have("ffprobe")) return;
    char *d = testing_tmp(), *file = path_in(d, "a.mp4");
    ts_file_options o = plain();
    o.overwrite = true;
    for (o.crf = 0; o.crf < 2; o.crf++) {
        write_clip(file, o, 32, 16, 2, 16, NULL);
        probed(file, "stream=pix_fmt", "yuv420p");
        probed(file, "stream=profile", o.crf ? "High" : "High 4:4:4 Predictive");
        if (!o.crf) ck_assert_msg(strstr(said, "crf 0 is lossless") != NULL, "%s", said);
        if (o.crf) ck_assert_str_eq(said, "");
    }
    o.crf = 0;
    write_clip(path_in(d, "a.webm"), o, 32, 16, 2, 16, NULL);
    ck_assert_str_eq(said, "");
    probed(path_in(d, "a.webm"), "stream=profile", "Profile 0");
    free(d);
}
END_TEST

/* ---- colours ---- */

/* BT.709, limited range, of R G B in 0..1. */
static void to_yuv(const double *rgb, double *yuv)
{
    double y = 0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2];
    yuv[0] = 16 + 219 * y;
    yuv[1] = 128 + 224 * (rgb[2] - y) / (2 * (1 - 0.0722));
    yuv[2] = 128 + 224 * (rgb[0] - y) / (2 * (1 - 0.2126));
}

/* The source is a whole number of levels and crf 0 is lossless in both codecs, so what is left is
 * one rounding to 8 bits and swscale's coefficients in 15 bits: 1/2 + 3 * 255 / 2^16 = 0.512. */
#define YUV_TOLERANCE 0.512

START_TEST(test_colours)
{
    static const int LEVELS[][3] = {{0, 0, 0},       {255, 255, 255}, {255, 0, 0},   {0, 255, 0},
                                    {0, 0, 255},     {255, 255, 0},   {0, 255, 255}, {255, 0, 255},
                                    {128, 128, 128}, {230, 204, 26},  {17, 99, 203}, {1, 2, 3}};
    static const char *const NAMES[] = {"a.mp4", "a.webm"};
    enum { W = 32, H = 32 };
    if (!have("ffmpeg")) return;
    char *d = testing_tmp();
    for (int i = 0; i < 2; i++)
        for (size_t k = 0; k < sizeof LEVELS / sizeof *LEVELS; k++) {
            ts_file_options o = plain();
            double rgb[3], want[3];
            for (int c = 0; c < 3; c++) rgb[c] = LEVELS[k][c] / 255.0;
            to_yuv(rgb, want);
            float *picture_ = flat(W, H, (float)rgb[0], (float)rgb[1], (float)rgb[2]);
            o.crf = 0;
            o.overwrite = true;
            write_still(path_in(d, NAMES[i]), o, W, H, 3, picture_);
            uint8_t *got = decode(path_in(d, NAMES[i]), "yuv420p", W * H * 3 / 2, 3);
            for (size_t p = 0; p < W * H * 3 / 2 * 3; p++) {
                size_t in = p % (W * H * 3 / 2);
                int plane = in < W * H ? 0 : in < W * H * 5 / 4 ? 1 : 2;
                ck_assert_msg(fabs(got[p] - want[plane]) <= YUV_TOLERANCE,
                              "%s, colour %zu, plane %d: %d, expected %.3f", NAMES[i], k, plane,
                              got[p], want[plane]);
            }
            free(got);
            free(picture_);
        }
    free(d);
}
END_TEST

/* FFV1 in Matroska is the frames, to the last level, whatever their sides. */
START_TEST(test_exact)
{
    enum { W = 33, H = 17, N = 5 };
    char *d = testing_tmp(), *file = path_in(d, "a.mkv");
    ts_file_options o = plain();
    ts_movie_facts m;
    o.crf = 0;
    o.metadata = true;
    write_clip(file, o, W, H, N, 12, JSON);
    ck_assert_str_eq(said, "");
    ck_assert_msg(!ts_movie_probe(&err, file, &m), "%s", err.text);
    ck_assert_str_eq(m.container, "MKV");
    ck_assert_str_eq(m.codec, "ffv1");
    ck_assert(m.w == W && m.h == H && m.frames == N);
    char *json = info_of(file);
    ck_assert_str_eq(json, JSON);
    free(json);
    if (!have("ffmpeg")) return;
    probed(file, "stream=color_space", "gbr");
    uint8_t *got = decode(file, "rgb24", W * H * 3, N);
    for (int i = 0; i < N; i++) {
        float *rgb = picture(W, H, i);
        for (int k = 0; k < W * H * 3; k++)
            ck_assert_int_eq(got[i * W * H * 3 + k], lrintf(255 * rgb[k]));
        free(rgb);
    }
    free(got);
    o.overwrite = true;
    o.crf = 1;
    write_clip(file, o, W, H, N, 12, JSON);
    ck_assert_msg(strstr(said, "33x17 is written as 34x18") != NULL, "%s", said);
    probed(file, "stream=codec_name", "h264");
    free(d);
}
END_TEST

/* Chroma sample (i, j) lies on column 2 i, between rows 2 j and 2 j + 1. A plane of colour keeps
 * its value there under any symmetric filter, so this tells the siting. The ramp has a slope of 4
 * levels of blue a column (2 of U): the wrong siting would be off by 1 level on average. */
START_TEST(test_chroma_siting)
{
    enum { W = 64, H = 64 };
    if (!have("ffmpeg")) return;
    char *d = testing_tmp(), *file = path_in(d, "a.mp4");
    ts_file_options o = plain();
    float *rgb = malloc(sizeof *rgb * W * H * 3);
    double off[2] = {0};
    int count = 0;
    o.crf = 0;
    o.overwrite = true;
    for (int axis = 0; axis < 2; axis++) {
        for (int i = 0; i < W * H; i++) {
            rgb[3 * i] = rgb[3 * i + 1] = 0.25f;
            rgb[3 * i + 2] = (float)(4 * (axis ? i / W : i % W)) / 255;
        }
        write_still(file, o, W, H, 1, rgb);
        uint8_t *got = decode(file, "yuv420p", W * H * 3 / 2, 1);
        count = 0;
        for (int j = 4; j < H / 2 - 4; j++)
            for (int i = 4; i < W / 2 - 4; i++, count++) {
                double at = axis ? 2 * j + 0.5 : 2 * i, want[3];
                to_yuv((double[]){64 / 255.0, 64 / 255.0, 4 * at / 255}, want);
                double e = got[W * H + j * (W / 2) + i] - want[1];
                ck_assert_double_le(fabs(e), 1.1); /* two roundings */
                off[axis] += e;
            }
        free(got);
    }
    ck_assert_double_le(fabs(off[0] / count), 0.3);
    ck_assert_double_le(fabs(off[1] / count), 0.3);
    free(rgb);
    free(d);
}
END_TEST

/* Frames come back in their order and place: the square's left edge moves one column a frame. */
static void check_square(const uint8_t *pixels, size_t frame, int step, int w, int h, int frames)
{
    for (int i = 0; i < frames; i++) {
        const uint8_t *row = pixels + frame * i + (size_t)(h * 3 / 8) * w * step;
        int edge = -1, most = 0;
        for (int x = 1; x < w; x++) { /* of luma, or of green */
            int rise = row[x * step + (step == 3)] - row[(x - 1) * step + (step == 3)];
            if (rise > most) {
                most = rise;
                edge = x;
            }
        }
        ck_assert_msg(edge == w / 4 + i, "frame %d: the square begins at %d, expected %d", i, edge,
                      w / 4 + i);
    }
}

START_TEST(test_frames_in_order)
{
    enum { W = 96, H = 64, N = 24 };
    if (!have("ffmpeg")) return;
    char *d = testing_tmp();
    write_clip(path_in(d, "a.mp4"), plain(), W, H, N, 16, NULL);
    write_clip(path_in(d, "a.webm"), plain(), W, H, N, 16, NULL);
    write_clip(path_in(d, "a.gif"), plain(), W, H, N, 16, NULL);
    uint8_t *a = decode(path_in(d, "a.mp4"), "yuv420p", W * H * 3 / 2, N),
            *b = decode(path_in(d, "a.webm"), "yuv420p", W * H * 3 / 2, N),
            *c = decode(path_in(d, "a.gif"), "rgb24", W * H * 3, N);
    check_square(a, W * H * 3 / 2, 1, W, H, N);
    check_square(b, W * H * 3 / 2, 1, W, H, N);
    check_square(c, W * H * 3, 3, W, H, N);
    free(a);
    free(b);
    free(c);
    free(d);
}
END_TEST

/* yuv420p has even sides: the last column and row stand twice, everything else where it was. */
START_TEST(test_odd_sides)
{
    static const struct {
        int w, h;
        const char *word;
    } CASES[] = {{33, 17, "the last column and row twice"},
                 {33, 16, "the last column twice"},
                 {32, 17, "the last row twice"}};
    if (!have("ffmpeg") || !have("ffprobe")) return;
    char *d = testing_tmp(), *file = path_in(d, "a.mp4");
    for (int k = 0; k < 3; k++) {
        int w = CASES[k].w, h = CASES[k].h, even_w = w + w % 2, even_h = h + h % 2;
        ts_file_options o = plain();
        o.crf = 0;
        o.overwrite = true;
        write_clip(file, o, w, h, 1, 16, NULL);
        ck_assert_msg(strstr(said, CASES[k].word), "%s", said);
        size_t n = (size_t)even_w * even_h;
        uint8_t *got = decode(file, "yuv420p", n * 3 / 2, 1);
        float *rgb = picture(w, h, 0);
        for (int y = 0; y < even_h; y++)
            for (int x = 0; x < even_w; x++) {
                const float *p = rgb + ((size_t)(y < h ? y : h - 1) * w + (x < w ? x : w - 1)) * 3;
                double want[3];
                to_yuv((double[]){rint(p[0] * 255) / 255, rint(p[1] * 255) / 255,
                                  rint(p[2] * 255) / 255},
                       want);
                ck_assert_double_le(fabs(got[y * even_w + x] - want[0]), YUV_TOLERANCE);
            }
        free(got);
        free(rgb);
    }
    ts_file_options o = plain();
    o.overwrite = true;
    o.scale = 2; /* even now */
    write_clip(file, o, 33, 17, 3, 16, NULL);
    ck_assert_str_eq(said, "");
    probed(file, "stream=width", "66");
    probed(file, "stream=height", "34");
    o.scale = 3;
    write_clip(path_in(d, "a.webm"), o, 33, 17, 3, 16, NULL);
    probed(path_in(d, "a.webm"), "stream=width", "100");
    probed(path_in(d, "a.webm"), "stream=height", "52");
    write_clip(path_in(d, "a.gif"), o, 33, 17, 3, 25, NULL);
    probed(path_in(d, "a.gif"), "stream=width", "99");
    probed(path_in(d, "a.gif"), "stream=height", "51");
    free(d);
}
END_TEST

/* The default quality, by what is lost: a quantiser of step s loses at most s^2 / 12 on average
 * where every coefficient is rounded to nearest. H.264: s = 2^((18 - 4) / 6) = 5.04, or with what
 * crf and dead zones add (rounding at 1/3 instead of 1/2 and up to 4 more qp in B frames: 8 in
 * place of 5.04, errors up to 2/3 s): (2/3 * 8)^2 / 3 = 9.5, which is 38.4 dB. */
START_TEST(test_default_quality)
{
    enum { W = 128, H = 96, N = 12 };
    if (!have("ffmpeg")) return;
    char *d = testing_tmp();
    ts_file_options o = plain();
    write_clip(path_in(d, "a.mp4"), o, W, H, N, 16, NULL);
    o.crf = 0;
    write_clip(path_in(d, "lossless.mp4"), o, W, H, N, 16, NULL);
    uint8_t *a = decode(path_in(d, "a.mp4"), "yuv420p", W * H * 3 / 2, N),
            *b = decode(path_in(d, "lossless.mp4"), "yuv420p", W * H * 3 / 2, N);
    double sum = 0;
    for (int i = 0; i < N; i++)
        for (int p = 0; p < W * H; p++) {
            double e = a[i * (W * H * 3 / 2) + p] - b[i * (W * H * 3 / 2) + p];
            sum += e * e;
        }
    ck_assert_double_le(sum / (N * W * H), 9.5);
    ck_assert_double_gt(sum, 0);
    free(a);
    free(b);
    free(d);
}
END_TEST

/* ---- other encoders ---- */

/* With an FFmpeg that has no x264: the next encoder, through the same code. */
START_TEST(test_other_encoders)
{
    static const struct {
        const char *encoder, *codec;
    } CASES[] = {{"libopenh264", "h264"}, {"mpeg4", "mpeg4"}};
    enum { W = 96, H = 64, N = 24 };
    if (!have("ffprobe") || !have("ffmpeg")) return;
    char *d = testing_tmp(), *file = path_in(d, "a.mp4");
    for (int i = 0; i < 2; i++) {
        size_t size[2];
        if (!avcodec_find_encoder_by_name(CASES[i].encoder)) {
            printf("skip: no %s\n", CASES[i].encoder);
            continue;
        }
        for (int k = 0; k < 2; k++) {
            ts_movie_options o = {.kind = TS_FILE_MP4,
                                  .encoder = CASES[i].encoder,
                                  .name = file,
                                  .w = W,
                                  .h = H,
                                  .crf = k ? 40 : -1,
                                  .fps = 30000.0 / 1001,
                                  .comment = JSON};
            ts_movie *m = NULL;
            ck_assert_msg(ts_movie_open(&err, file, &o, &m) == TS_OK, "%s", err.text);
            for (int f = 0; f < N; f++) {
                float *rgb = picture(W, H, f);
                uint8_t bytes[W * H * 3];
                for (int p = 0; p < W * H * 3; p++) bytes[p] = (uint8_t)lrintf(rgb[p] * 255);
                ck_assert_msg(ts_movie_frame(&err, m, bytes, NULL) == TS_OK, "%s", err.text);
                free(rgb);
            }
            ck_assert_msg(ts_movie_finish(&err, m) == TS_OK, "%s", err.text);
            ts_movie_free(m);
            probed(file, "stream=codec_name", CASES[i].codec);
            probed(file, "stream=pix_fmt", "yuv420p");
            probed(file, "stream=nb_read_frames", "24");
            probed(file, "stream=avg_frame_rate", "30000/1001");
            probed(file, "stream=color_space", "bt709");
            probed(file, "format_tags=comment", JSON);
            free(bytes_of(file, &size[k]));
            if (k) continue;
            uint8_t *got = decode(file, "yuv420p", W * H * 3 / 2, N);
            check_square(got, W * H * 3 / 2, 1, W, H, N);
            free(got);
        }
        ck_assert_uint_gt(size[0], size[1]);
    }
    free(d);
}
END_TEST

START_TEST(test_movie_refused)
{
    ts_movie_options o = {.kind = TS_FILE_MP4,
                          .encoder = "no-such",
                          .name = "clip.mp4",
                          .w = 16,
                          .h = 16,
                          .crf = -1,
                          .fps = 16};
    char *d = testing_tmp();
    ts_movie *m = NULL;
    ck_assert_int_eq(ts_movie_open(&err, path_in(d, "a.mp4"), &o, &m), TS_EDEVICE);
    ck_assert_msg(!m && strstr(err.text, "clip.mp4: no-such"), "%s", err.text);
    o.encoder = NULL;
    o.w = 16385;
    ck_assert_int_eq(ts_movie_open(&err, path_in(d, "a.mp4"), &o, &m), TS_EUSAGE);
    ck_assert_msg(!m && strstr(err.text, "16385x16 is too large, expected at most 16384"), "%s",
                  err.text);
    o.kind = TS_FILE_WEBM;
    o.h = 65536;
    ck_assert_int_eq(ts_movie_open(&err, path_in(d, "a.webm"), &o, &m), TS_EUSAGE);
    free(d);
}
END_TEST

/* ---- palettes ---- */

/* Up to 255 colours are kept exactly, and dithering has nothing to do. */
START_TEST(test_palette_exact)
{
    enum { W = 85, H = 24 };
    if (!have("ffmpeg")) return;
    char *d = testing_tmp(), *file = path_in(d, "a.gif");
    float rgb[W * H * 3];
    for (int i = 0; i < W * H; i++) {
        int colour = i % 255;
        rgb[3 * i] = (float)(colour * 37 % 256) / 255;
        rgb[3 * i + 1] = (float)(colour * 91 % 256) / 255;
        rgb[3 * i + 2] = (float)colour / 255;
    }
    write_still(file, plain(), W, H, 2, rgb);
    uint8_t *got = decode(file, "rgb24", W * H * 3, 2);
    for (int i = 0; i < 2 * W * H * 3; i++)
        ck_assert_int_eq(got[i], (int)rintf(rgb[i % (W * H * 3)] * 255));
    free(got);
    free(d);
}
END_TEST

/* All 65536 colours of a square of red and green. The best 255 boxes are squares of 16: an error of
 * 16^2 / 12 in each of two channels, 42.7 together. Floyd and Steinberg's weights turn a white
 * error q into q (1 + (49 + 9 + 25 + 1) / 256) = 1.33 q. With one box of 255 twice as large and no
 * room for corners that dithering can not reach (where values are clipped), 1.5 times that: 85. */
START_TEST(test_palette_gradient)
{
    enum { S = 256 };
    ts_palette *p = NULL;
    uint8_t *rgb = malloc(S * S * 3), *out = malloc(S * S);
    double sum = 0, plain_sum = 0, off = 0;
    for (int i = 0; i < S * S; i++) {
        rgb[3 * i] = (uint8_t)(i % S);
        rgb[3 * i + 1] = (uint8_t)(i / S);
        rgb[3 * i + 2] = 77;
    }
    ck_assert_int_eq(ts_palette_new(&err, &p), TS_OK);
    ts_palette_count(p, rgb, S * S);
    ck_assert_int_eq(ts_palette_make(&err, p), TS_OK);
    const uint32_t *colours = ts_palette_colours(p);
    ck_assert_int_eq(ts_palette_dither(&err, p, S, S, rgb, out), TS_OK);
    ck_assert_uint_eq(colours[255], 0);
    for (int i = 0; i < S * S; i++) {
        int least = 1 << 30;
        ck_assert_int_lt(out[i], 255);
        ck_assert_uint_eq(colours[out[i]] >> 24, 255);
        for (int k = 0; k < 255; k++) {
            int r = rgb[3 * i] - (int)(colours[k] >> 16 & 255),
                g = rgb[3 * i + 1] - (int)(colours[k] >> 8 & 255),
                b = rgb[3 * i + 2] - (int)(colours[k] & 255), e = r * r + g * g + b * b;
            if (e < least) least = e;
            if (k == out[i]) sum += e;
        }
        plain_sum += least;
    }
    ck_assert_msg(plain_sum / (S * S) <= 42.7 * 1.1, "the palette alone: %.1f",
                  plain_sum / (S * S));
    ck_assert_msg(sum / (S * S) <= 85, "dithered: %.1f", sum / (S * S));
    /* What dithering is for: the mean of 8 x 8 pixels, a quarter of a box, is right to a fraction
     * of a box's side; without it, it is off by a quarter of one, 4. What leaves such a square are
     * the errors of its 32 pixels of rim, half of each and of random signs; they are sqrt(85 / 2) =
     * 6.5 as above: sqrt(32) * 6.5 / 2 / 64 = 0.29, and as much comes in: 0.41. Twice that, since
     * neighbours' errors are not quite independent. */
    int squares = 0;
    for (int y = 8; y < S - 8; y += 8)
        for (int x = 8; x < S - 8; x += 8, squares++) {
            double mean[2] = {0};
            for (int j = 0; j < 64; j++) {
                int i = (y + j / 8) * S + x + j % 8;
                mean[0] += (rgb[3 * i] - (double)(colours[out[i]] >> 16 & 255)) / 64;
                mean[1] += (rgb[3 * i + 1] - (double)(colours[out[i]] >> 8 & 255)) / 64;
            }
            off += (mean[0] * mean[0] + mean[1] * mean[1]) / 2;
        }
    ck_assert_msg(sqrt(off / squares) <= 2 * 0.41, "squares of 8 are off by %.2f",
                  sqrt(off / squares));
    ts_palette_free(p);
    free(rgb);
    free(out);
}
END_TEST

/* The file holds the indices that were dithered: the clip through ffmpeg is within what the palette
 * allows. */
START_TEST(test_gif_quality)
{
    enum { S = 128, N = 4 };
    if (!have("ffmpeg")) return;
    char *d = testing_tmp(), *file = path_in(d, "a.gif");
    double sum = 0;
    write_clip(file, plain(), S, S, N, 25, NULL);
    uint8_t *got = decode(file, "rgb24", S * S * 3, N);
    for (int i = 0; i < N; i++) {
        float *want = picture(S, S, i);
        for (int k = 0; k < S * S * 3; k++) {
            double e = got[i * S * S * 3 + k] - rint(want[k] * 255);
            sum += e * e;
        }
        free(want);
    }
    /* the same square of red and green, as above */
    ck_assert_msg(sum / (N * S * S) <= 85, "%.1f a pixel", sum / (N * S * S));
    free(got);
    free(d);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("movies");
    TCase *c = tcase_create("movies");
    tcase_set_timeout(c, 300);
    suite_add_tcase(s, c);
    tcase_add_test(c, test_streams);
    tcase_add_test(c, test_gif_stream);
    tcase_add_test(c, test_rates);
    tcase_add_test(c, test_faststart);
    tcase_add_test(c, test_one_frame);
    tcase_add_test(c, test_same_bytes);
    tcase_add_test(c, test_crf);
    tcase_add_test(c, test_lossless_is_said);
    tcase_add_test(c, test_colours);
    tcase_add_test(c, test_exact);
    tcase_add_test(c, test_chroma_siting);
    tcase_add_test(c, test_frames_in_order);
    tcase_add_test(c, test_odd_sides);
    tcase_add_test(c, test_default_quality);
    tcase_add_test(c, test_other_encoders);
    tcase_add_test(c, test_movie_refused);
    tcase_add_test(c, test_palette_exact);
    tcase_add_test(c, test_palette_gradient);
    tcase_add_test(c, test_gif_quality);
    return testing_main(s);
}
