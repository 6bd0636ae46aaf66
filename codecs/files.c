/* The sink that is a file. Every frame becomes 8 bits (rint(255 x), halves to even) and is enlarged
 * where that was asked for; then it is a PNG, or a frame of a clip. A GIF waits for all frames,
 * since its palette does. How files are named is files_name.c's; their formats are png.c's and
 * movie.c's. */
#include "codecs/files.h"

#include "backend/file_new.h"
#include "backend/number.h"
#include "codecs/files_name.h"
#include "codecs/files_scale.h"
#include "codecs/movie.h"
#include "codecs/movie_gif.h"
#include "codecs/movie_palette.h"
#include "codecs/picture_write.h"
#include "codecs/png.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <libavutil/log.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_CRF_H264 = 51, MAX_CRF_VP9 = 63, MAX_SCALE = 64, HUNDREDTHS = 100, EVEN = 8 };

typedef struct {
    ts_sink sink; /* first: a sink is one of these */
    ts_err err;
    ts_name name;
    ts_file_options o;
    char *title, *parameters, *json; /* json: of open */
    int w, h, frames, done;
    uint8_t *rgb;     /* [h, w, 3] of the frame; GIF: [frames, h, w, 3] of all */
    uint8_t *large;   /* [h scale, w scale, 3]; NULL: not enlarged */
    uint8_t *indices; /* GIF: [h scale, w scale] */
    ts_enlarge *enlarge;
    ts_palette *palette;
    ts_movie *movie;
    ts_picture_writer *animation; /* WebP of several frames */
    ts_newfile file;              /* being written now */
    bool folder_made, opened, finished;
    bool broken; /* a call failed: only abort and free are left */
} output;

static void __attribute__((format(printf, 2, 3)))
warn_of_output(const output *f, const char *format, ...)
{
    char sentence[512];
    va_list args;
    if (!f->o.env || !f->o.env->warn) return;
    va_start(args, format);
    locale_t was = ts_point_begin();
    vsnprintf(sentence, sizeof sentence, format, args);
    ts_point_end(was);
    va_end(args);
    f->o.env->warn(f->o.env->user, sentence);
}

static ts_status no_frame_memory(output *f)
{
    return ts_fail(&f->err, TS_EMEMORY, "%s: no memory to write it", f->name.path);
}

static char *copy_text(const char *text) { return text ? strdup(text) : NULL; }

/* ---- pictures ---- */

static void to_bytes(const float *x, size_t n, uint8_t *out)
{
    for (size_t i = 0; i < n; i++) {
        float v = x[i] > 0 ? x[i] : 0; /* NaN too */
        out[i] = (uint8_t)lrintf(255 * (v < 1 ? v : 1));
    }
}

/* The picture to write; `rgb` itself where nothing is enlarged. */
static const uint8_t *enlarge_picture(output *f, const uint8_t *rgb)
{
    if (!f->enlarge) return rgb;
    ts_enlarge_run(f->enlarge, rgb, f->large);
    return f->large;
}

static ts_picture_options picture_options(const output *f, const char *name)
{
    return (ts_picture_options){.kind = f->name.kind == TS_FILE_FRAMES ? f->name.each
                                                                       : f->name.kind,
                                .name = name,
                                .w = f->w * f->o.scale,
                                .h = f->h * f->o.scale,
                                .frames = 1,
                                .quality = f->o.quality};
}

static const char *picture_path(const output *f)
{
    return f->name.standard ? "/dev/stdout" : f->file.part;
}

static ts_status write_picture(output *f, const char *file, const ts_frame *frame,
                               const uint8_t *rgb)
{
    const char *path = picture_path(f), *json = f->json && frame->json ? frame->json : f->json;
    const ts_picture_options o = picture_options(f, file);
    if (o.kind != TS_FILE_PNG) return ts_picture_write(&f->err, &o, path, rgb, json);
    ts_png_text text = {.name = file,
                        .parameters = f->parameters && frame->parameters ? frame->parameters
                                                                         : f->parameters,
                        .json = json};
    return ts_png_write(&f->err, path, o.w, o.h, rgb, &text);
}

/* ---- the sink ---- */

static void free_writers(output *f)
{
    ts_movie_free(f->movie);
    ts_picture_writer_free(f->animation);
    f->movie = NULL;
    f->animation = NULL;
}

/* Every call ends here: the sentence goes where the pipeline reads it, and nothing half stays. */
static ts_status end_file(output *f, ts_status st)
{
    if (st == TS_OK) return st;
    f->broken = true;
    snprintf(f->sink.error, sizeof f->sink.error, "%s", f->err.text);
    free_writers(f);
    ts_newfile_drop(&f->file);
    return st;
}

