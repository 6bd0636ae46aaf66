/* Open-Sora-Plan beyond its fixture (test_pipeline.c): clips of any length,
 * tiles, configs of models that are others. */
#include "sampler/run.h"
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static ts_model *open_fixture(ts_ctx *c, ts_request *q)
{
    char path[4096];
    ts_model *m;
    snprintf(path, sizeof path, "%s/model", testing_fixture("open-sora-plan-v1.2"));
    ck_ok(c, ts_model_open(c, path, &m));
    ts_request_init(m, q);
    q->prompt = "a lantern";
    q->width = 64;
    q->height = 48;
    q->steps = 2;
    return m;
}

/* As many latents as the frames need; the model's own length and size are its config's. */
START_TEST(lengths)
{
    static const struct {
        int frames, latents;
    } of[] = {{1, 1}, {2, 2}, {5, 2}, {11, 4}, {12, 4}, {13, 4}, {29, 8}, {93, 24}};
    ts_ctx *c = testing_open("cpu", NULL, 1);
    ts_request q;
    ts_run *r;
    ts_model *m = open_fixture(c, &q);
    ck_assert(m->def.frames == 29 && m->def.width == 1280 && m->def.height == 720);
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        q.frames = of[i].frames;
        ck_ok(c, ts_run_open(m, &q, &r, NULL));
        ck_assert_int_eq(ts_run_frames(r), of[i].frames);
        ck_assert_int_eq(r->latent[1], of[i].latents);
        ts_run_close(r);
    }
    ts_model_close(m);
    testing_close(c);
}
END_TEST

typedef struct {
    ts_sink s;
    int frames;
    float *rgb;
} keeping;
static ts_status keep_open(ts_sink *s, int w, int h, int frames, double fps, const char *json)
{
    keeping *k = (keeping *)s;
    ck_assert(fps > 0 && json);
    k->rgb = malloc((size_t)w * (size_t)h * 3 * (size_t)frames * sizeof *k->rgb);
    return TS_OK;
}
static ts_status keep_frame(ts_sink *s, const ts_frame *f)
{
    keeping *k = (keeping *)s;
    long n = 3L * f->w * f->h;
    memcpy(k->rgb + n * k->frames++, f->rgb, (size_t)n * sizeof *k->rgb);
    return TS_OK;
}
static ts_status keep_close(ts_sink *s)
{
    (void)s;
    return TS_OK;
}
static void keep_abort(ts_sink *s) { (void)s; }

/* Latents give the clip again, of the length that is asked for where they can, else of their own;
 * in tiles its first pixels, which no seam reaches, are near those of the whole: statistics of
 * norms are of a tile. */
START_TEST(saved_latents)
{
    ts_ctx *c = testing_open("far", NULL, 1);
    ts_request q;
    ts_run *r;
    ts_bag *z;
    ts_model *m = open_fixture(c, &q);
    keeping k[3] = {{.s = {.open = keep_open, .frame = keep_frame, .close = keep_close}}};
    k[0].s.abort = keep_abort;
    k[1] = k[2] = k[0];
    q.frames = 11;
    ck_ok(c, ts_run_open(m, &q, &r, NULL));
    ck_ok(c, ts_run_encode(r));
    ck_ok(c, ts_run_denoise(r, &z));
    ck_ok(c, ts_run_decode(r, NULL, &k[0].s));
    ts_run_close(r);
    ts_run_options o = {.size = sizeof o, .latents = z};
    for (int i = 1; i < 3; i++) {
        q.frames = i == 1 ? 11 : 3;
        q.vae_tile = i == 1 ? "off" : "32x32";
        ck_ok(c, ts_run_open_with(m, &q, &o, &r, NULL));
        ck_ok(c, ts_run_decode(r, z, &k[i].s));
        ts_run_close(r);
    }
    ck_assert_int_eq(k[0].frames, 11);
    ck_assert_int_eq(k[1].frames, 11);
    ck_assert_int_eq(k[2].frames, 13);
    ck_assert(!memcmp(k[0].rgb, k[1].rgb, 11UL * 64 * 48 * 3 * sizeof(float)));
    double off = 0;
    for (long i = 0; i < 11L * 64 * 48 * 3; i++) off += fabs((double)k[0].rgb[i] - k[2].rgb[i]);
    ck_assert_msg(off / (11L * 64 * 48 * 3) < 0.25, "tiles differ by %g", off);
    for (int i = 0; i < 3; i++) free(k[i].rgb);
    ts_bag_free(z);
    ts_model_close(m);
    testing_close(c);
}
END_TEST

START_TEST(configs)
{
    static const struct {
        const char *json, *says;
    } bad[] = {{"{\"use_rope\": false}", "use_rope"},
               {"{\"attention_head_dim\": 64}", "is 64, expected a multiple of 6"},
               {"{\"patch_size_t\": 2}", "patch_size_t"},
               {"{\"cross_attention_dim\": 7}", "\"cross_attention_dim\" is 7, but"},
               {"{\"interpolation_scale_h\": 0}", "\"interpolation_scale_h\" is 0"}},
      vae[] = {{"{\"decoder_attention\": \"AttnBlock3D\"}", "AttnBlock3D"},
               {"{\"decoder_resnet_blocks\": [\"ResnetBlock2D\"]}", "4 times \"ResnetBlock3D\""},
               {"{\"decoder_temporal_upsample\": [\"\", \"\", \"\", \"TimeUpsampleRes2x\"]}",
                "4 times \"\""},
               {"{\"decoder_spatial_upsample\": [\"\", \"SpatialUpsample2x\"]}", "has 2 names"},
               {"{\"decoder_spatial_upsample\": [\"Upsample\"]}", "is no list of"},
               {"{\"norm_num_groups\": 3}", "must be a multiple of norm_num_groups, 3"},
               {"{\"embed_dim\": 8}", "embed_dim"}};
    ts_ctx *c = testing_open("cpu", NULL, 1);
    ts_dit_info info;
    ts_vae_info v;
    void *own = calloc(1, ts_vae_causal.config_size);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cJSON *j = cJSON_Parse(bad[i].json);
        ck_assert_int_eq(ts_dit_read(c, &ts_dit_opensora, j, "c.json", &info), TS_EMODEL);
        ck_assert_msg(strstr(c->err.text, bad[i].says) && strstr(c->err.text, "c.json"), "%s",
                      c->err.text);
        cJSON_Delete(j);
    }
    for (size_t i = 0; i < sizeof vae / sizeof *vae; i++) {
        cJSON *j = cJSON_Parse(vae[i].json);
        ck_assert_int_eq(ts_vae_causal.describe(c, j, "v.json", &v, own), TS_EMODEL);
        ck_assert_msg(strstr(c->err.text, vae[i].says) && strstr(c->err.text, "v.json"), "%s",
                      c->err.text);
        cJSON_Delete(j);
    }
    free(own);
    testing_close(c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("opensora");
    TCase *tc = tcase_create("opensora");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, lengths);
    tcase_add_test(tc, saved_latents);
    tcase_add_test(tc, configs);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
