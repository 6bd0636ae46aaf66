/* Which share of the rows is ours, by what engines that run many processes put into the
 * environment: an array of jobs (Slurm, AWS Batch), tasks that one launcher started (Open MPI,
 * MPICH, srun), both at once, or an index alone (Kubernetes, GNU parallel). */
#include "cli/batch/batch.h"

#include "backend/number.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

typedef char *lookup(const char *);
enum { MOST = 1000000 };

/* A whole number from 0. */
static bool read_count(const char *s, long *out)
{
    uint64_t n;
    if (!s || !ts_whole_read(s, LONG_MAX, &n)) return false;
    *out = (long)n;
    return true;
}

/* An index from 0 and how many there are, of variables that give both. */
static bool read_pair(lookup *get, const char *index, const char *total, long *i, long *n)
{
    return read_count(get(index), i) && read_count(get(total), n) && *n > 0 && *i < *n;
}

static bool read_array(lookup *get, long *i, long *n)
{
    long id, least, step = 1;
    if (read_pair(get, "AWS_BATCH_JOB_ARRAY_INDEX", "AWS_BATCH_JOB_ARRAY_SIZE", i, n)) return true;
    if (!read_count(get("SLURM_ARRAY_TASK_ID"), &id) ||
        !read_count(get("SLURM_ARRAY_TASK_COUNT"), n) ||
        !read_count(get("SLURM_ARRAY_TASK_MIN"), &least))
        return false;
    if (get("SLURM_ARRAY_TASK_STEP") && !read_count(get("SLURM_ARRAY_TASK_STEP"), &step))
        return false;
    *i = step > 0 ? (id - least) / step : -1;
    return *i >= 0 && *n > 0 && *i < *n && *i * step == id - least;
}

/* A batch script of Slurm has SLURM_PROCID, too, without being one of several: only a step, which
 * srun starts, has a number. */
static bool read_tasks(lookup *get, long *i, long *n)
{
    if (read_pair(get, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", i, n) ||
        read_pair(get, "PMI_RANK", "PMI_SIZE", i, n))
        return true;
    return get("SLURM_STEP_ID") && read_pair(get, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", i, n);
}

/* Of engines that say nothing about a total; index from 0. */
static bool index_alone(lookup *get, long *i, const char **which)
{
    if (read_count(get("PARALLEL_SEQ"), i) && *i > 0)
        return *which = "PARALLEL_SEQ of GNU parallel", (*i)--, true;
    return *which = "JOB_COMPLETION_INDEX of Kubernetes",
           read_count(get("JOB_COMPLETION_INDEX"), i);
}

static ts_status share_from_environment(ts_err *err, lookup *get, int *share, int *shares)
{
    long i = 0, n = 1, k, m;
    const char *which;
    bool a = read_array(get, &i, &n), b = read_tasks(get, &k, &m);
    if (b) {
        i = i * m + k;
        n *= m;
    }
    if (!a && !b && index_alone(get, &i, &which))
        return ts_fail(err, TS_EUSAGE,
                       "--shard auto: the environment has %s, which comes without a total: "
                       "--shard auto/N gives it",
                       which);
    if (!a && !b) {
        if (get("SLURM_ARRAY_TASK_ID"))
            return ts_fail(err, TS_EUSAGE,
                           "--shard auto: SLURM_ARRAY_TASK_ID \"%.20s\" does not go with "
                           "SLURM_ARRAY_TASK_MIN, _COUNT and _STEP: an array whose indices are "
                           "a range is needed, or --shard I/N",
                           get("SLURM_ARRAY_TASK_ID"));
        return ts_fail(err, TS_EUSAGE,
                       "--shard auto: the environment is not that of a Slurm array or srun, "
                       "Open MPI or an AWS Batch array: --shard I/N says which share this is");
    }
    if (n > MOST) return ts_fail(err, TS_EUSAGE, "--shard auto: %ld shares, at most %d", n, MOST);
    *share = (int)i + 1;
    *shares = (int)n;
    return TS_OK;
}

static ts_status share_of_total(ts_err *err, long total, lookup *get, int *share, int *shares)
{
    long i;
    const char *which;
    if (!index_alone(get, &i, &which)) {
        ts_status st = share_from_environment(err, get, share, shares);
        if (st)
            return ts_fail(err, st,
                           "--shard auto/%ld: the environment has no index: "
                           "JOB_COMPLETION_INDEX of Kubernetes or PARALLEL_SEQ of GNU parallel",
                           total);
        if (*shares != total)
            return ts_fail(err, TS_EUSAGE,
                           "--shard auto/%ld: the environment says that there are %d shares", total,
                           *shares);
        return TS_OK;
    }
    if (i >= total)
        return ts_fail(
            err, TS_EUSAGE,
            "--shard auto/%ld: %s makes this share %ld of %ld: N is the number of all of them",
            total, which, i + 1, total);
    *share = (int)i + 1;
    *shares = (int)total;
    return TS_OK;
}

ts_status ts_batch_share(ts_err *err, const char *text, lookup *get, int *share, int *shares)
{
    long i, n;
    char first[16];
    const char *slash = strchr(text, '/');
    if (!strcmp(text, "auto")) return share_from_environment(err, get, share, shares);
    bool good = slash && slash - text < (long)sizeof first && read_count(slash + 1, &n) && n >= 1 &&
                n <= MOST;
    if (good) snprintf(first, sizeof first, "%.*s", (int)(slash - text), text);
    if (good && !strcmp(first, "auto")) return share_of_total(err, n, get, share, shares);
    if (!good || !read_count(first, &i) || i < 1 || i > n)
        return ts_fail(err, TS_EUSAGE,
                       "--shard: got \"%.40s\", wanted I/N with I from 1 to N, auto or auto/N",
                       text);
    *share = (int)i;
    *shares = (int)n;
    return TS_OK;
}
