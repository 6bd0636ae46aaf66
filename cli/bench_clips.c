/* `tessera bench "prompt"...`: the same clips under several attention policies, in turns, each compared with the dense one. */
#include "cli/bench.h"

#include <ftw.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- frames in memory, and on their way into the report ---- */
typedef struct {
    ts_sink s;         /* first */
    ts_sink *file;     /* also gets the frames; NULL */
    uint8_t *rgb;
    int w, h, n, most;
} gathering;

static ts_status begin(ts_sink *s, int w, int h, int frames, double fps, const char *json)
{
    gathering *g = (gathering *)s;
    g->w = w, g->h = h, g->most = frames;
    g->rgb = malloc((size_t)w * h * 3 * frames);
    if (!g->rgb) return snprintf(s->error, sizeof s->error, "no memory for %d frames of %dx%d", frames, w, h), TS_EMEMORY;
    return g->file ? g->file->open(g->file, w, h, frames, fps, json) : TS_OK;
}

static ts_status take(ts_sink *s, const ts_frame *f)
{
    gathering *g = (gathering *)s;
    long n = (long)f->w * f->h * 3;
    for (long i = 0; i < n; i++) g->rgb[g->n * n + i] = (uint8_t)lrintf(fminf(fmaxf(f->rgb[i], 0), 1) * 255);
    g->n++;
    return g->file ? g->file->frame(g->file, f) : TS_OK;
}

static ts_status end(ts_sink *s)
{
    gathering *g = (gathering *)s;
    return g->file ? g->file->close(g->file) : TS_OK;
}

static void drop(ts_sink *s)
{
    gathering *g = (gathering *)s;
    if (g->file) g->file->abort(g->file);
}

/* ---- what is to be run ---- */
static char *join(const char *policy, const char *key, double x)
{
    char *text = NULL;
    return asprintf(&text, "%s%c%s=%.10g", policy, strchr(policy, ':') ? ',' : ':', key, x) < 0 ? NULL : text;
}

static ts_status add_policy(ts_bench *b, char *text, const char *series, double x)
{
    if (!text) return ts_cli_fail(b->c, TS_EMEMORY, "no memory for policies");
    if (b->policies == TS_BENCH_MOST) {
        free(text);
        return ts_cli_fail(b->c, TS_EUSAGE, "bench: more than %d policies", TS_BENCH_MOST);
    }
    ts_status st = ts_attention_check(b->c->ctx, text);
    b->policy[b->policies++] = (ts_bench_policy){text, series ? strdup(series) : NULL, x};
    return st;
}

typedef struct { char key[32]; double from, to, step; } sweep;

static ts_status parse_sweep(ts_cli *c, const char *s, sweep *w)
{
    int end = 0;
    if (sscanf(s, "%31[a-z-]=%lf:%lf:%lf%n", w->key, &w->from, &w->to, &w->step, &end) != 4 || s[end] || !(w->step > 0) || !(w->to >= w->from) || (w->to - w->from) / w->step >= TS_BENCH_MOST)
        return ts_cli_fail(c, TS_EUSAGE, "--sweep: got \"%.80s\", wanted KEY=FROM:TO:STEP with at most %d values, like keep=0.1:0.5:0.1", s, TS_BENCH_MOST);
    return TS_OK;
}

/* Policies that take the key become a series; the others stay as they are. */
static ts_status add_swept(ts_bench *b, const char *policy, const sweep *w, bool *taken)
{
    ts_status st = TS_OK;
    char *first = join(policy, w->key, w->from);
    bool takes = first && ts_attention_check(b->c->ctx, first) == TS_OK;
    free(first);
    if (!takes) return add_policy(b, strdup(policy), NULL, 0);
    *taken = true;
    for (int i = 0; w->from + i * w->step <= w->to + 1e-9; i++) {
        double x = w->from + i * w->step;
        TRY(add_policy(b, join(policy, w->key, x), policy, x));
    }
done:
    return st;
}

