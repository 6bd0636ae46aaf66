/* Batches that are stopped, killed, shared out and begun again: at the end the folder holds what
 * one undisturbed run makes. */
#include "tests/cli/program.h"
#include "tests/cli/workspace.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TINY                                       \
    "--size 32x32 --frames 1 --steps 2 --scale 1 " \
    "--name {index:04}_{slug:60}_s{seed} "
static const char *tmp;

/* The same names and bytes in both folders, manifests aside. */
static void same_folders(const char *a, const char *b)
{
    const program_result *r = program_shell("diff -r --exclude='tessera-batch*.jsonl' %s %s",
                                            scratch_path(a), scratch_path(b));
    ck_assert_msg(r->code == 0, "%s%s", r->out, r->err);
}

#define TWELVE                                                                                   \
    "a panda\na fox --f 5\na cat --f 5 --format frames\na bear --d 1,2\na dog --output sub/dog " \
    "--f 5 --format gif\na horse --s 20\na bird\na fish --f 5\na cake --s 30\na tree\na car\n"

/* Moments by how much the program has said of what it says undisturbed, up to a fifth of it; a page
 * more may be on its way. So there are three kills before the end on any machine. */
START_TEST(killed_at_random_moments)
{
    enum { MOST = 60 };
    scratch_put("p.txt", TWELVE);
    program_expect(program_shell("$TESSERA batch %s --out %s " TINY "--progress json 2>%s",
                                 scratch_path("p.txt"), scratch_path("whole"), scratch_path("err")),
                   0);
    size_t all;
    free(program_slurp(scratch_path("err"), &all));
    unsigned seed = 20261124;
    int kills = 0, code = -1;
    for (int i = 0; i < MOST && code != 0; i++) {
        int held = program_pipe(scratch_path("err"));
        pid_t pid = program_start(
            scratch_path("err"), "batch %s --out %s " TINY "--progress json %s",
            scratch_path("p.txt"), scratch_path("o"), i % 2 ? "--resume-steps" : "");
        seed = seed * 1103515245u + 12345u;
        program_reads_bytes(pid, held, (long)all * ((seed >> 16) % 200) / 1000);
        kill(pid, SIGKILL);
        code = program_drain(pid, held);
        ck_assert_msg(code == 0 || code == 137, "exit code %d", code);
        kills += code == 137;
    }
    const program_result *r = program_run("batch %s --out %s " TINY, scratch_path("p.txt"),
                                          scratch_path("o"));
    program_expect(r, 0);
    ck_assert_int_ge(kills, 3);
    same_folders("whole", "o");
    /* none was rendered, or written down, twice */
    ck_assert_int_eq(scratch_count("o/tessera-batch.jsonl", "\"status\":\"done\""), 12);
    r = program_run("batch %s --out %s " TINY, scratch_path("p.txt"), scratch_path("o"));
    text_has(r->err, "12 of 12 rows skipped: their outputs are there");
    ck_assert_int_eq(scratch_count("o/tessera-batch.jsonl", "\"status\":\"done\""), 12);
    scratch_clear();
}
END_TEST

/* A manifest that a later version has written is neither gone on with nor told of. */
START_TEST(greater_formats_are_refused)
{
    scratch_put("p.txt", "a panda\n");
    program_expect(program_run("batch %s --out %s " TINY, scratch_path("p.txt"), scratch_path("o")),
                   0);
    program_expect(program_shell("sed -i 's/\"run\":1,/\"run\":2,/' %s",
                                 scratch_path("o/tessera-batch.jsonl")),
                   0);
    const program_result *r = program_run("batch %s --out %s " TINY, scratch_path("p.txt"),
                                          scratch_path("o"));
    program_expect(r, 3);
    text_has(r->err, "a manifest of format 2, tessera ");
    r = program_run("batch --status %s", scratch_path("o"));
    program_expect(r, 3);
    text_has(r->err, "a manifest of format 2, tessera ");
    scratch_clear();
}
END_TEST

