/* CogVideoX beyond its fixtures (test_pipeline.c): lengths and sizes that it can draw, latents that
 * fill a patch and are left out of the clip, sparse attention with text behind the video, configs
 * of models that are others. */
#include "sampler/run.h"
#include "tests/testing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char warned[1024];
static void keep_warning(void *user, const char *text)
{
    (void)user;
    snprintf(warned + strlen(warned), sizeof warned - strlen(warned), "%s\n", text);
}

static ts_model *open_fixture(ts_ctx *c, const char *fixture, ts_request *q)
{
    char path[4096];
    ts_model *m;
    snprintf(path, sizeof path, "%s/model", testing_fixture(fixture));
    ck_ok(c, ts_model_open(c, path, &m));
    ts_request_init(m, q);
    q->prompt = "a panda";
    q->width = q->height = 64;
    q->frames = 9;
    q->steps = 2;
    return m;
}

/* Latents come in twos and one, whatever is asked for; those that fill a patch are more. */
START_TEST(lengths)
{
    static const struct {
        const char *fixture;
        int asked, frames, latents, padding;
        const char *warning;
    } of[] = {{"cogvideox-2b", 1, 1, 1, 0, ""},
              {"cogvideox-2b", 9, 9, 3, 0, ""},
              {"cogvideox-2b", 13, 9, 3, 0, "13 frames become 9: the model draws a multiple of 8"},
              {"cogvideox15-5b", 17, 17, 6, 1, ""},
              {"cogvideox15-5b", 1, 1, 2, 1, ""},
              {"cogvideox15-5b", 21, 17, 6, 1, "21 frames become 17"}};
    ts_ctx *c = testing_open("cpu", NULL, 1);
    ts_request q;
    ts_run *r;
    c->env.warn = keep_warning;
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        ts_model *m = open_fixture(c, of[i].fixture, &q);
        q.frames = of[i].asked;
        warned[0] = 0;
        ck_ok(c, ts_run_open(m, &q, &r, NULL));
        ck_assert_int_eq(r->q.frames, of[i].frames);
        ck_assert_int_eq(r->latent[1], of[i].latents);
        ck_assert_int_eq(r->padding, of[i].padding);
        ck_assert_msg(strstr(warned, of[i].warning) != NULL, "%s", warned);
        ck_assert(*of[i].warning || !*warned);
        ts_run_close(r);
        ts_model_close(m);
    }
    testing_close(c);
}
END_TEST

/* A text has all of its rows, and defaults go by the depth of patches. */
START_TEST(texts_and_defaults)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    ts_request q;
    ts_run *r;
    ts_estimate e;
    for (int i = 0; i < 2; i++) {
        ts_model *m = open_fixture(c, i ? "cogvideox15-5b" : "cogvideox-2b", &q);
        ck_assert(m->def.width == (i ? 1360 : 720) && m->def.height == (i ? 768 : 480) &&
                  m->def.frames == (i ? 81 : 49) && m->def.fps == (i ? 16 : 8));
        ck_ok(c, ts_run_open(m, &q, &r, &e));
        ck_assert(e.text_tokens == 226 && e.negative_tokens == 226);
        ts_run_close(r);
        ts_model_close(m);
    }
    testing_close(c);
}
END_TEST

/* Guidance of the first steps and the last, by the formula in Python; metadata have it, and models
 * of others none. */
START_TEST(dynamic_guidance)
{
    static const struct {
        int steps, step;
        double guidance;
    } of[] = {{6, 0, 6.645722},  {6, 1, 6.527655},  {6, 2, 1},          {6, 5, 2.533713},
              {50, 0, 2.291487}, {50, 2, 6.974352}, {50, 48, 1.000004}, {50, 49, 1.123398}};
    ts_ctx *c = testing_open("cpu", NULL, 1);
    ts_request q, back;
    ts_run *r;
    ts_model *m = open_fixture(c, "cogvideox-2b", &q);
    q.guidance = q.guidance_2 = 6;
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        q.steps = of[i].steps;
        q.dynamic_guidance = true;
        ck_ok(c, ts_run_open(m, &q, &r, NULL));
        double got = ts_guidance_at(r, of[i].step);
        ck_assert_msg(fabs(got - of[i].guidance) < 1e-6, "step %d of %d: %g", of[i].step,
                      of[i].steps, got);
        char *json = ts_run_json(r);
        ts_request_init(m, &back);
        ck_ok(c, ts_request_from_json(m, json, &back));
        ck_assert(back.dynamic_guidance && back.guidance == 6);
        ts_request_free(&back);
        free(json);
        ts_run_close(r);
    }
    ts_model_close(m);
    m = open_fixture(c, "wan21-t2v", &q);
    q.dynamic_guidance = true;
    ck_assert_int_eq(ts_run_open(m, &q, &r, NULL), TS_EUSAGE);
    ck_assert_msg(strstr(c->err.text, "models of CogVideoX have it"), "%s", c->err.text);
    ts_model_close(m);
    testing_close(c);
}
END_TEST

