/* The language of --attention and the schedules that follow from it: every key, every mistake with
 * its sentence, texts that read back, steps. */
#include "attention/policy.h"
#include "tests/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static ts_policy parse(const char *text)
{
    ts_err err = {0};
    ts_policy p;
    ck_assert_msg(ts_policy_parse(&err, text, &p) == TS_OK, "%s: %s", text, err.text);
    return p;
}

static void refuse(const char *text, const char *sentence)
{
    ts_err err = {0};
    ts_policy p;
    ck_assert_msg(ts_policy_parse(&err, text, &p) == TS_EUSAGE, "%s is taken", text);
    ck_assert_str_eq(err.text, sentence);
}

static bool same_set(const ts_set *a, const ts_set *b)
{
    return a->n == b->n && !memcmp(a->span, b->span, (size_t)a->n * sizeof *a->span);
}

static const char *const every[] = {"dense",
                                    "auto",
                                    "adaspa",
                                    "tile",
                                    "window",
                                    "radial",
                                    "pooled",
                                    "svg",
                                    "recycled",
                                    "random",
                                    "blocks:file=p.safetensors"};

START_TEST(names)
{
    for (int i = 0; i < TS_POLICIES; i++) {
        ts_policy p = parse(every[i]);
        ck_assert_int_eq(p.kind, i);
        ck_assert(!strncmp(every[i], ts_policy_name(p.kind), strlen(ts_policy_name(p.kind))));
        ck_assert(p.keep == 0.2 && p.k == 2 && p.seed == 0 &&
                  p.adaptive == (i != TS_ADASPA && i != TS_SVG && i != TS_RECYCLED) && !p.strict &&
                  p.by_error == (i == TS_ADASPA || i == TS_SVG) && !p.fresh &&
                  p.residual == (i == TS_ADASPA ? -1 : 0) &&
                  p.rest == (i == TS_ADASPA ? TS_REST_MEAN : TS_REST_NONE) && p.dense_steps == -1 &&
                  !p.search.n && !p.dense_layers.n && !p.said_min_tokens && !p.said_steps);
        ck_assert_int_gt(p.min_tokens, 0);
    }
}
END_TEST

START_TEST(all_keys)
{
    ts_policy p = parse("adaspa:keep=.125,order=tile,min-tokens=0,search-steps=30+10+11,adaptive="
                        "off,dense-layers=28-29+0+1,strict");
    ck_assert(p.keep == 0.125 && p.order == TS_TILE_ORDER && p.min_tokens == 0 &&
              p.said_min_tokens && p.said_steps && !p.adaptive && p.strict);
    ck_assert(same_set(&p.search, &(ts_set){{{10, 11}, {30, 30}}, 2}));
    ck_assert(same_set(&p.dense_layers, &(ts_set){{{0, 1}, {28, 29}}, 2}));
    ck_assert(ts_set_has(&p.dense_layers, 0) && ts_set_has(&p.dense_layers, 29) &&
              !ts_set_has(&p.dense_layers, 2) && !ts_set_has(&p.dense_layers, 27) &&
              !ts_set_has(&p.dense_layers, 30));
    ck_assert(p.mass == 0);
    p = parse("adaspa:mass=90%,rest=mean,min-tokens=0");
    ck_assert(p.mass == 0.9 && p.keep == 0.9 && !p.by_error && !p.adaptive && !p.fresh &&
              p.rest == TS_REST_MEAN);
    ck_assert(parse("adaspa:mass=1,search=mass,adaptive=off").mass == 1);
    p = parse("tile:k=3,order=raster,min-tokens=4096,dense-steps=0,dense-layers=7,strict=on");
    ck_assert(p.k == 3 && p.order == TS_RASTER && p.min_tokens == 4096 && p.dense_steps == 0 &&
              p.said_steps && p.strict && ts_set_has(&p.dense_layers, 7));
    ck_assert_str_eq(parse("tile:file=a b/c=d:e.json").file, "a b/c=d:e.json");
    p = parse("random:keep=1,seed=18446744073709551615,strict=off");
    ck_assert(p.keep == 1 && p.seed == UINT64_MAX && !p.strict);
    ck_assert(parse("window:keep=1e-3").keep == 1e-3 && parse("pooled:keep=+0.5").keep == 0.5);
    ck_assert(parse("window:keep=20%").keep == 0.2 && parse("window:keep=100%").keep == 1);
    p = parse("blocks:dense-steps=3,file=x,dense-layers=2,strict");
    ck_assert(p.dense_steps == 3 && !strcmp(p.file, "x") && p.strict);
    ck_assert(parse("adaspa:adaptive").adaptive);
}
END_TEST

