/* Timetables and solver trajectories against the values of diffusers' classes: x0[k] = sin(0.37 (k
 * + 1)), model = tanh(0.9 x + 0.001 t). */
#include "sampler/schedule.h"

#include "tests/testing.h"

#include <math.h>
#include <stdlib.h>

enum { N = 16 };
typedef struct {
    double x0, x1, norm;
} row;
typedef struct {
    ts_solver_kind kind;
    int steps;
    double shift;
    const double *t; /* [steps] or NULL */
    const row *want; /* [steps] */
} toy;

static const double t_10[] = {999, 964, 923, 875, 818, 750, 667, 563, 429, 251},
                    t_6[] = {999, 961, 909, 833, 714, 501};
static const double t_euler[] = {1000, 923.34253, 818.92334, 668.32666, 432.22507, 8.92857};
static const row unipc_10[] = {
    {0.3306535, 0.6413761, 2.8718695},  {0.2959030, 0.6040106, 2.8233161},
    {0.2568007, 0.5613375, 2.7666159},  {0.2122344, 0.5119916, 2.7012976},
    {0.1616986, 0.4547651, 2.6238647},  {0.1049773, 0.3883674, 2.5298205},
    {0.0431680, 0.3121191, 2.4115560},  {-0.0189213, 0.2279961, 2.2548584},
    {-0.0652646, 0.1480626, 2.0273690}, {-0.1131020, 0.0557771, 1.7258172}};
static const row unipc_6[] = {
    {0.3282745, 0.6388472, 2.8687566}, {0.2841088, 0.5913361, 2.8077647},
    {0.2233934, 0.5246883, 2.7200559}, {0.1350458, 0.4246812, 2.5863072},
    {0.0044997, 0.2647999, 2.3424278}, {-0.2292376, -0.0505084, 1.9249687}};
static const row euler_6[] = {
    {0.2950665, 0.6035565, 2.8273098},   {0.2083737, 0.5096924, 2.7163603},
    {0.0932736, 0.3808033, 2.5666645},   {-0.0570058, 0.1999032, 2.3442006},
    {-0.2108766, -0.0310602, 1.9261444}, {-0.2092792, -0.0308904, 1.9124442}};
static const toy toys[] = {{TS_UNIPC, 10, 3, t_10, unipc_10},
                           {TS_UNIPC, 6, 5, t_6, unipc_6},
                           {TS_EULER, 6, 3, t_euler, euler_6}};

typedef struct {
    const toy *t;
} job;

static void check_row(const toy *t, int i, const float *x)
{
    double q = 0;
    for (int k = 0; k < N; k++) q += (double)x[k] * x[k];
    const row *w = t->want + i;
    /* seven printed digits and float32 arithmetic on values below 3: 2e-6 */
    ck_assert_msg(fabs(x[0] - w->x0) < 2e-6 && fabs(x[1] - w->x1) < 2e-6 &&
                      fabs(sqrt(q) - w->norm) < 4e-6,
                  "kind %d, %d steps, step %d: %.7f %.7f %.7f, expected %.7f %.7f %.7f", t->kind,
                  t->steps, i + 1, x[0], x[1], sqrt(q), w->x0, w->x1, w->norm);
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
    TRY(ts_solver_init(&solver, s, c->dev, &c->arena, TS_DIM(N)));
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
        for (size_t i = 0; i < sizeof toys / sizeof *toys; i++)
            testing_run(c, trajectory, &(job){toys + i});
        testing_close(c);
    }
}
END_TEST

START_TEST(timetables)
{
    for (size_t i = 0; i < sizeof toys / sizeof *toys; i++) {
        ts_schedule s;
        ts_schedule_init(&s, toys[i].kind, toys[i].steps, toys[i].shift);
        for (int k = 0; k < s.steps; k++)
            ck_assert_msg(fabs(s.t[k] - toys[i].t[k]) <= 5e-5 * (toys[i].kind == TS_EULER),
                          "toy %zu: t[%d] = %g, expected %g", i, k, s.t[k], toys[i].t[k]);
        ck_assert(s.sigma[s.steps] == 0);
    }
}
END_TEST

static void near(double got, double want, double tol)
{
    ck_assert_msg(fabs(got - want) <= tol, "%.10f, expected %.10f", got, want);
}

