/* The command bench: what was measured as a table on stdout, row by row, and whole in a JSON file
 * (docs/formats.md). */
#include "backend/utf8.h"
#include "cli/bench/bench_single.h"
#include "cli/side.h"
#include "cli/table.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    ts_cli *c;
    cJSON *peak, *rows;
    bool titled; /* the table has its heading */
    ts_bench_machine machine;
    ts_kernel_row dense, alone; /* what the rows behind them are compared with */
    ts_kernel_result *all;
    int n;
    char doubts[4096]; /* what stands below the table, a line each */
} table;

/* ---- kernels ---- */
static double range_of(const ts_kernel_row *r) { return r->slowest - r->fastest; }

/* What a row is compared with, and what arithmetic allows: a plan that keeps a tenth is at most ten
 * times faster, n threads at most n times, and nothing is above the peak. */
static ts_measured compare_kernel(const table *t, const ts_kernel_row *r)
{
    ts_measured m = ts_bench_measured(&t->machine);
    const ts_kernel_row *with = NULL;
    if (r->what == TS_KERNEL_SPARSE && r->ratio > 0) {
        with = &t->dense;
        m.most = 1 / r->kept;
    }
    if (r->what == TS_KERNEL_UNEVEN && r->ratio > 0) {
        with = &t->alone;
        m.most = r->threads;
    }
    if (with) {
        m.gain = with->seconds / r->seconds;
        m.difference = fabs(with->seconds - r->seconds);
        m.apart = fmax(range_of(with), range_of(r));
    }
    if (r->peak_share > 0 && !(ts_doubts(&m) & ~TS_DOUBT_BUSY)) {
        m.gain = r->peak_share;
        m.most = 1;
        m.difference = m.apart = 0;
    }
    return m;
}

static const char *name_kernel(const ts_kernel_row *r, char *out, size_t size)
{
    if (r->what == TS_KERNEL_UNEVEN)
        snprintf(out, size, "%s, %d thread%s", r->name, r->threads, r->threads == 1 ? "" : "s");
    else
        snprintf(out, size, "%s", r->name);
    return out;
}

static void note_doubt(table *t, const ts_kernel_row *r, const char *why)
{
    char name[48];
    size_t n = strlen(t->doubts);
    snprintf(t->doubts + n, sizeof t->doubts - n, "void: %s, %ld tokens, keep %g: %s\n",
             name_kernel(r, name, sizeof name), r->tokens, r->keep, why);
}

static const char *explain_ratio(const ts_kernel_row *r, char *out, size_t size)
{
    *out = 0;
    if (r->ratio <= 0) return out;
    if (r->what == TS_KERNEL_SPARSE && r->packing > 0)
        snprintf(out, size, "%.1f%% of dense x kept, %.1f%% beside packing", 100 * r->ratio,
                 100 * r->kernel_ratio);
    else if (r->what == TS_KERNEL_SPARSE)
        snprintf(out, size, "%.1f%% of dense x kept", 100 * r->ratio);
    else if (r->what == TS_KERNEL_UNEVEN)
        snprintf(out, size, "%.2f x one thread", r->ratio);
    else if (r->what == TS_KERNEL_MEANS || r->what == TS_KERNEL_LINEAR)
        snprintf(out, size, "%.3f x sparse", r->ratio);
    else if (r->what == TS_KERNEL_PACKING)
        snprintf(out, size, "%.2f%% of dense", 100 * r->ratio);
    else
        snprintf(out, size, "%.3f x dense", r->ratio);
    return out;
}