#define KNOWN "dense, auto, adaspa, tile, window, radial, pooled, svg, recycled, random or blocks"
static const struct {
    const char *text, *sentence;
} mistakes[] = {
    {"", "attention : no such policy, expected " KNOWN},
    {"sparse", "attention sparse: no such policy, expected " KNOWN},
    {"Adaspa:keep=0.2",
     "attention Adaspa:keep=0.2: no such policy: did you mean adaspa:keep=0.2? (of " KNOWN ")"},
    {"adaspa keep=0.2",
     "attention adaspa keep=0.2: no such policy: did you mean adaspa:keep=0.2? (of " KNOWN ")"},
    {"pooled=20%",
     "attention pooled=20%: no such policy: did you mean pooled:keep=0.2? (of " KNOWN ")"},
    {"WINDOWS", "attention WINDOWS: no such policy: did you mean window? (of " KNOWN ")"},
    {"auto:keep=0.2", "attention auto: no key \"keep\", expected psnr"},
    {"auto:psnr=-1", "attention auto: psnr=-1, expected decibels from 0 to 100: how near to full "
                     "attention frames are to be"},
    {"auto:psnr=nan", "attention auto: psnr=nan, expected decibels from 0 to 100: how near to full "
                      "attention frames are to be"},
    {"window:0.5", "attention window: no key \"0.5\": did you mean window:keep=0.5?"},
    {"window:sparsity=0.8", "attention window: no key \"sparsity\": did you mean keep? (of keep, "
                            "order, min-tokens, dense-steps, rest, dense-layers or strict)"},
    {"dense:", "attention dense: a key must follow the colon"},
    {"dense:strict", "attention dense: takes no keys"},
    {"adaspa:", "attention adaspa: a key must follow the colon"},
    {"adaspa:,keep=0.2",
     "attention adaspa: no key \"\", expected keep, mass, order, min-tokens, "
     "search-steps, search, fresh, rest, residual, adaptive, dense-layers or strict"},
    {"adaspa:keep=0.2,",
     "attention adaspa: no key \"\", expected keep, mass, order, min-tokens, "
     "search-steps, search, fresh, rest, residual, adaptive, dense-layers or strict"},
    {"adaspa:kep=0.2",
     "attention adaspa: no key \"kep\": did you mean keep? (of keep, mass, order, min-tokens, "
     "search-steps, search, fresh, rest, residual, adaptive, dense-layers or strict)"},
    {"adaspa:keeps=0.2",
     "attention adaspa: no key \"keeps\": did you mean keep? (of keep, mass, order, min-tokens, "
     "search-steps, search, fresh, rest, residual, adaptive, dense-layers or strict)"},
    {"adaspa:dense-steps=3",
     "attention adaspa: no key \"dense-steps\", expected keep, mass, order, "
     "min-tokens, search-steps, search, fresh, rest, residual, adaptive, dense-layers or strict"},
    {"tile:keep=0.2", "attention tile: no key \"keep\", expected order, min-tokens, dense-steps, "
                      "rest, dense-layers, k, file or strict"},
    {"window:seed=1", "attention window: no key \"seed\", expected keep, order, min-tokens, "
                      "dense-steps, rest, dense-layers or strict"},
    {"pooled:adaptive=on", "attention pooled: no key \"adaptive\", expected keep, order, "
                           "min-tokens, dense-steps, rest, dense-layers or strict"},
    {"svg:dense-steps=3",
     "attention svg: no key \"dense-steps\", expected keep, order, min-tokens, "
     "search-steps, rest, residual, dense-layers or strict"},
    {"svg:rest=measured",
     "attention svg: rest=measured, expected none, mean, linear or (adaspa) measured"},
    {"random:search-steps=1", "attention random: no key \"search-steps\", expected keep, order, "
                              "min-tokens, dense-steps, rest, dense-layers, seed or strict"},
    {"blocks:file=x,order=tile", "attention blocks: no key \"order\", expected dense-steps, rest, "
                                 "dense-layers, file or strict"},
    {"blocks", "attention blocks: needs file=PLAN.safetensors, the plans of a run"},
    {"blocks:strict", "attention blocks: needs file=PLAN.safetensors, the plans of a run"},
    {"tile:k=2,file=x.json", "attention tile: k and file exclude each other"},
    {"window:keep=0.2,keep=0.3", "attention window: keep is given twice"},
    {"window:keep=0.2,strict,strict=off", "attention window: strict is given twice"},
    {"window:keep",
     "attention window: keep needs a value: more than 0, at most 1: the share of key blocks read"},
    {"tile:file", "attention tile: file needs a value: the name of a file, without a comma"},
    {"window:keep=",
     "attention window: keep=, expected more than 0, at most 1: the share of key blocks read"},
    {"window:keep=0",
     "attention window: keep=0, expected more than 0, at most 1: the share of key blocks read"},
    {"window:keep=-0.2",
     "attention window: keep=-0.2, expected more than 0, at most 1: the share of key blocks read"},
    {"window:keep=1.01",
     "attention window: keep=1.01, expected more than 0, at most 1: the share of key blocks read"},
    {"window:keep=nan",
     "attention window: keep=nan, expected more than 0, at most 1: the share of key blocks read"},
    {"window:keep=120%",
     "attention window: keep=120%, expected more than 0, at most 1: the share of key blocks read"},
    {"window:keep= 0.2",
     "attention window: keep= 0.2, expected more than 0, at most 1: the share of key blocks read"},
    {"window:order=zigzag", "attention window: order=zigzag, expected raster or tile"},
    {"window:min-tokens=-1", "attention window: min-tokens=-1, expected a whole number from 0"},
    {"window:min-tokens=1.5", "attention window: min-tokens=1.5, expected a whole number from 0"},
    {"window:dense-steps=x", "attention window: dense-steps=x, expected a whole number from 0"},
    {"window:dense-steps=99999999999999999999",
     "attention window: dense-steps=99999999999999999999, expected a whole number from 0"},
    {"adaspa:search-steps=0",
     "attention adaspa: search-steps=0, expected steps from 1, like 10+30"},
    {"adaspa:search-steps=", "attention adaspa: search-steps=, expected steps from 1, like 10+30"},
    {"adaspa:search-steps=10+",
     "attention adaspa: search-steps=10+, expected steps from 1, like 10+30"},
    {"adaspa:search-steps=10 30",
     "attention adaspa: search-steps=10 30, expected steps from 1, like 10+30"},
    {"adaspa:search-steps=30-10",
     "attention adaspa: search-steps=30-10, expected steps from 1, like 10+30"},
    {"adaspa:search-steps=1-",
     "attention adaspa: search-steps=1-, expected steps from 1, like 10+30"},
    {"adaspa:search-steps=1000001",
     "attention adaspa: search-steps=1000001, expected steps from 1, like 10+30"},
    {"adaspa:search=best", "attention adaspa: search=best, expected error or mass"},
    {"adaspa:fresh=-1",
     "attention adaspa: fresh=-1, expected 0, or the number of steps after which plans are ranked "
     "anew"},
    {"adaspa:residual=2",
     "attention adaspa: residual=2, expected 0, 1 or 64: the tokens over which what a search left "
     "out is averaged"},
    {"window:residual=1",
     "attention window: no key \"residual\", expected keep, order, min-tokens, "
     "dense-steps, rest, dense-layers or strict"},
    {"adaspa:rest=some",
     "attention adaspa: rest=some, expected none, mean, linear or (adaspa) measured"},
    {"pooled:rest=measured",
     "attention pooled: rest=measured, expected none, mean, linear or (adaspa) measured"},
    {"adaspa:search=error,adaptive", "attention adaspa: adaptive is a key of search=mass: with "
                                     "search=error every head has the same "
                                     "budget"},
    {"adaspa:fresh=2,search=mass",
     "attention adaspa: fresh=2 needs search=error: plans of masses last until the next search"},
    {"adaspa:rest=measured,adaptive=off",
     "attention adaspa: rest=measured needs search=error, whose searches have something to measure "
     "by"},
    {"adaspa:mass=1.5", "attention adaspa: mass=1.5, expected more than 0, at most 1: the share of "
                        "a row's softmax weight that is read"},
    {"adaspa:mass=90", "attention adaspa: mass=90, expected more than 0, at most 1: the share of "
                       "a row's softmax weight that is read"},
    {"adaspa:mass=0", "attention adaspa: mass=0, expected more than 0, at most 1: the share of a "
                      "row's softmax weight that is read"},
    {"adaspa:keep=0.2,mass=0.9",
     "attention adaspa: keep and mass exclude each other: a row reads a number of blocks, or as "
     "many as hold a share of its weight"},
    {"adaspa:mass=0.9,search=error",
     "attention adaspa: mass=0.9 needs search=mass: with search=error rankings are compared at "
     "equal numbers of blocks"},
    {"adaspa:mass=0.9,adaptive", "attention adaspa: adaptive=on needs keep, whose budgets heads "
                                 "share: with mass=0.9 there are none"},
    {"adaspa:mass=0.9,rest=measured",
     "attention adaspa: rest=measured needs search=error, whose searches have something to measure "
     "by"},
    {"pooled:mass=0.9", "attention pooled: no key \"mass\", expected keep, order, min-tokens, "
                        "dense-steps, rest, dense-layers or strict"},
    {"recycled:similar=2", "attention recycled: similar=2, expected 0 to 1: the mean cosine of "
                           "queries below which a layer searches again"},
    {"recycled:similar=nan", "attention recycled: similar=nan, expected 0 to 1: the mean cosine of "
                             "queries below which a layer searches again"},
    {"recycled:apart=0", "attention recycled: apart=0, expected a whole number from 1: steps from "
                         "one search to the next, at least"},
    {"recycled:searches=0", "attention recycled: searches=0, expected a whole number from 1: "
                            "searches of a layer and branch, at most"},
    {"recycled:rest=measured",
     "attention recycled: rest=measured, expected none, mean, linear or (adaspa) measured"},
    {"recycled:mass=0.9", "attention recycled: no key \"mass\", expected keep, order, min-tokens, "
                          "search-steps, similar, "
                          "apart, searches, rest, residual, dense-layers or strict"},
    {"adaspa:adaptive=yes", "attention adaspa: adaptive=yes, expected on or off"},
    {"adaspa:dense-layers=-1",
     "attention adaspa: dense-layers=-1, expected layers from 0, like 0+1+28-29"},
    {"adaspa:dense-layers=a",
     "attention adaspa: dense-layers=a, expected layers from 0, like 0+1+28-29"},
    {"tile:k=0", "attention tile: k=0, expected a whole number from 1: reference frames"},
    {"tile:k=2x", "attention tile: k=2x, expected a whole number from 1: reference frames"},
    {"random:seed=-1", "attention random: seed=-1, expected a whole number from 0"},
    {"random:seed=18446744073709551616",
     "attention random: seed=18446744073709551616, expected a whole number from 0"},
    {"tile:file=", "attention tile: file=, expected the name of a file, without a comma"},
    {"adaspa:strict=1", "attention adaspa: strict=1, expected on or off"},
};
enum { MISTAKES = sizeof mistakes / sizeof *mistakes };

