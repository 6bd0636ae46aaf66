/* How long a run will take on this machine: the operations of a counting run, each kind at the pace
 * that the very model reaches here. The pace is measured on little: a layer of the transformer over
 * a smaller clip, a few latents through the decoder, a layer of the text encoder brought to the
 * device.
 *
 *   seconds = sum over kinds of operations of  work of the run * seconds of the sample / its work
 *
 * Work is floating-point operations where a kind has any, else calls times tokens or pixels. What
 * is packed, and packed again each step where not everything stays, is added. */
#include "sampler/images.h"
#include "sampler/latents.h"
#include "sampler/run.h"
#include "sampler/texts.h"

#include <math.h>
#include <string.h>

enum { MOST_TOKENS = 4096, LEAST_TOKENS = 256, LATENTS = 2, LEAST_SIDE = 8, MOST_SIDE = 32 };
#define LAYER 1e11 /* floating-point operations that a sample of a layer may take */

typedef struct { /* of a sample: what its operations took, of how many tokens or pixels */
    ts_profile p;
    double size;
} pace;

static double product_seconds_per_flop(const pace *a)
{
    double flops = 0, seconds = 0;
    for (int i = 0; i < TS_TIMES; i++)
        if (a->p.flops[i] > 0) {
            flops += a->p.flops[i];
            seconds += a->p.seconds[i];
        }
    return flops > 0 ? seconds / flops : 0;
}

/* Of operations that were counted over `size` tokens or pixels. */
static double seconds_at(const ts_profile *work, double size, const pace *a)
{
    double sum = 0;
    for (int i = 0; i < TS_TIMES; i++) {
        const ts_profile *p = &a->p;
        /* block sums are products of queries and keys, as attention is */
        int of = i == TS_TIME_SEARCH && p->flops[i] <= 0 ? TS_TIME_ATTENTION : i;
        if (work->flops[i] > 0)
            sum += work->flops[i] *
                   (p->flops[of] > 0 ? p->seconds[of] / p->flops[of] : product_seconds_per_flop(a));
        else if (p->calls[i] > 0 && p->flops[i] <= 0)
            sum += (double)work->calls[i] * size / a->size * p->seconds[i] / (double)p->calls[i];
    }
    return sum;
}

/* ---- the transformer ---- */
typedef struct {
    ts_run small;            /* of fewer tokens, for one evaluation without guidance */
    ts_bag *zeros;           /* its text */
    double entered, packing; /* when the step began; seconds until the layer's weights were there */
    pace pace;
} sample;

/* Frames of at most so many latents. */
static int clip_of(const ts_vae_info *v, int latents)
{
    int step = v->time_step ? v->time_step : 1;
    return (latents - 1) / step * step * v->time_stride + 1;
}

/* Fewer frames, then a smaller size of the same shape, until a layer takes no more than LAYER. */
static void shrink(const ts_run *r, ts_request *q)
{
    const ts_vae_info *v = &r->m->vae_info;
    double flops = r->price[TS_PHASE_DENOISE].flops[TS_TIME_LINEAR],
           calls = (double)ts_run_steps(r) * r->branches * (r->pictures ? r->pictures : 1),
           each = flops / calls / r->m->dit_info.layers / (double)r->grid.N,
           most = each > 0 ? LAYER / each : MOST_TOKENS, frame = (double)r->grid.N / r->grid.F;
    most = fmin(fmax(most, LEAST_TOKENS), MOST_TOKENS);
    q->count = 1;
    q->no_bins = true;
    q->width = (int)r->latent[3] * v->stride;
    q->height = (int)r->latent[2] * v->stride;
    if ((double)r->grid.N <= most) return;
    int latents = (int)fmax(1, most / frame) * r->m->dit_info.patch[0];
    double side = frame > most ? sqrt(most / frame) : 1;
    if (!r->pictures) q->frames = clip_of(v, latents);
    q->width = (int)(q->width * side);
    q->height = (int)(q->height * side);
}

static ts_status open_small(sample *s, ts_run *r)
{
    ts_status st = TS_OK;
    ts_request q = r->q;
    shrink(r, &q);
    q.state = q.init = q.noise_file = NULL;
    q.attention = "dense";
    q.guidance = q.guidance_2 = 1;
    s->small = (ts_run){.m = r->m, .ctx = r->ctx};
    TRY(ts_request_check(&s->small, &q));
    TRY(ts_images_room(&s->small));
    TRY(ts_texts_zeros(r->texts, r->text_id[TS_COND], &s->zeros));
done:
    return st;
}

/* The first layer's weights are there: it is run once, so that everything is, and timed. What
 * follows of the step is not. */