static void print_kernel_row(table *t, const ts_kernel_row *r, int doubts)
{
    char name[48], rate[32] = "", share[32] = "", last[80];
    if (r->what == TS_KERNEL_PEAK) {
        snprintf(name, sizeof name, "%s peak", r->precision);
        ts_table_row(name, "%.1f GFLOP/s on %d thread%s (%s)", r->flops / 1e9, r->threads,
                     r->threads == 1 ? "" : "s", r->level);
        return;
    }
    if (!t->titled)
        printf("\n%8s  %-18s %7s %7s %11s %11s %9s %8s  %s\n", "tokens", "kernel", "keep", "kept",
               "ms", "CPU ms", "GFLOP/s", "of peak", "compared");
    t->titled = true;
    name_kernel(r, name, sizeof name);
    if (r->flops > 0) snprintf(rate, sizeof rate, "%.1f", r->flops / 1e9);
    if (r->peak_share > 0)
        snprintf(share, sizeof share, doubts ? "void" : "%.1f%%", 100 * r->peak_share);
    explain_ratio(r, last, sizeof last);
    printf("%8ld  %-18s %7.4g %7.4f %11.3f %11.3f %9s %8s  %s\n", r->tokens, name, r->keep, r->kept,
           1e3 * r->seconds, 1e3 * r->cpu, rate, share, *last && doubts ? "void" : last);
}

static void add_kernel_row(table *t, const ts_kernel_row *r, const char *why)
{
    cJSON *j;
    if (r->what == TS_KERNEL_PEAK) {
        cJSON_AddNumberToObject(t->peak, r->precision, r->flops);
        return;
    }
    j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "kernel", r->name);
    cJSON_AddStringToObject(j, "precision", r->precision);
    cJSON_AddNumberToObject(j, "tokens", (double)r->tokens);
    cJSON_AddNumberToObject(j, "threads", r->threads);
    cJSON_AddNumberToObject(j, "repeats", r->repeats);
    cJSON_AddNumberToObject(j, "keep", r->keep);
    cJSON_AddNumberToObject(j, "kept", r->kept);
    cJSON_AddNumberToObject(j, "seconds", r->seconds);
    cJSON_AddNumberToObject(j, "fastest", r->fastest);
    cJSON_AddNumberToObject(j, "slowest", r->slowest);
    cJSON_AddNumberToObject(j, "cpu_seconds", r->cpu);
    if (r->flops > 0) cJSON_AddNumberToObject(j, "flops", r->flops);
    if (r->peak_share > 0) cJSON_AddNumberToObject(j, "peak_share", r->peak_share);
    if (r->packing > 0) cJSON_AddNumberToObject(j, "packing", r->packing);
    if (r->ratio > 0) cJSON_AddNumberToObject(j, "ratio", r->ratio);
    if (r->kernel_ratio > 0) cJSON_AddNumberToObject(j, "kernel_ratio", r->kernel_ratio);
    ts_bench_add_void(j, why);
    cJSON_AddItemToArray(t->rows, j);
}

/* What finds no memory is missing in sentences and page alone. */
static void keep_result(table *t, const ts_kernel_row *r, int doubts)
{
    if (!(t->n & (t->n - 1))) {
        ts_kernel_result *more = realloc(t->all, sizeof *more * (t->n ? 2 * (size_t)t->n : 1));
        if (!more) return;
        t->all = more;
    }
    t->all[t->n++] = (ts_kernel_result){.r = *r, .doubts = doubts};
}

static void take_kernel_row(void *user, const ts_kernel_row *r)
{
    table *t = user;
    char why[TS_DOUBT_TEXT];
    ts_screen_clear(&t->c->screen);
    ts_bench_look(&t->machine);
    if (r->what == TS_KERNEL_DENSE) t->dense = *r;
    if (r->what == TS_KERNEL_UNEVEN && r->threads == 1) t->alone = *r;
    const ts_measured m = compare_kernel(t, r);
    int doubts = ts_doubts(&m);
    print_kernel_row(t, r, doubts);
    fflush(stdout);
    ts_doubt_text(&m, doubts, why);
    keep_result(t, r, doubts);
    if (doubts && !(doubts & TS_DOUBT_BUSY)) note_doubt(t, r, why); /* that is said once */
    add_kernel_row(t, r, why);
}

void ts_bench_number(cJSON *j, const char *key, double x)
{
    cJSON_AddItemToObject(j, key, isfinite(x) ? cJSON_CreateNumber(x) : cJSON_CreateNull());
}

