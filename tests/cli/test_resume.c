/* Runs that are stopped: what is said, what is left, how they go on. */
#include "tests/cli/program.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char *tmp;

static void clean(void) { program_expect(program_shell("find %s -mindepth 1 -delete", tmp), 0); }

/* At which step, what is left of it, and where the next one begins. */
START_TEST(a_stopped_run_says_how_to_go_on)
{
    char err[4200], said[4300], kept[4200];
    snprintf(err, sizeof err, "%s/err", tmp);
    snprintf(kept, sizeof kept, "%s/s", tmp);
    for (int state = 1; state >= 0; state--) {
        const char *same = state ? "generate 'a panda' --size 64x64 --frames 29 --steps 60 -o "
                                   "%s/c.mp4 --overwrite --state %s/s"
                                 : "generate 'a panda' --size 64x64 --frames 29 --steps 60 -o "
                                   "%s/c.mp4 --overwrite";
        pid_t pid = program_start(err, same, tmp, tmp);
        ck_assert(program_says(pid, err, "denoising"));
        for (int i = 0; state && i < 6000 && access(kept, F_OK); i++) usleep(10000);
        if (!state) usleep(1000000);
        kill(pid, SIGINT);
        ck_assert_int_eq(program_wait(pid), 128 + SIGINT);
        const program_result *r = program_shell("cat %s", err);
        /* the machine may be too busy for a step in a second */
        if (!state && strstr(r->out, "stopped before a step of 60 was done")) break;
        const char *at = strstr(r->out, "stopped after step ");
        int done = at ? atoi(at + 19) : 0;
        ck_assert_msg(done > 0 && done < 60, "%s", r->out);
        snprintf(said, sizeof said,
                 state ? "of 60: this command goes on from %s/s:\n" : "which are lost: --state",
                 tmp);
        ck_assert_msg(strstr(at, said) != NULL, "%s", r->out);
        if (!state) break;
        r = program_run(same, tmp, tmp);
        program_expect(r, 0);
        snprintf(said, sizeof said, "goes on at step %d of 60", done + 1);
        ck_assert_msg(strstr(r->err, said) != NULL, "no %s in %s", said, r->err);
    }
    clean();
}
END_TEST

/* Of several clips no state is kept, and none is advised. */
START_TEST(stopped_clips_in_turn)
{
    char err[4200], kept[4200];
    snprintf(err, sizeof err, "%s/err", tmp);
    snprintf(kept, sizeof kept, "%s/p.png", tmp);
    pid_t pid = program_start(err,
                              "generate x --size 64x64 --frames 5 --steps 900 --count 2 --grid "
                              "--preview %s/p.png -o %s/c.mp4",
                              tmp, tmp);
    for (int i = 0; i < 6000 && access(kept, F_OK); i++) usleep(10000);
    kill(pid, SIGINT);
    ck_assert_int_eq(program_wait(pid), 128 + SIGINT);
    const program_result *r = program_shell("cat %s", err);
    ck_assert_msg(strstr(r->out, "which are lost, as are the clips before: what should survive is "
                                 "a batch") &&
                      !strstr(r->out, "--state"),
                  "%s", r->out);
    clean();
}
END_TEST

/* By what it expects to take; threads, precision and steps are such that no machine does it in
 * less. */
