/* Shares from the environment of the engines that start many processes, each as its manual says
 * that it sets it. */
#include "cli/batch/batch_share.c"
#include "tests/testing.h"

static const char *const *set;

static char *get(const char *name)
{
    size_t n = strlen(name);
    for (const char *const *v = set; *v; v++)
        if (!strncmp(*v, name, n) && (*v)[n] == '=') return (char *)*v + n + 1;
    return NULL;
}

static ts_err err;
static int share, shares;

static ts_status of(const char *text, const char *const *environment)
{
    set = environment;
    share = shares = 0;
    return ts_batch_share(&err, text, get, &share, &shares);
}
#define WITH(...) \
    (const char *const[]) { __VA_ARGS__, NULL }
#define NOTHING \
    (const char *const[]) { NULL }

static void is(ts_status st, int i, int n)
{
    ck_assert_msg(st == TS_OK && share == i && shares == n, "%d of %d: %s", share, shares,
                  err.text);
}
static void refused(ts_status st, const char *phrase)
{
    ck_assert_msg(st == TS_EUSAGE && strstr(err.text, phrase), "%s", err.text);
}

START_TEST(given)
{
    is(of("1/1", NOTHING), 1, 1);
    is(of("3/4", NOTHING), 3, 4);
    is(of("2/4", WITH("SLURM_ARRAY_TASK_ID=1", "PARALLEL_SEQ=9")), 2, 4);
    static const char *const bad[] = {
        "0/4",  "5/4",   "1/0",   "1",     "1/",     "/4",    "a/4", "1/4x",
        "-1/4", "1/2/3", "1.0/2", "auto/", "auto/0", "auto4", "",    "99999999999/99999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) refused(of(bad[i], NOTHING), "--shard");
}
END_TEST

START_TEST(slurm)
{
    is(of("auto", WITH("SLURM_ARRAY_TASK_ID=7", "SLURM_ARRAY_TASK_COUNT=8",
                       "SLURM_ARRAY_TASK_MIN=0", "SLURM_ARRAY_TASK_MAX=7")),
       8, 8);
    /* --array=1-16:5 */
    is(of("auto", WITH("SLURM_ARRAY_TASK_ID=11", "SLURM_ARRAY_TASK_COUNT=4",
                       "SLURM_ARRAY_TASK_MIN=1", "SLURM_ARRAY_TASK_STEP=5")),
       3, 4);
    /* --array=1,4,9 */
    refused(of("auto", WITH("SLURM_ARRAY_TASK_ID=9", "SLURM_ARRAY_TASK_COUNT=3",
                            "SLURM_ARRAY_TASK_MIN=1", "SLURM_ARRAY_TASK_STEP=1")),
            "SLURM_ARRAY_TASK_ID");
    is(of("auto",
          WITH("SLURM_STEP_ID=0", "SLURM_PROCID=1", "SLURM_STEP_NUM_TASKS=4", "SLURM_NTASKS=8")),
       2, 4);
    /* a batch script is one process */
    refused(of("auto", WITH("SLURM_PROCID=0", "SLURM_NTASKS=4", "SLURM_JOB_ID=7")),
            "is not that of");
    is(of("auto",
          WITH("SLURM_ARRAY_TASK_ID=1", "SLURM_ARRAY_TASK_COUNT=2", "SLURM_ARRAY_TASK_MIN=0",
               "SLURM_STEP_ID=0", "SLURM_PROCID=2", "SLURM_STEP_NUM_TASKS=3")),
       6, 6);
    is(of("auto", WITH("SLURM_ARRAY_TASK_ID=1", "SLURM_ARRAY_TASK_COUNT=2",
                       "SLURM_ARRAY_TASK_MIN=0", "SLURM_PROCID=0", "SLURM_NTASKS=3")),
       2, 2);
}
END_TEST

START_TEST(launchers_and_arrays)
{
    is(of("auto", WITH("OMPI_COMM_WORLD_RANK=0", "OMPI_COMM_WORLD_SIZE=2")), 1, 2);
    is(of("auto", WITH("OMPI_COMM_WORLD_RANK=1", "OMPI_COMM_WORLD_SIZE=2", "SLURM_ARRAY_TASK_ID=4",
                       "SLURM_ARRAY_TASK_COUNT=3", "SLURM_ARRAY_TASK_MIN=3")),
       4, 6);
    is(of("auto", WITH("PMI_RANK=2", "PMI_SIZE=3")), 3, 3);
    is(of("auto", WITH("AWS_BATCH_JOB_ARRAY_INDEX=2", "AWS_BATCH_JOB_ARRAY_SIZE=10")), 3, 10);
    refused(of("auto", NOTHING), "is not that of a Slurm array");
    refused(of("auto", WITH("OMPI_COMM_WORLD_RANK=x", "OMPI_COMM_WORLD_SIZE=2")), "is not that of");
    refused(of("auto", WITH("OMPI_COMM_WORLD_RANK=2", "OMPI_COMM_WORLD_SIZE=2")), "is not that of");
}
END_TEST

START_TEST(an_index_alone)
{
    is(of("auto/5", WITH("JOB_COMPLETION_INDEX=4")), 5, 5);
    is(of("auto/3", WITH("PARALLEL_SEQ=1")), 1, 3);
    refused(of("auto", WITH("JOB_COMPLETION_INDEX=0")), "--shard auto/N gives it");
    refused(of("auto", WITH("PARALLEL_SEQ=3")),
            "PARALLEL_SEQ of GNU parallel, which comes without a total");
    refused(of("auto/3", WITH("PARALLEL_SEQ=4")), "makes this share 4 of 3");
    refused(of("auto/3", WITH("PARALLEL_SEQ=0")), "has no index");
    refused(of("auto/3", NOTHING), "has no index");
    is(of("auto/2", WITH("OMPI_COMM_WORLD_RANK=1", "OMPI_COMM_WORLD_SIZE=2")), 2, 2);
    refused(of("auto/3", WITH("OMPI_COMM_WORLD_RANK=1", "OMPI_COMM_WORLD_SIZE=2")),
            "says that there are 2 shares");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("batch_share");
    TCase *t = tcase_create("batch_share");
    tcase_add_test(t, given);
    tcase_add_test(t, slurm);
    tcase_add_test(t, launchers_and_arrays);
    tcase_add_test(t, an_index_alone);
    suite_add_tcase(s, t);
    return testing_main(s);
}
