/* A run from request to frames: text, denoising and decoding, each with an arena of its own, sized
 * before (run_size.c). */
#include "sampler/run.h"
#include "sampler/tessera-bench.h"

#include "attention/report.h"
#include "attention/saved.h"
#include "backend/number.h"
#include "sampler/bins.h"
#include "sampler/images.h"
#include "sampler/latents.h"
#include "sampler/loras.h"
#include "sampler/texts.h"
#include "sampler/watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static ts_status open_arena(ts_run *r, ts_phase phase)
{
    return ts_arena_open(&r->ctx->arena, r->ctx->dev, r->arena[phase]);
}

/* ---- opening ---- */
/* shared: NULL, or texts that other runs share. */
static ts_status open_texts(ts_run *r, ts_texts *shared)
{
    ts_status st = TS_OK;
    const char *text[TS_BRANCHES] = {r->q.prompt, r->q.negative},
               *what[TS_BRANCHES] = {"prompt", "negative prompt"};
    r->texts = shared;
    r->owns_texts = !shared;
    if (!shared) TRY(ts_texts_open(r->m, &r->texts));
    if (shared) shared->children++;
    for (int i = 0; i < TS_BRANCHES && i < r->branches; i++) {
        TRY(ts_texts_add(r->texts, text[i], what[i], &r->text_id[i]));
        r->n_ids[i] = ts_texts_tokens(r->texts, r->text_id[i]);
    }
done:
    return st;
}

static ts_status open_run(ts_model *m, const ts_request *q, ts_texts *shared, const ts_run *like,
                          ts_run **out, ts_estimate *e)
{
    ts_status st = TS_OK;
    ts_run *r = calloc(1, sizeof *r);
    *out = NULL;
    *e = (ts_estimate){0};
    if (!r) return ts_fail(&m->ctx->err, TS_EMEMORY, "no memory for a run");
    r->m = m;
    m->children++;
    r->ctx = m->ctx;
    TRY(ts_request_check(r, q));
    TRY(ts_images_check(r));
    TRY(ts_images_room(r));
    TRY(ts_model_weights(m));
    TRY(ts_model_set_loras(m, r->q.loras));
    ts_loras_advise(m, &r->q);
    TRY(open_texts(r, shared));
    TRY(ts_run_size(r, like, e));
    *out = r;
done:
    if (st) ts_run_close(r);
    return st;
}

/* Of a clip with so many latents, those among them that pad it; as many as were asked for where
 * that is so many latents, too. */
static int frames_of_clip(const ts_model *m, const ts_request *q, long latents)
{
    int stride = m->vae_info.time_stride;
    if (m->family->cuts_frames && q->frames > 0 && (q->frames + stride - 2) / stride + 1 == latents)
        return q->frames;
    int step = m->vae_info.time_step ? m->vae_info.time_step : 1, pt = m->dit_info.patch[0];
    long n = latents;
    while (m->family->pads_latents && pt > 1 && n > 1 && (n - 1) % step) n--;
    return (int)(n - 1) * stride + 1;
}

/* The geometry comes from the latents; q gives what does not depend on it. */
static ts_status open_decoding(ts_model *m, const ts_request *q, const ts_bag *latents,
                               ts_run **out, ts_estimate *e)
{
    ts_status st = TS_OK;
    ts_request sized = *q;
    ts_host z;
    int step = m->vae_info.time_step;
    ts_run *r = calloc(1, sizeof *r);
    *out = NULL;
    *e = (ts_estimate){0};
    if (!r) return ts_fail(&m->ctx->err, TS_EMEMORY, "no memory for a run");
    r->m = m;
    m->children++;
    r->ctx = m->ctx;
    const char *shown = ts_state_shown(latents);
    TRY(ts_bag_get(&m->ctx->err, latents, shown, TS_F32, 4,
                   (long[]){m->vae_info.channels, -1, -1, -1}, &z));
    TRY(ts_bag_finite(&m->ctx->err, latents, shown));
    if (m->family->pictures) {
        sized.count = (int)z.dim[1];
        sized.frames = 1;
    } else
        sized.frames = frames_of_clip(m, q, z.dim[1]);
    int h = (int)z.dim[2] * m->vae_info.stride, w = (int)z.dim[3] * m->vae_info.stride,
        bin_w = q->width, bin_h = q->height;
    bool binned = m->family->bins && !q->no_bins && bin_w > 0 && bin_h > 0 &&
                  ts_bin(m->dit_info.sample_size, &bin_w, &bin_h) && bin_w == w && bin_h == h;
    /* else they are drawn for the size that was asked for */
    if (!binned) {
        sized.height = h;
        sized.width = w;
        sized.no_bins = true;
    }
    TRY(ts_request_check(r, &sized));
    if (r->latent[1] != z.dim[1] && step > 1 && !r->padding)
        TRY(ts_fail(&m->ctx->err, TS_ESHAPE,
                    "%ld latent frames: this model's clips have a multiple of %d and one", z.dim[1],
                    step));
    if (r->latent[1] != z.dim[1] || r->latent[2] != z.dim[2] || r->latent[3] != z.dim[3])
        TRY(ts_fail(&m->ctx->err, TS_ESHAPE,
                    "latents of %ldx%ldx%ld: not a whole number of patches", z.dim[1], z.dim[2],
                    z.dim[3]));
    TRY(ts_model_weights(m));
    TRY(ts_run_size_decode(r, e));
    *out = r;
done:
    if (st) ts_run_close(r);
    return st;
}

