/* A fixture through the public API, compared with what diffusers computed of it. */
#include "tests/sampler/pipeline.h"

#include "sampler/run.h"
#include "tests/testing.h"
#include "weights/set.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A sink that keeps frames as a lossless 8-bit file would hold them. */
typedef struct {
    ts_sink s;
    int w, h, n;
    uint8_t *rgb;
} memory;

static ts_status begin(ts_sink *s, int w, int h, int frames, double fps, const char *json)
{
    memory *m = (memory *)s;
    ck_assert(fps > 0 && strstr(json, "\"tessera\""));
    m->w = w;
    m->h = h;
    m->rgb = malloc((size_t)w * h * 3 * frames);
    return TS_OK;
}

static ts_status put(ts_sink *s, const ts_frame *f)
{
    memory *m = (memory *)s;
    ck_assert(f->w == m->w && f->h == m->h && f->index == m->n);
    for (long i = 0; i < (long)f->w * f->h * 3; i++) {
        ck_assert(f->rgb[i] >= 0 && f->rgb[i] <= 1);
        m->rgb[(long)m->n * f->w * f->h * 3 + i] = (uint8_t)rintf(f->rgb[i] * 255);
    }
    m->n++;
    return TS_OK;
}

static ts_status end(ts_sink *s)
{
    (void)s;
    return TS_OK;
}
static void drop(ts_sink *s) { (void)s; }

static double number(const cJSON *j, const char *key, double otherwise)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(j, key);
    return v ? v->valuedouble : otherwise;
}

static void fill(const cJSON *j, ts_request *q)
{
    q->prompt = cJSON_GetObjectItem(j, "prompt")->valuestring;
    q->negative = cJSON_GetObjectItem(j, "negative")->valuestring;
    q->width = (int)number(j, "width", 0);
    q->height = (int)number(j, "height", 0);
    q->frames = (int)number(j, "frames", 0);
    q->steps = (int)number(j, "steps", 0);
    q->guidance = number(j, "guidance", 0);
    q->guidance_2 = number(j, "guidance_2", q->guidance);
    q->shift = number(j, "shift", 0);
    q->sampler = cJSON_GetObjectItem(j, "sampler")->valuestring;
    q->image = cJSON_GetStringValue(cJSON_GetObjectItem(j, "image"));
    q->last_image = cJSON_GetStringValue(cJSON_GetObjectItem(j, "last_image"));
    q->no_bins = cJSON_IsFalse(cJSON_GetObjectItem(j, "bins"));
}

static void check_states(const ts_run *r, const ts_bag *want)
{
    const char *name[] = {"states", "negative_states"};
    for (int i = 0; i < r->branches; i++) {
        long n, m;
        if (!ts_bag_has(want, name[i])) continue;
        const float *w = testing_f32(want, name[i], &n);
        ck_assert_int_eq(n, r->n_ids[i] * r->m->dit_info.text_dim);
        double e = testing_rel(testing_f32(r->states[i], "states", &m), w, n);
        ck_assert_int_eq(n, m);
        ck_assert_msg(e < 1e-5, "%s: relative error %.2e", name[i], e);
    }
}

/* The oracle in f32 differs from itself by up to 1.6e-6 between processors; a chain of steps is
 * allowed 1e-5. */
static void check_latents(const char *fixture, const char *backend, bool sparse, const ts_bag *got,
                          const ts_bag *want)
{
    long n, m;
    const float *z = testing_f32(got, "latents", &n),
                *w = testing_f32(
                    want,
                    !sparse && ts_bag_has(want, "dense_latents") ? "dense_latents" : "latents", &m);
    ck_assert_int_eq(n, m);
    double e = testing_rel(z, w, n);
    printf("%s on %s: latents differ by %.2e\n", fixture, backend, e);
    ck_assert_msg(e < 1e-5, "%s on %s: latents differ by %.2e", fixture, backend, e);
}

