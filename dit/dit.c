/* One evaluation of a diffusion transformer, whatever its class: opens and binds, and runs the only
 * layer loop. All samples of an evaluation pass a layer before the next layer's weights are
 * entered. What a layer computes is the business of the class (wan.c, pixart.c); what is looked at
 * on the way, numbers that are none and taps among it, are hooks. */
#include "dit/dit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ts_dit {
    ts_ctx *ctx;
    const ts_dit_class *cls;
    ts_dit_info info;
    void *config, *self;
    ts_weights *weights;
    ts_grid grid;
    int first_layer, slots, rows; /* texts and timesteps prepared */
    int beside;                   /* channels that the inputs have given */
    long *text_rows;              /* [slots] in the stream; NULL: none in any */
    char *dir;
    const ts_dit_hook *hooks; /* of others, called after those of this file */
};

/* ---- opening ---- */

ts_status ts_dit_read(ts_ctx *ctx, const ts_dit_class *cls, const cJSON *config,
                      const char *config_path, ts_dit_info *out)
{
    void *own = calloc(1, cls->config_size);
    ts_status st = own ? cls->describe(ctx, config, config_path, out, own)
                       : ts_fail(&ctx->err, TS_EMEMORY, "%s: out of memory", config_path);
    free(own);
    return st;
}

ts_status ts_dit_open(ts_ctx *ctx, const ts_dit_class *cls, const cJSON *config,
                      const char *config_path, const char *dir, int first_layer, ts_dit **out)
{
    ts_status st;
    ts_dit *d = calloc(1, sizeof *d);
    *out = NULL;
    if (!d || !(d->self = calloc(1, cls->size)) || !(d->config = calloc(1, cls->config_size)) ||
        !(d->dir = strdup(dir)))
        TRY(ts_fail(&ctx->err, TS_EMEMORY, "%s: out of memory", dir));
    d->ctx = ctx;
    d->cls = cls;
    d->first_layer = first_layer;
    TRY(cls->describe(ctx, config, config_path, &d->info, d->config));
    TRY(ts_weights_open(ctx, dir, "diffusion_pytorch_model", cls->names, &d->weights));
    TRY(cls->bind(d->self, ctx, &d->info, d->config, d->weights));
    ts_weights_warn_unused(d->weights);
    *out = d;
    d = NULL;
done:
    ts_dit_close(d);
    return st;
}

void ts_dit_close(ts_dit *d)
{
    if (!d) return;
    if (d->cls) d->cls->close(d->self);
    ts_weights_close(d->weights);
    free(d->self);
    free(d->config);
    free(d->text_rows);
    free(d->dir);
    free(d);
}

const ts_dit_info *ts_dit_describe(const ts_dit *d) { return &d->info; }

ts_weights *ts_dit_weights(ts_dit *d) { return d->weights; }

int ts_dit_first_layer(const ts_dit *d) { return d->first_layer; }

void ts_dit_watch(ts_dit *d, const ts_dit_hook *hooks) { d->hooks = hooks; }

/* ---- preparing ---- */

static ts_status check_texts(ts_dit *d, const ts_dit_inputs *in)
{
    ts_status st = TS_OK;
    ts_err *err = &d->ctx->err;
    char why[sizeof err->text];
    ts_host s;
    for (int i = 0; i < in->slots; i++) {
        if (ts_bag_get(err, in->text[i], "states", TS_F32, 2, (long[]){-1, d->info.text_dim}, &s)) {
            memcpy(why, err->text, sizeof why);
            TRY(ts_fail(err, TS_ESHAPE, "%s: the text: %.400s", d->dir, why));
        }
        long length = in->text_rows       ? in->text_rows
                      : d->cls->text_rows ? d->cls->text_rows
                                          : s.dim[0];
        if (s.dim[0] > length || length < 1)
            TRY(ts_fail(err, TS_ESHAPE, "%s: %ld rows of text states, expected at most %ld", d->dir,
                        s.dim[0], length));
    }
done:
    return st;
}

