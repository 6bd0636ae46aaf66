/* What a bench of clips measured, summed up: medians, gains, Amdahl's ideal and fidelity of a
 * policy over all prompts; as a table on stdout and whole in a JSON file (docs/formats.md).
 *
 * With d and a the dense run's seconds of denoising and of self-attention in it, and g what
 * arithmetic promises of attention (calls / (dense calls + half a call a later search + blocks
 * read)):
 *   ideal = d / (d - a + a / g)
 *   Amdahl, over all prompts: sum of d over sum of the denominators */
#include "backend/median.h"
#include "cli/bench/bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

double ts_bench_median(const double *x, int n)
{
    double sorted[n > 0 ? n : 1];
    memcpy(sorted, x, (size_t)(n > 0 ? n : 0) * sizeof *x);
    return ts_median(sorted, n);
}

static void find_range(const double *x, int n, double *least, double *most)
{
    *least = *most = n ? x[0] : 0;
    for (int i = 1; i < n; i++) {
        *least = fmin(*least, x[i]);
        *most = fmax(*most, x[i]);
    }
}

double ts_bench_spread(const double *x, int n)
{
    double least, most, middle = ts_bench_median(x, n);
    find_range(x, n, &least, &most);
    return middle > 0 ? (most - least) / middle : 0;
}

static double mean_of(const double *x, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += x[i];
    return n ? sum / n : 0;
}

ts_bench_row ts_bench_sum(const ts_bench *b, int policy)
{
    ts_bench_row r = {.psnr = NAN, .ssim = NAN, .apart = NAN};
    double dense = 0, dense_attention = 0, dense_apart = 0, limit = 0, mse = 0, ssim = 0, apart = 0;
    int n = b->done_prompts, decoded = 0, compared = 0;
    for (int p = 0; p < n; p++) {
        const ts_bench_cell *c = ts_bench_at(b, p, policy), *d = ts_bench_at(b, p, 0);
        double all = ts_bench_median(d->seconds, d->repeats),
               attention = ts_bench_median(d->attention, d->repeats), least, most;
        find_range(d->seconds, d->repeats, &least, &most);
        dense_apart += most - least;
        find_range(c->seconds, c->repeats, &least, &most);
        r.seconds += ts_bench_median(c->seconds, c->repeats);
        r.cpu += ts_bench_median(c->cpu, c->repeats);
        r.attention += ts_bench_median(c->attention, c->repeats);
        r.least += least;
        r.most += most;
        dense += all;
        dense_attention += attention;
        limit += c->computed * (all - attention + attention / c->report.attention_gain);
        r.kept += c->report.kept / n;
        r.recall += c->report.recall / n;
        r.dense += c->report.attention_dense;
        r.searched += c->report.attention_searched;
        r.sparse += c->report.attention_sparse;
        if (!isnan(c->apart)) {
            apart += c->apart;
            compared++;
        }
        if (!c->mse) continue;
        mse += mean_of(c->mse, b->frames);
        ssim += mean_of(c->ssim, b->frames);
        decoded++;
    }
    if (!n) return r;
    r.speed = r.seconds > 0 ? dense / r.seconds : 0;
    r.attention_speed = r.attention > 0 ? dense_attention / r.attention : 0;
    r.ideal = limit > 0 ? dense / limit : 0;
    if (compared) r.apart = apart / compared;
    if (decoded) {
        r.psnr = ts_psnr(mse / decoded);
        r.ssim = ssim / decoded;
    }
    r.measured = ts_bench_measured(&b->machine);
    if (policy) {
        r.measured.gain = r.speed;
        r.measured.most = r.ideal;
        r.measured.difference = fabs(dense - r.seconds);
        r.measured.apart = fmax(dense_apart, r.most - r.least);
    }
    r.doubts = ts_doubts(&r.measured);
    return r;
}

/* Every block was read at every step: it is as fast as dense, whatever clocks say. */
static bool is_dense_run(const ts_bench_row *r) { return fabs(r->ideal - 1) < 1e-9; }

void ts_bench_conclude(const ts_bench *b, ts_bench_words *words)
{
    ts_candidate c[TS_BENCH_MOST];
    char text[TS_DOUBT_TEXT];
    *words = (ts_bench_words){0};
    for (int i = 1; i < b->policies && !*words->why; i++) {
        ts_bench_row r = ts_bench_sum(b, i);
        bool busy = r.doubts & TS_DOUBT_BUSY;
        if (!r.doubts || (is_dense_run(&r) && !busy)) continue;
        snprintf(words->why, sizeof words->why, "%.200s%s%s", busy ? "" : b->policy[i].attention,
                 busy ? "" : ": ",
                 ts_doubt_text(&r.measured, busy ? TS_DOUBT_BUSY : r.doubts, text));
    }
    for (int i = 1; i < b->policies; i++) {
        ts_bench_row r = ts_bench_sum(b, i);
        double gain = *words->why || is_dense_run(&r) ? r.ideal : r.speed;
        c[i - 1] = (ts_candidate){
            .name = b->policy[i].attention, .saved = gain > 0 ? 1 - 1 / gain : 0, .psnr = r.psnr};
    }
    int n = b->policies - 1;
    for (int i = 0; i < n; i++) words->frontier[i + 1] = ts_verdict_stands(c, n, i);
    words->lines = ts_verdict_levels(c, n, words->line);
    words->lines += ts_verdict(c, n, words->line + words->lines);
}

