/* One evaluation of a diffusion transformer, whatever its class: opens and binds, and runs the only
 * layer loop. All samples of an evaluation pass a layer before the next layer's weights are
 * entered. What a layer computes is the business of the class (wan.c, pixart.c). */
#include "dit/dit.h"

#include "attention/tile_search.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ts_dit {
    ts_ctx *ctx;
    const ts_dit_class *cls;
    ts_dit_info info;
    ts_weights *weights;
    ts_grid grid;
    int first_layer, texts, rows; /* texts and timesteps prepared */
    char *dir;
    void *self;
};

typedef struct { /* a step in progress */
    ts_attn *attn;
    ts_event event;
    int n;
    const ts_eval *eval;
    const ts_tensor *x, *v;
    ts_tensor h;          /* [n N, dim] */
    double began, before; /* clock; seconds of the phase by then */
} evaluation;

ts_status ts_dit_open(ts_ctx *ctx, const ts_dit_class *cls, const cJSON *config,
                      const char *config_path, const char *dir, int first_layer, ts_dit **out)
{
    ts_status st;
    ts_dit *d = calloc(1, sizeof *d);
    *out = NULL;
    if (!d || !(d->self = calloc(1, cls->size)) || !(d->dir = strdup(dir))) {
        st = ts_fail(&ctx->err, TS_EMEMORY, "%s: out of memory", dir);
        goto done;
    }
    d->ctx = ctx;
    d->cls = cls;
    d->first_layer = first_layer;
    TRY(cls->describe(ctx, config, config_path, &d->info));
    TRY(ts_weights_open(ctx, dir, "diffusion_pytorch_model", &d->weights));
    TRY(cls->bind(d->self, ctx, &d->info, d->weights));
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
    free(d->dir);
    free(d);
}

const ts_dit_info *ts_dit_describe(const ts_dit *d) { return &d->info; }

ts_weights *ts_dit_weights(ts_dit *d) { return d->weights; }

void ts_dit_pixels(ts_dit *d, int height, int width)
{
    if (d->cls->pixels) d->cls->pixels(d->self, height, width);
}

static ts_status check_texts(ts_dit *d, const ts_dit_text *text, int texts)
{
    ts_err *err = &d->ctx->err;
    for (int i = 0; i < texts; i++) {
        ts_host s = text[i].states;
        long length = text[i].length      ? text[i].length
                      : d->cls->text_rows ? d->cls->text_rows
                                          : s.dim[0];
        if (s.type != TS_F32 || s.nd != 2 || s.dim[1] != d->info.text_dim)
            return ts_fail(err, TS_ESHAPE,
                           "%s: text states are %s of width %ld, expected F32 of width %d", d->dir,
                           ts_dtype_name(s.type), s.nd == 2 ? s.dim[1] : -1L, d->info.text_dim);
        if (s.dim[0] > length || length < 1)
            return ts_fail(err, TS_ESHAPE, "%s: %ld rows of text states, expected at most %ld",
                           d->dir, s.dim[0], length);
    }
    return TS_OK;
}

ts_status ts_dit_prepare(ts_dit *d, const ts_grid *grid, const ts_dit_text *text, int texts,
                         const float *t, int nt)
{
    ts_status st;
    int tag;
    if (texts < 1 || nt < 1)
        return ts_fail(&d->ctx->err, TS_EUSAGE,
                       "%s: %d texts and %d timesteps, expected at least one of each", d->dir,
                       texts, nt);
    TRY(check_texts(d, text, texts));
    TRY(d->ctx->dev->ops->checked(d->ctx->dev, &tag)); /* what a run that was stopped has left */
    d->grid = *grid;
    d->texts = texts;
    d->rows = nt;
    TRY(d->cls->prepare(d->self, grid, text, texts, t, nt));
done:
    return st;
}

