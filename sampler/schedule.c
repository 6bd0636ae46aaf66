/* Timetables and solvers for rectified-flow models, x_sigma = (1 - sigma) x_0 + sigma noise and
 * velocity v = noise - x_0.
 *
 * UniPC: Zhao et al., UniPC: A Unified Predictor-Corrector Framework (2023), order 2 with B(h) =
 * e^h - 1 and data prediction, in the arrangement of diffusers' UniPCMultistepScheduler with flow
 * sigmas. With alpha = 1 - sigma, lambda = ln alpha - ln sigma, h the step in lambda, B = e^-h - 1:
 *   predictor   y = (sigma'/sigma) x - alpha' B (m0 + (m1 - m0) / 2r)
 *   corrector   x = (sigma/sigma_) x_ - alpha B (m1 + rho0 (m2 - m1)/r + rho1 (m - m1))
 * Euler: x + (sigma' - sigma) v.
 * Models of diffusion are the business of schedule_diffusion.c. */
#include "sampler/schedule.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static double shift_sigma(double sigma, double shift)
{
    return shift * sigma / (1 + (shift - 1) * sigma);
}

/* Step i of UniPC begins at what u becomes by the shift. */
static void begin_unipc_at(ts_schedule *s, int i, double u)
{
    double sigma = shift_sigma(u, s->shift);
    if (i == 0 && fabs(sigma - 1) < 1e-6) sigma -= 1e-6; /* sigma 1 has no finite lambda */
    s->sigma[i] = (float)sigma;
    s->t[i] = (float)trunc(1000 * sigma);
}

static void time_unipc(ts_schedule *s)
{
    double step = (1.0 / 1000 - 1.0) / s->steps;
    for (int i = 0; i < s->steps; i++) begin_unipc_at(s, i, 1.0 + i * step);
}

/* The scheduler shifts its training sigmas when it is made and the chosen ones again, so the
 * smallest sigma of the list is a shifted one. */
static void time_euler(ts_schedule *s)
{
    int n = s->steps;
    double least = (float)shift_sigma((float)(1.0 / 1000), s->shift),
           step = n > 1 ? (1000 * least - 1000) / (n - 1) : 0;
    for (int i = 0; i < n; i++) {
        double tau = i == n - 1 && n > 1 ? 1000 * least : 1000 + i * step;
        s->sigma[i] = (float)shift_sigma(tau / 1000, s->shift);
        s->t[i] = s->sigma[i] * 1000;
    }
}

void ts_schedule_init(ts_schedule *s, ts_solver_kind kind, int steps, double shift)
{
    *s = (ts_schedule){.kind = kind, .steps = steps, .shift = shift, .scale = 1};
    if (kind == TS_UNIPC)
        time_unipc(s);
    else
        time_euler(s);
    s->sigma[steps] = 0;
}

void ts_schedule_of(ts_schedule *s, ts_solver_kind kind, int steps, double shift, const double *t)
{
    *s = (ts_schedule){.kind = kind, .steps = steps, .shift = shift, .scale = 1};
    for (int i = 0; i < steps; i++) {
        if (kind == TS_UNIPC) {
            begin_unipc_at(s, i, t[i] / 1000);
            continue;
        }
        s->sigma[i] = (float)shift_sigma(t[i] / 1000, shift);
        s->t[i] = (float)(1000 * shift_sigma(t[i] / 1000, shift));
    }
    s->sigma[steps] = 0;
}

/* ---- names ---- */
static const struct {
    bool flow;
    const char *name, *title;
} kinds[TS_SOLVERS] = {{true, "unipc", "UniPC"},
                       {true, "euler", "Euler"},
                       {false, "dpmpp-2m", "DPM++ 2M"},
                       {false, "ddim", "DDIM"},
                       {false, "euler", "Euler"},
                       {false, "lcm", "LCM"},
                       {false, "dpmpp-2m-sde", "DPM++ 2M SDE"},
                       {false, "euler-a", "Euler a"}};

bool ts_solver_is_flow(ts_solver_kind k) { return kinds[k].flow; }
bool ts_solver_draws(ts_solver_kind k)
{
    return k == TS_LCM || k == TS_DPMPP_2M_SDE || k == TS_EULER_ANCESTRAL;
}
const char *ts_solver_name(ts_solver_kind k) { return kinds[k].name; }
const char *ts_solver_title(ts_solver_kind k) { return kinds[k].title; }

