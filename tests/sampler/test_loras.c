/* LoRAs in every spelling against weights that were merged in f64 and what diffusers makes of them;
 * what is wrong with such files. */
#include "sampler/run.h"
#include "tests/cli/program.h"
#include "tests/sampler/pipeline.h"
#include "tests/weights/scratch.h"
#include "weights/lora.h"
#include "weights/set.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *fixture;
    int variant;
} rendered[] = {{"lora-peft", -1},  {"lora-peft", 0},  {"lora-peft", 1},    {"lora-peft", 2},
                {"lora-names", -1}, {"lora-names", 0}, {"lora-names", 1},   {"lora-names", 2},
                {"lora-diff", -1},  {"lora-two", -1},  {"lora-experts", -1}};
enum { RENDERED = sizeof rendered / sizeof *rendered };

START_TEST(loras_give_the_numbers)
{
    pipeline_render_variant(rendered[_i].fixture, rendered[_i].variant, "cpu", false, false);
}
END_TEST
/* no layer stays: each is merged again whenever it comes */
START_TEST(loras_give_the_numbers_streamed_on_far)
{
    pipeline_render_variant(rendered[_i].fixture, rendered[_i].variant, "far", false, true);
}
END_TEST

/* ---- spellings ---- */

/* How a file may call what another calls transformer.MODULE.lora_A.weight. */
static const struct {
    const char *prefix;
    bool original, flat; /* the authors' names; '_' for '.' */
    const char *down, *up;
} spelling[] = {
    {"transformer.", false, false, ".lora_A.default.weight", ".lora_B.default.weight"},
    {"", false, false, ".lora_A", ".lora_B"},
    {"", true, false, ".lora.down.weight", ".lora.up.weight"},
    {"diffusion_model.", true, false, ".lora_A.weight", ".lora_B.weight"},
    {"model.diffusion_model.", true, false, ".lora_down.weight", ".lora_up.weight"},
    {"transformer.", true, false, ".lora_A.weight", ".lora_B.weight"},
    {"diffusion_model.", false, false, ".lora_linear_layer.down.weight",
     ".lora_linear_layer.up.weight"},
    {"base_model.model.", false, false, ".lora_A.weight", ".lora_B.weight"},
    {"base_model.model.transformer.", false, false, ".lora_A.weight", ".lora_B.weight"},
    {"unet.base_model.model.", true, false, ".lora_A.weight", ".lora_B.weight"},
    {"pipe.dit.", true, false, ".lora_A.default.weight", ".lora_B.default.weight"},
    {"dit.", true, false, "_lora.down.weight", "_lora.up.weight"},
    {"lora_unet_", true, true, ".lora_down.weight", ".lora_up.weight"},
    {"lora_unet__", true, true, ".lora_down.weight", ".lora_up.weight"},
    {"lora_unet_", false, true, ".lora_A.weight", ".lora_B.weight"},
    {"lora_transformer_", false, true, ".lora_down.weight", ".lora_up.weight"},
    {"lycoris_", false, true, ".lora_down.weight", ".lora_up.weight"},
    {"lycoris_", true, true, ".lora_down.weight", ".lora_up.weight"},
};

/* The file again in that spelling; alpha as many times its rank beside each pair. */
static void spell(const ts_bag *from, int which, double alpha, const char *path)
{
    static const char head[] = "transformer.", *const old[] = {".lora_A.weight", ".lora_B.weight"};
    ts_bag *to = ts_bag_new();
    ts_err err = {0};
    for (int i = 0; i < ts_bag_count(from); i++) {
        const char *name = ts_bag_name(from, i);
        const ts_host *t = ts_bag_find(from, name);
        char module[TS_NAME_ROOM], other[TS_NAME_ROOM], key[2 * TS_NAME_ROOM];
        size_t n = strlen(name), end = strlen(old[0]);
        bool up = !strcmp(name + n - end, old[1]);
        snprintf(module, sizeof module, "%.*s.", (int)(n - end - strlen(head)),
                 name + strlen(head));
        snprintf(other, sizeof other, "%s", module);
        if (spelling[which].original)
            ck_assert(ts_naming_reverse(ts_dit_wan.names->naming, module, other));
        other[strlen(other) - 1] = 0;
        for (char *s = other; spelling[which].flat && *s; s++)
            if (*s == '.') *s = '_';
        snprintf(key, sizeof key, "%s%s%s", spelling[which].prefix, other,
                 up ? spelling[which].up : spelling[which].down);
        ts_bag_put(to, key, t->type, t->nd, t->dim, t->data);
        if (up) continue;
        snprintf(key, sizeof key, "%s%s.alpha", spelling[which].prefix, other);
        float *a = ts_bag_put(to, key, TS_F32, 0, NULL, NULL);
        *a = (float)(alpha * (double)t->dim[0]);
    }
    ck_assert_msg(!ts_bag_save(&err, to, path), "%s", err.text);
    ts_bag_free(to);
}