cJSON *ts_bench_document(ts_ctx *ctx, const char *what, const ts_bench_machine *m)
{
    cJSON *j = cJSON_CreateObject();
    char *versions = ts_versions(ctx);
    cJSON_AddStringToObject(j, "tessera", ts_version());
    cJSON_AddStringToObject(j, "bench", what);
    cJSON *list = cJSON_AddArrayToObject(j, "versions");
    for (char *save, *line = versions ? strtok_r(versions, "\n", &save) : NULL; line;
         line = strtok_r(NULL, "\n", &save))
        cJSON_AddItemToArray(list, cJSON_CreateString(line));
    ts_bench_add_machine(j, m);
    free(versions);
    return j;
}

ts_status ts_bench_write(ts_err *err, const ts_flags *f, cJSON *j, bool complete)
{
    const char *path = ts_flag_text(f, TS_F_JSON_FILE);
    if (!path) return TS_OK;
    cJSON_AddBoolToObject(j, "complete", complete);
    char *text = ts_utf8_repair_own(cJSON_Print(j));
    ts_status st = text ? ts_side_write(err, f, TS_F_JSON_FILE, text, strlen(text))
                        : ts_fail(err, TS_EMEMORY, "no memory for %s", path);
    free(text);
    return st;
}

static ts_status write_kernels(ts_cli *c, table *t, const ts_kernel_bench *b, bool complete)
{
    cJSON *j = ts_bench_document(c->ctx, "kernel", &t->machine);
    cJSON_AddNumberToObject(j, "heads", b->heads);
    cJSON_AddNumberToObject(j, "dim", b->dim);
    cJSON_AddItemToObject(j, "peak", t->peak);
    cJSON_AddItemToObject(j, "rows", t->rows);
    char line[TS_VERDICT_LINES][TS_VERDICT_TEXT];
    ts_bench_add_lines(j, line, ts_kernel_verdict(t->all, t->n, line));
    ts_status st = ts_bench_write(&c->err, &c->flags, j, complete);
    t->peak = t->rows = NULL; /* the document's */
    cJSON_Delete(j);
    if (!st) st = ts_kernel_html(c, b, &t->machine, t->all, t->n, complete);
    return st;
}

static ts_status bench_kernels(ts_cli *c)
{
    ts_status st = TS_OK;
    double tokens[TS_LIST], keep[TS_LIST];
    long counts[TS_LIST];
    const ts_flag_value *v = c->flags.value;
    ts_kernel_bench b = {.heads = 12,
                         .dim = 128,
                         .repeats = 5,
                         .tokens = counts,
                         .keep = keep,
                         .row = take_kernel_row};
    table t = {.c = c};
    t.peak = cJSON_CreateObject();
    t.rows = cJSON_CreateArray();
    b.tokens_count = ts_parse_list(v[TS_F_TOKENS].set ? v[TS_F_TOKENS].text : "4096,16384", true, 1,
                                   1 << 24, tokens);
    b.keep_count = ts_parse_list(v[TS_F_KEEP].set ? v[TS_F_KEEP].text : "1,0.5,0.2,0.1", false, 0,
                                 1, keep);
    for (int i = 0; i < b.tokens_count; i++) counts[i] = lround(tokens[i]);
    if (v[TS_F_HEADS].set) b.heads = (int)v[TS_F_HEADS].whole;
    if (v[TS_F_DIM].set) b.dim = (int)v[TS_F_DIM].whole;
    if (v[TS_F_REPEATS].set) b.repeats = (int)v[TS_F_REPEATS].whole;
    b.user = &t;
    TRY(ts_side_check(&c->err, &c->flags, TS_F_JSON_FILE, false));
    TRY(ts_side_check(&c->err, &c->flags, TS_F_HTML, false));
    TRY(ts_cli_open(c));
    ts_bench_begin(&t.machine);
    c->screen.armed = true; /* there is no estimate to start with */
    st = ts_bench_kernel(c->ctx, &b);
    if (cJSON_GetArraySize(t.rows) > 0) {
        ts_bench_look(&t.machine);
        putchar('\n');
        char line[TS_VERDICT_LINES][TS_VERDICT_TEXT];
        ts_bench_print_lines("", line, ts_kernel_verdict(t.all, t.n, line));
        ts_bench_print_busy(&t.machine);
        fputs(t.doubts, stdout);
        ts_bench_print_machine(&t.machine);
        ts_status unsaved = write_kernels(c, &t, &b, st == TS_OK);
        if (!st) st = unsaved;
    }
done:
    free(t.all);
    cJSON_Delete(t.peak);
    cJSON_Delete(t.rows);
    return st;
}

