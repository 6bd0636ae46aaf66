/* Sparse attention through the program: what is written, drawn, said and refused, and with which
 * exit code; tiles by layer from the search to a clip. */
#include "tests/cli/program.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SMALL "--size 64x64 --frames 29 --steps 4 --scale 1 --quiet " /* 512 tokens */
static char *tmp;

static const program_result *generate(const char *flags, const char *attention)
{
    return program_run("generate 'a panda' -o %s/a.mp4 --overwrite %s --attention %s", tmp, flags,
                       attention);
}

static void refused_at(const char *size, const char *attention, int code, const char *sentence)
{
    const program_result *r = generate(size, attention);
    program_expect(r, code);
    ck_assert_msg(strstr(r->err, sentence) != NULL, "%s: \"%s\", expected \"%s\"", attention,
                  r->err, sentence);
}
static void refused(const char *attention, int code, const char *sentence)
{
    refused_at(SMALL, attention, code, sentence);
}

static ts_bag *load(const char *name)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", tmp, name);
    return testing_bag(path);
}

static int named(const ts_bag *b, const char *prefix)
{
    int n = 0;
    for (int i = 0; i < ts_bag_count(b); i++)
        n += !strncmp(ts_bag_name(b, i), prefix, strlen(prefix));
    return n;
}

/* The default model: 8 layers, 2 branches. Scores come only when they are asked for. */
START_TEST(plans)
{
    char flags[512];
    snprintf(flags, sizeof flags, SMALL "--save-plan %s/p.safetensors", tmp);
    program_expect(generate(flags, "adaspa:min-tokens=0"), 0);
    ts_bag *b = load("p.safetensors");
    ck_assert(named(b, "plan.cond.") == 16 && named(b, "plan.uncond.") == 16 &&
              named(b, "wsum.") == 0 && named(b, "recall.") == 0);
    ck_assert_str_eq(ts_bag_meta_get(b, "tokens"), "512");
    ck_assert_str_eq(ts_bag_meta_get(b, "grid"), "8x8x8");
    ck_assert_str_eq(ts_bag_meta_get(b, "model"), "default");
    ck_assert_ptr_nonnull(strstr(ts_bag_meta_get(b, "attention"), "adaspa:keep=0.2,order="));
    ts_bag_free(b);
    snprintf(flags, sizeof flags, SMALL "--save-plan %s/s.safetensors --save-plan-scores", tmp);
    program_expect(generate(flags, "adaspa:min-tokens=0,search=mass"), 0);
    b = load("s.safetensors");
    /* four steps: two searches */
    ck_assert(named(b, "plan.") == 32 && named(b, "wsum.cond.") == 16 &&
              named(b, "recall.uncond.") == 16);
    ts_bag_free(b);
    /* a layer that is always dense has none; --quiet says nothing */
    snprintf(flags, sizeof flags, SMALL "--save-plan %s/some.safetensors", tmp);
    const program_result *r = generate(flags, "window:min-tokens=0,dense-layers=1+3");
    program_expect(r, 0);
    ck_assert_str_eq(r->err, "");
    b = load("some.safetensors");
    ck_assert(named(b, "plan.cond.0.") == 2 && named(b, "plan.uncond.5.") == 2 &&
              !named(b, "plan.cond.1.") && !named(b, "plan.uncond.3."));
    ts_bag_free(b);
    snprintf(flags, sizeof flags, SMALL "--save-plan-scores");
    program_expect(generate(flags, "adaspa:min-tokens=0"), 2);
}
END_TEST

/* A picture a layer and branch, with a second one where a search has seen weights. */
START_TEST(pictures)
{
    char flags[512], path[4200];
    snprintf(flags, sizeof flags, SMALL "--plan-image %s/drawn --save-plan %s/drawn.safetensors",
             tmp, tmp);
    program_expect(generate(flags, "adaspa:min-tokens=0"), 0);
    /* one search of eight layers is enough for that */
    ts_bag *b = load("drawn.safetensors");
    ck_assert(named(b, "wsum.cond.") == 8 && named(b, "wsum.uncond.") == 8 && !named(b, "recall."));
    ts_bag_free(b);
    for (int i = 0; i < 32; i++) {
        snprintf(path, sizeof path, "%s/drawn/%s-%s-%02d.png", tmp, i % 2 ? "plan" : "recall",
                 i / 2 % 2 ? "cond" : "uncond", i / 4);
        size_t size;
        char *png = program_slurp(path, &size);
        ck_assert_msg(size > 100 && !memcmp(png + 1, "PNG", 3), "%s", path);
        free(png);
    }
    snprintf(path, sizeof path, "%s/drawn", tmp);
    ck_assert_int_eq(program_files(path), 32);
    snprintf(flags, sizeof flags, SMALL "--plan-image %s/fixed", tmp);
    program_expect(generate(flags, "window:min-tokens=0"), 0);
    snprintf(path, sizeof path, "%s/fixed", tmp);
    ck_assert_int_eq(program_files(path), 16);
}
END_TEST