static ts_status read_policies(ts_bench *b)
{
    ts_status st = TS_OK;
    ts_cli *c = b->c;
    static const char *const usual[] = {"adaspa"};
    const ts_flag_value *v = c->flags.value + TS_F_BENCH_ATTENTION, *s = c->flags.value + TS_F_SWEEP;
    const char *const *list = v->n ? v->all : usual;
    sweep w = {0};
    bool taken = false;
    if (s->set) TRY(parse_sweep(c, s->text, &w));
    memcpy(b->sweep, w.key, sizeof b->sweep);
    TRY(add_policy(b, strdup("dense"), NULL, 0)); /* what the others are compared with */
    for (int i = 0; i < (v->n ? v->n : 1); i++) {
        if (!strcmp(list[i], "dense")) continue;
        if (s->set) TRY(add_swept(b, list[i], &w, &taken));
        else TRY(add_policy(b, strdup(list[i]), NULL, 0));
    }
    if (s->set && !taken) TRY(ts_cli_fail(c, TS_EUSAGE, "--sweep: none of the policies takes %s=%g", w.key, w.from));
done:
    return st;
}

/* ---- measuring ---- */
static ts_status measure(ts_bench *b, int prompt, int policy, ts_run *run, ts_bag **latents)
{
    ts_status st = TS_OK;
    ts_bench_cell *cell = ts_bench_at(b, prompt, policy);
    ts_screen_note(&b->c->screen, "prompt %d of %d, turn %d of %d: %s", prompt + 1, b->prompts, cell->repeats + 1, b->repeats, b->policy[policy].attention);
    ts_screen_start(&b->c->screen, &b->e, b->q.steps, b->policy[policy].attention, NULL);
    ts_bag_free(*latents);
    *latents = NULL;
    TRY(ts_run_denoise(run, latents));
    ts_run_report(run, &cell->report);
    cell->seconds[cell->repeats] = cell->report.denoise_seconds;
    cell->attention[cell->repeats] = cell->report.step_seconds[1] * b->q.steps;
    cell->repeats++;
done:
    return st;
}

static ts_status compare(ts_bench *b, int prompt, int policy, const gathering *dense, const gathering *g)
{
    ts_bench_cell *cell = ts_bench_at(b, prompt, policy);
    size_t frame = (size_t)g->w * g->h * 3;
    cell->mse = calloc((size_t)g->n, sizeof *cell->mse), cell->ssim = calloc((size_t)g->n, sizeof *cell->ssim);
    if (!cell->mse || !cell->ssim) return ts_cli_fail(b->c, TS_EMEMORY, "no memory for %d frames", g->n);
    for (int i = 0; i < g->n; i++) {
        cell->mse[i] = ts_mse(dense->rgb + i * frame, g->rgb + i * frame, frame);
        cell->ssim[i] = ts_ssim(dense->rgb + i * frame, g->rgb + i * frame, g->w, g->h);
    }
    return TS_OK;
}

/* Frames of a policy's latents; for the report also a clip, plan pictures and what the run said. */
static ts_status decode(ts_bench *b, int prompt, int policy, ts_run *run, const ts_bag *latents, const char *folder, gathering *g)
{
    ts_status st = TS_OK;
    ts_cli *c = b->c;
    ts_bench_cell *cell = ts_bench_at(b, prompt, policy);
    const ts_bag *plans;
    ts_output o = {.crf = 12, .scale = 1, .overwrite = true, .metadata = false};
    *g = (gathering){.s = {.open = begin, .frame = take, .close = end, .abort = drop}};
    if (folder && asprintf(&cell->clip, "%s/%d-%d.%s", folder, prompt, policy, b->e.frames == 1 ? "png" : "mp4") < 0) cell->clip = NULL;
    if (cell->clip) TRY(ts_output_open(c->ctx, cell->clip, &o, &g->file));
    TRY(ts_run_decode(run, latents, &g->s));
    b->w = g->w, b->h = g->h, b->frames = g->n;
    cell->said = ts_run_attention(run);
    if (folder && policy && ts_run_plans(run, &plans) == TS_OK && asprintf(&cell->plans, "%s/plans-%d-%d", folder, prompt, policy) > 0)
        TRY(ts_plan_images(c->ctx, plans, cell->plans));
done:
    ts_output_close(g->file);
    g->file = NULL;
    return st;
}