/* Each moment at which a process can have ended, made by hand. */
START_TEST(every_moment)
{
    scratch_put("p.txt", "a panda\na fox\n");
    program_expect(program_run("batch %s --out %s " TINY, scratch_path("p.txt"), scratch_path("o")),
                   0);
    program_expect(program_shell("cp -r %s %s", scratch_path("o"), scratch_path("whole")), 0);
    /* renamed, and not written down */
    program_expect(
        program_shell("sed -i '/0002.*done/d' %s", scratch_path("o/tessera-batch.jsonl")), 0);
    const program_result *r = program_run("batch %s --out %s " TINY, scratch_path("p.txt"),
                                          scratch_path("o"));
    program_expect(r, 0);
    text_has(r->err, "2 of 2 rows skipped");
    ck_assert_int_eq(scratch_count("o/tessera-batch.jsonl", "\"found\":true"), 1);
    /* written down, and the name lost with the power */
    unlink(scratch_path("o/0001_a-panda_s42.png"));
    r = program_run("batch %s --out %s " TINY, scratch_path("p.txt"), scratch_path("o"));
    program_expect(r, 0);
    text_has(r->err, "1 of 2 rows skipped");
    same_folders("whole", "o");
    /* half a line at the end of the manifest */
    program_expect(
        program_shell("printf '{\"hash\":\"12' >>%s", scratch_path("o/tessera-batch.jsonl")), 0);
    unlink(scratch_path("o/0001_a-panda_s42.png"));
    r = program_run("batch %s --out %s " TINY, scratch_path("p.txt"), scratch_path("o"));
    program_expect(r, 0);
    r = program_run("batch %s --out %s " TINY, scratch_path("p.txt"), scratch_path("o"));
    text_has(r->err, "2 of 2 rows skipped");
    /* unfinished files of a killed process */
    program_expect(
        program_shell(
            "mkdir -p %s/.tessera-batch/all/x && touch %s/.tessera-batch/all/.0.tmp-1.png",
            scratch_path("o"), scratch_path("o")),
        0);
    program_expect(program_run("batch %s --out %s " TINY, scratch_path("p.txt"), scratch_path("o")),
                   0);
    same_folders("whole", "o");
    scratch_clear();
}
END_TEST

START_TEST(outputs_in_the_way)
{
    scratch_put("p.txt", "a panda\na fox\n");
    program_expect(program_run("batch %s --out %s " TINY, scratch_path("p.txt"), scratch_path("o")),
                   0);
    /* other rows of the same names */
    const program_result *r = program_run("batch %s --out %s " TINY "--steps 3",
                                          scratch_path("p.txt"), scratch_path("o"));
    program_expect(r, 2);
    text_has(r->err, "p.txt:1: ");
    text_has(r->err, "0001_a-panda_s42.png exists, and is not this row's");
    text_has(r->err, "2 outputs would replace a file: --overwrite allows it");
    int held = program_pipe(scratch_path("err"));
    pid_t pid = program_start(scratch_path("err"),
                              "batch %s --out %s " TINY "--steps 1000 --overwrite --progress json",
                              scratch_path("p.txt"), scratch_path("o"));
    free(program_reads(pid, held, "\"phase\":\"denoise\""));
    ck_assert_int_eq(scratch_count("o/tessera-batch.jsonl", "\"replaces\":true"), 1);
    /* begun, and the other file is still there: that does not make it this row's */
    kill(pid, SIGKILL);
    ck_assert_int_eq(program_drain(pid, held), 137);
    r = program_run("batch %s --out %s " TINY "--steps 1000 --overwrite --dry-run",
                    scratch_path("p.txt"), scratch_path("o"));
    program_expect(r, 0);
    text_has(r->out, "2 rows to render");
    program_expect(program_run("batch %s --out %s " TINY "--steps 3 --overwrite",
                               scratch_path("p.txt"), scratch_path("o")),
                   0);
    r = program_run("info %s", scratch_path("o/0001_a-panda_s42.png"));
    text_has(r->out, "steps        3\n");
    scratch_put("q.txt", "a cat --output c --f 5 --format frames\n");
    program_expect(program_run("batch %s --out %s " TINY, scratch_path("q.txt"), scratch_path("o")),
                   0);
    program_expect(program_run("batch %s --out %s " TINY "--steps 3", scratch_path("q.txt"),
                               scratch_path("o")),
                   2);
    program_expect(program_run("batch %s --out %s " TINY "--steps 3 --overwrite",
                               scratch_path("q.txt"), scratch_path("o")),
                   0);
    ck_assert_int_eq(program_files(scratch_path("o/c")), 5);
    ck_assert(!scratch_has("o/.tessera-batch"));
    scratch_clear();
}
END_TEST