typedef struct {
    ts_sink s;
    int frames;
    double sum;
} counting;
static ts_status count_open(ts_sink *s, int w, int h, int frames, double fps, const char *json)
{
    (void)s;
    ck_assert(w == 64 && h == 64 && frames == 9 && fps > 0 && json);
    return TS_OK;
}
static ts_status count_frame(ts_sink *s, const ts_frame *f)
{
    counting *k = (counting *)s;
    k->frames++;
    for (long i = 0; i < 3L * f->w * f->h; i++) k->sum += f->rgb[i] * (float)(i % 7 + 1);
    return TS_OK;
}
static ts_status count_close(ts_sink *s)
{
    (void)s;
    return TS_OK;
}
static void count_abort(ts_sink *s) { (void)s; }

/* Latents that were saved give the clip again, their padding included; others are refused. */
START_TEST(saved_latents)
{
    static const char *const fixture[] = {"cogvideox-2b", "cogvideox15-5b"};
    ts_ctx *c = testing_open("far", NULL, 1);
    ts_request q;
    ts_run *r;
    ts_bag *z;
    for (int i = 0; i < 2; i++) {
        ts_model *m = open_fixture(c, fixture[i], &q);
        counting first = {.s = {.open = count_open, .frame = count_frame, .close = count_close}};
        first.s.abort = count_abort;
        counting again = first;
        ck_ok(c, ts_run_open(m, &q, &r, NULL));
        ck_ok(c, ts_run_encode(r));
        ck_ok(c, ts_run_denoise(r, &z));
        ck_ok(c, ts_run_decode(r, NULL, &first.s));
        ts_run_close(r);
        ts_run_options o = {.size = sizeof o, .latents = z};
        ck_ok(c, ts_run_open_with(m, &q, &o, &r, NULL));
        ck_ok(c, ts_run_decode(r, z, &again.s));
        ck_assert(first.frames == 9 && again.frames == 9 && first.sum == again.sum);
        ts_run_close(r);
        long dim[4] = {m->vae_info.channels, i ? 3 : 4, 8, 8};
        ts_bag_put(z, "latents", TS_F32, 4, dim, NULL);
        ck_assert_int_eq(ts_run_open_with(m, &q, &o, &r, NULL), TS_ESHAPE);
        ck_assert_msg(strstr(c->err.text, i ? "a whole number of patches" : "4 latent frames") !=
                          NULL,
                      "%s", c->err.text);
        ts_bag_free(z);
        ts_model_close(m);
    }
    testing_close(c);
}
END_TEST

static ts_bag *denoise(const char *backend, const char *attention)
{
    ts_ctx *c = testing_open(backend, NULL, 2);
    ts_request q;
    ts_run *r;
    ts_bag *z;
    ts_model *m = open_fixture(c, "cogvideox-2b", &q);
    q.width = 256; /* 3 x 8 x 16 tokens are 6 blocks, 226 rows of text follow */
    q.height = 128;
    q.steps = 4;
    q.attention = attention;
    ck_ok(c, ts_run_open(m, &q, &r, NULL));
    ck_ok(c, ts_run_encode(r));
    ck_ok(c, ts_run_denoise(r, &z));
    ts_run_close(r);
    ts_model_close(m);
    testing_close(c);
    return z;
}

/* A plan of all blocks is dense whatever order tokens are in, as text and what turns video go with
 * them; one of a third is not, and on every device the same. */
START_TEST(sparse_beside_text)
{
    long n;
    ts_bag *dense = denoise("cpu", "dense"),
           *all = denoise("cpu", "window:keep=1,order=tile,min-tokens=0,dense-steps=0"),
           *some = denoise("cpu", "adaspa:keep=0.34,order=tile,min-tokens=0,search-steps=1"),
           *far = denoise("far", "adaspa:keep=0.34,order=tile,min-tokens=0,search-steps=1");
    const float *want = testing_f32(dense, "latents", &n);
    double off = testing_rel(testing_f32(all, "latents", NULL), want, n),
           sparse = testing_rel(testing_f32(some, "latents", NULL), want, n),
           device = testing_rel(testing_f32(far, "latents", NULL),
                                testing_f32(some, "latents", NULL), n);
    ck_assert_msg(off < 1e-5, "all blocks differ from dense attention by %.2e", off);
    ck_assert_msg(sparse > 1e-4, "a third of the blocks differs by %.2e", sparse);
    ck_assert_msg(device < 1e-6, "far differs from the CPU by %.2e", device);
    ts_bag_free(dense);
    ts_bag_free(all);
    ts_bag_free(some);
    ts_bag_free(far);
}
END_TEST

