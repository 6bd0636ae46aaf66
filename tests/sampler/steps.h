/* What denoising steps ask of their device: one join an evaluation of the transformer, to see that
 * its numbers are finite, and nothing else that waits, moves bytes or takes memory. */
#ifndef STEPS_H
#define STEPS_H
#include "backend/device.h"

enum { STEPS_RUN = 6 };
typedef enum {
    STEPS_DENSE,
    STEPS_ADASPA, /* two searches, whose statistics come back together when all was computed */
    STEPS_MASS,   /* the same by masses of blocks */
    STEPS_POOLED,
    STEPS_NOISE, /* a solver that adds noise at every step but the last */
    STEPS_CASES
} steps_what;
/* Runs it on a backend of testing_open; the test fails where a step asks for more than it may.
 * waits: how often the device has waited until now; it may wait as often as it is told to. NULL: it
 * does not count. */
void steps_expect(steps_what, const char *backend, long (*waits)(ts_device *));
#endif
