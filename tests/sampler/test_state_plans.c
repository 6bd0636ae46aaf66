/* The file of plans beside a state: written when searches have changed it and not otherwise, never
 * another one than the state was saved with, whatever is interrupted, and gone with it. */
#include "sampler/run.h"
#include "tests/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STEPS = 6 }; /* searches after steps 2 and 4 */
static char *tmp;
static volatile int stop;
static int stop_after; /* a step; 0: none */

static void watch(void *user, const ts_event *e)
{
    (void)user;
    if (stop_after && e->phase == TS_PHASE_DENOISE && e->layer == 0 && e->step == stop_after)
        stop = 1;
}

typedef struct {
    ts_ctx *c;
    ts_model *m;
    ts_request q;
    char state[4096], plans[2][4200];
} opened;

static opened open_model(const char *backend, const char *name)
{
    char path[4096];
    opened o = {.c = testing_open(backend, NULL, 1)};
    o.c->env.progress = watch;
    o.c->env.stop = &stop;
    snprintf(path, sizeof path, "%s/model", testing_fixture("wan21-adaspa"));
    ck_ok(o.c, ts_model_open(o.c, path, &o.m));
    snprintf(o.state, sizeof o.state, "%s/%s", tmp, name);
    for (int i = 0; i < 2; i++)
        snprintf(o.plans[i], sizeof o.plans[i], "%s.plans-%d", o.state, i + 1);
    ts_request_init(o.m, &o.q);
    o.q.prompt = "a fox";
    o.q.width = 128;
    o.q.height = 96;
    o.q.frames = 13;
    o.q.steps = STEPS;
    o.q.guidance = 3;
    o.q.attention = "adaspa:keep=0.4,min-tokens=0,order=raster,search-steps=2+4";
    return o;
}

static void close_model(opened *o)
{
    ts_model_close(o->m);
    testing_close(o->c);
}

/* Goes on up to this step; 0: to the end, and the latents. */
static ts_bag *denoise_until(opened *o, int step)
{
    ts_run *r;
    ts_bag *latents = NULL;
    o->q.state = o->state;
    ck_ok(o->c, ts_run_open(o->m, &o->q, &r, NULL));
    ck_ok(o->c, ts_run_encode(r));
    stop = 0;
    stop_after = step;
    ts_status st = ts_run_denoise(r, &latents);
    stop = stop_after = 0;
    ck_assert_msg(st == (step ? TS_ESTOP : TS_OK), "%s", ts_error(o->c));
    ts_run_close(r);
    return latents;
}

static ts_bag *denoise_without_state(opened *o)
{
    ts_run *r;
    ts_bag *latents;
    o->q.state = NULL;
    ck_ok(o->c, ts_run_open(o->m, &o->q, &r, NULL));
    ck_ok(o->c, ts_run_encode(r));
    ck_ok(o->c, ts_run_denoise(r, &latents));
    ts_run_close(r);
    return latents;
}

static void same_latents(const ts_bag *a, const ts_bag *b)
{
    long n, m;
    const float *x = testing_f32(a, "latents", &n), *y = testing_f32(b, "latents", &m);
    ck_assert_int_eq(n, m);
    ck_assert(!memcmp(x, y, (size_t)n * sizeof *x));
}

static void refused(opened *o, const char *a, const char *b)
{
    ts_run *r;
    ck_ok(o->c, ts_run_open(o->m, &o->q, &r, NULL));
    ck_assert_int_eq(ts_run_encode(r), TS_EMODEL);
    ck_assert_msg(strstr(ts_error(o->c), a) && strstr(ts_error(o->c), b), "%s", ts_error(o->c));
    ts_run_close(r);
}

/* A new file is a new inode, while the old one is held open. */
static ino_t inode_of(const char *path)
{
    struct stat s;
    return stat(path, &s) ? 0 : s.st_ino;
}

static void copy_file(const char *from, const char *to)
{
    char command[9000];
    snprintf(command, sizeof command, "cp %s %s", from, to);
    ck_assert_int_eq(system(command), 0);
}