static ts_status time_layer(void *user, const ts_dit_pass *p, int layer)
{
    ts_status st = TS_OK;
    sample *s = user;
    ts_device *dev = s->small.ctx->dev;
    ts_profile before;
    s->packing = ts_seconds() - s->entered;
    TRY(ts_dit_probe_layer(p, layer, 0));
    TRY(dev->ops->join(dev));
    TRY(ts_profile_read(dev, &before, true));
    TRY(ts_dit_probe_layer(p, layer, 0));
    TRY(dev->ops->join(dev));
    TRY(ts_profile_read(dev, &s->pace.p, true));
    st = TS_EFAIL; /* ends the evaluation */
done:
    return st;
}

static ts_status begin_step(void *user, const ts_dit_pass *p)
{
    (void)p;
    ((sample *)user)->entered = ts_seconds();
    return TS_OK;
}

static ts_status run_sample(ts_ctx *ctx, void *user)
{
    ts_status st = TS_OK;
    sample *s = user;
    ts_run *r = &s->small;
    ts_dit *dit = r->m->dit[0];
    ts_eval eval = {.slot = TS_COND};
    float t = 500;
    static const char *const branch[] = {"cond"};
    const ts_bag *text[] = {s->zeros};
    ts_tensor x = ts_latents_take(&ctx->arena, r->latent, r->latent[0]),
              v = ts_latents_take(&ctx->arena, r->latent, r->m->dit_info.out_channels);
    ts_dit_inputs in = ts_run_inputs(r, text, 1);
    const ts_dit_hook hook = {.user = s, .step_before = begin_step, .layer_before = time_layer};
    TRY(ctx->dev->ops->zero(ctx->dev, x.p, ts_latents_count(r->latent) * sizeof(float)));
    r->slot_text[0] = (int)ts_dit_text_rows(dit, &in, 0);
    TRY(ts_attn_open(&r->attn, ctx,
                     &(ts_attn_options){.policy = r->policy,
                                        .grid = r->grid,
                                        .layers = r->m->dit_info.layers,
                                        .heads = r->m->dit_info.heads,
                                        .width = r->m->dit_info.head_dim,
                                        .slots = 1,
                                        .slot_name = branch,
                                        .text = r->slot_text}));
    TRY(ts_dit_prepare(dit, &r->attn.grid, &in, &t, 1));
    ts_dit_watch(dit, &hook);
    st = ts_dit_step(dit, &r->attn, (ts_event){.step = 1, .steps = 1}, 1, &eval, &x, &v);
    ts_dit_watch(dit, NULL);
    if (st == TS_EFAIL) st = TS_OK;
done:
    return st;
}

/* How often a step packs a layer anew. */
static double layers_away(const ts_weights *w, int layers, size_t room)
{
    size_t slots, all = ts_weights_packed(w, &slots);
    if (all <= room || !slots) return 0;
    return fmin(layers, ceil((double)(all + slots - room) / (double)slots));
}

static ts_status forecast_denoise(ts_run *r, sample *s, double *seconds)
{
    ts_status st = TS_OK;
    ts_ctx *ctx = r->ctx;
    size_t size, room = ts_run_room(r);
    ts_weights *w = ts_dit_weights(r->m->dit[0]);
    double layers = 0, steps = ts_run_steps(r);
    TRY(open_small(s, r));
    TRY(ts_count_phase(ctx, run_sample, s, &size));
    ts_weights_budget(w, room);
    TRY(ts_arena_open(&ctx->arena, ctx->dev, size));
    TRY(run_sample(ctx, s));
    s->pace.size = (double)s->small.grid.N;
    for (int i = 0; i < 2 && r->m->dit[i]; i++) layers += ts_dit_describe(r->m->dit[i])->layers;
    *seconds = seconds_at(&r->price[TS_PHASE_DENOISE], (double)r->grid.N, &s->pace) +
               s->packing * (layers + (steps - 1) * layers_away(w, r->m->dit_info.layers, room));
done:
    ts_arena_close(&ctx->arena);
    ts_weights_leave(w);
    return st;
}

/* ---- the decoder ---- */
typedef struct {
    ts_run *r;
    long latent[4]; /* C F H W of the sample */
} part;

static ts_status decode_part(ts_ctx *ctx, void *user)
{
    ts_status st = TS_OK;
    const part *p = user;
    ts_model *m = p->r->m;
    const ts_vae_class *cls = m->family->vae;
    ts_vae *vae = NULL;
    ts_frame frame;
    bool end = false;
    size_t mark = ts_mark(&ctx->arena);
    ts_tensor z = ts_latents_take(&ctx->arena, p->latent, p->latent[0]);
    TRY(ctx->dev->ops->zero(ctx->dev, z.p, ts_latents_count(p->latent) * sizeof(float)));
    TRY(cls->open(ctx, m->vae_weights, &m->vae_info, z, (ts_vae_tile){0, 0}, &vae));
    while (!end) TRY(cls->next(vae, &frame, &end));
done:
    if (vae) cls->close(vae);
    ts_release(&ctx->arena, mark);
    return st;
}

