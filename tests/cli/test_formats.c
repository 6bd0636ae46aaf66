/* docs/formats.md against the program: every key of JSON, event, tensor and metadata entry that it
 * writes is in there, those of events in the row of their event. */
#include "tests/cli/program.h"

#include <ctype.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *tmp, *doc;

static void read_doc(void) { doc = program_slurp("docs/formats.md", NULL); }
static void drop_doc(void) { free(doc); }

/* `name` in text, within `from` .. `to`. */
static bool mentions(const char *from, const char *to, const char *name)
{
    char quoted[128];
    snprintf(quoted, sizeof quoted, "`%s`", name);
    const char *p = strstr(from, quoted);
    return p && p < to;
}

static void documented(const char *name, const char *where)
{
    ck_assert_msg(mentions(doc, doc + strlen(doc), name),
                  "docs/formats.md does not mention `%s`, which %s writes", name, where);
}

/* Keys of the object and of the objects in it; those below `except` are names of another kind. */
static void documented_keys(const cJSON *j, const char *where, const char *except)
{
    const cJSON *v;
    cJSON_ArrayForEach(v, j)
    {
        if (v->string) documented(v->string, where);
        if (!v->string || strcmp(v->string, except)) documented_keys(v, where, except);
    }
}

static cJSON *parsed(const program_result *r)
{
    program_expect(r, 0);
    cJSON *j = cJSON_Parse(r->out);
    ck_assert_msg(j != NULL, "%s", r->out);
    return j;
}

/* Literal names given to `call`( , "NAME" in a source. */
static int literals(const char *path, const char *source, const char *call, bool first)
{
    int n = 0;
    for (const char *p = source; (p = strstr(p, call)); p++) {
        const char *q = strchr(p, '(');
        if (!q || strcspn(p, "(\n") != (size_t)(q - p) ||
            (p > source && (isalnum((unsigned char)p[-1]) || p[-1] == '_')))
            continue;
        if (!first) q += strcspn(q, ",\n");
        q += first ? 1 : strspn(q, ", ");
        if (*q != '"') continue;
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(q + 1, "\""), q + 1);
        documented(name, path);
        n++;
    }
    return n;
}

START_TEST(names_in_the_sources)
{
    static const char *const folders[] = {"cli/*.c", "cli/*/*.c", "sampler/*.c"};
    int n = 0;
    for (int f = 0; f < 3; f++) {
        glob_t files;
        ck_assert_int_eq(glob(folders[f], 0, NULL, &files), 0);
        for (size_t i = 0; i < files.gl_pathc; i++) {
            char *source = program_slurp(files.gl_pathv[i], NULL);
            n += literals(files.gl_pathv[i], source, "cJSON_Add", false) +
                 literals(files.gl_pathv[i], source, "ts_bag_meta", false) +
                 literals(files.gl_pathv[i], source, "ts_bag_put", false) +
                 literals(files.gl_pathv[i], source, "event", true);
            free(source);
        }
        globfree(&files);
    }
    ck_assert_msg(n > 80, "only %d names found: they are written in another way", n);
}
END_TEST

START_TEST(metadata)
{
    static const char *const model[] = {"weights/default", "tests/fixtures/wan22-a14b/model"};
    const char *table = strstr(doc, "### The JSON"), *end = strstr(table, "### The text");
    for (int i = 0; i < 2; i++) {
        program_expect(
            program_run(
                "generate x --quiet --overwrite --model %s --size 64x64 --frames 5 --steps 2 "
                "--scale 1 -o %s/a.mp4 --state %s/state%d --save-latents %s/l.safetensors",
                model[i], tmp, tmp, i, tmp),
            0);
        cJSON *j = parsed(program_run("info %s/a.mp4 --json", tmp)), *v;
        ck_assert(cJSON_GetArraySize(j) > 15 && (i == 0) == !cJSON_HasObjectItem(j, "guidance_2"));
        cJSON_ArrayForEach(v, j)
            ck_assert_msg(mentions(table, end, v->string),
                          "the table of the metadata does not mention `%s`", v->string);
        cJSON_Delete(j);
        for (int k = 0; k < 2; k++) {
            char path[4200];
            snprintf(path, sizeof path, k ? "%s/l.safetensors" : "%s/state%d", tmp, i);
            ts_bag *bag = testing_bag(path);
            for (int t = 0; t < ts_bag_count(bag); t++) documented(ts_bag_name(bag, t), path);
            ts_bag_free(bag);
        }
    }
    program_expect(program_shell("rm %s/*", tmp), 0);
}
END_TEST