static ts_status check_beside(const ts_dit *d, const ts_grid *g, ts_host t)
{
    const int *p = d->info.patch;
    long want[4] = {d->info.beside, (long)g->F * p[0], (long)g->H * p[1], (long)g->W * p[2]};
    if (!t.data || (t.type == TS_F32 && t.nd == 4 && !memcmp(t.dim, want, sizeof want)))
        return TS_OK;
    if (!d->info.beside)
        return ts_fail(&d->ctx->err, TS_EMODEL,
                       "%s: latents beside the sample's own: this transformer has no channels for "
                       "them",
                       d->dir);
    return ts_fail(&d->ctx->err, TS_ESHAPE,
                   "%s: latents beside the sample's own [%ld, %ld, %ld, %ld], expected [%ld, %ld, "
                   "%ld, %ld]",
                   d->dir, t.dim[0], t.dim[1], t.dim[2], t.dim[3], want[0], want[1], want[2],
                   want[3]);
}

static ts_status check_pictures(const ts_dit *d, ts_host t)
{
    long dim = d->info.picture_dim, rows = d->info.picture_rows;
    if (!t.data) return TS_OK;
    if (!dim)
        return ts_fail(&d->ctx->err, TS_EMODEL,
                       "%s: states of a picture: this transformer sees none", d->dir);
    if (t.type != TS_F32 || t.nd != 2 || t.dim[0] < 1 || t.dim[1] != dim ||
        (rows && t.dim[0] != rows))
        return ts_fail(&d->ctx->err, TS_ESHAPE,
                       "%s: states of a picture [%ld, %ld], expected [%ld, %ld]", d->dir, t.dim[0],
                       t.dim[1], rows ? rows : -1, dim);
    return TS_OK;
}

long ts_dit_text_rows(const ts_dit *d, const ts_dit_inputs *in, int slot)
{
    return d->cls->rows ? d->cls->rows(d->self, in, slot) : 0;
}

/* What the streams of the run consist of is asked once. */
static ts_status note_rows(ts_dit *d, const ts_dit_inputs *in)
{
    free(d->text_rows);
    d->text_rows = NULL;
    if (!d->cls->rows) return TS_OK;
    d->text_rows = malloc((size_t)in->slots * sizeof *d->text_rows);
    if (!d->text_rows)
        return ts_fail(&d->ctx->err, TS_EMEMORY, "%s: no memory for %d texts", d->dir, in->slots);
    for (int i = 0; i < in->slots; i++) d->text_rows[i] = ts_dit_text_rows(d, in, i);
    return TS_OK;
}

ts_status ts_dit_prepare(ts_dit *d, const ts_grid *grid, const ts_dit_inputs *in, const float *t,
                         int nt)
{
    ts_status st;
    int tag;
    if (in->slots < 1 || nt < 1)
        return ts_fail(&d->ctx->err, TS_EUSAGE,
                       "%s: %d texts and %d timesteps, expected at least one of each", d->dir,
                       in->slots, nt);
    TRY(check_texts(d, in));
    TRY(check_beside(d, grid, in->latents));
    TRY(check_pictures(d, in->picture));
    TRY(note_rows(d, in));
    TRY(d->ctx->dev->ops->checked(d->ctx->dev, &tag)); /* what a run that was stopped has left */
    d->grid = *grid;
    d->slots = in->slots;
    d->rows = nt;
    d->beside = in->latents.data ? d->info.beside : 0;
    TRY(d->cls->prepare(d->self, grid, in, t, nt));
done:
    return st;
}

/* ---- the stream: samples lie behind each other ---- */

static long stream_rows(const ts_dit *d, const ts_eval *e)
{
    return d->grid.N + (d->text_rows ? d->text_rows[e->slot] : 0);
}

static long rows_before(const ts_dit_pass *p, int sample)
{
    long rows = 0;
    if (!p->dit->text_rows) return (long)sample * p->dit->grid.N;
    for (int i = 0; i < sample; i++) rows += stream_rows(p->dit, p->eval + i);
    return rows;
}

