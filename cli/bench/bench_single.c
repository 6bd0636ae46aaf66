/* Sentences about single evaluations and kernels. */
#include "cli/bench/bench_single.h"

#include <math.h>
#include <string.h>

#define SAME_GAIN 0.02

/* ---- single evaluations ---- */
static double saved_share(const ts_step_sum *p, bool measured)
{
    double gain = measured ? p->gain : p->ideal;
    return gain > 0 ? 1 - 1 / gain : 0;
}

static bool is_all_measured(const ts_step_sum *p, int n)
{
    for (int i = 1; i < n; i++)
        if (p[i].doubtful) return false;
    return true;
}

/* The one that saves most after `last`; -1: there is no more. */
static int next_saver(const ts_step_sum *p, int n, int last, bool measured)
{
    int next = -1;
    for (int i = 1; i < n; i++) {
        double saved = saved_share(p + i, measured),
               before = last < 0 ? INFINITY : saved_share(p + last, measured);
        bool behind = saved < before || (saved == before && i > last);
        if (i != last && behind && (next < 0 || saved > saved_share(p + next, measured))) next = i;
    }
    return next;
}

static void say_saver(const ts_step_sum *p, bool measured, char *out)
{
    double saved = saved_share(p, measured), ideal = saved_share(p, false);
    int n;
    if (saved > SAME_GAIN)
        n = snprintf(out, TS_VERDICT_TEXT, "%.200s saves %.0f%% of a run", p->name, 100 * saved);
    else if (saved < -SAME_GAIN)
        n = snprintf(out, TS_VERDICT_TEXT, "%.200s costs %.0f%% more", p->name, -100 * saved);
    else
        n = snprintf(out, TS_VERDICT_TEXT, "%.200s saves nothing", p->name);
    if (measured)
        n += snprintf(out + n, (size_t)(TS_VERDICT_TEXT - n), ", of %.0f%% by arithmetic",
                      100 * fmax(ideal, 0));
    if (measured && p->seconds > 0 && p->search > SAME_GAIN * p->seconds)
        snprintf(out + n, (size_t)(TS_VERDICT_TEXT - n), "; %.0f%% of it is searching",
                 100 * p->search / p->seconds);
}

int ts_step_verdict(const ts_step_sum *p, int n, int steps,
                    char line[TS_VERDICT_LINES][TS_VERDICT_TEXT])
{
    int lines = 0;
    bool measured = is_all_measured(p, n);
    if (n < 2 || p[0].seconds <= 0) return 0;
    snprintf(line[lines++], TS_VERDICT_TEXT,
             "self-attention is %.0f%% of a dense run of %d step%s: more than that none can save",
             100 * p[0].attention / p[0].seconds, steps, steps == 1 ? "" : "s");
    for (int i = -1; (i = next_saver(p, n, i, measured)) >= 0 && lines < TS_VERDICT_LINES - 1;)
        say_saver(p + i, measured, line[lines++]);
    snprintf(line[lines++], TS_VERDICT_TEXT,
             "how near they are to dense is not measured here: bench with prompts does that");
    return lines;
}

/* ---- kernels ---- */
enum { NAMED = 4 }; /* shares in a sentence */

/* Rows of one number of tokens: [first, last). */
static int end_of_tokens(const ts_kernel_result *k, int n, int first)
{
    int i = first;
    while (i < n && k[i].r.tokens == k[first].r.tokens) i++;
    return i;
}

static const ts_kernel_result *find_kernel(const ts_kernel_result *k, int first, int last,
                                           ts_kernel_what what)
{
    for (int i = first; i < last; i++)
        if (k[i].r.what == what && !k[i].doubts && k[i].r.seconds > 0) return k + i;
    return NULL;
}

static int append_words(char *out, int n, const char *text)
{
    if (n >= TS_VERDICT_TEXT - 1) return n;
    int more = snprintf(out + n, (size_t)(TS_VERDICT_TEXT - n), "%s", text);
    return n + more < TS_VERDICT_TEXT ? n + more : TS_VERDICT_TEXT - 1;
}

