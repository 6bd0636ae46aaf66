/* A host program whose locale writes 0,5: policies and prompt files are read, and metadata written,
 * as under the C locale. */
#include "attention/policy.h"
#include "prompts/rows.h"
#include "sampler/run.h"
#include "sampler/tessera.h"
#include "tests/comma_locale.h"
#include "tests/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char POLICY[] = "adaspa:keep=0.2,search-steps=2,dense-layers=0";

static void check_policy(void)
{
    ts_err err;
    ts_policy p, again;
    ck_assert_msg(ts_policy_parse(&err, POLICY, &p) == TS_OK, "%s", err.text);
    ck_assert(p.keep == 0.2);
    ck_assert(ts_policy_parse(&err, "adaspa:keep=0,2", &again) == TS_EUSAGE);
    char *text = ts_policy_text(&p);
    ck_assert_msg(strstr(text, "keep=0.2,") != NULL, "%s", text);
    ck_assert_msg(ts_policy_parse(&err, text, &again) == TS_OK, "%s: %s", text, err.text);
    ck_assert(again.keep == 0.2);
    free(text);
}

static void check_prompt_file(void)
{
    char path[512], *folder = testing_tmp();
    ts_err err;
    ts_prompts *rows;
    snprintf(path, sizeof path, "%s/p.jsonl", folder);
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fputs("{\"prompt\": \"a panda\", \"guidance\": 4.25, \"shift\": 0.1}\n", f);
    fclose(f);
    ck_assert_msg(ts_prompts_read(&err, path, &rows) == TS_OK, "%s", err.text);
    ck_assert(rows->rows == 1 && rows->faults == 0 && rows->row[0].fields == 2);
    ck_assert_str_eq(rows->row[0].field[0].value, "4.25");
    ck_assert_str_eq(rows->row[0].field[1].value, "0.1");
    ts_prompts_free(rows);
    free(folder);
}

/* *json, *parameters: of a run whose numbers are no whole ones; malloc'd. What the metadata say is
 * read back. */
static void describe_run(char **json, char **parameters)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    ts_model *m = NULL;
    ts_run *r = NULL;
    ts_request q, back;
    ts_estimate e;
    ck_ok(c, ts_model_open(c, "weights/default", &m));
    ts_request_init(m, &q);
    q.prompt = "a panda";
    q.width = q.height = 64;
    q.frames = 5;
    q.steps = 4;
    q.guidance = 4.25;
    q.shift = 2.5;
    q.fps = 23.976;
    q.attention = POLICY;
    q.seed = UINT64_MAX;
    ck_ok(c, ts_run_open(m, &q, &r, &e));
    *json = ts_run_json(r);
    *parameters = ts_run_parameters(r);
    ts_request_init(m, &back);
    ck_ok(c, ts_request_from_json(m, *json, &back));
    ck_assert(back.guidance == 4.25 && back.shift == 2.5 && back.fps == 23.976 &&
              back.seed == UINT64_MAX);
    ts_run_close(r);
    r = NULL;
    ck_ok(c, ts_run_open(m, &back, &r, &e)); /* its attention, too */
    ts_run_close(r);
    ts_request_free(&back);
    ts_model_close(m);
    testing_close(c);
}

/* A refusal, and what a sparse run says of itself. */
static char *sentences(void)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    ts_model *m = NULL;
    ts_run *r = NULL;
    ts_request q;
    char *report, *all = NULL;
    ck_ok(c, ts_model_open(c, "weights/default", &m));
    ts_request_init(m, &q);
    q.fps = 1000.5;
    ck_assert_int_eq(ts_run_open(m, &q, &r, NULL), TS_EUSAGE);
    ck_assert_msg(strstr(ts_error(c), "1000.5 frames a second") != NULL, "%s", ts_error(c));
    ts_request_init(m, &q);
    q.prompt = "a panda";
    q.width = q.height = 128;
    q.frames = 5;
    q.steps = 4;
    q.attention = POLICY;
    ck_ok(c, ts_run_open(m, &q, &r, NULL));
    ck_ok(c, ts_run_encode(r));
    ck_ok(c, ts_run_denoise(r, NULL));
    report = ts_run_attention(r);
    ck_assert_ptr_nonnull(report);
    for (const char *s = strstr(report, "kept "); *s && *s != '\n'; s++)
        ck_assert_msg(*s != ',' || s[1] == ' ', "%s", report);
    ck_assert_ptr_nonnull(strstr(report, "kept "));
    char *end = strstr(report, "  time ");
    if (end) *end = 0; /* clocks differ */
    ck_assert_int_ge(asprintf(&all, "%s%s", ts_error(c), report), 0);
    free(report);
    ts_run_close(r);
    ts_model_close(m);
    testing_close(c);
    return all;
}

START_TEST(test_same_under_a_comma)
{
    char *json[2], *parameters[2], *said[2];
    check_policy();
    check_prompt_file();
    describe_run(json, parameters);
    said[0] = sentences();
    ck_assert_msg(strstr(parameters[0], "CFG scale: 4.25,") != NULL, "%s", parameters[0]);
    if (!comma_locale_set()) goto done;
    check_policy();
    check_prompt_file();
    describe_run(json + 1, parameters + 1);
    said[1] = sentences();
    comma_locale_reset();
    ck_assert_str_eq(json[0], json[1]);
    ck_assert_str_eq(parameters[0], parameters[1]);
    ck_assert_str_eq(said[0], said[1]);
    free(said[1]);
    free(json[1]);
    free(parameters[1]);
done:
    free(said[0]);
    free(json[0]);
    free(parameters[0]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("locale");
    TCase *t = tcase_create("all");
    suite_add_tcase(s, t);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_same_under_a_comma);
    return testing_main(s);
}
