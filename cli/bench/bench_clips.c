/* `tessera bench "prompt"...`: the same clips under several attention policies, in turns, each
 * compared with the dense one. */
#include "cli/bench/bench.h"
#include "cli/open_model.h"

#include "backend/clock.h"
#include "backend/number.h"
#include "cli/forecast_text.h"
#include "cli/settings.h"
#include "cli/side.h"

#include <ftw.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- frames in memory, and on their way into the report ---- */
typedef struct {
    ts_sink s;     /* first */
    ts_sink *file; /* also gets the frames; NULL */
    uint8_t *rgb;
    int w, h, n, most;
} gathering;

/* The sink that was called is asked for the sentence. */
static ts_status pass_on(gathering *g, ts_status st)
{
    if (st) snprintf(g->s.error, sizeof g->s.error, "%s", g->file->error);
    return st;
}

static ts_status gather_open(ts_sink *s, int w, int h, int frames, double fps, const char *json)
{
    gathering *g = (gathering *)s;
    g->w = w;
    g->h = h;
    g->most = frames;
    g->rgb = malloc((size_t)w * h * 3 * frames);
    if (!g->rgb)
        return snprintf(s->error, sizeof s->error, "no memory for %d frames of %dx%d", frames, w,
                        h),
               TS_EMEMORY;
    return g->file ? pass_on(g, g->file->open(g->file, w, h, frames, fps, json)) : TS_OK;
}

static ts_status gather_frame(ts_sink *s, const ts_frame *f)
{
    gathering *g = (gathering *)s;
    long n = (long)f->w * f->h * 3;
    for (long i = 0; i < n; i++)
        g->rgb[g->n * n + i] = (uint8_t)lrintf(fminf(fmaxf(f->rgb[i], 0), 1) * 255);
    g->n++;
    return g->file ? pass_on(g, g->file->frame(g->file, f)) : TS_OK;
}

static ts_status gather_close(ts_sink *s)
{
    gathering *g = (gathering *)s;
    return g->file ? pass_on(g, g->file->close(g->file)) : TS_OK;
}

static void gather_abort(ts_sink *s)
{
    gathering *g = (gathering *)s;
    if (g->file) g->file->abort(g->file);
}

/* ---- what is to be run ---- */
static char *append_key(const char *policy, const char *key, double x)
{
    char *text = NULL;
    return asprintf(&text, "%s%c%s=%.10g", policy, strchr(policy, ':') ? ',' : ':', key, x) < 0
               ? NULL
               : text;
}

/* Takes `name`. The first value of a series, and whatever is none, begins a line. */
static ts_status add_measured(ts_bench *b, char *name, const char *series, double x, bool begins)
{
    if (!name) return ts_fail(&b->c->err, TS_EMEMORY, "no memory for policies");
    if (b->policies == TS_BENCH_MOST) {
        free(name);
        return ts_fail(&b->c->err, TS_EUSAGE, "bench: more than %d policies", TS_BENCH_MOST);
    }
    int line = b->policies ? b->policy[b->policies - 1].line + begins : 0;
    ts_bench_policy *p = b->policy + b->policies++;
    /* NOLINTBEGIN(clang-analyzer-unix.Malloc): free_bench frees both */
    p->attention = name;
    p->series = series ? strdup(series) : NULL;
    p->x = x;
    p->line = line;
    /* NOLINTEND(clang-analyzer-unix.Malloc) */
    return TS_OK;
}

static ts_status add_policy(ts_bench *b, char *text, const char *series, double x, bool begins)
{
    ts_status st = add_measured(b, text, series, x, begins);
    return st ? st : ts_attention_check(b->c->ctx, b->policy[b->policies - 1].attention);
}

typedef struct {
    char key[32];
    double from, to, step;
} sweep;

static ts_status parse_sweep(ts_err *err, const char *s, sweep *w)
{
    size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz-");
    const char *at = s + n;
    bool read = n > 0 && n < sizeof w->key && *at++ == '=' && ts_number_prefix(at, &w->from, &at) &&
                *at++ == ':' && ts_number_prefix(at, &w->to, &at) && *at++ == ':' &&
                ts_number_read(at, &w->step);
    snprintf(w->key, sizeof w->key, "%.*s", (int)n, s);
    if (!read || w->step <= 0 || w->to < w->from || (w->to - w->from) / w->step >= TS_BENCH_MOST)
        return ts_fail(err, TS_EUSAGE,
                       "--sweep: got \"%.80s\", wanted KEY=FROM:TO:STEP with at most %d "
                       "values, like keep=0.1:0.5:0.1",
                       s, TS_BENCH_MOST);
    return TS_OK;
}

