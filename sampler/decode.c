/* Latents -> frames -> the caller's sink, one frame at a time; and how large a tile the VAE
 * gets. */
#include "sampler/run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static ts_status sink_failed(ts_run *r, ts_sink *sink, ts_status st)
{
    return st == TS_OK ? TS_OK : ts_fail(&r->ctx->err, st, "%s", sink->error);
}

ts_status ts_sink_check(ts_err *err, const ts_sink *sink)
{
    if (sink && sink->open && sink->frame && sink->close && sink->abort) return TS_OK;
    return ts_fail(err, TS_EUSAGE, "%s",
                   sink ? "a sink needs all four functions: open, frame, close, abort"
                        : "no sink to put the frames into");
}

static ts_status open_sink(ts_run *r, ts_sink *sink)
{
    char *json = ts_run_public_json(r);
    ts_status st = sink_failed(
        r, sink, sink->open(sink, r->q.width, r->q.height, ts_run_frames(r), r->q.fps, json));
    free(json);
    return st;
}

/* ---- what was drawn at another size than asked for ---- */
/* the delivered picture [h, w, 3]; rgb NULL: frames pass as they are */
typedef struct {
    int w, h;
    float *rgb;
} canvas;

/* Places a delivered row or column reads from, of `from` that become `to` before `cut` of them are
 * cut away: weight 1 - t at `at`, t one further. As torch's bilinear interpolation. */
typedef struct {
    int at, next;
    float t;
} tap;

static void taps(int from, int to, int cut, int n, tap *out)
{
    float scale = (float)from / (float)to;
    for (int i = 0; i < n; i++) {
        float x = scale * ((float)(i + cut) + 0.5f) - 0.5f;
        x = x < 0 ? 0 : x > (float)(from - 1) ? (float)(from - 1) : x;
        out[i].at = (int)x;
        out[i].next = out[i].at + (out[i].at < from - 1);
        out[i].t = x - (float)out[i].at;
    }
}

/* Covers the delivered size, keeping the aspect, and takes the middle; then 0..1. */
static ts_status deliver(ts_run *r, canvas *c, ts_frame *f)
{
    double ratio = fmax((double)c->h / f->h, (double)c->w / f->w);
    int w = (int)(f->w * ratio), h = (int)(f->h * ratio);
    if (w < c->w) w = c->w; /* where the product was rounded down */
    if (h < c->h) h = c->h;
    tap *x = malloc((size_t)(c->w + c->h) * sizeof *x);
    if (!x)
        return ts_fail(&r->ctx->err, TS_EMEMORY, "no memory for a picture of %dx%d", c->w, c->h);
    tap *y = x + c->w;
    taps(f->w, w, (w - c->w) / 2, c->w, x);
    taps(f->h, h, (h - c->h) / 2, c->h, y);
    for (int j = 0; j < c->h; j++) {
        const float *a = f->rgb + 3L * f->w * y[j].at, *b = f->rgb + 3L * f->w * y[j].next;
        for (int i = 0; i < c->w; i++)
            for (int k = 0; k < 3; k++) {
                float top = a[3 * x[i].at + k] * (1 - x[i].t) + a[3 * x[i].next + k] * x[i].t,
                      low = b[3 * x[i].at + k] * (1 - x[i].t) + b[3 * x[i].next + k] * x[i].t;
                float v = top * (1 - y[j].t) + low * y[j].t;
                c->rgb[3 * ((long)j * c->w + i) + k] = v < 0 ? 0 : v > 1 ? 1 : v;
            }
    }
    free(x);
    f->w = c->w;
    f->h = c->h;
    f->rgb = c->rgb;
    return TS_OK;
}

/* Pictures are resized before they are clamped: what lies beyond 0..1 counts. */
static ts_status open_canvas(ts_run *r, canvas *c)
{
    if (!r->pictures) return TS_OK;
    *c = (canvas){.w = r->q.width,
                  .h = r->q.height,
                  .rgb = malloc((size_t)r->q.width * (size_t)r->q.height * 3 * sizeof(float))};
    return c->rgb
               ? TS_OK
               : ts_fail(&r->ctx->err, TS_EMEMORY, "no memory for a picture of %dx%d", c->w, c->h);
}

/* A picture of a batch says what would make it alone. */
static ts_status hand_out(ts_run *r, ts_sink *sink, ts_frame *f)
{
    bool batch = r->pictures > 1;
    char *json = batch ? ts_run_json_of(r, f->index) : NULL,
         *parameters = batch ? ts_run_parameters_of(r, f->index) : NULL;
    f->json = json;
    f->parameters = parameters;
    ts_status st = sink_failed(r, sink, sink->frame(sink, f));
    free(json);
    free(parameters);
    return st;
}

/* Latents [F, H, W, C] without the first frames, which were drawn to fill a patch. */
static ts_tensor without_padding(const ts_run *r, ts_tensor z)
{
    size_t frame = (size_t)(z.dim[1] * z.dim[2] * z.dim[3]) * sizeof(float);
    z.p = ts_at(z.p, (size_t)r->padding * frame);
    z.dim[0] -= r->padding;
    return z;
}

ts_status ts_decode(ts_run *r, ts_tensor latents, ts_sink *sink)
{
    ts_status st = TS_OK;
    const ts_vae_class *cls = r->m->family->vae;
    ts_vae *vae = NULL;
    canvas c = {0};
    bool end = false;
    double start = ts_seconds();
    ts_progress(r->ctx, (ts_event){.phase = TS_PHASE_DECODE, .steps = ts_run_frames(r)});
    if (sink) TRY(open_sink(r, sink));
    TRY(open_canvas(r, &c));
    TRY(cls->open(r->ctx, r->m->vae_weights, &r->m->vae_info, without_padding(r, latents), r->tile,
                  &vae));
    for (int n = 0;; n++) {
        ts_frame frame;
        TRY(ts_stopped(r->ctx));
        TRY(cls->next(vae, &frame, &end));
        if (end || n == ts_run_frames(r)) break;
        if (c.rgb && sink) TRY(deliver(r, &c, &frame));
        if (sink) TRY(hand_out(r, sink, &frame));
        ts_progress(r->ctx, (ts_event){.phase = TS_PHASE_DECODE,
                                       .step = n + 1,
                                       .steps = ts_run_frames(r),
                                       .seconds = ts_seconds() - start});
    }
    if (sink) TRY(sink_failed(r, sink, sink->close(sink)));
done:
    if (vae) cls->close(vae);
    free(c.rgb);
    if (st && sink) sink->abort(sink);
    return st;
}
