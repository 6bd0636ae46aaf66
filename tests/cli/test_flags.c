/* The parser of command lines: every kind of value, both ways to write it, what is refused and with
 * which words; the manual says what the table says. */
#include "cli/flag_value.c"
#include "cli/flags.c"
#include "cli/flags_help.c"
#include "cli/flags_table.c"

#include "backend/nearest.h"
#include "tests/testing.h"

#include <stdlib.h>

static ts_flags got;

static ts_status parse_for(ts_command_bit command, const char *const *args)
{
    int n = 0;
    while (args[n]) n++;
    return ts_flags_parse(&got, command, n, (char *const *)args);
}
#define PARSE(...) parse_for(TS_CMD_GENERATE, (const char *const[]){__VA_ARGS__, NULL})
#define ACCEPTED(...) ck_assert_msg(PARSE(__VA_ARGS__) == TS_OK, "%s", got.error)
static void refused(ts_status st, const char *const *parts)
{
    ck_assert_int_eq(st, TS_EUSAGE);
    for (; *parts; parts++)
        ck_assert_msg(strstr(got.error, *parts) != NULL, "\"%s\" does not say \"%s\"", got.error,
                      *parts);
}
#define REFUSED(st, ...) refused(st, (const char *const[]){__VA_ARGS__, NULL})

START_TEST(words_and_flags_mix)
{
    ACCEPTED("a panda", "--steps", "7", "-o", "x.mp4", "--overwrite");
    ck_assert_int_eq(got.words, 1);
    ck_assert_str_eq(got.word[0], "a panda");
    ck_assert_int_eq(got.value[TS_F_STEPS].whole, 7);
    ck_assert_str_eq(got.value[TS_F_OUTPUT].text, "x.mp4");
    ck_assert(got.value[TS_F_OVERWRITE].set && !got.value[TS_F_QUIET].set &&
              !got.value[TS_F_SEED].set);
    ACCEPTED("--output=y.mp4", "--size=832x480", "--fps=23.976", "");
    ck_assert_int_eq(got.words, 1);
    ck_assert_str_eq(got.word[0], "");
    ck_assert_str_eq(got.value[TS_F_OUTPUT].text, "y.mp4");
    ck_assert(got.value[TS_F_SIZE].w == 832 && got.value[TS_F_SIZE].h == 480 &&
              got.value[TS_F_FPS].real == 23.976);
    ACCEPTED("-oz.png", "one", "two", "three");
    ck_assert_str_eq(got.value[TS_F_OUTPUT].text, "z.png");
    ck_assert(got.words == 3 && !strcmp(got.word[1], "two"));
    ACCEPTED("--steps", "5", "--steps", "9", "--", "--steps");
    ck_assert_int_eq(got.value[TS_F_STEPS].whole, 9);
    ck_assert_str_eq(got.word[0], "--steps");
    ACCEPTED("-", "--negative=", "--guidance-2", "3");
    ck_assert_str_eq(got.word[0], "-");
    ck_assert(got.value[TS_F_NEGATIVE].set && !*got.value[TS_F_NEGATIVE].text &&
              got.value[TS_F_GUIDANCE_2].real == 3 && !got.value[TS_F_GUIDANCE].set);
}
END_TEST