START_TEST(replayed)
{
    char flags[512], with[4300];
    snprintf(flags, sizeof flags, SMALL "--save-plan %s/w.safetensors --save-latents %s/w.latents",
             tmp, tmp);
    program_expect(generate(flags, "window:keep=0.4,min-tokens=0"), 0);
    snprintf(with, sizeof with, "blocks:file=%s/w.safetensors,dense-steps=1", tmp);
    snprintf(flags, sizeof flags, SMALL "--save-latents %s/b.latents", tmp);
    program_expect(generate(flags, with), 0);
    ts_bag *a = load("w.latents"), *b = load("b.latents");
    long n, m;
    const float *x = testing_f32(a, "latents", &n), *y = testing_f32(b, "latents", &m);
    ck_assert(n == m && !memcmp(x, y, (size_t)n * sizeof *x));
    ts_bag_free(a);
    ts_bag_free(b);
    const program_result *r = program_run("generate 'a panda' -o %s/a.mp4 --overwrite --size 80x64 "
                                          "--frames 29 --steps 4 --quiet --attention %s",
                                          tmp, with);
    program_expect(r, 3);
    ck_assert_msg(strstr(r->err, "w.safetensors: made for 512 tokens, this run has 640") != NULL,
                  "%s", r->err);
}
END_TEST

START_TEST(exit_codes)
{
    refused("adaspa:keep=2", 2, "attention adaspa: keep=2, expected more than 0, at most 1");
    refused("adaspa:residual=2", 2, "attention adaspa: residual=2, expected 0, 1 or 64");
    refused_at("--memory 60M ", "adaspa", 4, "keep less of what searches leave out (residual=64");
    refused_at("--memory 60M ", "adaspa:residual=0", 4, "ask for a smaller size or fewer frames\n");
    refused("adaspa:mass=1.5", 2, "attention adaspa: mass=1.5, expected more than 0, at most 1");
    refused("adaspa:mass=90", 2, "attention adaspa: mass=90, expected more than 0, at most 1");
    refused("adaspa:mass=0.9,keep=0.2", 2, "attention adaspa: keep and mass exclude each other");
    refused("recycled:similar=2", 2, "attention recycled: similar=2, expected 0 to 1");
    refused("spiral", 2, "attention spiral: no such policy");
    refused("adaspa:dense-layers=8,min-tokens=0", 2,
            "attention adaspa: dense-layers has layer 8, the model has 0 to 7");
    refused_at("--size 64x64 --frames 9 --steps 4 --scale 1 --quiet ", "adaspa:strict", 1,
               "attention adaspa: 192 tokens are fewer than min-tokens=");
    refused("tile:k=8,min-tokens=0,strict", 1, ", and strict refuses that");
    char flags[4400], sentence[4400];
    snprintf(flags, sizeof flags, SMALL "--save-plan %s/same --save-latents %s/same", tmp, tmp);
    snprintf(sentence, sizeof sentence, "--save-latents and --save-plan: both name %s/same", tmp);
    refused_at(flags, "adaspa", 2, sentence);
    snprintf(flags, sizeof flags, SMALL "--save-plan %s/p.st", tmp);
    refused_at(flags, "dense", 2, "--save-plan: attention dense makes no plan");
    refused_at(flags, "window:min-tokens=0,dense-layers=0-7", 1, "made no plan");
    refused_at(SMALL "--plan-image Makefile", "adaspa", 2,
               "--plan-image: Makefile is not a folder");
    refused("blocks:file=/nowhere.safetensors", 3, "/nowhere.safetensors");
    refused("blocks:file=tests/fixtures/wan21-tile/noise.safetensors", 3,
            "noise.safetensors: no plan file of tessera, it does not say its tokens");
    refused("tile:file=/nowhere.json,min-tokens=0", 3, "/nowhere.json");
    refused("tile:file=tests/fixtures/wan21-tile/case.json,min-tokens=0", 3,
            "case.json: expected {\"frames\": F, \"layers\": [k, ...]}");
}
END_TEST