/* A name that was free when the row began is not taken from whoever has it at its end. */
/* The manifest's last word on an output decides, not whether any line ever said that it is done. */
START_TEST(an_output_is_who_wrote_it_last)
{
    scratch_put("a.jsonl", "{\"prompt\":\"a panda\",\"seed\":1,\"output\":\"x\"}\n");
    scratch_put("b.jsonl", "{\"prompt\":\"a fox\",\"seed\":1,\"output\":\"x\"}\n");
    static const struct {
        const char *file, *more, *prompt;
        int code;
    } run[] = {{"a.jsonl", "", "a panda", 0},
               {"b.jsonl", "", "a panda", 2},
               {"b.jsonl", "--overwrite", "a fox", 0},
               {"a.jsonl", "", "a fox", 2},
               {"a.jsonl", "--retry", "a fox", 2},
               {"b.jsonl", "", "a fox", 0},
               {"a.jsonl", "--overwrite", "a panda", 0},
               {"a.jsonl", "", "a panda", 0},
               {"b.jsonl", "", "a panda", 2}};
    for (size_t i = 0; i < sizeof run / sizeof *run; i++) {
        const program_result *r = program_run("batch %s --out %s " TINY "%s",
                                              scratch_path(run[i].file), scratch_path("o"),
                                              run[i].more);
        ck_assert_msg(r->code == run[i].code, "%zu: exit code %d\n%s", i, r->code, r->err);
        text_has(program_run("info %s", scratch_path("o/x.png"))->out, run[i].prompt);
    }
    scratch_clear();
}
END_TEST

/* A file that lost its end after it was whole is no output. */
START_TEST(an_output_that_was_cut_is_rendered_again)
{
    scratch_put(
        "p.txt",
        "a panda\na fox --f 5 --format gif\na cat --f 5\na dog --f 5\na cow --f 5 --format webm\n");
    program_expect(program_shell("$TESSERA batch %s --out %s " TINY, scratch_path("p.txt"),
                                 scratch_path("whole")),
                   0);
    program_expect(
        program_shell("cd %s && cp -r whole o && cd o && truncate -s -1 *.png *.gif 0004* *.webm "
                      "&& : >0003_a-cat_s42.mp4",
                      tmp),
        0);
    const program_result *r = program_run("batch %s --out %s " TINY, scratch_path("p.txt"),
                                          scratch_path("o"));
    program_expect(r, 0);
    ck_assert_int_eq(text_count(r->out, "done "), 5);
    same_folders("whole", "o");
    text_has(program_run("batch %s --out %s " TINY, scratch_path("p.txt"), scratch_path("o"))->err,
             "5 of 5 rows skipped");
    scratch_clear();
}
END_TEST

