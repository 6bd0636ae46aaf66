/* Evaluations of Wan transformers: a block of each kind that AdaSpa's schedule has, times the
 * layers (embedding, projection at the end and text are left out: a hundredth of it), and a run of
 * 50 steps by that schedule against what the share of attention and the blocks read promise. */
#include "tests/cuda/bench/bench.h"

enum { STEPS = 50, KINDS = 4 };
static const ts_do kinds[KINDS] = {TS_DO_DENSE, TS_DO_SEARCH, TS_DO_SEARCH_AGAIN, TS_DO_SPARSE};
static const char *const names[KINDS] = {"dense", "dense with a search", "sparse, searched again",
                                         "sparse"};
typedef struct {
    const bench_layer *l;
    ts_do what;
} block_call;

static ts_status run_block(bench *b, const void *args)
{
    const block_call *c = args;
    return bench_layer_run(b, c->l, c->what);
}

/* of self-attention and searches; attention to text is counted in, and is the same everywhere */
static double attention_of(const bench_call *c)
{
    return c->parts[TS_TIME_ATTENTION] + c->parts[TS_TIME_SEARCH];
}

static double multiplications(const bench_shape *s, double share) /* of a layer */
{
    double N = (double)s->N, C = (double)(s->A * s->D);
    return 2 * N * C * (6 * C + 2 * (double)s->ff) + 4 * share * N * N * C +
           4 * N * (double)s->text * C;
}

static void say_kinds(bench *b, const bench_layer *l, const bench_call call[KINDS])
{
    const bench_shape *s = &l->of;
    for (int i = 0; i < KINDS; i++) {
        double share = i < 2 ? 1 : l->plan.share, parts = 0;
        bench_row r = {.section = "step", .what = names[i], .unit = "FLOP", .against = ""};
        snprintf(r.of, sizeof r.of, "%s, %s: %d layers", s->name, s->size, s->layers);
        r.seconds = s->layers * call[i].seconds;
        r.rate = multiplications(s, share) / call[i].seconds;
        r.ratio = call[i].seconds / call[0].seconds;
        r.against = "of dense";
        bench_say(b, &r);
        for (int k = 0; k < TS_TIMES; k++) parts += call[i].parts[k];
        if (parts > 0)
            fprintf(b->o.say,
                    "%34s linear %.0f%%, attention and searches %.0f%%, the rest %.0f%%\n", "",
                    100 * call[i].parts[TS_TIME_LINEAR] / parts,
                    100 * attention_of(call + i) / parts,
                    100 * (1 - (call[i].parts[TS_TIME_LINEAR] + attention_of(call + i)) / parts));
    }
}

/* 50 steps: what they take, and what they would if attention took its share of blocks, searches
 * nothing, and all else as long as in a dense step. */
static ts_status say_run(bench *b, const bench_layer *l, const bench_call call[KINDS])
{
    ts_status st;
    ts_policy p;
    double took = 0, ideal = 0, dense = call[0].seconds, parts = 0;
    bool have = false;
    TRY(ts_policy_parse(&b->ctx.err, "adaspa:keep=0.2,search=mass,rest=none", &p));
    ts_policy_settle(&p, STEPS);
    for (int k = 0; k < TS_TIMES; k++) parts += call[0].parts[k];
    double attention = parts > 0 ? dense * attention_of(call) / parts : 0;
    for (int step = 1; step <= STEPS; step++) {
        ts_do what = ts_policy_decide(&p, step, 0, have);
        int i = 0;
        while (i < KINDS - 1 && kinds[i] != what) i++;
        have = have || what == TS_DO_SEARCH;
        took += call[i].seconds;
        ideal += dense - attention * (i < 2 ? 0 : 1 - l->plan.share);
    }
    bench_row r = {.section = "adaspa",
                   .what = "50 steps, keep 0.2",
                   .unit = "FLOP",
                   .seconds = took * l->of.layers,
                   .ratio = ideal / took,
                   .against = "of what Amdahl's law promises",
                   .bar = BENCH_AT_LEAST,
                   .limit = 0.95};
    snprintf(r.of, sizeof r.of, "%s, %s, one branch", l->of.name, l->of.size);
    bench_say(b, &r);
    r.what = "against 50 dense ones";
    r.ratio = dense * STEPS / took;
    r.against = "times as fast";
    r.bar = BENCH_NO_BAR;
    bench_say(b, &r);
done:
    return st;
}

static ts_status measure_shape(bench *b, const bench_shape *s)
{
    ts_status st;
    bench_layer l;
    block_call c[KINDS];
    bench_call call[KINDS];
    size_t mark = ts_mark(&b->ctx.arena);
    TRY(bench_layer_take(b, s, 0.2, &l));
    TRY(bench_layer_run(b, &l, TS_DO_SEARCH)); /* lse and a plan are there */
    for (int i = 0; i < KINDS; i++) {
        c[i] = (block_call){&l, kinds[i]};
        call[i] = (bench_call){.run = run_block, .args = c + i};
    }
    TRY(bench_time(b, call, KINDS));
    if (bench_counts(b)) goto done;
    say_kinds(b, &l, call);
    TRY(say_run(b, &l, call));
done:
    ts_release(&b->ctx.arena, mark);
    return st;
}

ts_status bench_steps_all(ts_ctx *ctx, void *user)
{
    static const bench_shape real[] = {
        {"1.3B", "480x832x81", 30, 32760, 12, 128, 8960, 512},
        {"14B", "720x1280x81", 40, 75600, 40, 128, 13824, 512},
    };
    static const bench_shape tiny[] = {{"tiny", "150 tokens", 2, 150, 1, 64, 64, 3}};
    bench *b = user;
    ts_status st = TS_OK;
    (void)ctx;
    for (int i = 0; i < (b->o.tiny ? 1 : 2); i++)
        TRY(measure_shape(b, (b->o.tiny ? tiny : real) + i));
done:
    return st;
}
