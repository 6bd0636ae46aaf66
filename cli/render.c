/* The commands generate and decode: flags -> request -> run -> file. Whatever can be refused is
 * refused before the first weight is read; latents are safe before decoding begins. */
#include "cli/cli.h"
#include "cli/sheet.h"
#include "cli/side.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct { /* everything that one rendering owns */
    ts_request q;
    ts_output out;
    ts_estimate e;
    const char *path; /* of the output */
    char *was;        /* metadata of --from, or of the latents */
    char *noise_path, *json, *parameters;
    ts_bag *noise, *latents;
    ts_run *run;
    ts_sink *sink;
    ts_sheet *sheet;
    char *init;     /* full path of the picture to begin with */
    char *numbered; /* path of several pictures, made from the one given */
} job;

static void release(job *j)
{
    ts_sheet_free(j->sheet);
    ts_output_close(j->sink);
    free(j->numbered);
    free(j->init);
    ts_run_close(j->run);
    ts_bag_free(j->noise);
    ts_bag_free(j->latents);
    free(j->was);
    free(j->noise_path);
    free(j->json);
    free(j->parameters);
}

/* ---- metadata of an earlier run ---- */
static char *field(const char *json, const char *name)
{
    cJSON *j = json ? cJSON_Parse(json) : NULL;
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(j, name));
    char *copy = text ? strdup(text) : NULL;
    cJSON_Delete(j);
    return copy;
}

/* The context of an earlier run has its precision, where this CPU can compute in it. */
static ts_status reopen(ts_cli *c, const char *json, const char *from)
{
    char *precision = field(json, "precision");
    ts_status st = TS_OK;
    if (!precision || ts_cli_set(c, TS_F_PRECISION)) goto done;
    ts_cli_close(c);
    st = ts_cli_open(c, precision);
    if (st != TS_EUSAGE) goto done;
    ts_cli_close(c);
    TRY(ts_cli_open(c, NULL));
    char text[256];
    snprintf(text, sizeof text,
             "%.100s was computed in %.16s, which this CPU does not have: numbers will differ",
             from, precision);
    ts_screen_warn(&c->screen, text);
done:
    free(precision);
    return st;
}

static ts_status open_model(ts_cli *c, const char *json, const char *from)
{
    char *recorded = field(json, "model");
    const char *name = ts_cli_set(c, TS_F_MODEL) ? ts_cli_text(c, TS_F_MODEL) : recorded;
    ts_status st = ts_model_open(c->ctx, name, &c->model);
    if (st && recorded && name == recorded)
        ts_cli_fail(c, st, "%s (the model that %s names; --model gives another)", ts_error(c->ctx),
                    from);
    free(recorded);
    return st;
}

/* Context and model, by the metadata of the file `from` where there is one; without that by flags
 * alone. */
static ts_status begin(ts_cli *c, job *j, const char *from)
{
    ts_status st = TS_OK;
    TRY(ts_cli_open(c, NULL));
    if (from) {
        TRY(ts_cli_metadata(c, from, &j->was));
        TRY(reopen(c, j->was, from));
    }
    TRY(open_model(c, j->was, from));
    ts_request_init(c->model, &j->q);
    if (j->was) TRY(ts_request_from_json(c->model, j->was, &j->q));
done:
    return st;
}

/* ---- the request ---- */
static bool ends_png(const char *path)
{
    size_t n = strlen(path);
    return n > 4 && !strcasecmp(path + n - 4, ".png");
}

static bool is_numbered(const char *path)
{
    struct stat s;
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    if (!*base || (stat(path, &s) == 0 && S_ISDIR(s.st_mode))) return true;
    return ends_png(base) && strchr(base, '%');
}