/* Each gives the same weights, to the bit. */
START_TEST(spellings_are_one)
{
    char path[4096], *dir = testing_tmp();
    ts_ctx *c = testing_open("cpu", NULL, 1);
    ts_weights *ws;
    static float want[1 << 14], got[1 << 14];
    ts_bag *from;
    ts_err err = {0};
    snprintf(path, sizeof path, "%s/lora.safetensors", testing_fixture("lora-peft"));
    from = testing_bag(path);
    ck_ok(c, ts_weights_open(c, "tests/fixtures/wan21-t2v/model/transformer",
                             "diffusion_pytorch_model", ts_dit_wan.names, &ws));
    for (int k = 0; k < 2; k++) {
        ts_lora_file f;
        ts_lora_fit fit;
        ts_lora_bound *bound;
        if (k == 1) {
            snprintf(path, sizeof path, "%s/other.safetensors", dir);
            spell(from, _i, 0.5, path);
        }
        ck_assert_msg(!ts_lora_open(&err, path, &f), "%s", err.text);
        ck_ok(c, ts_lora_bind(c, ws, ts_dit_wan.names, &f, k ? 2 : 1, &bound, &fit));
        ck_assert_msg(fit.left == 0 && fit.layers == 30, "%s: %d left, %d layers",
                      spelling[_i].prefix, fit.left, fit.layers);
        ts_delta d = ts_lora_delta(bound);
        ck_ok(c, ts_weights_set_deltas(ws, &d, 1));
        for (int i = 0, at = 0; i < ws->files.names; i++) {
            const ts_entry *e = ts_entry_of(ws, i);
            if (!ws->item[i].changed || at + ts_entry_count(e) > 1 << 14) continue;
            ck_ok(c, ts_set_rows(ws, i, 0, ts_entry_rows(e), (k ? got : want) + at));
            at += (int)ts_entry_count(e);
        }
        ck_ok(c, ts_weights_set_deltas(ws, NULL, 0));
        ts_lora_release(bound);
        ts_lora_close(&f);
    }
    ck_assert(want[0] != 0 && !memcmp(want, got, sizeof want));
    ck_assert_str_eq(testing_warned(c), "");
    ts_weights_close(ws);
    ts_bag_free(from);
    free(dir);
    testing_close(c);
}
END_TEST

/* ---- hostile files ---- */

/* Opens a run of the fixture's model with these LoRAs. */
static ts_status open_with(ts_ctx *c, const char *model, const char *loras)
{
    char path[4096];
    ts_model *m;
    ts_run *r = NULL;
    ts_request q;
    snprintf(path, sizeof path, "%s", testing_fixture(model));
    ck_ok(c, ts_model_open(c, path, &m));
    ts_request_init(m, &q);
    q.prompt = "a cat";
    q.width = 64;
    q.height = 48;
    q.frames = 5;
    q.steps = 2;
    q.loras = loras;
    ts_status st = ts_run_open(m, &q, &r, NULL);
    ts_run_close(r);
    ts_model_close(m);
    return st;
}