START_TEST(numbers_have_ranges)
{
    static const char *const bad[] = {
        "0", "1001", "-3", "5.0", "7x", "", " 7", "0x10", "99999999999999999999", "many"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        REFUSED(PARSE("--steps", bad[i]), "--steps: got", bad[i], "a whole number from 1 to 1000");
    ACCEPTED("--steps", "1000", "--frames", "10000", "--crf", "0");
    static const char *const unreal[] = {"nan", "inf", "0x1p3", "1e", "4,5", "101", "-0.5", ""};
    for (size_t i = 0; i < sizeof unreal / sizeof *unreal; i++)
        REFUSED(PARSE("--guidance", unreal[i]), "--guidance: got", "a number from 0 to 100");
    ACCEPTED("--guidance", "1e1", "--shift", ".5");
    ck_assert(got.value[TS_F_GUIDANCE].real == 10 && got.value[TS_F_SHIFT].real == 0.5);
    REFUSED(PARSE("--shift", "0"), "from 0.01 to 100");
}
END_TEST

START_TEST(sizes_and_tiles)
{
    static const char *const bad[] = {"832",    "832x",    "x480",
                                      "15x64",  "64x8193", "64x64x64",
                                      "-64x64", "64 x 64", "99999999999999999999x64",
                                      "64*64",  "axb"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        REFUSED(PARSE("--size", bad[i]), "--size: got", bad[i], "16 to 8192");
    ACCEPTED("--size", "16X8192");
    ck_assert(got.value[TS_F_SIZE].w == 16 && got.value[TS_F_SIZE].h == 8192);
    ACCEPTED("--vae-tile", "auto");
    ACCEPTED("--vae-tile", "off");
    ACCEPTED("--vae-tile", "256x128");
    ck_assert_str_eq(got.value[TS_F_VAE_TILE].text, "256x128");
    REFUSED(PARSE("--vae-tile", "on"), "--vae-tile: got \"on\"", "auto, off or WxH");
}
END_TEST

START_TEST(memory_has_units)
{
    const struct {
        const char *text;
        double want;
    } good[] = {{"8G", 8.0 * (1 << 30)},    {"8g", 8.0 * (1 << 30)},     {"8GB", 8.0 * (1 << 30)},
                {"8GiB", 8.0 * (1 << 30)},  {"512M", 512.0 * (1 << 20)}, {"1.5G", 1.5 * (1 << 30)},
                {"1T", 1024.0 * (1 << 30)}, {"16777216", 16777216}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        ACCEPTED("--memory", good[i].text);
        ck_assert_msg((double)got.value[TS_F_MEMORY].wide == good[i].want, "%s", good[i].text);
    }
    static const char *const bad[] = {"8", "8X", "G", "-8G", "8GG", "8Gi8", "nan", "15M", ""};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        REFUSED(PARSE("--memory", bad[i]), "--memory: got", "for instance 8G");
}
END_TEST

START_TEST(seeds_are_64_bits)
{
    ACCEPTED("--seed", "18446744073709551615");
    ck_assert(got.value[TS_F_SEED].wide == UINT64_MAX && !got.value[TS_F_SEED].random);
    ACCEPTED("--seed", "0");
    ck_assert(got.value[TS_F_SEED].wide == 0 && !got.value[TS_F_SEED].random);
    ACCEPTED("--seed", "random");
    ck_assert(got.value[TS_F_SEED].random);
    ACCEPTED("--seed", "-1");
    ck_assert(got.value[TS_F_SEED].random);
    static const char *const bad[] = {"18446744073709551616", "-2", "1.5", "", "rnd", "+3"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        REFUSED(PARSE("--seed", bad[i]), "--seed: got", "or random");
}
END_TEST

START_TEST(choices)
{
    ACCEPTED("--sampler", "euler", "--precision=bf16", "--cpu", "avx512_bf16", "--progress",
             "json");
    ck_assert_str_eq(got.value[TS_F_SAMPLER].text, "euler");
    REFUSED(PARSE("--sampler", "uni"),
            "--sampler: got \"uni\", wanted unipc, euler, dpmpp-2m, ddim, lcm, "
            "dpmpp-2m-sde or euler-a");
    REFUSED(PARSE("--cpu", "avx5"), "wanted ref, avx2, avx512 or avx512_bf16");
    REFUSED(PARSE("--precision", "f32|bf16"), "wanted auto, f32 or bf16");
    REFUSED(PARSE("--sampler", ""), "wanted unipc, euler, dpmpp-2m, ddim, lcm, "
                                    "dpmpp-2m-sde or euler-a");
}
END_TEST

START_TEST(slips_get_a_suggestion)
{
    REFUSED(PARSE("--step", "4"), "--step is not a flag of this command: did you mean --steps?");
    REFUSED(PARSE("--giudance", "4"), "did you mean --guidance?");
    REFUSED(PARSE("--overwite"), "did you mean --overwrite?");
    REFUSED(PARSE("--prec=f32"), "unknown flag --prec: did you mean --precision?");
    REFUSED(PARSE("--output-dir", "x"), "unknown flag --output-dir: did you mean --output DIR/?");
    REFUSED(PARSE("--lora-model-dir", "x"), "--models DIR, whose loras/ is looked in");
    REFUSED(PARSE("-f", "81"), "unknown flag -f: did you mean --frames?");
    REFUSED(PARSE("--dtype", "f32"), "did you mean --precision?");
    REFUSED(PARSE("--Steps", "5"), "did you mean --steps?");
    REFUSED(PARSE("-o", "-y"), "--output needs a value");
    REFUSED(PARSE("--zzzzzzz"), "unknown flag --zzzzzzz: --help lists them all");
    REFUSED(PARSE("-x"), "unknown flag -x");
    REFUSED(PARSE("--json"), "--json is not a flag of this command");
    REFUSED(parse_for(TS_CMD_TOKENS, (const char *const[]){"--steps", "4", NULL}),
            "--steps is not a flag of this command");
    REFUSED(PARSE("--overwrite=yes"), "--overwrite takes no value, got \"yes\"");
    REFUSED(PARSE("--steps"), "--steps needs a value: a whole number from 1 to 1000");
    REFUSED(PARSE("--negative", "--steps", "4"), "--negative needs a value: a text");
    REFUSED(PARSE("-o", "--overwrite"), "--output needs a value");
    REFUSED(PARSE("-o", ""), "--output: got \"\"");
    ACCEPTED("--negative", "--no such flag", "--negative=--steps");
    ck_assert_str_eq(got.value[TS_F_NEGATIVE].text, "--steps");
    const char *const list[] = {"generate", "decode", "info", NULL};
    ck_assert_str_eq(ts_nearest("genrate", list), "generate");
    ck_assert_str_eq(ts_nearest("gen", list), "generate");
    ck_assert_ptr_null(ts_nearest("bake", list));
    ck_assert_ptr_null(ts_nearest("x", list));
}
END_TEST

START_TEST(words_of_other_programs)
{
    int n;
    const char *ours, *theirs;
    const ts_flag *t = ts_flags_table(&n);
    ACCEPTED("--negative-prompt", "x", "--cfg-scale=3", "--num_frames", "9", "--force");
    ck_assert_str_eq(got.value[TS_F_NEGATIVE].text, "x");
    ck_assert(got.value[TS_F_GUIDANCE].real == 3 && got.value[TS_F_FRAMES].whole == 9 &&
              got.value[TS_F_OVERWRITE].set);
    REFUSED(PARSE("--num-frames", "0"), "--frames: got \"0\"");
    REFUSED(PARSE("--negative", "--num-frames", "4"), "--negative needs a value");
    REFUSED(parse_for(TS_CMD_TOKENS, (const char *const[]){"--num-frames", "4", NULL}),
            "--num-frames is not a flag of this command");
    ck_assert_int_eq(parse_for(TS_CMD_BATCH, (const char *const[]){"--output-dir", "x", NULL}),
                     TS_OK);
    ck_assert_str_eq(got.value[TS_F_OUT].text, "x");
    for (int i = 0; (theirs = ts_flag_alias_at(i, &ours)); i++) {
        ck_assert_msg(ts_flag_alias(~0u, theirs, strlen(theirs)) != NULL, "%s", theirs);
        for (int k = 0; k < n; k++) ck_assert_str_ne(t[k].name, theirs);
    }
}
END_TEST

START_TEST(letters_and_halves_of_a_size)
{
    ACCEPTED("-p", "-", "-m", "dir", "-n", "x", "-s", "7", "-b4", "-t", "2", "-q", "-y", "-i", "p");
    ck_assert(got.words == 1 && got.plain[0] && got.value[TS_F_SEED].wide == 7 &&
              got.value[TS_F_PICTURES].whole == 4 && got.value[TS_F_THREADS].whole == 2 &&
              got.value[TS_F_QUIET].set && got.value[TS_F_OVERWRITE].set);
    ck_assert_str_eq(got.word[0], "-");
    ck_assert_str_eq(got.value[TS_F_MODEL].text, "dir");
    ck_assert_str_eq(got.value[TS_F_NEGATIVE].text, "x");
    ck_assert_str_eq(got.value[TS_F_INIT].text, "p");
    ACCEPTED("-", "--prompt=x", "-W", "832");
    ck_assert(got.words == 2 && !got.plain[0] && got.plain[1]);
    ck_assert(got.value[TS_F_SIZE].set && got.value[TS_F_SIZE].w == 832 &&
              got.value[TS_F_SIZE].h == 0);
    ACCEPTED("--size", "64x48", "--height", "32");
    ck_assert(got.value[TS_F_SIZE].w == 64 && got.value[TS_F_SIZE].h == 32);
    ACCEPTED("--height", "32", "--size", "64x48");
    ck_assert(got.value[TS_F_SIZE].w == 64 && got.value[TS_F_SIZE].h == 48);
    REFUSED(PARSE("-W", "8"), "--width: got \"8\", wanted a whole number from 16 to 8192");
    REFUSED(PARSE("-W"), "--width needs a value");
}
END_TEST

START_TEST(values_of_other_programs)
{
    static const struct {
        const char *flag, *value, *meant;
    } row[] = {
        {"--precision", "fp32", "f32"},          {"--precision", "FP16", "bf16"},
        {"--precision", "float32", "f32"},       {"--precision", "BFloat16", "bf16"},
        {"--sampler", "dpm++2m", "dpmpp-2m"},    {"--sampler", "DPM++ 2M", "dpmpp-2m"},
        {"--sampler", "unpic", "unipc"},         {"--sampler", "Euler", "euler"},
        {"--cpu", "AVX-512", "avx512"},          {"--cpu", "avx51", "avx512"},
        {"--progress", "JSON", "json"},          {"--vae-tile", "of", "off"},
        {"--cpu", "avx512-bf16", "avx512_bf16"},
    };
    char meant[64];
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        snprintf(meant, sizeof meant, ": did you mean %s?", row[i].meant);
        REFUSED(PARSE(row[i].flag, row[i].value), row[i].value, meant);
    }
    REFUSED(PARSE("--sampler", "heun"), "wanted unipc, euler, dpmpp-2m, ddim, lcm, "
                                        "dpmpp-2m-sde or euler-a");
    ck_assert_ptr_null(strstr(got.error, "did you mean"));
    memset(&got, 0, sizeof got);
    ck_assert_int_eq(ts_flags_key(&got, "sampler", "dpm++2m"), TS_EUSAGE);
    ck_assert_ptr_nonnull(strstr(got.error, "did you mean dpmpp-2m?"));
}
END_TEST

START_TEST(long_and_odd_words_are_safe)
{
    enum { N = 5000 };
    static char word[N + 1];
    for (int fill = 0; fill < 3; fill++) {
        memset(word, "-a="[fill], N);
        word[0] = word[1] = '-';
        ck_assert_int_eq(PARSE(word), TS_EUSAGE);
        ck_assert_int_lt((int)strlen(got.error), (int)sizeof got.error);
        ck_assert_int_eq(PARSE("--size", word), TS_EUSAGE);
    }
    ck_assert_int_eq(PARSE("--="), TS_EUSAGE);
    ck_assert_int_eq(PARSE("--=5"), TS_EUSAGE);
    ck_assert_int_eq(PARSE("-\xff"), TS_EUSAGE);
}
END_TEST

START_TEST(members_become_flags)
{
    static const struct {
        const char *said, *shown;
    } row[] = {{"`vae_tile` auto would fit", "--vae-tile auto would fit"},
               {"a `device` cpu, `count` 4", "a --device cpu, --count 4"},
               {"fetch it with `git lfs pull`", "fetch it with `git lfs pull`"},
               {"`seed", "`seed"},
               {"``", "``"},
               {"", ""}};
    char out[64], tight[6];
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        ts_flags_reword(row[i].said, out, sizeof out);
        ck_assert_str_eq(out, row[i].shown);
    }
    ts_flags_reword("a `vae_tile`", tight, sizeof tight);
    ck_assert_str_eq(tight, "a --v");
    ts_flags_reword("steps `seed`", tight, sizeof tight);
    ck_assert_str_eq(tight, "steps");
}
END_TEST

START_TEST(table_is_sound)
{
    int n;
    const ts_flag *t = ts_flags_table(&n);
    ck_assert_int_eq(n, TS_F_COUNT);
    for (int i = 0; i < n; i++) {
        ck_assert_msg((int)t[i].id == i, "row %d is --%s", i, t[i].name);
        ck_assert_msg((t[i].kind == TS_KIND_SWITCH) == !t[i].value, "--%s", t[i].name);
        bool named = t[i].kind == TS_KIND_CHOICE || t[i].kind == TS_KIND_TILE;
        ck_assert_msg(!named || t[i].choices, "--%s", t[i].name);
        ck_assert_msg(t[i].commands && t[i].help[strlen(t[i].help) - 1] != '.', "--%s", t[i].name);
        for (int k = 0; k < i; k++)
            ck_assert_msg((strcmp(t[i].name, t[k].name) || !(t[i].commands & t[k].commands)) &&
                              (!t[i].letter || t[i].letter != t[k].letter ||
                               !(t[i].commands & t[k].commands)),
                          "--%s twice", t[i].name);
    }
}
END_TEST

static char *slurp(const char *path)
{
    static char text[200000];
    FILE *f = fopen(path, "r");
    ck_assert_msg(f != NULL, "%s", path);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    return text;
}

/* As the manual is written: hyphens and backslashes escaped. */
static const char *roff(const char *s)
{
    static char out[1024];
    char *o = out;
    for (; *s; s++) {
        if (*s == '-' || *s == '\\') *o++ = '\\';
        *o++ = *s;
    }
    *o = 0;
    return out;
}

/* Without its line ends, which the manual has where a line is full. */
static char *joined(const char *text)
{
    char *out = strdup(text);
    ck_assert_ptr_nonnull(out);
    for (char *p = out; *p; p++)
        if (*p == '\n') *p = ' ';
    return out;
}

START_TEST(the_manual_says_what_the_table_says)
{
    int n;
    const ts_flag *t = ts_flags_table(&n);
    const char *man = slurp("docs/tessera.1");
    char *running = joined(man);
    for (int i = 0; i < n; i++) {
        char item[1200], letter[16] = "";
        if (t[i].letter) snprintf(letter, sizeof letter, "\\fB\\-%c\\fR, ", t[i].letter);
        snprintf(item, sizeof item, "\n%s\\fB\\-\\-%s\\fR%s%s%s\n", letter, roff(t[i].name),
                 t[i].value ? " \\fI" : "", t[i].value ? t[i].value : "", t[i].value ? "\\fR" : "");
        ck_assert_msg(strstr(man, item) != NULL, "docs/tessera.1 has no %s", item);
        ck_assert_msg(strstr(running, roff(t[i].help)) != NULL,
                      "docs/tessera.1 does not say of --%s: %s", t[i].name, roff(t[i].help));
    }
    free(running);
}
END_TEST

START_TEST(the_manual_has_other_programs_names)
{
    const char *man = slurp("docs/tessera.1"), *ours, *theirs;
    char item[1200];
    for (int i = 0; (theirs = ts_flag_alias_at(i, &ours)); i++) {
        snprintf(item, sizeof item, "\\-\\-%s", roff(theirs));
        ck_assert_msg(strstr(man, item) != NULL, "docs/tessera.1 has no %s", item);
    }
}
END_TEST

static void check_help(ts_command_bit command, int width)
{
    char *text = NULL;
    size_t size;
    int n;
    const ts_flag *t = ts_flags_table(&n);
    FILE *f = open_memstream(&text, &size);
    ts_flags_help(f, command, width);
    fclose(f);
    for (int i = 0; i < n; i++) {
        char item[64];
        snprintf(item, sizeof item, "--%s%s%s\n", t[i].name, t[i].value ? " " : "",
                 t[i].value ? t[i].value : "");
        unsigned commands = 0; /* of every flag with this name and value */
        for (int k = 0; k < n; k++)
            commands |= strcmp(t[i].name, t[k].name) || !t[i].value != !t[k].value ? 0
                                                                                   : t[k].commands;
        bool below = strstr(text, item) != NULL;
        /* beside it: a value may fill its column, a switch never does */
        strcpy(item + strlen(item) - 1, t[i].value ? " " : "  ");
        ck_assert_msg((below || strstr(text, item)) == !!(commands & command), "%s", item);
    }
    size_t longest = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        if (strlen(line) > longest) longest = strlen(line);
        ck_assert_msg((int)strlen(line) <= width, "%d columns: %s", width, line);
    }
    /* the width is used: no flag's text ends long before it */
    if (command == TS_CMD_GENERATE) ck_assert_int_gt((int)longest, width - 12);
    free(text);
}