START_TEST(mistake) { refuse(mistakes[_i].text, mistakes[_i].sentence); }
END_TEST

/* A name must fit the policy's own room. */
START_TEST(long_name)
{
    char text[2048], *at = text + sprintf(text, "blocks:file=");
    memset(at, 'x', 1023);
    at[1023] = 0;
    ck_assert_uint_eq(strlen(parse(text).file), 1023);
    memset(at, 'x', 1024);
    at[1024] = 0;
    ts_err err = {0};
    ts_policy p;
    ck_assert_int_eq(ts_policy_parse(&err, text, &p), TS_EUSAGE);
    memset(at, 'x', 2000 - (at - text));
    text[2000] = 0;
    ck_assert_int_eq(ts_policy_parse(&err, text, &p), TS_EUSAGE);
}
END_TEST

/* Against a plain set: random lists of numbers and ranges in any order. */
START_TEST(sets)
{
    unsigned draw = 1;
    for (int round = 0; round < 300; round++) {
        char text[512] = "adaspa:search-steps=", *at = text + strlen(text);
        bool has[64] = {false};
        int n = 1 + round % 20;
        for (int i = 0; i < n; i++) {
            draw = draw * 1664525u + 1013904223u;
            int first = 1 + (int)(draw >> 8) % 50, last = first + (int)(draw >> 20) % 4;
            at += sprintf(at, first == last ? "%s%d" : "%s%d-%d", i ? "+" : "", first, last);
            for (int x = first; x <= last; x++) has[x] = true;
        }
        ts_policy p = parse(text), again;
        for (int x = 0; x < 64; x++)
            ck_assert_msg(ts_set_has(&p.search, x) == has[x], "%s: %d", text, x);
        for (int i = 0; i + 1 < p.search.n; i++)
            ck_assert_int_gt(p.search.span[i + 1].first, p.search.span[i].last + 1);
        char *said = ts_policy_text(&p);
        again = parse(said);
        ck_assert_msg(same_set(&p.search, &again.search), "%s became %s", text, said);
        free(said);
    }
}
END_TEST