START_TEST(hostile_loras)
{
    char path[4096];
    ts_err err = {0};
    cJSON *all = NULL, *one;
    int n = 0;
    snprintf(path, sizeof path, "%s/hostile.json", testing_fixture("hostile-weights"));
    ck_assert_msg(!ts_json_load(&err, path, &all), "%s", err.text);
    cJSON_ArrayForEach(one, all)
    {
        if (strcmp(cJSON_GetObjectItem(one, "as")->valuestring, "lora") != 0) continue;
        ts_ctx *c = testing_open("cpu", NULL, 1);
        bool refuse = !strcmp(cJSON_GetObjectItem(one, "outcome")->valuestring, "refuse");
        const cJSON *says;
        snprintf(path, sizeof path, "%s/%s", testing_fixture("hostile-weights"),
                 cJSON_GetObjectItem(one, "file")->valuestring);
        ts_status st = open_with(c, "wan21-t2v/model", path);
        ck_assert_msg(st == (refuse ? TS_EMODEL : TS_OK), "%s: %d %s", path, st, ts_error(c));
        const char *said = refuse ? ts_error(c) : testing_warned(c);
        cJSON_ArrayForEach(says, cJSON_GetObjectItem(one, "says")) ck_assert_msg(
            strstr(said, says->valuestring), "%s: %s lacks %s", path, said, says->valuestring);
        testing_close(c);
        n++;
    }
    ck_assert_int_gt(n, 5);
    cJSON_Delete(all);
}
END_TEST

static void write_tensors(const char *path, int n, const char *const *name, const long (*dim)[2],
                          float value)
{
    ts_bag *bag = ts_bag_new();
    ts_err err = {0};
    for (int i = 0; i < n; i++) {
        int nd = dim[i][0] ? 2 : 0;
        long all = nd ? dim[i][0] * dim[i][1] : 1;
        float *v = ts_bag_put(bag, name[i], TS_F32, nd, dim[i], NULL);
        for (long k = 0; k < all; k++) v[k] = value;
    }
    ck_assert_msg(!ts_bag_save(&err, bag, path), "%s", err.text);
    ts_bag_free(bag);
}

static const struct {
    const char *name[4];
    long dim[4][2];
    float value;
    const char *lines; /* %s: the file */
    ts_status want;
    const char *says[3];
} odd[] = {
    /* one layer by two names */
    {{"diffusion_model.blocks.0.self_attn.q.lora_down.weight",
      "diffusion_model.blocks.0.self_attn.q.lora_up.weight",
      "transformer.blocks.0.attn1.to_q.lora_A.weight",
      "transformer.blocks.0.attn1.to_q.lora_B.weight"},
     {{4, 32}, {32, 4}, {4, 32}, {32, 4}},
     1,
     "%s",
     TS_EMODEL,
     {"blocks.0.self_attn.q", "blocks.0.attn1.to_q", "two names"}},
    /* of another width */
    {{"diffusion_model.blocks.0.self_attn.q.lora_down.weight",
      "diffusion_model.blocks.0.self_attn.q.lora_up.weight"},
     {{4, 48}, {48, 4}},
     1,
     "%s",
     TS_EMODEL,
     {"[4, 48]", "[32, 32]", "another model"}},
    {{"blocks.0.self_attn.q.lora_down.weight", "blocks.0.self_attn.q.lora_up.weight"},
     {{4, 32}, {64, 4}},
     1,
     "%s",
     TS_EMODEL,
     {"[64, 4]", "[32, 32]", "another model"}},
    /* the first layer of a variant with more channels */
    {{"patch_embedding.diff", "blocks.0.self_attn.q.diff"},
     {{32, 144}, {32, 32}},
     0.5f,
     "%s",
     TS_OK,
     {"patch_embedding.diff", "[32, 144]", "left out"}},
    {{"blocks.0.self_attn.q.diff"}, {{32, 31}}, 1, "%s", TS_EMODEL, {"[32, 31]", "[32, 32]"}},
    /* alpha */
    {{"blocks.0.self_attn.q.lora_down.weight", "blocks.0.self_attn.q.lora_up.weight",
      "blocks.0.self_attn.q.alpha"},
     {{4, 32}, {32, 4}, {0, 0}},
     0,
     "%s",
     TS_OK,
     {"alpha of 0"}},
    {{"blocks.0.self_attn.q.lora_down.weight", "blocks.0.self_attn.q.lora_up.weight",
      "blocks.0.self_attn.q.alpha"},
     {{4, 32}, {32, 4}, {2, 2}},
     1,
     "%s",
     TS_EMODEL,
     {"blocks.0.self_attn.q.alpha", "single number"}},
    /* text encoders */
    {{"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight",
      "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight"},
     {{4, 32}, {32, 4}},
     1,
     "%s",
     TS_EMODEL,
     {"text encoder alone"}},
    {{"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight",
      "lora_unet_blocks_0_self_attn_q.lora_down.weight",
      "lora_unet_blocks_0_self_attn_q.lora_up.weight"},
     {{4, 32}, {4, 32}, {32, 4}},
     1,
     "%s",
     TS_OK,
     {"1 of its keys are of a text encoder"}},
    /* other kinds */
    {{"lora_unet_blocks_0_self_attn_q.lokr_w1"}, {{4, 4}}, 1, "%s", TS_EMODEL, {"LoKr"}},
    {{"blocks.0.self_attn.q.oft_blocks"}, {{4, 4}}, 1, "%s", TS_EMODEL, {"OFT"}},
    {{"blocks.0.self_attn.q.lora_mid.weight"}, {{4, 4}}, 1, "%s", TS_EMODEL, {"Tucker"}},
    {{"blocks.0.self_attn.q.weight"}, {{32, 32}}, 1, "%s", TS_EMODEL, {"no LoRA"}},
    /* strengths and experts */
    {{"blocks.0.self_attn.q.diff"}, {{32, 32}}, 1, "%s:101", TS_EUSAGE, {"strength 101"}},
    {{"blocks.0.self_attn.q.diff"}, {{32, 32}}, 1, "%s:nan", TS_EMODEL, {":nan"}},
    {{"blocks.0.self_attn.q.diff"}, {{32, 32}}, 1, "high=%s", TS_EUSAGE, {"one transformer"}},
    {{"blocks.0.self_attn.q.diff"}, {{32, 32}}, 1, "%s:-1.5", TS_OK, {""}},
};

