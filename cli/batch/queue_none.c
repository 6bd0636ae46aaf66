/* The queue of a build without hiredis: --queue says how to get it. */
#include "cli/batch/batch.h"

const char *ts_queue_client(void) { return NULL; }

ts_status ts_queue_open(ts_batch *b)
{
    return ts_fail(&b->c->err, TS_EUSAGE,
                   "--queue: this build has no Redis client: install hiredis (Debian: apt-get "
                   "install libhiredis-dev) and build tessera again");
}
void ts_queue_close(ts_batch *b) { (void)b; }
ts_status ts_queue_fill(ts_batch *b) { return (void)b, TS_OK; }
ts_status ts_queue_next(ts_batch *b, int *job) { return (void)b, *job = -1, TS_OK; }
ts_status ts_queue_count(ts_batch *b) { return (void)b, TS_OK; }
ts_status ts_queue_holds(ts_batch *b, bool *ours) { return (void)b, *ours = true, TS_OK; }
ts_status ts_queue_finish(ts_batch *b, const ts_job *j) { return (void)b, (void)j, TS_OK; }
