/* Timetables and solvers for diffusion models, x = a x_0 + s e with noise e and a^2 + s^2 = 1
 * (variance preserving). At training timestep t of 1000, a^2 is the product of (1 - beta_i) for i
 * up to t. With lambda = ln(a / s), h the step in lambda, primes behind the step:
 *
 *   DDIM   (Song et al., 2021), eta 0:               x' = a' x_0 + s' e
 *   Euler  on x / a as a function of s / a:          the same, at other levels
 *   DPM++  (Lu et al., DPM-Solver++, 2022), 2M:      x' = (s'/s) x - a' (e^-h - 1) (x_0 + d / 2), d
 *   = (x_0 - x_0 of the step before) / r, r the ratio of the step before to h
 *                                         Heun:      x' = (s'/s) x - a' (e^-h - 1) x_0 + a' ((e^-h
 *                                         - 1) / h + 1) d order 1:   x' = (s'/s) x - a' (e^-h - 1)
 *                                         x_0
 *   2M SDE (as CogVideoX has it): x' = (s'/s) e^-h x - a' (e^-2h - 1) (x_0 + d / 2) + s' sqrt(1 -
 *          e^-2h) noise; the first step and one that leaves no noise are of order 1
 *   Euler ancestral, r the ratio of s / a behind the step to that before it:   x' = a' x_0 + s' (r
 * e
 *          + sqrt(1 - r^2) noise)
 *   LCM    (Luo et al., 2023), y = c_out x_0 + c_skip x:   x' = a' y + s' noise, the last time y
 *
 * in the arrangement of diffusers' schedulers. A model predicts e, or v = a e - s x_0, or x_0. */
#include "sampler/schedule.h"

#include <math.h>
#include <string.h>

enum { TRAIN = 1000 };

ts_diffusion ts_diffusion_default(void)
{
    return (ts_diffusion){.beta_start = 0.0001,
                          .beta_end = 0.02,
                          .order = 2,
                          .lower_order_final = true,
                          .alpha_to_one = true,
                          .original_steps = 50,
                          .timestep_scaling = 10};
}

/* ---- levels of training: bar[t] = a^2, in the oracle's f32 ---- */
static float beta_at(const ts_diffusion *d, int i)
{
    double from = d->beta_start, to = d->beta_end, end[2];
    if (d->beta == TS_BETA_COSINE) {
        for (int k = 0; k < 2; k++) {
            double c = cos(((double)(i + k) / TRAIN + 0.008) / 1.008 * M_PI / 2);
            end[k] = c * c;
        }
        return (float)fmin(1 - end[1] / end[0], 0.999);
    }
    if (d->beta == TS_BETA_SCALED) {
        from = sqrt(from);
        to = sqrt(to);
    }
    float step = ((float)to - (float)from) / (TRAIN - 1);
    float b = i < TRAIN / 2 ? (float)from + step * (float)i
                            : (float)to - step * (float)(TRAIN - 1 - i);
    return d->beta == TS_BETA_SCALED ? b * b : b;
}

/* The oracle of CogVideoX computes these in f64. */
static void compute_shifted_bars(const ts_diffusion *d, double bar[TRAIN])
{
    bool scaled = d->beta == TS_BETA_SCALED;
    double product = 1, from = scaled ? sqrt(d->beta_start) : d->beta_start,
           to = scaled ? sqrt(d->beta_end) : d->beta_end;
    for (int i = 0; i < TRAIN; i++) {
        double b = from + (to - from) * i / (TRAIN - 1);
        product *= 1 - (d->beta == TS_BETA_COSINE ? (double)beta_at(d, i) : scaled ? b * b : b);
        bar[i] = product / (d->snr_shift + (1 - d->snr_shift) * product);
    }
}

static void compute_alpha_bars(const ts_diffusion *d, double bar[TRAIN])
{
    double product = 1;
    for (int i = 0; i < TRAIN; i++) {
        product *= (double)(1 - beta_at(d, i));
        bar[i] = (float)product;
    }
    if (d->snr_shift > 0) compute_shifted_bars(d, bar);
    if (!d->zero_snr) return;
    double first = sqrt(bar[0]), last = sqrt(bar[TRAIN - 1]);
    for (int i = 0; i < TRAIN; i++) {
        double a = (sqrt(bar[i]) - last) * first / (first - last);
        bar[i] = a * a;
    }
}

