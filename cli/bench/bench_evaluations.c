/* `tessera bench --step`: one evaluation of the transformer of each kind that a policy's schedule
 * has, by part, and what that makes of a whole run. */
#include "cli/bench/bench_single.h"
#include "cli/open_model.h"
#include "cli/settings.h"
#include "cli/side.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 64 };
typedef struct {
    ts_step_row r;
    double seconds[MOST], cpu[MOST], linear[MOST], attention[MOST], search[MOST];
    int n;
} kind;
typedef struct {
    ts_cli *c;
    int policies, steps;
    char *policy[TS_TIMES_GIVEN + 1]; /* [0] is dense */
    kind k[TS_TIMES_GIVEN + 1][TS_STEP_KINDS];
    int kinds[TS_TIMES_GIVEN + 1];
    int at; /* the policy in work */
    ts_bench_machine machine;
} steps_bench;

static void take_evaluation(void *user, const ts_step_row *r)
{
    steps_bench *b = user;
    int i = 0;
    while (i < b->kinds[b->at] && strcmp(b->k[b->at][i].r.kind, r->kind)) i++;
    kind *k = &b->k[b->at][i];
    if (!b->kinds[b->at] && !strncmp(b->policy[b->at], "auto", strlen("auto")))
        ts_screen_note(&b->c->screen, "attention %s: %s", b->policy[b->at], r->attention_policy);
    if (i == b->kinds[b->at]) {
        *k = (kind){.r = *r};
        b->kinds[b->at]++;
    }
    k->r.kept = r->kept;
    k->r.work = r->work;
    if (k->n == MOST) return;
    k->seconds[k->n] = r->seconds;
    k->cpu[k->n] = r->cpu;
    k->linear[k->n] = r->linear;
    k->attention[k->n] = r->attention;
    k->search[k->n] = r->search;
    k->n++;
    ts_screen_note(&b->c->screen, "%s, %s: %.3f s (%.3f linear, %.3f attention)", b->policy[b->at],
                   r->kind, r->seconds, r->linear, r->attention);
}

/* of a run: sums over its steps; apart: of the slowest and the fastest turn; work: self-attention
 * by arithmetic, a dense evaluation being 1; steps: of the kinds that were measured */
typedef struct {
    double seconds, cpu, apart, attention, search, work;
    int steps;
} whole;

static whole sum_policy(const steps_bench *b, int policy)
{
    whole w = {0};
    for (int i = 0; i < b->kinds[policy]; i++) {
        const kind *k = &b->k[policy][i];
        double median = ts_bench_median(k->seconds, k->n);
        w.seconds += k->r.steps * median;
        w.apart += k->r.steps * median * ts_bench_spread(k->seconds, k->n);
        w.cpu += k->r.steps * ts_bench_median(k->cpu, k->n);
        w.attention += k->r.steps * ts_bench_median(k->attention, k->n);
        w.search += k->r.steps * ts_bench_median(k->search, k->n);
        w.work += k->r.steps * k->r.work;
        w.steps += k->r.steps;
    }
    return w;
}

/* gain: over dense, and `most` its ideal = d / (d - a + a work / steps): Amdahl with the dense
 * run's seconds d, of which a in self-attention. */
static ts_measured compare_policy(const steps_bench *b, int policy)
{
    ts_measured m = ts_bench_measured(&b->machine);
    whole d = sum_policy(b, 0), w = sum_policy(b, policy);
    double limit = d.seconds - d.attention + d.attention * w.work / b->steps;
    m.gain = w.seconds > 0 ? d.seconds / w.seconds : 0;
    m.most = limit > 0 ? d.seconds / limit : 0;
    m.difference = fabs(d.seconds - w.seconds);
    m.apart = policy ? fmax(d.apart, w.apart) : 0;
    return m;
}

/* Of those of which every kind was measured; why: the first doubt, that of the machine before
 * others. */
static int list_sums(const steps_bench *b, ts_step_sum *sums, char why[TS_BENCH_WHY])
{
    int n = 0;
    char text[TS_DOUBT_TEXT];
    *why = 0;
    for (int p = 0; p < b->policies; p++) {
        whole w = sum_policy(b, p);
        const ts_measured m = compare_policy(b, p);
        int doubts = p ? ts_doubts(&m) : 0;
        bool busy = doubts & TS_DOUBT_BUSY;
        if (w.steps < b->steps) continue;
        if (doubts && !*why)
            snprintf(why, TS_BENCH_WHY, "%.200s%s%s", busy ? "" : b->policy[p], busy ? "" : ": ",
                     ts_doubt_text(&m, busy ? TS_DOUBT_BUSY : doubts, text));
        sums[n++] = (ts_step_sum){.name = b->policy[p],
                                  .seconds = w.seconds,
                                  .cpu = w.cpu,
                                  .attention = w.attention,
                                  .search = w.search,
                                  .gain = m.gain,
                                  .ideal = m.most,
                                  .doubtful = doubts != 0};
    }
    return n;
}