/* A fallback is a warning and a line of the report, and the clip is made. */
START_TEST(said)
{
    const program_result *r = program_run("generate 'a panda' -o %s/a.mp4 --overwrite --size 64x64 "
                                          "--frames 9 --steps 4 --attention adaspa",
                                          tmp);
    program_expect(r, 0);
    ck_assert_msg(strstr(r->err, "attention adaspa: 192 tokens are fewer than min-tokens=256") !=
                      NULL,
                  "%s", r->err);
    r = program_run("generate 'a panda' -o %s/a.mp4 --overwrite --size 64x64 --frames 29 --steps 4 "
                    "--attention adaspa:min-tokens=0,search=mass",
                    tmp);
    program_expect(r, 0);
    const char *const lines[] = {
        "attention adaspa:keep=0.2",
        "calls     0 dense, 16 dense with a search, 48 sparse (16 of them after a new search)",
        "kept      ",
        "recall    ",
        "(32 plans)",
        "time      ",
        "gain      ",
        "  run       denoising took ",
        " s had every call been dense: "};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        ck_assert_msg(strstr(r->err, lines[i]) != NULL, "no \"%s\" in %s", lines[i], r->err);
    /* by error: what the heads were given */
    r = program_run("generate 'a panda' -o %s/a.mp4 --overwrite --size 64x64 --frames 29 --steps 4 "
                    "--attention adaspa:min-tokens=0,rest=measured",
                    tmp);
    program_expect(r, 0);
    const char *heads = strstr(r->err, "  heads     ");
    ck_assert_msg(heads && strstr(heads, "fresh") && strstr(heads, "; for the rest ") &&
                      strstr(heads, "% nothing"),
                  "%s", r->err);
}
END_TEST

/* What measurements recommend: said in a line, recorded in full, and done again by --from without
 * looking anything up. */
START_TEST(recommended)
{
    char flags[512], *first, *again;
    size_t n, m;
    /* at 128x128: what x264 writes of other sizes depends on what is in the heap */
    snprintf(flags, sizeof flags, "--size 64x64 --frames 57 --steps 5 --scale 2");
    const program_result *r = generate(flags, "auto:psnr=10");
    program_expect(r, 0);
    const char *line = strstr(r->err, "attention auto: ");
    ck_assert_msg(line && strstr(line, ":keep=") && strstr(line, "times as fast as dense; PSNR"),
                  "%s", r->err);
    ck_assert_msg(!strstr(line + 1, "attention auto: "), "%s", r->err);
    r = program_run("info %s/a.mp4 --json", tmp);
    const char *recorded = strstr(r->out, "\"attention\":\"");
    ck_assert_msg(recorded && !strstr(r->out, "auto:") && strstr(recorded, "min-tokens="), "%s",
                  r->out);
    snprintf(flags, sizeof flags, "%s/a.mp4", tmp);
    first = program_slurp(flags, &n);
    r = program_run("generate --from %s/a.mp4 -o %s/a2.mp4 --overwrite", tmp, tmp);
    program_expect(r, 0);
    ck_assert_msg(!strstr(r->err, "attention auto"), "%s", r->err);
    snprintf(flags, sizeof flags, "%s/a2.mp4", tmp);
    again = program_slurp(flags, &m);
    ck_assert(n == m && !memcmp(first, again, n));
    free(first);
    free(again);
    /* before a run, as an event, of few tokens, and of rows */
    r = generate("--size 64x64 --frames 57 --dry-run", "auto:psnr=10");
    program_expect(r, 0);
    ck_assert_msg(strstr(r->out, "attention    ") && strstr(r->out, "times as fast"), "%s", r->out);
    r = generate("--size 64x64 --frames 9 --steps 2 --progress json", "auto");
    program_expect(r, 0);
    ck_assert_msg(strstr(r->err, "{\"event\":\"advice\",\"text\":\"attention auto: dense: 192 "
                                 "tokens are too few to gain\"}") != NULL,
                  "%s", r->err);
    r = program_shell("echo 'a fox' >%s/rows.txt && $TESSERA batch %s/rows.txt -o %s/rows --frames "
                      "57 --steps 5 --attention auto:psnr=10",
                      tmp, tmp, tmp);
    program_expect(r, 0);
    ck_assert_msg(strstr(r->err, "attention auto: ") != NULL, "%s", r->err);
    r = program_run("info %s/rows/*.mp4 --json", tmp);
    ck_assert_msg(strstr(r->out, ":keep=") && !strstr(r->out, "auto:"), "%s", r->out);
    snprintf(flags, sizeof flags, "--size 64x64 --frames 9 --steps 2 --save-plan %s/none.st", tmp);
    refused_at(
        flags, "auto", 2,
        "--save-plan: a dense run makes no plan, and this is one: attention auto: dense: 192 "
        "tokens are too few to gain");
    refused("auto:psnr=200", 2, "attention auto: psnr=200, expected decibels from 0 to 100");
}
END_TEST