static ts_level level_of_bar(double bar) { return (ts_level){sqrt(bar), sqrt(1 - bar)}; }
static ts_level level_of_sigma(double sigma)
{
    return (ts_level){1 / sqrt(sigma * sigma + 1), sigma / sqrt(sigma * sigma + 1)};
}
static double sigma_of_bar(double bar) { return sqrt((1 - bar) / bar); }

/* ---- timesteps ---- */

/* Timestep i of n; extra: DPM-Solver++ divides by one more and leaves the last out. Rounded to
 * whole numbers where the oracle does. */
static double compute_timestep(const ts_diffusion *d, int n, int i, bool extra, bool whole)
{
    if (d->spacing == TS_SPACING_TRAILING) return rint(TRAIN - i * ((double)TRAIN / n)) - 1;
    int parts = n + extra, k = parts - 1 - i;
    if (d->spacing == TS_SPACING_LEADING) return (double)k * (TRAIN / parts) + d->offset;
    double t = parts > 1 ? k * ((double)(TRAIN - 1) / (parts - 1)) : 0;
    return whole ? rint(t) : (float)t;
}

/* The timestep that has a level, by linear interpolation of ln sigma. */
static double timestep_of(const double *bar, double sigma)
{
    int low = 0;
    double x = log(fmax(sigma, 1e-10));
    while (low < TRAIN - 2 && log(sigma_of_bar(bar[low + 1])) <= x) low++;
    double from = log(sigma_of_bar(bar[low])), to = log(sigma_of_bar(bar[low + 1])),
           w = (from - x) / (from - to);
    w = w < 0 ? 0 : w > 1 ? 1 : w;
    return (1 - w) * low + w * (low + 1);
}

/* Karras et al., 2022, equation 5 with rho 7: from `most` to `least` in n levels. */
static double compute_karras_sigma(double most, double least, int n, int i)
{
    double a = pow(most, 1.0 / 7), b = pow(least, 1.0 / 7);
    return pow(a + (n > 1 ? (double)i / (n - 1) : 0) * (b - a), 7);
}

/* Linear interpolation of sigma between whole timesteps. */
static double sigma_at(const double *bar, double t)
{
    int low = (int)fmin(fmax(t, 0), TRAIN - 1);
    double from = sigma_of_bar(bar[low]);
    return low == TRAIN - 1 ? from : from + (t - low) * (sigma_of_bar(bar[low + 1]) - from);
}

/* DPM-Solver++ and Euler go from level to level of one list of sigmas. */
static void time_sigmas(ts_schedule *s, double *bar)
{
    const ts_diffusion *d = &s->d;
    int n = s->steps;
    bool dpm = s->kind == TS_DPMPP_2M;
    double sigma[TS_MAX_STEPS + 1];
    if (d->zero_snr) bar[TRAIN - 1] = ldexp(1, -24); /* a level without any signal has no sigma */
    for (int i = 0; i < n; i++) {
        double t = compute_timestep(d, n, i, dpm, dpm);
        sigma[i] = sigma_at(bar, t);
        s->t[i] = (float)t;
    }
    double most = dpm ? sigma_of_bar(bar[TRAIN - 1]) : sigma[0],
           least = dpm ? sigma_of_bar(bar[0]) : sigma[n - 1];
    for (int i = 0; d->karras && i < n; i++) {
        sigma[i] = compute_karras_sigma(most, least, n, i);
        double t = timestep_of(bar, sigma[i]);
        s->t[i] = (float)(!dpm ? t : d->beta == TS_BETA_COSINE ? trunc(t) : rint(t));
    }
    sigma[n] = d->final_min ? sigma_of_bar(bar[0]) : 0;
    for (int i = 0; i < n; i++) {
        s->at[i] = level_of_sigma((float)sigma[i]);
        s->to[i] = level_of_sigma((float)sigma[i + 1]);
    }
    /* the oracle begins with noise times the largest sigma */
    if (!dpm && d->spacing != TS_SPACING_LEADING && s->first == 0) s->scale = s->at[0].s;
}

