/* Timetables and solver trajectories against the values of diffusers' classes: x0[k] = sin(0.37 (k + 1)), model = tanh(0.9 x + 0.001 t). */
#include "sampler/schedule.h"

#include "tests/testing.h"

#include <math.h>

enum { N = 16 };
typedef struct { double x0, x1, norm; } row;
typedef struct {
    ts_solver_kind kind;
    int steps;
    double shift;
    const double *t; /* [steps] or NULL */
    const row *want; /* [steps] */
} toy;

static const double t_10[] = {999, 964, 923, 875, 818, 750, 667, 563, 429, 251}, t_6[] = {999, 961, 909, 833, 714, 501};
static const double t_euler[] = {1000, 923.34253, 818.92334, 668.32666, 432.22507, 8.92857};
static const row unipc_10[] = {{0.3306535, 0.6413761, 2.8718695}, {0.2959030, 0.6040106, 2.8233161}, {0.2568007, 0.5613375, 2.7666159}, {0.2122344, 0.5119916, 2.7012976},
                               {0.1616986, 0.4547651, 2.6238647}, {0.1049773, 0.3883674, 2.5298205}, {0.0431680, 0.3121191, 2.4115560}, {-0.0189213, 0.2279961, 2.2548584},
                               {-0.0652646, 0.1480626, 2.0273690}, {-0.1131020, 0.0557771, 1.7258172}};
static const row unipc_6[] = {{0.3282745, 0.6388472, 2.8687566}, {0.2841088, 0.5913361, 2.8077647}, {0.2233934, 0.5246883, 2.7200559},
                              {0.1350458, 0.4246812, 2.5863072}, {0.0044997, 0.2647999, 2.3424278}, {-0.2292376, -0.0505084, 1.9249687}};
static const row euler_6[] = {{0.2950665, 0.6035565, 2.8273098}, {0.2083737, 0.5096924, 2.7163603}, {0.0932736, 0.3808033, 2.5666645},
                              {-0.0570058, 0.1999032, 2.3442006}, {-0.2108766, -0.0310602, 1.9261444}, {-0.2092792, -0.0308904, 1.9124442}};
static const toy toys[] = {{TS_UNIPC, 10, 3, t_10, unipc_10}, {TS_UNIPC, 6, 5, t_6, unipc_6}, {TS_EULER, 6, 3, t_euler, euler_6}};

typedef struct { const toy *t; } job;

static void check_row(const toy *t, int i, const float *x)
{
    double q = 0;
    for (int k = 0; k < N; k++) q += (double)x[k] * x[k];
    const row *w = t->want + i;
    /* seven printed digits and float32 arithmetic on values below 3: 2e-6 */
    ck_assert_msg(fabs(x[0] - w->x0) < 2e-6 && fabs(x[1] - w->x1) < 2e-6 && fabs(sqrt(q) - w->norm) < 4e-6,
                  "kind %d, %d steps, step %d: %.7f %.7f %.7f, expected %.7f %.7f %.7f", t->kind, t->steps, i + 1, x[0], x[1], sqrt(q), w->x0, w->x1, w->norm);
}

static ts_status trajectory(ts_ctx *c, void *user)
{
    const toy *t = ((job *)user)->t;
    ts_status st = TS_OK;
    ts_schedule s;
    ts_solver solver;
    float host[N], vel[N];
    ts_schedule_init(&s, t->kind, t->steps, t->shift);
    ts_tensor x = ts_take(&c->arena, TS_F32, TS_DIM(N)), v = ts_take(&c->arena, TS_F32, TS_DIM(N));
    ts_solver_init(&solver, s, &c->arena, TS_DIM(N));
    for (int k = 0; k < N; k++) host[k] = (float)sin(0.37 * (k + 1));
    TRY(c->dev->ops->upload(c->dev, x.p, host, sizeof host));
    for (int i = 0; i < t->steps; i++) {
        TRY(c->dev->ops->download(c->dev, host, x.p, sizeof host));
        for (int k = 0; k < N; k++) vel[k] = (float)tanh(0.9 * host[k] + 0.001 * s.t[i]);
        TRY(c->dev->ops->upload(c->dev, v.p, vel, sizeof vel));
        TRY(ts_solver_step(&solver, c->dev, x, v));
        if (c->dev->counting) continue;
        TRY(c->dev->ops->download(c->dev, host, x.p, sizeof host));
        check_row(t, i, host);
    }
done:
    return st;
}

START_TEST(trajectories)
{
    const char *backend[] = {"cpu", "far"};
    for (int b = 0; b < 2; b++) {
        ts_ctx *c = testing_open(backend[b], NULL, 1);
        for (size_t i = 0; i < sizeof toys / sizeof *toys; i++) testing_run(c, trajectory, &(job){toys + i});
        testing_close(c);
    }
}
END_TEST

START_TEST(timetables)
{
    for (size_t i = 0; i < sizeof toys / sizeof *toys; i++) {
        ts_schedule s;
        ts_schedule_init(&s, toys[i].kind, toys[i].steps, toys[i].shift);
        for (int k = 0; k < s.steps; k++) ck_assert_msg(fabs(s.t[k] - toys[i].t[k]) <= 5e-5 * (toys[i].kind == TS_EULER), "toy %zu: t[%d] = %g, expected %g", i, k, s.t[k], toys[i].t[k]);
        ck_assert(s.sigma[s.steps] == 0);
    }
}
END_TEST

static void near(double got, double want, double tol) { ck_assert_msg(fabs(got - want) <= tol, "%.10f, expected %.10f", got, want); }

START_TEST(published_values)
{
    static const struct { int n; double shift; int first; double t[5]; int last; double tail[3]; } cases[] = {
        {50, 3, 5, {999, 993, 986, 979, 971}, 4, {0}}, {50, 5, 5, {999, 995, 991, 987, 982}, 3, {0}}, {4, 3, 4, {999, 900, 750, 500}, 0, {0}}};
    static const double end3[] = {208, 162, 113, 60}, end5[] = {244, 175, 96};
    ts_schedule s;
    for (int c = 0; c < 3; c++) {
        ts_schedule_init(&s, TS_UNIPC, cases[c].n, cases[c].shift);
        for (int i = 0; i < cases[c].first; i++) ck_assert_int_eq((int)s.t[i], (int)cases[c].t[i]);
        for (int i = 0; i < cases[c].last; i++) ck_assert_int_eq((int)s.t[cases[c].n - cases[c].last + i], (int)(c == 0 ? end3 : end5)[i]);
    }
    ts_schedule_init(&s, TS_UNIPC, 50, 3);
    static const double sigma[] = {0.9999989867, 0.9932500720, 0.9863154292, 0.9791883826};
    for (int i = 0; i < 4; i++) near(s.sigma[i], sigma[i], 6e-8);
    near(s.sigma[48], 0.1135758683, 1e-8), near(s.sigma[49], 0.0604053885, 1e-8);
    ts_schedule_init(&s, TS_EULER, 50, 3);
    near(s.t[0], 1000, 1e-4), near(s.t[1], 993.124, 1e-3), near(s.t[48], 66.90, 5e-3), near(s.t[49], 8.9286, 1e-4);
    ts_schedule_init(&s, TS_EULER, 1, 5);
    near(s.t[0], 1000, 0);
    ck_assert(s.sigma[0] == 1 && s.sigma[1] == 0);
    ts_schedule_init(&s, TS_UNIPC, 1, 5);
    near(s.t[0], 999, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("schedule");
    TCase *tc = tcase_create("schedule");
    tcase_add_test(tc, timetables);
    tcase_add_test(tc, published_values);
    tcase_add_test(tc, trajectories);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
