/* What shells complete: bash is asked as readline asks it, for every command and flag of the
 * tables; fish, too, and zsh reads its script, where they are installed. */
#include "cli/flags_table.c"

#include "tests/cli/program.h"
#include "tests/cli/workspace.h"

#include <stdio.h>

static const struct {
    const char *name;
    ts_command_bit bit;
} commands[] = {{"generate", TS_CMD_GENERATE},
                {"decode", TS_CMD_DECODE},
                {"info", TS_CMD_INFO},
                {"models", TS_CMD_MODELS},
                {"tokens", TS_CMD_TOKENS},
                {"batch", TS_CMD_BATCH},
                {"bench", TS_CMD_BENCH},
                {"search-tile", TS_CMD_SEARCH_TILE},
                {"completion", TS_CMD_COMPLETION}};
enum { COMMANDS = sizeof commands / sizeof *commands };
#define ALL "generate|decode|info|models|tokens|batch|bench|search-tile|config|completion|help"

/* What bash offers for a command line's words (quoted for bash, without single quotes), of which
 * the last is to be completed: each between line feeds. */
static const char *offered(const char *words)
{
    static char out[65536 + 1];
    const program_result *r = program_shell(
        "cd %s && bash -c '. ./script; compopt() { :; }; COMP_WORDS=(%s); "
        "COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _tessera; printf \"%%s\\n\" "
        "\"${COMPREPLY[@]}\"'",
        scratch_path(""), words);
    program_expect(r, 0);
    ck_assert_str_eq(r->err, "");
    snprintf(out, sizeof out, "\n%s", r->out);
    return out;
}

static bool offers(const char *list, const char *word)
{
    char line[256];
    snprintf(line, sizeof line, "\n%s\n", word);
    return strstr(list, line) != NULL;
}

static void offers_only(const char *words, const char *want)
{
    char got[4096];
    snprintf(got, sizeof got, "%s", offered(words));
    int n = 0;
    char copy[1024], *rest = copy;
    snprintf(copy, sizeof copy, "%s", want);
    for (char *word; (word = strsep(&rest, "|"));) {
        ck_assert_msg(offers(got, word), "%s: \"%s\" is not in%s", words, word, got);
        n++;
    }
    ck_assert_msg(text_count(got, "\n") == n + 1, "%s: only %s, got%s", words, want, got);
}

static bool write_script(const char *shell)
{
    program_expect(program_run("completion %s >%s", shell, scratch_path("script")), 0);
    return program_shell("command -v %s", shell)->code == 0;
}

START_TEST(every_flag_of_every_command)
{
    char words[256];
    scratch_clear();
    if (!write_script("bash")) return (void)puts("skip: bash is not installed");
    offers_only("tessera \"\"", ALL);
    offers_only("tessera help \"\"", ALL);
    for (int i = 0; i < COMMANDS; i++) {
        char list[16384];
        snprintf(words, sizeof words, "tessera %s -", commands[i].name);
        snprintf(list, sizeof list, "%s", offered(words));
        for (int k = 0; k < ROWS; k++) {
            char flag[80];
            snprintf(flag, sizeof flag, "--%s", table[k].name);
            unsigned having = 0; /* the commands that have a flag of this name */
            for (int j = 0; j < ROWS; j++)
                having |= strcmp(table[j].name, table[k].name) ? 0 : table[j].commands;
            ck_assert_msg(offers(list, flag) == !!(having & commands[i].bit), "%s %s",
                          commands[i].name, flag);
        }
    }
}
END_TEST

START_TEST(values_that_have_names)
{
    char words[256];
    scratch_clear();
    if (!write_script("bash")) return (void)puts("skip: bash is not installed");
    for (int k = 0; k < ROWS; k++)
        for (int i = 0; i < COMMANDS; i++) {
            if (!(table[k].commands & commands[i].bit) || !table[k].choices) continue;
            snprintf(words, sizeof words, "tessera %s --%s \"\"", commands[i].name, table[k].name);
            offers_only(words, table[k].choices);
            break;
        }
    offers_only("tessera generate \"a panda\" --sampler un", "unipc");
    offers_only("tessera generate --sampler = un", "unipc");
    offers_only("tessera generate --sampler =", "unipc|euler|dpmpp-2m|ddim|lcm|"
                                                "dpmpp-2m-sde|euler-a");
    offers_only("tessera generate -s r", "random");
    offers_only("tessera completion \"\"", "bash|zsh|fish");
    offers_only("tessera gen", "generate");
    offers_only("tessera generate --samp", "--sampler");
    /* of a number nothing is known, nor of a prompt: no flag in its place */
    offers_only("tessera generate --steps \"\"", "");
    offers_only("tessera generate --steps -", "");
    offers_only("tessera generate \"\"", "");
    offers_only("tessera nonsense --", "");
}
END_TEST