/* As many spans as there is room for, of two numbers each, in the text too; one more is refused;
 * numbers that touch need one span. */
START_TEST(many_spans)
{
    char text[1024], *at = text + sprintf(text, "adaspa:dense-layers=");
    for (int i = 0; i < TS_SPANS; i++) at += sprintf(at, "%s%d-%d", i ? "+" : "", 3 * i, 3 * i + 1);
    ts_policy p = parse(text);
    ck_assert_int_eq(p.dense_layers.n, TS_SPANS);
    char *said = ts_policy_text(&p);
    ts_policy again = parse(said);
    ck_assert(same_set(&p.dense_layers, &again.dense_layers));
    free(said);
    sprintf(at, "+%d", 3 * TS_SPANS);
    ts_err err = {0};
    ck_assert_int_eq(ts_policy_parse(&err, text, &p), TS_EUSAGE);
    at = text + sprintf(text, "adaspa:dense-layers=0");
    for (int i = 1; i < 100; i++) at += sprintf(at, "+%d", i);
    p = parse(text);
    ck_assert(p.dense_layers.n == 1 && p.dense_layers.span[0].last == 99);
}
END_TEST

static const struct {
    const char *text, *said;
    int steps;
} texts[] = {
    {"dense", "dense", 50},
    {"auto", "auto:psnr=30", 50},
    {"auto:psnr=27.5", "auto:psnr=27.5", 50},
    {"adaspa",
     "adaspa:keep=0.2,order=raster,min-tokens=256,search-steps=10+30,search=error,fresh=0,"
     "rest=mean",
     50},
    {"adaspa:residual=0",
     "adaspa:keep=0.2,order=raster,min-tokens=256,search-steps=10+30,search=error,fresh=1,"
     "rest=measured,residual=0",
     50},
    {"adaspa:residual=64,fresh=2",
     "adaspa:keep=0.2,order=raster,min-tokens=256,search-steps=10+30,search=error,fresh=2,"
     "rest=mean,residual=64",
     50},
    {"adaspa:search=mass,residual=1",
     "adaspa:keep=0.2,order=raster,min-tokens=256,search-steps=10+30,search=mass,rest=none,"
     "residual=1,adaptive=on",
     50},
    {"svg:residual=1", "svg:keep=0.2,order=raster,min-tokens=256,search-steps=10+30,residual=1",
     50},
    {"adaspa:order=tile,strict,min-tokens=0",
     "adaspa:keep=0.2,order=tile,min-tokens=0,search-steps=1,search=error,fresh=0,rest=mean,"
     "strict=on",
     4},
    {"recycled",
     "recycled:keep=0.2,order=raster,min-tokens=256,search-steps=10,similar=0.9,apart=2,searches=4",
     50},
    {"recycled:similar=0.95,searches=9,apart=1,search-steps=3+9,rest=mean",
     "recycled:keep=0.2,order=raster,min-tokens=256,search-steps=3+9,similar=0.95,apart=1,"
     "searches=9,rest=mean",
     50},
    {"adaspa:mass=0.95",
     "adaspa:mass=0.95,order=raster,min-tokens=256,search-steps=10+30,search=mass,rest=none", 50},
    {"adaspa:search-steps=3-5+7,adaptive=off,dense-layers=1+0",
     "adaspa:keep=0.2,order=raster,min-tokens=256,search-steps=3-5+7,search=mass,rest=none,"
     "adaptive=off,dense-layers=0+1",
     50},
    {"tile:order=raster", "tile:order=raster,min-tokens=256,dense-steps=10,k=2", 50},
    {"tile:file=a.json,order=raster", "tile:order=raster,min-tokens=256,dense-steps=1,file=a.json",
     4},
    {"window:keep=0.12345678901234568,order=tile",
     "window:keep=0.12345678901234568,order=tile,min-tokens=256,dense-steps=10", 50},
    {"pooled:keep=0.1,order=tile,dense-steps=7",
     "pooled:keep=0.1,order=tile,min-tokens=256,dense-steps=7", 50},
    {"random:order=raster,seed=9",
     "random:keep=0.2,order=raster,min-tokens=256,dense-steps=0,seed=9", 2},
    {"blocks:file=p.safetensors", "blocks:dense-steps=0,file=p.safetensors", 50},
    {"adaspa:fresh=0,rest=linear",
     "adaspa:keep=0.2,order=raster,min-tokens=256,search-steps=10+30,search=error,fresh=0,rest="
     "linear",
     50},
    {"adaspa:search=mass",
     "adaspa:keep=0.2,order=raster,min-tokens=256,search-steps=10+30,search=mass,rest=none,"
     "adaptive=on",
     50},
    {"adaspa:adaptive=on,rest=mean",
     "adaspa:keep=0.2,order=raster,min-tokens=256,search-steps=10+30,search=mass,rest=mean,"
     "adaptive=on",
     50},
    {"svg:keep=0.3", "svg:keep=0.3,order=raster,min-tokens=256,search-steps=10+30", 50},
    {"svg:rest=linear", "svg:keep=0.2,order=raster,min-tokens=256,search-steps=1,rest=linear", 4},
    {"pooled:rest=mean", "pooled:keep=0.2,order=raster,min-tokens=256,dense-steps=10,rest=mean",
     50},
};
enum { TEXTS = sizeof texts / sizeof *texts };