static ts_status set_seed(ts_cli *c, uint64_t *seed)
{
    const ts_flag_value *v = c->flags.value + TS_F_SEED;
    uint32_t drawn; /* short enough to be copied by hand */
    if (!v->set) return TS_OK;
    if (!v->random) return *seed = v->wide, TS_OK;
    if (getrandom(&drawn, sizeof drawn, 0) != sizeof drawn)
        return ts_cli_fail(c, TS_EDEVICE, "no random seed from the system: %s", strerror(errno));
    *seed = drawn;
    return TS_OK;
}

void ts_cli_settings(const ts_flag_value *v, ts_request *q)
{
    if (v[TS_F_NEGATIVE].set) q->negative = v[TS_F_NEGATIVE].text;
    if (v[TS_F_SIZE].set) {
        q->width = v[TS_F_SIZE].w;
        q->height = v[TS_F_SIZE].h;
    }
    if (v[TS_F_STEPS].set) q->steps = (int)v[TS_F_STEPS].whole;
    if (v[TS_F_GUIDANCE].set) q->guidance = q->guidance_2 = v[TS_F_GUIDANCE].real;
    if (v[TS_F_GUIDANCE_2].set) q->guidance_2 = v[TS_F_GUIDANCE_2].real;
    if (v[TS_F_SHIFT].set) q->shift = v[TS_F_SHIFT].real;
    if (v[TS_F_SAMPLER].set) q->sampler = v[TS_F_SAMPLER].text;
    if (v[TS_F_ATTENTION].set) q->attention = v[TS_F_ATTENTION].text;
    if (v[TS_F_VAE_TILE].set) q->vae_tile = v[TS_F_VAE_TILE].text;
    if (v[TS_F_FPS].set) q->fps = v[TS_F_FPS].real;
    if (v[TS_F_FRAMES].set) q->frames = (int)v[TS_F_FRAMES].whole;
    if (v[TS_F_SCALE].set) q->scale = (int)v[TS_F_SCALE].whole;
    if (v[TS_F_NO_BINS].set) q->no_bins = true;
    if (v[TS_F_PICTURES].set) q->count = (int)v[TS_F_PICTURES].whole;
}

ts_status ts_cli_request(ts_cli *c, ts_request *q)
{
    ts_cli_settings(c->flags.value, q);
    return set_seed(c, &q->seed);
}

static ts_status set_request(ts_cli *c, job *j)
{
    const ts_flag_value *v = c->flags.value;
    ts_request *q = &j->q;
    if (c->flags.words) q->prompt = c->flags.word[0];
    if (!*q->prompt) ts_screen_warn(&c->screen, "the prompt is empty");
    q->keep_plans = v[TS_F_SAVE_PLAN].set || v[TS_F_PLAN_IMAGE].set;
    q->keep_scores = q->keep_plans && (v[TS_F_SAVE_PLAN_SCORES].set || v[TS_F_PLAN_IMAGE].set);
    q->state = v[TS_F_STATE].text;
    if (v[TS_F_STRENGTH].set)
        q->strength = v[TS_F_STRENGTH].real;
    else if (v[TS_F_INIT].set)
        q->strength = 0.6;
    if (v[TS_F_INIT].set) q->init = j->init = realpath(v[TS_F_INIT].text, NULL);
    if (v[TS_F_INIT].set && !q->init)
        return ts_cli_fail(c, TS_EMODEL, "--init: %s: %s", v[TS_F_INIT].text, strerror(errno));
    if (v[TS_F_STRENGTH].set && !q->init)
        return ts_cli_fail(c, TS_EUSAGE,
                           "--strength: there is no picture to begin with, --init gives it");
    if (!v[TS_F_FRAMES].set && v[TS_F_OUTPUT].set && ends_png(v[TS_F_OUTPUT].text) &&
        !is_numbered(v[TS_F_OUTPUT].text))
        q->frames = 1;
    return ts_cli_request(c, q);
}

static bool is_grid(const ts_cli *c) { return c->flags.value[TS_F_GRID].set; }