static ts_status open_runs(ts_bench *b, int prompt, ts_texts *texts, ts_run **run)
{
    ts_status st = TS_OK;
    b->q.prompt = b->prompt[prompt];
    for (int i = 0; i < b->policies; i++) {
        b->q.attention = b->policy[i].attention;
        TRY(ts_run_open_with(b->c->model, &b->q, texts, NULL, run + i, &b->e));
        TRY(ts_run_encode(run[i])); /* the first encodes for all */
    }
done:
    return st;
}

static ts_status one_prompt(ts_bench *b, int prompt, const char *folder)
{
    ts_status st = TS_OK;
    ts_run *run[TS_BENCH_MOST] = {0};
    ts_bag *latents[TS_BENCH_MOST] = {0};
    ts_texts *texts = NULL;
    gathering dense = {0}, g = {0};
    TRY(ts_texts_open(b->c->model, &texts));
    TRY(open_runs(b, prompt, texts, run));
    for (int r = 0; r < b->repeats; r++)
        for (int i = 0; i < b->policies; i++) {
            TRY(measure(b, prompt, i, run[i], latents + i));
            if (!r && i == b->policies - 1) b->done_prompts++;
        }
    for (int i = 0; i < b->policies; i++) {
        TRY(decode(b, prompt, i, run[i], latents[i], folder, i ? &g : &dense));
        if (i) TRY(compare(b, prompt, i, &dense, &g));
        free(g.rgb);
        g.rgb = NULL;
    }
done:
    for (int i = 0; i < b->policies; i++) ts_run_close(run[i]), ts_bag_free(latents[i]);
    ts_texts_close(texts);
    free(dense.rgb);
    free(g.rgb);
    return st;
}

/* ---- summing up ---- */
static int ascending(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return a < b ? -1 : a > b;
}