/* Policies that take the key become a series; the others stay as they are. */
static ts_status add_swept(ts_bench *b, const char *policy, const sweep *w, bool *taken)
{
    ts_status st = TS_OK;
    char *first = append_key(policy, w->key, w->from);
    bool takes = first && ts_attention_check(b->c->ctx, first) == TS_OK;
    free(first);
    if (!takes) return add_policy(b, strdup(policy), NULL, 0, true);
    *taken = true;
    for (int i = 0; w->from + i * w->step <= w->to + 1e-9; i++) {
        double x = w->from + i * w->step;
        TRY(add_policy(b, append_key(policy, w->key, x), policy, x, !i));
    }
done:
    return st;
}

static ts_status read_policies(ts_bench *b)
{
    ts_status st = TS_OK;
    ts_cli *c = b->c;
    static const char *const usual[] = {"adaspa"};
    const ts_flag_value *v = c->flags.value + TS_F_BENCH_ATTENTION,
                        *s = c->flags.value + TS_F_SWEEP;
    const char *const *list = v->n > 0 ? v->all : usual;
    int given = v->n > 0 ? v->n : 1;
    sweep w = {0};
    bool taken = false;
    if (s->set) TRY(parse_sweep(&c->err, s->text, &w));
    memcpy(b->sweep, w.key, sizeof b->sweep);
    TRY(add_policy(b, strdup("dense"), NULL, 0, true)); /* what the others are compared with */
    for (int i = 0; i < given; i++) {
        if (!strcmp(list[i], "dense")) continue;
        if (s->set)
            TRY(add_swept(b, list[i], &w, &taken));
        else
            TRY(add_policy(b, strdup(list[i]), NULL, 0, true));
    }
    if (s->set && !taken)
        TRY(ts_fail(&c->err, TS_EUSAGE, "--sweep: none of the policies takes %s=%g", w.key,
                    w.from));
done:
    return st;
}

/* What is there already, with a method of step caching, behind it: every product of the two. */
static ts_status add_cached(ts_bench *b, const char *cache, int policies)
{
    ts_status st = ts_cache_check(b->c->ctx, cache);
    for (int i = 0; i < policies && !st; i++) {
        const ts_bench_policy *of = b->policy + i;
        char *name = NULL, *series = NULL;
        if (asprintf(&name, "%s, %s", of->attention, cache) < 0) name = NULL;
        if (of->series && asprintf(&series, "%s, %s", of->series, cache) < 0) series = NULL;
        bool begins = !i || !of->series || of->line != of[-1].line;
        st = add_measured(b, name, series, of->x, begins);
        free(series);
        if (st) return st;
        ts_bench_policy *p = b->policy + b->policies - 1;
        /* NOLINTBEGIN(clang-analyzer-unix.Malloc): free_bench frees both */
        p->policy = strdup(of->attention);
        p->cache = strdup(cache);
        /* NOLINTEND(clang-analyzer-unix.Malloc) */
        if (!p->policy || !p->cache) st = ts_fail(&b->c->err, TS_EMEMORY, "no memory for policies");
    }
    return st;
}

static ts_status read_all(ts_bench *b)
{
    ts_status st = read_policies(b);
    const ts_flag_value *v = b->c->flags.value + TS_F_BENCH_CACHE;
    int policies = b->policies;
    for (int i = 0; i < v->n && !st; i++) st = add_cached(b, v->all[i], policies);
    return st;
}

/* ---- measuring ---- */
/* turn 0: frames are made and compared */
static void say_turn(ts_bench *b, int prompt, int policy, int turn)
{
    const ts_screen_turn t = {.policy = b->policy[policy].attention,
                              .prompt = prompt + 1,
                              .prompts = b->prompts,
                              .turn = turn,
                              .turns = b->repeats};
    ts_screen_measure(&b->c->screen, &t, turn ? b->expected[policy] : b->expected_decode);
}

/* What is to come, from a dense run of few steps: measured on parts of the model, and by operations
 * for the policies. */
static ts_status forecast_bench(ts_bench *b, ts_run *warm, const ts_estimate *e)
{
    ts_forecast f;
    char text[TS_DURATION_TEXT];
    ts_screen_plan plan = {.policies = b->policies, .prompts = b->prompts, .turns = b->repeats};
    ts_status st = ts_forecast_run(warm, e, true, &f);
    if (st) return st;
    b->expected_decode = f.decode_seconds;
    for (int i = 0; i < b->policies; i++) {
        b->expected[i] = f.denoise_seconds / e->steps * b->q.steps * b->flops[i] / e->step_flops;
        plan.seconds += b->prompts * (b->repeats * b->expected[i] + b->expected_decode);
    }
    ts_screen_bench(&b->c->screen, &plan);
    if (plan.seconds > 0)
        ts_screen_note(&b->c->screen,
                       "%d policies, %d prompt%s, %d turn%s: about %s on this machine", b->policies,
                       b->prompts, b->prompts == 1 ? "" : "s", b->repeats,
                       b->repeats == 1 ? "" : "s", ts_duration_text(plan.seconds, text));
    return TS_OK;
}

