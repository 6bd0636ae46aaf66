/* A whole run in one call, in the two halves between which an output is opened. Internal to
 * sampler/. */
#ifndef TS_GENERATE_H
#define TS_GENERATE_H
#include "sampler/run.h"

/* ts_run_open, and the noise and the picture that the request names. */
ts_status ts_generate_open(ts_model *, const ts_request *, ts_run **);
ts_status ts_generate_run(ts_run *, ts_sink *);
#endif
