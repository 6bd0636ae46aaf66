#include "tests/codecs/vae_run.h"

#include "tests/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void vae_run_open(ts_ctx *c, vae_run *r, cJSON *config, const char *dir, const char *component)
{
    ck_assert_ptr_nonnull(config);
    ck_ok(c, r->cls->describe(c, config, "config.json", &r->info));
    ck_ok(c, ts_weights_open(c, dir, component, &r->w));
    cJSON_Delete(config);
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

ts_status vae_run_decode(ts_ctx *c, void *user)
{
    vae_run *r = user;
    ts_status st = TS_OK;
    ts_vae *v = NULL;
    bool end = false;
    r->frames = 0;
    TRY(r->cls->open(c, r->w, &r->info, r->in, r->tile, &v));
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
    r->cls->close(v);
    return st;
}

ts_status vae_run_encode(ts_ctx *c, void *user)
{
    vae_run *r = user;
    return r->cls->encode(c, r->w, &r->info, r->in, r->tile, r->latent, r->out);
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