/* Said with every key, and read back to the same policy. */
START_TEST(text)
{
    ts_policy p = parse(texts[_i].text), q;
    char *open = ts_policy_text(&p);
    q = parse(open);
    /* what is not settled is not said */
    ck_assert(q.dense_steps == p.dense_steps && same_set(&q.search, &p.search));
    free(open);
    ts_policy_settle(&p, texts[_i].steps);
    char *said = ts_policy_text(&p);
    ck_assert_str_eq(said, texts[_i].said);
    q = parse(said);
    ck_assert(q.kind == p.kind && q.keep == p.keep && q.mass == p.mass && q.similar == p.similar &&
              q.apart == p.apart && q.searches == p.searches && q.order == p.order &&
              q.min_tokens == p.min_tokens && q.adaptive == p.adaptive && q.strict == p.strict &&
              q.seed == p.seed && q.k == p.k && q.by_error == p.by_error && q.fresh == p.fresh &&
              q.residual == p.residual && q.rest == p.rest && q.psnr == p.psnr);
    ck_assert(same_set(&q.search, &p.search) && same_set(&q.dense_layers, &p.dense_layers) &&
              !strcmp(q.file, p.file));
    ts_policy_settle(&q, 1); /* settled already: nothing moves */
    char *twice = ts_policy_text(&q);
    ck_assert_str_eq(twice, said);
    free(said);
    free(twice);
}
END_TEST