ts_status ts_run_open_with(ts_model *m, const ts_request *q, const ts_run_options *options,
                           ts_run **out, ts_estimate *e)
{
    ts_status st = TS_OK;
    ts_request asked;
    ts_run_options o = {0};
    ts_estimate unread;
    if (out) *out = NULL;
    if (!m) return TS_EUSAGE;
    if (!out) TRY(ts_fail(&m->ctx->err, TS_EUSAGE, "ts_run_open: nowhere to put the run"));
    TRY(ts_request_read(m, q, &asked));
    if (options && (options->size < sizeof o.size || options->size > sizeof o))
        TRY(ts_fail(&m->ctx->err, TS_EUSAGE,
                    "options of a run of %zu bytes, this library (%s) knows %zu", options->size,
                    ts_version(), sizeof o));
    if (options) memcpy(&o, options, options->size);
    st = o.latents ? open_decoding(m, &asked, o.latents, out, e ? e : &unread)
                   : open_run(m, &asked, o.texts, o.like, out, e ? e : &unread);
done:
    return st;
}

ts_status ts_run_open(ts_model *m, const ts_request *q, ts_run **out, ts_estimate *e)
{
    return ts_run_open_with(m, q, NULL, out, e);
}

static void free_device(ts_run *r, ts_ptr p)
{
    if (p.at) r->ctx->dev->ops->free(r->ctx->dev, p);
}

void ts_run_close(ts_run *r)
{
    if (!r) return;
    ts_model *m = r->m;
    if (r->owns_texts)
        ts_texts_close(r->texts);
    else
        ts_texts_release(r->texts);
    free(r->noise);
    free(r->step_noise);
    free(r->image_noise);
    free(r->state_request);
    free_device(r, r->latents.p);
    free_device(r, r->picture.p);
    ts_images_close(r);
    free_device(r, r->recorded);
    free_device(r, r->clean.p);
    free(r->watched.room);
    ts_attn_close(&r->attn);
    ts_request_release(r);
    free(r);
    ts_model_release(m);
}

/* ---- running ---- */
static ts_status refuse_decoding_run(ts_run *r, const char *what)
{
    return ts_fail(&r->ctx->err, TS_EUSAGE, "%s: this run was opened to decode given latents",
                   what);
}

/* The texts' states, as they are now: texts that are shared may have been dropped. */
static ts_status require_texts(ts_run *r)
{
    if (!r->texts) return refuse_decoding_run(r, "ts_run_denoise");
    for (int i = 0; i < r->branches; i++)
        if (!r->states[i] || !ts_texts_bag(r->texts, r->text_id[i]))
            return ts_fail(&r->ctx->err, TS_EUSAGE,
                           "ts_run_denoise: the %s is not encoded: ts_run_encode comes first",
                           i == TS_COND ? "prompt" : "negative prompt");
    return TS_OK;
}

ts_status ts_run_encode(ts_run *r)
{
    ts_status st = TS_OK;
    double start = ts_seconds();
    bool todo = false;
    if (!r->texts) return refuse_decoding_run(r, "ts_run_encode");
    for (int i = 0; i < r->branches; i++) r->states[i] = NULL;
    TRY(ts_state_check(r));
    for (int i = 0; i < r->branches; i++) todo = todo || !ts_texts_bag(r->texts, r->text_id[i]);
    if (todo) ts_progress(r->ctx, (ts_event){.phase = TS_PHASE_TEXT, .steps = 1});
    if (todo) TRY(ts_texts_fill(r->texts, r->text_id, r->branches, NULL));
    for (int i = 0; i < r->branches; i++) {
        TRY(ts_texts_failed(r->texts, r->text_id[i]));
        r->states[i] = ts_texts_bag(r->texts, r->text_id[i]);
    }
    TRY(ts_images_encode(r));
    r->report.text_seconds = ts_seconds() - start;
    if (todo)
        ts_progress(r->ctx, (ts_event){.phase = TS_PHASE_TEXT,
                                       .step = 1,
                                       .steps = 1,
                                       .seconds = r->report.text_seconds});
done:
    return st;
}