/* The step of DDIM, and of DPM-Solver++ in CogVideoX' form, ends 1000 / n timesteps further, which
 * need not be where the next one begins. */
static void time_ddim(ts_schedule *s, const double *bar)
{
    for (int i = 0; i < s->steps; i++) {
        int t = (int)compute_timestep(&s->d, s->steps, i, false, true), end = t - TRAIN / s->steps;
        s->t[i] = (float)t;
        s->at[i] = level_of_bar(bar[t]);
        s->to[i] = end >= 0            ? level_of_bar(bar[end])
                   : s->d.alpha_to_one ? (ts_level){1, 0}
                                       : level_of_bar(bar[0]);
    }
}

/* Of the distillation's timesteps k - 1, 2 k - 1, ... the first `most`, every most / n th from the
 * end. */
static void time_lcm(ts_schedule *s, const double *bar, int most)
{
    int k = TRAIN / s->d.original_steps;
    for (int i = 0; i < s->steps; i++)
        s->t[i] = (float)((most - (int)floor(i * ((double)most / s->steps))) * k - 1);
    for (int i = 0; i < s->steps; i++) {
        s->at[i] = level_of_bar(bar[(int)s->t[i]]);
        s->to[i] = level_of_bar(bar[(int)s->t[i + 1 < s->steps ? i + 1 : i]]);
    }
}

ts_status ts_schedule_diffusion(ts_err *err, ts_schedule *s, ts_solver_kind kind, int steps,
                                double strength, const ts_diffusion *d)
{
    double bar[TRAIN];
    *s = (ts_schedule){.kind = kind, .steps = steps, .scale = 1, .d = *d};
    if (kind != TS_DDIM && kind != TS_LCM) s->d.clip = 0;
    compute_alpha_bars(d, bar);
    if (kind == TS_LCM) {
        int most = (int)(d->original_steps * strength);
        if (steps > most)
            return ts_fail(err, TS_EUSAGE, "%d steps: sampler lcm has %d%s", steps, most,
                           strength < 1 ? " with this strength" : " at most");
        time_lcm(s, bar, most);
        return TS_OK;
    }
    if (d->offset && d->spacing == TS_SPACING_LEADING &&
        compute_timestep(d, steps, 0, kind == TS_DPMPP_2M, true) > TRAIN - 1)
        return ts_fail(
            err, TS_EUSAGE,
            "%d steps: the last timestep would be more than %d, at most %d steps are possible",
            steps, TRAIN - 1, TRAIN / 2);
    int run = (int)(steps * strength);
    if (run < 1) run = 1;
    s->first = steps - (run < steps ? run : steps);
    if (kind == TS_DDIM || kind == TS_DPMPP_2M_SDE)
        time_ddim(s, bar);
    else
        time_sigmas(s, bar);
    return TS_OK;
}

ts_level ts_schedule_level(const ts_schedule *s) { return s->at[s->first]; }

/* ---- steps ---- */
typedef struct {
    double x, v;
} mix; /* x times one number plus the model's output times another */

static mix express_sample(const ts_schedule *s, int i) /* x_0 */
{
    ts_level l = s->at[i];
    switch (s->d.prediction) {
    case TS_PREDICT_NOISE: return (mix){1 / l.a, -l.s / l.a};
    case TS_PREDICT_V: return (mix){l.a, -l.s};
    case TS_PREDICT_SAMPLE: break;
    }
    return (mix){0, 1};
}

static mix noise_of(const ts_schedule *s, int i)
{
    ts_level l = s->at[i];
    switch (s->d.prediction) {
    case TS_PREDICT_NOISE: return (mix){0, 1};
    case TS_PREDICT_V: return (mix){l.s, l.a};
    case TS_PREDICT_SAMPLE: break;
    }
    return (mix){1 / l.s, -l.a / l.s};
}

static ts_status store_mix(ts_device *dev, mix m, ts_tensor x, ts_tensor v, ts_tensor y)
{
    return ts_lincomb_op(dev,
                         (ts_lincomb){.n = 2, .c = {(float)m.x, (float)m.v}, .x = {x, v}, .y = y});
}

