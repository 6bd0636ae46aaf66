/* The public face of codecs/files: apart from the core, so that a program that brings its own sink
 * links without libav. */
#include "sampler/tessera.h"

#include "backend/ctx.h"
#include "codecs/files.h"
#include "sampler/generate.h"

#include <stdlib.h>
#include <string.h>

/* Members that this library does not know are 0. */
void ts_output_init(ts_output *o, size_t size)
{
    const ts_output all = {.size = size, .crf = -1, .scale = 1, .metadata = true};
    memset(o, 0, size);
    memcpy(o, &all, size < sizeof all ? size : sizeof all);
}

/* The caller's, of its version of the struct, in this one's. */
static ts_status read_output(ts_ctx *c, const ts_output *o, ts_output *out)
{
    ts_output_init(out, sizeof *out);
    if (o->size < sizeof o->size || o->size > sizeof *out)
        return ts_fail(&c->err, TS_EUSAGE,
                       "output of %zu bytes, this library (%s) knows %zu: begin with "
                       "ts_output_default, or take the library that the program was built for",
                       o->size, ts_version(), sizeof *out);
    memcpy(out, o, o->size);
    return TS_OK;
}

static ts_file_options make_file_options(const ts_ctx *c, const ts_output *o)
{
    return (ts_file_options){.crf = o->crf,
                             .quality = o->quality,
                             .format = o->format,
                             .scale = o->scale < 1 ? 1 : o->scale,
                             .overwrite = o->overwrite,
                             .metadata = o->metadata,
                             .title = o->title,
                             .parameters = o->parameters,
                             .env = &c->env};
}

ts_status ts_output_open(ts_ctx *c, const char *path, const ts_output *o, ts_sink **out)
{
    if (out) *out = NULL;
    if (!path || !o || !out)
        return ts_fail(&c->err, TS_EUSAGE, "ts_output_open: no path, options or place for a sink");
    ts_output known;
    ts_status st = read_output(c, o, &known);
    if (st) return st;
    ts_file_options f = make_file_options(c, &known);
    return ts_file_open(&c->err, path, &f, out);
}

ts_status ts_output_check(ts_ctx *c, const char *path, const ts_output *o, int frames)
{
    ts_status st = TS_OK;
    ts_sink *sink = NULL;
    ts_file_kind kind;
    ts_output known;
    if (!path || !o) TRY(ts_fail(&c->err, TS_EUSAGE, "ts_output_check: no path or options"));
    TRY(read_output(c, o, &known));
    TRY(ts_file_kind_of(&c->err, path, known.format, &kind));
    if (ts_file_is_still(kind) && frames > 1)
        TRY(ts_fail(
            &c->err, TS_EUSAGE,
            "%s: %d frames do not fit one picture: name numbered files like frame-%%04d.png, a "
            "folder, or a .mp4",
            path, frames));
    TRY(ts_output_open(c, path, o, &sink));
done:
    if (sink) sink->abort(sink);
    ts_output_close(sink);
    return st;
}

ts_status ts_output_folders(ts_ctx *c, const char *path)
{
    if (!path) return ts_fail(&c->err, TS_EUSAGE, "ts_output_folders: no path");
    return ts_file_make_folders(&c->err, path);
}

ts_status ts_output_check_size(ts_ctx *c, const char *path, const ts_output *o, int w, int h,
                               int frames)
{
    if (!path || !o) return ts_fail(&c->err, TS_EUSAGE, "ts_output_check_size: no path or options");
    ts_output known;
    ts_status st = read_output(c, o, &known);
    if (st) return st;
    ts_file_options f = make_file_options(c, &known);
    return ts_file_check_size(&c->err, path, &f, w, h, frames);
}

/* Measured with x264, libvpx and the palette of GIFs at 64x64 to 1024x1024: bytes a pixel of each
 * frame that is held, how many are, and what is there in any case. */
size_t ts_output_bytes(const char *path, int w, int h, int frames)
{
    static const struct {
        double fixed, each;
        int most;
    } held[] = {[TS_FILE_PNG] = {1e6, 8, 1},    [TS_FILE_FRAMES] = {1e6, 8, 1},
                [TS_FILE_MP4] = {1e6, 5.2, 40}, [TS_FILE_WEBM] = {32e6, 6, 25},
                [TS_FILE_GIF] = {24e6, 15, 1},  [TS_FILE_MKV] = {1e6, 5.2, 40},
                [TS_FILE_Y4M] = {1e6, 6, 1},    [TS_FILE_JPEG] = {1e6, 12, 1},
                [TS_FILE_WEBP] = {1e6, 24, 1}};
    ts_file_kind kind;
    ts_err unread;
    if (!path || ts_file_kind_of(&unread, path, NULL, &kind)) return 0;
    if (kind == TS_FILE_WEBP && frames > 1) /* encoded frames stay */
        return (size_t)(4e6 + (40 + 2.0 * frames) * (double)w * (double)h);
    int n = frames < held[kind].most ? frames : held[kind].most;
    return (size_t)(held[kind].fixed + held[kind].each * (double)w * (double)h * n);
}

void ts_output_close(ts_sink *sink)
{
    if (sink) ts_file_close(sink);
}

ts_status ts_generate(ts_model *m, const ts_request *q, const char *path)
{
    ts_status st = TS_OK;
    ts_run *r = NULL;
    ts_sink *sink = NULL;
    char *parameters = NULL;
    if (!m) return TS_EUSAGE;
    if (!path) TRY(ts_fail(&m->ctx->err, TS_EUSAGE, "ts_generate: no path of a file to write"));
    TRY(ts_generate_open(m, q, &r));
    parameters = ts_run_parameters(r);
    if (!parameters) TRY(ts_fail(&m->ctx->err, TS_EMEMORY, "%s: no memory for its metadata", path));
    const ts_output o = {.size = sizeof o,
                         .crf = -1,
                         .scale = r->q.scale,
                         .metadata = true,
                         .title = r->q.prompt,
                         .parameters = parameters};
    TRY(ts_output_check(m->ctx, path, &o, ts_run_frames(r)));
    TRY(ts_output_check_size(m->ctx, path, &o, r->q.width, r->q.height, ts_run_frames(r)));
    TRY(ts_output_open(m->ctx, path, &o, &sink));
    TRY(ts_generate_run(r, sink));
done:
    ts_output_close(sink); /* aborts what is not complete */
    ts_run_close(r);
    free(parameters);
    return st;
}

ts_status ts_output_info(ts_ctx *c, const char *path, char **json)
{
    if (json) *json = NULL;
    if (!path || !json)
        return ts_fail(&c->err, TS_EUSAGE, "ts_output_info: no path or place for the answer");
    return ts_file_info(&c->err, path, json);
}