static ts_status measure_policy(ts_bench *b, int prompt, int policy, ts_run *run, ts_bag **latents)
{
    ts_status st = TS_OK;
    ts_bench_cell *cell = ts_bench_at(b, prompt, policy);
    ts_screen_start(&b->c->screen, &b->e, b->q.steps, b->policy[policy].attention, NULL);
    say_turn(b, prompt, policy, cell->repeats + 1);
    ts_bag_free(*latents);
    *latents = NULL;
    double before = ts_process_seconds();
    TRY(ts_run_denoise(run, latents));
    cell->cpu[cell->repeats] = ts_process_seconds() - before;
    ts_screen_measured(&b->c->screen);
    ts_run_report(run, &cell->report);
    cell->computed = ts_run_computed(run);
    cell->seconds[cell->repeats] = cell->report.denoise_seconds;
    cell->attention[cell->repeats] = cell->report.attention_seconds;
    cell->repeats++;
done:
    return st;
}

static ts_status compare_clips(ts_bench *b, int prompt, int policy, const gathering *dense,
                               const gathering *g)
{
    ts_bench_cell *cell = ts_bench_at(b, prompt, policy);
    size_t frame = (size_t)g->w * g->h * 3;
    cell->mse = calloc((size_t)g->n, sizeof *cell->mse);
    cell->ssim = calloc((size_t)g->n, sizeof *cell->ssim);
    if (!cell->mse || !cell->ssim)
        return ts_fail(&b->c->err, TS_EMEMORY, "no memory for %d frames", g->n);
    for (int i = 0; i < g->n; i++) {
        cell->mse[i] = ts_mse(dense->rgb + i * frame, g->rgb + i * frame, frame);
        cell->ssim[i] = ts_ssim(dense->rgb + i * frame, g->rgb + i * frame, g->w, g->h);
    }
    return TS_OK;
}

/* How far a policy's latents are from the dense ones, whatever the VAE makes of it. */
static ts_status compare_latents(ts_bench *b, int prompt, int policy, const ts_bag *dense,
                                 const ts_bag *latents)
{
    ts_status st = TS_OK;
    const void *data[2];
    long dim[5], n = 1;
    int nd;
    double apart = 0, size = 0;
    TRY(ts_bag_tensor(b->c->ctx, dense, "latents", NULL, NULL, NULL, data));
    TRY(ts_bag_tensor(b->c->ctx, latents, "latents", NULL, &nd, dim, data + 1));
    for (int i = 0; i < nd; i++) n *= dim[i];
    const float *x = data[0], *y = data[1];
    for (long i = 0; i < n; i++) {
        apart += ((double)y[i] - x[i]) * ((double)y[i] - x[i]);
        size += (double)x[i] * x[i];
    }
    ts_bench_at(b, prompt, policy)->apart = size > 0 ? sqrt(apart / size) : NAN;
done:
    return st;
}

/* Frames of a policy's latents; for the report also a clip, plan pictures and what the run said. */
static ts_status decode_policy(ts_bench *b, int prompt, int policy, ts_run *run,
                               const ts_bag *latents, const char *folder, gathering *g)
{
    ts_status st = TS_OK;
    ts_cli *c = b->c;
    ts_bench_cell *cell = ts_bench_at(b, prompt, policy);
    const ts_bag *plans;
    ts_output o = {.size = sizeof o, .crf = 12, .scale = 1, .overwrite = true, .metadata = false};
    *g = (gathering){.s = {.open = gather_open,
                           .frame = gather_frame,
                           .close = gather_close,
                           .abort = gather_abort}};
    if (folder && asprintf(&cell->clip, "%s/%d-%d.%s", folder, prompt, policy,
                           b->e.frames == 1 ? "png" : "mp4") < 0)
        cell->clip = NULL;
    if (cell->clip) TRY(ts_output_open(c->ctx, cell->clip, &o, &g->file));
    TRY(ts_run_decode(run, latents, &g->s));
    b->w = g->w;
    b->h = g->h;
    b->frames = g->n;
    cell->said = ts_run_attention(run);
    if (folder && policy && ts_run_plans(run, &plans) == TS_OK &&
        asprintf(&cell->plans, "%s/plans-%d-%d", folder, prompt, policy) > 0)
        TRY(ts_plan_images(c->ctx, plans, cell->plans));
done:
    ts_output_close(g->file);
    g->file = NULL;
    if (st) { /* there is no such file */
        free(cell->clip);
        cell->clip = NULL;
    }
    return st;
}

