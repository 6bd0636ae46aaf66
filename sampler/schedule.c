/* Timetables and solvers for rectified-flow models, x_sigma = (1 - sigma) x_0 + sigma noise and velocity v = noise - x_0.
 *
 * UniPC: Zhao et al., UniPC: A Unified Predictor-Corrector Framework (2023), order 2 with B(h) = e^h - 1 and data prediction, in the arrangement of diffusers'
 * UniPCMultistepScheduler with flow sigmas. With alpha = 1 - sigma, lambda = ln alpha - ln sigma, h the step in lambda, B = e^-h - 1:
 *   predictor   y = (sigma'/sigma) x - alpha' B (m0 + (m1 - m0) / 2r)
 *   corrector   x = (sigma/sigma_) x_ - alpha B (m1 + rho0 (m2 - m1)/r + rho1 (m - m1))
 * Euler: x + (sigma' - sigma) v. */
#include "sampler/schedule.h"

#include <math.h>

static double shifted(double sigma, double shift) { return shift * sigma / (1 + (shift - 1) * sigma); }

static void time_unipc(ts_schedule *s)
{
    int n = s->steps;
    double step = (1.0 / 1000 - 1.0) / n;
    for (int i = 0; i < n; i++) {
        double sigma = shifted(1.0 + i * step, s->shift);
        if (i == 0 && fabs(sigma - 1) < 1e-6) sigma -= 1e-6; /* sigma 1 has no finite lambda */
        s->sigma[i] = (float)sigma;
        s->t[i] = (float)trunc(1000 * sigma);
    }
}

/* The scheduler shifts its training sigmas when it is made and the chosen ones again, so the smallest sigma of the list is a shifted one. */
static void time_euler(ts_schedule *s)
{
    int n = s->steps;
    double least = (float)shifted((float)(1.0 / 1000), s->shift), step = n > 1 ? (1000 * least - 1000) / (n - 1) : 0;
    for (int i = 0; i < n; i++) {
        double tau = i == n - 1 && n > 1 ? 1000 * least : 1000 + i * step;
        s->sigma[i] = (float)shifted(tau / 1000, s->shift);
        s->t[i] = s->sigma[i] * 1000;
    }
}

void ts_schedule_init(ts_schedule *s, ts_solver_kind kind, int steps, double shift)
{
    *s = (ts_schedule){.kind = kind, .steps = steps, .shift = shift};
    if (kind == TS_UNIPC) time_unipc(s);
    else time_euler(s);
    s->sigma[steps] = 0;
}

void ts_solver_init(ts_solver *s, ts_schedule schedule, ts_arena *a, int nd, const long *dim)
{
    *s = (ts_solver){.s = schedule};
    if (schedule.kind == TS_EULER) return;
    for (int i = 0; i < 3; i++) s->m[i] = ts_take(a, TS_F32, nd, dim);
    s->last = ts_take(a, TS_F32, nd, dim);
}

static double alpha(const ts_schedule *s, int i) { return 1.0 - s->sigma[i]; }
static double lambda(const ts_schedule *s, int i) { return log(alpha(s, i)) - log(s->sigma[i]); }

/* Order of the predictor at step i: 1 at both ends, where there is no history or no room. */
static int order(const ts_schedule *s, int i) { return i == 0 || i == s->steps - 1 ? 1 : 2; }

/* last <- corrected sample of step i, from last (entered predictor i - 1), m[1], m[2] and the new prediction m[0] */
static ts_status correct(ts_solver *u, ts_device *dev, int i)
{
    const ts_schedule *s = &u->s;
    double h = lambda(s, i) - lambda(s, i - 1), hh = -h, b = expm1(hh), ab = alpha(s, i) * b;
    ts_lincomb c = {.n = 3, .y = u->last, .x = {u->last, u->m[1], u->m[0], u->m[2]}};
    c.c[0] = (float)(s->sigma[i] / (double)s->sigma[i - 1]);
    if (order(s, i - 1) == 1) {
        c.c[1] = (float)(-ab * 0.5), c.c[2] = (float)(-ab * 0.5);
    } else {
        double r = (lambda(s, i - 2) - lambda(s, i - 1)) / h, phi1 = b / hh - 1, phi2 = phi1 / hh - 0.5, b1 = phi1 / b, b2 = 2 * phi2 / b;
        double rho0 = (b2 - b1) / (r - 1), rho1 = b1 - rho0;
        c.n = 4;
        c.c[1] = (float)(-ab * (1 - rho0 / r - rho1)), c.c[2] = (float)(-ab * rho1), c.c[3] = (float)(-ab * rho0 / r);
    }
    return ts_lincomb_op(dev, c);
}

/* x <- sample of step i + 1 from last, m[0], m[1] */
static ts_status predict(ts_solver *u, ts_device *dev, int i, ts_tensor x)
{
    const ts_schedule *s = &u->s;
    if (s->sigma[i + 1] == 0) /* lambda is infinite, B = -1, alpha = 1: the data prediction itself */
        return ts_lincomb_op(dev, (ts_lincomb){.n = 1, .c = {1}, .x = {u->m[0]}, .y = x});
    double h = lambda(s, i + 1) - lambda(s, i), ab = alpha(s, i + 1) * expm1(-h);
    ts_lincomb c = {.n = 2, .y = x, .x = {u->last, u->m[0], u->m[1]}};
    c.c[0] = (float)(s->sigma[i + 1] / (double)s->sigma[i]), c.c[1] = (float)-ab;
    if (order(s, i) == 2) {
        double r = (lambda(s, i - 1) - lambda(s, i)) / h, half = -ab * 0.5 / r;
        c.n = 3;
        c.c[1] = (float)(-ab - half), c.c[2] = (float)half;
    }
    return ts_lincomb_op(dev, c);
}

ts_status ts_solver_step(ts_solver *u, ts_device *dev, ts_tensor x, ts_tensor v)
{
    ts_status st = TS_OK;
    int i = u->done;
    if (u->s.kind == TS_EULER) {
        float d = u->s.sigma[i + 1] - u->s.sigma[i];
        TRY(ts_lincomb_op(dev, (ts_lincomb){.n = 2, .c = {1, d}, .x = {x, v}, .y = x}));
    } else {
        ts_tensor oldest = u->m[2];
        u->m[2] = u->m[1], u->m[1] = u->m[0], u->m[0] = oldest;
        TRY(ts_lincomb_op(dev, (ts_lincomb){.n = 2, .c = {1, -u->s.sigma[i]}, .x = {x, v}, .y = u->m[0]}));
        if (i > 0) TRY(correct(u, dev, i));
        else TRY(ts_lincomb_op(dev, (ts_lincomb){.n = 1, .c = {1}, .x = {x}, .y = u->last}));
        TRY(predict(u, dev, i, x));
    }
    u->done++;
done:
    return st;
}