static void say_timing(const output *f, double fps)
{
    double each = HUNDREDTHS / fps;
    if (fps > TS_GIF_FPS)
        warn_of_output(
            f, "%s: GIF viewers show at most %d frames a second: written with that instead of %g",
            f->name.path, TS_GIF_FPS, fps);
    /* unevenness of less than an eighth is not seen */
    else if (f->frames > 1 && each < EVEN && fabs(each - rint(each)) > 0.01)
        warn_of_output(
            f,
            "%s: GIF counts time in 1/100 s: frames last %d or %d of them at %g a second; "
            "at %.4g all last the same",
            f->name.path, (int)floor(each), (int)ceil(each), fps, HUNDREDTHS / rint(each));
}

static ts_status open_movie(output *f, double fps)
{
    bool gif = f->name.kind == TS_FILE_GIF;
    ts_movie_options o = {.kind = f->name.kind,
                          .name = f->name.path,
                          .w = f->w * f->o.scale,
                          .h = f->h * f->o.scale,
                          .crf = f->o.crf,
                          .fps = gif && fps > TS_GIF_FPS ? TS_GIF_FPS : fps,
                          .title = f->title,
                          .comment = f->json};
    if (gif)
        say_timing(f, fps);
    else if ((o.w | o.h) & 1 && !ts_movie_is_exact(o.kind, o.crf))
        warn_of_output(f,
                       "%s: yuv420p needs even sides: %dx%d is written as %dx%d, the last %s twice",
                       f->name.path, o.w, o.h, o.w + (o.w & 1), o.h + (o.h & 1),
                       !(o.h & 1)   ? "column"
                       : !(o.w & 1) ? "row"
                                    : "column and row");
    return ts_movie_open(&f->err, f->name.standard ? NULL : f->file.part, &o, &f->movie);
}

static ts_status open_animation(output *f, double fps)
{
    ts_picture_options o = picture_options(f, f->name.path);
    o.frames = f->frames;
    o.fps = fps;
    return ts_picture_open(&f->err, &o, &f->animation);
}

static ts_status open_buffers(output *f)
{
    bool gif = f->name.kind == TS_FILE_GIF;
    ts_status st = TS_OK;
    int n = f->o.scale;
    size_t pixels = (size_t)f->w * f->h, count = gif ? (size_t)f->frames : 1;
    f->rgb = calloc(count, pixels * 3);
    if (!f->rgb && gif)
        TRY(ts_fail(&f->err, TS_EMEMORY,
                    "%s: no memory for the %d frames of %dx%d that a GIF's palette needs",
                    f->name.path, f->frames, f->w, f->h));
    if (!f->rgb) TRY(no_frame_memory(f));
    if (n > 1) {
        TRY(ts_enlarge_new(&f->err, f->w, f->h, n, &f->enlarge));
        f->large = malloc(pixels * n * n * 3);
        if (!f->large) TRY(no_frame_memory(f));
    }
    if (gif) {
        TRY(ts_palette_new(&f->err, &f->palette));
        f->indices = malloc(pixels * n * n);
        if (!f->indices) TRY(no_frame_memory(f));
    }
done:
    return st;
}

