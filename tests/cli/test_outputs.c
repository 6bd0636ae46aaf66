/* Outputs under trouble: closed descriptors, limits of size, signals, names that do not fit. */
#include "tests/cli/program.h"
#include "tests/cli/workspace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SMALL "--size 64x64 --frames 5 --steps 1 --scale 1 "
static const char *tmp;

/* The progress goes nowhere, not into the file that is opened next. */
START_TEST(closed_standard_error_spoils_no_file)
{
    static const char *const names[] = {"a.mp4", "a.webm", "a.gif", "a.png"}, *const closed[] = {
                                                                                  "2>&-",
                                                                                  "0<&- 2>&-",
                                                                                  "0<&- 1>&- 2>&-"};
    program_expect(program_run("generate x " SMALL "-o %s/whole.mp4 --save-latents "
                               "%s/whole.safetensors",
                               tmp, tmp),
                   0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *frames = strstr(names[i], "png") ? "--frames 1" : "";
        program_expect(program_run("generate x " SMALL "%s -o %s/open-%s", frames, tmp, names[i]),
                       0);
        for (size_t k = 0; k < sizeof closed / sizeof *closed; k++) {
            /* results that reach nobody are a failure */
            program_expect(program_shell("$TESSERA generate x " SMALL "%s --overwrite -o %s/%s %s",
                                         frames, tmp, names[i], closed[k]),
                           strstr(closed[k], "1>&-") ? 4 : 0);
            char open[64];
            snprintf(open, sizeof open, "open-%s", names[i]);
            ck_assert_msg(program_same(scratch_path(open), scratch_path(names[i])), "%s with %s",
                          names[i], closed[k]);
        }
    }
    program_expect(
        program_shell("$TESSERA decode %s/whole.safetensors -o %s/again.mp4 2>&-", tmp, tmp), 0);
    ck_assert(program_same(scratch_path("whole.mp4"), scratch_path("again.mp4")));
}
END_TEST

/* The limit ends no program in the middle of a file: what is said is true, and nothing half
 * stays. */
START_TEST(a_size_limit_is_a_full_disk)
{
    static const char *const names[] = {"a.mp4", "a.webm", "a.gif", "f-%d.png"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const program_result *r = program_shell(
            "ulimit -f 4; exec $TESSERA generate x --size 64x64 --frames 5 --steps 1 --scale 8 "
            "-o %s/%s",
            tmp, names[i]);
        program_expect(r, 4);
        text_has(r->err, "can not be written: File too large");
        bool kept = strstr(r->err, "tessera decode") != NULL;
        ck_assert_msg(kept || strstr(r->err, "the latents are lost"), "%s", r->err);
        ck_assert_int_eq(program_files(tmp), kept);
        scratch_clear();
    }
    /* the clip is written, and the failure of what was asked for beside it is told */
    const program_result *r = program_shell(
        "ulimit -f 20; exec $TESSERA generate x --size 64x64 --frames 21 --steps 1 --scale 1 -o "
        "%s/a.mp4 --save-latents %s/l.safetensors",
        tmp, tmp);
    program_expect(r, 4);
    text_has(r->err, "l.safetensors: can not be written: File too large");
    ck_assert(!scratch_has("l.safetensors"));
}
END_TEST

/* A second failure does not cost the latents of the first, nor its own. */
START_TEST(latents_are_kept_beside_those_of_an_earlier_failure)
{
    char *said = NULL;
    for (int i = 1; i <= 3; i++) {
        const program_result *r = program_shell(
            "ulimit -f 64; exec $TESSERA generate x --size 64x64 --steps 1 --scale 16 --seed %d "
            "-o %s/a.png",
            i, tmp);
        program_expect(r, 4);
        ck_assert(asprintf(&said,
                           i == 1 ? "the latents are in %s/a.png.latents.safetensors"
                                  : "the latents are in %s/a.png.latents-%d.safetensors",
                           tmp, i) > 0);
        text_has(r->err, said);
        free(said);
        ck_assert_int_eq(program_files(tmp), i);
    }
    program_expect(program_run("decode %s/a.png.latents-2.safetensors -o %s/b.png", tmp, tmp), 0);
    text_has(program_run("info %s/b.png", tmp)->out, "seed         2\n");
    scratch_clear();
    /* a name that fits, though the usual one behind it would not */
    program_expect(program_shell("ulimit -f 64; exec $TESSERA generate x --size 64x64 --steps 1 "
                                 "--scale 16 -o %s/$(printf 'ü%%.0s' $(seq 125)).png",
                                 tmp),
                   4);
    ck_assert_int_eq(program_files(tmp), 1);
    program_expect(program_shell("$TESSERA decode %s/ü*.latents.safetensors -o %s/b.png", tmp, tmp),
                   0);
}
END_TEST

int main(void)
{
    tmp = scratch_open();
    Suite *s = suite_create("outputs");
    TCase *t = tcase_create("outputs");
    tcase_set_timeout(t, 0);
    tcase_add_checked_fixture(t, scratch_clear, scratch_clear);
    tcase_add_test(t, closed_standard_error_spoils_no_file);
    tcase_add_test(t, a_size_limit_is_a_full_disk);
    tcase_add_test(t, latents_are_kept_beside_those_of_an_earlier_failure);
    suite_add_tcase(s, t);
    return testing_main(s);
}