static void print_verdict(const ts_bench_words *words)
{
    if (!words->lines) return;
    if (*words->why) printf("By arithmetic, measured gains are void (%s):\n", words->why);
    for (int i = 0; i < words->lines; i++) printf("  %s\n", words->line[i]);
    putchar('\n');
}

/* "1.43x"; void of what is in doubt. */
static const char *gain_text(const ts_bench_row *r, double gain, char out[16])
{
    snprintf(out, 16, r->measured.gain > 0 && r->doubts ? "void" : "%.2fx", gain);
    return out;
}

static void print_row(const ts_bench *b, const ts_bench_words *words, int policy, int width)
{
    ts_bench_row r = ts_bench_sum(b, policy);
    char recall[16] = "-", psnr[16] = "-", ssim[16] = "-", apart[16] = "-", kept[16] = "-",
         spread[16] = "-", gain[16], attention[16];
    if (r.sparse) snprintf(kept, sizeof kept, "%.3f", r.kept);
    if (r.recall > 0) snprintf(recall, sizeof recall, "%.3f", r.recall);
    if (isinf(r.psnr))
        snprintf(psnr, sizeof psnr, "equal");
    else if (!isnan(r.psnr))
        snprintf(psnr, sizeof psnr, "%.2f", r.psnr);
    if (!isnan(r.ssim)) snprintf(ssim, sizeof ssim, "%.4f", r.ssim);
    if (!isnan(r.apart)) snprintf(apart, sizeof apart, "%.2f%%", 100 * r.apart);
    if (b->repeats > 1 && r.seconds > 0)
        snprintf(spread, sizeof spread, "%.1f%%", 100 * (r.most - r.least) / r.seconds);
    printf("%-*s %9.3f %9.3f %7s %7s %6.2fx %10.3f %12s %6s %7s %7s %7s %8s%s\n", width,
           b->policy[policy].attention, r.seconds, r.cpu, spread, gain_text(&r, r.speed, gain),
           r.ideal, r.attention, gain_text(&r, r.attention_speed, attention), kept, recall, psnr,
           ssim, apart, words->frontier[policy] ? " *" : "");
}

/* Why gains are void; that the machine was busy concerns all of them, and is said once. */
static void print_doubts(const ts_bench *b)
{
    char why[TS_DOUBT_TEXT];
    ts_bench_print_busy(&b->machine);
    for (int i = 1; i < b->policies; i++) {
        ts_bench_row r = ts_bench_sum(b, i);
        if (r.doubts && !(r.doubts & TS_DOUBT_BUSY))
            printf("void: %s: %s\n", b->policy[i].attention,
                   ts_doubt_text(&r.measured, r.doubts, why));
    }
}

void ts_bench_print(const ts_bench *b)
{
    ts_bench_words words;
    size_t width = strlen("attention");
    ts_bench_conclude(b, &words);
    for (int i = 0; i < b->policies; i++)
        width = strlen(b->policy[i].attention) > width ? strlen(b->policy[i].attention) : width;
    print_verdict(&words);
    printf("%-*s %9s %9s %7s %7s %7s %10s %12s %6s %7s %7s %7s %8s\n", (int)width, "attention",
           "seconds", "CPU sec.", "spread", "faster", "ideal", "attn. sec.", "attn. faster", "kept",
           "recall", "PSNR", "SSIM", "latents");
    for (int i = 0; i < b->policies; i++) print_row(b, &words, i, (int)width);
    putchar('\n');
    print_doubts(b);
    printf("seconds: denoising alone, without text encoder and VAE; CPU sec.: of all threads in "
           "it; attn. sec.: self-attention in it; ");
    if (b->repeats > 1)
        printf("medians of %s%d turns", b->complete ? "" : "up to ", b->repeats);
    else
        printf("measured once");
    printf("%s\n", b->done_prompts > 1 ? ", summed over prompts" : "");
    if (b->repeats > 1) printf("spread: (slowest - fastest turn) / median\n");
    bool cached = false;
    for (int i = 0; i < b->policies; i++) cached = cached || b->policy[i].cache;
    printf("ideal: dense seconds with self-attention alone divided by what the blocks read promise "
           "(Amdahl)%s\n",
           cached ? ", with step caching times the share of steps that were computed" : "");
    printf("kept: share of the key blocks that sparse calls read, keep rounded to whole blocks of "
           "64 of the %ld tokens; -: nothing was sparse\n",
           b->e.tokens);
    printf(
        "PSNR (dB), SSIM: frames against the dense clip; latents: how far they are from the dense "
        "ones, relative\n");
    if (b->policies > 2)
        printf("*: the frontier: no other is as near and faster, or as fast and nearer\n");
    ts_bench_print_machine(&b->machine);
    if (!b->complete) printf("stopped before its end: what was measured until then\n");
    fflush(stdout);
}