static ts_status open_file(ts_sink *sink, int w, int h, int frames, double fps, const char *json)
{
    output *f = (output *)sink;
    ts_file_kind kind = f->name.kind;
    ts_status st = TS_OK;
    char *first = NULL;
    if (f->opened) TRY(ts_fail(&f->err, TS_EUSAGE, "%s: a sink is opened once", f->name.path));
    f->opened = true;
    if (f->name.standard && !f->o.format && frames == 1) kind = f->name.kind = TS_FILE_PNG;
    if (w < 1 || h < 1 || frames < 1)
        TRY(ts_fail(&f->err, TS_EUSAGE, "%s: %d frames of %dx%d, expected at least 1 of each",
                    f->name.path, frames, w, h));
    if (ts_file_is_still(kind) && frames > 1)
        TRY(ts_fail(
            &f->err, TS_EUSAGE,
            "%s: %d frames do not fit one picture: name numbered files like frame-%%04d.png, a "
            "folder (ends in /), or a .mp4",
            f->name.path, frames));
    bool moves = kind == TS_FILE_WEBP ? frames > 1 : !ts_file_is_still(kind);
    if (!(fps > 0) && moves && kind != TS_FILE_FRAMES)
        TRY(ts_fail(&f->err, TS_EUSAGE, "%s: %g frames a second, expected more than 0",
                    f->name.path, fps));
    f->w = w;
    f->h = h;
    f->frames = frames;
    f->json = f->o.metadata ? copy_text(json) : NULL;
    if (f->o.metadata && json && !f->json) TRY(no_frame_memory(f));
    TRY(open_buffers(f));
    TRY(ts_name_make_parents(&f->err, &f->name));
    if (kind == TS_FILE_FRAMES) {
        if (f->name.make_folder && mkdir(f->name.folder, 0777) == 0)
            f->folder_made = true;
        else if (f->name.make_folder && errno != EEXIST)
            TRY(ts_fail(&f->err, TS_EIO, "%s: the folder can not be made: %s", f->name.path,
                        strerror(errno)));
        goto done;
    }
    first = ts_name_file(&f->name, 0);
    if (!first) TRY(no_frame_memory(f));
    if (!f->name.standard) TRY(ts_newfile_open(&f->err, first, f->o.overwrite, &f->file));
    if (kind == TS_FILE_WEBP && moves) TRY(open_animation(f, fps));
    if (!ts_file_is_picture(kind)) TRY(open_movie(f, fps));
done:
    free(first);
    return end_file(f, st);
}

static ts_status put_numbered(output *f, const ts_frame *frame, const uint8_t *rgb)
{
    ts_status st = TS_OK;
    char *file = ts_name_file(&f->name, frame->index);
    if (!file) TRY(no_frame_memory(f));
    TRY(ts_newfile_open(&f->err, file, f->o.overwrite, &f->file));
    TRY(write_picture(f, file, frame, rgb));
    TRY(ts_newfile_keep(&f->err, &f->file));
done:
    free(file);
    return st;
}

static ts_status put_frame(ts_sink *sink, const ts_frame *frame)
{
    output *f = (output *)sink;
    ts_status st = TS_OK;
    size_t n = (size_t)f->w * f->h * 3;
    if (!f->opened || f->finished || f->broken)
        TRY(ts_fail(&f->err, TS_EUSAGE, "%s: a frame came to a sink that is not open",
                    f->name.path));
    if (frame->w != f->w || frame->h != f->h || frame->index != f->done || f->done >= f->frames)
        TRY(ts_fail(&f->err, TS_ESHAPE,
                    "%s: frame %d of %dx%d, expected frame %d of %dx%d, %d in all", f->name.path,
                    frame->index, frame->w, frame->h, f->done, f->w, f->h, f->frames));
    bool gif = f->name.kind == TS_FILE_GIF;
    uint8_t *rgb = f->rgb + (gif ? n * f->done : 0);
    to_bytes(frame->rgb, n, rgb);
    if (gif)
        ts_palette_count(f->palette, rgb, n / 3);
    else if (f->name.kind == TS_FILE_FRAMES)
        TRY(put_numbered(f, frame, enlarge_picture(f, rgb)));
    else if (f->animation)
        TRY(ts_picture_add(&f->err, f->animation, enlarge_picture(f, rgb)));
    else if (ts_file_is_picture(f->name.kind))
        TRY(write_picture(f, f->name.path, frame, enlarge_picture(f, rgb)));
    else
        TRY(ts_movie_frame(&f->err, f->movie, enlarge_picture(f, rgb), NULL));
    f->done++;
done:
    return end_file(f, st);
}

/* All frames of a GIF, now that its colours can be chosen. */
static ts_status put_gif(output *f)
{
    ts_status st = TS_OK;
    size_t n = (size_t)f->w * f->h * 3;
    TRY(ts_palette_make(&f->err, f->palette));
    for (int i = 0; i < f->frames; i++) {
        TRY(ts_palette_dither(&f->err, f->palette, f->w * f->o.scale, f->h * f->o.scale,
                              enlarge_picture(f, f->rgb + n * i), f->indices));
        TRY(ts_movie_frame(&f->err, f->movie, f->indices, ts_palette_colours(f->palette)));
    }
done:
    return st;
}

/* Numbered frames of an older and longer run go with those that were replaced; what carries nothing
 * of ours stays, and is told of. */
