/* Plans from scores on the device: bits, recalls and budgets are those of the CPU to the last bit,
 * for ties, infinities, NaN and zeros of both signs, whatever the order of threads. */
#include "tests/cuda/twins.h"

typedef struct {
    long A, nb, nv; /* nv 0: nb */
    double keep;
    bool diagonal, adaptive, stat;
    int kind;    /* of scores: spread, ties, few values, odd ones */
    int some;    /* 1: of every second head alone; 2: and recalls are of other weights */
    double mass; /* 0: by keep */
} plan_case;

static float draw_score(const plan_case *p, long head)
{
    static const float odd[] = {0,      -0.0f, NAN, -NAN,  INFINITY, -INFINITY,
                                1e-42f, -1.f,  1.f, 1e38f, -1e38f,   1e-30f};
    double x = exp(4 * (2 * test_uniform() - 1) * (double)(1 + head));
    switch (p->kind) {
    case 0: return (float)x;
    case 1: return (float)(floor(3 * x) / 3);
    case 2: return (float)(int)(3 * test_uniform());
    case 3: return odd[(int)(12 * test_uniform())];
    default: return 2 * test_uniform() - 1;
    }
}

static bool same_number(float a, float b)
{
    return (std::isnan(a) && std::isnan(b)) || !memcmp(&a, &b, sizeof a);
}

static void ask_cpu(const ts_topk *t)
{
    ts_err err = {};
    ts_device *d = NULL;
    ts_device_options o = {};
    o.kind = "cpu";
    o.threads = 1;
    o.level = "ref";
    ts_status st = ts_device_open(o, NULL, &err, &d);
    if (!st) st = d->ops->topk(d, t);
    ck_assert_msg(!st, "%s", err.text);
    ts_device_close(d);
}

static void try_plan(const plan_case *p)
{
    long words = ts_plan_words((int)p->nb), n = p->A * p->nb * words, ld = p->A + 3;
    twin score = twin_room(TS_F32, p->A * p->nb, p->nb),
         bits = twin_room(TS_F32, p->A * p->nb, words), stat = twin_room(TS_F32, 3, p->A, ld);
    for (long m = 0; m < p->A * p->nb; m++)
        for (long c = 0; c < p->nb; c++) score.set(m, c, draw_score(p, m / p->nb));
    for (twin *t : {&score, &bits, &stat}) t->send();
    twin who = twin_room(TS_F32, 1, p->A);
    for (long i = 0; i < p->A; i++) {
        int32_t of = i % 2 ? 5 : 3;
        memcpy(who.bytes->data() + who.first + 4 * i, &of, 4);
    }
    who.send();
    twin weight = twin_of(TS_F32, p->A * p->nb, p->nb, 0, 0,
                          [](long, long) { return 4 * test_uniform(); });
    ts_topk h = {}, d;
    h.scores = test_tensor(NULL, TS_F32, {p->A, p->nb, p->nb});
    h.nv = (int)p->nv;
    h.keep = p->keep;
    h.diagonal = p->diagonal;
    h.adaptive = p->adaptive;
    h.mass = p->mass;
    h.plan.A = (int)p->A;
    h.plan.nb = (int)p->nb;
    d = h;
    h.scores.p = score.host.p;
    d.scores.p = score.device.p;
    h.plan.bits = bits.host.p;
    d.plan.bits = bits.device.p;
    if (p->stat) {
        h.stat = stat.host;
        d.stat = stat.device;
    }
    if (p->some) {
        h.which = d.which = 5;
        h.who = test_tensor((void *)(uintptr_t)who.host.p.at, TS_I32, {p->A});
        d.who = test_tensor((void *)(uintptr_t)who.device.p.at, TS_I32, {p->A});
    }
    if (p->some > 1) {
        h.weights = h.scores;
        d.weights = d.scores;
        h.weights.p = weight.host.p;
        d.weights.p = weight.device.p;
    }
    size_t bytes = ts_cuda_topk_scratch(&d);
    ck_assert(p->stat || p->adaptive ? bytes > 0 : bytes == 0);
    ck_cuda(ts_cuda_topk(&d, bytes ? test_take<char>(bytes) : NULL, test_stream()));
    ask_cpu(&h);
    char what[128];
    snprintf(what, sizeof what, "%ld x %ld blocks, %ld choose, keep %g, scores %d, %s%s%s, some %d",
             p->A, p->nb, p->nv, p->keep, p->kind, p->diagonal ? "diagonal " : "",
             p->adaptive ? "adaptive " : "", p->stat ? "stat" : "", p->some);
    std::vector<unsigned char> got = twin_fetch(bits);
    for (long i = 0; i < n; i++) {
        uint32_t g, w;
        memcpy(&g, got.data() + bits.first + 4 * i, 4);
        memcpy(&w, bits.bytes->data() + bits.first + 4 * i, 4);
        ck_assert_msg(g == w, "%s: word %ld of row %ld is %08x, expected %08x", what, i % words,
                      i / words, g, w);
    }
    ck_assert_msg(got == *bits.bytes, "%s: bytes beside the plan are written", what);
    got = twin_fetch(stat);
    for (long i = 0; i < 3 * p->A; i++) {
        size_t at = stat.first + (size_t)(i / p->A * ld + i % p->A) * 4;
        float g, w;
        memcpy(&g, got.data() + at, 4);
        memcpy(&w, stat.bytes->data() + at, 4);
        ck_assert_msg(same_number(g, w), "%s: stat [%ld, %ld] is %.9g, expected %.9g", what,
                      i / p->A, i % p->A, g, w);
        memcpy(got.data() + at, &w, 4);
    }
    ck_assert_msg(got == *stat.bytes, "%s: bytes beside stat are written", what);
    test_release();
}