START_TEST(written_when_they_change)
{
    opened o = open_model("cpu", "change");
    denoise_until(&o, 1);
    ck_assert(inode_of(o.state) && !inode_of(o.plans[0]) && !inode_of(o.plans[1]));
    denoise_until(&o, 2);
    ino_t first = inode_of(o.plans[0]);
    ck_assert(first && !inode_of(o.plans[1]));
    FILE *held = fopen(o.plans[0], "rb");
    ts_bag *state = testing_bag(o.state);
    ck_assert_str_eq(ts_bag_meta_get(state, "state_format"), "2");
    for (int i = 0; i < ts_bag_count(state); i++)
        ck_assert_msg(strncmp(ts_bag_name(state, i), "plan", 4) != 0, "%s", ts_bag_name(state, i));
    ts_bag_free(state);
    denoise_until(&o, 3);
    ck_assert(inode_of(o.plans[0]) == first && !inode_of(o.plans[1]));
    denoise_until(&o, 4);
    ino_t second = inode_of(o.plans[1]);
    ck_assert(second && !inode_of(o.plans[0]));
    fclose(held);
    held = fopen(o.plans[1], "rb");
    ts_bag_free(denoise_until(&o, 0));
    ck_assert(inode_of(o.plans[1]) == second && !inode_of(o.plans[0]));
    fclose(held);
    ts_state_remove(o.state);
    ck_assert(!inode_of(o.state) && !inode_of(o.plans[0]) && !inode_of(o.plans[1]));
    ts_state_remove(o.state);
    ts_state_remove(NULL);
    close_model(&o);
}
END_TEST

/* Killed after the new plans were there and before the state that names them. */
START_TEST(killed_between_the_two)
{
    char state[4200], plans[4200];
    opened o = open_model(_i ? "far" : "cpu", "killed");
    ts_bag *whole = denoise_without_state(&o);
    snprintf(state, sizeof state, "%s/earlier", tmp);
    snprintf(plans, sizeof plans, "%s/earlier-plans", tmp);
    denoise_until(&o, 3);
    copy_file(o.state, state);
    copy_file(o.plans[0], plans);
    denoise_until(&o, 4);
    copy_file(state, o.state);
    copy_file(plans, o.plans[0]);
    ck_assert(inode_of(o.plans[0]) && inode_of(o.plans[1]));
    ts_bag *rest = denoise_until(&o, 0);
    same_latents(whole, rest);
    ck_assert(!inode_of(o.plans[0]) && inode_of(o.plans[1]));
    ts_bag_free(rest);
    ts_bag_free(whole);
    ts_state_remove(o.state);
    close_model(&o);
}
END_TEST

START_TEST(others_are_refused)
{
    opened o = open_model("cpu", "others");
    denoise_until(&o, 2);
    copy_file(o.plans[0], o.plans[1]);
    FILE *f = fopen(o.plans[0], "r+");
    ck_assert(f && !fseek(f, -1, SEEK_END));
    fputc(7, f);
    fclose(f);
    refused(&o, o.plans[0], "not the plans that ");
    unlink(o.plans[0]);
    refused(&o, o.plans[0], "No such file");
    ck_assert_int_eq(rename(o.plans[1], o.plans[0]), 0);
    ts_bag *state = testing_bag(o.state);
    static const char *const damaged[] = {"", "1", "3 0123456789abcdef", "x y"};
    for (size_t i = 0; i < sizeof damaged / sizeof *damaged; i++) {
        ts_bag_meta(state, "plans", damaged[i]);
        ck_ok(o.c, ts_bag_save(&o.c->err, state, o.state));
        refused(&o, o.state, "names its plans \"");
    }
    ts_bag_free(state);
    ts_state_remove(o.state);
    close_model(&o);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("state_plans");
    TCase *t = tcase_create("state_plans");
    tmp = testing_tmp();
    tcase_set_timeout(t, 120);
    tcase_add_test(t, written_when_they_change);
    tcase_add_loop_test(t, killed_between_the_two, 0, 2);
    tcase_add_test(t, others_are_refused);
    suite_add_tcase(s, t);
    return testing_main(s);
}
