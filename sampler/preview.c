/* Fitting the map, and using it. Weights and arena of the VAE are beside those of the transformer
 * for a moment, which ts_run_room leaves room for. */
#include "sampler/preview.h"

#include "sampler/latents.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* PIECE: latents of a piece on each side; RING: those next to what is cut away see an edge that is
 * none, and are left out; BLOCK: pixels to a side of one pixel of the preview */
enum { PIECE = 12, RING = 1, BLOCK = 4 };
#define RIDGE 1e-3 /* times the rows of A: variances of normalised latents are about 1 */
#define OLDER 0.25 /* what earlier pieces weigh: what was foretold then was blurred */

typedef struct {
    ts_run *r;
    long latent[4]; /* C 1 H W */
    long y, x;      /* of its first latent */
    float *z;       /* host [H, W, C] */
} piece;

static piece new_piece(ts_run *r)
{
    const long *l = r->latent;
    return (piece){.r = r,
                   .latent = {l[0], 1, l[2] < PIECE ? l[2] : PIECE, l[3] < PIECE ? l[3] : PIECE}};
}

static void add_latent(const piece *c, const ts_frame *frame, long y, long x)
{
    ts_preview *p = c->r->m->preview;
    int n = p->channels + 1, side = p->side, stride = c->r->m->vae_info.stride;
    double *a = p->work, *b = p->work + n, pixels = (double)stride * stride / (side * side);
    for (int i = 0; i < n - 1; i++) a[i] = c->z[(y * c->latent[3] + x) * (n - 1) + i];
    a[n - 1] = 1;
    memset(b, 0, (size_t)p->columns * sizeof *b);
    for (int j = 0; j < stride; j++)
        for (int i = 0; i < stride; i++)
            for (int k = 0; k < 3; k++)
                b[(j * side / stride * side + i * side / stride) * 3 + k] +=
                    frame->rgb[3 * ((y * stride + j) * frame->w + x * stride + i) + k] / pixels;
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < n; k++) p->ata[i * n + k] += a[i] * a[k];
        for (int k = 0; k < p->columns; k++) p->atb[i * p->columns + k] += a[i] * b[k];
    }
    p->rows++;
}

static bool sees_cut(long at, long n, long first, long all)
{
    return (first > 0 && at < RING) || (first + n < all && at >= n - RING);
}

static void add_piece(const piece *c, const ts_frame *frame)
{
    const long *all = c->r->latent;
    for (long y = 0; y < c->latent[2]; y++)
        for (long x = 0; x < c->latent[3]; x++)
            if (!sees_cut(y, c->latent[2], c->y, all[2]) &&
                !sees_cut(x, c->latent[3], c->x, all[3]))
                add_latent(c, frame, y, x);
}

static ts_status decode_piece(ts_ctx *ctx, void *user)
{
    ts_status st = TS_OK;
    piece *c = user;
    ts_model *m = c->r->m;
    ts_device *dev = ctx->dev;
    const ts_vae_class *cls = m->family->vae;
    ts_vae *vae = NULL;
    bool end = false;
    size_t mark = ts_mark(&ctx->arena);
    ts_tensor z = ts_latents_take(&ctx->arena, c->latent, c->latent[0]);
    if (!dev->counting)
        TRY(dev->ops->upload(dev, z.p, c->z, ts_latents_count(c->latent) * sizeof(float)));
    TRY(cls->open(ctx, m->vae_weights, &m->vae_info, z, (ts_vae_tile){0, 0}, &vae));
    for (int n = 0;; n++) {
        ts_frame frame;
        TRY(ts_stopped(ctx));
        TRY(cls->next(vae, &frame, &end));
        if (end) break;
        if (!dev->counting && !n) add_piece(c, &frame);
    }
done:
    if (vae) cls->close(vae);
    ts_release(&ctx->arena, mark);
    return st;
}

static void keep_layouts(void *user, const ts_weight *w, ts_form form)
{
    (void)user;
    (void)w;
    (void)form;
}

/* Counts, or where c->z is there decodes. Nothing of it is seen, the arena of the phase that it is
 * in the middle of stays, and layouts of weights are as the run has chosen them. */
static ts_status take_piece(piece *c, size_t *bytes)
{
    ts_status st;
    ts_ctx *ctx = c->r->ctx;
    ts_env env = ctx->env;
    ts_arena arena = ctx->arena;
    void (*wish)(void *, const ts_weight *, ts_form) = ctx->dev->wish;
    ctx->env.progress = NULL;
    ctx->dev->wish = keep_layouts;
    ctx->arena = (ts_arena){0};
    if (c->z) {
        TRY(ts_arena_open(&ctx->arena, ctx->dev, *bytes));
        TRY(decode_piece(ctx, c));
    } else {
        TRY(ts_count_phase(ctx, decode_piece, c, bytes));
    }
done:
    ts_arena_close(&ctx->arena);
    if (c->z) ts_weights_leave(c->r->m->vae_weights);
    ctx->arena = arena;
    ctx->dev->wish = wish;
    ctx->env = env;
    return st;
}