static void remove_older_frames(output *f)
{
    int removed = 0, foreign = -1;
    for (int i = f->frames - 1; (i = ts_name_next(&f->name, i + 1)) >= 0;) {
        char *file = ts_name_file(&f->name, i), *json = NULL;
        ts_err unread = {0};
        bool ours = file && f->o.overwrite && !ts_file_info(&unread, file, &json) && json;
        if (ours && !unlink(file))
            removed++;
        else if (foreign < 0)
            foreign = i;
        free(json);
        free(file);
    }
    if (removed)
        warn_of_output(f, "%s: %d frame%s of an older run %s removed: this one has %d",
                       f->name.path, removed, removed == 1 ? "" : "s",
                       removed == 1 ? "was" : "were", f->frames);
    if (foreign >= 0)
        warn_of_output(
            f, "%s: frame %d and what follows it are of an older run: this one has %d frames",
            f->name.path, foreign, f->frames);
}

static ts_status close_file(ts_sink *sink)
{
    output *f = (output *)sink;
    ts_file_kind kind = f->name.kind;
    ts_status st = TS_OK;
    if (!f->opened || f->finished || f->broken || f->done != f->frames)
        TRY(ts_fail(&f->err, TS_EUSAGE, "%s: closed after %d frames, expected %d", f->name.path,
                    f->done, f->frames));
    if (kind == TS_FILE_FRAMES) {
        remove_older_frames(f);
    } else {
        if (kind == TS_FILE_GIF) TRY(put_gif(f));
        if (f->movie) TRY(ts_movie_finish(&f->err, f->movie));
        if (f->animation) TRY(ts_picture_finish(&f->err, f->animation, picture_path(f), f->json));
        if (kind == TS_FILE_GIF && f->json && !f->name.standard)
            TRY(ts_gif_write_comment(&f->err, f->name.path, f->file.part, f->json));
        if (!f->name.standard) TRY(ts_newfile_keep(&f->err, &f->file));
    }
    f->finished = true;
done:
    return end_file(f, st);
}

static void abort_file(ts_sink *sink)
{
    output *f = (output *)sink;
    if (f->finished) return;
    f->finished = true;
    free_writers(f);
    ts_newfile_drop(&f->file);
    for (int i = 0; f->name.kind == TS_FILE_FRAMES && i < f->done; i++) {
        char *file = ts_name_file(&f->name, i);
        if (file) unlink(file);
        free(file);
    }
    /* fails when another process has put a file there, which then stays */
    if (f->folder_made) rmdir(f->name.folder);
}

static ts_status check_output_options(output *f)
{
    const char *path = f->name.path, *encoder;
    ts_file_kind kind = f->name.kind == TS_FILE_FRAMES ? f->name.each : f->name.kind;
    bool crf = kind == TS_FILE_MP4 || kind == TS_FILE_WEBM || kind == TS_FILE_MKV;
    int most = kind == TS_FILE_WEBM ? MAX_CRF_VP9 : MAX_CRF_H264;
    if (crf && (f->o.crf < -1 || f->o.crf > most))
        return ts_fail(&f->err, TS_EUSAGE, "%s: crf %d, expected 0 (best) to %d", path, f->o.crf,
                       most);
    if (f->o.quality < 0 || f->o.quality > TS_MOST_QUALITY)
        return ts_fail(&f->err, TS_EUSAGE, "%s: quality %d, expected 1 to %d (best)", path,
                       f->o.quality, TS_MOST_QUALITY);
    if (f->o.scale < 1 || f->o.scale > MAX_SCALE)
        return ts_fail(&f->err, TS_EUSAGE, "%s: scale %d, expected 1 to %d", path, f->o.scale,
                       MAX_SCALE);
    if (kind == TS_FILE_PNG) return TS_OK;
    if (ts_file_is_picture(kind)) return ts_picture_check_encoder(&f->err, kind, path);
    ts_status st = ts_movie_encoder(&f->err, kind, f->o.crf, path, &encoder);
    if (st == TS_OK && strcmp(encoder, "mpeg4") == 0)
        warn_of_output(
            f,
            "%s: the FFmpeg library here has no H.264 encoder: written as MPEG-4 part 2, which "
            "some players do not show",
            path);
    /* x264 then writes the profile High 4:4:4 Predictive, of yuv420p all the same */
    if (st == TS_OK && strcmp(encoder, "libx264") == 0 && f->o.crf == 0)
        warn_of_output(
            f,
            "%s: crf 0 is lossless H.264, which browsers and many players do not show: 1 is the "
            "best that they do",
            path);
    return st;
}