static ts_tensor stream_of(const ts_dit_pass *p, int i)
{
    return ts_row_range(p->h, rows_before(p, i), stream_rows(p->dit, p->eval + i));
}

/* The tokens of a stream, without its rows of text. */
static ts_tensor tokens_of(const ts_dit *d, ts_tensor stream)
{
    return ts_row_range(stream, 0, d->grid.N);
}

/* ---- hooks ---- */

/* Tags of the check for NaN and infinity: layer + 2, so that what has entered has 1. */
static ts_status check_sample(void *user, const ts_dit_pass *p, int layer, int sample, ts_tensor t)
{
    ts_device *dev = p->dit->ctx->dev;
    (void)user;
    (void)sample;
    return dev->ops->check(dev, t, layer + 2);
}

static ts_status check_step_end(void *user, const ts_dit_pass *p)
{
    const ts_dit *d = p->dit;
    ts_err *err = &d->ctx->err;
    int tag, layers = d->info.layers, step = p->event.step;
    ts_status st = d->ctx->dev->ops->checked(d->ctx->dev, &tag);
    (void)user;
    if (st != TS_OK || tag == 0) return st;
    if (tag == TS_DIT_ENTERED + 2)
        return ts_fail(
            err, TS_ENUMBER,
            "%s: NaN or infinity in step %d at the patch embedding, before layer 1 of %d", d->dir,
            step, layers);
    if (tag == layers + 2)
        return ts_fail(err, TS_ENUMBER,
                       "%s: NaN or infinity in step %d at the output, after layer %d of %d", d->dir,
                       step, layers, layers);
    return ts_fail(err, TS_ENUMBER, "%s: NaN or infinity in step %d at layer %d of %d", d->dir,
                   step, tag - 1, layers);
}

static ts_status tap_sample(void *user, const ts_dit_pass *p, int layer, int sample, ts_tensor t)
{
    ts_status st = TS_OK;
    const ts_dit *d = p->dit;
    ts_ctx *ctx = d->ctx;
    char name[32];
    (void)user;
    if (!ctx->tap || ctx->dev->counting || p->event.step > 1 || layer == d->info.layers) goto done;
    snprintf(name, sizeof name, "blocks.%d", layer);
    if (layer == TS_DIT_ENTERED) {
        TRY(ctx->tap(ctx->tap_user, "condition_embedder",
                     d->cls->embedding(d->self, p->eval[sample])));
        snprintf(name, sizeof name, "patch_embedding");
    }
    TRY(ctx->tap(ctx->tap_user, name, t));
done:
    return st;
}

static const ts_dit_hook tap_hook = {.sample_after = tap_sample};
static const ts_dit_hook check_hook = {
    .next = &tap_hook, .sample_after = check_sample, .step_after = check_step_end};

/* The hooks of this file, then those of others. */
static const ts_dit_hook *first_hook(void) { return &check_hook; }
static const ts_dit_hook *next_hook(const ts_dit *d, const ts_dit_hook *k)
{
    return k == &tap_hook ? d->hooks : k->next;
}

static ts_status call_step_before(const ts_dit_pass *p)
{
    ts_status st = TS_OK;
    for (const ts_dit_hook *k = first_hook(); k; k = next_hook(p->dit, k))
        if (k->step_before) TRY(k->step_before(k->user, p));
done:
    return st;
}

static ts_status call_step_after(const ts_dit_pass *p)
{
    ts_status st = TS_OK;
    for (const ts_dit_hook *k = first_hook(); k; k = next_hook(p->dit, k))
        if (k->step_after) TRY(k->step_after(k->user, p));
done:
    return st;
}

static ts_status call_layer_before(const ts_dit_pass *p, int layer)
{
    ts_status st = TS_OK;
    for (const ts_dit_hook *k = first_hook(); k; k = next_hook(p->dit, k))
        if (k->layer_before) TRY(k->layer_before(k->user, p, layer));
done:
    return st;
}

