/* The command bench: its rows say what its times say, an interrupted one keeps what it has, and its
 * table and file hold the same. */
#include "tests/cli/program.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *tmp;

static cJSON *parse(const char *path)
{
    char *text = program_slurp(path, NULL);
    cJSON *j = cJSON_Parse(text);
    ck_assert_msg(j != NULL, "%s", text);
    free(text);
    return j;
}

static double number(const cJSON *j, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(j, key);
    return cJSON_IsNumber(v) ? v->valuedouble : NAN;
}

static const char *text(const cJSON *j, const char *key)
{
    const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(j, key));
    ck_assert_msg(s != NULL, "no %s", key);
    return s;
}

/* The row of a kernel; keep, threads 0: any. */
static const cJSON *find(const cJSON *rows, const char *kernel, double tokens, double keep,
                         double threads)
{
    const cJSON *r, *found = NULL;
    cJSON_ArrayForEach(r, rows)
    {
        if (strcmp(text(r, "kernel"), kernel) || number(r, "tokens") != tokens ||
            (keep > 0 && number(r, "keep") != keep) ||
            (threads > 0 && number(r, "threads") != threads))
            continue;
        ck_assert_msg(!found, "%s of %g tokens twice", kernel, tokens);
        found = r;
    }
    ck_assert_msg(found != NULL, "no %s of %g tokens", kernel, tokens);
    return found;
}

static void same(double got, double want, const char *what)
{
    ck_assert_msg(fabs(got - want) <= 1e-9 * fabs(want), "%s: %g, expected %g", what, got, want);
}

static double range(const cJSON *r) { return number(r, "slowest") - number(r, "fastest"); }

/* What can not be true is void; of plans, by what they keep and by the turns of the dense kernel.
 */
static void check_void(const cJSON *j, const cJSON *r, const cJSON *dense)
{
    const char *why = cJSON_GetStringValue(cJSON_GetObjectItem(r, "void"));
    bool plan = !strcmp(text(r, "kernel"), "sparse"),
         impossible = number(r, "peak_share") > 1.02 ||
                      (plan &&
                       number(dense, "seconds") * number(r, "kept") > 1.02 * number(r, "seconds")),
         blurred = plan && fmax(range(dense), range(r)) >
                               fabs(number(dense, "seconds") - number(r, "seconds"));
    ck_assert_msg(why || !(impossible || blurred), "%s stands", text(r, "kernel"));
    if (plan && why) ck_assert_msg(impossible || blurred || strstr(why, "busy"), "%s", why);
    if (plan && why && strstr(why, "arithmetic")) ck_assert(impossible);
    if (cJSON_IsString(cJSON_GetObjectItem(j, "void"))) ck_assert(!(number(j, "taken") <= 0.1));
}

/* heads 2, dim 32; one number of tokens with keep 0.3 and 0.01. */
static void check_rows(const cJSON *j, double tokens, const char *precision, double threads,
                       double kept3, double kept1)
{
    const cJSON *rows = cJSON_GetObjectItemCaseSensitive(j, "rows"),
                *dense = find(rows, "dense", tokens, 1, threads), *r;
    double peak = number(cJSON_GetObjectItemCaseSensitive(j, "peak"), precision),
           work = 4 * tokens * tokens * 2 * 32, seconds = number(dense, "seconds");
    ck_assert(peak > 1e8 && seconds > 0);
    cJSON_ArrayForEach(r, rows)
    {
        ck_assert_str_eq(text(r, "precision"), precision);
        ck_assert(number(r, "repeats") == 3 && number(r, "seconds") > 0 &&
                  number(r, "fastest") <= number(r, "seconds") &&
                  number(r, "slowest") >= number(r, "seconds") && number(r, "cpu_seconds") > 0);
        if (number(r, "tokens") == tokens) check_void(j, r, dense);
    }
    same(number(dense, "flops"), work / seconds, "dense rate");
    ck_assert(number(dense, "peak_share") > 0 && !cJSON_HasObjectItem(dense, "ratio"));
    r = find(rows, "fused search", tokens, 1, threads);
    same(number(r, "ratio"), number(r, "seconds") / seconds, "fused search");
    r = find(rows, "cached search", tokens, 1, threads);
    same(number(r, "ratio"), number(r, "seconds") / seconds, "cached search");
    same(number(r, "flops"), work / 2 / number(r, "seconds"), "rate of the cached search");
    r = find(rows, "packing", tokens, 1, threads);
    same(number(r, "ratio"), number(r, "seconds") / seconds, "packing");
    same(number(r, "seconds"), number(dense, "packing"), "packing of a dense call");
    ck_assert(number(r, "ratio") < 1 && !cJSON_HasObjectItem(r, "flops"));
    for (int i = 0; i < 2; i++) { /* of the share nearest to a fifth */
        r = find(rows, i ? "with linear" : "with means", tokens, 0.3, threads);
        same(number(r, "ratio"),
             number(r, "seconds") / number(find(rows, "sparse", tokens, 0.3, threads), "seconds"),
             "the rest");
        same(number(r, "kept"), kept3, "kept");
    }
    for (int i = 0; i < 2; i++) {
        r = find(rows, "sparse", tokens, i ? 0.01 : 0.3, threads);
        same(number(r, "kept"), i ? kept1 : kept3, "kept");
        same(number(r, "ratio"), seconds * number(r, "kept") / number(r, "seconds"), "sparse");
        same(number(r, "kernel_ratio"),
             (seconds - number(dense, "packing")) * number(r, "kept") /
                 (number(r, "seconds") - number(r, "packing")),
             "sparse without packing");
        same(number(r, "flops"), work * number(r, "kept") / number(r, "seconds"), "sparse rate");
    }
}

