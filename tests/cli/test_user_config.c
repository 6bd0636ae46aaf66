/* The configuration file: which lines hold for a run, and what is said of wrong ones. */
#include "tests/cli/program.h"
#include "tests/cli/workspace.h"

#include <stdio.h>
#include <string.h>

/* stdout and stderr of `tessera ARGS` with that file */
static const program_result *run(const char *text, const char *variables, const char *args)
{
    scratch_put("config", text);
    return program_shell("%s TESSERA_CONFIG=%s $TESSERA %s", variables, scratch_path("config"),
                         args);
}

#define EXAMPLE                                                                                    \
    "# mine\n\nsteps = 3\nquiet\n[generate]\r\n--size = 32x32\nseed=7\n[bench]\nattention = "      \
    "pooled\nattention = window\n[model default]\nframes = 5\n[preset draft]\nsteps = 2\nwidth = " \
    "48\n[model Other]\nframes = 9\n[preset loud]\nquiet = no\n"

static void expect_plan(const char *variables, const char *flags, const char *const want[])
{
    char args[300];
    snprintf(args, sizeof args, "generate x --dry-run %s", flags);
    const program_result *r = run(EXAMPLE, variables, args);
    program_expect(r, 0);
    for (int i = 0; want[i]; i++)
        ck_assert_msg(strstr(r->out, want[i]), "%s: no %s in %s", flags, want[i], r->out);
}

START_TEST(nearer_sections_go_before_others)
{
    expect_plan("", "",
                (const char *const[]){"32x32", "5 frames", "3 steps", "seed         7", NULL});
    expect_plan("", "--preset draft",
                (const char *const[]){"48x32", "5 frames", "2 steps", "seed         7", NULL});
    expect_plan("", "--preset draft --steps 4 --size 64x48 --frames 1 --seed 9",
                (const char *const[]){"64x48", "4 steps", "seed         9", NULL});
    expect_plan("", "--preset draft --size 64x32", (const char *const[]){"64x32", NULL});
    expect_plan("", "--width 16", (const char *const[]){"16x32", "3 steps", NULL});
    /* the section of another model does not hold, a folder's name is enough */
    expect_plan("", "--model weights/default/",
                (const char *const[]){"32x32", "5 frames", "3 steps", NULL});
    expect_plan("", "--no-config", (const char *const[]){"12 steps", "seed         42", NULL});
}
END_TEST

START_TEST(switches_and_environment)
{
    const program_result *r = run(EXAMPLE, "", "generate x --frames 1 -o $(mktemp -u).png");
    program_expect(r, 0);
    ck_assert_str_eq(r->err, "");
    r = run(EXAMPLE, "", "generate x --preset loud --frames 1 -o $(mktemp -u).png");
    program_expect(r, 0);
    ck_assert_msg(strstr(r->err, "denoising"), "%s", r->err);
    /* a model of the file, that of the environment, that of the line */
    r = run("model = /nonexistent/a\n", "", "generate x --dry-run");
    program_expect(r, 3);
    ck_assert_msg(strstr(r->err, "/nonexistent/a"), "%s", r->err);
    r = run("model = /nonexistent/a\n", "TESSERA_MODEL=/nonexistent/b", "generate x --dry-run");
    ck_assert_msg(strstr(r->err, "/nonexistent/b"), "%s", r->err);
    r = run("model = /nonexistent/a\n[preset p]\nmodel = /nonexistent/c\n",
            "TESSERA_MODEL=/nonexistent/b", "generate x --dry-run --preset p");
    ck_assert_msg(strstr(r->err, "/nonexistent/c"), "%s", r->err);
    program_expect(run("model = /nonexistent/a\n", "", "generate x --dry-run --model default"), 0);
}
END_TEST

/* what may be given several times: those of a section add up, those of the line replace them */
/* A kind by habit is no contradiction of a name. */
START_TEST(format_by_habit)
{
    const char *config = "[generate]\nformat = gif\nsteps = 1\nframes = 1\n";
    const program_result *r = run(config, "", "generate x --dry-run");
    ck_assert_msg(strstr(r->out, ".gif\n"), "%s", r->out);
    r = run(config, "", "generate x --dry-run -o a.png");
    program_expect(r, 0);
    ck_assert_msg(strstr(r->out, "a.png\n"), "%s", r->out);
    program_expect(run(config, "", "generate x --dry-run -o a.png --format gif"), 2);
}
END_TEST