/* A copy of a tensor of the bag into *to, which is made where it is not there. */
static ts_status copy_noise(ts_run *r, const ts_bag *bag, const char *name, int nd, const long *dim,
                            float **to)
{
    ts_status st = TS_OK;
    ts_host h;
    size_t n = (size_t)ts_count(ts_tensor_of((ts_ptr){0}, TS_F32, nd, dim));
    TRY(ts_bag_get(&r->ctx->err, bag, name, TS_F32, nd, dim, &h));
    TRY(ts_bag_finite(&r->ctx->err, bag, name));
    if (!*to) *to = malloc(n * sizeof **to);
    if (!*to) TRY(ts_fail(&r->ctx->err, TS_EMEMORY, "no memory for %zu latents", n));
    memcpy(*to, h.data, n * sizeof **to);
done:
    return st;
}

ts_status ts_run_noise(ts_run *r, const ts_bag *bag)
{
    ts_status st = TS_OK;
    const long *l = r->latent;
    if (!bag) return ts_fail(&r->ctx->err, TS_EUSAGE, "ts_run_noise: no bag of noise");
    if (ts_images_drawn(r) && r->states[TS_COND])
        return ts_fail(&r->ctx->err, TS_EUSAGE,
                       "ts_run_noise: the image is encoded, with noise that was drawn: it comes "
                       "before ts_run_encode");
    TRY(copy_noise(r, bag, "noise", 4, l, &r->noise));
    free(r->step_noise);
    free(r->image_noise);
    r->step_noise = r->image_noise = NULL;
    if (ts_bag_has(bag, "image_noise") && ts_images_drawn(r))
        TRY(copy_noise(r, bag, "image_noise", 4, (long[]){l[0], 1, l[2], l[3]}, &r->image_noise));
    else if (ts_bag_has(bag, "image_noise"))
        ts_warn(r->ctx, "image_noise has no effect: no image of this run is drawn");
    if (!ts_bag_has(bag, "step_noise")) goto done;
    if (ts_solver_draws(r->schedule.kind))
        TRY(copy_noise(r, bag, "step_noise", 5, (long[]){r->q.steps, l[0], l[1], l[2], l[3]},
                       &r->step_noise));
    else
        ts_warn(r->ctx, "step_noise has no effect: sampler %s adds no noise after steps",
                ts_solver_name(r->schedule.kind));
done:
    return st;
}

/* One of many runs leaves its packed weights to the next one, where all of them together, and what
 * encodes the next one's images, take no more than half of the memory; else memory is the largest
 * phase, not the sum. */
static bool keeps_weights(const ts_run *r)
{
    const ts_estimate *e = &r->estimate;
    size_t images = r->q.image ? e->text_bytes : 0;
    return !r->owns_texts && !r->m->dit[1] &&
           e->denoise_bytes + e->decode_bytes + images <= r->ctx->memory / 2;
}

int ts_run_branches(const ts_run *r, int step)
{
    return r->branches == 2 && ts_guidance_at(r, step) > 1 ? 2 : 1;
}

ts_dit_inputs ts_run_inputs(const ts_run *r, const ts_bag *const *texts, int slots)
{
    int stride = r->m->vae_info.stride, beside = r->m->dit_info.beside;
    const ts_clip_vision_info *v = &r->m->vision;
    const long *l = r->latent;
    long rows = r->seen ? (1 + (r->q.last_image != NULL)) * ts_clip_vision_rows(v) : 0;
    return (ts_dit_inputs){.text = texts,
                           .slots = slots,
                           .latents = {r->beside, TS_F32, 4, {beside, l[1], l[2], l[3]}},
                           .picture = {r->seen, TS_F32, 2, {rows, v->width}},
                           .guidance = r->m->family->told_guidance ? r->q.guidance : 0,
                           .height = (int)r->latent[2] * stride,
                           .width = (int)r->latent[3] * stride};
}

/* ---- latents ---- */

static size_t latents_bytes(const ts_run *r) { return ts_latents_count(r->latent) * sizeof(float); }

ts_status ts_run_record(ts_run *r, const int *steps, int n)
{
    r->record = steps;
    r->records = n;
    return ts_alloc_for(r->ctx->dev, (size_t)n * latents_bytes(r), "latents", &r->recorded);
}