double ts_bench_median(const double *x, int n)
{
    double sorted[n > 0 ? n : 1];
    if (n < 1) return 0;
    memcpy(sorted, x, (size_t)n * sizeof *x);
    qsort(sorted, (size_t)n, sizeof *sorted, ascending);
    return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

static double mean(const double *x, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += x[i];
    return n ? sum / n : 0;
}

ts_bench_row ts_bench_sum(const ts_bench *b, int policy)
{
    ts_bench_row r = {.psnr = NAN, .ssim = NAN};
    double dense = 0, dense_attention = 0, gain = 0, psnr = 0, ssim = 0;
    int n = b->done_prompts, decoded = 0;
    for (int p = 0; p < n; p++) {
        const ts_bench_cell *c = ts_bench_at(b, p, policy), *d = ts_bench_at(b, p, 0);
        r.seconds += ts_bench_median(c->seconds, c->repeats), r.attention += ts_bench_median(c->attention, c->repeats);
        dense += ts_bench_median(d->seconds, d->repeats), dense_attention += ts_bench_median(d->attention, d->repeats);
        gain += c->report.attention_gain / n, r.kept += c->report.kept / n, r.recall += c->report.recall / n;
        r.dense += c->report.attention_dense, r.searched += c->report.attention_searched, r.sparse += c->report.attention_sparse;
        if (!c->mse) continue;
        psnr += ts_psnr(mean(c->mse, b->frames)), ssim += mean(c->ssim, b->frames), decoded++;
    }
    if (!n) return r;
    double share = dense > 0 ? dense_attention / dense : 0;
    r.speed = r.seconds > 0 ? dense / r.seconds : 0, r.attention_speed = r.attention > 0 ? dense_attention / r.attention : 0;
    r.ideal = gain > 0 ? 1 / (1 - share + share / gain) : 0;
    if (decoded) r.psnr = psnr / decoded, r.ssim = ssim / decoded;
    return r;
}

static void print_table(const ts_bench *b)
{
    size_t width = strlen("attention");
    for (int i = 0; i < b->policies; i++) width = strlen(b->policy[i].attention) > width ? strlen(b->policy[i].attention) : width;
    printf("%-*s %9s %9s %7s %9s %7s %6s %7s %7s %7s\n", (int)width, "attention", "seconds", "attention", "faster", "attention", "ideal", "kept", "recall", "PSNR", "SSIM");
    for (int i = 0; i < b->policies; i++) {
        ts_bench_row r = ts_bench_sum(b, i);
        char recall[16] = "-", psnr[16] = "-", ssim[16] = "-", kept[16] = "-";
        if (r.sparse) snprintf(kept, sizeof kept, "%.3f", r.kept);
        if (r.recall > 0) snprintf(recall, sizeof recall, "%.3f", r.recall);
        if (isinf(r.psnr)) snprintf(psnr, sizeof psnr, "equal");
        else if (!isnan(r.psnr)) snprintf(psnr, sizeof psnr, "%.2f", r.psnr);
        if (!isnan(r.ssim)) snprintf(ssim, sizeof ssim, "%.4f", r.ssim);
        printf("%-*s %9.3f %9.3f %6.2fx %8.2fx %6.2fx %6s %7s %7s %7s\n", (int)width, b->policy[i].attention, r.seconds, r.attention, r.speed, r.attention_speed, r.ideal, kept, recall, psnr, ssim);
    }
    fflush(stdout);
}

static cJSON *numbers(const double *x, int n)
{
    cJSON *a = cJSON_CreateArray();
    for (int i = 0; i < n; i++) cJSON_AddItemToArray(a, isfinite(x[i]) ? cJSON_CreateNumber(x[i]) : cJSON_CreateNull());
    return a;
}

static void add_number(cJSON *j, const char *key, double x) /* null: not measured; of psnr: equal, when ssim is there */
{
    cJSON_AddItemToObject(j, key, isfinite(x) ? cJSON_CreateNumber(x) : cJSON_CreateNull());
}

static cJSON *policy_json(const ts_bench *b, int i)
{
    ts_bench_row r = ts_bench_sum(b, i);
    cJSON *j = cJSON_CreateObject(), *prompts = NULL;
    cJSON_AddStringToObject(j, "attention", b->policy[i].attention);
    add_number(j, "seconds", r.seconds), add_number(j, "attention_seconds", r.attention), add_number(j, "speed_up", r.speed), add_number(j, "attention_speed_up", r.attention_speed);
    add_number(j, "ideal", r.ideal), add_number(j, "kept", r.kept), add_number(j, "recall", r.recall > 0 ? r.recall : NAN), add_number(j, "psnr", r.psnr), add_number(j, "ssim", r.ssim);
    cJSON_AddNumberToObject(j, "calls_dense", (double)r.dense), cJSON_AddNumberToObject(j, "calls_searched", (double)r.searched), cJSON_AddNumberToObject(j, "calls_sparse", (double)r.sparse);
    prompts = cJSON_AddArrayToObject(j, "prompts");
    for (int p = 0; p < b->done_prompts; p++) {
        const ts_bench_cell *c = ts_bench_at(b, p, i);
        cJSON *k = cJSON_CreateObject();
        cJSON_AddItemToObject(k, "seconds", numbers(c->seconds, c->repeats));
        cJSON_AddItemToObject(k, "attention_seconds", numbers(c->attention, c->repeats));
        cJSON_AddItemToObject(k, "mse", numbers(c->mse, c->mse ? b->frames : 0));
        cJSON_AddItemToObject(k, "ssim", numbers(c->ssim, c->ssim ? b->frames : 0));
        if (c->said) cJSON_AddStringToObject(k, "report", c->said);
        cJSON_AddItemToArray(prompts, k);
    }
    return j;
}

static ts_status write_json(const ts_bench *b)
{
    const char *path = ts_cli_text(b->c, TS_F_JSON_FILE);
    if (!path) return TS_OK;
    cJSON *j = cJSON_CreateObject();
    char *versions = ts_versions(b->c->ctx);
    cJSON_AddStringToObject(j, "tessera", ts_version());
    cJSON_AddStringToObject(j, "bench", "clips");
    cJSON *list = cJSON_AddArrayToObject(j, "versions");
    for (char *save, *line = versions ? strtok_r(versions, "\n", &save) : NULL; line; line = strtok_r(NULL, "\n", &save)) cJSON_AddItemToArray(list, cJSON_CreateString(line));
    cJSON_AddNumberToObject(j, "width", b->e.width), cJSON_AddNumberToObject(j, "height", b->e.height), cJSON_AddNumberToObject(j, "frames", b->e.frames);
    cJSON_AddNumberToObject(j, "steps", b->q.steps), cJSON_AddNumberToObject(j, "tokens", (double)b->e.tokens), cJSON_AddNumberToObject(j, "repeats", b->repeats);
    cJSON_AddStringToObject(j, "precision", b->e.precision);
    cJSON_AddBoolToObject(j, "complete", b->complete);
    list = cJSON_AddArrayToObject(j, "prompts");
    for (int p = 0; p < b->done_prompts; p++) cJSON_AddItemToArray(list, cJSON_CreateString(b->prompt[p]));
    list = cJSON_AddArrayToObject(j, "policies");
    for (int i = 0; i < b->policies; i++) cJSON_AddItemToArray(list, policy_json(b, i));
    char *text = cJSON_Print(j);
    ts_status st = text ? ts_cli_write(b->c, "json", path, text, strlen(text)) : ts_cli_fail(b->c, TS_EMEMORY, "no memory for %s", path);
    free(text), free(versions), cJSON_Delete(j);
    return st;
}

/* ---- the command ---- */
static ts_status prepare(ts_bench *b)
{
    ts_status st = TS_OK;
    ts_cli *c = b->c;
    const ts_flag_value *v = c->flags.value;
    if (c->flags.words > TS_WORDS) TRY(ts_cli_fail(c, TS_EUSAGE, "bench: %d prompts, expected at most %d", c->flags.words, TS_WORDS));
    TRY(ts_cli_check_side(c, TS_F_JSON_FILE, "json", false));
    TRY(ts_cli_check_side(c, TS_F_HTML, "html", false));
    b->prompt = c->flags.word, b->prompts = c->flags.words;
    b->repeats = v[TS_F_REPEATS].set ? (int)v[TS_F_REPEATS].whole : 3;
    TRY(ts_cli_open(c, NULL));
    TRY(read_policies(b));
    TRY(ts_model_open(c->ctx, ts_cli_text(c, TS_F_MODEL), &c->model));
    ts_request_init(c->model, &b->q);
    TRY(ts_cli_request(c, &b->q));
    b->q.keep_plans = v[TS_F_HTML].set;
    b->cell = calloc((size_t)b->prompts * (size_t)b->policies, sizeof *b->cell);
    for (int i = 0; b->cell && i < b->prompts * b->policies; i++)
        if (!(b->cell[i].seconds = calloc((size_t)(2 * b->repeats), sizeof(double)))) TRY(ts_cli_fail(c, TS_EMEMORY, "no memory for measurements"));
        else b->cell[i].attention = b->cell[i].seconds + b->repeats;
    if (!b->cell) TRY(ts_cli_fail(c, TS_EMEMORY, "no memory for measurements"));
done:
    return st;
}

/* Removes what the report was made of. */
static int remove_one(const char *path, const struct stat *s, int kind, struct FTW *f)
{
    (void)s, (void)kind, (void)f;
    remove(path);
    return 0;
}

static void release(ts_bench *b)
{
    for (int i = 0; b->cell && i < b->prompts * b->policies; i++) {
        ts_bench_cell *c = b->cell + i;
        free(c->seconds), free(c->mse), free(c->ssim), free(c->clip), free(c->plans), free(c->said);
    }
    for (int i = 0; i < b->policies; i++) free(b->policy[i].attention), free(b->policy[i].series);
    free(b->cell);
}

ts_status ts_cli_bench_clips(ts_cli *c)
{
    ts_status st = TS_OK;
    ts_bench b = {.c = c};
    char *folder = NULL;
    const char *tmp = getenv("TMPDIR"), *html = ts_cli_text(c, TS_F_HTML);
    TRY(prepare(&b));
    if (html && (asprintf(&folder, "%s/tessera-bench-XXXXXX", tmp && *tmp ? tmp : "/tmp") < 0 || !mkdtemp(folder))) TRY(ts_cli_fail(c, TS_EIO, "--html: no temporary folder in %s", tmp ? tmp : "/tmp"));
    for (int p = 0; p < b.prompts && !st; p++) st = one_prompt(&b, p, folder);
    b.complete = !st;
    if (!b.done_prompts) goto done;
    ts_screen_clear(&c->screen);
    print_table(&b);
    ts_status unsaved = write_json(&b);
    if (!unsaved && html) unsaved = ts_bench_html(&b, html);
    if (!st) st = unsaved;
done:
    if (folder) nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(folder);
    release(&b);
    return st;
}
