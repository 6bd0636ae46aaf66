/* The command bench on clips and single evaluations: tables, JSON and page hold what was measured,
 * mistakes are sentences, what was measured before a signal is kept. */
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

/* Two prompts, two turns: seconds are sums over prompts of medians, gains follow from them, a
 * policy that reads everything is the dense clip to its last bits. */
START_TEST(clips)
{
    const program_result *r = program_run(
        "bench 'a fox' 'a panda' --size 64x64 --frames 5 --steps 3 --repeats 2 --attention "
        "adaspa:keep=0.5,min-tokens=0 --attention window:keep=1,min-tokens=0 "
        "--attention tile --json %s/b.json --html %s/b.html",
        tmp, tmp);
    program_expect(r, 0);
    ck_assert(strstr(r->out, "dense ") && strstr(r->out, "adaspa:keep=0.5,min-tokens=0") &&
              strstr(r->out, "PSNR") && strstr(r->out, "1.00x"));
    ck_assert_msg(strstr(r->err, "fewer than min-tokens"), "%s", r->err); /* of tile */
    cJSON *j = parse("b.json");
    ck_assert(cJSON_IsTrue(cJSON_GetObjectItem(j, "complete")) && number(j, "tokens") == 128 &&
              number(j, "frames") == 5);
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
            list(q, "mse", first ? 0 : 5);
            list(q, "ssim", first ? 0 : 5);
        }
        ck_assert(fabs(sum - number(p, "seconds")) < 1e-9 &&
                  fabs(number(p, "speed_up") - dense / sum) < 1e-9);
    }
    p = cJSON_GetArrayItem(policies, 1);
    ck_assert(number(p, "kept") == 0.5 && number(p, "recall") > 0.4 && number(p, "recall") < 1 &&
              number(p, "psnr") > 5 && number(p, "ssim") < 1 && number(p, "calls_sparse") > 0 &&
              number(p, "latents") > 0.01 && number(p, "latents") < 2);
    p = cJSON_GetArrayItem(policies, 2);
    ck_assert(number(p, "kept") == 1 && (isnan(number(p, "psnr")) || number(p, "psnr") > 40) &&
              number(p, "ssim") > 0.999);
    p = cJSON_GetArrayItem(policies, 3);
    /* dense: equal */
    ck_assert(number(p, "calls_sparse") == 0 && isnan(number(p, "psnr")) &&
              number(p, "ssim") == 1 && number(p, "latents") == 0);
    cJSON_Delete(j);
    char path[4096];
    snprintf(path, sizeof path, "%s/b.html", tmp);
    char *page = program_slurp(path, NULL);
    ck_assert(strstr(page, "<!DOCTYPE html>") == page && strstr(page, "data:video/mp4;base64,") &&
              strstr(page, "data:image/png;base64,") && strstr(page, "<svg") &&
              strstr(page, "a panda"));
    ck_assert_msg(!strstr(page, "src=\"http") && !strstr(page, "href=\"http"),
                  "the page loads something");
    free(page);
}
END_TEST

START_TEST(sweeps)
{
    const program_result *r = program_run(
        "bench 'a fox' --frames 1 --steps 2 --repeats 1 --attention window:min-tokens=0 "
        "--attention tile:min-tokens=0 --sweep keep=0.5:1:0.25 --json %s/s.json --html %s/s.html",
        tmp, tmp);
    program_expect(r, 0);
    cJSON *j = parse("s.json");
    const cJSON *p = list(j, "policies", 5);
    static const char *const names[] = {"dense", "window:min-tokens=0,keep=0.5",
                                        "window:min-tokens=0,keep=0.75",
                                        "window:min-tokens=0,keep=1", "tile:min-tokens=0"};
    for (int i = 0; i < 5; i++)
        ck_assert_str_eq(cJSON_GetObjectItem(cJSON_GetArrayItem(p, i), "attention")->valuestring,
                         names[i]);
    cJSON_Delete(j);
}
END_TEST

/* What turned out dense gains nothing by chance, on a quiet machine or a busy one. */
START_TEST(what_is_dense_saves_nothing)
{
    const program_result *r = program_run(
        "bench 'a fox' --size 64x64 --frames 1 --steps 2 --repeats 1 --attention tile "
        "--attention window");
    program_expect(r, 0);
    ck_assert_msg(strstr(r->out, "\n  tile saves nothing and changes nothing\n") &&
                      strstr(r->out, "\n  window saves nothing and changes nothing\n"),
                  "%s", r->out);
}
END_TEST

