/* What a program sees of a run between two steps: the sample, the clean latents that the step
 * foretells, and a preview of them. Nothing of it goes back into the run. */
#include "sampler/watch.h"

#include "backend/number.h"
#include "sampler/latents.h"

#include <stdlib.h>
#include <string.h>

struct ts_step {
    ts_run *r;
    const ts_solver *solver; /* after the step */
    ts_tensor x;             /* device [F, H, W, C] */
    ts_err *failed;          /* of a call that failed in here; NULL */
};

/* For the VAE, beside the transformer: its largest layer must fit in any case. */
static ts_status leave_preview_room(ts_run *r)
{
    ts_status st = TS_OK;
    size_t bytes, largest, room = ts_run_room(r);
    char need[TS_NUMBER_TEXT], left[TS_NUMBER_TEXT];
    TRY(ts_preview_open(r, &bytes));
    for (int i = 0; i < 2 && r->m->dit[i]; i++) {
        ts_weights_packed(ts_dit_weights(r->m->dit[i]), &largest);
        if (bytes + largest > room)
            TRY(ts_fail(&r->ctx->err, TS_EMEMORY, "a preview needs %s, the denoising leaves %s",
                        ts_bytes_text((double)bytes, need),
                        ts_bytes_text(room > largest ? (double)(room - largest) : 0, left)));
    }
    r->watched.bytes = bytes;
done:
    return st;
}

ts_status ts_run_watch(ts_run *r, const ts_watch *w)
{
    ts_status st = TS_OK;
    ts_err *err = &r->ctx->err;
    const long *l = r->latent;
    ts_watch known = {0};
    ts_ptr p;
    r->watch = known;
    r->watched.bytes = 0;
    if (!w) return TS_OK;
    if (w->size < sizeof w->size || w->size > sizeof known)
        return ts_fail(err, TS_EUSAGE,
                       "ts_run_watch: a watch of %zu bytes, this library (%s) "
                       "knows %zu",
                       w->size, ts_version(), sizeof known);
    memcpy(&known, w, w->size);
    if (known.every < 0)
        return ts_fail(err, TS_EUSAGE, "ts_run_watch: every %d steps: must be 1 or more",
                       known.every);
    if (!known.step) return ts_fail(err, TS_EUSAGE, "ts_run_watch: no function to call");
    if (!r->texts)
        return ts_fail(err, TS_EUSAGE, "ts_run_watch: this run was opened to decode given latents");
    if (!ts_there(r->clean)) {
        TRY(ts_alloc_for(r->ctx->dev, ts_latents_count(l) * sizeof(float), "latents", &p));
        r->clean = ts_tensor_of(p, TS_F32, TS_DIM(l[1], l[2], l[3], l[0]));
    }
    if (known.preview) TRY(leave_preview_room(r));
    r->watch = known;
done:
    return st;
}

bool ts_watch_due(const ts_run *r, int step)
{
    int n = step + 1 - r->schedule.first, every = r->watch.every > 1 ? r->watch.every : 1;
    return r->watch.step && !r->ctx->dev->counting && (n % every == 0 || n == ts_run_steps(r));
}

ts_status ts_watch_call(ts_run *r, const ts_solver *solver, ts_tensor x)
{
    double start = ts_seconds();
    ts_step s = {.r = r, .solver = solver, .x = x};
    ts_status st = r->watch.step(r->watch.user, &s);
    r->watched.steps++;
    r->watched.seconds += ts_seconds() - start;
    if (st && !s.failed)
        ts_fail(&r->ctx->err, st, "the function that watches ended the run after step %d",
                ts_step_number(&s));
    return st;
}

int ts_step_number(const ts_step *s) { return s->solver->done - s->r->schedule.first; }
int ts_step_count(const ts_step *s) { return ts_run_steps(s->r); }
double ts_step_sigma(const ts_step *s) { return ts_solver_sigma(s->solver); }

void ts_step_shape(const ts_step *s, int shape[4])
{
    for (int i = 0; i < 4; i++) shape[i] = (int)s->r->latent[i];
}

static ts_status note_failure(ts_step *s, ts_status st)
{
    if (st) s->failed = &s->r->ctx->err;
    return st;
}

ts_status ts_step_latents(ts_step *s, float *out)
{
    return note_failure(s, ts_latents_download(s->r->ctx, s->r->latent, s->x, out));
}

ts_status ts_step_clean(ts_step *s, float *out)
{
    return note_failure(s, ts_latents_download(s->r->ctx, s->r->latent, s->r->clean, out));
}

void ts_watch_add_profile(ts_profile *to, const ts_profile *more)
{
    for (int i = 0; i < TS_TIMES; i++) {
        to->seconds[i] += more->seconds[i];
        to->flops[i] += more->flops[i];
        to->calls[i] += more->calls[i];
    }
}

/* Its operations are no part of the denoising's profile. */
static ts_status fit_colours(ts_run *r, const float *z)
{
    ts_device *dev = r->ctx->dev;
    ts_profile p;
    ts_status st = ts_profile_read(dev, &p, true);
    ts_watch_add_profile(&r->watched.profile, &p);
    if (!st) st = ts_preview_fit(r, z);
    ts_profile_read(dev, &p, true);
    return st;
}

ts_status ts_step_preview(ts_step *s, int frame, ts_frame *out)
{
    ts_status st = TS_OK;
    ts_run *r = s->r;
    ts_err *err = &r->ctx->err;
    ts_device *dev = r->ctx->dev;
    const ts_preview *p = r->m->preview;
    long C = r->latent[0], F = r->latent[1], H = r->latent[2], W = r->latent[3];
    size_t n = (size_t)(C * H * W);
    *out = (ts_frame){0};
    if (!r->watch.preview || !p)
        TRY(ts_fail(err, TS_EUSAGE, "ts_step_preview: the watch did not ask for previews"));
    if (frame >= F || frame < -1)
        TRY(ts_fail(err, TS_EUSAGE, "ts_step_preview: frame %d, there are 0 to %ld, or -1", frame,
                    F - 1));
    if (frame < 0) frame = (int)(F / 2);
    int w = (int)W * p->side, h = (int)H * p->side;
    float *room = realloc(r->watched.room, (n + (size_t)w * (size_t)h * 3) * sizeof *room);
    if (!room) TRY(ts_fail(err, TS_EMEMORY, "no memory for a preview of %dx%d", w, h));
    r->watched.room = room;
    TRY(dev->ops->download(dev, room, ts_at(r->clean.p, (size_t)frame * n * sizeof *room),
                           n * sizeof *room));
    TRY(fit_colours(r, room));
    ts_preview_frame(p, room, H, W, room + n);
    *out = (ts_frame){.w = w, .h = h, .index = frame, .rgb = room + n};
done:
    return note_failure(s, st);
}