/* Several pictures do not fit one PNG: cat.png becomes cat-%d.png. */
static void number_pictures(ts_cli *c, job *j)
{
    size_t n = strlen(j->path);
    if (j->q.count < 2 || is_grid(c) || !ends_png(j->path) || is_numbered(j->path)) return;
    if (asprintf(&j->numbered, "%.*s-%%d%s", (int)(n - 4), j->path, j->path + n - 4) < 0)
        j->numbered = NULL;
    else
        j->path = j->numbered;
}

/* How many frames go into the file; a sheet is one picture. */
static ts_status check_output(ts_cli *c, job *j, int frames)
{
    if (is_grid(c) && (!ends_png(j->path) || is_numbered(j->path)))
        return ts_cli_fail(
            c, TS_EUSAGE, "--grid: the output is %s, a sheet is one picture: name a .png", j->path);
    return ts_output_check(c->ctx, j->path, &j->out, is_grid(c) ? 1 : frames);
}

/* What generate and decode have in common; needs q.frames. */
static void set_output(ts_cli *c, job *j)
{
    const ts_flag_value *v = c->flags.value;
    ts_request *q = &j->q;
    j->path = v[TS_F_OUTPUT].set ? v[TS_F_OUTPUT].text
              : q->frames == 1   ? "tessera.png"
                                 : "tessera.mp4";
    if (!j->numbered) number_pictures(c, j);
    /* numbered frames are as computed */
    if (!v[TS_F_SCALE].set && is_numbered(j->path)) q->scale = 1;
    j->out = (ts_output){.crf = v[TS_F_CRF].set ? (int)v[TS_F_CRF].whole : -1,
                         .scale = q->scale,
                         .overwrite = v[TS_F_OVERWRITE].set,
                         .metadata = !v[TS_F_NO_METADATA].set};
}

/* ---- files beside the output ---- */
/* What is known before anything is rendered: a policy without plans, a file where a folder is
 * wanted. */
static ts_status check_plans(ts_cli *c, const char *policy)
{
    const char *images = ts_cli_text(c, TS_F_PLAN_IMAGE),
               *flag = images ? "plan-image" : "save-plan";
    struct stat s;
    if ((images || ts_cli_set(c, TS_F_SAVE_PLAN)) && (!policy || !strcmp(policy, "dense")))
        return ts_cli_fail(c, TS_EUSAGE, "--%s: attention dense makes no plan", flag);
    if (images && stat(images, &s) == 0 && !S_ISDIR(s.st_mode))
        return ts_cli_fail(c, TS_EUSAGE, "--plan-image: %s is not a folder", images);
    return TS_OK;
}

static ts_status check_sides(ts_cli *c, const char *output)
{
    ts_status st = TS_OK;
    static const struct {
        ts_flag_id id;
        const char *name;
    } sides[] = {{TS_F_SAVE_LATENTS, "save-latents"},
                 {TS_F_STATE, "state"},
                 {TS_F_SAVE_PLAN, "save-plan"},
                 {TS_F_PLAN_IMAGE, "plan-image"}};
    for (int i = 0; i < 4; i++) {
        const char *path = ts_cli_text(c, sides[i].id);
        if (!path) continue;
        for (int k = i + 1; k < 4; k++)
            if (ts_cli_text(c, sides[k].id) && !strcmp(path, ts_cli_text(c, sides[k].id)))
                TRY(ts_cli_fail(c, TS_EUSAGE, "--%s and --%s: both name %s", sides[i].name,
                                sides[k].name, path));
        if (!strcmp(path, output))
            TRY(ts_cli_fail(c, TS_EUSAGE, "--%s and the output: both name %s", sides[i].name,
                            path));
    }
    TRY(ts_side_check(c, TS_F_SAVE_LATENTS, false));
    TRY(ts_side_check(c, TS_F_STATE, true));
    TRY(ts_side_check(c, TS_F_SAVE_PLAN, false));
    if (ts_cli_set(c, TS_F_SAVE_PLAN_SCORES) && !ts_cli_set(c, TS_F_SAVE_PLAN))
        TRY(ts_cli_fail(c, TS_EUSAGE,
                        "--save-plan-scores: adds to --save-plan FILE, which is missing"));
done:
    return st;
}