/* In whole numbers: floor(S / 5 + 1 / 2) = (2 S + 5) / 10, floor(3 S / 5 + 1 / 2) = (6 S + 5) /
 * 10. */
START_TEST(settle)
{
    for (int S = 1; S <= 60; S++) {
        int fifth = (2 * S + 5) / 10, first = fifth > 1 ? fifth : 1, later = (6 * S + 5) / 10;
        ts_policy p = parse("adaspa:search=mass");
        ts_policy_settle(&p, S);
        ck_assert_int_eq(p.search.n, later > first + 1 ? 2 : 1);
        for (int i = 0; i <= S + 1; i++)
            ck_assert_msg(ts_set_has(&p.search, i) == (i == first || (i == later && later > first)),
                          "%d of %d steps", i, S);
        p = parse(
            "adaspa"); /* by error: a search is a dense call, in short runs the first is enough */
        ts_policy_settle(&p, S);
        ck_assert_int_eq(p.search.n, S >= 10 ? 2 : 1);
        ck_assert_int_eq(p.search.span[0].first, first);
        p = parse("adaspa:search-steps=2");
        ts_policy_settle(&p, S);
        ck_assert(same_set(&p.search, &(ts_set){{{2, 2}}, 1}));
        p = parse("svg");
        ts_policy_settle(&p, S);
        ck_assert(p.search.n == (S >= 10 ? 2 : 1) && p.search.span[0].first == first);
        for (int k = TS_TILE; k < TS_POLICIES; k++) {
            if (k == TS_SVG || k == TS_RECYCLED) continue;
            p = parse(every[k]);
            ts_policy_settle(&p, S);
            ck_assert_int_eq(p.dense_steps, k == TS_BLOCKS ? 0 : fifth);
            ck_assert_int_eq(p.search.n, 0);
        }
    }
}
END_TEST