/* false: there is nothing to say. */
static bool say_plans(const ts_kernel_result *k, int first, int last, char *out)
{
    const ts_kernel_result *dense = find_kernel(k, first, last, TS_KERNEL_DENSE);
    char part[128];
    int named = 0, n = 0;
    if (!dense) return false;
    snprintf(part, sizeof part, "%ld tokens: dense", dense->r.tokens);
    n = append_words(out, n, part);
    if (dense->r.peak_share > 0) {
        snprintf(part, sizeof part, " reaches %.0f%% of the peak", 100 * dense->r.peak_share);
        n = append_words(out, n, part);
    } else {
        snprintf(part, sizeof part, " takes %.3g ms", 1e3 * dense->r.seconds);
        n = append_words(out, n, part);
    }
    for (int i = first; i < last && named < NAMED; i++) {
        const ts_kernel_row *r = &k[i].r;
        if (r->what != TS_KERNEL_SPARSE || k[i].doubts || r->seconds <= 0) continue;
        double gain = dense->r.seconds / r->seconds;
        snprintf(part, sizeof part,
                 gain > 1 + SAME_GAIN   ? "%s %.3g of the blocks %.2fx as fast"
                 : gain < 1 - SAME_GAIN ? "%s %.3g of the blocks slower, %.2fx"
                                        : "%s %.3g of the blocks no faster",
                 named ? "," : "; a plan of", r->kept, gain);
        n = append_words(out, n, part);
        snprintf(part, sizeof part, " (%.0f%% of what it promises)", 100 * r->ratio);
        if (gain > 1 + SAME_GAIN) n = append_words(out, n, part);
        named++;
    }
    return true;
}

static bool say_searches(const ts_kernel_result *k, int first, int last, char *out)
{
    static const struct {
        ts_kernel_what what;
        const char *format;
    } costs[] = {{TS_KERNEL_FUSED, "finding blocks in a dense call makes it %.2fx as long"},
                 {TS_KERNEL_CACHED, "finding them again takes %.2f of a dense call"},
                 {TS_KERNEL_MEANS, "means of the rest make a sparse call %.2fx as long"},
                 {TS_KERNEL_LINEAR, "linear parts %.2fx"}};
    char part[128];
    int n = 0, said = 0;
    if (!find_kernel(k, first, last, TS_KERNEL_DENSE)) return false;
    for (size_t i = 0; i < sizeof costs / sizeof *costs; i++) {
        const ts_kernel_result *c = find_kernel(k, first, last, costs[i].what);
        if (!c || c->r.ratio <= 0) continue;
        if (!said++) {
            snprintf(part, sizeof part, "%ld tokens: ", c->r.tokens);
            n = append_words(out, n, part);
        } else {
            n = append_words(out, n, ", ");
        }
        snprintf(part, sizeof part, costs[i].format, c->r.ratio);
        n = append_words(out, n, part);
    }
    return said > 0;
}

int ts_kernel_verdict(const ts_kernel_result *k, int n,
                      char line[TS_VERDICT_LINES][TS_VERDICT_TEXT])
{
    int lines = 0;
    for (int first = 0, last; first < n && lines < TS_VERDICT_LINES - 1; first = last) {
        last = end_of_tokens(k, n, first);
        if (!k[first].r.tokens) continue; /* the peak */
        lines += say_plans(k, first, last, line[lines]);
        lines += say_searches(k, first, last, line[lines]);
    }
    return lines;
}

void ts_bench_print_lines(const char *why, char line[][TS_VERDICT_TEXT], int n)
{
    if (n && *why) printf("By arithmetic, measured gains are void (%s):\n", why);
    for (int i = 0; i < n; i++) printf("  %s\n", line[i]);
    if (n) putchar('\n');
}

void ts_bench_add_lines(cJSON *j, char line[][TS_VERDICT_TEXT], int n)
{
    cJSON *list = cJSON_AddArrayToObject(j, "verdict");
    for (int i = 0; i < n; i++) cJSON_AddItemToArray(list, cJSON_CreateString(line[i]));
}