ts_status ts_file_check_size(ts_err *err, const char *path, const ts_file_options *o, int w, int h,
                             int frames)
{
    ts_status st = TS_OK;
    ts_name name;
    long times = o->scale < 1 ? 1 : o->scale, width = w * times, height = h * times;
    TRY(ts_name_init(err, path, o->format, &name));
    TRY(ts_name_check_length(err, &name, frames));
    ts_file_kind kind = name.kind == TS_FILE_FRAMES ? name.each : name.kind;
    if (kind == TS_FILE_JPEG || kind == TS_FILE_WEBP)
        TRY(ts_picture_check_size(err, kind, path, width, height));
    else if (kind != TS_FILE_PNG)
        TRY(ts_movie_check_size(err, kind, path, width, height));
    else if (width > TS_PNG_MAX_SIDE || height > TS_PNG_MAX_SIDE)
        TRY(ts_fail(err, TS_EUSAGE, "%s: %ldx%ld is too large, expected at most %d a side", path,
                    width, height, TS_PNG_MAX_SIDE));
done:
    ts_name_free(&name);
    return st;
}

ts_status ts_file_make_folders(ts_err *err, const char *path)
{
    ts_name name;
    ts_status st = ts_name_init(err, path, NULL, &name);
    if (!st) st = ts_name_make_parents(err, &name);
    ts_name_free(&name);
    return st;
}

ts_status ts_file_open(ts_err *err, const char *path, const ts_file_options *o, ts_sink **out)
{
    ts_status st = TS_OK;
    output *f = calloc(1, sizeof *f);
    if (!f) return ts_fail(err, TS_EMEMORY, "%s: no memory to write it", path);
    /* libav prints by itself; everything it has to say comes back as a status */
    av_log_set_level(AV_LOG_QUIET);
    f->sink = (ts_sink){
        .open = open_file, .frame = put_frame, .close = close_file, .abort = abort_file};
    f->o = *o;
    if (f->o.scale == 0) f->o.scale = 1;
    TRY(ts_name_init(&f->err, path, o->format, &f->name));
    TRY(check_output_options(f));
    TRY(ts_name_check(&f->err, &f->name, o->overwrite));
    f->title = o->metadata ? copy_text(o->title) : NULL;
    f->parameters = o->metadata ? copy_text(o->parameters) : NULL;
    if (o->metadata && ((o->title && !f->title) || (o->parameters && !f->parameters)))
        TRY(no_frame_memory(f));
    *out = &f->sink;
    f = NULL;
done:
    if (f) {
        *err = f->err;
        ts_file_close(&f->sink);
    }
    return st;
}

void ts_file_close(ts_sink *sink)
{
    output *f = (output *)sink;
    if (!f) return;
    abort_file(sink);
    free_writers(f);
    ts_palette_free(f->palette);
    ts_enlarge_free(f->enlarge);
    ts_name_free(&f->name);
    free(f->title);
    free(f->parameters);
    free(f->json);
    free(f->rgb);
    free(f->large);
    free(f->indices);
    free(f);
}

/* ---- reading back ---- */

static bool is_ours(const char *text)
{
    cJSON *json = cJSON_Parse(text);
    bool ours = cJSON_IsObject(json) && cJSON_GetObjectItemCaseSensitive(json, "tessera");
    cJSON_Delete(json);
    return ours;
}

ts_status ts_file_info(ts_err *err, const char *path, char **json)
{
    static const unsigned char PNG[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    ts_status st = TS_OK;
    unsigned char head[8] = {0};
    char *text = NULL;
    struct stat s;
    *json = NULL;
    FILE *file = fopen(path, "rbe");
    if (!file || fstat(fileno(file), &s) != 0)
        TRY(ts_fail(err, TS_EMODEL, "%s: can not be read: %s", path, strerror(errno)));
    if (S_ISDIR(s.st_mode))
        TRY(ts_fail(err, TS_EMODEL, "%s: is a folder, expected a picture or clip", path));
    size_t n = fread(head, 1, sizeof head, file);
    av_log_set_level(AV_LOG_QUIET);
    if (n == sizeof head && memcmp(head, PNG, sizeof PNG) == 0)
        TRY(ts_png_read_text(err, path, "tessera", &text));
    else if (n >= 6 && memcmp(head, "GIF8", 4) == 0)
        TRY(ts_gif_read_comment(err, path, &text));
    else if (n == sizeof head && ((head[0] == 0xff && head[1] == 0xd8) || !memcmp(head, "RIFF", 4)))
        TRY(ts_picture_read_text(err, path, &text));
    else
        TRY(ts_movie_comment(err, path, &text));
    if (text && is_ours(text)) {
        *json = text;
        text = NULL;
    }
done:
    free(text);
    if (file) fclose(file);
    return st;
}
