#include "tests/codecs/vae_run.h"

#include "tests/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void vae_run_open(ts_ctx *c, vae_run *r, cJSON *config, const char *dir, const char *component)
{
    ck_assert_ptr_nonnull(config);
    r->config = calloc(1, r->cls->config_size);
    ck_ok(c, r->cls->describe(c, config, "config.json", &r->info, r->config));
    ck_ok(c, ts_weights_open(c, dir, component, NULL, &r->w));
    cJSON_Delete(config);
}

void vae_run_close(vae_run *r)
{
    ts_weights_close(r->w);
    free(r->config);
}

void vae_run_open_fixture(ts_ctx *c, vae_run *r, const char *dir, const ts_bag *expected)
{
    char path[1100];
    cJSON *config = NULL;
    snprintf(path, sizeof path, "%s/config.json", dir);
    ck_ok(c, ts_json_load(&c->err, path, &config));
    vae_run_open(c, r, config, dir, "diffusion_pytorch_model");
    ck_assert_str_eq(testing_warned(c), "");
    ck_ok(c, ts_bag_get(&c->err, expected, "latents", TS_F32, 4,
                        (long[]){r->info.channels, -1, -1, -1}, &r->in));
}

/* ---- a device that records ---- */
static const ts_ops *recorded;
static ts_ops recording;
static long downloads;

static ts_status record_download(ts_device *d, void *host, ts_ptr p, size_t bytes)
{
    downloads += !d->counting;
    return recorded->download(d, host, p, bytes);
}

void vae_run_record(ts_ctx *c)
{
    recorded = c->dev->ops;
    recording = *recorded;
    recording.download = record_download;
    c->dev->ops = &recording;
}

/* ---- phases ---- */
/* Host [C, n] to device [n, C], or back. */
static ts_status turn_planes(ts_ctx *c, ts_tensor t, float *planes, bool up)
{
    ts_status st = TS_OK;
    long C = t.dim[t.nd - 1], n = ts_rows(t);
    size_t mark = ts_mark(&c->arena), bytes = (size_t)(C * n) * sizeof *planes;
    ts_tensor p = ts_take(&c->arena, TS_F32, TS_DIM(C, n));
    ts_copy turn = {.nd = 2, .dim = {C, n}, .ss = {n, 1}, .ds = {1, C}};
    if (up) TRY(c->dev->ops->upload(c->dev, p.p, planes, bytes));
    turn.src = p.p;
    turn.dst = t.p;
    if (!up)
        turn = (ts_copy){
            .src = t.p, .dst = p.p, .nd = 2, .dim = {C, n}, .ss = {1, C}, .ds = {n, 1}};
    TRY(ts_copy_op(c->dev, turn));
    if (!up) TRY(c->dev->ops->download(c->dev, planes, p.p, bytes));
done:
    ts_release(&c->arena, mark);
    return st;
}

ts_status vae_run_decode(ts_ctx *c, void *user)
{
    vae_run *r = user;
    ts_status st = TS_OK;
    const long *d = r->in.dim;
    ts_tensor z = ts_take(&c->arena, TS_F32, TS_DIM(d[1], d[2], d[3], d[0]));
    ts_vae *v = NULL;
    bool end = false;
    r->frames = 0;
    TRY(turn_planes(c, z, (float *)(uintptr_t)r->in.data, true));
    TRY(r->cls->open(c, r->w, &r->info, z, r->tile, &v));
    r->held = c->arena.used;
    downloads = 0;
    for (;;) {
        ts_frame f;
        TRY(r->cls->next(v, &f, &end));
        if (end) break;
        ck_assert_int_eq(f.index, r->frames);
        ck_assert(f.w == r->in.dim[3] * r->info.stride && f.h == r->in.dim[2] * r->info.stride);
        /* what `out` has room for */
        ck_assert_int_lt(r->frames, (r->in.dim[1] - 1) * r->info.time_stride + 1);
        r->pixels = (long)f.w * f.h;
        if (r->out)
            memcpy(r->out + r->frames * r->pixels * 3, f.rgb,
                   (size_t)r->pixels * 3 * sizeof(float));
        r->frames++;
    }
    ck_assert_int_eq(r->frames, (r->in.dim[1] - 1) * r->info.time_stride + 1);
done:
    r->downloads = downloads;
    r->cls->close(v);
    return st;
}

ts_status vae_run_encode(ts_ctx *c, void *user)
{
    vae_run *r = user;
    ts_status st = TS_OK;
    const long *d = r->in.dim;
    long F = (d[0] - 1) / r->info.time_stride + 1, s = r->info.stride, C = r->info.channels;
    size_t mark = ts_mark(&c->arena);
    ts_tensor latent = ts_take(&c->arena, TS_F32, TS_DIM(F, d[1] / s, d[2] / s, C)),
              moments = ts_take(&c->arena, TS_F32, TS_DIM(F, d[1] / s, d[2] / s, 2 * C));
    TRY(r->cls->encode(c, r->w, &r->info, r->in, r->tile, latent, moments));
    TRY(turn_planes(c, latent, r->latent, false));
    TRY(turn_planes(c, moments, r->out, false));
done:
    ts_release(&c->arena, mark);
    return st;
}

float *vae_run_planes(const vae_run *r)
{
    float *planes = malloc((size_t)(3 * r->frames * r->pixels) * sizeof *planes);
    for (long f = 0; f < r->frames; f++)
        for (long i = 0; i < r->pixels; i++)
            for (long k = 0; k < 3; k++)
                planes[(k * r->frames + f) * r->pixels + i] =
                    2 * r->out[(f * r->pixels + i) * 3 + k] - 1;
    return planes;
}