START_TEST(odd_loras)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *dir = testing_tmp(), path[4096], lines[8192];
    int n = 0;
    while (n < 4 && odd[_i].name[n]) n++;
    snprintf(path, sizeof path, "%s/a.safetensors", dir);
    write_tensors(path, n, odd[_i].name, odd[_i].dim, odd[_i].value);
    snprintf(lines, sizeof lines, odd[_i].lines, path);
    ts_status st = open_with(c, "wan21-t2v/model", lines);
    ck_assert_msg(st == odd[_i].want, "%s: %d %s", lines, st, ts_error(c));
    const char *said = st ? ts_error(c) : testing_warned(c);
    for (int i = 0; i < 3 && odd[_i].says[i]; i++)
        ck_assert_msg(strstr(said, odd[_i].says[i]), "\"%s\" lacks %s", said, odd[_i].says[i]);
    free(dir);
    testing_close(c);
}
END_TEST

/* On top of weights in blocks: decoded, added to in f32, not made blocks again. */
START_TEST(blocks_are_decoded_and_added_to)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char path[512], *dir = testing_tmp();
    static const char *const key[] = {"blocks.0.self_attn.q.diff", "blocks.0.ffn.2.diff"};
    static const char *const name[] = {"blocks.0.attn1.to_q.weight", "blocks.0.ffn.net.2.weight"};
    static float base[128 * 256], got[128 * 256];
    ts_weights *ws;
    ts_lora_file f;
    ts_lora_fit fit;
    ts_lora_bound *bound;
    ts_err err = {0};
    snprintf(path, sizeof path, "%s/a.safetensors", dir);
    write_tensors(path, 2, key, (const long[][2]){{128, 128}, {128, 256}}, 0.001f);
    ck_ok(c, ts_weights_open(c, "tests/fixtures/gguf-mixed/transformer.gguf", "model",
                             ts_dit_wan.names, &ws));
    ck_assert_msg(!ts_lora_open(&err, path, &f), "%s", err.text);
    ck_ok(c, ts_lora_bind(c, ws, ts_dit_wan.names, &f, 3, &bound, &fit));
    ck_assert_int_eq(fit.differences, 2);
    ts_delta d = ts_lora_delta(bound);
    for (int i = 0; i < 2; i++) {
        int at = ts_checkpoint_find(&ws->files, name[i]);
        ck_assert_int_ge(at, 0);
        long rows = ts_entry_rows(ts_entry_of(ws, at)), n = ts_entry_count(ts_entry_of(ws, at));
        ck_assert_ptr_null(ts_entry_of(ws, at)->t.data);
        ck_ok(c, ts_weights_set_deltas(ws, NULL, 0));
        ck_ok(c, ts_set_rows(ws, at, 0, rows, base));
        ck_ok(c, ts_weights_set_deltas(ws, &d, 1));
        ck_ok(c, ts_set_rows(ws, at, 0, rows, got));
        for (long k = 0; k < n; k++) ck_assert(got[k] == base[k] + 3.0f * 0.001f);
    }
    ck_ok(c, ts_weights_set_deltas(ws, NULL, 0));
    ts_lora_release(bound);
    ts_lora_close(&f);
    ts_weights_close(ws);
    free(dir);
    testing_close(c);
}
END_TEST

