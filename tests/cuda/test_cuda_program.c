/* The program with an emulated GPU (build/emu/tessera): what users see when the GPU is lost in the
 * middle of a run, or its memory does not suffice; previews. */
#include "tests/cli/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* beside this program's folder */
static void take_program(void)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    ck_assert(n > 0);
    path[n] = 0;
    char *end = strstr(path, "/tests/cuda/");
    ck_assert_ptr_nonnull(end);
    snprintf(end, sizeof path - (size_t)(end - path), "/emu/tessera");
    setenv("TESSERA", path, 1);
}

/* A run that keeps its state; fail_after: of the calls of the runtime, 0: none. */
static const program_result *render(const char *folder, const char *name, long fail_after)
{
    return program_shell("EMU_CALLS=%s/calls EMU_FAIL_AFTER=%ld \"$TESSERA\" generate \"a fox\" "
                         "--model tests/fixtures/wan21-t2i-bf16/model --device cuda --size 32x32 "
                         "--steps 4 --attention dense --state %s/state -o %s/%s",
                         folder, fail_after, folder, folder, name);
}

static bool is_there(const char *folder, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, F_OK) == 0;
}

/* The GPU is lost while steps are computed: exit code 4, one sentence, no picture, and the state of
 * the steps that were done, from which the same command goes on to the same picture. */
START_TEST(lost_in_the_middle)
{
    char *folder = testing_tmp(), a[4096], b[4096];
    snprintf(a, sizeof a, "%s/whole.png", folder);
    snprintf(b, sizeof b, "%s/again.png", folder);
    program_expect(render(folder, "whole.png", 0), 0);
    snprintf(a, sizeof a, "%s/calls", folder);
    char *text = program_slurp(a, NULL);
    long calls = strtol(text, NULL, 10);
    free(text);
    snprintf(a, sizeof a, "%s/state", folder);
    unlink(a);
    const program_result *r = render(folder, "again.png", calls * 7 / 10);
    program_expect(r, 4);
    const char *said = strstr(r->err, "tessera: device cuda (");
    ck_assert_msg(said && strstr(said, "illegal memory access") && !strchr(said, '\n')[1], "%s",
                  r->err);
    ck_assert(!is_there(folder, "again.png") && is_there(folder, "state"));
    r = render(folder, "again.png", 0);
    program_expect(r, 0);
    ck_assert_msg(strstr(r->err, "goes on at step "), "%s", r->err);
    snprintf(a, sizeof a, "%s/whole.png", folder);
    ck_assert(program_same(a, b));
    free(folder);
}
END_TEST

/* Beside the weights of the transformer the VAE's come and go between two steps: the same picture
 * with and without previews. */
START_TEST(previews)
{
    char *folder = testing_tmp(), a[4096], b[4096];
    for (int i = 0; i < 2; i++)
        program_expect(program_shell("\"$TESSERA\" generate \"a fox\" --model weights/default "
                                     "--device cuda --size 32x32 --frames 1 --steps 2 -o %s/%d.png "
                                     "%s%s%s",
                                     folder, i, i ? "--preview " : "", i ? folder : "",
                                     i ? "/preview.png" : ""),
                       0);
    snprintf(a, sizeof a, "%s/0.png", folder);
    snprintf(b, sizeof b, "%s/1.png", folder);
    ck_assert(program_same(a, b) && is_there(folder, "preview.png"));
    free(folder);
}
END_TEST

/* bytes on the device, what is given besides, what is said */
static const struct {
    long memory;
    const char *flags, *words[4];
} short_of[] = {
    {10000000, "", {"copies", "no memory for 16.8 MB", "10.0 MB free of 10.0 MB", "--device cpu"}},
    {100000000,
     "",
     {"encoding the text of 32x32", "needs 3", "of the memory of device cuda may be used", "CPU"}},
    {80000000,
     "--vram 4G",
     {"the GPU's memory may be used, it has 80 MB", "scratch of operations: no memory for 33.6 MB",
      " free of 80.0 MB", "a smaller --vram"}},
};
enum { SHORT = sizeof short_of / sizeof *short_of };

START_TEST(out_of_memory)
{
    char *folder = testing_tmp();
    const program_result *r = program_shell(
        "EMU_MEMORY=%ld \"$TESSERA\" generate \"a fox\" --model "
        "tests/fixtures/wan21-t2i-bf16/model --device cuda --size 32x32 --steps 4 -o %s/a.png %s",
        short_of[_i].memory, folder, short_of[_i].flags);
    program_expect(r, 4);
    for (int i = 0; i < 4; i++)
        ck_assert_msg(strstr(r->err, short_of[_i].words[i]), "no \"%s\" in: %s",
                      short_of[_i].words[i], r->err);
    ck_assert(!is_there(folder, "a.png"));
    free(folder);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cuda program");
    TCase *tc = tcase_create("cuda program");
    tcase_set_timeout(tc, 300);
    tcase_add_checked_fixture(tc, take_program, NULL);
    tcase_add_test(tc, lost_in_the_middle);
    tcase_add_test(tc, previews);
    tcase_add_loop_test(tc, out_of_memory, 0, SHORT);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