static ts_status call_sample_after(const ts_dit_pass *p, int layer, int sample, ts_tensor t)
{
    ts_status st = TS_OK;
    for (const ts_dit_hook *k = first_hook(); k; k = next_hook(p->dit, k))
        if (k->sample_after) TRY(k->sample_after(k->user, p, layer, sample, t));
done:
    return st;
}

/* ---- the loop ---- */

static ts_status check_latents(const ts_dit *d, const char *what, ts_tensor t, int channels)
{
    const int *p = d->info.patch;
    const ts_grid *g = &d->grid;
    long want[4] = {(long)g->F * p[0], (long)g->H * p[1], (long)g->W * p[2], channels};
    if (t.nd == 4 && t.type == TS_F32 && t.ld == channels && !memcmp(t.dim, want, sizeof want))
        return TS_OK;
    return ts_fail(&d->ctx->err, TS_ESHAPE,
                   "%s: %s [%ld, %ld, %ld, %ld], expected [%ld, %ld, %ld, %ld]", d->dir, what,
                   t.dim[0], t.dim[1], t.dim[2], t.dim[3], want[0], want[1], want[2], want[3]);
}

static ts_status check_choice(const ts_dit *d, ts_tensor sel)
{
    if (!ts_there(sel) || (sel.type == TS_U8 && sel.nd == 1 && sel.dim[0] == d->grid.N))
        return TS_OK;
    return ts_fail(&d->ctx->err, TS_ESHAPE,
                   "%s: the choice of timesteps has %ld tokens, expected %d as U8", d->dir,
                   sel.dim[0], d->grid.N);
}

static ts_status check_arguments(const ts_dit_pass *p)
{
    ts_status st = TS_OK;
    const ts_dit *d = p->dit;
    ts_err *err = &d->ctx->err;
    for (int i = 0; i < p->n; i++) {
        const ts_eval *v = p->eval + i;
        if (v->trow < 0 || v->trow >= d->rows || v->trow_sel < 0 || v->trow_sel >= d->rows ||
            v->slot < 0 || v->slot >= d->slots)
            TRY(ts_fail(err, TS_EUSAGE, "%s: timestep %d and text %d, expected less than %d and %d",
                        d->dir, v->trow, v->slot, d->rows, d->slots));
        TRY(check_choice(d, v->sel));
        TRY(check_choice(d, v->sel_raster));
        TRY(check_latents(d, "latents are", p->x[i], d->info.in_channels - d->beside));
        TRY(check_latents(d, "the velocity is", p->v[i], d->info.out_channels));
    }
done:
    return st;
}

/* Rows of x in the order of ids: into the order of attention, and back to the model's own. */
static ts_status reorder_rows(const ts_dit *d, ts_tensor x, ts_tensor ids, ts_tensor y)
{
    return ts_gather_op(d->ctx->dev, (ts_gather){x, ids, y});
}

static ts_status enter_sample(const ts_dit_pass *p, int i)
{
    ts_status st;
    const ts_dit *d = p->dit;
    ts_ctx *ctx = d->ctx;
    long N = d->grid.N;
    ts_tensor h = stream_of(p, i); /* [T, dim] */
    size_t mark = ts_mark(&ctx->arena);
    if (!ts_there(d->grid.perm)) {
        TRY(d->cls->enter(d->self, p->eval[i], p->x[i], h));
        goto done;
    }
    ts_tensor raster = ts_take(&ctx->arena, TS_F32, 2, h.dim); /* [T, dim] */
    TRY(d->cls->enter(d->self, p->eval[i], p->x[i], raster));
    TRY(reorder_rows(d, tokens_of(d, raster), d->grid.perm, tokens_of(d, h)));
    if (h.dim[0] > N)
        TRY(ts_cast(ctx->dev, ts_row_range(raster, N, h.dim[0] - N),
                    ts_row_range(h, N, h.dim[0] - N)));
done:
    ts_release(&ctx->arena, mark);
    return st;
}