START_TEST(help_lists_the_flags_of_its_command)
{
    for (unsigned command = 1; command <= TS_CMD_BATCH; command <<= 1)
        for (int width = TS_HELP_LEAST; width <= TS_HELP_MOST; width += 20)
            check_help((ts_command_bit)command, width);
}
END_TEST

START_TEST(help_fits_the_terminal)
{
    FILE *f = tmpfile();
    static const struct {
        const char *columns;
        int width;
    } row[] = {{"100", 100},
               {"79", 79},
               {"200", TS_HELP_MOST},
               {"10", TS_HELP_LEAST},
               {NULL, 80},
               {"wide", 80},
               {"0", 80},
               {"-5", 80},
               {"", 80}};
    ck_assert_ptr_nonnull(f);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        ck_assert_int_eq(ts_help_width(f, row[i].columns), row[i].width);
    fclose(f);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("flags");
    TCase *t = tcase_create("flags");
    tcase_add_test(t, words_and_flags_mix);
    tcase_add_test(t, numbers_have_ranges);
    tcase_add_test(t, sizes_and_tiles);
    tcase_add_test(t, memory_has_units);
    tcase_add_test(t, seeds_are_64_bits);
    tcase_add_test(t, choices);
    tcase_add_test(t, slips_get_a_suggestion);
    tcase_add_test(t, words_of_other_programs);
    tcase_add_test(t, letters_and_halves_of_a_size);
    tcase_add_test(t, values_of_other_programs);
    tcase_add_test(t, long_and_odd_words_are_safe);
    tcase_add_test(t, members_become_flags);
    tcase_add_test(t, table_is_sound);
    tcase_add_test(t, the_manual_says_what_the_table_says);
    tcase_add_test(t, the_manual_has_other_programs_names);
    tcase_add_test(t, help_lists_the_flags_of_its_command);
    tcase_add_test(t, help_fits_the_terminal);
    suite_add_tcase(s, t);
    return testing_main(s);
}