/* Given noise is part of what a file was made from: without it, and without a seed instead, the
 * file would silently become another. */
static ts_status read_noise(ts_cli *c, job *j)
{
    ts_status st = TS_OK;
    char *recorded = ts_cli_set(c, TS_F_SEED) ? NULL : field(j->was, "noise");
    const char *path = ts_cli_set(c, TS_F_NOISE) ? ts_cli_text(c, TS_F_NOISE) : recorded;
    if (!path) goto done;
    st = ts_bag_read(c->ctx, path, &j->noise);
    if (st && path == recorded)
        ts_cli_fail(c, st,
                    "%s (the noise that %s was made from; --noise gives it, --seed does without)",
                    ts_error(c->ctx), ts_cli_text(c, TS_F_FROM));
    if (st) goto done;
    j->noise_path = realpath(path, NULL);
    j->q.noise_file = j->noise_path;
done:
    free(recorded);
    return st;
}

/* ---- what is said ---- */
static void print_estimate(const job *j)
{
    const ts_estimate *e = &j->e;
    char a[32], b[32], d[32], w[32], *model = field(j->json, "model"),
                                     *pipeline = field(j->json, "pipeline");
    bool decodes = e->step_flops <= 0; /* nothing else is left to do */
    ts_cli_row("model", "%s (%s)", model ? model : "", pipeline ? pipeline : "");
    ts_cli_row("output", "%s", j->path);
    ts_cli_row("size", "%dx%d, written as %dx%d, %d frame%s at %g a second", e->width, e->height,
               e->width * j->q.scale, e->height * j->q.scale, e->frames, e->frames == 1 ? "" : "s",
               j->q.fps);
    ts_cli_row("latents", "%d channels, %d x %d x %d, %ld tokens", e->latent[0], e->latent[1],
               e->latent[2], e->latent[3], e->tokens);
    if (!decodes) {
        ts_cli_row("text", "%d tokens, negative %d", e->text_tokens, e->negative_tokens);
        ts_cli_row("seed", "%llu", (unsigned long long)j->q.seed);
        ts_cli_row("denoising", "%d steps, %d layers, %s, weights %s", j->q.steps, e->layers,
                   e->precision, ts_cli_bytes((double)e->weight_bytes, w));
        ts_cli_row(
            "memory", "text %s, denoising %s, decoding %s", ts_cli_bytes((double)e->text_bytes, a),
            ts_cli_bytes((double)e->denoise_bytes, b), ts_cli_bytes((double)e->decode_bytes, d));
        ts_cli_row("cost", "%.3g TFLOP a step, %.3g decoding, %.3g in all", e->step_flops / 1e12,
                   e->decode_flops / 1e12, (e->step_flops * j->q.steps + e->decode_flops) / 1e12);
    } else {
        ts_cli_row("memory", "decoding %s", ts_cli_bytes((double)e->decode_bytes, d));
        ts_cli_row("cost", "%.3g TFLOP decoding", e->decode_flops / 1e12);
    }
    if (e->tile_w) ts_cli_row("VAE tile", "%dx%d", e->tile_w, e->tile_h);
    free(model);
    free(pipeline);
}

static ts_status describe(ts_cli *c, job *j)
{
    j->json = ts_run_json(j->run);
    j->parameters = ts_run_parameters(j->run);
    if (!j->json || !j->parameters) return ts_cli_fail(c, TS_EMEMORY, "no memory for the metadata");
    j->out.title = j->q.prompt;
    j->out.parameters = j->parameters;
    cJSON *said = cJSON_Parse(j->json); /* it records what has an effect */
    if (ts_cli_set(c, TS_F_GUIDANCE_2) && !cJSON_HasObjectItem(said, "guidance_2"))
        ts_screen_warn(&c->screen, "--guidance-2 has no effect: this model has one expert");
    cJSON_Delete(said);
    return TS_OK;
}