static ts_status enter_samples(const ts_dit_pass *p)
{
    ts_status st;
    TRY(ts_weights_enter(p->dit->weights, p->dit->info.layers));
    for (int i = 0; i < p->n; i++) {
        TRY(enter_sample(p, i));
        TRY(call_sample_after(p, TS_DIT_ENTERED, i, tokens_of(p->dit, stream_of(p, i))));
    }
done:
    return st;
}

static ts_status run_block(const ts_dit_pass *p, int l, int i, ts_tensor h)
{
    ts_status st;
    const ts_dit *d = p->dit;
    const ts_eval *e = p->eval + i;
    TRY(ts_stopped(d->ctx));
    ts_attn_begin(p->attn, p->event.step, d->first_layer + l, e->slot + e->sample * d->slots);
    TRY(d->cls->block(d->self, l, *e, p->attn, h));
done:
    return st;
}

ts_status ts_dit_probe_layer(const ts_dit_pass *p, int layer, int sample)
{
    ts_status st;
    ts_ctx *ctx = p->dit->ctx;
    size_t mark = ts_mark(&ctx->arena);
    ts_tensor h = stream_of(p, sample), copy = ts_take(&ctx->arena, TS_F32, 2, h.dim);
    TRY(ts_cast(ctx->dev, h, copy));
    TRY(run_block(p, layer, sample, copy));
done:
    ts_release(&ctx->arena, mark);
    return st;
}

static ts_status run_layer(ts_dit_pass *p, int l)
{
    ts_status st;
    const ts_dit *d = p->dit;
    TRY(ts_weights_enter(d->weights, l));
    p->event.layer = l + 1;
    p->event.layers = d->info.layers;
    p->event.seconds = p->before + ts_seconds() - p->began;
    ts_progress(d->ctx, p->event);
    TRY(call_layer_before(p, l));
    for (int i = 0; i < p->n; i++) {
        ts_tensor h = stream_of(p, i);
        TRY(run_block(p, l, i, h));
        TRY(call_sample_after(p, l, i, tokens_of(d, h)));
    }
done:
    return st;
}

static ts_status leave_samples(const ts_dit_pass *p)
{
    ts_status st;
    const ts_dit *d = p->dit;
    ts_arena *arena = &d->ctx->arena;
    size_t mark = ts_mark(arena);
    TRY(ts_weights_enter(d->weights, d->info.layers));
    for (int i = 0; i < p->n; i++) {
        ts_tensor h = tokens_of(d, stream_of(p, i)), raster = h; /* [N, dim] */
        ts_eval e = p->eval[i];
        if (ts_there(e.sel_raster)) e.sel = e.sel_raster;
        if (ts_there(d->grid.back)) {
            raster = ts_take(arena, TS_F32, 2, h.dim);
            TRY(reorder_rows(d, h, d->grid.back, raster));
        }
        TRY(d->cls->leave(d->self, e, raster, p->v[i]));
        ts_release(arena, mark);
        TRY(call_sample_after(p, d->info.layers, i, p->v[i]));
    }
done:
    ts_release(arena, mark);
    return st;
}

ts_status ts_dit_step(ts_dit *d, ts_attn *attn, ts_event event, int n, const ts_eval *eval,
                      const ts_tensor *x, const ts_tensor *v)
{
    ts_status st;
    ts_arena *arena = &d->ctx->arena;
    size_t mark = ts_mark(arena);
    ts_dit_pass p = {.dit = d,
                     .attn = attn,
                     .event = event,
                     .n = n,
                     .eval = eval,
                     .x = x,
                     .v = v,
                     .began = ts_seconds(),
                     .before = event.seconds};
    TRY(check_arguments(&p));
    p.h = ts_take(arena, TS_F32, TS_DIM(rows_before(&p, n), d->info.dim));
    TRY(enter_samples(&p));
    TRY(call_step_before(&p));
    for (int l = 0; l < d->info.layers; l++) TRY(run_layer(&p, l));
    TRY(leave_samples(&p));
    TRY(call_step_after(&p));
    TRY(ts_attn_step_end(attn));
done:
    ts_release(arena, mark);
    return st;
}