/* Weights as the transformers have them, `merged.NAME`: f32 to rounding. */
static void check_merged(const char *fixture, ts_model *m, const ts_bag *want)
{
    static const char *const heads[] = {"merged.transformer.", "merged.transformer_2.", "merged."};
    for (int i = 0; i < ts_bag_count(want); i++) {
        const char *name = ts_bag_name(want, i);
        int h = 0;
        while (h < 3 && strncmp(name, heads[h], strlen(heads[h])) != 0) h++;
        if (h == 3) continue;
        ts_weights *ws = ts_dit_weights(m->dit[h == 1]);
        ts_err err = {0};
        ts_host t;
        ck_assert(!ts_bag_get(&err, want, name, TS_F32, -1, NULL, &t));
        int at = ts_checkpoint_find(&ws->files, name + strlen(heads[h]));
        ck_assert_msg(at >= 0, "%s: no %s", fixture, name);
        const ts_entry *e = ts_entry_of(ws, at);
        long n = ts_entry_count(e);
        float *got = malloc((size_t)n * sizeof *got);
        ck_ok(m->ctx, ts_set_rows(ws, at, 0, ts_entry_rows(e), got));
        double off = testing_rel(got, t.data, n);
        ck_assert_msg(off < 2e-7, "%s: %s differs by %.2e", fixture, name, off);
        free(got);
    }
}

/* Plans exactly, in both directions; what searches saw: of the first the oracle's rounding, of
 * later ones what an old LSE magnifies. */
static void check_plans(const char *fixture, const ts_bag *got, const ts_bag *want)
{
    int first = 1000, plans = 0;
    for (int i = 0, step; i < ts_bag_count(want); i++)
        if (sscanf(ts_bag_name(want, i), "recall.%*[a-z].%*d.%d", &step) == 1 && step < first)
            first = step;
    for (int i = 0; i < ts_bag_count(got); i++)
        if (!strncmp(ts_bag_name(got, i), "plan.", 5))
            ck_assert_msg(ts_bag_has(want, ts_bag_name(got, i)), "%s: %s is not expected", fixture,
                          ts_bag_name(got, i));
    for (int i = 0; i < ts_bag_count(want); i++) {
        const char *name = ts_bag_name(want, i);
        ts_err err = {0};
        ts_host a, b;
        int step;
        bool plan = !strncmp(name, "plan.", 5),
             seen = sscanf(name, "wsum.%*[a-z].%*d.%d", &step) == 1 ||
                    sscanf(name, "recall.%*[a-z].%*d.%d", &step) == 1;
        if (!plan && !seen) continue;
        ck_assert(ts_bag_get(&err, want, name, plan ? TS_I32 : TS_F32, -1, NULL, &a) == TS_OK);
        ck_assert_msg(ts_bag_get(&err, got, name, a.type, a.nd, a.dim, &b) == TS_OK, "%s: %s",
                      fixture, err.text);
        long n = ts_count(ts_tensor_of((ts_ptr){0}, a.type, a.nd, a.dim));
        if (plan)
            ck_assert_msg(!memcmp(a.data, b.data, (size_t)n * 4), "%s: %s differs", fixture, name);
        else
            ck_assert_msg(testing_rel(b.data, a.data, n) < (step == first ? 1e-5 : 1e-3),
                          "%s: %s differs by %.2e", fixture, name, testing_rel(b.data, a.data, n));
        plans += plan;
    }
    ck_assert_int_gt(plans, 0);
}

static void check_frames(const char *fixture, bool sparse, const memory *m, const ts_bag *want)
{
    ts_host h;
    ts_err err = {0};
    /* the fixture's frames are those of its policy */
    if (!sparse && ts_bag_has(want, "dense_latents")) return;
    ck_assert_msg(ts_bag_get(&err, want, "frames", TS_U8, 4,
                             (long[]){sparse ? 1 : m->n, m->h, m->w, 3}, &h) == TS_OK,
                  "%s: %s", fixture, err.text);
    long n = (sparse ? 1L : m->n) * m->h * m->w * 3, off = 0;
    const uint8_t *w = h.data;
    for (long i = 0; i < n; i++) off += abs(m->rgb[i] - w[i]) > 1;
    ck_assert_msg((double)off <= 0.001 * (double)n,
                  "%s: %ld of %ld samples differ by more than one level", fixture, off, n);
}

/* A path of the case: from the fixture's folder where it goes up or has no folder, else from that
 * of the tests. */