START_TEST(rows_follow_from_times)
{
    const program_result *r = program_run(
        "bench --kernel --tokens 640,250 --heads 2 --dim 32 --keep 1,0.3,0.01 --repeats 3 "
        "--precision f32 --threads 2 --json %s/b.json",
        tmp);
    char path[4200];
    program_expect(r, 0);
    snprintf(path, sizeof path, "%s/b.json", tmp);
    cJSON *j = parse(path);
    ck_assert_str_eq(text(j, "bench"), "kernel");
    ck_assert(cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(j, "complete")) &&
              number(j, "heads") == 2 && number(j, "dim") == 32);
    check_rows(j, 640, "f32", 0, 0.3, 0.1);   /* 10 blocks: 3, and at least 1 */
    check_rows(j, 250, "f32", 0, 0.25, 0.25); /* 4 blocks: 1 and 1 */
    const cJSON *rows = cJSON_GetObjectItemCaseSensitive(j, "rows"),
                *one = find(rows, "uneven", 640, 0.01, 1),
                *two = find(rows, "uneven", 640, 0.01, 2);
    same(number(two, "ratio"), number(one, "seconds") / number(two, "seconds"), "threads");
    ck_assert(!cJSON_HasObjectItem(one, "ratio") && number(one, "kept") == number(two, "kept"));
    /* the table has the same rows */
    int lines = 0;
    for (const char *p = r->out; (p = strstr(p, "\n     ")); p++) lines++;
    ck_assert_msg(lines == cJSON_GetArraySize(rows), "%d rows in the file\n%s",
                  cJSON_GetArraySize(rows), r->out);
    ck_assert_ptr_nonnull(strstr(r->out, "f32 peak "));
    cJSON_Delete(j);
    unlink(path);
    ck_assert_int_eq(program_files(tmp), 0);
}
END_TEST

START_TEST(every_level_and_one_thread)
{
    static const char *const level[] = {"ref", "avx2", "avx512", "avx512_bf16"};
    for (int i = 0; i < 4; i++) {
        const program_result *r = program_run("bench --kernel --quiet --tokens 128 --heads 1 --dim "
                                              "64 --keep 0.5 --repeats 1 --threads 1 --cpu %s",
                                              level[i]);
        if (r->code == 2 && strstr(r->err, "this machine has at most")) continue;
        program_expect(r, 0);
        ck_assert_str_eq(r->err, "");
        ck_assert_msg(!strstr(r->out, "f32 peak ") == (i == 0),
                      "plain C has no peak of its own\n%s", r->out);
        ck_assert_msg(strstr(r->out, "sparse") && !strstr(r->out, "uneven"), "%s", r->out);
    }
}
END_TEST

START_TEST(an_interrupted_one_keeps_what_it_has)
{
    char err[4200], out[4200], json[4200];
    snprintf(err, sizeof err, "%s/err", tmp);
    snprintf(out, sizeof out, "%s/out", tmp);
    snprintf(json, sizeof json, "%s/b.json", tmp);
    pid_t pid = program_start(err,
                              "bench --kernel --progress json --tokens 64,262144 --heads 1 --dim "
                              "64 --keep 0.5 --repeats 3 --threads 1 --json %s >%s",
                              json, out);
    ck_assert(program_says(pid, out, "sparse"));
    kill(pid, SIGINT);
    int code = program_wait(pid);
    char *said = program_slurp(err, NULL), *rows = program_slurp(out, NULL);
    ck_assert_msg(code == 130 && strstr(said, "{\"event\":\"error\",\"code\":130,") &&
                      strstr(said, "\"phase\":\"bench\",\"step\":0,\"steps\":100"),
                  "%d\n%s", code, said);
    ck_assert_ptr_nonnull(strstr(rows, "cached search"));
    cJSON *j = parse(json);
    ck_assert(cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(j, "complete")));
    find(cJSON_GetObjectItemCaseSensitive(j, "rows"), "sparse", 64, 0.5, 1);
    cJSON_Delete(j);
    free(said);
    free(rows);
    unlink(err);
    unlink(out);
    unlink(json);
    ck_assert_int_eq(program_files(tmp), 0);
}
END_TEST

int main(void)
{
    tmp = testing_tmp();
    Suite *s = suite_create("bench");
    TCase *t = tcase_create("bench");
    tcase_set_timeout(t, 0);
    tcase_add_test(t, rows_follow_from_times);
    tcase_add_test(t, every_level_and_one_thread);
    tcase_add_test(t, an_interrupted_one_keeps_what_it_has);
    suite_add_tcase(s, t);
    return testing_main(s);
}