/* A part of a model is told as what it is. */
START_TEST(a_model_is_no_lora)
{
    static const struct {
        const char *file, *says;
    } row[] = {{"files-f16/transformer.safetensors", "is a Wan transformer, no LoRA"},
               {"files-f16/vae.safetensors", "is a Wan VAE, no LoRA"},
               {"gguf-text/umt5.gguf", "is a UMT5 text encoder, no LoRA"},
               {"files-f16/noise.safetensors", "none of its tensors is called like one"},
               {"files-f16/case.json", "files-f16/case.json"},
               {"files-f16", "files-f16/adapter_model.safetensors"}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        ts_ctx *c = testing_open("cpu", NULL, 1);
        char path[4096];
        snprintf(path, sizeof path, "%s", testing_fixture(row[i].file));
        ck_assert_int_eq(open_with(c, "wan21-t2v/model", path), TS_EMODEL);
        ck_assert_msg(strstr(ts_error(c), row[i].says), "%s", ts_error(c));
        testing_close(c);
    }
}
END_TEST

/* Names that say which expert they are for. */
START_TEST(experts_by_name)
{
    static const struct {
        const char *line, *says;
    } row[] = {{"a_high_noise.safetensors", "for the high-noise expert, and goes to both"},
               {"low=a_high_noise.safetensors", "for the high-noise expert, and goes to the other"},
               {"high=a_high_noise.safetensors", ""},
               {"low=b_LN.safetensors", ""},
               {"b.safetensors", ""}};
    char *dir = testing_tmp(), path[8192];
    static const char *const key[] = {"blocks.0.self_attn.q.diff"}, *const files[] = {
                                                                        "a_high_noise.safetensors",
                                                                        "b_LN.safetensors",
                                                                        "b.safetensors"};
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        write_tensors(path, 1, key, (const long[][2]){{32, 32}}, 0.125f);
    }
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        ts_ctx *c = testing_open("cpu", NULL, 1);
        const char *equals = strchr(row[i].line, '=');
        snprintf(path, sizeof path, "%.*s%s/%s", equals ? (int)(equals - row[i].line + 1) : 0,
                 row[i].line, dir, equals ? equals + 1 : row[i].line);
        ck_ok(c, open_with(c, "wan22-a14b/model", path));
        ck_assert_msg(*row[i].says ? strstr(testing_warned(c), row[i].says) != NULL
                                   : !*testing_warned(c),
                      "%s: %s", path, testing_warned(c));
        testing_close(c);
    }
    free(dir);
}
END_TEST