/* y = clamp(y, -c, c) = relu(y + c) - relu(y - c) - c; t: scratch */
static ts_status clamp_sample(ts_solver *u, ts_device *dev, ts_tensor y, ts_tensor t)
{
    ts_status st = TS_OK;
    float c = (float)u->s.d.clip;
    TRY(ts_lincomb_op(dev, (ts_lincomb){.n = 2, .c = {1, -c}, .x = {y, u->ones}, .y = t}));
    TRY(ts_lincomb_op(dev, (ts_lincomb){.n = 2, .c = {1, c}, .x = {y, u->ones}, .y = y}));
    TRY(ts_activate_op(dev, (ts_activate){.act = TS_ACT_RELU, .x = y, .y = y}));
    TRY(ts_activate_op(dev, (ts_activate){.act = TS_ACT_RELU, .x = t, .y = t}));
    TRY(ts_lincomb_op(dev, (ts_lincomb){.n = 3, .c = {1, -1, -c}, .x = {y, t, u->ones}, .y = y}));
done:
    return st;
}

/* DDIM and Euler; with clamping, the noise stays what the model said. */
static ts_status step_ddim(ts_solver *u, ts_device *dev, int i, ts_tensor x, ts_tensor v)
{
    ts_status st = TS_OK;
    mix x0 = express_sample(&u->s, i), e = noise_of(&u->s, i);
    ts_level to = u->s.to[i];
    if (!(u->s.d.clip > 0))
        return store_mix(dev, (mix){to.a * x0.x + to.s * e.x, to.a * x0.v + to.s * e.v}, x, v, x);
    TRY(store_mix(dev, x0, x, v, u->m[0]));
    TRY(store_mix(dev, e, x, v, x));
    TRY(clamp_sample(u, dev, u->m[0], v)); /* the output is of no use any more */
    TRY(store_mix(dev, (mix){to.s, to.a}, x, u->m[0], x));
done:
    return st;
}

static double compute_level_lambda(ts_level l) { return log(l.a) - log(l.s); }

static ts_status step_dpm(ts_solver *u, ts_device *dev, int i, ts_tensor x, ts_tensor v)
{
    ts_status st = TS_OK;
    const ts_schedule *s = &u->s;
    const ts_diffusion *d = &s->d;
    ts_level at = s->at[i], to = s->to[i];
    bool last = i == s->steps - 1 &&
                (d->euler_at_final || (d->lower_order_final && s->steps < 15) || !d->final_min);
    ts_tensor old = u->m[1];
    u->m[1] = u->m[0];
    u->m[0] = old;
    TRY(store_mix(dev, express_sample(s, i), x, v, u->m[0]));
    double h = to.s > 0 ? compute_level_lambda(to) - compute_level_lambda(at) : INFINITY,
           b = expm1(-h);
    ts_lincomb c = {.n = 2,
                    .c = {(float)(to.s / at.s), (float)(-to.a * b)},
                    .x = {x, u->m[0], u->m[1]},
                    .y = x};
    if (d->order == 2 && i > s->first && !last) {
        double r = (compute_level_lambda(at) - compute_level_lambda(s->at[i - 1])) / h,
               w = (d->heun ? to.a * (b / h + 1) : -0.5 * to.a * b) / r;
        c.n = 3;
        c.c[1] = (float)(-to.a * b + w);
        c.c[2] = (float)-w;
    }
    TRY(ts_lincomb_op(dev, c));
done:
    return st;
}

/* Consistency models: x_0 of the step is skip x + out x_0. */
typedef struct {
    double skip, out;
} boundary;

static boundary boundary_of(const ts_schedule *s, int i)
{
    double t = (double)s->t[i] * s->d.timestep_scaling, data = 0.5;
    return (boundary){data * data / (t * t + data * data), t / sqrt(t * t + data * data)};
}