START_TEST(a_long_run_keeps_its_state)
{
    static const char same[] = "generate 'a panda' --size 128x128 --frames 57 --steps 1000 "
                               "--threads 1 --precision f32 -o %s/l.mp4%s";
    char err[4200], kept[4200], said[4300];
    snprintf(err, sizeof err, "%s/err", tmp);
    snprintf(kept, sizeof kept, "%s/l.mp4.state", tmp);
    pid_t pid = program_start(err, same, tmp, "");
    snprintf(said, sizeof said, "keeps its state in %s: ", kept);
    ck_assert(program_says(pid, err, said));
    for (int i = 0; i < 9000 && access(kept, F_OK); i++) usleep(10000);
    kill(pid, SIGTERM);
    ck_assert_int_eq(program_wait(pid), 128 + SIGTERM);
    const program_result *r = program_shell("cat %s", err);
    ck_assert_msg(strstr(r->out, "about ") && strstr(r->out, " on this machine: text "), "%s",
                  r->out);
    snprintf(said, sizeof said, " of 1000: this command goes on from %s:\n  ", kept);
    const char *at = strstr(r->out, said);
    ck_assert_msg(at && strstr(at, " generate 'a panda' --size 128x128 "), "%s", r->out);
    ck_assert(access(kept, F_OK) == 0);
    ck_assert(unlink(err) == 0); /* what it says is of this start */
    pid = program_start(err, same, tmp, " --no-state");
    ck_assert(program_says(pid, err, "denoising"));
    kill(pid, SIGINT);
    ck_assert_int_eq(program_wait(pid), 128 + SIGINT);
    r = program_shell("cat %s", err);
    ck_assert_msg(!strstr(r->out, "state in") &&
                      (strstr(r->out, "stopped before a step") || strstr(r->out, "which are lost")),
                  "%s", r->out);
    ck_assert(access(kept, F_OK) == 0);
    clean();
}
END_TEST

/* With its plans; that of another request is none of a short run's business. */
START_TEST(a_state_beside_the_output_goes_on_and_away)
{
    static const char same[] = "generate 'a %s' --size 64x64 --frames 29 --steps 5 --attention "
                               "adaspa:min-tokens=0 -o %s/%s%s%s";
    program_expect(program_run(same, "panda", tmp, "a.mp4 --state ", tmp, "/b.mp4.state"), 0);
    int files = program_files(tmp);
    ck_assert_int_eq(files, 3); /* the clip, the state and its plans */
    const program_result *r = program_run(same, "fox", tmp, "b.mp4", "", "");
    program_expect(r, 0);
    ck_assert_msg(!strstr(r->err, "state"), "%s", r->err);
    ck_assert_int_eq(program_files(tmp), files + 1);
    r = program_run(same, "panda", tmp, "b.mp4 --overwrite --no-state", "", "");
    program_expect(r, 0);
    ck_assert_msg(!strstr(r->err, "state"), "%s", r->err);
    r = program_run(same, "panda", tmp, "b.mp4 --overwrite", "", "");
    program_expect(r, 0);
    ck_assert_msg(strstr(r->err, "all steps are in the state file ") != NULL, "%s", r->err);
    ck_assert_int_eq(program_files(tmp), 2);
    clean();
}
END_TEST

START_TEST(stopped_while_decoding_it_goes_on)
{
    static const char same[] = "generate 'a panda' --size 64x64 --frames 113 --steps 1 --scale 16 "
                               "-o %s/c.mp4 --overwrite --state %s/s";
    char err[4200];
    snprintf(err, sizeof err, "%s/err", tmp);
    pid_t pid = program_start(err, same, tmp, tmp);
    ck_assert(program_says(pid, err, "decoding: 113 frames"));
    kill(pid, SIGINT);
    if (program_wait(pid) == 128 + SIGINT) { /* else it was faster */
        const program_result *r = program_shell("cat %s", err);
        ck_assert_msg(strstr(r->out, "stopped while decoding: this command goes on from ") != NULL,
                      "%s", r->out);
        r = program_run(same, tmp, tmp);
        program_expect(r, 0);
        ck_assert_msg(strstr(r->err, "all steps are in the state file ") != NULL, "%s", r->err);
    }
    clean();
}
END_TEST

/* A state that can not be written any more is not told of as if it were: what is said to be kept
 * is, and latents go to a file of their own. */