static ts_tensor latents_at(const ts_run *r, ts_ptr p)
{
    const long *l = r->latent;
    return ts_tensor_of(p, TS_F32, TS_DIM(l[1], l[2], l[3], l[0]));
}

ts_tensor ts_run_recorded(const ts_run *r, int i)
{
    return latents_at(r, ts_at(r->recorded, (size_t)i * latents_bytes(r)));
}

static void drop_latents(ts_run *r)
{
    free_device(r, r->latents.p);
    r->latents = (ts_tensor){0};
}

/* Memory that outlives the phase, for what it ends with. */
static ts_status take_latents(ts_run *r)
{
    ts_status st = TS_OK;
    ts_ptr p;
    if (ts_there(r->latents)) return TS_OK;
    TRY(ts_alloc_for(r->ctx->dev, latents_bytes(r), "latents", &p));
    r->latents = latents_at(r, p);
done:
    return st;
}

ts_status ts_run_latents(ts_run *r, ts_bag **out)
{
    ts_status st = TS_OK;
    if (!out) return ts_fail(&r->ctx->err, TS_EUSAGE, "ts_run_latents: nowhere to put them");
    char *json = ts_run_json(r);
    ts_bag *bag = ts_bag_new();
    float *z = bag ? ts_bag_put(bag, "latents", TS_F32, 4, r->latent, NULL) : NULL;
    *out = NULL;
    if (!ts_there(r->latents)) TRY(ts_fail(&r->ctx->err, TS_EUSAGE, "nothing has been denoised"));
    if (!z || !json)
        TRY(ts_fail(&r->ctx->err, TS_EMEMORY, "no memory for %zu latents",
                    ts_latents_count(r->latent)));
    TRY(ts_latents_download(r->ctx, r->latent, r->latents, z));
    ts_bag_meta(bag, "tessera", json);
    *out = bag;
    bag = NULL;
done:
    free(json);
    ts_bag_free(bag);
    return st;
}

/* ---- denoising and decoding ---- */

static void report_attention(ts_run *r)
{
    const ts_attn_counters *a = &r->attn.counters;
    long sparse = a->sparse + a->again;
    r->report.attention_dense = a->dense;
    r->report.attention_searched = a->searched + a->again;
    r->report.attention_sparse = sparse;
    r->report.kept = sparse ? a->kept / (double)sparse : 1;
    r->report.recall = a->recalls ? a->recall / (double)a->recalls : 0;
    r->report.attention_seconds = ts_attn_seconds(a);
    r->report.search_seconds = a->search_s;
    r->report.attention_gain = ts_attn_gain(a, &r->report.attention_gain_measured);
}

ts_status ts_run_denoise(ts_run *r, ts_bag **latents)
{
    ts_status st = TS_OK;
    double start = ts_seconds();
    if (latents) *latents = NULL;
    TRY(require_texts(r));
    ts_profile_read(r->ctx->dev, &r->profile, true);
    /* other runs of the model have room of their own */
    for (int i = 0; i < 2 && r->m->dit[i]; i++) {
        ts_weights_budget(ts_dit_weights(r->m->dit[i]), ts_run_room(r));
        ts_weights_spent(ts_dit_weights(r->m->dit[i]), true);
    }
    TRY(take_latents(r));
    r->watched.steps = 0;
    r->watched.seconds = 0;
    r->watched.profile = (ts_profile){0};
    TRY(open_arena(r, TS_PHASE_DENOISE));
    TRY(ts_denoise(r));
    if (latents) TRY(ts_run_latents(r, latents));
    ts_profile_read(r->ctx->dev, &r->profile, true);
    ts_watch_add_profile(&r->profile, &r->watched.profile);
    r->weights = (ts_weights_cost){0};
    for (int i = 0; i < 2 && r->m->dit[i]; i++) {
        ts_weights_cost c = ts_weights_spent(ts_dit_weights(r->m->dit[i]), true);
        r->weights.seconds += c.seconds;
        r->weights.bytes += c.bytes;
    }
    r->report.denoise_seconds = ts_seconds() - start;
    report_attention(r);
done:
    if (st) drop_latents(r); /* what was to be there is not */
    for (int i = 0; (st || !keeps_weights(r)) && i < 2 && r->m->dit[i]; i++)
        ts_weights_leave(ts_dit_weights(r->m->dit[i]));
    ts_arena_close(&r->ctx->arena);
    return st;
}