/* Decoding failed after the work was done: what it began from is kept, whether that was asked for
 * or not, and the sentence says where. */
static void rescue(ts_cli *c, job *j, ts_status st)
{
    const char *asked = ts_cli_text(c, TS_F_SAVE_LATENTS);
    /* saving may overwrite it */
    char *path = NULL, *sentence = strdup(*c->error ? c->error : ts_error(c->ctx));
    size_t n = strlen(j->path);
    bool kept = asked != NULL;
    if (n > 1 && j->path[n - 1] == '/') n--;
    if (!kept && asprintf(&path, "%.*s.latents.safetensors", (int)n, j->path) < 0) path = NULL;
    if (path && access(path, F_OK)) kept = ts_bag_write(c->ctx, j->latents, path) == TS_OK;
    if (!sentence)
        ts_cli_fail(c, st, "no memory");
    else if (kept)
        ts_cli_fail(c, st, "%s; the latents are in %s: tessera decode goes on from them", sentence,
                    asked ? asked : path);
    else
        ts_cli_fail(c, st, "%s", sentence);
    free(sentence);
    free(path);
}

static ts_status decode(ts_cli *c, job *j)
{
    ts_status st = ts_output_open(c->ctx, j->path, &j->out, &j->sink);
    if (!st && is_grid(c) && !(j->sheet = ts_sheet_new(j->sink)))
        st = ts_cli_fail(c, TS_EMEMORY, "no memory for a sheet");
    if (!st) st = ts_run_decode(j->run, j->latents, j->sheet ? ts_sheet_sink(j->sheet) : j->sink);
    if (st && j->sink) j->sink->abort(j->sink);
    return st;
}

/* Plans and their pictures, before decoding can fail. Scores that were only kept for pictures stay
 * out of the file. */
static ts_status save_plans(ts_cli *c, job *j)
{
    ts_status st = TS_OK;
    const char *path = ts_cli_text(c, TS_F_SAVE_PLAN), *images = ts_cli_text(c, TS_F_PLAN_IMAGE);
    const ts_bag *plans;
    if (!path && !images) return TS_OK;
    TRY(ts_run_plans(j->run, &plans));
    if (images) TRY(ts_plan_images(c->ctx, plans, images));
    if (path) TRY(ts_bag_write(c->ctx, plans, path));
done:
    return st;
}

static void report(ts_cli *c, job *j)
{
    ts_report r;
    char *profile = ts_cli_set(c, TS_F_PROFILE) ? ts_run_profile(j->run) : NULL,
         *attention = ts_run_attention(j->run);
    ts_run_report(j->run, &r);
    if (profile) ts_screen_table(&c->screen, "profile", profile);
    if (attention && (!ts_cli_set(c, TS_F_QUIET) || c->screen.mode == TS_SCREEN_JSON))
        ts_screen_table(&c->screen, "attention", attention);
    free(profile);
    free(attention);
    ts_screen_done(&c->screen, &r, j->path);
    puts(j->path);
}

/* ---- the commands ---- */
static ts_status prepare(ts_cli *c, job *j)
{
    ts_status st = TS_OK;
    TRY(begin(c, j, ts_cli_text(c, TS_F_FROM)));
    if (ts_cli_set(c, TS_F_FROM) && !j->was)
        TRY(ts_cli_fail(c, TS_EMODEL, "--from: %s carries no metadata of tessera",
                        ts_cli_text(c, TS_F_FROM)));
    TRY(set_request(c, j));
    set_output(c, j);
    TRY(check_output(c, j, j->q.count > 1 ? j->q.count : j->q.frames));
    TRY(check_sides(c, j->path));
    TRY(check_plans(c, j->q.attention));
    TRY(read_noise(c, j));
    TRY(ts_run_open(c->model, &j->q, &j->run, &j->e));
    if (j->noise) TRY(ts_run_noise(j->run, j->noise));
    if (j->q.init && !ts_cli_set(c, TS_F_DRY_RUN)) TRY(ts_run_picture(j->run, j->q.init));
    TRY(describe(c, j));
    TRY(ts_cli_stopped(c));
done:
    return st;
}