START_TEST(published_values)
{
    static const struct {
        int n;
        double shift;
        int first;
        double t[5];
        int last;
        double tail[3];
    } cases[] = {{50, 3, 5, {999, 993, 986, 979, 971}, 4, {0}},
                 {50, 5, 5, {999, 995, 991, 987, 982}, 3, {0}},
                 {4, 3, 4, {999, 900, 750, 500}, 0, {0}}};
    static const double end3[] = {208, 162, 113, 60}, end5[] = {244, 175, 96};
    ts_schedule s;
    for (int c = 0; c < 3; c++) {
        ts_schedule_init(&s, TS_UNIPC, cases[c].n, cases[c].shift);
        for (int i = 0; i < cases[c].first; i++) ck_assert_int_eq((int)s.t[i], (int)cases[c].t[i]);
        for (int i = 0; i < cases[c].last; i++)
            ck_assert_int_eq((int)s.t[cases[c].n - cases[c].last + i],
                             (int)(c == 0 ? end3 : end5)[i]);
    }
    ts_schedule_init(&s, TS_UNIPC, 50, 3);
    static const double sigma[] = {0.9999989867, 0.9932500720, 0.9863154292, 0.9791883826};
    for (int i = 0; i < 4; i++) near(s.sigma[i], sigma[i], 6e-8);
    near(s.sigma[48], 0.1135758683, 1e-8);
    near(s.sigma[49], 0.0604053885, 1e-8);
    ts_schedule_init(&s, TS_EULER, 50, 3);
    near(s.t[0], 1000, 1e-4);
    near(s.t[1], 993.124, 1e-3);
    near(s.t[48], 66.90, 5e-3);
    near(s.t[49], 8.9286, 1e-4);
    ts_schedule_init(&s, TS_EULER, 1, 5);
    near(s.t[0], 1000, 0);
    ck_assert(s.sigma[0] == 1 && s.sigma[1] == 0);
    ts_schedule_init(&s, TS_UNIPC, 1, 5);
    near(s.t[0], 999, 0);
}
END_TEST

/* ---- diffusion: every row of schedule_rows.h ---- */
typedef struct {
    ts_solver_kind kind;
    int steps, first;
    ts_diffusion d;
    const double *t;
    const row *want;
} made;
#include "tests/sampler/schedule_rows.h"
enum { MADE = sizeof made_rows / sizeof *made_rows };

/* An image-to-image run of n steps that begins at `first` has the strength (n - first) / n; the
 * half guards against rounding. */
static double strength_of(const made *m)
{
    return m->first ? (m->steps - m->first + 0.5) / m->steps : 1;
}

static void check_made(const made *m, int which, int i, const float *x, double tolerance)
{
    const row *w = m->want + i - m->first;
    double q = 0, scale = fmax(1, w->norm);
    for (int k = 0; k < N; k++) q += (double)x[k] * x[k];
    double off = fmax(fabs(x[0] - w->x0), fmax(fabs(x[1] - w->x1), fabs(sqrt(q) - w->norm))) /
                 scale;
    ck_assert_msg(off <= tolerance, "row %d, step %d: %.7g %.7g %.7g, expected %.7g %.7g %.7g",
                  which, i + 1, x[0], x[1], sqrt(q), w->x0, w->x1, w->norm);
}

/* A first step divides by a, so an error of half a unit in the last place of f32 in x (and in the
 * oracle's own f32 levels) comes out multiplied by 1 / a: 1.6e2 at the last training timestep, 4e3
 * where that is rescaled to no signal. Steps behind it carry the error on; the toy model's slope of
 * 0.9 s / a adds as much again. */
static double tolerance_of(const ts_schedule *s)
{
    return 4 * 6e-8 / fmin(1, fmax(s->at[s->first].a, 2.5e-4) * 2) + 4e-7;
}

/* All but the last step of a solver that draws; in CogVideoX' form that, too, where it leaves
 * noise. */
static bool draws_after(const made *m, const ts_schedule *s, int i)
{
    if (m->kind == TS_DPMPP_2M_SDE) return i + 1 < m->steps || s->to[i].s > 0;
    return (m->kind == TS_LCM || m->kind == TS_EULER_ANCESTRAL) && i + 1 < m->steps;
}

static ts_status made_trajectory(ts_ctx *c, void *user)
{
    const made *m = user;
    ts_status st = TS_OK;
    ts_schedule *s = calloc(1, sizeof *s);
    ts_solver *solver = calloc(1, sizeof *solver);
    float host[N], out[N];
    TRY(ts_schedule_diffusion(&c->err, s, m->kind, m->steps, strength_of(m), &m->d));
    ck_assert_int_eq(s->first, m->first);
    ts_tensor x = ts_take(&c->arena, TS_F32, TS_DIM(N)), v = ts_take(&c->arena, TS_F32, TS_DIM(N));
    TRY(ts_solver_init(solver, *s, c->dev, &c->arena, TS_DIM(N)));
    for (int k = 0; k < N; k++) host[k] = (float)(sin(0.37 * (k + 1)) * s->scale);
    TRY(c->dev->ops->upload(c->dev, x.p, host, sizeof host));
    for (int i = m->first; i < m->steps; i++) {
        ck_assert_int_eq(solver->done, i);
        TRY(c->dev->ops->download(c->dev, host, x.p, sizeof host));
        for (int k = 0; k < N; k++) out[k] = (float)tanh(0.9 * host[k] + 0.001 * s->t[i]);
        TRY(c->dev->ops->upload(c->dev, v.p, out, sizeof out));
        for (int k = 0; k < N; k++) out[k] = (float)sin(1.3 * (k + 1) + i);
        ck_assert(ts_solver_wants_noise(solver) == draws_after(m, s, i));
        if (ts_solver_wants_noise(solver))
            TRY(c->dev->ops->upload(c->dev, solver->noise.p, out, sizeof out));
        TRY(ts_solver_step(solver, c->dev, x, v));
        if (c->dev->counting) continue;
        TRY(c->dev->ops->download(c->dev, host, x.p, sizeof host));
        check_made(m, (int)(m - made_rows), i, host, tolerance_of(s));
    }
done:
    free(s);
    free(solver);
    return st;
}

