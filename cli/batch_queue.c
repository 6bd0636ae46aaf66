#include "cli/batch.h"
ts_status ts_queue_open(ts_batch *b) { return ts_cli_fail(b->c, TS_EUSAGE, "--queue: this build of tessera has no hiredis"); }
void ts_queue_close(ts_batch *b) { (void)b; }
ts_status ts_queue_fill(ts_batch *b) { (void)b; return TS_OK; }
ts_status ts_queue_next(ts_batch *b, int *j) { (void)b; *j = -1; return TS_OK; }
ts_status ts_queue_holds(ts_batch *b, bool *o) { (void)b; *o = true; return TS_OK; }
void ts_queue_renew(ts_batch *b) { (void)b; }
ts_status ts_queue_finish(ts_batch *b, const ts_job *j) { (void)b; (void)j; return TS_OK; }