START_TEST(an_output_that_appears_meanwhile_stays)
{
    scratch_put("p.txt", "a panda --s 100\n");
    int held = program_pipe(scratch_path("err"));
    pid_t pid = program_start(scratch_path("err"), "batch %s --out %s " TINY "--progress json",
                              scratch_path("p.txt"), scratch_path("o"));
    free(program_reads(pid, held, "\"phase\":\"denoise\""));
    scratch_put("o/0001_a-panda_s42.png", "somebody's");
    ck_assert_int_eq(program_drain(pid, held), 1);
    ck_assert_int_eq(scratch_count("o/0001_a-panda_s42.png", "somebody's"), 1);
    ck_assert_int_eq(
        scratch_count("o/tessera-batch.jsonl", "exists: somebody else wrote it in the meantime"),
        1);
    scratch_clear();
}
END_TEST

/* What was refused before anything was computed is looked at anew: now there is room, or a file. */
START_TEST(refused_rows_are_looked_at_again)
{
    scratch_put("p.txt", "large --w 256 --h 256 --f 5\na fox\n");
    const program_result *r = program_run("batch %s --out %s " TINY "--memory 16M",
                                          scratch_path("p.txt"), scratch_path("o"));
    program_expect(r, 1);
    text_has(r->err, "1 of 2 rows: 1 failed");
    ck_assert_int_eq(scratch_count("o/tessera-batch.jsonl", "\"refused\""), 1);
    r = program_run("batch %s --out %s " TINY "--memory 16M", scratch_path("p.txt"),
                    scratch_path("o"));
    program_expect(r, 1);
    text_has(r->err, "1 of 2 rows: 1 failed\n"); /* and says why, where it stands */
    text_has(r->err, "p.txt:1: ");
    r = program_run("batch %s --out %s " TINY, scratch_path("p.txt"), scratch_path("o"));
    program_expect(r, 0);
    text_has(r->err, "row 1/1: ");
    scratch_clear();
}
END_TEST

START_TEST(one_process_a_folder)
{
    char who[64];
    scratch_put("p.txt", "a panda --s 1000\n");
    scratch_put("q.txt", "a fox\n");
    int held = program_pipe(scratch_path("err"));
    pid_t pid = program_start(scratch_path("err"), "batch %s --out %s " TINY "--progress json",
                              scratch_path("p.txt"), scratch_path("o"));
    free(program_reads(pid, held, "\"phase\":\"denoise\""));
    snprintf(who, sizeof who, "is in use by process %ld on ", (long)pid);
    const program_result *r = program_run("batch %s --out %s " TINY, scratch_path("q.txt"),
                                          scratch_path("o"));
    program_expect(r, 2);
    text_has(r->err, who);
    r = program_run("batch %s --out %s " TINY "--shard 1/2", scratch_path("q.txt"),
                    scratch_path("o"));
    program_expect(r, 2);
    text_has(r->err, who);
    r = program_run("batch --status %s", scratch_path("o"));
    text_has(r->out, "at work");
    text_has(r->out, "0 of 1 rows done, 0 failed, 1 left");
    kill(pid, SIGINT);
    ck_assert_int_eq(program_drain(pid, held), 130);
    r = program_run("batch --status --out %s", scratch_path("o"));
    text_has(r->out, "stopped");
    ck_assert(!scratch_has("o/.tessera-batch"));
    /* the lock went with the process */
    program_expect(program_run("batch %s --out %s " TINY, scratch_path("q.txt"), scratch_path("o")),
                   0);
    held = program_pipe(scratch_path("err"));
    pid = program_start(scratch_path("err"),
                        "batch %s --out %s " TINY "--progress json --shard 1/2",
                        scratch_path("p.txt"), scratch_path("s"));
    free(program_reads(pid, held, "\"phase\":\"denoise\""));
    /* shares of another division overlap */
    program_expect(program_run("batch %s --out %s " TINY "--shard 2/3", scratch_path("q.txt"),
                               scratch_path("s")),
                   2);
    program_expect(program_run("batch %s --out %s " TINY, scratch_path("q.txt"), scratch_path("s")),
                   2);
    program_expect(program_run("batch %s --out %s " TINY "--shard 2/2", scratch_path("q.txt"),
                               scratch_path("s")),
                   0);
    kill(pid, SIGTERM);
    ck_assert_int_eq(program_drain(pid, held), 143);
    scratch_clear();
}
END_TEST