ts_status ts_cli_generate(ts_cli *c)
{
    ts_status st = TS_OK, unsaved = TS_OK;
    job j = {0};
    if (!c->flags.words && !ts_cli_set(c, TS_F_FROM))
        TRY(ts_cli_fail(
            c, TS_EUSAGE,
            "generate: a prompt is missing: tessera generate \"a prompt\" -o clip.mp4"));
    TRY(prepare(c, &j));
    if (ts_cli_set(c, TS_F_DRY_RUN)) {
        print_estimate(&j);
        goto done;
    }
    ts_screen_note(&c->screen, "%dx%d, %d frame%s, %d step%s, seed %llu, %s", j.e.width, j.e.height,
                   j.e.frames, j.e.frames == 1 ? "" : "s", j.q.steps, j.q.steps == 1 ? "" : "s",
                   (unsigned long long)j.q.seed, j.e.precision);
    ts_screen_start(&c->screen, &j.e, j.q.steps, j.path, j.json);
    TRY(ts_run_encode(j.run));
    TRY(ts_run_denoise(j.run, &j.latents));
    unsaved = ts_cli_set(c, TS_F_SAVE_LATENTS)
                  ? ts_bag_write(c->ctx, j.latents, ts_cli_text(c, TS_F_SAVE_LATENTS))
                  : TS_OK;
    if (!unsaved) unsaved = save_plans(c, &j);
    /* the hours are not lost: the clip can still be written */
    if (unsaved) {
        ts_cli_fail(c, unsaved, "%s", ts_error(c->ctx));
        ts_screen_warn(&c->screen, c->error);
    }
    st = decode(c, &j);
    if (st && st != TS_ESTOP) rescue(c, &j, st);
    TRY(st);
    report(c, &j);
    st = unsaved;
done:
    release(&j);
    return st;
}

ts_status ts_cli_decode(ts_cli *c)
{
    ts_status st = TS_OK;
    job j = {0};
    const char *file = c->flags.word[0];
    if (access(file, R_OK)) TRY(ts_cli_fail(c, TS_EMODEL, "%s: %s", file, strerror(errno)));
    if (!ts_cli_is_safetensors(file))
        TRY(ts_cli_fail(c, TS_EMODEL,
                        "%s: not a safetensors file of latents, as --save-latents writes it",
                        file));
    TRY(begin(c, &j, file));
    if (!j.was)
        ts_screen_warn(&c->screen,
                       "the latents carry no metadata: model and rate come from the flags");
    TRY(ts_bag_read(c->ctx, file, &j.latents));
    ts_cli_settings(c->flags.value, &j.q);
    set_output(c, &j);
    TRY(ts_run_open_latents(c->model, &j.q, j.latents, &j.run, &j.e));
    j.q.frames = j.e.frames;
    if (!ts_cli_set(c, TS_F_OUTPUT)) j.path = j.e.frames == 1 ? "tessera.png" : "tessera.mp4";
    TRY(check_output(c, &j, j.e.frames));
    TRY(describe(c, &j));
    TRY(ts_cli_stopped(c));
    if (ts_cli_set(c, TS_F_DRY_RUN)) {
        print_estimate(&j);
        goto done;
    }
    ts_screen_start(&c->screen, &j.e, j.q.steps, j.path, j.json);
    TRY(decode(c, &j));
    report(c, &j);
done:
    release(&j);
    return st;
}
