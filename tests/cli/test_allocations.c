/* Memory that is not there: each allocation of the program fails in turn, whole runs long. It ends
 * with exit code 4 and a sentence, or does without; nothing is left half written. Every eighth of
 * them; LONG=1: all. */
#include "tests/cli/program.h"
#include "tests/cli/workspace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __SANITIZE_ADDRESS__ /* its own malloc has to come first */
#define SANITIZED true
#else
#define SANITIZED false
#endif

static const char *const runs[] = {
    "generate x --model tests/fixtures/wan21-t2i-bf16/model --size 32x32 --steps 2 --quiet",
    "generate x --model tests/fixtures/wan21-adaspa/model --size 64x64 --frames 5 --steps 4 "
    "--quiet "
    "--attention adaspa:min-tokens=0 --save-plan plan.safetensors --save-latents l.safetensors",
};

/* `before` variables; the output is out.png or out.mp4 in an empty folder, which is the current one
 * of files named without a folder */
static const program_result *run(int which, const char *before)
{
    return program_shell(
        "rm -rf %s && mkdir %s && T=$(readlink -f tests) && cd %s && ln -s $T tests "
        "&& env LD_PRELOAD=%s/failing.so %s $TESSERA %s -o out.%s",
        scratch_path("o"), scratch_path("o"), scratch_path("o"), scratch_path(""), before,
        runs[which], which ? "mp4" : "png");
}

static void expect_sound(int which, long n, const program_result *r)
{
    const char *output = which ? "o/out.mp4" : "o/out.png";
    ck_assert_msg(r->code == 0 || r->code == 4, "allocation %ld: exit code %d: %s", n, r->code,
                  r->err);
    if (r->code == 0) {
        ck_assert_msg(scratch_has(output), "allocation %ld: no file, and no word of it", n);
        return;
    }
    ck_assert_msg(!strncmp(r->err, "tessera: ", 9) && strstr(r->err, "memory"),
                  "allocation %ld: %s", n, r->err);
    /* what is written goes to a name of its own until it is whole */
    const program_result *files = program_shell(
        "cd %s && ls -A | grep -vxE 'tests|out[.](png|mp4)|(out.*latents|l|plan)[.]safetensors'",
        scratch_path("o"));
    ck_assert_msg(!*files->out, "allocation %ld left %s", n, files->out);
    program_expect(program_shell("cd %s && for f in out* *.safetensors; do test ! -e $f || "
                                 "$TESSERA info $f || exit 1; done",
                                 scratch_path("o")),
                   0);
}

START_TEST(each_allocation_fails)
{
    char before[200];
    long all = 0;
    if (SANITIZED) {
        printf("skip allocations that fail: AddressSanitizer's malloc must come first\n");
        return;
    }
    program_expect(program_shell("cc -O1 -shared -fPIC -o %s/failing.so "
                                 "tests/cli/preload/failing_malloc.c -ldl",
                                 scratch_path("")),
                   0);
    snprintf(before, sizeof before, "FAIL_COUNT=%s", scratch_path("count"));
    program_expect(run(_i, before), 0);
    char *text = program_slurp(scratch_path("count"), NULL);
    all = atol(text);
    free(text);
    ck_assert_msg(all > 300, "%ld allocations", all);
    int refused = 0;
    for (long n = 1; n <= all; n += getenv("LONG") ? 1 : 8) {
        snprintf(before, sizeof before, "FAIL_AT=%ld", n);
        const program_result *r = run(_i, before);
        refused += r->code == 4;
        expect_sound(_i, n, r);
    }
    ck_assert_msg(refused > 20, "only %d of them were missed", refused);
}
END_TEST

int main(void)
{
    scratch_open();
    Suite *s = suite_create("allocations");
    TCase *t = tcase_create("allocations");
    tcase_set_timeout(t, 0);
    tcase_add_loop_test(t, each_allocation_fails, 0, sizeof runs / sizeof *runs);
    suite_add_tcase(s, t);
    return testing_main(s);
}