static const char *case_path(const char *fixture, const cJSON *j, const char *key, char path[4096])
{
    const char *value = cJSON_GetStringValue(cJSON_GetObjectItem(j, key));
    if (!value) return NULL;
    if (value[0] == '.' || !strchr(value, '/'))
        snprintf(path, 4096, "%s/%s", testing_fixture(fixture), value);
    else
        snprintf(path, 4096, "%s", value);
    return path;
}

/* Of the case as it is, or with what a variant of it says otherwise. */
static cJSON *load_case(const char *fixture, int variant)
{
    cJSON *j = testing_case(fixture), *other;
    const cJSON *list = cJSON_GetObjectItem(j, "variants");
    if (variant < 0) return j;
    ck_assert_int_gt(cJSON_GetArraySize(list), variant);
    for (other = cJSON_GetArrayItem(list, variant)->child; other; other = other->next) {
        cJSON *copy = cJSON_Duplicate(other, true);
        cJSON_DeleteItemFromObject(j, other->string);
        cJSON_AddItemToObject(j, other->string, copy);
    }
    return j;
}

/* The case's LoRAs as lines of a request; NULL: none. Static. */
static const char *case_loras(const char *fixture, const cJSON *j)
{
    static char lines[4096];
    const cJSON *one;
    lines[0] = 0;
    cJSON_ArrayForEach(one, cJSON_GetObjectItem(j, "loras"))
    {
        const char *expert = cJSON_GetStringValue(cJSON_GetObjectItem(one, "expert"));
        bool both = !expert || !strcmp(expert, "both");
        snprintf(lines + strlen(lines), sizeof lines - strlen(lines), "%s%s%s%s/%s:%g",
                 *lines ? "\n" : "", both ? "" : expert, both ? "" : "=", testing_fixture(fixture),
                 cJSON_GetObjectItem(one, "file")->valuestring,
                 cJSON_GetObjectItem(one, "strength")->valuedouble);
    }
    return *lines ? lines : NULL;
}

static ts_model *open_model(ts_ctx *c, const char *fixture, const cJSON *j, ts_request *q)
{
    char path[7][4096];
    ts_model *m;
    ts_model_files files = {.size = sizeof files,
                            .transformer = case_path(fixture, j, "transformer", path[0]),
                            .vae = case_path(fixture, j, "vae", path[1]),
                            .text_encoder = case_path(fixture, j, "text_encoder", path[2]),
                            .image_encoder = case_path(fixture, j, "image_encoder", path[4]),
                            .text_encoder_2 = case_path(fixture, j, "text_encoder_2", path[5]),
                            .tokenizer_2 = case_path(fixture, j, "tokenizer_2", path[6])};
    const char *name = case_path(fixture, j, "model", path[3]);
    if (!name && !files.transformer) {
        snprintf(path[3], sizeof path[3], "%s/model", testing_fixture(fixture));
        name = path[3];
    }
    ck_ok(c, ts_model_open_files(c, name, &files, &m));
    ts_request_init(m, q);
    fill(j, q);
    q->loras = case_loras(fixture, j);
    return m;
}

/* The images of a case, which stand in its folder. */
static void read_images(const char *fixture, ts_run *r)
{
    const char *name[TS_IMAGES] = {r->q.image, r->q.last_image};
    char path[4096];
    for (int i = 0; i < TS_IMAGES; i++) {
        if (!name[i]) continue;
        snprintf(path, sizeof path, "%s/%s", testing_fixture(fixture), name[i]);
        ck_ok(r->ctx, ts_run_image(r, path, i == TS_LAST));
    }
}

/* f32 [n, 3, H, W] of the oracle against [H, W, 3] of ours, picture `i` of them */
static void check_pixels(const char *fixture, const ts_bag *want, const char *name, int i, long h,
                         long w, const float *got, double bound)
{
    long n;
    const float *v = testing_f32(want, name, &n);
    ck_assert_msg(n >= (i + 1) * 3 * h * w, "%s: %s has %ld numbers", fixture, name, n);
    v += i * 3 * h * w;
    for (long c = 0; c < 3; c++)
        for (long k = 0; k < h * w; k++) {
            double off = fabs((double)got[3 * k + c] - v[c * h * w + k]);
            ck_assert_msg(off <= bound, "%s: %s: %g at %ld, expected %g", fixture, name,
                          got[3 * k + c], k, v[c * h * w + k]);
        }
}

