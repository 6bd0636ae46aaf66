/* What sparse attention did in a run, and what that was worth: the account of attend.c in words. */
#include "attention/attend.h"

#include <stdio.h>
#include <stdlib.h>

double ts_attn_seconds(const ts_attn_account *c)
{
    return c->dense_s + c->searched_s + c->again_s + c->sparse_s;
}

double ts_attn_work(const ts_attn_account *c)
{
    return (double)(c->dense + c->searched) + 0.5 * (double)c->again + c->share;
}

double ts_attn_gain(const ts_attn_account *c, double *measured)
{
    double calls = (double)(c->dense + c->searched + c->again + c->sparse), work = ts_attn_work(c),
           all = ts_attn_seconds(c);
    double one = c->dense      ? c->dense_s / (double)c->dense
                 : c->searched ? c->searched_s / (double)c->searched
                               : 0;
    *measured = all > 0 ? one * calls / all : 0;
    return work > 0 ? calls / work : 1;
}

char *ts_attn_report(const ts_attn *a)
{
    const ts_attn_account *c = &a->account;
    long calls = c->dense + c->searched + c->again + c->sparse, sparse = c->again + c->sparse;
    char *text = NULL;
    size_t size;
    double clock, gain = ts_attn_gain(c, &clock);
    if (!calls || a->o.policy.kind == TS_DENSE) return NULL;
    char *policy = ts_policy_text(&a->o.policy);
    FILE *f = policy ? open_memstream(&text, &size) : NULL;
    if (!f) goto done;
    fprintf(f, "attention %s\n", policy);
    fprintf(f,
            "  calls     %ld dense, %ld dense with a search, %ld sparse (%ld of them after a new "
            "search)\n",
            c->dense, c->searched, sparse, c->again);
    if (sparse)
        fprintf(f, "  kept      %.1f%% of the blocks in sparse calls, %.1f%% of the whole run's\n",
                100 * c->share / (double)sparse,
                100 * (c->share + (double)(c->dense + c->searched)) / (double)calls);
    if (c->recalls)
        fprintf(f,
                "  recall    %.3f of the weights in a new plan's blocks, least %.3f (%ld plans)\n",
                c->recall / (double)c->recalls, c->recall_least, c->recalls);
    fprintf(f, "  time      %.2f s in attention, %.2f s of it searching\n", ts_attn_seconds(c),
            c->search_s);
    if (sparse) fprintf(f, "  gain      %.2fx of attention by arithmetic", gain);
    if (sparse && clock > 0) fprintf(f, ", %.2fx against the dense calls of this run", clock);
    if (sparse) fputc('\n', f);
    if (*a->why) fprintf(f, "  dense     %s\n", a->why);
    fclose(f);
done:
    free(policy);
    return text;
}