bool ts_solver_named(const char *name, bool flow, ts_solver_kind *kind, char names[80])
{
    size_t n = 0;
    int last = 0;
    for (int i = 0; i < TS_SOLVERS; i++) {
        if (kinds[i].flow != flow) continue;
        if (!strcmp(kinds[i].name, name)) return *kind = (ts_solver_kind)i, true;
        last = i;
    }
    for (int i = 0; i <= last; i++)
        if (kinds[i].flow == flow)
            n += (size_t)snprintf(names + n, 80 - n, "%s%s",
                                  !n          ? ""
                                  : i == last ? " or "
                                              : ", ",
                                  kinds[i].name);
    return false;
}

/* ---- steps ---- */
ts_status ts_solver_init(ts_solver *s, ts_schedule schedule, ts_device *dev, ts_arena *a, int nd,
                         const long *dim)
{
    ts_status st = TS_OK;
    ts_solver_kind k = schedule.kind;
    int history = k == TS_UNIPC                              ? 3
                  : k == TS_DPMPP_2M || k == TS_DPMPP_2M_SDE ? 2
                  : schedule.d.clip > 0                      ? 1
                                                             : 0;
    *s = (ts_solver){.s = schedule, .done = schedule.first};
    for (int i = 0; i < history; i++) s->m[i] = ts_take(a, TS_F32, nd, dim);
    if (k == TS_UNIPC) s->last = ts_take(a, TS_F32, nd, dim);
    if (ts_solver_draws(k)) s->noise = ts_take(a, TS_F32, nd, dim);
    if (schedule.d.clip > 0) {
        float one = 1;
        ts_tensor small = ts_take(a, TS_F32, TS_DIM(1));
        s->ones = ts_take(a, TS_F32, nd, dim);
        TRY(dev->ops->upload(dev, small.p, &one, sizeof one));
        TRY(dev->ops->join(dev));
        TRY(ts_copy_op(dev, (ts_copy){.src = small.p,
                                      .dst = s->ones.p,
                                      .stype = TS_F32,
                                      .dtype = TS_F32,
                                      .nd = 1,
                                      .dim = {ts_count(s->ones)},
                                      .ss = {0},
                                      .ds = {1}}));
    }
done:
    return st;
}

int ts_solver_history(const ts_solver *s, const char *name[TS_HISTORY], ts_tensor t[TS_HISTORY])
{
    static const char *const names[] = {"solver.m0", "solver.m1"};
    int n = 0;
    /* what the others hold does not outlive a step */
    if (s->s.kind != TS_UNIPC && s->s.kind != TS_DPMPP_2M && s->s.kind != TS_DPMPP_2M_SDE) return 0;
    if (ts_there(s->last)) {
        name[n] = "solver.last";
        t[n++] = s->last;
    }
    /* the oldest is where the next step's goes */
    for (int i = 0; i < 2; i++)
        if (ts_there(s->m[i + 1])) {
            name[n] = names[i];
            t[n++] = s->m[i];
        }
    return n;
}

static double compute_alpha(const ts_schedule *s, int i) { return 1.0 - s->sigma[i]; }
static double compute_lambda(const ts_schedule *s, int i)
{
    return log(compute_alpha(s, i)) - log(s->sigma[i]);
}

/* Order of the predictor at step i: 1 at both ends, where there is no history or no room. */
static int choose_order(const ts_schedule *s, int i) { return i == 0 || i == s->steps - 1 ? 1 : 2; }

/* last <- corrected sample of step i, from last (entered predictor i - 1), m[1], m[2] and the new
 * prediction m[0] */