/* Pixels bit for bit but for the float that an 8-bit sample becomes; states and latents as those
 * of texts. */
static void check_images(const char *fixture, const ts_run *r, const ts_bag *want)
{
    int side = r->m->vision.image;
    long n, m;
    for (int i = 0; i < TS_IMAGES; i++) {
        const ts_picture *p = &r->image[i].frame;
        if (!p->rgb) continue;
        float *px = malloc((size_t)p->w * p->h * 3 * sizeof *px);
        for (long k = 0; k < 3L * p->w * p->h; k++) px[k] = 2 * ((float)p->rgb[k] / 255) - 1;
        check_pixels(fixture, want, "condition_pixels", i, p->h, p->w, px, 2e-7);
        if (r->image[i].seen)
            check_pixels(fixture, want, "image_pixels", i, side, side, r->image[i].seen, 1e-6);
        free(px);
    }
    if (r->seen) {
        const float *w = testing_f32(want, "image_states", &n);
        double e = testing_rel(r->seen, w, n);
        ck_assert_msg(e < 1e-5, "%s: states of images: relative error %.2e", fixture, e);
    }
    if (r->beside) {
        const float *w = testing_f32(want, "condition", &m);
        double e = testing_rel(r->beside, w, m);
        ck_assert_msg(e < 1e-5, "%s: latents of images: relative error %.2e", fixture, e);
    }
}

static ts_bag *load_tensors(const char *fixture, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.safetensors", testing_fixture(fixture), name);
    return testing_bag(path);
}

double pipeline_error_bf16(const char *fixture, const char *backend, const char *level)
{
    ts_ctx *c = testing_open(backend, level, 2);
    cJSON *j = load_case(fixture, -1);
    ts_bag *latents, *want = load_tensors(fixture, "expected"),
                     *noise = load_tensors(fixture, "noise");
    ts_request q;
    ts_run *r;
    ts_estimate e;
    long n, m;
    c->act = TS_BF16;
    ts_model *model = open_model(c, fixture, j, &q);
    ck_ok(c, ts_run_open(model, &q, &r, &e));
    ck_ok(c, ts_run_noise(r, noise));
    read_images(fixture, r);
    ck_ok(c, ts_run_encode(r));
    ck_ok(c, ts_run_denoise(r, &latents));
    const float *z = testing_f32(latents, "latents", &n), *w = testing_f32(want, "latents", &m);
    ck_assert_int_eq(n, m);
    double off = testing_rel(z, w, n);
    printf("%s on %s in bf16: latents differ by %.2e\n", fixture, backend, off);
    ts_bag_free(latents);
    ts_bag_free(want);
    ts_bag_free(noise);
    ts_run_close(r);
    ts_model_close(model);
    cJSON_Delete(j);
    testing_close(c);
    return off;
}

void pipeline_render(const char *fixture, const char *backend, bool sparse, bool stream)
{
    pipeline_render_variant(fixture, -1, backend, sparse, stream);
}

/* The frames, where the fixture has them. */
static void decode_frames(const char *fixture, ts_run *r, const ts_bag *latents, int frames,
                          bool sparse, const ts_bag *want)
{
    memory sink = {.s = {.open = begin, .frame = put, .close = end, .abort = drop}};
    if (!ts_bag_has(want, "frames")) return;
    ck_ok(r->ctx, ts_run_decode(r, latents, &sink.s));
    ck_assert_int_eq(sink.n, frames);
    check_frames(fixture, sparse, &sink, want);
    free(sink.rgb);
}

void pipeline_encode(const char *fixture, int variant, const char *backend)
{
    ts_ctx *c = testing_open(backend, NULL, 2);
    cJSON *j = load_case(fixture, variant);
    ts_run *r;
    ts_request q;
    ts_err err = {0};
    ts_host ids;
    int32_t *got;
    int n;
    ts_bag *want = load_tensors(fixture, "expected");
    ts_model *m = open_model(c, fixture, j, &q);
    ck_ok(c, ts_run_open(m, &q, &r, NULL));
    ck_ok(c, ts_model_tokenize(m, 0, q.prompt, "prompt", &got, &n));
    ck_assert_msg(!ts_bag_get(&err, want, "ids", TS_I64, 1, (long[]){n}, &ids), "%s", err.text);
    for (int i = 0; i < n; i++) {
        int64_t id;
        memcpy(&id, (const char *)ids.data + (size_t)i * sizeof id, sizeof id);
        ck_assert_int_eq(id, got[i]);
    }
    ck_ok(c, ts_run_encode(r));
    check_states(r, want);
    free(got);
    ts_bag_free(want);
    ts_run_close(r);
    ts_model_close(m);
    cJSON_Delete(j);
    testing_close(c);
}