START_TEST(a_state_that_is_not_written)
{
    static const char same[] = "generate 'a panda' --size 64x64 --frames 29 --steps 60 --scale 16 "
                               "--crf 0 -o %s/c.mp4%s%s%s";
    char err[4200], kept[4200], said[4300];
    snprintf(err, sizeof err, "%s/err", tmp);
    snprintf(kept, sizeof kept, "%s/c.mp4.state", tmp);
    pid_t pid = program_start(err, same, tmp, " --state ", kept, "");
    ck_assert(program_says(pid, err, "denoising"));
    for (int i = 0; i < 6000 && access(kept, F_OK); i++) usleep(10000);
    kill(pid, SIGINT);
    ck_assert_int_eq(program_wait(pid), 128 + SIGINT);
    const program_result *r = program_shell("sed -n 's/stopped after step //p' %s", err);
    int steps = atoi(r->out);
    ck_assert_int_gt(steps, 0);
    /* room for latents of 200 KB and not for the solver's history beside them */
    struct rlimit was, small;
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &was), 0);
    small = was;
    small.rlim_cur = 320 << 10;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    ck_assert_int_eq(unlink(err), 0);
    pid = program_start(err, same, tmp, "", "", "");
    setrlimit(RLIMIT_FSIZE, &was);
    ck_assert(program_says(pid, err, "goes on without its state"));
    kill(pid, SIGINT);
    ck_assert_int_eq(program_wait(pid), 128 + SIGINT);
    r = program_shell("cat %s", err);
    snprintf(said, sizeof said, " of 60, of which %d are kept: this command goes on from %s:\n",
             steps, kept);
    ck_assert_msg(strstr(r->out, said) != NULL, "no \"%s\" in\n%s", said, r->out);
    r = program_shell("ulimit -f 640; $TESSERA generate 'a panda' --size 64x64 --frames 29 "
                      "--steps 60 --scale 16 --crf 0 -o %s/c.mp4",
                      tmp);
    program_expect(r, 4);
    snprintf(said, sizeof said, "the latents are in %s/c.mp4.latents.safetensors: ", tmp);
    ck_assert_msg(strstr(r->err, said) != NULL, "%s", r->err);
    program_expect(program_run("decode %s/c.mp4.latents.safetensors -o %s/d.mp4", tmp, tmp), 0);
    clean();
}
END_TEST

/* Stopped by Ctrl-Z: that time is no time of the run, so it makes no pace. */
START_TEST(time_away_does_not_count)
{
    char err[4200];
    struct timespec began, ended;
    int status;
    snprintf(err, sizeof err, "%s/err", tmp);
    clock_gettime(CLOCK_MONOTONIC, &began);
    pid_t pid = program_start(
        err, "generate 'a panda' --steps 20 --scale 1 -o %s/c.mp4 --progress json", tmp);
    ck_assert(program_says(pid, err, "\"phase\":\"denoise\""));
    kill(pid, SIGTSTP);
    ck_assert_int_eq(waitpid(pid, &status, WUNTRACED), pid);
    if (WIFSTOPPED(status)) { /* else it was done before */
        usleep(1500000);
        kill(pid, SIGCONT);
        ck_assert_int_eq(program_wait(pid), 0);
        clock_gettime(CLOCK_MONOTONIC, &ended);
        const program_result *r = program_shell("cat %s", err);
        const char *done = strstr(r->out, "{\"event\":\"done\""),
                   *seconds = done ? strstr(done, "\"seconds\":") : NULL;
        ck_assert_msg(seconds != NULL, "%s", r->out);
        double wall = (double)(ended.tv_sec - began.tv_sec) +
                      1e-9 * (double)(ended.tv_nsec - began.tv_nsec);
        ck_assert_msg(atof(seconds + 10) <= wall - 1.5, "%.3f of %.3f s, 1.5 of them away: %s",
                      atof(seconds + 10), wall, done);
    }
    clean();
}
END_TEST

int main(void)
{
    tmp = testing_tmp();
    Suite *s = suite_create("resume");
    TCase *t = tcase_create("resume");
    tcase_set_timeout(t, 0);
    tcase_add_checked_fixture(t, clean, NULL); /* one failure stays one */
    tcase_add_test(t, a_stopped_run_says_how_to_go_on);
    tcase_add_test(t, stopped_clips_in_turn);
    tcase_add_test(t, a_long_run_keeps_its_state);
    tcase_add_test(t, a_state_beside_the_output_goes_on_and_away);
    tcase_add_test(t, stopped_while_decoding_it_goes_on);
    tcase_add_test(t, a_state_that_is_not_written);
    tcase_add_test(t, time_away_does_not_count);
    suite_add_tcase(s, t);
    return testing_main(s);
}