START_TEST(made_trajectories)
{
    const char *backend[] = {"cpu", "far"};
    ts_ctx *c = testing_open(backend[_i / MADE], NULL, 1);
    testing_run(c, made_trajectory, (void *)(uintptr_t)(made_rows + _i % MADE));
    testing_close(c);
}
END_TEST

START_TEST(made_timetables)
{
    const made *m = made_rows + _i;
    ts_err err = {0};
    ts_schedule *s = calloc(1, sizeof *s);
    ck_assert_msg(ts_schedule_diffusion(&err, s, m->kind, m->steps, strength_of(m), &m->d) == TS_OK,
                  "%s", err.text);
    /* only Karras levels of Euler are not whole numbers or f32 of f64: a logarithm in f32 lies
     * behind them */
    for (int i = 0; i < m->steps; i++) {
        bool euler = m->kind == TS_EULER_NOISE || m->kind == TS_EULER_ANCESTRAL;
        double tolerance = euler && m->d.karras ? 2e-3 : euler ? 7e-5 : 0;
        ck_assert_msg(fabs(s->t[i] - m->t[i]) <= tolerance, "row %d: t[%d] = %.9g, expected %.9g",
                      _i, i, s->t[i], m->t[i]);
    }
    free(s);
}
END_TEST

START_TEST(published_levels)
{
    static const double sigma[] = {157.407257, 96.176086, 60.271412, 38.736404, 25.528482,
                                   17.246981,  11.939520, 8.463007,  6.135210,  4.541236,
                                   3.442967,   2.635654,  2.041087,  1.591003,  1.240161,
                                   0.958034,   0.723591,  0.521965,  0.342260,  0.176010};
    ts_err err = {0};
    ts_schedule *s = calloc(1, sizeof *s);
    ts_diffusion d = ts_diffusion_default();
    ck_assert(ts_schedule_diffusion(&err, s, TS_DPMPP_2M, 20, 1, &d) == TS_OK);
    /* printed with six decimals */
    for (int i = 0; i < 20; i++)
        near(s->at[i].s / s->at[i].a / sigma[i], 1, 2e-7 + 5e-7 / sigma[i]);
    ck_assert(s->to[19].a == 1 && s->to[19].s == 0);
    free(s);
}
END_TEST

START_TEST(refusals)
{
    ts_err err = {0};
    ts_schedule *s = calloc(1, sizeof *s);
    ts_diffusion d = ts_diffusion_default();
    char names[80];
    ts_solver_kind kind;
    ck_assert_int_eq(ts_schedule_diffusion(&err, s, TS_LCM, 51, 1, &d), TS_EUSAGE);
    ck_assert_str_eq(err.text, "51 steps: sampler lcm has 50 at most");
    ck_assert_int_eq(ts_schedule_diffusion(&err, s, TS_LCM, 8, 0.1, &d), TS_EUSAGE);
    ck_assert_str_eq(err.text, "8 steps: sampler lcm has 5 with this strength");
    /* less than a step is one */
    ck_assert(ts_schedule_diffusion(&err, s, TS_DDIM, 8, 0.1, &d) == TS_OK && s->first == 7);
    ck_assert(ts_schedule_diffusion(&err, s, TS_DDIM, 8, 0.13, &d) == TS_OK && s->first == 7);
    d.spacing = TS_SPACING_LEADING;
    d.offset = 1;
    ck_assert_int_eq(ts_schedule_diffusion(&err, s, TS_DDIM, 1000, 1, &d), TS_EUSAGE);
    ck_assert(!ts_solver_named("unipc", false, &kind, names));
    ck_assert_str_eq(names, "dpmpp-2m, ddim, euler, lcm, dpmpp-2m-sde or euler-a");
    ck_assert(!ts_solver_named("lcm", true, &kind, names));
    ck_assert_str_eq(names, "unipc or euler");
    ck_assert(ts_solver_named("euler", true, &kind, names) && kind == TS_EULER &&
              ts_solver_named("euler", false, &kind, names) && kind == TS_EULER_NOISE);
    free(s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("schedule");
    TCase *tc = tcase_create("schedule");
    tcase_add_test(tc, timetables);
    tcase_add_test(tc, published_values);
    tcase_add_test(tc, trajectories);
    tcase_add_loop_test(tc, made_trajectories, 0, 2 * MADE);
    tcase_add_loop_test(tc, made_timetables, 0, MADE);
    tcase_add_test(tc, published_levels);
    tcase_add_test(tc, refusals);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