/* Two runs of one model take turns, each with its own LoRAs. */
START_TEST(runs_have_their_own)
{
    ts_ctx *c = testing_open("cpu", NULL, 2);
    char path[4096], *dir = testing_tmp();
    ts_model *m;
    ts_request q;
    ts_run *r[3];
    ts_bag *out[3][2];
    const char *loras[3] = {NULL, path, NULL};
    static const char *const key[] = {"blocks.1.norm3.diff"}; /* a vector */
    snprintf(path, sizeof path, "%s/a.safetensors", dir);
    write_tensors(path, 1, key, (const long[][2]){{1, 32}}, 0.75f);
    ck_ok(c, ts_model_open(c, testing_fixture("wan21-t2v/model"), &m));
    ts_request_init(m, &q);
    q.prompt = "a cat";
    q.width = 64;
    q.height = 48;
    q.frames = 5;
    q.steps = 2;
    for (int i = 0; i < 3; i++) {
        q.loras = loras[i];
        ck_ok(c, ts_run_open(m, &q, &r[i], NULL));
        ck_ok(c, ts_run_encode(r[i]));
    }
    for (int turn = 0; turn < 2; turn++)
        for (int i = 0; i < 3; i++) ck_ok(c, ts_run_denoise(r[i], &out[i][turn]));
    long n;
    const float *a = testing_f32(out[0][0], "latents", &n),
                *b = testing_f32(out[1][0], "latents", &n);
    ck_assert(testing_rel(b, a, n) > 1e-3);
    for (int i = 0; i < 3; i++) {
        const float *one = testing_f32(out[i][0], "latents", &n),
                    *two = testing_f32(out[i][1], "latents", &n), *same = i == 1 ? b : a;
        ck_assert(!memcmp(one, two, (size_t)n * sizeof *one));
        ck_assert(!memcmp(one, same, (size_t)n * sizeof *one));
    }
    for (int i = 0; i < 3; i++) {
        ts_bag_free(out[i][0]);
        ts_bag_free(out[i][1]);
        ts_run_close(r[i]);
    }
    ts_model_close(m);
    free(dir);
    testing_close(c);
}
END_TEST

/* Metadata say which they were, and give them back. */
START_TEST(metadata_name_them)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char path[512], line[2048], *dir = testing_tmp();
    ts_model *m;
    ts_request q, again;
    ts_run *r;
    static const char *const key[] = {"blocks.0.self_attn.q.diff"};
    snprintf(path, sizeof path, "%s/a.safetensors", dir);
    snprintf(line, sizeof line, "%s:0.5\n%s:-2", path, path);
    write_tensors(path, 1, key, (const long[][2]){{32, 32}}, 0.25f);
    ck_ok(c, ts_model_open(c, testing_fixture("wan21-t2v/model"), &m));
    ts_request_init(m, &q);
    q.prompt = "a cat";
    q.loras = line;
    q.timesteps = "1000,500";
    ck_ok(c, ts_run_open(m, &q, &r, NULL));
    char *json = ts_run_json(r), *text = ts_run_loras(r);
    ck_assert_msg(strstr(text, "0 layers, 1 differences, strength 0.5\nLoRA") != NULL, "%s", text);
    ts_request_init(m, &again);
    ck_ok(c, ts_request_from_json(m, json, &again));
    ck_assert_str_eq(again.loras, line);
    ck_assert_str_eq(again.timesteps, "1000,500");
    ck_assert_int_eq(again.steps, 2);
    ck_assert_msg(strstr(json, "\"hash\":") != NULL, "%s", json);
    ts_request_free(&again);
    free(json);
    free(text);
    ts_run_close(r);
    ts_model_close(m);
    free(dir);
    testing_close(c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("loras");
    TCase *tc = tcase_create("loras");
    tcase_add_loop_test(tc, loras_give_the_numbers, 0, RENDERED);
    tcase_add_loop_test(tc, loras_give_the_numbers_streamed_on_far, 0, RENDERED);
    tcase_add_loop_test(tc, spellings_are_one, 0, sizeof spelling / sizeof *spelling);
    tcase_add_test(tc, hostile_loras);
    tcase_add_loop_test(tc, odd_loras, 0, sizeof odd / sizeof *odd);
    tcase_add_test(tc, blocks_are_decoded_and_added_to);
    tcase_add_test(tc, a_model_is_no_lora);
    tcase_add_test(tc, experts_by_name);
    tcase_add_test(tc, runs_have_their_own);
    tcase_add_test(tc, metadata_name_them);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