/* Step caching is reported, recorded, and done again by --from. */
START_TEST(step_caching)
{
    const program_result *r = program_run(
        "generate 'a panda' -o %s/cache.mp4 --overwrite --size 64x64 --frames 5 --steps 8 "
        "--cache-steps easycache:threshold=1000",
        tmp);
    program_expect(r, 0);
    ck_assert_ptr_nonnull(strstr(r->err, "cache easycache:threshold=1000,first=3,last=1"));
    ck_assert_ptr_nonnull(strstr(r->err, "4 computed, 4 reused"));
    r = program_run("generate --from %s/cache.mp4 -o %s/cache2.mp4 --overwrite", tmp, tmp);
    program_expect(r, 0);
    ck_assert_ptr_nonnull(strstr(r->err, "4 computed, 4 reused"));
    r = program_run("generate x --cache-steps easycache:last=x");
    program_expect(r, 2);
    ck_assert_ptr_nonnull(
        strstr(r->err, "cache-steps easycache: last=x, expected a whole number from 0"));
}
END_TEST

/* ---- search-tile ---- */
START_TEST(tiles)
{
    const program_result *r = program_run(
        "search-tile 'a panda' 'a lion' -o %s/t.json "
        "--size 64x64 --frames 29 --steps 4 --loss 0.1 --samples 2",
        tmp);
    char want[4200], with[4300];
    program_expect(r, 0);
    snprintf(want, sizeof want, "%s/t.json\n", tmp);
    ck_assert_str_eq(r->out, want);
    ck_assert_msg(strstr(r->err, " of 8 layers are sparse, ") != NULL, "%s", r->err);
    snprintf(with, sizeof with, "tile:file=%s/t.json,min-tokens=0", tmp);
    program_expect(generate(SMALL, with), 0);
    r = program_run("generate 'a panda' -o %s/a.mp4 --overwrite --size 64x64 --frames 25 --steps 4 "
                    "--quiet --attention %s",
                    tmp, with);
    program_expect(r, 3);
    ck_assert_msg(strstr(r->err, "t.json: made for 8 latent frames, this clip has 7") != NULL, "%s",
                  r->err);
    r = program_run("search-tile 'a panda' -o %s/t.json --size 64x64 --frames 29 --steps 4", tmp);
    program_expect(r, 2);
    ck_assert_msg(strstr(r->err, "t.json exists: --overwrite replaces it") != NULL, "%s", r->err);
}
END_TEST

/* Stopped while it measures: nothing is left behind. */
START_TEST(tiles_stopped)
{
    char log[4200], file[4200];
    snprintf(log, sizeof log, "%s/said", tmp);
    snprintf(file, sizeof file, "%s/stopped.json", tmp);
    pid_t p = program_start(log,
                            "search-tile 'a panda' -o %s --size 128x128 --frames 29 --steps 3 "
                            "--samples 3 --threads 1 --progress json",
                            file);
    ck_assert(program_says(p, log, "\"bench\""));
    kill(p, SIGTERM);
    ck_assert_int_eq(program_wait(p), 143);
    ck_assert(access(file, F_OK) != 0);
}
END_TEST

START_TEST(tiles_refused)
{
    static const struct {
        const char *args;
        int code;
        const char *sentence;
    } wrong[] = {
        {"", 2, "search-tile: a prompt is missing"},
        {"x --ks 0", 2, "--ks"},
        {"x --ks 7 --frames 29", 2,
         "search-tile: k of 7: of 8 latent frames 1 to 6 leave anything out"},
        {"x --loss -1", 2, "--loss"},
        {"x --samples 0", 2, "--samples"},
        {"x --frames 1", 2, "a clip of 1 latent frame"},
        {"x --attention adaspa", 2, "--attention"},
        {"x --model /nowhere", 3, "/nowhere"},
        {"a b c d e f g h i", 2, "search-tile: 9 prompts, expected 1 to 8"},
        {"x -o /nowhere/t.json", 4, "/nowhere"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const program_result *r = program_run("search-tile --quiet -o %s/u.json %s", tmp,
                                              wrong[i].args);
        program_expect(r, wrong[i].code);
        ck_assert_msg(strstr(r->err, wrong[i].sentence) != NULL, "%s: %s", wrong[i].args, r->err);
        ck_assert_str_eq(r->out, "");
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("sparse flags");
    TCase *t = tcase_create("sparse flags");
    tmp = testing_tmp();
    tcase_add_test(t, plans);
    tcase_add_test(t, pictures);
    tcase_add_test(t, replayed);
    tcase_add_test(t, exit_codes);
    tcase_add_test(t, said);
    tcase_add_test(t, recommended);
    tcase_add_test(t, step_caching);
    tcase_add_test(t, tiles);
    tcase_add_test(t, tiles_stopped);
    tcase_add_test(t, tiles_refused);
    suite_add_tcase(s, t);
    return testing_main(s);
}
