/* Counts the calls that a context's device gets, by standing in its table of operations: what
 * waits, what moves bytes, what asks for memory. One recorder at a time; counting calls are not
 * counted. */
#ifndef RECORDER_H
#define RECORDER_H
#include "tests/testing.h"

typedef struct {
    int joins;  /* of join, download and checked: each waits for the queue */
    int checks; /* of checked alone */
    int downloads, uploads, ahead, allocs, frees, marks;
} recorded;
/* From now on; everything is 0. */
void recorder_begin(ts_ctx *);
recorded recorder_so_far(void);
recorded recorder_between(recorded from, recorded to);
void recorder_end(void); /* the device is as it was */
#endif