static cJSON *numbers(const double *x, int n)
{
    cJSON *a = cJSON_CreateArray();
    for (int i = 0; i < n; i++)
        cJSON_AddItemToArray(a, isfinite(x[i]) ? cJSON_CreateNumber(x[i]) : cJSON_CreateNull());
    return a;
}

static cJSON *policy_json(const ts_bench *b, const ts_bench_words *words, int i)
{
    ts_bench_row r = ts_bench_sum(b, i);
    const ts_bench_policy *policy = b->policy + i;
    cJSON *j = cJSON_CreateObject(), *prompts = NULL;
    char why[TS_DOUBT_TEXT];
    cJSON_AddStringToObject(j, "attention", policy->attention);
    if (policy->series) {
        cJSON_AddStringToObject(j, "series", policy->series);
        cJSON_AddNumberToObject(j, b->sweep, policy->x);
    }
    ts_bench_number(j, "seconds", r.seconds);
    ts_bench_number(j, "fastest", r.least);
    ts_bench_number(j, "slowest", r.most);
    ts_bench_number(j, "cpu_seconds", r.cpu);
    ts_bench_number(j, "attention_seconds", r.attention);
    ts_bench_number(j, "speed_up", r.speed);
    ts_bench_number(j, "attention_speed_up", r.attention_speed);
    ts_bench_number(j, "ideal", r.ideal);
    ts_bench_add_void(j, ts_doubt_text(&r.measured, r.doubts, why));
    ts_bench_number(j, "kept", r.kept);
    ts_bench_number(j, "recall", r.recall > 0 ? r.recall : NAN);
    ts_bench_number(j, "psnr", r.psnr);
    ts_bench_number(j, "ssim", r.ssim);
    ts_bench_number(j, "latents", r.apart);
    if (i) cJSON_AddBoolToObject(j, "frontier", words->frontier[i]);
    cJSON_AddNumberToObject(j, "calls_dense", (double)r.dense);
    cJSON_AddNumberToObject(j, "calls_searched", (double)r.searched);
    cJSON_AddNumberToObject(j, "calls_sparse", (double)r.sparse);
    prompts = cJSON_AddArrayToObject(j, "prompts");
    for (int p = 0; p < b->done_prompts; p++) {
        const ts_bench_cell *c = ts_bench_at(b, p, i);
        cJSON *k = cJSON_CreateObject();
        cJSON_AddItemToObject(k, "seconds", numbers(c->seconds, c->repeats));
        cJSON_AddItemToObject(k, "cpu_seconds", numbers(c->cpu, c->repeats));
        cJSON_AddItemToObject(k, "attention_seconds", numbers(c->attention, c->repeats));
        cJSON_AddNumberToObject(k, "attention_gain", c->report.attention_gain);
        cJSON_AddItemToObject(k, "mse", numbers(c->mse, c->mse ? b->frames : 0));
        cJSON_AddItemToObject(k, "ssim", numbers(c->ssim, c->ssim ? b->frames : 0));
        ts_bench_number(k, "latents", c->apart);
        if (c->said) cJSON_AddStringToObject(k, "report", c->said);
        cJSON_AddItemToArray(prompts, k);
    }
    return j;
}

ts_status ts_bench_json(const ts_bench *b)
{
    cJSON *j = ts_bench_document(b->c->ctx, "clips", &b->machine), *list;
    cJSON_AddNumberToObject(j, "width", b->e.width);
    cJSON_AddNumberToObject(j, "height", b->e.height);
    cJSON_AddNumberToObject(j, "frames", b->e.frames);
    cJSON_AddNumberToObject(j, "steps", b->q.steps);
    cJSON_AddNumberToObject(j, "tokens", (double)b->e.tokens);
    cJSON_AddNumberToObject(j, "repeats", b->repeats);
    cJSON_AddStringToObject(j, "precision", b->e.precision);
    if (b->sweep[0]) cJSON_AddStringToObject(j, "sweep", b->sweep);
    list = cJSON_AddArrayToObject(j, "prompts");
    for (int p = 0; p < b->done_prompts; p++)
        cJSON_AddItemToArray(list, cJSON_CreateString(b->prompt[p]));
    ts_bench_words words;
    ts_bench_conclude(b, &words);
    list = cJSON_AddArrayToObject(j, "policies");
    for (int i = 0; i < b->policies; i++) cJSON_AddItemToArray(list, policy_json(b, &words, i));
    cJSON_AddBoolToObject(j, "verdict_measured", !*words.why);
    list = cJSON_AddArrayToObject(j, "verdict");
    for (int i = 0; i < words.lines; i++)
        cJSON_AddItemToArray(list, cJSON_CreateString(words.line[i]));
    ts_status st = ts_bench_write(&b->c->err, &b->c->flags, j, b->complete);
    cJSON_Delete(j);
    return st;
}