static void print_step_kind(const kind *k)
{
    double s = ts_bench_median(k->seconds, k->n), l = ts_bench_median(k->linear, k->n),
           a = ts_bench_median(k->attention, k->n);
    char spread[16] = "-";
    if (k->n > 1)
        snprintf(spread, sizeof spread, "%.1f%%", 100 * ts_bench_spread(k->seconds, k->n));
    printf("  %-26s %6d %9.3f %9.3f %7s %9.3f %9.3f %9.3f %9.3f %7.4f\n", k->r.kind, k->r.steps, s,
           ts_bench_median(k->cpu, k->n), spread, l, a, ts_bench_median(k->search, k->n), s - l - a,
           k->r.kept);
}

static void print_whole(const steps_bench *b, int policy)
{
    whole w = sum_policy(b, policy);
    const ts_measured m = compare_policy(b, policy);
    char why[TS_DOUBT_TEXT];
    if (w.steps < b->steps) {
        printf("  stopped before every kind of evaluation had its turn\n");
        return;
    }
    printf("  %d step%s: %.1f s", b->steps, b->steps == 1 ? "" : "s", w.seconds);
    if (!policy)
        printf(", %.1f%% of it attention", w.seconds > 0 ? 100 * w.attention / w.seconds : 0);
    else if (ts_doubts(&m))
        printf(", ideal %.3fx faster than dense; measured gain void: %s", m.most,
               ts_doubt_text(&m, ts_doubts(&m), why));
    else
        printf(", %.3fx faster than dense; ideal %.3fx, reached %.1f%%", m.gain, m.most,
               m.most > 0 ? 100 * m.gain / m.most : 0);
    printf("; %.1f s of CPU time\n", w.cpu);
}

static void print_policies(const steps_bench *b)
{
    int turns = b->k[0][0].n; /* the first of each turn */
    char line[TS_VERDICT_LINES][TS_VERDICT_TEXT], why[TS_BENCH_WHY];
    ts_step_sum sums[TS_TIMES_GIVEN + 1];
    int n = list_sums(b, sums, why);
    ts_bench_print_lines(why, line, ts_step_verdict(sums, n, b->steps, line));
    printf("%-28s %6s %9s %9s %7s %9s %9s %9s %9s %7s\n", "evaluation", "steps", "seconds",
           "CPU sec.", "spread", "linear", "attention", "searching", "rest", "kept");
    for (int p = 0; p < b->policies; p++) {
        printf("%s\n", b->policy[p]);
        for (int i = 0; i < b->kinds[p]; i++) print_step_kind(&b->k[p][i]);
        print_whole(b, p);
    }
    printf("\n%ld tokens, one guidance branch; seconds of an evaluation, ", b->k[0][0].r.tokens);
    if (turns > 1)
        printf("medians of %d turns", turns);
    else
        printf("measured once");
    printf("; CPU sec.: of all threads; attention: self-attention, searching in it; rest: "
           "cross-attention too\n");
    printf("ideal: dense seconds with self-attention alone divided by what the blocks read promise "
           "(Amdahl), a later search counting half a dense one\n");
    ts_bench_print_machine(&b->machine);
    fflush(stdout);
}

