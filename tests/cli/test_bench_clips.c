/* The command bench on clips and single evaluations: tables, JSON and page hold what was measured, mistakes are sentences, what was measured before a signal is kept. */
#include "tests/cli/program.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *tmp;

static cJSON *parse(const char *name)
{
    char path[4096], *text;
    snprintf(path, sizeof path, "%s/%s", tmp, name);
    text = program_slurp(path, NULL);
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

static const cJSON *list(const cJSON *j, const char *key, int n)
{
    const cJSON *l = cJSON_GetObjectItemCaseSensitive(j, key);
    ck_assert_msg(cJSON_GetArraySize(l) == n, "%s: %d, expected %d", key, cJSON_GetArraySize(l), n);
    return l;
}

static double median(const cJSON *l)
{
    double x[2] = {cJSON_GetArrayItem(l, 0)->valuedouble, cJSON_GetArrayItem(l, 1)->valuedouble};
    return (x[0] + x[1]) / 2;
}

/* Two prompts, two turns: seconds are sums over prompts of medians, gains follow from them, a policy that reads everything is the dense clip to its last bits. */
START_TEST(clips)
{
    const program_result *r = program_run("bench 'a fox' 'a panda' --frames 5 --steps 3 --repeats 2 --attention adaspa:keep=0.5,min-tokens=0 --attention window:keep=1,min-tokens=0 "
                                          "--attention tile --json %s/b.json --html %s/b.html", tmp, tmp);
    program_expect(r, 0);
    ck_assert(strstr(r->out, "dense ") && strstr(r->out, "adaspa:keep=0.5,min-tokens=0") && strstr(r->out, "PSNR") && strstr(r->out, "1.00x"));
    ck_assert_msg(strstr(r->err, "fewer than min-tokens"), "%s", r->err); /* of tile */
    cJSON *j = parse("b.json");
    ck_assert(cJSON_IsTrue(cJSON_GetObjectItem(j, "complete")) && number(j, "tokens") == 128 && number(j, "frames") == 5);
    list(j, "prompts", 2);
    const cJSON *policies = list(j, "policies", 4), *p;
    double dense = number(cJSON_GetArrayItem(policies, 0), "seconds");
    cJSON_ArrayForEach(p, policies)
    {
        const cJSON *prompts = list(p, "prompts", 2), *q;
        double sum = 0;
        bool first = p == cJSON_GetArrayItem(policies, 0);
        cJSON_ArrayForEach(q, prompts)
        {
            sum += median(list(q, "seconds", 2));
            list(q, "mse", first ? 0 : 5), list(q, "ssim", first ? 0 : 5);
        }
        ck_assert(fabs(sum - number(p, "seconds")) < 1e-9 && fabs(number(p, "speed_up") - dense / sum) < 1e-9);
    }
    p = cJSON_GetArrayItem(policies, 1);
    ck_assert(number(p, "kept") == 0.5 && number(p, "recall") > 0.4 && number(p, "recall") < 1 && number(p, "psnr") > 5 && number(p, "ssim") < 1 && number(p, "calls_sparse") > 0);
    p = cJSON_GetArrayItem(policies, 2);
    ck_assert(number(p, "kept") == 1 && (isnan(number(p, "psnr")) || number(p, "psnr") > 40) && number(p, "ssim") > 0.999);
    p = cJSON_GetArrayItem(policies, 3);
    ck_assert(number(p, "calls_sparse") == 0 && isnan(number(p, "psnr")) && number(p, "ssim") == 1); /* dense: equal */
    cJSON_Delete(j);
    char path[4096];
    snprintf(path, sizeof path, "%s/b.html", tmp);
    char *page = program_slurp(path, NULL);
    ck_assert(strstr(page, "<!DOCTYPE html>") == page && strstr(page, "data:video/mp4;base64,") && strstr(page, "data:image/png;base64,") && strstr(page, "<svg") && strstr(page, "a panda"));
    ck_assert_msg(!strstr(page, "src=\"http") && !strstr(page, "href=\"http"), "the page loads something");
    free(page);
}
END_TEST

START_TEST(sweeps)
{
    const program_result *r = program_run("bench 'a fox' --frames 1 --steps 2 --repeats 1 --attention window:min-tokens=0 --attention tile:min-tokens=0 --sweep keep=0.5:1:0.25 --json %s/s.json --html %s/s.html", tmp, tmp);
    program_expect(r, 0);
    cJSON *j = parse("s.json");
    const cJSON *p = list(j, "policies", 5);
    static const char *const names[] = {"dense", "window:min-tokens=0,keep=0.5", "window:min-tokens=0,keep=0.75", "window:min-tokens=0,keep=1", "tile:min-tokens=0"};
    for (int i = 0; i < 5; i++) ck_assert_str_eq(cJSON_GetObjectItem(cJSON_GetArrayItem(p, i), "attention")->valuestring, names[i]);
    cJSON_Delete(j);
}
END_TEST

START_TEST(single_evaluations)
{
    static const char *const models[] = {"weights/default", "tests/fixtures/wan22-a14b/model", "tests/fixtures/pixart-alpha-1024-micro/model"};
    for (int m = 0; m < 3; m++) {
        const program_result *r = program_run("bench --step --model %s %s --steps 10 --attention adaspa:min-tokens=0 --attention pooled:min-tokens=0 --attention tile:min-tokens=0 --json %s/e%d.json", models[m],
                                              m == 2 ? "--size 256x256 --no-bins" : m ? "--size 64x64 --frames 9" : "--frames 13", tmp, m);
        if (m == 2 && r->code == 2) r = program_run("bench --step --model %s --steps 10 --attention adaspa:min-tokens=0 --attention pooled:min-tokens=0 --attention tile:min-tokens=0 --json %s/e2.json", models[m], tmp);
        program_expect(r, 0);
        char name[24];
        snprintf(name, sizeof name, "e%d.json", m);
        cJSON *j = parse(name);
        const cJSON *p;
        static const int kinds[] = {1, 4, 2, 2};
        int i = 0;
        cJSON_ArrayForEach(p, list(j, "policies", 4))
        {
            const cJSON *e, *all = list(p, "evaluations", kinds[i++]);
            double steps = 0, seconds = 0;
            cJSON_ArrayForEach(e, all)
            {
                steps += number(e, "of_steps"), seconds += number(e, "of_steps") * number(e, "seconds");
                ck_assert(number(e, "seconds") >= number(e, "linear_seconds") + number(e, "attention_seconds") && number(e, "attention_seconds") >= number(e, "search_seconds"));
            }
            ck_assert(steps == 10 && fabs(seconds - number(p, "seconds")) < 1e-6 * seconds);
        }
        cJSON_Delete(j);
    }
}
END_TEST

START_TEST(mistakes)
{
    static const struct { const char *args; int code; const char *says; } slips[] = {
        {"bench x --sweep keep=0.5", 2, "wanted KEY=FROM:TO:STEP"},
        {"bench x --sweep keep=0.5:0.1:0.1", 2, "wanted KEY=FROM:TO:STEP"},
        {"bench x --attention tile --sweep keep=0.1:0.5:0.1", 2, "none of the policies takes keep"},
        {"bench x --attention adaspa:kep=0.2", 2, "no key \"kep\""},
        {"bench x --attention sparse", 2, "no such policy"},
        {"bench --step x", 2, "takes no argument"},
        {"bench --step --kernel", 2, "exclude each other"},
        {"bench --step --html /tmp/x.html", 2, "--html goes with prompts, not with --step"},
        {"bench x --html README.md", 2, "exists: --overwrite"},
        {"bench x --json /nonexistent/b.json", 4, "can not write into"},
        {"bench x --model /nonexistent", 3, "there is no such folder"},
    };
    for (size_t i = 0; i < sizeof slips / sizeof *slips; i++) {
        const program_result *r = program_run("%s", slips[i].args);
        program_expect(r, slips[i].code);
        ck_assert_msg(strstr(r->err, slips[i].says), "%s: %s", slips[i].args, r->err);
    }
}
END_TEST

START_TEST(stopped)
{
    char err[4096], out[4096];
    snprintf(err, sizeof err, "%s/err", tmp), snprintf(out, sizeof out, "%s/out", tmp);
    pid_t pid = program_start(err, "bench 'a fox' --frames 5 --steps 4 --repeats 1000 --attention adaspa:min-tokens=0 --json %s/k.json >%s", tmp, out);
    ck_assert(program_says(pid, err, "turn 2 of"));
    kill(pid, SIGINT);
    ck_assert_int_eq(program_wait(pid), 130);
    cJSON *j = parse("k.json");
    ck_assert(cJSON_IsFalse(cJSON_GetObjectItem(j, "complete")) && number(cJSON_GetArrayItem(list(j, "policies", 2), 0), "seconds") > 0);
    cJSON_Delete(j);
    char *text = program_slurp(out, NULL);
    ck_assert_msg(strstr(text, "adaspa:min-tokens=0"), "%s", text);
    free(text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bench of clips");
    TCase *tc = tcase_create("bench of clips");
    tmp = testing_tmp();
    tcase_add_test(tc, clips);
    tcase_add_test(tc, sweeps);
    tcase_add_test(tc, single_evaluations);
    tcase_add_test(tc, mistakes);
    tcase_add_test(tc, stopped);
    suite_add_tcase(suite, tc);
    int failed = testing_main(suite);
    free(tmp);
    return failed;
}