static void render_case(const char *fixture, cJSON *j, const char *backend, bool sparse,
                        bool stream)
{
    ts_ctx *c = testing_open(backend, NULL, 2);
    ts_run *r;
    ts_request q;
    ts_estimate e;
    ts_bag *latents = NULL;
    ts_model *m = open_model(c, fixture, j, &q);
    if (sparse) {
        q.attention = cJSON_GetObjectItem(j, "attention")->valuestring;
        q.keep_plans = q.keep_scores = true;
    }
    ck_ok(c, ts_run_open(m, &q, &r, &e));
    ck_assert(e.width == q.width && e.height == q.height && e.frames == q.frames &&
              e.step_flops >= 0);
    ts_bag *want = load_tensors(fixture, "expected"), *noise = load_tensors(fixture, "noise");
    ck_ok(c, ts_run_noise(r, noise));
    read_images(fixture, r);
    ck_ok(c, ts_run_encode(r));
    check_states(r, want);
    check_images(fixture, r, want);
    size_t all = c->memory;
    if (stream) {
        c->memory = r->arena[TS_PHASE_DENOISE]; /* no room for weights */
        ts_weights_budget(m->vae_weights, 0);
    }
    ck_ok(c, ts_run_denoise(r, &latents));
    c->memory = all;
    if (sparse) {
        const ts_bag *plans;
        ck_ok(c, ts_run_plans(r, &plans));
        check_plans(fixture, plans, want);
    }
    check_latents(fixture, backend, sparse, latents, want);
    check_merged(fixture, m, want);
    decode_frames(fixture, r, latents, q.frames, sparse, want);
    ts_bag_free(latents);
    ts_bag_free(want);
    ts_bag_free(noise);
    ts_run_close(r);
    ts_model_close(m);
    cJSON_Delete(j);
    testing_close(c);
}

void pipeline_render_variant(const char *fixture, int variant, const char *backend, bool sparse,
                             bool stream)
{
    render_case(fixture, load_case(fixture, variant), backend, sparse, stream);
}

void pipeline_render_files(const char *fixture, const char *component, const char *file,
                           const char *backend, bool stream)
{
    char model[4096];
    cJSON *j = load_case(fixture, -1);
    snprintf(model, sizeof model, "%s/model", testing_fixture(fixture));
    cJSON_AddStringToObject(j, component, file);
    if (!cJSON_GetObjectItem(j, "model")) cJSON_AddStringToObject(j, "model", model);
    render_case(fixture, j, backend, false, stream);
}

const char *const pipeline_fixtures[PIPELINE_FIXTURES] = {"wan21-t2v",
                                                          "wan21-t2v-euler",
                                                          "wan21-t2i-bf16",
                                                          "wan22-a14b",
                                                          "wan22-ti2v-5b",
                                                          "pixart-alpha-256",
                                                          "pixart-alpha-1024-micro",
                                                          "pixart-sigma",
                                                          "wan21-i2v",
                                                          "wan21-flf2v",
                                                          "wan22-i2v-a14b",
                                                          "wan22-ti2v-5b-i2v",
                                                          "pixart-lcm",
                                                          "cogvideox-2b",
                                                          "cogvideox15-5b",
                                                          "cogvideox-5b-i2v",
                                                          "cogvideox15-5b-i2v",
                                                          "open-sora-plan-v1.2",
                                                          "hunyuanvideo-t2v",
                                                          "hunyuanvideo-tiled",
                                                          "hunyuanvideo-adaspa",
                                                          "wan21-adaspa",
                                                          "wan21-tile",
                                                          "wan21-window",
                                                          "wan21-pooled"};
