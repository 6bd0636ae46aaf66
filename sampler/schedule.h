/* Sigmas and timesteps of a run, and the solvers that use them (schedulers.md). Pure arithmetic on host numbers: a step is a linear combination of tensors. */
#ifndef TS_SCHEDULE_H
#define TS_SCHEDULE_H
#include "backend/backend.h"

typedef enum { TS_UNIPC, TS_EULER } ts_solver_kind;
enum { TS_MAX_STEPS = 1000 };
typedef struct {
    ts_solver_kind kind;
    int steps;
    double shift;
    float sigma[TS_MAX_STEPS + 1]; /* descending, last 0 */
    float t[TS_MAX_STEPS];         /* as the model is fed them */
} ts_schedule;
/* UniPC: the flow timetable of diffusers >= 0.37 (1.1); Euler: FlowMatchEulerDiscreteScheduler with its shift applied twice (2). */
void ts_schedule_init(ts_schedule *, ts_solver_kind, int steps, double shift);

typedef struct { /* history, device tensors of the latent's shape, carved once a run */
    ts_schedule s;
    ts_tensor m[3], last; /* data predictions of this and earlier steps (newest first), sample that entered the last predictor */
    int done;             /* steps taken */
} ts_solver;
void ts_solver_init(ts_solver *, ts_schedule, ts_arena *, int nd, const long *dim);
/* x <- the next sample from velocity v at step `done` (from 0). */
ts_status ts_solver_step(ts_solver *, ts_device *, ts_tensor x, ts_tensor v);
#endif