START_TEST(files_by_their_extensions)
{
    static const char *const names[] = {"clip.mp4",  "of two words.txt",    "rows.jsonl",
                                        "t.csv",     "latents.safetensors", "photo.jpg",
                                        "page.html", "tile.json",           "folder/x.png"};
    scratch_clear();
    if (!write_script("bash")) return (void)puts("skip: bash is not installed");
    program_expect(program_shell("mkdir %s", scratch_path("folder")), 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) scratch_put(names[i], "");
    offers_only("tessera generate -o \"\"", "clip.mp4|photo.jpg|folder");
    offers_only("tessera generate x --init \"\"", "photo.jpg|folder");
    offers_only("tessera generate x --last-image \"\"", "photo.jpg|folder");
    offers_only("tessera generate x --noise \"\"", "latents.safetensors|folder");
    offers_only("tessera generate -o folder/", "folder/x.png");
    offers_only("tessera batch \"\"", "of two words.txt|rows.jsonl|t.csv|folder");
    offers_only("tessera batch o", "of two words.txt");
    offers_only("tessera batch rows.jsonl --out \"\"", "folder");
    offers_only("tessera batch rows.jsonl --report = \"\"", "page.html|folder");
    offers_only("tessera bench x --json \"\"", "tile.json|folder");
    offers_only("tessera decode \"\"", "latents.safetensors|folder");
    offers_only("tessera generate -m \"\"", "default|folder");
    offers_only("tessera generate --from \"\"",
                "clip.mp4|of two words.txt|rows.jsonl|t.csv|latents.safetensors|photo.jpg|"
                "page.html|tile.json|folder|script");
    offers_only("tessera models \"\"", "folder");
}
END_TEST

START_TEST(fish_and_zsh)
{
    scratch_clear();
    if (write_script("zsh"))
        program_expect(program_shell("zsh -n %s", scratch_path("script")), 0);
    else
        puts("skip: zsh is not installed");
    if (!write_script("fish")) return (void)puts("skip: fish is not installed");
    program_expect(program_shell("fish -n %s", scratch_path("script")), 0);
    static const char *const rows[][3] = {{"tessera gen", "generate\t", "decode"},
                                          {"tessera generate --samp", "--sampler\t", "--steps"},
                                          {"tessera generate x --sampler ", "euler\t", "script"},
                                          {"tessera bench x --attention ", "adaspa\t", "script"},
                                          {"tessera generate x -o ", "script\n", "euler"},
                                          {"tessera batch ", "script\n", "generate"},
                                          {"tessera help ", "batch\n", "script"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const program_result *r = program_shell(
            "cd %s && HOME=$PWD fish -c 'source script; complete -C \"%s\"'", scratch_path(""),
            rows[i][0]);
        program_expect(r, 0);
        text_has(r->out, rows[i][1]);
        text_lacks(r->out, rows[i][2]);
    }
}
END_TEST

/* Names that are offered are those that are known. */
START_TEST(policies_and_shells)
{
    char all[256] = "";
    const ts_flag *f = ts_flag_find(TS_CMD_GENERATE, "attention", 9, 0);
    const program_result *r = program_run("generate x --attention nonsense -o %s --dry-run",
                                          scratch_path("x.mp4"));
    program_expect(r, 2);
    for (const char *s = f->choices; *s; s++) {
        const char *between = *s != '|' ? (char[]){*s, 0} : strchr(s + 1, '|') ? ", " : " or ";
        strncat(all, between, sizeof all - strlen(all) - 1);
    }
    text_has(r->err, all);
    r = program_run("completion ksh");
    program_expect(r, 2);
    text_has(r->err, "completion: got \"ksh\", wanted bash, zsh or fish");
    r = program_run("completion");
    program_expect(r, 2);
    text_has(r->err, "a shell is missing: tessera completion bash | zsh | fish");
}
END_TEST

int main(void)
{
    scratch_open();
    Suite *suite = suite_create("completion");
    TCase *tc = tcase_create("completion");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, every_flag_of_every_command);
    tcase_add_test(tc, values_that_have_names);
    tcase_add_test(tc, files_by_their_extensions);
    tcase_add_test(tc, fish_and_zsh);
    tcase_add_test(tc, policies_and_shells);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
