/* The counters of a run as the lines that stand at its end. */
#include "attention/report.h"

#include "attention/plans.h"
#include "attention/search.h"

#include "backend/number.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* "41% fresh, 33% pooled" */
static void print_shares(FILE *f, const long *n, const char *const *name, int kinds)
{
    long all = 0;
    const char *before = "";
    for (int i = 0; i < kinds; i++) all += n[i];
    for (int i = 0; i < kinds; i++) {
        if (!n[i]) continue;
        fprintf(f, "%s%.0f%% %s", before, 100 * (double)n[i] / (double)all, name[i]);
        before = ", ";
    }
}

static void print_choices(FILE *f, const ts_attn_counters *c)
{
    static const char *const forms[] = {"nothing", "means", "linear"};
    const char *rankings[TS_RANKINGS_NAMED];
    long ranked = 0, formed = 0;
    for (int i = 0; i < TS_RANKINGS_NAMED; i++) {
        rankings[i] = ts_ranking_name((ts_ranking)i);
        ranked += c->ranked[i];
    }
    for (int i = 0; i <= TS_REST_LINEAR; i++) formed += c->formed[i];
    if (!ranked) return;
    fputs("  heads     ", f);
    print_shares(f, c->ranked, rankings, TS_RANKINGS_NAMED);
    if (formed) {
        fputs("; for the rest ", f);
        print_shares(f, c->formed, forms, TS_REST_LINEAR + 1);
    }
    fputc('\n', f);
}

/* How many blocks a share of mass took. */
static void print_density(FILE *f, const ts_attn_counters *c)
{
    double n = (double)c->heads, mean = c->head_sum / fmax(n, 1);
    if (!c->heads) return;
    fprintf(f,
            "  density   %.1f%% of the blocks in a head's new plan, %.1f%% to %.1f%%, standard "
            "deviation %.1f%% (%ld heads of layers)\n",
            100 * mean, 100 * c->head_least, 100 * c->head_most,
            100 * sqrt(fmax(0, c->head_squares / n - mean * mean)), c->heads);
}

/* recycled: how alike queries were, and how many searches each layer made. */
static void print_searches(FILE *f, const ts_attn *a)
{
    const ts_attn_counters *c = &a->counters;
    if (!c->compared) return;
    fprintf(f, "  alike     %.3f: queries and those of the last search, least %.3f (%ld calls)\n",
            c->alike / (double)c->compared, c->alike_least, c->compared);
    for (int slot = 0; a->state && slot < a->o.slots; slot++) {
        fprintf(f, "  searches  of %s, by layer:", a->o.slot_name[slot]);
        for (int l = 0; l < a->o.layers; l++) fprintf(f, " %d", ts_plans_of(a, slot, l)->searches);
        fputc('\n', f);
    }
}

char *ts_attn_report(const ts_attn *a)
{
    const ts_attn_counters *c = &a->counters;
    long calls = ts_attn_calls(c), sparse = c->again + c->sparse;
    char *text = NULL;
    size_t size;
    double clock, gain = ts_attn_gain(c, &clock);
    if (!calls || a->o.policy.kind == TS_DENSE) return NULL;
    char *policy = ts_policy_text(&a->o.policy);
    FILE *f = policy ? open_memstream(&text, &size) : NULL;
    if (!f) goto done;
    locale_t was = ts_point_begin();
    fprintf(f, "attention %s\n", policy);
    fprintf(f,
            "  calls     %ld dense, %ld dense with a search, %ld sparse (%ld of them after a new "
            "search)\n",
            c->dense, c->searched, sparse, c->again);
    if (sparse)
        fprintf(f, "  kept      %.1f%% of the blocks in sparse calls, %.1f%% of the whole run's\n",
                100 * c->kept / (double)sparse,
                100 * (c->kept + (double)(c->dense + c->searched)) / (double)calls);
    if (c->recalls)
        fprintf(f,
                "  recall    %.3f of the weights in a new plan's blocks, least %.3f (%ld plans)\n",
                c->recall / (double)c->recalls, c->recall_least, c->recalls);
    print_density(f, c);
    print_searches(f, a);
    print_choices(f, c);
    if (a->o.timed)
        fprintf(f, "  time      %.2f s in attention, %.2f s of it searching\n", ts_attn_seconds(c),
                c->search_s);
    if (sparse) fprintf(f, "  gain      %.2fx of attention by arithmetic", gain);
    if (sparse && clock > 0) fprintf(f, ", %.2fx against the dense calls of this run", clock);
    if (sparse) fputc('\n', f);
    if (*a->why) fprintf(f, "  dense     %s\n", a->why);
    ts_point_end(was);
    fclose(f);
done:
    free(policy);
    return text;
}