/* Four steps: the first is dense and searches, the second searches again and is sparse. */
START_TEST(four_steps)
{
    ts_policy p = parse("adaspa:search=mass");
    ts_policy_settle(&p, 4);
    ck_assert_int_eq(ts_policy_decide(&p, 1, 0, false), TS_DO_SEARCH);
    ck_assert_int_eq(ts_policy_decide(&p, 2, 0, true), TS_DO_SEARCH_AGAIN);
    ck_assert_int_eq(ts_policy_decide(&p, 3, 0, true), TS_DO_SPARSE);
    ck_assert_int_eq(ts_policy_decide(&p, 4, 0, true), TS_DO_SPARSE);
}
END_TEST

/* By error, and where residuals are kept, every search is dense, and so has an output to measure
 * by.
 */
START_TEST(searches_by_error)
{
    static const char *const of[] = {"adaspa", "adaspa:search=mass,residual=1"};
    for (int i = 0; i < 2; i++) {
        ts_policy p = parse(of[i]);
        ts_policy_settle(&p, 50);
        for (int step = 1; step <= 50; step++)
            ck_assert_int_eq(ts_policy_decide(&p, step, 0, step > 10), step < 10 ? TS_DO_DENSE
                                                                       : step == 10 || step == 30
                                                                           ? TS_DO_SEARCH
                                                                           : TS_DO_SPARSE);
    }
}
END_TEST

