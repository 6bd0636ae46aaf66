/* Sigmas and timesteps of a run, and the solvers that use them. Pure arithmetic on host numbers: a
 * step is a linear combination of tensors. */
#ifndef TS_SCHEDULE_H
#define TS_SCHEDULE_H
#include "backend/ctx.h"

/* the first two: rectified flow; the others: diffusion, x = a x_0 + s noise */
typedef enum {
    TS_UNIPC,
    TS_EULER,
    TS_DPMPP_2M,
    TS_DDIM,
    TS_EULER_NOISE,
    TS_LCM,
    TS_DPMPP_2M_SDE,
    TS_EULER_ANCESTRAL,
    TS_SOLVERS
} ts_solver_kind;
enum { TS_MAX_STEPS = 1000 };
bool ts_solver_is_flow(ts_solver_kind);
bool ts_solver_draws(ts_solver_kind); /* does it add noise of its own after steps? */
/* as --sampler says it: "unipc", "euler", "dpmpp-2m", "ddim", "euler", "lcm", "dpmpp-2m-sde",
 * "euler-a" */
const char *ts_solver_name(ts_solver_kind);
const char *ts_solver_title(ts_solver_kind); /* as A1111 texts say it: "DPM++ 2M", ... */
/* The solver of that name for a model of flow or of diffusion. False: there is none; `names` then
 * lists those that there are. */
bool ts_solver_named(const char *name, bool flow, ts_solver_kind *, char names[80]);

/* "linear", "scaled_linear", "squaredcos_cap_v2" */
typedef enum { TS_BETA_LINEAR, TS_BETA_SCALED, TS_BETA_COSINE } ts_beta;
/* "epsilon", "v_prediction", "sample" */
typedef enum { TS_PREDICT_NOISE, TS_PREDICT_V, TS_PREDICT_SAMPLE } ts_prediction;
/* of timesteps */
typedef enum { TS_SPACING_LINSPACE, TS_SPACING_LEADING, TS_SPACING_TRAILING } ts_spacing;
typedef struct { /* a diffusion model's scheduler config; a solver reads what concerns it */
    ts_beta beta;
    double beta_start, beta_end;
    /* the signal's share of every level becomes a^2 / (c + (1 - c) a^2) with this c (CogVideoX);
     * 0: it does not */
    double snr_shift;
    bool zero_snr; /* betas rescaled so that the last level is noise alone */
    ts_prediction prediction;
    ts_spacing spacing;
    int offset; /* added to leading timesteps */
    int order;  /* DPM-Solver++: 1 or 2; */
    /* ... its second order in the form of Heun instead of the midpoint's */
    bool heun;
    /* final_min: ends at the least level of training instead of 0; Euler too */
    bool lower_order_final, euler_at_final, final_min;
    bool karras; /* levels by Karras et al. (2022), rho 7; DPM-Solver++ and Euler */
    double clip; /* x_0 is clamped to -clip..clip; 0: it is not. DDIM and LCM */
    /* DDIM: behind the last timestep there is no noise, instead of the least level of training */
    bool alpha_to_one;
    int original_steps;      /* LCM: timesteps of its distillation, ... */
    double timestep_scaling; /* ... and what t is multiplied by in its boundary conditions */
} ts_diffusion;
ts_diffusion ts_diffusion_default(void);

typedef struct {
    double a, s;
} ts_level; /* x = a x_0 + s noise, a^2 + s^2 = 1 */
typedef struct {
    ts_solver_kind kind;
    /* first: the step (from 0) to begin with; the sample given is then at its level */
    int steps, first;
    double shift;
    float sigma[TS_MAX_STEPS + 1]; /* flow: descending, last 0 */
    float t[TS_MAX_STEPS];         /* as the model is fed them */
    ts_diffusion d;
    ts_level at[TS_MAX_STEPS], to[TS_MAX_STEPS]; /* diffusion: before and after each step */
    double scale;                                /* the first sample is noise times this */
} ts_schedule;
/* UniPC: the flow timetable of diffusers >= 0.37 (1.1); Euler: FlowMatchEulerDiscreteScheduler with
 * its shift applied twice (2). */
void ts_schedule_init(ts_schedule *, ts_solver_kind, int steps, double shift);
/* The same solvers with timesteps t[steps] of 1000 to more than 0, descending, which the shift is
 * applied to once. */
void ts_schedule_of(ts_schedule *, ts_solver_kind, int steps, double shift, const double *t);
/* The timetable of a diffusion solver, of which the last share `strength` (0..1] is run, one step
 * at least. Samples are held as the model sees them, so Euler's are divided by sqrt(sigma^2 + 1).
 * LCM takes its steps from the share of the distillation's. TS_EUSAGE: more steps than there are.
 */
ts_status ts_schedule_diffusion(ts_err *, ts_schedule *, ts_solver_kind, int steps, double strength,
                                const ts_diffusion *);
/* x at the level of the first step from a picture's latents: a picture + s noise. */
ts_level ts_schedule_level(const ts_schedule *);

typedef struct { /* history, device tensors of the latent's shape, carved once a run */
    ts_schedule s;
    /* data predictions of this and earlier steps (newest first), sample that entered the last
     * predictor */
    ts_tensor m[3], last;
    /* of solvers that draw: what the caller fills with noise before steps that want it */
    ts_tensor noise;
    ts_tensor ones; /* for clamping */
    int done;       /* steps taken, those before `first` included */
} ts_solver;
ts_status ts_solver_init(ts_solver *, ts_schedule, ts_device *, ts_arena *, int nd,
                         const long *dim);
/* x <- the next sample from the model's output v (velocity, noise, ...) at step `done` (from 0). */
ts_status ts_solver_step(ts_solver *, ts_device *, ts_tensor x, ts_tensor v);
/* y <- the clean latents that v foretells at step `done`, before it is taken; not clamped. */
ts_status ts_solver_clean(const ts_solver *, ts_device *, ts_tensor x, ts_tensor v, ts_tensor y);
/* Noise that is left at `done`: sigma of a flow, of diffusion s / a. */
double ts_solver_sigma(const ts_solver *);
bool ts_solver_wants_noise(const ts_solver *); /* before the step at `done` */
/* What a state between two steps consists of besides the sample. Returns how many. */
enum { TS_HISTORY = 3 };
int ts_solver_history(const ts_solver *, const char *name[TS_HISTORY], ts_tensor t[TS_HISTORY]);
/* schedule_diffusion.c: a step of TS_DPMPP_2M and later kinds, and what it foretells. */
ts_status ts_diffusion_step(ts_solver *, ts_device *, ts_tensor x, ts_tensor v);
ts_status ts_diffusion_clean(const ts_solver *, ts_device *, ts_tensor x, ts_tensor v, ts_tensor y);
#endif
