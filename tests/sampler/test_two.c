/* Two contexts, each used by a thread of its own at the same time, with different models, numbers
 * of threads and sampling: bit for bit what each gives alone. */
#include "backend/hash.h"
#include "sampler/run.h"
#include "tests/testing.h"

#include <omp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *fixture, *attention, *sampler;
    int threads, frames, steps;
    char path[512];
    ts_ctx *c;
    pthread_barrier_t *start;
    ts_status st;
    uint64_t hash;   /* of latents and frames */
    int team, after; /* OpenMP's threads for this one: before and after */
} job;

typedef struct {
    ts_sink sink; /* first */
    uint64_t hash;
} hasher;

static ts_status open_hasher(ts_sink *s, int w, int h, int frames, double fps, const char *json)
{
    (void)json;
    ((hasher *)s)->hash = ts_hash(TS_HASH, (int[]){w, h, frames, (int)fps}, 4 * sizeof(int));
    return TS_OK;
}
static ts_status hash_frame(ts_sink *s, const ts_frame *f)
{
    hasher *h = (hasher *)s;
    h->hash = ts_hash(h->hash, f->rgb, (size_t)f->w * (size_t)f->h * 3 * sizeof *f->rgb);
    return TS_OK;
}
static ts_status close_hasher(ts_sink *s)
{
    (void)s;
    return TS_OK;
}
static void abort_hasher(ts_sink *s) { (void)s; }

/* No assertion: Check's are for the thread that runs the test. */
static ts_status render(job *j)
{
    ts_status st;
    ts_model *m = NULL;
    ts_request q;
    ts_run *r = NULL;
    ts_estimate e;
    ts_bag *latents = NULL;
    ts_host z;
    hasher h = {.sink = {.open = open_hasher,
                         .frame = hash_frame,
                         .close = close_hasher,
                         .abort = abort_hasher}};
    TRY(ts_model_open(j->c, j->path, &m));
    ts_request_init(m, &q);
    q.prompt = "a fox";
    q.negative = "blurry";
    q.width = 128;
    q.height = 96;
    q.frames = j->frames;
    q.no_bins = true;
    q.steps = j->steps;
    q.guidance = q.guidance_2 = 3;
    q.attention = j->attention;
    q.sampler = j->sampler;
    TRY(ts_run_open(m, &q, &r, &e));
    TRY(ts_run_encode(r));
    TRY(ts_run_denoise(r, &latents));
    TRY(ts_run_decode(r, latents, &h.sink));
    TRY(ts_bag_get(&j->c->err, latents, "latents", TS_F32, -1, NULL, &z));
    size_t n = sizeof(float);
    for (int i = 0; i < z.nd; i++) n *= (size_t)z.dim[i];
    j->hash = ts_hash(h.hash, z.data, n);
done:
    ts_bag_free(latents);
    ts_run_close(r);
    ts_model_close(m);
    return st;
}

static void *work(void *user)
{
    job *j = user;
    if (j->start) pthread_barrier_wait(j->start);
    j->team = omp_get_max_threads();
    j->st = render(j);
    j->after = omp_get_max_threads();
    return NULL;
}

static job job_of(const char *fixture, const char *attention, const char *sampler, int threads,
                  int frames, int steps)
{
    job j = {.fixture = fixture,
             .attention = attention,
             .sampler = sampler,
             .threads = threads,
             .frames = frames,
             .steps = steps};
    snprintf(j.path, sizeof j.path, "%s/model", testing_fixture(fixture));
    return j;
}

START_TEST(two_threads)
{
    enum { ROUNDS = 3 };
    job j[] = {
        job_of("wan21-adaspa", "adaspa:keep=0.5,min-tokens=0,search-steps=2+4", NULL, 3, 13, 5),
        job_of("pixart-sigma", "dense", "lcm", 1, 1, 6)};
    uint64_t alone[2];
    for (int i = 0; i < 2; i++) {
        j[i].c = testing_open("cpu", NULL, j[i].threads);
        work(j + i);
        ck_assert_msg(j[i].st == TS_OK, "%s: %s", j[i].fixture, j[i].c->err.text);
        alone[i] = j[i].hash;
    }
    ck_assert(alone[0] && alone[0] != alone[1]);
    for (int round = 0; round < ROUNDS; round++) {
        pthread_barrier_t start;
        pthread_t thread[2];
        ck_assert_int_eq(pthread_barrier_init(&start, NULL, 2), 0);
        for (int i = 0; i < 2; i++) {
            j[i].start = &start;
            j[i].hash = 0;
            ck_assert_int_eq(pthread_create(thread + i, NULL, work, j + i), 0);
        }
        for (int i = 0; i < 2; i++) ck_assert_int_eq(pthread_join(thread[i], NULL), 0);
        pthread_barrier_destroy(&start);
        for (int i = 0; i < 2; i++) {
            ck_assert_msg(j[i].st == TS_OK, "%s: %s", j[i].fixture, j[i].c->err.text);
            ck_assert_msg(j[i].hash == alone[i], "%s: beside another run it is another",
                          j[i].fixture);
            ck_assert_int_eq(j[i].after, j[i].team);
        }
    }
    for (int i = 0; i < 2; i++) testing_close(j[i].c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("two contexts");
    TCase *tc = tcase_create("two contexts");
    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, two_threads);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
