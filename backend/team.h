/* Work of the host that is no operation of a device, shared among threads. */
#ifndef TS_TEAM_H
#define TS_TEAM_H
#include "backend/err.h"

/* Does [first, first + n) of the work, beside calls for other parts of it. */
typedef ts_status ts_team_part(void *user, ts_err *, long first, long n);
/* [0, n) in as many parts as there are threads (fewer when n is less), each done once. Of parts
 * that fail, the first one's status and sentence. */
ts_status ts_team_share(ts_err *, int threads, long n, ts_team_part *, void *user);
#endif