static ts_status open_policy_runs(ts_bench *b, int prompt, ts_texts *texts, ts_run **run)
{
    ts_status st = TS_OK;
    const ts_run_options shared = {.size = sizeof shared, .texts = texts};
    b->q.prompt = b->prompt[prompt];
    for (int i = 0; i < b->policies; i++) {
        b->q.attention = b->policy[i].cache ? b->policy[i].policy : b->policy[i].attention;
        b->q.cache_steps = b->policy[i].cache ? b->policy[i].cache : "none";
        TRY(ts_run_open_with(b->c->model, &b->q, &shared, run + i, &b->e));
        TRY(ts_cli_read_images(run[i], &b->q));
        if (!prompt) ts_cli_advise(b->c, run[i]);
        b->flops[i] = b->e.step_flops;
    }
done:
    return st;
}

/* One or two dense steps that are not timed, so that weights come from the disk and threads awake
 * before the first turn. */
static ts_status open_warm_up(ts_bench *b, ts_texts *texts, ts_run **run, ts_estimate *e)
{
    ts_request q = b->q;
    q.prompt = b->prompt[0];
    q.attention = "dense";
    q.keep_plans = false;
    q.steps = q.steps < 2 ? q.steps : 2;
    const ts_run_options shared = {.size = sizeof shared, .texts = texts};
    ts_status st = ts_run_open_with(b->c->model, &q, &shared, run, e);
    return st ? st : ts_cli_read_images(*run, &q);
}

static ts_status warm_up(ts_bench *b, ts_run *run)
{
    ts_bag *latents = NULL;
    ts_screen_note(&b->c->screen, "warming up");
    ts_status st = ts_run_denoise(run, &latents);
    ts_bag_free(latents);
    return st;
}

static ts_status bench_prompt(ts_bench *b, int prompt, const char *folder)
{
    ts_status st = TS_OK;
    ts_run *run[TS_BENCH_MOST] = {0}, *warm = NULL;
    ts_bag *latents[TS_BENCH_MOST] = {0};
    ts_texts *texts = NULL;
    gathering dense = {0}, g = {0};
    ts_estimate few;
    TRY(ts_texts_open(b->c->model, &texts));
    if (!prompt) TRY(open_warm_up(b, texts, &warm, &few));
    TRY(open_policy_runs(b, prompt, texts, run));
    if (warm) {
        TRY(forecast_bench(b, warm, &few));
        ts_screen_batch_texts(&b->c->screen);
    }
    for (int i = 0; i < b->policies; i++) TRY(ts_run_encode(run[i])); /* the first for all */
    if (warm) TRY(ts_run_encode(warm));
    if (warm) TRY(warm_up(b, warm));
    for (int r = 0; r < b->repeats; r++)
        for (int i = 0; i < b->policies; i++) {
            TRY(measure_policy(b, prompt, i, run[i], latents + i));
            if (!r && i == b->policies - 1) b->done_prompts++;
        }
    for (int i = 0; i < b->policies; i++) {
        say_turn(b, prompt, i, 0);
        TRY(decode_policy(b, prompt, i, run[i], latents[i], folder, i ? &g : &dense));
        if (i) TRY(compare_clips(b, prompt, i, &dense, &g));
        if (i) TRY(compare_latents(b, prompt, i, latents[0], latents[i]));
        ts_screen_measured(&b->c->screen);
        free(g.rgb);
        g.rgb = NULL;
    }
done:
    for (int i = 0; i < b->policies; i++) {
        ts_run_close(run[i]);
        ts_bag_free(latents[i]);
    }
    ts_run_close(warm);
    ts_texts_close(texts);
    free(dense.rgb);
    free(g.rgb);
    return st;
}