/* recycled: `have` is false where a search is due. */
START_TEST(searches_when_due)
{
    ts_policy p = parse("recycled");
    ts_policy_settle(&p, 50);
    for (int step = 1; step <= 50; step++) {
        ts_do due = step < 10 ? TS_DO_DENSE : TS_DO_SEARCH;
        ck_assert_int_eq(ts_policy_decide(&p, step, 0, false), due);
        ck_assert_int_eq(ts_policy_decide(&p, step, 0, true),
                         step == 10 ? TS_DO_SEARCH : TS_DO_SPARSE);
        ck_assert(ts_policy_searches(&p, step) == (step == 10));
    }
}
END_TEST

START_TEST(fifty_steps)
{
    ts_policy p = parse("adaspa:dense-layers=3,search=mass");
    ts_policy_settle(&p, 50);
    for (int step = 1; step <= 50; step++) {
        ck_assert_int_eq(ts_policy_decide(&p, step, 0, step > 10), step < 10    ? TS_DO_DENSE
                                                                   : step == 10 ? TS_DO_SEARCH
                                                                   : step == 30 ? TS_DO_SEARCH_AGAIN
                                                                                : TS_DO_SPARSE);
        ck_assert_int_eq(ts_policy_decide(&p, step, 3, false), TS_DO_DENSE);
        /* A second expert that starts with step 26: its layers have no plan, whatever the schedule
         * says. */
        if (step >= 26)
            ck_assert_int_eq(ts_policy_decide(&p, step, 40, step > 26), step == 26 ? TS_DO_SEARCH
                                                                        : step == 30
                                                                            ? TS_DO_SEARCH_AGAIN
                                                                            : TS_DO_SPARSE);
    }
    /* at a search step as well */
    ck_assert_int_eq(ts_policy_decide(&p, 30, 41, false), TS_DO_SEARCH);
}
END_TEST

START_TEST(fixed_policies)
{
    for (int k = TS_TILE; k < TS_POLICIES; k++) {
        if (k == TS_SVG || k == TS_RECYCLED) continue;
        char with[128];
        snprintf(with, sizeof with, "%s%cdense-steps=3,dense-layers=1", every[k],
                 strchr(every[k], ':') ? ',' : ':');
        ts_policy p = parse(with);
        ts_policy_settle(&p, 10);
        for (int step = 1; step <= 10; step++) {
            ts_do later = k == TS_POOLED ? TS_DO_POOL : TS_DO_SPARSE;
            ck_assert_int_eq(ts_policy_decide(&p, step, 0, true), step <= 3 ? TS_DO_DENSE : later);
            ck_assert_int_eq(ts_policy_decide(&p, step, 1, false), TS_DO_DENSE);
        }
    }
    ts_policy p = parse("dense");
    ts_policy_settle(&p, 10);
    ck_assert_int_eq(ts_policy_decide(&p, 7, 0, false), TS_DO_DENSE);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("policy");
    TCase *t = tcase_create("policy");
    tcase_add_test(t, names);
    tcase_add_test(t, all_keys);
    tcase_add_loop_test(t, mistake, 0, MISTAKES);
    tcase_add_test(t, long_name);
    tcase_add_test(t, sets);
    tcase_add_test(t, many_spans);
    tcase_add_loop_test(t, text, 0, TEXTS);
    tcase_add_test(t, settle);
    tcase_add_test(t, four_steps);
    tcase_add_test(t, searches_by_error);
    tcase_add_test(t, searches_when_due);
    tcase_add_test(t, fifty_steps);
    tcase_add_test(t, fixed_policies);
    suite_add_tcase(s, t);
    return testing_main(s);
}