START_TEST(a_row_goes_on_at_its_step)
{
    /* the second run need not ask for what the first has left */
    const char *again = _i ? "" : "--resume-steps ";
    scratch_put("p.txt", "a panda --s 120 --f 5\n");
    program_expect(
        program_run("batch %s --out %s " TINY, scratch_path("p.txt"), scratch_path("whole")), 0);
    int held = program_pipe(scratch_path("err"));
    pid_t pid = program_start(scratch_path("err"),
                              "batch %s --out %s " TINY "--resume-steps --progress json",
                              scratch_path("p.txt"), scratch_path("o"));
    free(program_reads(pid, held, "\"step\":20,"));
    kill(pid, SIGKILL);
    ck_assert_int_eq(program_drain(pid, held), 137);
    const program_result *r = program_run("batch %s --out %s " TINY "%s--progress json",
                                          scratch_path("p.txt"), scratch_path("o"), again);
    program_expect(r, 0);
    ck_assert_int_eq(text_count(r->err, "\"phase\":\"denoise\",\"step\":10,"), 0);
    ck_assert_int_eq(
        text_count(r->err, "\"phase\":\"denoise\",\"step\":120,\"steps\":120,\"layer\":0"), 1);
    same_folders("whole", "o");
    ck_assert(!scratch_has("o/.tessera-batch"));
    scratch_clear();
}
END_TEST

/* By what it expects to take: no machine does it on one thread in less. */
START_TEST(a_long_row_keeps_its_state)
{
    const char *find = "find %s -name '*.state' | grep .";
    int found = 1;
    scratch_put("p.txt", "a panda --s 1000 --f 57 --w 128 --h 128\n");
    pid_t pid = program_start(scratch_path("err"),
                              "batch %s --out %s --threads 1 --precision f32 --quiet",
                              scratch_path("p.txt"), scratch_path("o"));
    for (int i = 0; i < 900 && found; i++) {
        usleep(100000);
        found = program_shell(find, scratch_path("o"))->code;
    }
    kill(pid, SIGTERM);
    ck_assert_int_eq(program_wait(pid), 128 + SIGTERM);
    ck_assert_int_eq(found, 0);
    scratch_clear();
}
END_TEST

/* A disk without room is no row's fault: the batch ends, and the row is to do. */
START_TEST(a_full_disk_ends_the_batch)
{
    scratch_put("p.txt", "a panda --s 20\na fox --scale 16 --s 20\na cat --s 20\n");
    /* of 512 or 1024 bytes */
    const program_result *r = program_shell(
        "trap '' XFSZ; ulimit -f 24; exec $TESSERA batch %s --out %s " TINY, scratch_path("p.txt"),
        scratch_path("o"));
    program_expect(r, 4);
    text_has(r->err, "can not be written");
    ck_assert(scratch_has("o/0001_a-panda_s42.png") && !scratch_has("o/0002_a-fox_s42.png") &&
              !scratch_has("o/0003_a-cat_s42.png"));
    text_has(r->err, "a-fox_s42.png.latents.safetensors: tessera decode goes on");
    program_expect(program_run("decode %s -o %s",
                               scratch_path("o/0002_a-fox_s42.png.latents.safetensors"),
                               scratch_path("fox.png")),
                   0);
    r = program_run("batch %s --out %s " TINY, scratch_path("p.txt"), scratch_path("o"));
    program_expect(r, 0);
    text_has(r->err, "1 of 3 rows skipped");
    ck_assert(scratch_has("o/0002_a-fox_s42.png") && scratch_has("o/0003_a-cat_s42.png") &&
              !scratch_has("o/.tessera-batch"));
    scratch_clear();
}
END_TEST