static ts_status step_lcm(ts_solver *u, ts_device *dev, int i, ts_tensor x, ts_tensor v)
{
    ts_status st = TS_OK;
    const ts_schedule *s = &u->s;
    boundary b = boundary_of(s, i);
    double skip = b.skip, out = b.out;
    mix x0 = express_sample(s, i);
    ts_level to = i == s->steps - 1 ? (ts_level){1, 0} : s->to[i];
    ts_lincomb c = {
        .n = to.s > 0 ? 3 : 2,
        .c = {(float)(to.a * (out * x0.x + skip)), (float)(to.a * out * x0.v), (float)to.s},
        .x = {x, v, u->noise},
        .y = x};
    if (s->d.clip > 0) {
        TRY(store_mix(dev, x0, x, v, u->m[0]));
        TRY(clamp_sample(u, dev, u->m[0], v));
        c.c[0] = (float)(to.a * skip);
        c.c[1] = (float)(to.a * out);
        c.x[1] = u->m[0];
    }
    TRY(ts_lincomb_op(dev, c));
done:
    return st;
}

/* Of second order where there is a step before that had any signal. A level without signal has
 * lambda -infinity, one without noise +infinity: the limits are what the exponentials give. */
static ts_status step_sde(ts_solver *u, ts_device *dev, int i, ts_tensor x, ts_tensor v)
{
    ts_status st = TS_OK;
    const ts_schedule *s = &u->s;
    ts_level at = s->at[i], to = s->to[i];
    double h = at.a > 0 && to.s > 0 ? compute_level_lambda(to) - compute_level_lambda(at)
                                    : INFINITY,
           b = expm1(-2 * h);
    ts_tensor old = u->m[1];
    u->m[1] = u->m[0];
    u->m[0] = old;
    TRY(store_mix(dev, express_sample(s, i), x, v, u->m[0]));
    ts_lincomb c = {.n = 2,
                    .c = {(float)(to.s / at.s * exp(-h)), (float)(-to.a * b)},
                    .x = {x, u->m[0]},
                    .y = x};
    if (i > s->first && to.s > 0 && s->at[i - 1].a > 0) {
        double r = (compute_level_lambda(at) - compute_level_lambda(s->at[i - 1])) / h,
               w = -to.a * b / (2 * r);
        c.c[1] += (float)w;
        c.c[c.n] = (float)-w;
        c.x[c.n++] = u->m[1];
    }
    if (to.s > 0) {
        c.c[c.n] = (float)(to.s * sqrt(-b));
        c.x[c.n++] = u->noise;
    }
    TRY(ts_lincomb_op(dev, c));
done:
    return st;
}

static ts_status step_ancestral(ts_solver *u, ts_device *dev, int i, ts_tensor x, ts_tensor v)
{
    ts_level at = u->s.at[i], to = u->s.to[i];
    mix x0 = express_sample(&u->s, i), e = noise_of(&u->s, i);
    double r = to.s * at.a / (to.a * at.s), down = to.s * r, up = to.s * sqrt(1 - r * r);
    return ts_lincomb_op(dev, (ts_lincomb){.n = to.s > 0 ? 3 : 2,
                                           .c = {(float)(to.a * x0.x + down * e.x),
                                                 (float)(to.a * x0.v + down * e.v), (float)up},
                                           .x = {x, v, u->noise},
                                           .y = x});
}

bool ts_solver_wants_noise(const ts_solver *u)
{
    if (u->s.kind == TS_LCM) return u->done < u->s.steps - 1;
    return ts_solver_draws(u->s.kind) && u->s.to[u->done].s > 0;
}

ts_status ts_diffusion_step(ts_solver *u, ts_device *dev, ts_tensor x, ts_tensor v)
{
    if (u->s.kind == TS_DPMPP_2M) return step_dpm(u, dev, u->done, x, v);
    if (u->s.kind == TS_LCM) return step_lcm(u, dev, u->done, x, v);
    if (u->s.kind == TS_DPMPP_2M_SDE) return step_sde(u, dev, u->done, x, v);
    if (u->s.kind == TS_EULER_ANCESTRAL) return step_ancestral(u, dev, u->done, x, v);
    return step_ddim(u, dev, u->done, x, v);
}

ts_status ts_diffusion_clean(const ts_solver *u, ts_device *dev, ts_tensor x, ts_tensor v,
                             ts_tensor y)
{
    mix x0 = express_sample(&u->s, u->done);
    if (u->s.kind == TS_LCM) {
        boundary b = boundary_of(&u->s, u->done);
        x0 = (mix){b.out * x0.x + b.skip, b.out * x0.v};
    }
    return store_mix(dev, x0, x, v, y);
}