void ts_preview_free(ts_preview *p)
{
    if (!p) return;
    free(p->ata);
    free(p->map);
    free(p);
}

ts_status ts_preview_open(ts_run *r, size_t *bytes)
{
    ts_status st = TS_OK;
    ts_model *m = r->m;
    piece c = new_piece(r);
    ts_preview *p = m->preview ? NULL : calloc(1, sizeof *p);
    *bytes = 0;
    if (!m->preview) {
        if (!p) TRY(ts_fail(&m->ctx->err, TS_EMEMORY, "no memory for a preview"));
        p->channels = m->vae_info.channels;
        p->side = m->vae_info.stride > BLOCK ? m->vae_info.stride / BLOCK : 1;
        p->columns = p->side * p->side * 3;
        size_t n = (size_t)p->channels + 1, k = (size_t)p->columns;
        p->ata = calloc(2 * n * (n + k) + n + k, sizeof *p->ata);
        p->map = calloc(n * k, sizeof *p->map);
        if (!p->ata || !p->map) TRY(ts_fail(&m->ctx->err, TS_EMEMORY, "no memory for a preview"));
        p->atb = p->ata + n * n;
        p->work = p->atb + n * k;
        m->preview = p;
        p = NULL;
    }
    TRY(take_piece(&c, bytes));
    *bytes += ts_weights_packed(m->vae_weights, NULL);
done:
    ts_preview_free(p);
    return st;
}

/* b <- a^-1 b by Cholesky's factor, in place; a [n, n] is positive definite by its diagonal. */
static void solve_map(double *a, double *b, int n, int columns)
{
    for (int j = 0; j < n; j++)
        for (int i = j; i < n; i++) {
            double s = a[i * n + j];
            for (int k = 0; k < j; k++) s -= a[i * n + k] * a[j * n + k];
            a[i * n + j] = i == j ? sqrt(s) : s / a[j * n + j];
        }
    for (int c = 0; c < columns; c++) {
        for (int i = 0; i < n; i++) {
            for (int k = 0; k < i; k++) b[i * columns + c] -= a[i * n + k] * b[k * columns + c];
            b[i * columns + c] /= a[i * n + i];
        }
        for (int i = n - 1; i >= 0; i--) {
            for (int k = i + 1; k < n; k++) b[i * columns + c] -= a[k * n + i] * b[k * columns + c];
            b[i * columns + c] /= a[i * n + i];
        }
    }
}

/* The first piece is the middle, later ones lie elsewhere. */
static void place_piece(piece *c, long shown)
{
    const long *all = c->r->latent;
    long rows = all[2] - c->latent[2] + 1, columns = all[3] - c->latent[3] + 1;
    c->y = (rows / 2 + (shown - 1) * 7) % rows;
    c->x = (columns / 2 + (shown - 1) * 5) % columns;
}

ts_status ts_preview_fit(ts_run *r, const float *z)
{
    ts_status st = TS_OK;
    ts_preview *p = r->m->preview;
    int n = p->channels + 1;
    piece c = new_piece(r);
    size_t bytes, row = (size_t)c.latent[3] * (size_t)c.latent[0], all = (size_t)n * (size_t)n;
    p->shown++;
    if (p->shown & (p->shown - 1)) return TS_OK;
    place_piece(&c, p->shown);
    TRY(take_piece(&c, &bytes));
    c.z = malloc(ts_latents_count(c.latent) * sizeof *c.z);
    if (!c.z) TRY(ts_fail(&r->ctx->err, TS_EMEMORY, "no memory for a preview"));
    for (size_t i = 0; i < all + (size_t)(n * p->columns); i++) p->ata[i] *= OLDER;
    p->rows *= OLDER;
    for (long y = 0; y < c.latent[2]; y++)
        memcpy(c.z + (size_t)y * row, z + ((c.y + y) * r->latent[3] + c.x) * c.latent[0],
               row * sizeof *c.z);
    TRY(take_piece(&c, &bytes));
    memcpy(p->work, p->ata, (all + (size_t)(n * p->columns)) * sizeof *p->work);
    for (int i = 0; i < n; i++) p->work[i * n + i] += RIDGE * p->rows;
    solve_map(p->work, p->work + all, n, p->columns);
    for (int i = 0; i < n * p->columns; i++) p->map[i] = (float)p->work[all + (size_t)i];
done:
    if (st) p->shown--;
    free(c.z);
    return st;
}

void ts_preview_frame(const ts_preview *p, const float *z, long H, long W, float *rgb)
{
    int C = p->channels, side = p->side;
    for (long y = 0; y < H; y++)
        for (long x = 0; x < W; x++)
            for (int i = 0; i < p->columns; i++) {
                const float *latent = z + (y * W + x) * C, *map = p->map + i;
                long to = ((y * side + i / (3 * side)) * W + x) * side + i / 3 % side;
                float v = map[C * p->columns];
                for (int c = 0; c < C; c++) v += latent[c] * map[c * p->columns];
                rgb[3 * to + i % 3] = v > 1 ? 1 : v > 0 ? v : 0; /* NaN: 0 */
            }
}