START_TEST(shares_make_the_whole)
{
    scratch_put("p.txt", TWELVE "bad --s 0\n");
    program_expect(
        program_run("batch %s --out %s " TINY, scratch_path("p.txt"), scratch_path("whole")), 1);
    int codes = 0;
    for (int i = 1; i <= 4; i++)
        codes += program_run("batch %s --out %s " TINY "--shard %d/4", scratch_path("p.txt"),
                             scratch_path("o"), i)
                     ->code;
    ck_assert_int_eq(codes, 1); /* the faulty row is one share's */
    same_folders("whole", "o");
    const program_result *r = program_run("batch --status %s", scratch_path("o"));
    text_has(r->out, "12 of 13 rows done, 0 failed, 1 can not be used, 0 left");
    text_has(r->out, "4-of-4");
    /* shared out anew: all manifests are read */
    r = program_run("batch %s --out %s " TINY "--shard 2/3", scratch_path("p.txt"),
                    scratch_path("o"));
    text_has(r->err, "4 of 4 rows skipped");
    r = program_shell("JOB_COMPLETION_INDEX=1 $TESSERA batch %s --out %s " TINY
                      "--shard auto/4 --dry-run",
                      scratch_path("p.txt"), scratch_path("o2"));
    program_expect(r, 0);
    text_has(r->out, "3 rows to render");
    text_has(r->out, "0002_a-fox_s42.mp4");
    scratch_clear();
}
END_TEST

static bool have(const char *program)
{
    bool found = program_shell("command -v %s", program)->code == 0;
    if (!found) printf("skip: no %s\n", program);
    return found;
}

START_TEST(shares_of_gnu_parallel_and_mpirun)
{
    scratch_put("p.txt", "a panda\na fox\na cat\na bear\na dog\n");
    program_expect(program_run("batch %s --out %s " TINY "--threads 1", scratch_path("p.txt"),
                               scratch_path("whole")),
                   0);
    if (have("parallel")) {
        program_expect(
            program_shell("HOME=%s parallel --will-cite -j2 $TESSERA batch %s --out %s " TINY
                          "--threads 1 --shard auto/3 '#' {} ::: 1 2 3 </dev/null",
                          tmp, scratch_path("p.txt"), scratch_path("o")),
            0);
        same_folders("whole", "o");
        ck_assert(scratch_has("o/tessera-batch.3-of-3.jsonl"));
    }
    if (have("mpirun")) {
        program_expect(
            program_shell(
                "mpirun --allow-run-as-root --oversubscribe -n 2 $TESSERA batch %s --out %s " TINY
                "--threads 1 --shard auto </dev/null",
                scratch_path("p.txt"), scratch_path("m")),
            0);
        ck_assert(scratch_has("m/tessera-batch.1-of-2.jsonl") &&
                  scratch_has("m/tessera-batch.2-of-2.jsonl"));
        same_folders("whole", "m");
    }
    scratch_clear();
}
END_TEST

int main(void)
{
    tmp = scratch_open();
    Suite *s = suite_create("batch_resume");
    TCase *t = tcase_create("batch_resume");
    tcase_set_timeout(t, 0);
    tcase_add_test(t, killed_at_random_moments);
    tcase_add_test(t, greater_formats_are_refused);
    tcase_add_test(t, every_moment);
    tcase_add_test(t, outputs_in_the_way);
    tcase_add_test(t, an_output_is_who_wrote_it_last);
    tcase_add_test(t, an_output_that_was_cut_is_rendered_again);
    tcase_add_test(t, an_output_that_appears_meanwhile_stays);
    tcase_add_test(t, refused_rows_are_looked_at_again);
    tcase_add_test(t, one_process_a_folder);
    tcase_add_loop_test(t, a_row_goes_on_at_its_step, 0, 2);
    tcase_add_test(t, a_long_row_keeps_its_state);
    tcase_add_test(t, a_full_disk_ends_the_batch);
    tcase_add_test(t, shares_make_the_whole);
    tcase_add_test(t, shares_of_gnu_parallel_and_mpirun);
    suite_add_tcase(s, t);
    return testing_main(s);
}