/* ---- the command ---- */
static ts_status open_bench(ts_bench *b)
{
    ts_status st = TS_OK;
    ts_cli *c = b->c;
    const ts_flag_value *v = c->flags.value;
    if (c->flags.words > TS_WORDS)
        TRY(ts_fail(&c->err, TS_EUSAGE, "bench: %d prompts, expected at most %d", c->flags.words,
                    TS_WORDS));
    if (v[TS_F_JSON_FILE].set && v[TS_F_HTML].set &&
        !strcmp(v[TS_F_JSON_FILE].text, v[TS_F_HTML].text))
        TRY(ts_fail(&c->err, TS_EUSAGE, "--json and --html: both name %s", v[TS_F_HTML].text));
    TRY(ts_side_check(&c->err, &c->flags, TS_F_JSON_FILE, false));
    TRY(ts_side_check(&c->err, &c->flags, TS_F_HTML, false));
    b->prompt = c->flags.word;
    b->prompts = c->flags.words;
    b->repeats = v[TS_F_REPEATS].set ? (int)v[TS_F_REPEATS].whole : 3;
    TRY(ts_cli_open(c));
    TRY(read_all(b));
    TRY(ts_cli_open_model(c, NULL, NULL));
    ts_request_init(c->model, &b->q);
    b->q.frames = ts_bench_frames(c->model);
    TRY(ts_settings_of(&c->err, &c->flags, &b->q));
    TRY(ts_cli_set_loras(c, v, NULL, &b->q));
    TRY(ts_cli_set_images(c, v, NULL, &b->q, b->image));
    if (ts_flag_set(&c->flags, TS_F_NEGATIVE)) ts_settings_warn(&c->screen, &b->q);
    b->q.keep_plans = v[TS_F_HTML].set;
    b->stride = b->policies;
    b->cell = calloc((size_t)b->prompts * (size_t)b->stride, sizeof *b->cell);
    for (int i = 0; b->cell && i < b->prompts * b->stride; i++)
        if (!(b->cell[i].seconds = calloc(3 * (size_t)b->repeats, sizeof(double))))
            TRY(ts_fail(&c->err, TS_EMEMORY, "no memory for measurements"));
        else {
            b->cell[i].apart = NAN;
            b->cell[i].attention = b->cell[i].seconds + b->repeats;
            b->cell[i].cpu = b->cell[i].attention + b->repeats;
        }
    if (!b->cell) TRY(ts_fail(&c->err, TS_EMEMORY, "no memory for measurements"));
done:
    return st;
}

/* Removes what the report was made of. */
static int remove_temporary(const char *path, const struct stat *s, int kind, struct FTW *f)
{
    (void)s;
    (void)kind;
    (void)f;
    remove(path);
    return 0;
}

static void free_bench(ts_bench *b)
{
    for (int i = 0; b->cell && i < b->prompts * b->stride; i++) {
        ts_bench_cell *c = b->cell + i;
        free(c->seconds);
        free(c->mse);
        free(c->ssim);
        free(c->clip);
        free(c->plans);
        free(c->said);
    }
    for (int i = 0; i < TS_BENCH_MOST; i++) {
        free(b->policy[i].attention);
        free(b->policy[i].series);
        free(b->policy[i].policy);
        free(b->policy[i].cache);
    }
    for (int i = 0; i < TS_CLI_IMAGES; i++) free(b->image[i]);
    free(b->cell);
}

/* Stopped within the first turn: the policies that had theirs remain. */
static void keep_first_turn(ts_bench *b)
{
    int n = 0;
    while (!b->done_prompts && n < b->stride && b->cell[n].repeats) n++;
    if (n) {
        b->done_prompts = 1;
        b->policies = n;
    }
}

ts_status ts_cli_bench_clips(ts_cli *c)
{
    ts_status st = TS_OK;
    ts_bench b = {.c = c};
    char *folder = NULL;
    const char *tmp = getenv("TMPDIR"), *html = ts_flag_text(&c->flags, TS_F_HTML);
    TRY(open_bench(&b));
    if (html && (asprintf(&folder, "%s/tessera-bench-XXXXXX", tmp && *tmp ? tmp : "/tmp") < 0 ||
                 !mkdtemp(folder)))
        TRY(ts_fail(&c->err, TS_EIO, "--html: no temporary folder in %s", tmp ? tmp : "/tmp"));
    ts_bench_begin(&b.machine);
    for (int p = 0; p < b.prompts && !st; p++) st = bench_prompt(&b, p, folder);
    ts_bench_look(&b.machine);
    b.complete = !st;
    keep_first_turn(&b);
    if (!b.done_prompts) goto done;
    ts_screen_clear(&c->screen);
    ts_bench_print(&b);
    ts_status unsaved = ts_bench_json(&b);
    if (!unsaved && html) unsaved = ts_bench_html(&b);
    if (!st) st = unsaved;
done:
    if (folder) nftw(folder, remove_temporary, 8, FTW_DEPTH | FTW_PHYS);
    free(folder);
    free_bench(&b);
    return st;
}