static ts_status write_evaluations(const steps_bench *b, const ts_request *q, bool complete)
{
    cJSON *j = ts_bench_document(b->c->ctx, "step", &b->machine), *list;
    cJSON_AddNumberToObject(j, "width", q->width);
    cJSON_AddNumberToObject(j, "height", q->height);
    cJSON_AddNumberToObject(j, "frames", q->frames);
    cJSON_AddNumberToObject(j, "steps", b->steps);
    cJSON_AddNumberToObject(j, "tokens", (double)b->k[0][0].r.tokens);
    list = cJSON_AddArrayToObject(j, "policies");
    for (int p = 0; p < b->policies; p++) {
        cJSON *k = cJSON_CreateObject();
        const ts_measured m = compare_policy(b, p);
        whole w = sum_policy(b, p);
        char why[TS_DOUBT_TEXT];
        cJSON_AddStringToObject(k, "attention", b->policy[p]);
        bool all = w.steps == b->steps;
        ts_bench_number(k, "seconds", all ? w.seconds : NAN);
        ts_bench_number(k, "cpu_seconds", all ? w.cpu : NAN);
        ts_bench_number(k, "attention_seconds", all ? w.attention : NAN);
        ts_bench_number(k, "speed_up", all ? m.gain : NAN);
        ts_bench_number(k, "ideal", all ? m.most : NAN);
        ts_bench_add_void(k, all ? ts_doubt_text(&m, ts_doubts(&m), why) : "");
        cJSON *rows = cJSON_AddArrayToObject(k, "evaluations");
        for (int i = 0; i < b->kinds[p]; i++)
            for (int t = 0; t < b->k[p][i].n; t++) {
                const kind *e = &b->k[p][i];
                cJSON *r = cJSON_CreateObject();
                cJSON_AddStringToObject(r, "kind", e->r.kind);
                cJSON_AddNumberToObject(r, "of_steps", e->r.steps);
                cJSON_AddNumberToObject(r, "kept", e->r.kept);
                cJSON_AddNumberToObject(r, "work", e->r.work);
                cJSON_AddNumberToObject(r, "seconds", e->seconds[t]);
                cJSON_AddNumberToObject(r, "cpu_seconds", e->cpu[t]);
                cJSON_AddNumberToObject(r, "linear_seconds", e->linear[t]);
                cJSON_AddNumberToObject(r, "attention_seconds", e->attention[t]);
                cJSON_AddNumberToObject(r, "search_seconds", e->search[t]);
                cJSON_AddItemToArray(rows, r);
            }
        cJSON_AddItemToArray(list, k);
    }
    char line[TS_VERDICT_LINES][TS_VERDICT_TEXT], why[TS_BENCH_WHY];
    ts_step_sum sums[TS_TIMES_GIVEN + 1];
    int n = list_sums(b, sums, why);
    cJSON_AddBoolToObject(j, "verdict_measured", !*why);
    ts_bench_add_lines(j, line, ts_step_verdict(sums, n, b->steps, line));
    ts_status st = ts_bench_write(&b->c->err, &b->c->flags, j, complete);
    cJSON_Delete(j);
    if (!st)
        st = ts_step_html(b->c, q, &b->machine, sums, n, why, b->k[0][0].r.tokens, b->k[0][0].n,
                          complete);
    return st;
}

ts_status ts_cli_bench_step(ts_cli *c)
{
    ts_status st = TS_OK;
    const ts_flag_value *v = c->flags.value;
    ts_request q;
    ts_step_bench s = {.row = take_evaluation};
    int repeats = v[TS_F_REPEATS].set ? (int)v[TS_F_REPEATS].whole : 1;
    steps_bench *b = calloc(1, sizeof *b);
    if (!b) TRY(ts_fail(&c->err, TS_EMEMORY, "no memory for measurements"));
    b->c = c;
    s.user = b;
    if (repeats > MOST)
        TRY(ts_fail(&c->err, TS_EUSAGE, "bench: --repeats with --step: %d, expected at most %d",
                    repeats, MOST));
    TRY(ts_side_check(&c->err, &c->flags, TS_F_JSON_FILE, false));
    TRY(ts_side_check(&c->err, &c->flags, TS_F_HTML, false));
    TRY(ts_cli_open(c));
    b->policy[b->policies++] = strdup("dense");
    for (int i = 0; i < v[TS_F_BENCH_ATTENTION].n; i++)
        if (strcmp(v[TS_F_BENCH_ATTENTION].all[i], "dense"))
            b->policy[b->policies++] = strdup(v[TS_F_BENCH_ATTENTION].all[i]);
    if (!v[TS_F_BENCH_ATTENTION].n) b->policy[b->policies++] = strdup("adaspa");
    for (int p = 0; p < b->policies; p++) TRY(ts_attention_check(c->ctx, b->policy[p]));
    TRY(ts_cli_open_model(c, NULL, NULL));
    ts_request_init(c->model, &q);
    TRY(ts_settings_of(&c->err, &c->flags, &q));
    TRY(ts_cli_set_loras(c, v, NULL, &q));
    b->steps = q.steps;
    ts_bench_begin(&b->machine);
    c->screen.armed = true; /* there is no estimate to start with */
    ts_screen_bench(&c->screen, &(ts_screen_plan){.policies = b->policies, .turns = repeats});
    for (int turn = 1; turn <= repeats && !st; turn++)
        for (b->at = 0; b->at < b->policies && !st; b->at++) {
            q.attention = b->policy[b->at];
            const ts_screen_turn t = {.policy = q.attention, .turn = turn, .turns = repeats};
            ts_screen_measure(&c->screen, &t, 0);
            st = ts_bench_step(c->model, &q, &s);
            ts_screen_measured(&c->screen);
        }
    /* stopped before their turn */
    while (b->policies > 1 && !b->kinds[b->policies - 1]) free(b->policy[--b->policies]);
    if (b->kinds[0]) {
        ts_screen_clear(&c->screen);
        ts_bench_look(&b->machine);
        print_policies(b);
        ts_status unsaved = write_evaluations(b, &q, !st);
        if (!st) st = unsaved;
    }
done:
    for (int p = 0; b && p < b->policies; p++) free(b->policy[p]);
    free(b);
    return st;
}