static ts_status check_step(ts_dit *d, const evaluation *e)
{
    ts_err *err = &d->ctx->err;
    const int *p = d->info.patch;
    ts_grid g = d->grid;
    for (int i = 0; i < e->n; i++) {
        const ts_eval *v = e->eval + i;
        ts_tensor x = e->x[i], y = e->v[i];
        long want[4] = {d->info.in_channels, (long)g.F * p[0], (long)g.H * p[1], (long)g.W * p[2]};
        if (v->trow < 0 || v->trow >= d->rows || v->trow_sel < 0 || v->trow_sel >= d->rows ||
            v->slot < 0 || v->slot >= d->texts)
            return ts_fail(err, TS_EUSAGE,
                           "%s: timestep %d and text %d, expected less than %d and %d", d->dir,
                           v->trow, v->slot, d->rows, d->texts);
        if (ts_there(v->sel) && (v->sel.type != TS_U8 || v->sel.nd != 1 || v->sel.dim[0] != g.N))
            return ts_fail(err, TS_ESHAPE,
                           "%s: the choice of timesteps has %ld tokens, expected %d as U8", d->dir,
                           v->sel.dim[0], g.N);
        if (x.nd != 4 || x.type != TS_F32 || memcmp(x.dim, want, sizeof want))
            return ts_fail(err, TS_ESHAPE,
                           "%s: latents are [%ld, %ld, %ld, %ld], expected [%ld, %ld, %ld, %ld]",
                           d->dir, x.dim[0], x.dim[1], x.dim[2], x.dim[3], want[0], want[1],
                           want[2], want[3]);
        want[0] = d->info.out_channels;
        if (y.nd != 4 || y.type != TS_F32 || memcmp(y.dim, want, sizeof want))
            return ts_fail(
                err, TS_ESHAPE,
                "%s: the velocity is [%ld, %ld, %ld, %ld], expected [%ld, %ld, %ld, %ld]", d->dir,
                y.dim[0], y.dim[1], y.dim[2], y.dim[3], want[0], want[1], want[2], want[3]);
    }
    return TS_OK;
}

static ts_status tap(ts_dit *d, const evaluation *e, ts_tensor t, const char *format, int layer)
{
    char name[32];
    ts_ctx *ctx = d->ctx;
    if (!ctx->tap || ctx->dev->counting || e->event.step > 1) return TS_OK;
    snprintf(name, sizeof name, format, layer);
    return ctx->tap(ctx->tap_user, name, t);
}

static ts_tensor sample(const ts_dit *d, const evaluation *e, int i)
{
    return ts_row_range(e->h, (long)i * d->grid.N, d->grid.N);
}

/* Rows of x in the order of ids: into the order of attention, and back to the model's own. */
static ts_status reorder(ts_dit *d, ts_tensor x, ts_tensor ids, ts_tensor y)
{
    return ts_gather_op(d->ctx->dev, (ts_gather){x, ids, y});
}

/* Tags of the NaN check: layer + 1, and two beyond the last layer's. */
static int tag_enter(const ts_dit *d) { return d->info.layers + 1; }
static int tag_leave(const ts_dit *d) { return d->info.layers + 2; }

static ts_status enter(ts_dit *d, const evaluation *e)
{
    ts_status st;
    ts_device *dev = d->ctx->dev;
    bool ordered = ts_there(d->grid.perm);
    size_t mark = ts_mark(&d->ctx->arena);
    TRY(ts_weights_enter(d->weights, d->info.layers));
    for (int i = 0; i < e->n; i++) {
        ts_tensor h = sample(d, e, i),
                  raster = ordered ? ts_take(&d->ctx->arena, TS_F32, TS_DIM(d->grid.N, d->info.dim))
                                   : h;
        TRY(d->cls->enter(d->self, e->eval[i], e->x[i], raster));
        if (ordered) TRY(reorder(d, raster, d->grid.perm, h));
        ts_release(&d->ctx->arena, mark);
        TRY(dev->ops->check(dev, h, tag_enter(d)));
        TRY(tap(d, e, d->cls->embedding(d->self, e->eval[i]), "condition_embedder", 0));
        TRY(tap(d, e, h, "patch_embedding", 0));
    }
done:
    return st;
}

/* Samples pass a layer for the sake of its attention alone: what they become is thrown away. */
static ts_status try_out(ts_dit *d, const evaluation *e, int l)
{
    ts_status st = TS_OK;
    size_t mark = ts_mark(&d->ctx->arena);
    ts_attn_try(e->attn, d->first_layer + l);
    for (int i = 0; i < e->n; i++) {
        ts_tensor h = ts_take(&d->ctx->arena, TS_F32, TS_DIM(d->grid.N, d->info.dim));
        TRY(ts_stopped(d->ctx));
        TRY(ts_cast(d->ctx->dev, sample(d, e, i), h));
        ts_attn_begin(e->attn, e->event.step, e->eval[i].slot);
        TRY(d->cls->block(d->self, l, e->eval[i], e->attn, d->first_layer + l, h));
        ts_release(&d->ctx->arena, mark);
    }
    ts_attn_choose(e->attn, d->first_layer + l);
done:
    ts_release(&d->ctx->arena, mark);
    return st;
}