/* Every policy with step caching too; what a threshold of 1000 leaves is five of ten steps. */
START_TEST(products_with_step_caching)
{
    program_expect(
        program_run("bench 'a panda' --size 64x64 --frames 5 --steps 10 --repeats 1 --attention "
                    "window:min-tokens=0,keep=0.5 --cache-steps "
                    "easycache:threshold=1000,first=4 --json %s/cs.json",
                    tmp),
        0);
    cJSON *j = parse("cs.json");
    const cJSON *p = list(j, "policies", 4);
    static const char *const names[] = {
        "dense", "window:min-tokens=0,keep=0.5", "dense, easycache:threshold=1000,first=4",
        "window:min-tokens=0,keep=0.5, easycache:threshold=1000,first=4"};
    for (int i = 0; i < 4; i++)
        ck_assert_str_eq(cJSON_GetObjectItem(cJSON_GetArrayItem(p, i), "attention")->valuestring,
                         names[i]);
    ck_assert_double_eq_tol(number(cJSON_GetArrayItem(p, 2), "ideal"), 2, 1e-6);
    ck_assert_double_gt(number(cJSON_GetArrayItem(p, 3), "ideal"), 2);
    ck_assert(number(cJSON_GetArrayItem(p, 2), "psnr") > 5 &&
              number(cJSON_GetArrayItem(p, 2), "psnr") < 60);
    cJSON_Delete(j);
    program_expect(program_run("bench x --cache-steps teacache"), 2);
    program_expect(program_run("bench --step --cache-steps easycache"), 2);
}
END_TEST

START_TEST(single_evaluations)
{
    static const char *const models[] = {"weights/default", "tests/fixtures/wan22-a14b/model",
                                         "tests/fixtures/pixart-alpha-1024-micro/model"};
    for (int m = 0; m < 3; m++) {
        const program_result *r = program_run(
            "bench --step --model %s %s --steps 10 --attention adaspa:min-tokens=0 --attention "
            "pooled:min-tokens=0 --attention tile:min-tokens=0 --json %s/e%d.json",
            models[m],
            m == 2 ? "--size 256x256 --no-bins"
            : m    ? "--size 64x64 --frames 9"
                   : "--frames 13",
            tmp, m);
        if (m == 2 && r->code == 2)
            r = program_run(
                "bench --step --model %s --steps 10 --attention adaspa:min-tokens=0 --attention "
                "pooled:min-tokens=0 --attention tile:min-tokens=0 --json %s/e2.json",
                models[m], tmp);
        program_expect(r, 0);
        char name[24];
        snprintf(name, sizeof name, "e%d.json", m);
        cJSON *j = parse(name);
        const cJSON *p;
        static const int kinds[] = {1, 3, 2, 2};
        int i = 0;
        cJSON_ArrayForEach(p, list(j, "policies", 4))
        {
            const cJSON *e, *all = list(p, "evaluations", kinds[i++]);
            double steps = 0, seconds = 0;
            cJSON_ArrayForEach(e, all)
            {
                steps += number(e, "of_steps");
                seconds += number(e, "of_steps") * number(e, "seconds");
                ck_assert(number(e, "seconds") >=
                              number(e, "linear_seconds") + number(e, "attention_seconds") &&
                          number(e, "attention_seconds") >= number(e, "search_seconds"));
                ck_assert(number(e, "linear_seconds") > 0 && number(e, "attention_seconds") > 0);
            }
            ck_assert(steps == 10 && fabs(seconds - number(p, "seconds")) < 1e-6 * seconds &&
                      number(p, "cpu_seconds") > 0);
            /* one turn: nothing is known of how far they lie apart */
            const char *why = cJSON_GetStringValue(cJSON_GetObjectItem(p, "void"));
            bool impossible = number(p, "speed_up") > 1.02 * number(p, "ideal");
            ck_assert_msg(why ? impossible || strstr(why, "busy") : !impossible, "%s",
                          why ? why : "no doubt");
        }
        cJSON_Delete(j);
    }
}
END_TEST