START_TEST(standard_output)
{
    static const char *const command[] = {"info --json",
                                          "info tests/fixtures/wan22-a14b/model --json",
                                          "info --json --memory 16M", "tokens 'a panda' --json"};
    for (size_t i = 0; i < sizeof command / sizeof *command; i++) {
        cJSON *j = parsed(program_run("%s", command[i]));
        documented_keys(j, command[i], "bytes_by_type");
        cJSON_Delete(j);
    }
}
END_TEST

/* What the events of a command said: each has a row, and its keys stand in it. Returns how many
 * kinds there were. */
static int events(const program_result *r)
{
    char *copy = strdup(r->err), *save = NULL, seen[1024] = "";
    int kinds = 0;
    for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        cJSON *j = cJSON_ParseWithOpts(line, NULL, 1), *v;
        ck_assert_msg(j != NULL, "%s", line);
        const char *name = cJSON_GetStringValue(cJSON_GetObjectItem(j, "event"));
        char begins[80], mark[80];
        snprintf(begins, sizeof begins, "\n| `%s` |", name);
        snprintf(mark, sizeof mark, " %s ", name);
        const char *row = strstr(doc, begins);
        ck_assert_msg(row != NULL, "docs/formats.md has no row for the event `%s`", name);
        cJSON_ArrayForEach(v, j)
        {
            if (!strcmp(v->string, "event")) continue;
            ck_assert_msg(mentions(row, strchr(row + 1, '\n'), v->string),
                          "the row of `%s` does not mention `%s`: %s", name, v->string, line);
            if (cJSON_IsObject(v) && strcmp(v->string, "request")) documented_keys(v, name, "");
            if (!strcmp(v->string, "phase")) documented(cJSON_GetStringValue(v), name);
        }
        if (!strstr(seen, mark)) {
            kinds++;
            strncat(seen, mark, sizeof seen - strlen(seen) - 1);
        }
        cJSON_Delete(j);
    }
    free(copy);
    return kinds;
}

START_TEST(events_and_their_keys)
{
    const program_result *r = program_run("generate x --size 70x64 --overwrite --frames 5 --steps "
                                          "2 -o %s/a.mp4 --progress json --profile",
                                          tmp);
    program_expect(r, 0);
    ck_assert_int_eq(events(r), 5); /* warning, start, progress, profile, done */
    r = program_run("bench x --frames 5 --steps 1 --repeats 1 --attention window:min-tokens=0 "
                    "--progress json");
    program_expect(r, 0);
    ck_assert_int_eq(events(r), 3); /* bench_begin, start, progress */
    ck_assert(strstr(r->err, "\"expected_seconds\":") && strstr(r->err, "\"bench_eta\":"));
    r = program_run(
        "bench --step --frames 5 --steps 1 --attention window:min-tokens=0 --progress json");
    program_expect(r, 0);
    ck_assert_int_eq(events(r), 2);
    r = program_run("decode /nonexistent --progress json");
    program_expect(r, 3);
    ck_assert_int_eq(events(r), 1);
    program_expect(program_shell("rm %s/*", tmp), 0);
}
END_TEST

int main(void)
{
    tmp = testing_tmp();
    Suite *s = suite_create("formats");
    TCase *t = tcase_create("formats");
    tcase_set_timeout(t, 0);
    tcase_add_checked_fixture(t, read_doc, drop_doc);
    tcase_add_test(t, names_in_the_sources);
    tcase_add_test(t, metadata);
    tcase_add_test(t, standard_output);
    tcase_add_test(t, events_and_their_keys);
    suite_add_tcase(s, t);
    int failed = testing_main(s);
    free(tmp);
    return failed;
}