START_TEST(lists)
{
    const program_result *r = run(EXAMPLE, "", "config");
    program_expect(r, 0);
    ck_assert_msg(strstr(r->out, "    9  attention = pooled\n   10  attention = window\n"), "%s",
                  r->out);
    ck_assert_msg(strstr(r->out, "[preset draft]\n   14  steps = 2\n"), "%s", r->out);
    r = run("[bench]\nattention = nonsense\nattention = window\n", "",
            "bench x --frames 1 --steps 2 --size 32x32");
    program_expect(r, 2);
    ck_assert_msg(strstr(r->err, "nonsense"), "%s", r->err);
    r = run("[bench]\nattention = nonsense\n", "",
            "bench x --frames 1 --steps 2 --size 32x32 --attention window:min-tokens=1");
    program_expect(r, 0);
}
END_TEST

static const struct {
    const char *text, *args, *said;
} faults[] = {
    {"\nstepz = 3", "generate x", "config:2: unknown flag --stepz: did you mean --steps?"},
    {"steps = 0", "models", "config:1: --steps: got \"0\", wanted a whole number from 1 to 1000"},
    {"[of model x]", "generate x", "config:1: [of model x] is no section"},
    {"[generate", "generate x", "config:1: a section ends with ]"},
    {"output = x", "generate x", "config:1: --output belongs to one run"},
    {"quiet = maybe", "generate x", "config:1: quiet: got \"maybe\", wanted yes or no"},
    {"steps", "generate x", "config:1: steps has no value: wanted steps = ..."},
    {"[tokens]\nsteps = 3", "generate x", "config:2: --steps is not a flag of this command"},
    {"[model ]", "generate x", "config:1: [model] is no section"},
    {"[preset draft]", "generate x --preset drat", "did you mean draft?"},
    {"", "config extra", "config: takes no argument, got \"extra\""},
    {"", "generate x --preset", "--preset needs a value: a name"},
    {"", "generate x --preset a", "config has no [preset a]"},
    {"", "generate x --preset a --no-config", "which --no-config leaves alone"},
};
START_TEST(a_wrong_line_is_named)
{
    const program_result *r = run(faults[_i].text, "", faults[_i].args);
    program_expect(r, 2);
    ck_assert_msg(strstr(r->err, faults[_i].said), "%s, not %s", r->err, faults[_i].said);
}
END_TEST

START_TEST(where_it_is)
{
    const char *home = scratch_path("");
    program_expect(program_shell("mkdir -p %s/.config/tessera %s/x/tessera && echo 'steps = 5' > "
                                 "%s/.config/tessera/config && echo 'steps = 6' > "
                                 "%s/x/tessera/config",
                                 home, home, home, home),
                   0);
    const program_result *r = program_shell(
        "unset TESSERA_CONFIG XDG_CONFIG_HOME; HOME=%s $TESSERA config", home);
    program_expect(r, 0);
    ck_assert_msg(strstr(r->out, "steps = 5"), "%s", r->out);
    r = program_shell("unset TESSERA_CONFIG; HOME=%s XDG_CONFIG_HOME=%s/x $TESSERA config", home,
                      home);
    ck_assert_msg(strstr(r->out, "steps = 6"), "%s", r->out);
    r = program_shell("TESSERA_CONFIG=%s/nothing $TESSERA config", home);
    program_expect(r, 0);
    ck_assert_msg(strstr(r->out, "/nothing is not there"), "%s", r->out);
    r = program_shell("TESSERA_CONFIG=%s $TESSERA config", home);
    program_expect(r, 4);
    ck_assert_msg(strstr(r->err, "can not be read"), "%s", r->err);
    program_expect(program_shell("TESSERA_CONFIG=%s $TESSERA config --help", home), 0);
}
END_TEST

int main(void)
{
    scratch_open();
    Suite *s = suite_create("user_config");
    TCase *t = tcase_create("config");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, nearer_sections_go_before_others);
    tcase_add_test(t, switches_and_environment);
    tcase_add_test(t, format_by_habit);
    tcase_add_test(t, lists);
    tcase_add_loop_test(t, a_wrong_line_is_named, 0, sizeof faults / sizeof *faults);
    tcase_add_test(t, where_it_is);
    suite_add_tcase(s, t);
    return testing_main(s);
}