START_TEST(plans)
{
    static const long sizes[] = {1, 2, 5, 31, 32, 33, 64, 129}, text[] = {1, 2, 40};
    static const double keeps[] = {0.01, 0.2, 0.35, 0.5, 0.7, 1};
    bool all = getenv("LONG") != NULL;
    test_order(_i);
    for (int s = 0; s < 8; s++)
        for (int k = 0; k < 6; k++)
            for (int f = (_i + s + k) % 4; f < 16; f += all ? 1 : 4) {
                bool behind = (f + s + k) % 3 == 0;
                plan_case p = {sizes[s] > 60 ? 1 + f % 4 : 1 + f % 12,
                               sizes[s] + (behind ? text[(s + k) % 3] : 0),
                               behind ? sizes[s] : 0,
                               keeps[k],
                               (f & 1) != 0,
                               (f & 2) != 0,
                               (f & 4) != 0 || (f & 2) != 0,
                               (s + k + f) % 5,
                               f & 2 ? 0 : (s + k) % 3,
                               0};
                try_plan(&p);
                if (p.adaptive) continue;
                p.mass = keeps[k];
                p.stat = true;
                try_plan(&p);
            }
}
END_TEST

/* Heads of equal recall, and rows that are equal but for their order, whose sums round alike only
 * if they are added alike. */
START_TEST(heads_that_tie)
{
    for (int kind = 1; kind < 3; kind++)
        for (long A = 2; A < 10; A += 3) {
            plan_case p = {A, 40, 0, 0.5, false, true, true, kind, 0, 0};
            test_order((int)A % TEST_ORDERS);
            try_plan(&p);
        }
}
END_TEST

/* More scores than a lane keeps in the fewest registers; LONG: than it keeps at all. */
START_TEST(long_rows)
{
    static const long sizes[] = {140, 520, 1030, 2050};
    test_order(_i % TEST_ORDERS);
    if (_i > 0 && !getenv("LONG")) return;
    plan_case p = {1, sizes[_i], sizes[_i] - 1, 0.2, true, false, true, _i, 0, 0};
    try_plan(&p);
    p.mass = 0.9;
    try_plan(&p);
}
END_TEST

START_TEST(too_many)
{
    float *p = test_take<float>(4);
    ts_topk t = {};
    t.scores = test_tensor(p, TS_F32, {1L << 20, 1L << 12, 1L << 12});
    t.keep = 0.5;
    t.plan.A = 1 << 20;
    t.plan.nb = 1 << 12;
    t.plan.bits.at = t.scores.p.at;
    ck_assert_int_eq(ts_cuda_topk(&t, NULL, test_stream()), cudaErrorInvalidValue);
    ck_well("launch");
    test_release();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cuda topk");
    TCase *t = tcase_create("topk");
    tcase_set_timeout(t, 0);
    tcase_add_loop_test(t, plans, 0, TEST_ORDERS);
    tcase_add_test(t, heads_that_tie);
    tcase_add_loop_test(t, long_rows, 0, 4);
    tcase_add_test(t, too_many);
    suite_add_tcase(suite, t);
    return testing_main(suite);
}