enum { CLIPS = 1, STEP = 2, KERNEL = 4 }; /* what can be measured */

/* Flags that say nothing of what is measured would be overlooked in silence. */
static ts_status check_bench_flags(ts_err *err, const ts_flags *f, int what)
{
    static const struct {
        ts_flag_id id;
        const char *name;
        int of;
        const char *goes;
    } part[] = {{TS_F_SWEEP, "sweep", CLIPS, "prompts"},
                {TS_F_FPS, "fps", CLIPS, "prompts"},
                {TS_F_GUIDANCE, "guidance", CLIPS, "prompts"},
                {TS_F_GUIDANCE_2, "guidance-2", CLIPS, "prompts"},
                {TS_F_DYNAMIC_GUIDANCE, "dynamic-guidance", CLIPS, "prompts"},
                {TS_F_NEGATIVE, "negative", CLIPS, "prompts"},
                {TS_F_SAMPLER, "sampler", CLIPS, "prompts"},
                {TS_F_SHIFT, "shift", CLIPS, "prompts"},
                {TS_F_VAE_TILE, "vae-tile", CLIPS, "prompts"},
                {TS_F_IMAGE, "image", CLIPS, "prompts"},
                {TS_F_LAST_IMAGE, "last-image", CLIPS, "prompts"},
                {TS_F_BENCH_ATTENTION, "attention", CLIPS | STEP, "prompts and --step"},
                {TS_F_BENCH_CACHE, "cache-steps", CLIPS, "prompts"},
                {TS_F_MODEL, "model", CLIPS | STEP, "prompts and --step"},
                {TS_F_SIZE, "size", CLIPS | STEP, "prompts and --step"},
                {TS_F_FRAMES, "frames", CLIPS | STEP, "prompts and --step"},
                {TS_F_STEPS, "steps", CLIPS | STEP, "prompts and --step"},
                {TS_F_SEED, "seed", CLIPS | STEP, "prompts and --step"},
                {TS_F_TOKENS, "tokens", KERNEL, "--kernel"},
                {TS_F_HEADS, "heads", KERNEL, "--kernel"},
                {TS_F_DIM, "dim", KERNEL, "--kernel"},
                {TS_F_KEEP, "keep", KERNEL, "--kernel"}};
    for (size_t i = 0; i < sizeof part / sizeof *part; i++)
        if (ts_flag_set(f, part[i].id) && !(part[i].of & what))
            return ts_fail(err, TS_EUSAGE, "bench: --%s goes with %s, not with %s", part[i].name,
                           part[i].goes,
                           what == CLIPS  ? "prompts"
                           : what == STEP ? "--step"
                                          : "--kernel");
    return TS_OK;
}

ts_status ts_cli_bench(ts_cli *c)
{
    bool kernels = ts_flag_set(&c->flags, TS_F_KERNEL), step = ts_flag_set(&c->flags, TS_F_STEP);
    if (kernels && step)
        return ts_fail(&c->err, TS_EUSAGE, "bench: --kernel and --step exclude each other");
    if ((kernels || step) && c->flags.words)
        return ts_fail(&c->err, TS_EUSAGE, "bench: --%s takes no argument, got \"%.64s\"",
                       kernels ? "kernel" : "step", c->flags.word[0]);
    if (!kernels && !step && !c->flags.words)
        return ts_fail(&c->err, TS_EUSAGE,
                       "bench: what to measure is missing: a prompt (clips under several "
                       "policies), --step (one evaluation) or --kernel (attention alone)");
    ts_status st = check_bench_flags(&c->err, &c->flags, kernels ? KERNEL : step ? STEP : CLIPS);
    return st        ? st
           : kernels ? bench_kernels(c)
           : step    ? ts_cli_bench_step(c)
                     : ts_cli_bench_clips(c);
}