static ts_status layer(ts_dit *d, evaluation *e, int l)
{
    ts_status st;
    ts_ctx *ctx = d->ctx;
    ts_device *dev = ctx->dev;
    TRY(ts_weights_enter(d->weights, l));
    e->event.layer = l + 1;
    e->event.layers = d->info.layers;
    e->event.seconds = e->before + ts_seconds() - e->began;
    ts_progress(ctx, e->event);
    if (ts_attn_tries(e->attn)) TRY(try_out(d, e, l));
    for (int i = 0; i < e->n; i++) {
        ts_tensor h = sample(d, e, i);
        TRY(ts_stopped(ctx));
        ts_attn_begin(e->attn, e->event.step, e->eval[i].slot + e->eval[i].sample * d->texts);
        TRY(d->cls->block(d->self, l, e->eval[i], e->attn, d->first_layer + l, h));
        TRY(dev->ops->check(dev, h, l + 1));
        TRY(tap(d, e, h, "blocks.%d", l));
    }
done:
    return st;
}

static ts_status leave(ts_dit *d, const evaluation *e)
{
    ts_status st;
    ts_device *dev = d->ctx->dev;
    bool ordered = ts_there(d->grid.back);
    size_t mark = ts_mark(&d->ctx->arena);
    TRY(ts_weights_enter(d->weights, d->info.layers));
    for (int i = 0; i < e->n; i++) {
        ts_tensor h = sample(d, e, i),
                  raster = ordered ? ts_take(&d->ctx->arena, TS_F32, TS_DIM(d->grid.N, d->info.dim))
                                   : h;
        if (ordered) TRY(reorder(d, h, d->grid.back, raster));
        TRY(d->cls->leave(d->self, e->eval[i], raster, e->v[i]));
        ts_release(&d->ctx->arena, mark);
        TRY(dev->ops->check(dev, e->v[i], tag_leave(d)));
    }
done:
    return st;
}

static ts_status verdict(ts_dit *d, const evaluation *e)
{
    int tag;
    ts_err *err = &d->ctx->err;
    ts_status st = d->ctx->dev->ops->checked(d->ctx->dev, &tag);
    if (st != TS_OK || tag == 0) return st;
    if (tag == tag_enter(d))
        return ts_fail(
            err, TS_ENUMBER,
            "%s: NaN or infinity in step %d at the patch embedding, before layer 1 of %d", d->dir,
            e->event.step, d->info.layers);
    if (tag == tag_leave(d))
        return ts_fail(err, TS_ENUMBER,
                       "%s: NaN or infinity in step %d at the output, after layer %d of %d", d->dir,
                       e->event.step, d->info.layers, d->info.layers);
    return ts_fail(err, TS_ENUMBER, "%s: NaN or infinity in step %d at layer %d of %d", d->dir,
                   e->event.step, tag, d->info.layers);
}

ts_status ts_dit_step(ts_dit *d, ts_attn *attn, ts_event event, int n, const ts_eval *eval,
                      const ts_tensor *x, const ts_tensor *v)
{
    ts_status st;
    ts_arena *arena = &d->ctx->arena;
    size_t mark = ts_mark(arena);
    evaluation e = {.attn = attn,
                    .event = event,
                    .n = n,
                    .eval = eval,
                    .x = x,
                    .v = v,
                    .began = ts_seconds(),
                    .before = event.seconds};
    TRY(check_step(d, &e));
    e.h = ts_take(arena, TS_F32, TS_DIM((long)n * d->grid.N, d->info.dim));
    TRY(enter(d, &e));
    for (int l = 0; l < d->info.layers; l++) TRY(layer(d, &e, l));
    TRY(leave(d, &e));
    TRY(verdict(d, &e));
    TRY(ts_attn_step_end(attn));
done:
    ts_release(arena, mark);
    return st;
}
