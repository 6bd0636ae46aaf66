/* The search for attention tiles: prompts are rendered with full attention, latents of a few steps
 * are remembered, and one evaluation of all of them together, layer by layer, finds the sparsest
 * tile that each layer bears (layer_tiles.h). Layers of two experts are measured at steps
 * of their own. */
#include "backend/number.h"
#include "sampler/latents.h"
#include "sampler/layer_tiles.h"
#include "sampler/run.h"
#include "sampler/tessera-bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PROMPTS = 8, SAMPLES = 64, KS = 32 };

typedef struct {
    ts_model *m;
    const ts_tile_options *o;
    ts_policy policy; /* tile, without dense steps */
    ts_run *run[PROMPTS];
    int step[SAMPLES], n; /* measured at, from 0, ascending */
    int first[3];         /* of each expert among them; the end */
    int k[KS], ks, layers;
    int *chosen;           /* [layers] */
    double *error, *share; /* [layers, ks], [layers] */
    int expert;            /* being evaluated */
} search;

/* ---- what is asked for ---- */
static int by_number(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

/* 1, 2, 3, 4 reference frames of 8, scaled; those that leave something out: with k = F - 1 every
 * pair of frames is read. */
static ts_status set_candidates(search *s, int F)
{
    ts_err *err = &s->m->ctx->err;
    if (F < 3)
        return ts_fail(err, TS_EUSAGE,
                       "search-tile: a clip of %d latent frame%s: every tile reads all of it, ask "
                       "for more frames",
                       F, F == 1 ? "" : "s");
    if (s->o->ks > KS)
        return ts_fail(err, TS_EUSAGE, "search-tile: %d candidates, expected at most %d", s->o->ks,
                       KS);
    int wanted[KS], n = s->o->ks ? s->o->ks : 4;
    for (int i = 0; i < n; i++) {
        wanted[i] = s->o->ks ? s->o->k[i] : (int)lround((i + 1) * F / 8.0);
        if (!s->o->ks) wanted[i] = wanted[i] < 1 ? 1 : wanted[i] > F - 2 ? F - 2 : wanted[i];
        if (wanted[i] < 1 || wanted[i] > F - 2)
            return ts_fail(err, TS_EUSAGE,
                           "search-tile: k of %d: of %d latent frames 1 to %d leave anything out",
                           wanted[i], F, F - 2);
    }
    qsort(wanted, (size_t)n, sizeof *wanted, by_number);
    for (int i = 0; i < n; i++)
        if (!i || wanted[i] != wanted[i - 1]) s->k[s->ks++] = wanted[i];
    return TS_OK;
}

/* The middles of `count` equal parts of the steps from..end (from 0). */
static void spread_steps(search *s, int from, int end, int count)
{
    if (count > end - from) count = end - from;
    for (int i = 0; i < count && s->n < SAMPLES; i++)
        s->step[s->n++] = from + (2 * i + 1) * (end - from) / (2 * count);
}

/* Where a tile policy will be sparse: after its dense steps, unless an expert has nothing but
 * those. */
static void set_steps(search *s)
{
    const ts_run *r = s->run[0];
    ts_policy p = {.kind = TS_TILE, .dense_steps = -1};
    ts_policy_settle(&p, r->q.steps);
    const int from[3] = {0, r->low, r->q.steps};
    for (int e = 0; e < 2; e++) {
        int start = from[e] > p.dense_steps || p.dense_steps >= from[e + 1] ? from[e]
                                                                            : p.dense_steps;
        s->first[e] = s->n;
        spread_steps(s, start, from[e + 1], s->o->samples);
    }
    s->first[2] = s->n;
}

/* ---- trajectories ---- */
static ts_status open_runs(search *s, const ts_request *q)
{
    ts_status st = TS_OK;
    ts_request one;
    TRY(ts_request_read(s->m, q, &one));
    for (int i = 0; i < s->o->prompts; i++) {
        ts_estimate e;
        one.prompt = s->o->prompt[i];
        one.attention = "dense";
        one.state = NULL;
        one.keep_plans = one.keep_scores = one.keep_last_scores = false;
        TRY(ts_run_open(s->m, &one, &s->run[i], &e));
    }
done:
    return st;
}

/* Latents at the steps stay with the run; those after the last step are dropped. */
static ts_status record_trajectory(search *s, ts_run *r)
{
    ts_status st;
    TRY(ts_run_record(r, s->step, s->n));
    TRY(ts_run_encode(r));
    TRY(ts_run_denoise(r, NULL));
done:
    return st;
}

/* ---- the evaluation ---- */
typedef struct {
    ts_tensor x[PROMPTS * SAMPLES * TS_BRANCHES], v[PROMPTS * SAMPLES * TS_BRANCHES];
    ts_eval eval[PROMPTS * SAMPLES * TS_BRANCHES];
    float t[SAMPLES];
    int n;
} batch;

/* Every prompt at every step of the expert, with and without guidance as the run has it. */
static void list_samples(search *s, batch *b)
{
    const ts_run *r = s->run[0];
    ts_tensor v = ts_latents_take(&s->m->ctx->arena, r->latent, s->m->dit_info.out_channels);
    for (int i = s->first[s->expert]; i < s->first[s->expert + 1]; i++) {
        int row = i - s->first[s->expert], branches = ts_run_branches(r, s->step[i]);
        b->t[row] = r->schedule.t[s->step[i]];
        for (int p = 0; p < s->o->prompts; p++)
            for (int g = 0; g < branches; g++, b->n++) {
                b->x[b->n] = ts_run_recorded(s->run[p], i);
                b->v[b->n] = v;
                b->eval[b->n] = (ts_eval){.trow = row, .slot = p * r->branches + g};
            }
    }
}

static ts_status evaluate_expert(ts_ctx *ctx, void *user)
{
    ts_status st = TS_OK;
    search *s = user;
    ts_attn attn = {0};
    ts_layer_tiles t = {
        .k = s->k, .ks = s->ks, .loss = s->o->loss, .chosen = s->chosen, .error = s->error};
    const ts_bag *text[PROMPTS * TS_BRANCHES];
    ts_dit *dit = s->m->dit[s->expert];
    int texts = 0, rows[PROMPTS * TS_BRANCHES];
    batch *b = calloc(1, sizeof *b);
    if (!b) TRY(ts_fail(&ctx->err, TS_EMEMORY, "no memory for an evaluation"));
    for (int p = 0; p < s->o->prompts; p++)
        for (int g = 0; g < s->run[p]->branches; g++) text[texts++] = s->run[p]->states[g];
    ts_dit_inputs in = ts_run_inputs(s->run[0], text, texts);
    for (int i = 0; i < texts; i++) rows[i] = (int)ts_dit_text_rows(dit, &in, i);
    TRY(ts_attn_open(&attn, ctx,
                     &(ts_attn_options){.policy = s->policy,
                                        .grid = s->run[0]->grid,
                                        .layers = s->layers,
                                        .heads = s->m->dit_info.heads,
                                        .width = s->m->dit_info.head_dim,
                                        .slots = texts,
                                        .text = rows}));
    TRY(ts_layer_tiles_open(&t, &attn));
    ts_dit_watch(dit, &t.hook);
    list_samples(s, b);
    TRY(ts_dit_prepare(dit, &attn.grid, &in, b->t, s->first[s->expert + 1] - s->first[s->expert]));
    ts_progress(ctx, (ts_event){.phase = TS_PHASE_BENCH, .steps = 1});
    TRY(ts_dit_step(dit, &attn, (ts_event){.phase = TS_PHASE_BENCH, .step = 1, .steps = 1}, b->n,
                    b->eval, b->x, b->v));
    for (int l = 0; l < s->layers; l++)
        for (int i = 0; i <= t.ks; i++)
            if (s->chosen[l] == (i < t.ks ? t.k[i] : 0)) s->share[l] = t.plan[i].share;
done:
    ts_dit_watch(dit, NULL);
    ts_layer_tiles_close(&t);
    ts_attn_close(&attn);
    free(b);
    return st;
}

/* Sized by running it on a counting device; all samples are in memory at once. */
static ts_status measure_expert(search *s)
{
    ts_status st = TS_OK;
    ts_ctx *ctx = s->m->ctx;
    size_t size, largest, recorded;
    char need[TS_NUMBER_TEXT], may[TS_NUMBER_TEXT];
    double start = ts_seconds();
    ts_weights *w = ts_dit_weights(s->m->dit[s->expert]);
    TRY(ts_count_phase(ctx, evaluate_expert, s, &size));
    ts_weights_packed(w, &largest);
    recorded = (size_t)s->o->prompts * (size_t)s->n * ts_latents_count(s->run[0]->latent) *
               sizeof(float);
    if (size + largest + recorded > ctx->memory)
        TRY(ts_fail(&ctx->err, TS_EMEMORY,
                    "comparing %d steps of %d prompts needs %s, %s may be used: ask for "
                    "fewer samples, prompts or frames",
                    s->first[s->expert + 1] - s->first[s->expert], s->o->prompts,
                    ts_bytes_text((double)(size + largest + recorded), need),
                    ts_bytes_text((double)ctx->memory, may)));
    ts_weights_budget(w, ts_room_beside(ctx, size + recorded));
    TRY(ts_arena_open(&ctx->arena, ctx->dev, size));
    st = evaluate_expert(ctx, s);
    ts_arena_close(&ctx->arena);
    if (!st)
        ts_progress(ctx, (ts_event){.phase = TS_PHASE_BENCH,
                                    .step = 1,
                                    .steps = 1,
                                    .seconds = ts_seconds() - start});
done:
    ts_weights_leave(w);
    return st;
}

/* ---- the file ---- */
static void add_numbers(cJSON *j, const char *key, const int *x, int n)
{
    cJSON_AddItemToObject(j, key, cJSON_CreateIntArray(x, n));
}

static char *describe_choices(const search *s)
{
    const ts_run *r = s->run[0];
    int measured[SAMPLES];
    double kept = 0;
    cJSON *j = cJSON_CreateObject(), *made, *list;
    for (int i = 0; i < s->n; i++) measured[i] = s->step[i] + 1;
    for (int l = 0; l < s->layers; l++) kept += s->share[l] / s->layers;
    cJSON_AddNumberToObject(j, "frames", r->grid.F);
    add_numbers(j, "layers", s->chosen, s->layers);
    cJSON_AddNumberToObject(j, "kept", kept);
    made = cJSON_AddObjectToObject(j, "made_with");
    cJSON_AddStringToObject(made, "tessera", ts_version());
    cJSON_AddStringToObject(made, "model", s->m->name);
    list = cJSON_AddArrayToObject(made, "prompts");
    for (int p = 0; p < s->o->prompts; p++)
        cJSON_AddItemToArray(list, cJSON_CreateString(s->o->prompt[p]));
    cJSON_AddNumberToObject(made, "width", r->q.width);
    cJSON_AddNumberToObject(made, "height", r->q.height);
    cJSON_AddNumberToObject(made, "frames", r->q.frames);
    cJSON_AddNumberToObject(made, "steps", r->q.steps);
    cJSON_AddItemToObject(made, "measured_steps", cJSON_CreateIntArray(measured, s->n));
    cJSON_AddStringToObject(made, "order", ts_order_name(s->policy.order));
    cJSON_AddNumberToObject(made, "loss", s->o->loss);
    add_numbers(made, "candidates", s->k, s->ks);
    list = cJSON_AddArrayToObject(made, "errors");
    for (int l = 0; l < s->layers; l++)
        cJSON_AddItemToArray(list, cJSON_CreateDoubleArray(s->error + (long)l * s->ks, s->ks));
    char *text = cJSON_Print(j);
    cJSON_Delete(j);
    return text;
}

static ts_status check_search_options(const search *s)
{
    ts_err *err = &s->m->ctx->err;
    const ts_tile_options *o = s->o;
    if (o->prompts < 1 || o->prompts > PROMPTS)
        return ts_fail(err, TS_EUSAGE, "search-tile: %d prompts, expected 1 to %d", o->prompts,
                       PROMPTS);
    if (o->samples < 1 || o->samples > SAMPLES / 2)
        return ts_fail(err, TS_EUSAGE, "search-tile: %d steps to measure at, expected 1 to %d",
                       o->samples, SAMPLES / 2);
    if (!(o->loss >= 0))
        return ts_fail(err, TS_EUSAGE, "search-tile: a loss of %g, expected 0 or more", o->loss);
    return TS_OK;
}

static ts_status take_tables(search *s)
{
    for (int e = 0; e < 2 && s->m->dit[e]; e++) s->layers += ts_dit_describe(s->m->dit[e])->layers;
    s->chosen = calloc((size_t)s->layers, sizeof *s->chosen);
    s->share = calloc((size_t)s->layers, sizeof *s->share);
    s->error = calloc((size_t)s->layers * (size_t)s->ks, sizeof *s->error);
    if (!s->chosen || !s->share || !s->error)
        return ts_fail(&s->m->ctx->err, TS_EMEMORY, "no memory for %d layers", s->layers);
    /* an expert that no step uses is not measured */
    for (int l = 0; l < s->layers; l++) s->share[l] = 1;
    return TS_OK;
}

ts_status ts_search_tile(ts_model *m, const ts_request *q, const ts_tile_options *o, char **json)
{
    ts_status st = TS_OK;
    search s = {.m = m, .o = o};
    *json = NULL;
    TRY(check_search_options(&s));
    TRY(ts_policy_parse(&m->ctx->err, "tile:min-tokens=0,dense-steps=0", &s.policy));
    TRY(open_runs(&s, q));
    TRY(set_candidates(&s, s.run[0]->grid.F));
    TRY(take_tables(&s));
    set_steps(&s);
    for (int p = 0; p < o->prompts; p++) TRY(record_trajectory(&s, s.run[p]));
    for (s.expert = 0; s.expert < 2 && m->dit[s.expert]; s.expert++)
        if (s.first[s.expert + 1] > s.first[s.expert]) TRY(measure_expert(&s));
    *json = describe_choices(&s);
    if (!*json) TRY(ts_fail(&m->ctx->err, TS_EMEMORY, "no memory for the choices"));
done:
    for (int p = 0; p < PROMPTS; p++) ts_run_close(s.run[p]);
    free(s.chosen);
    free(s.error);
    free(s.share);
    return st;
}