/* Those of the last denoising are where the decoder reads them; others are brought there. */
ts_status ts_run_decode(ts_run *r, const ts_bag *latents, ts_sink *sink)
{
    ts_status st = TS_OK;
    ts_host host;
    ts_tensor z = r->latents;
    double start = ts_seconds();
    TRY(ts_sink_check(&r->ctx->err, sink));
    if (latents)
        TRY(ts_bag_get(&r->ctx->err, latents, ts_state_shown(latents), TS_F32, 4, r->latent,
                       &host));
    else if (!ts_there(z))
        TRY(ts_fail(&r->ctx->err, TS_EUSAGE, "nothing has been denoised"));
    TRY(open_arena(r, TS_PHASE_DECODE));
    if (latents) {
        z = ts_latents_take(&r->ctx->arena, r->latent, r->latent[0]);
        TRY(ts_latents_upload(r->ctx, r->latent, host.data, z));
    }
    TRY(ts_decode(r, z, sink));
    r->report.decode_seconds = ts_seconds() - start;
done:
    if (st || !keeps_weights(r)) ts_weights_leave(r->m->vae_weights);
    ts_arena_close(&r->ctx->arena);
    return st;
}

void ts_run_report(const ts_run *r, ts_report *out)
{
    const ts_profile *p = &r->profile;
    double steps = ts_run_steps(r) - r->report.resumed, all = 0;
    *out = r->report;
    if (steps < 1) return;
    for (int i = 0; i < TS_TIMES; i++) all += p->seconds[i];
    out->step_seconds[0] = (p->seconds[TS_TIME_LINEAR] + p->seconds[TS_TIME_CONV]) / steps;
    out->step_seconds[1] = (p->seconds[TS_TIME_ATTENTION] + p->seconds[TS_TIME_SEARCH]) / steps;
    out->step_seconds[2] = all / steps - out->step_seconds[0] - out->step_seconds[1];
}

/* Behind what attention says of itself: what it was worth to the run, in which it is a part. */
char *ts_run_attention(const ts_run *r)
{
    char *text = ts_attn_report(&r->attn), *all = NULL;
    const ts_report *p = &r->report;
    double saved = p->attention_seconds * (p->attention_gain_measured - 1);
    if (!text || !p->attention_sparse || p->attention_gain_measured <= 0 || p->denoise_seconds <= 0)
        return text;
    locale_t was = ts_point_begin();
    if (asprintf(&all,
                 "%s  run       denoising took %.1f s, %.1f s had every call been dense: %.2fx\n",
                 text, p->denoise_seconds, p->denoise_seconds + saved,
                 (p->denoise_seconds + saved) / p->denoise_seconds) < 0)
        all = NULL;
    ts_point_end(was);
    free(text);
    return all;
}

/* By operations: those of the run, over these and those that the policy saves. */
static double expected_gain(const ts_run *r)
{
    const ts_dit_info *d = &r->m->dit_info;
    double all = 0, saved = 0,
           call = 4 * (double)r->grid.N * r->grid.N * d->dim * d->layers *
                  (r->pictures ? r->pictures : 1);
    for (int i = 0; i < TS_TIMES; i++) all += r->price[TS_PHASE_DENOISE].flops[i];
    for (int i = r->schedule.first; i < r->q.steps; i++) saved += call * ts_run_branches(r, i);
    saved *= 1 - ts_policy_work(&r->policy, r->q.steps, r->grid.nb);
    return all > 0 ? (all + saved) / all : 0;
}

char *ts_run_advice(const ts_run *r)
{
    if (r->advice.asked <= 0) return NULL;
    return ts_advice_text(&r->advice, &r->grid, r->advice.policy ? expected_gain(r) : 0);
}

double ts_run_computed(const ts_run *r)
{
    double all = (double)(r->cache.computed + r->cache.reused);
    return all > 0 ? (double)r->cache.computed / all : 1;
}

char *ts_run_cache(const ts_run *r) { return ts_step_cache_report(&r->cache); }

ts_status ts_run_plans(ts_run *r, const ts_bag **out)
{
    ts_bag *bag = ts_attn_plans(&r->attn);
    if (!out) return ts_fail(&r->ctx->err, TS_EUSAGE, "ts_run_plans: nowhere to put them");
    *out = NULL;
    if (!ts_there(r->latents))
        return ts_fail(&r->ctx->err, TS_EFAIL, "no plans: nothing has been denoised");
    if (!bag)
        return ts_fail(&r->ctx->err, TS_EFAIL, "attention %s made no plan%s%s", r->q.attention,
                       *r->attn.why ? ": " : "", r->attn.why);
    ts_bag_meta(bag, "model", r->m->name);
    *out = bag;
    return TS_OK;
}