static double pixels(const long latent[4])
{
    return (double)latent[1] * (double)latent[2] * (double)latent[3];
}

/* As large as a sample may be that takes half a second or so, at this many seconds a FLOP. */
static void choose_part(const ts_run *r, double each, part *p)
{
    double flops = r->estimate.decode_flops / pixels(r->latent);
    for (int side = MOST_SIDE;; side /= 2) {
        for (int i = 0; i < 4; i++) p->latent[i] = r->latent[i];
        if (p->latent[1] > LATENTS) p->latent[1] = LATENTS;
        for (int i = 2; i < 4; i++)
            if (p->latent[i] > side) p->latent[i] = side;
        if (side == LEAST_SIDE || flops * pixels(p->latent) * each < 0.5) break;
    }
}

/* each: seconds a FLOP of products, as far as is known */
static ts_status forecast_decode(ts_run *r, double each, double *seconds)
{
    ts_status st = TS_OK;
    ts_ctx *ctx = r->ctx;
    ts_device *dev = ctx->dev;
    part p = {.r = r};
    pace a;
    double start, first, second;
    size_t size;
    choose_part(r, each, &p);
    TRY(ts_count_phase(ctx, decode_part, &p, &size));
    TRY(ts_arena_open(&ctx->arena, dev, size));
    start = ts_seconds();
    TRY(decode_part(ctx, &p));
    first = ts_seconds() - start;
    TRY(ts_profile_read(dev, &a.p, true));
    start = ts_seconds();
    TRY(decode_part(ctx, &p));
    second = ts_seconds() - start;
    TRY(ts_profile_read(dev, &a.p, true));
    a.size = pixels(p.latent);
    *seconds = seconds_at(&r->price[TS_PHASE_DECODE], pixels(r->latent), &a) +
               fmax(0, first - second);
done:
    ts_arena_close(&ctx->arena);
    ts_weights_leave(r->m->vae_weights);
    return st;
}

/* ---- the text encoder ---- */
/* Its weights pass once; the sizing has left the last encoder open. */
static ts_status forecast_text(ts_run *r, const pace *a, double *seconds)
{
    ts_status st = TS_OK;
    ts_weights *w = r->owns_texts && r->texts->encoder ? r->texts->encoder->weights : NULL;
    size_t layer, all;
    *seconds = 0;
    if (!w) return TS_OK;
    for (int i = 0; i < TS_TIMES; i++)
        *seconds += r->price[TS_PHASE_TEXT].flops[i] * product_seconds_per_flop(a);
    double start = ts_seconds();
    TRY(ts_weights_enter(w, 0));
    all = ts_weights_packed(w, &layer);
    if (layer) *seconds += (ts_seconds() - start) * (double)all / (double)layer;
done:
    ts_weights_leave(w);
    return st;
}

/* ---- all of it ---- */
static void ignore_wish(void *user, const ts_weight *w, ts_form f)
{
    (void)user;
    (void)w;
    (void)f;
}

static ts_status measure(ts_run *r, sample *s, ts_forecast *f)
{
    ts_status st = TS_OK;
    if (r->texts) {
        TRY(forecast_denoise(r, s, &f->denoise_seconds));
        TRY(forecast_text(r, &s->pace, &f->text_seconds));
    }
    TRY(forecast_decode(r, product_seconds_per_flop(&s->pace), &f->decode_seconds));
done:
    return st;
}

ts_status ts_run_forecast(ts_run *r, ts_forecast *out)
{
    ts_ctx *ctx = r->ctx;
    ts_device *dev = ctx->dev;
    ts_forecast f = {.size = sizeof f, .allowed_bytes = ctx->memory};
    sample s = {0};
    ts_env env = ctx->env;
    bool timed = true;
    void (*wish)(void *, const ts_weight *, ts_form) = dev->wish;
    if (!out || out->size < sizeof out->size || out->size > sizeof f)
        return ts_fail(&ctx->err, TS_EUSAGE, "ts_run_forecast: no forecast of a size to fill");
    /* nothing of it is seen, and it leaves the layouts of weights as the run has chosen them */
    ctx->env.progress = NULL;
    ctx->env.warn = NULL;
    dev->wish = ignore_wish;
    ts_status st = ts_profile_time(dev, true, &timed);
    if (!st) st = measure(r, &s, &f);
    ts_profile unread;
    ts_profile_read(dev, &unread, true);
    if (!timed) (void)ts_profile_time(dev, false, NULL);
    dev->wish = wish;
    ctx->env = env;
    ts_attn_close(&s.small.attn);
    ts_images_close(&s.small);
    ts_request_release(&s.small);
    ts_bag_free(s.zeros);
    f.program_bytes = ts_device_resident();
    f.size = out->size;
    memcpy(out, &f, out->size);
    return st;
}
