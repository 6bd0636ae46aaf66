/* Threads for work of the host, from OpenMP's pool as the kernels' are. A smaller team than was
 * asked for does all parts as well. */
#include "backend/team.h"

ts_status ts_team_share(ts_err *err, int threads, long n, ts_team_part *part, void *user)
{
    ts_status st = TS_OK;
    long parts = threads < n ? threads : n, failed = parts;
    if (parts <= 1) return n > 0 ? part(user, err, 0, n) : TS_OK;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long p = 0; p < parts; p++) {
        ts_err own = {0};
        long first = n * p / parts;
        ts_status s = part(user, &own, first, n * (p + 1) / parts - first);
        if (!s) continue;
#pragma omp critical
        if (p < failed) {
            failed = p;
            st = s;
            *err = own;
        }
    }
    return st;
}