START_TEST(mistakes)
{
    static const struct {
        const char *args;
        int code;
        const char *says;
    } slips[] = {
        {"bench x --sweep keep=0.5", 2, "wanted KEY=FROM:TO:STEP"},
        {"bench x --sweep keep=0.5:0.1:0.1", 2, "wanted KEY=FROM:TO:STEP"},
        {"bench x --attention tile --sweep keep=0.1:0.5:0.1", 2, "none of the policies takes keep"},
        {"bench x --attention adaspa:kep=0.2", 2, "no key \"kep\""},
        {"bench x --attention sparse", 2, "no such policy"},
        {"bench --step x", 2, "takes no argument"},
        {"bench --step --kernel", 2, "exclude each other"},
        {"bench --step --html README.md", 2, "--html: README.md exists: --overwrite"},
        {"bench --kernel --html /nonexistent/k.html", 4, "can not write into"},
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
    snprintf(err, sizeof err, "%s/err", tmp);
    snprintf(out, sizeof out, "%s/out", tmp);
    pid_t pid = program_start(
        err,
        "bench 'a fox' --size 64x64 --frames 5 --steps 4 --repeats 1000 --attention "
        "adaspa:min-tokens=0 --json %s/k.json >%s",
        tmp, out);
    ck_assert(program_says(pid, err, "turn 2/"));
    kill(pid, SIGINT);
    ck_assert_int_eq(program_wait(pid), 130);
    cJSON *j = parse("k.json");
    ck_assert(cJSON_IsFalse(cJSON_GetObjectItem(j, "complete")) &&
              number(cJSON_GetArrayItem(list(j, "policies", 2), 0), "seconds") > 0);
    cJSON_Delete(j);
    char *text = program_slurp(out, NULL);
    ck_assert_msg(strstr(text, "adaspa:min-tokens=0"), "%s", text);
    free(text);
}
END_TEST

/* ---- the arithmetic, from what the file holds of every turn ---- */
static int ascending(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return a < b ? -1 : a > b;
}

/* of three */
static double middle(const cJSON *l, double *least, double *most)
{
    double x[3];
    ck_assert_int_eq(cJSON_GetArraySize(l), 3);
    for (int i = 0; i < 3; i++) x[i] = cJSON_GetArrayItem(l, i)->valuedouble;
    qsort(x, 3, sizeof *x, ascending);
    *least += x[0];
    *most += x[2];
    return x[1];
}

static void same(double got, double want, const char *what)
{
    ck_assert_msg(fabs(got - want) <= 1e-9 * fabs(want), "%s: %.12g, expected %.12g", what, got,
                  want);
}

/* A row of the table: its cells are the file's numbers, rounded. */
static void check_cells(const char *out, const cJSON *p, bool dense)
{
    const char *name = cJSON_GetObjectItem(p, "attention")->valuestring;
    char cell[12][32], want[12][32], begins[256];
    bool stands = dense || cJSON_IsNull(cJSON_GetObjectItem(p, "void"));
    snprintf(begins, sizeof begins, "\n%s ", name);
    const char *line = strstr(out, begins);
    ck_assert_msg(line != NULL, "no row of %s in\n%s", name, out);
    int n = sscanf(line + strlen(begins),
                   "%31s %31s %31s %31s %31s %31s %31s %31s %31s %31s %31s "
                   "%31s",
                   cell[0], cell[1], cell[2], cell[3], cell[4], cell[5], cell[6], cell[7], cell[8],
                   cell[9], cell[10], cell[11]);
    ck_assert_int_eq(n, 12);
    ck_assert_int_eq(line[strcspn(line + 1, "\n")] == '*',
                     cJSON_IsTrue(cJSON_GetObjectItem(p, "frontier")));
    snprintf(want[0], 32, "%.3f", number(p, "seconds"));
    snprintf(want[1], 32, "%.3f", number(p, "cpu_seconds"));
    snprintf(want[2], 32, "%.1f%%",
             100 * (number(p, "slowest") - number(p, "fastest")) / number(p, "seconds"));
    snprintf(want[3], 32, stands ? "%.2fx" : "void", number(p, "speed_up"));
    snprintf(want[4], 32, "%.2fx", number(p, "ideal"));
    snprintf(want[5], 32, "%.3f", number(p, "attention_seconds"));
    snprintf(want[6], 32, stands ? "%.2fx" : "void", number(p, "attention_speed_up"));
    snprintf(want[7], 32, number(p, "calls_sparse") > 0 ? "%.3f" : "-", number(p, "kept"));
    snprintf(want[8], 32, isnan(number(p, "recall")) ? "-" : "%.3f", number(p, "recall"));
    snprintf(want[9], 32,
             dense                      ? "-"
             : isnan(number(p, "psnr")) ? "equal"
                                        : "%.2f",
             number(p, "psnr"));
    snprintf(want[10], 32, dense ? "-" : "%.4f", number(p, "ssim"));
    snprintf(want[11], 32, dense ? "-" : "%.2f%%", 100 * number(p, "latents"));
    for (int i = 0; i < 12; i++)
        ck_assert_msg(!strcmp(cell[i], want[i]), "%s, column %d: %s, expected %s", name, i + 1,
                      cell[i], want[i]);
}

/* What is void follows from the file's own numbers, and is said. */
static void check_void(const char *out, const cJSON *j, const cJSON *dense, const cJSON *p)
{
    const char *why = cJSON_GetStringValue(cJSON_GetObjectItem(p, "void")),
               *machine = cJSON_GetStringValue(cJSON_GetObjectItem(j, "void"));
    double apart = fmax(number(dense, "slowest") - number(dense, "fastest"),
                        number(p, "slowest") - number(p, "fastest"));
    bool busy = number(j, "taken") > 0.1,
         impossible = number(p, "speed_up") > 1.02 * number(p, "ideal"),
         blurred = apart > fabs(number(dense, "seconds") - number(p, "seconds"));
    /* within a moment the machine says nothing but its load */
    if (!isnan(number(j, "taken"))) ck_assert_int_eq(busy, machine != NULL);
    if (machine) ck_assert(strstr(machine, "busy") && strstr(out, "\nvoid: the machine was busy"));
    if (p == dense) return;
    ck_assert_msg((machine || impossible || blurred) == (why != NULL), "%s",
                  why ? why : "no doubt");
    if (!why) return;
    ck_assert_msg((strstr(why, "busy") != NULL) == (machine != NULL) &&
                      (strstr(why, "arithmetic allows") != NULL) == impossible &&
                      (strstr(why, "apart") != NULL) == blurred,
                  "%s", why);
    ck_assert(machine || strstr(out, why));
}

/* Three turns of two prompts; 3 steps: adaspa searches in the first, again in the second; window is
 * dense in the first. */
START_TEST(arithmetic)
{
    static const char *const given =
        "bench 'a fox' 'a cake' --size 64x64 --frames 5 --steps 3 --repeats 3 --attention "
        "adaspa:keep=0.5,min-tokens=0,adaptive=off --attention window:keep=0.5,min-tokens=0 "
        "--attention pooled:keep=0.5,min-tokens=0 "
        "--attention window:keep=0.5 --json %s/a.json";
    const double gain[] = {1, 3 / (1 + 0.5 + 2 * 0.5), 3 / (1 + 2 * 0.5), 3 / (1 + 2 * 0.5), 1};
    /* steps that are dense, that search, that are sparse; each of 8 layers, 2 branches, 2
     * prompts */
    static const int calls[][3] = {{3, 0, 0}, {0, 2, 2}, {1, 0, 2}, {1, 0, 2}, {3, 0, 0}};
    const program_result *r = program_run(given, tmp);
    program_expect(r, 0);
    cJSON *j = parse("a.json");
    const cJSON *policies = list(j, "policies", 5), *dense = cJSON_GetArrayItem(policies, 0);
    ck_assert(number(j, "repeats") == 3 && number(j, "cores") > 0 &&
              cJSON_GetArraySize(cJSON_GetObjectItem(j, "load")) == 2 &&
              strlen(cJSON_GetObjectItem(j, "date")->valuestring) == 20);
    for (int i = 0; i < 5; i++) {
        const cJSON *p = cJSON_GetArrayItem(policies, i), *q;
        double seconds = 0, cpu = 0, attention = 0, least = 0, most = 0, ignored = 0, limit = 0,
               mse = 0, ssim = 0;
        int k = 0;
        cJSON_ArrayForEach(q, list(p, "prompts", 2))
        {
            const cJSON *d = cJSON_GetArrayItem(cJSON_GetObjectItem(dense, "prompts"), k++), *e;
            double all = middle(cJSON_GetObjectItem(d, "seconds"), &ignored, &ignored),
                   a = middle(cJSON_GetObjectItem(d, "attention_seconds"), &ignored, &ignored);
            ck_assert(a > 0 && a < all);
            seconds += middle(cJSON_GetObjectItem(q, "seconds"), &least, &most);
            attention += middle(cJSON_GetObjectItem(q, "attention_seconds"), &ignored, &ignored);
            cpu += middle(cJSON_GetObjectItem(q, "cpu_seconds"), &ignored, &ignored);
            same(number(q, "attention_gain"), gain[i], "gain");
            limit += all - a + a / gain[i];
            cJSON_ArrayForEach(e, cJSON_GetObjectItem(q, "mse")) mse += e->valuedouble / 10;
            cJSON_ArrayForEach(e, cJSON_GetObjectItem(q, "ssim")) ssim += e->valuedouble / 10;
        }
        same(number(p, "seconds"), seconds, "seconds");
        same(number(p, "attention_seconds"), attention, "attention");
        same(number(p, "cpu_seconds"), cpu, "CPU seconds");
        same(number(p, "fastest"), least, "fastest");
        same(number(p, "slowest"), most, "slowest");
        same(number(p, "speed_up"), number(dense, "seconds") / seconds, "speed-up");
        same(number(p, "attention_speed_up"), number(dense, "attention_seconds") / attention,
             "speed-up of attention");
        same(number(p, "ideal"), number(dense, "seconds") / limit, "ideal");
        if (i) same(number(p, "ssim"), ssim, "SSIM");
        double apart = 0;
        cJSON_ArrayForEach(q, cJSON_GetObjectItem(p, "prompts")) apart += number(q, "latents") / 2;
        if (i) same(number(p, "latents"), apart, "latents");
        ck_assert(i ? cJSON_IsBool(cJSON_GetObjectItem(p, "frontier"))
                    : cJSON_IsNull(cJSON_GetObjectItem(p, "latents")));
        ck_assert(number(p, "calls_dense") == 32 * calls[i][0] &&
                  number(p, "calls_searched") == 32 * calls[i][1] &&
                  number(p, "calls_sparse") == 32 * calls[i][2]);
        if (mse > 0) same(number(p, "psnr"), 10 * log10(255 * 255 / mse), "PSNR");
        check_cells(r->out, p, !i);
        check_void(r->out, j, dense, p);
    }
    same(number(dense, "speed_up"), 1, "dense");
    same(number(dense, "ideal"), 1, "dense");
    const cJSON *words;
    cJSON_ArrayForEach(words, cJSON_GetObjectItem(j, "verdict"))
        ck_assert_msg(strstr(r->out, words->valuestring) != NULL, "%s", words->valuestring);
    ck_assert_int_eq(cJSON_IsTrue(cJSON_GetObjectItem(j, "verdict_measured")),
                     !strstr(r->out, "By arithmetic, measured gains are void"));
    ck_assert_msg(strstr(r->out, "without text encoder and VAE") &&
                      strstr(r->out, "load of the machine"),
                  "%s", r->out);
    const char *warned = strstr(r->err, "fewer than min-tokens");
    ck_assert_msg(warned && !strstr(warned + 1, "fewer than min-tokens"),
                  "one warning for all turns and prompts\n%s", r->err);
    cJSON_Delete(j);
}
END_TEST

/* ---- the page ---- */
static int count(const char *page, const char *what)
{
    int n = 0;
    for (; (page = strstr(page, what)); page++) n++;
    return n;
}

static void check_page(const char *name)
{
    if (program_shell("command -v tidy")->code) {
        printf("skip: no tidy to check pages with\n");
        return;
    }
    /* it does not know two attributes of HTML's video, nor an svg within an svg */
    const program_result *r = program_shell(
        "tidy -q -e --drop-empty-elements no %s/%s 2>&1 | grep -v 'proprietary attribute "
        "\"\\(muted\\|playsinline\\)\"\\|<svg> proprietary attribute'",
        tmp, name);
    ck_assert_msg(!*r->out, "%s", r->out);
}

/* What an axis says a place stands for, from its first and last grid line: upright ones, or level
 * ones, each followed by its number. */
static double value_at(const char *curve, bool upright, double place)
{
    double x[2] = {0}, v[2] = {0};
    int n = 0;
    for (const char *s = curve; (s = strstr(s, "class=\"grid\"")); s++) {
        double x1, x2, y1, y2;
        const char *line = s;
        while (strncmp(line, "<line", 5)) line--;
        ck_assert_int_eq(sscanf(line, "<line x1=\"%lf%%\" x2=\"%lf%%\" y1=\"%lf\" y2=\"%lf\"", &x1,
                                &x2, &y1, &y2),
                         4);
        if (upright != (x1 == x2)) continue;
        const char *number = strstr(s, "<text");
        x[n > 0] = upright ? x1 : y1;
        v[n > 0] = strtod(strchr(number, '>') + 1, NULL);
        n++;
    }
    ck_assert_msg(n >= 2, "%d grid lines", n);
    return v[0] + (place - x[0]) / (x[1] - x[0]) * (v[1] - v[0]);
}

/* A point lies where its policy's numbers are on the axes, measured or by arithmetic: what is
 * across is written to a hundredth of a percent, what is upright to a tenth of a pixel, the point's
 * and those of the lines. Frames that are equal stand for 60 dB. */
static void check_points(const char *curve, const cJSON *policies, bool measured)
{
    const char *c = curve, *speed_key = measured ? "speed_up" : "ideal";
    for (int i = 1; (c = strstr(c, "<svg class=\"point\"")); i++, c++) {
        const cJSON *p = cJSON_GetArrayItem(policies, i);
        double x, y, unit[2], want = isnan(number(p, "psnr")) ? 60 : fmin(number(p, "psnr"), 60);
        ck_assert_int_eq(sscanf(c, "<svg class=\"point\" x=\"%lf%%\" y=\"%lf\"", &x, &y), 2);
        for (int upright = 0; upright < 2; upright++)
            unit[upright] = fabs(value_at(curve, upright, 1) - value_at(curve, upright, 0));
        double speed = value_at(curve, true, x), psnr = value_at(curve, false, y);
        ck_assert_msg(fabs(speed - number(p, speed_key)) <= 0.02 * unit[1] &&
                          fabs(psnr - want) <= 0.2 * unit[0],
                      "point %d stands for %gx, %g dB, its policy has %gx, %g dB", i, speed, psnr,
                      number(p, speed_key), want);
    }
}

/* Each series is one line of one colour; text is escaped; nothing is loaded. */
START_TEST(page_of_a_sweep)
{
    program_expect(
        program_run("bench 'a <b>\"fox\"</b> & hare' --size 64x64 --frames 5 --steps 2 --repeats 1 "
                    "--attention window:min-tokens=0 --attention tile:min-tokens=0 "
                    "--attention random:min-tokens=0 --sweep keep=0.25:0.75:0.25 "
                    "--json %s/p.json --html %s/p.html",
                    tmp, tmp),
        0);
    char path[4096], paint[64];
    snprintf(path, sizeof path, "%s/p.html", tmp);
    char *page = program_slurp(path, NULL), *curve = strstr(page, "id=\"curve\""),
         *end = curve ? strstr(curve, "</svg></div>") : NULL;
    ck_assert(end != NULL);
    ck_assert(strstr(page, "a &lt;b&gt;&quot;fox&quot;&lt;/b&gt; &amp; hare") &&
              !strstr(page, "<b>\"fox\""));
    ck_assert(count(page, "<video") == 8 && !strstr(page, "src=\"\"") && !strstr(page, "http:") &&
              !strstr(page, "https:") && !strstr(page, "@import") && !strstr(page, "url("));
    check_page("p.html");
    *end = 0;
    ck_assert_int_eq(count(curve, "<svg class=\"point\""), 7);
    int circles[] = {3, 1, 3}, at = 0;
    char *circle = curve, seen[3][8];
    for (int i = 0; i < 3; i++) {
        for (int k = 0; k < circles[i]; k++) {
            circle = strstr(circle + 1, "<svg class=\"point\"");
            char *fill = strstr(circle, "fill=\"#");
            if (!k) snprintf(seen[i], 8, "%s", fill + 6);
            ck_assert_msg(!strncmp(fill + 6, seen[i], 7),
                          "point %d has another colour than its line", at);
            at++;
        }
        for (int k = 0; k < i; k++) ck_assert_str_ne(seen[k], seen[i]);
        snprintf(paint, sizeof paint, "stroke=\"%s\"", seen[i]);
        ck_assert_int_eq(count(curve, paint), circles[i] - 1); /* between its points */
    }
    cJSON *j = parse("p.json");
    check_points(curve, cJSON_GetObjectItem(j, "policies"),
                 cJSON_IsTrue(cJSON_GetObjectItem(j, "verdict_measured")));
    free(page);
    static const char *const series[] = {
        NULL, "window:min-tokens=0", "window:min-tokens=0", "window:min-tokens=0",
        NULL, "random:min-tokens=0"};
    ck_assert_str_eq(cJSON_GetObjectItem(j, "sweep")->valuestring, "keep");
    for (int i = 0; i < 6; i++) {
        const cJSON *p = cJSON_GetArrayItem(list(j, "policies", 8), i),
                    *s = cJSON_GetObjectItem(p, "series");
        ck_assert(series[i] ? s && !strcmp(s->valuestring, series[i]) : !s);
        if (i > 0 && i < 4) ck_assert(number(p, "keep") == 0.25 * i);
    }
    cJSON_Delete(j);
}
END_TEST

/* The page says what the file says: what it comes to, and that measured gains are void. */
static void check_words(const char *page, const cJSON *j)
{
    const cJSON *line, *verdict = cJSON_GetObjectItem(j, "verdict");
    ck_assert_int_ge(cJSON_GetArraySize(verdict), 1);
    cJSON_ArrayForEach(line, verdict) ck_assert(strstr(page, line->valuestring) != NULL);
    bool measured = cJSON_IsTrue(cJSON_GetObjectItem(j, "verdict_measured"));
    ck_assert_int_eq(measured, !strstr(page, "Measured gains are void:"));
    ck_assert(!measured || cJSON_IsNull(cJSON_GetObjectItem(j, "void")));
}

/* The ideal's mark ends where the bar of a run of that pace would. */
START_TEST(bars_are_to_scale)
{
    program_expect(program_run("bench 'a fox' --frames 1 --steps 3 --repeats 2 --attention "
                               "window:min-tokens=0,keep=0.5 --json %s/q.json --html %s/q.html",
                               tmp, tmp),
                   0);
    cJSON *j = parse("q.json");
    const cJSON *d = cJSON_GetArrayItem(list(j, "policies", 2), 0),
                *p = cJSON_GetArrayItem(list(j, "policies", 2), 1);
    char path[4096];
    snprintf(path, sizeof path, "%s/q.html", tmp);
    char *page = program_slurp(path, NULL), *s = strstr(page, "id=\"seconds\"");
    /* one frame: a picture */
    ck_assert(s && strstr(page, "<img class=\"shown\" src=\"data:image/png") &&
              !strstr(page, "<video") && !strstr(page, "type=\"range\""));
    check_page("q.html");
    char *whisker = strstr(s, "class=\"whisker\"");
    double x[4], w[4], mark, from, to;
    /* two turns: the dense bar's */
    ck_assert(whisker && number(d, "slowest") > number(d, "fastest"));
    while (strncmp(whisker, "<line", 5)) whisker--;
    ck_assert_int_eq(sscanf(whisker, "<line x1=\"%lf%%\" x2=\"%lf%%\"", &from, &to), 2);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(sscanf(s = strstr(s + 1, "<rect"),
                                "<rect x=\"%lf%%\" y=\"%*d\" width=\"%lf%%\"", x + i, w + i),
                         2);
    ck_assert_int_eq(sscanf(strstr(s + 1, "<rect"), "<rect x=\"%lf%%\"", &mark), 1);
    double scale = (w[0] + w[1]) / number(d, "seconds");
    const struct {
        double got, want;
    } places[] = {{x[1], w[0]},
                  {x[3], w[2]},
                  {w[0], number(d, "attention_seconds") * scale},
                  {w[2], number(p, "attention_seconds") * scale},
                  {w[2] + w[3], number(p, "seconds") * scale},
                  {mark, number(d, "seconds") / number(p, "ideal") * scale},
                  {from, number(d, "fastest") * scale},
                  {to, number(d, "slowest") * scale}};
    ck_assert(x[0] == 0 && x[2] == 0);
    /* written to a hundredth: of two numbers, and of the two that the scale comes from, the more
     * the longer */
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        ck_assert_msg(fabs(places[i].got - places[i].want) <
                          0.011 + 0.01 * places[i].want / (w[0] + w[1]),
                      "place %zu is %g, expected %g", i, places[i].got, places[i].want);
    check_words(page, j);
    free(page);
    cJSON_Delete(j);
}
END_TEST

/* ---- single evaluations ---- */
/* Shares count dense layers in; a policy that answers dense has evaluations called so. 128 tokens:
 * two blocks. */
START_TEST(shares_of_single_evaluations)
{
    const program_result *r = program_run(
        "bench --step --size 64x64 --frames 5 --steps 10 --repeats 2 --attention "
        "window:min-tokens=0,keep=0.5,dense-layers=0+1 --attention "
        "adaspa:min-tokens=0,keep=0.5,adaptive=off --attention adaspa "
        "--attention window:min-tokens=0,dense-layers=0-7 --json %s/w.json",
        tmp);
    program_expect(r, 0);
    cJSON *j = parse("w.json");
    const cJSON *policies = list(j, "policies", 5), *p = cJSON_GetArrayItem(policies, 1), *e;
    double d = number(cJSON_GetArrayItem(policies, 0), "seconds"),
           a = number(cJSON_GetArrayItem(policies, 0), "attention_seconds");
    cJSON_ArrayForEach(e, list(p, "evaluations", 4))
    {
        bool dense = !strcmp(cJSON_GetObjectItem(e, "kind")->valuestring, "dense");
        same(number(e, "kept"), dense ? 1 : (2 + 6 * 0.5) / 8, "kept");
        same(number(e, "work"), number(e, "kept"), "work");
        same(number(e, "of_steps"), dense ? 2 : 8, "steps");
    }
    same(number(p, "ideal"), d / (d - a + a * (2 + 8 * 5 / 8.0) / 10), "ideal of window");
    p = cJSON_GetArrayItem(policies, 2);
    cJSON_ArrayForEach(e, list(p, "evaluations", 8))
    {
        const char *kind = cJSON_GetObjectItem(e, "kind")->valuestring;
        /* half of the blocks; a new search adds a half */
        same(number(e, "work"),
             !strncmp(kind, "dense", 5) ? 1
             : strcmp(kind, "sparse")   ? 1
                                        : 0.5,
             kind);
    }
    /* dense, searching in step 2, again in step 6 */
    same(number(p, "ideal"), d / (d - a + a * (3 + 0.5 * 7) / 10), "ideal of adaspa");
    for (int i = 3; i < 5; i++) {
        cJSON_ArrayForEach(e, list(cJSON_GetArrayItem(policies, i), "evaluations", 2))
            ck_assert(!strcmp(cJSON_GetObjectItem(e, "kind")->valuestring, "dense") &&
                      number(e, "of_steps") == 10 && number(e, "kept") == 1);
        same(number(cJSON_GetArrayItem(policies, i), "ideal"), 1, "ideal of what is dense");
    }
    cJSON_Delete(j);
}
END_TEST

START_TEST(slips_of_flags)
{
    static const struct {
        const char *args;
        int code;
        const char *says;
    } slips[] = {
        {"bench", 2, "a prompt"},
        {"bench x --tokens 512", 2, "--tokens goes with --kernel, not with prompts"},
        {"bench x --keep 0.2", 2, "--keep goes with --kernel, not with prompts"},
        {"bench --kernel --size 64x64", 2,
         "--size goes with prompts and --step, not with --kernel"},
        {"bench --kernel --attention adaspa", 2,
         "--attention goes with prompts and --step, not with --kernel"},
        {"bench --step --sweep keep=0.1:0.5:0.1", 2, "--sweep goes with prompts, not with --step"},
        {"bench --step --guidance 3", 2, "--guidance goes with prompts, not with --step"},
        {"bench --step --attention sparse", 2, "no such policy"},
        {"bench --step --repeats 65", 2, "expected at most 64"},
        {"bench x --sweep keep=0.1:0.5", 2, "wanted KEY=FROM:TO:STEP"},
        {"bench x --sweep keep=0.1:0.5:0", 2, "wanted KEY=FROM:TO:STEP"},
        {"bench x --sweep keep=0.1:0.5:0.001", 2, "at most 64 values"},
        {"bench x --sweep keep=nan:0.5:0.1", 2, "wanted KEY=FROM:TO:STEP"},
        {"bench x --sweep keep=0.1:0.5:0.1x", 2, "wanted KEY=FROM:TO:STEP"},
        {"bench x --attention adaspa --sweep keep=0.5:1.5:0.5", 2, "keep"},
        {"bench x --attention adaspa --attention pooled --attention window --sweep "
         "keep=0.2:0.8:0.02",
         2, "more than 64 policies"},
        {"bench x --html README.md/x.html", 4, "can not write into"},
        {"bench x --html /nonexistent/b.html", 4, "can not write into"},
        {"bench x --json README.md", 2, "exists: --overwrite"},
        {"bench x --json same --html same", 2, "both name same"},
        {"bench x --attention window:strict --size 96x96 --frames 1 --steps 1", 1, "strict"},
        {"bench --step --model /nonexistent", 3, "there is no such folder"},
    };
    char many[1024] = "bench x";
    for (size_t i = 0; i < sizeof slips / sizeof *slips; i++) {
        const program_result *r = program_run("%s", slips[i].args);
        program_expect(r, slips[i].code);
        ck_assert_msg(strstr(r->err, slips[i].says) && !*r->out &&
                          strchr(r->err, '\n') == strrchr(r->err, '\n'),
                      "%s: %s%s", slips[i].args, r->out, r->err);
    }
    for (int i = 0; i < 33; i++) strcat(many, " --attention adaspa");
    const program_result *r = program_run("%s", many);
    program_expect(r, 2);
    ck_assert_msg(strstr(r->err, "32"), "%s", r->err);
}
END_TEST

/* ---- signals ---- */
static int leftovers; /* in the folder of temporary files */

/* Runs until `text` is said, then Ctrl-C; k.json, k.html, out are what it leaves. */
static void interrupt(const char *args, const char *text)
{
    char err[4096], folder[4096];
    program_expect(program_shell("cd %s; rm -rf k.json k.html out err t; mkdir t", tmp), 0);
    snprintf(err, sizeof err, "%s/err", tmp);
    snprintf(folder, sizeof folder, "%s/t", tmp);
    const char *was = getenv("TMPDIR");
    char *kept = was ? strdup(was) : NULL;
    setenv("TMPDIR", folder, 1);
    pid_t pid = program_start(err, "bench %s --json %s/k.json >%s/out", args, tmp, tmp);
    if (kept)
        setenv("TMPDIR", kept, 1);
    else
        unsetenv("TMPDIR");
    free(kept);
    ck_assert_msg(program_says(pid, err, text), "it never said %s", text);
    kill(pid, SIGINT);
    ck_assert_int_eq(program_wait(pid), 130);
    leftovers = program_files(folder);
}

START_TEST(stopped_before_anything_is_measured)
{
    char path[4096];
    interrupt("'a fox' --size 128x128 --frames 29 --steps 1000 --repeats 1", "warming up");
    snprintf(path, sizeof path, "%s/out", tmp);
    char *out = program_slurp(path, NULL);
    ck_assert_str_eq(out, "");
    free(out);
    snprintf(path, sizeof path, "%s/k.json", tmp);
    ck_assert_int_ne(access(path, F_OK), 0);
}
END_TEST

START_TEST(stopped_in_the_first_turn)
{
    char path[4096];
    interrupt("'a fox' --size 64x64 --frames 13 --steps 30 --repeats 1 --attention "
              "window:min-tokens=0 --attention adaspa:min-tokens=0,search-steps=30",
              "turn 1/1: window");
    cJSON *j = parse("k.json");
    const cJSON *p = cJSON_GetObjectItem(j, "policies");
    int n = cJSON_GetArraySize(p);
    ck_assert_msg(cJSON_IsFalse(cJSON_GetObjectItem(j, "complete")) && n >= 1 && n <= 2 &&
                      number(cJSON_GetArrayItem(p, 0), "seconds") > 0,
                  "%d policies", n);
    cJSON_Delete(j);
    snprintf(path, sizeof path, "%s/out", tmp);
    char *out = program_slurp(path, NULL);
    ck_assert_msg(strstr(out, "\ndense ") && strstr(out, "stopped before its end") &&
                      !strstr(out, "adaspa"),
                  "%s", out);
    free(out);
}
END_TEST

START_TEST(stopped_while_decoding)
{
    char path[4096], args[8192];
    snprintf(args, sizeof args,
             "'a fox' --size 128x128 --frames 29 --steps 1 --repeats 1 --attention "
             "window:min-tokens=0 --attention adaspa:min-tokens=0 --html %s/k.html",
             tmp);
    interrupt(args, "comparing: adaspa");
    ck_assert_int_eq(leftovers, 0);
    cJSON *j = parse("k.json");
    const cJSON *p;
    ck_assert(cJSON_IsFalse(cJSON_GetObjectItem(j, "complete")));
    cJSON_ArrayForEach(p, list(j, "policies", 3)) ck_assert(number(p, "seconds") > 0);
    /* the last one has no frames */
    ck_assert(isnan(number(cJSON_GetArrayItem(list(j, "policies", 3), 2), "ssim")));
    cJSON_Delete(j);
    snprintf(path, sizeof path, "%s/k.html", tmp);
    char *page = program_slurp(path, NULL);
    ck_assert(strstr(page, "Stopped before its end") && !strstr(page, "src=\"\""));
    free(page);
    check_page("k.html");
}
END_TEST

START_TEST(stopped_between_single_evaluations)
{
    const cJSON *p, *e;
    interrupt(
        "--step --size 128x128 --frames 29 --steps 10 --repeats 64 --attention adaspa:min-tokens=0",
        "dense with a search:");
    cJSON *j = parse("k.json");
    ck_assert(cJSON_IsFalse(cJSON_GetObjectItem(j, "complete")));
    cJSON_ArrayForEach(p, cJSON_GetObjectItem(j, "policies"))
    {
        char seen[8][40] = {{0}};
        int n = 0, steps = 0;
        cJSON_ArrayForEach(e, cJSON_GetObjectItem(p, "evaluations"))
        {
            int i = 0;
            while (i < n && strcmp(seen[i], cJSON_GetObjectItem(e, "kind")->valuestring)) i++;
            if (i == n) {
                snprintf(seen[n++], 40, "%s", cJSON_GetObjectItem(e, "kind")->valuestring);
                steps += (int)number(e, "of_steps");
            }
        }
        ck_assert(n > 0 && (steps == 10) == !isnan(number(p, "seconds")) &&
                  (steps == 10) == !isnan(number(p, "ideal")));
    }
    cJSON_Delete(j);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bench of clips");
    TCase *tc = tcase_create("bench of clips");
    tmp = testing_tmp();
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, clips);
    tcase_add_test(tc, sweeps);
    tcase_add_test(tc, what_is_dense_saves_nothing);
    tcase_add_test(tc, products_with_step_caching);
    tcase_add_test(tc, single_evaluations);
    tcase_add_test(tc, mistakes);
    tcase_add_test(tc, stopped);
    tcase_add_test(tc, arithmetic);
    tcase_add_test(tc, page_of_a_sweep);
    tcase_add_test(tc, bars_are_to_scale);
    tcase_add_test(tc, shares_of_single_evaluations);
    tcase_add_test(tc, slips_of_flags);
    tcase_add_test(tc, stopped_before_anything_is_measured);
    tcase_add_test(tc, stopped_in_the_first_turn);
    tcase_add_test(tc, stopped_while_decoding);
    tcase_add_test(tc, stopped_between_single_evaluations);
    suite_add_tcase(suite, tc);
    int failed = testing_main(suite);
    free(tmp);
    return failed;
}