static ts_status correct_sample(ts_solver *u, ts_device *dev, int i)
{
    const ts_schedule *s = &u->s;
    double h = compute_lambda(s, i) - compute_lambda(s, i - 1), hh = -h, b = expm1(hh),
           ab = compute_alpha(s, i) * b;
    ts_lincomb c = {.n = 3, .y = u->last, .x = {u->last, u->m[1], u->m[0], u->m[2]}};
    c.c[0] = (float)(s->sigma[i] / (double)s->sigma[i - 1]);
    if (choose_order(s, i - 1) == 1) {
        c.c[1] = (float)(-ab * 0.5);
        c.c[2] = (float)(-ab * 0.5);
    } else {
        double r = (compute_lambda(s, i - 2) - compute_lambda(s, i - 1)) / h, phi1 = b / hh - 1,
               phi2 = phi1 / hh - 0.5, b1 = phi1 / b, b2 = 2 * phi2 / b;
        double rho0 = (b2 - b1) / (r - 1), rho1 = b1 - rho0;
        c.n = 4;
        c.c[1] = (float)(-ab * (1 - rho0 / r - rho1));
        c.c[2] = (float)(-ab * rho1);
        c.c[3] = (float)(-ab * rho0 / r);
    }
    return ts_lincomb_op(dev, c);
}

/* x <- sample of step i + 1 from last, m[0], m[1] */
static ts_status predict_sample(ts_solver *u, ts_device *dev, int i, ts_tensor x)
{
    const ts_schedule *s = &u->s;
    /* lambda is infinite, B = -1, alpha = 1: the data prediction itself */
    if (s->sigma[i + 1] == 0)
        return ts_lincomb_op(dev, (ts_lincomb){.n = 1, .c = {1}, .x = {u->m[0]}, .y = x});
    double h = compute_lambda(s, i + 1) - compute_lambda(s, i),
           ab = compute_alpha(s, i + 1) * expm1(-h);
    ts_lincomb c = {.n = 2, .y = x, .x = {u->last, u->m[0], u->m[1]}};
    c.c[0] = (float)(s->sigma[i + 1] / (double)s->sigma[i]);
    c.c[1] = (float)-ab;
    if (choose_order(s, i) == 2) {
        double r = (compute_lambda(s, i - 1) - compute_lambda(s, i)) / h, half = -ab * 0.5 / r;
        c.n = 3;
        c.c[1] = (float)(-ab - half);
        c.c[2] = (float)half;
    }
    return ts_lincomb_op(dev, c);
}

ts_status ts_solver_step(ts_solver *u, ts_device *dev, ts_tensor x, ts_tensor v)
{
    ts_status st = TS_OK;
    int i = u->done;
    if (!ts_solver_is_flow(u->s.kind)) {
        TRY(ts_diffusion_step(u, dev, x, v));
    } else if (u->s.kind == TS_EULER) {
        float d = u->s.sigma[i + 1] - u->s.sigma[i];
        TRY(ts_lincomb_op(dev, (ts_lincomb){.n = 2, .c = {1, d}, .x = {x, v}, .y = x}));
    } else {
        ts_tensor oldest = u->m[2];
        u->m[2] = u->m[1];
        u->m[1] = u->m[0];
        u->m[0] = oldest;
        TRY(ts_lincomb_op(
            dev, (ts_lincomb){.n = 2, .c = {1, -u->s.sigma[i]}, .x = {x, v}, .y = u->m[0]}));
        if (i > 0)
            TRY(correct_sample(u, dev, i));
        else
            TRY(ts_lincomb_op(dev, (ts_lincomb){.n = 1, .c = {1}, .x = {x}, .y = u->last}));
        TRY(predict_sample(u, dev, i, x));
    }
    u->done++;
done:
    return st;
}

ts_status ts_solver_clean(const ts_solver *u, ts_device *dev, ts_tensor x, ts_tensor v, ts_tensor y)
{
    if (!ts_solver_is_flow(u->s.kind)) return ts_diffusion_clean(u, dev, x, v, y);
    return ts_lincomb_op(dev,
                         (ts_lincomb){.n = 2, .c = {1, -u->s.sigma[u->done]}, .x = {x, v}, .y = y});
}

double ts_solver_sigma(const ts_solver *u)
{
    const ts_schedule *s = &u->s;
    if (ts_solver_is_flow(s->kind)) return s->sigma[u->done];
    if (s->kind == TS_LCM && u->done == s->steps) return 0;
    ts_level l = u->done > s->first ? s->to[u->done - 1] : s->at[u->done];
    return l.s / l.a;
}