/* Configs that say nothing are of the classes' defaults. */
START_TEST(default_configs)
{
    static const struct {
        const ts_dit_class *cls;
        int layers, dim, side;
        float eps;
    } of[] = {{&ts_dit_cogvideox, 30, 1920, 2, 1e-5F},
              {&ts_dit_hunyuanvideo, 60, 3072, 2, 1e-6F},
              {&ts_dit_opensora, 32, 2304, 2, 1e-6F}};
    ts_ctx *c = testing_open("cpu", NULL, 1);
    cJSON *none = cJSON_CreateObject();
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        ts_dit_info d;
        ck_ok(c, ts_dit_read(c, of[i].cls, none, "c.json", &d));
        ck_assert_msg(d.layers == of[i].layers && d.dim == of[i].dim && d.eps == of[i].eps &&
                          d.patch[0] == 1 && d.patch[1] == of[i].side && d.patch[2] == of[i].side,
                      "%s: %d layers of %d, eps %g", of[i].cls->cls, d.layers, d.dim,
                      (double)d.eps);
    }
    cJSON_Delete(none);
    testing_close(c);
}
END_TEST

START_TEST(configs)
{
    static const struct {
        const char *json, *says;
    } bad[] = {
        {"{\"use_learned_positional_embeddings\": true}",
         "without \"use_rotary_positional_embeddings\""},
        {"{\"use_learned_positional_embeddings\": true, \"patch_size_t\": 2, "
         "\"use_rotary_positional_embeddings\": true}",
         "with \"patch_size_t\""},
        {"{\"ofs_embed_dim\": 256}", "\"ofs_embed_dim\" is 256, expected 512"},
        {"{\"sample_frames\": 0}", "sample_frames"},
        {"{\"attention_head_dim\": 24}", "\"attention_head_dim\" is 24, expected a multiple of 16"},
        {"{\"num_attention_heads\": 0}", "num_attention_heads"},
        {"{\"spatial_interpolation_scale\": 0}", "\"spatial_interpolation_scale\" is 0"}};
    static const struct {
        const char *json, *says;
    } vae[] = {{"{\"temporal_compression_ratio\": 3}", "is 3, expected a power of two"},
               {"{\"norm_num_groups\": 3}", "must be a multiple of norm_num_groups, 3"},
               {"{\"scaling_factor\": 0}", "scaling_factor is 0"},
               {"{\"use_quant_conv\": true}", "use_quant_conv"},
               {"{\"up_block_types\": [\"CogVideoXUpBlock3D\"]}", "each of the 4 levels"},
               {"{\"down_block_types\": [\"CogVideoXDownBlock3D\", \"CogVideoXDownBlock3D\", "
                "\"CogVideoXDownBlock3D\", \"DownEncoderBlock2D\"]}",
                "has DownEncoderBlock2D, only CogVideoXDownBlock3D is supported"}};
    ts_ctx *c = testing_open("cpu", NULL, 1);
    ts_dit_info info;
    ts_vae_info v;
    void *own = calloc(1, ts_vae_cogvideox.config_size);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cJSON *j = cJSON_Parse(bad[i].json);
        ck_assert_int_eq(ts_dit_read(c, &ts_dit_cogvideox, j, "c.json", &info), TS_EMODEL);
        ck_assert_msg(strstr(c->err.text, bad[i].says) && strstr(c->err.text, "c.json"), "%s",
                      c->err.text);
        cJSON_Delete(j);
    }
    for (size_t i = 0; i < sizeof vae / sizeof *vae; i++) {
        cJSON *j = cJSON_Parse(vae[i].json);
        ck_assert_int_eq(ts_vae_cogvideox.describe(c, j, "v.json", &v, own), TS_EMODEL);
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
    Suite *suite = suite_create("cogvideox");
    TCase *tc = tcase_create("cogvideox");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, lengths);
    tcase_add_test(tc, texts_and_defaults);
    tcase_add_test(tc, dynamic_guidance);
    tcase_add_test(tc, saved_latents);
    tcase_add_test(tc, sparse_beside_text);
    tcase_add_test(tc, default_configs);
    tcase_add_test(tc, configs);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
