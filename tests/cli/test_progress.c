/* What stderr says during a run: shares, time left, how often, in each of the three forms. A clock
 * of the test's own. */
#include "cli/flag_value.c"
#include "cli/flags.c"
#include "cli/flags_table.c"
#include "cli/progress.c"
#include "cli/progress_draw.c"

#include "tests/testing.h"

static double now;
static double tick(void) { return now; }
static char *text;
static size_t size;
static FILE *out;

static ts_screen screen(ts_screen_mode mode, int width)
{
    ts_screen s;
    now = 100;
    out = open_memstream(&text, &size);
    ts_screen_init(&s, TS_SCREEN_JSON, out);
    s.mode = mode;
    s.clock = tick;
    s.columns = width;
    s.began = now;
    return s;
}

static void start(ts_screen *s, double step, int steps, double decode)
{
    ts_estimate e = {.step_flops = step, .decode_flops = decode, .precision = "f32", .tokens = 512};
    ts_screen_start(s, &e, steps, "x.mp4", "{\"seed\":7}");
}

static const char *said(void)
{
    fflush(out);
    return text;
}

static void finish(void)
{
    fclose(out);
    free(text);
    text = NULL;
}

static void send(ts_screen *s, ts_phase phase, int step, int steps, int layer, int layers)
{
    ts_screen_event(
        s, &(ts_event){
               .phase = phase, .step = step, .steps = steps, .layer = layer, .layers = layers});
}

static int lines(const char *s)
{
    int n = 0;
    for (; *s; s++) n += *s == '\n';
    return n;
}

START_TEST(shares)
{
    const struct {
        int step, steps, layer, layers;
        double want;
    } row[] = {{0, 4, 0, 0, 0},      {1, 4, 1, 10, 0},  {1, 4, 6, 10, 0.125}, {1, 4, 0, 0, 0.25},
               {3, 4, 6, 10, 0.625}, {4, 4, 0, 0, 1},   {9, 4, 0, 0, 1},      {0, 0, 0, 0, 0},
               {0, 4, 1, 10, 0},     {0, 4, 6, 10, 0.5}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        ts_event e = {.step = row[i].step,
                      .steps = row[i].steps,
                      .layer = row[i].layer,
                      .layers = row[i].layers};
        ck_assert_msg(fabs(ts_event_share(&e) - row[i].want) < 1e-12, "row %zu: %g", i,
                      ts_event_share(&e));
    }
}
END_TEST

START_TEST(time_left_is_the_pace_extended)
{
    ts_screen s = screen(TS_SCREEN_NONE, 0);
    s.mode = TS_SCREEN_JSON;
    start(&s, 10, 10, 20); /* a step of 10, 10 of them, decoding like 2 steps */
    send(&s, TS_PHASE_DENOISE, 0, 10, 0, 0);
    ck_assert(ts_screen_left(&s, now) < 0);
    send(&s, TS_PHASE_DENOISE, 1, 10, 1, 6);
    now += 30;
    send(&s, TS_PHASE_DENOISE, 3, 10, 0, 0);
    ck_assert_msg(fabs(ts_screen_left(&s, now) - (70 + 20)) < 1e-9, "%g", ts_screen_left(&s, now));
    now += 70;
    send(&s, TS_PHASE_DENOISE, 10, 10, 0, 0);
    ck_assert(fabs(ts_screen_left(&s, now) - 20) < 1e-9);
    send(&s, TS_PHASE_DECODE, 0, 8, 0, 0);
    now += 3;
    send(&s, TS_PHASE_DECODE, 1, 8, 0, 0);
    now += 3;
    send(&s, TS_PHASE_DECODE, 2, 8, 0, 0);
    ck_assert(fabs(ts_screen_left(&s, now) - 18) < 1e-9);
    finish();
}
END_TEST

/* Decoding in tiles: chunks of all frames, then the frames at once. */
START_TEST(tiles_are_the_work)
{
    ts_screen s = screen(TS_SCREEN_NONE, 0);
    s.mode = TS_SCREEN_JSON;
    start(&s, 10, 10, 20);
    send(&s, TS_PHASE_DECODE, 0, 8, 0, 0);
    send(&s, TS_PHASE_DECODE, 0, 8, 1, 4);
    now += 5;
    send(&s, TS_PHASE_DECODE, 0, 8, 2, 4);
    ck_assert_msg(fabs(ts_screen_left(&s, now) - 15) < 1e-9, "%g", ts_screen_left(&s, now));
    now += 10;
    send(&s, TS_PHASE_DECODE, 0, 8, 4, 4);
    ck_assert(fabs(ts_screen_left(&s, now) - 5) < 1e-9);
    now += 5;
    send(&s, TS_PHASE_DECODE, 1, 8, 0, 0);
    ck_assert(fabs(s.share - 0.75) < 1e-9); /* it never falls */
    finish();
}
END_TEST

START_TEST(a_resumed_run_counts_its_own_steps)
{
    ts_screen s = screen(TS_SCREEN_JSON, 0);
    start(&s, 1, 50, 0);
    send(&s, TS_PHASE_DENOISE, 0, 50, 0, 0);
    send(&s, TS_PHASE_DENOISE, 31, 50, 1, 30);
    now += 10;
    send(&s, TS_PHASE_DENOISE, 31, 50, 0, 0); /* one step in 10 s, 19 to go */
    ck_assert_msg(fabs(ts_screen_left(&s, now) - 190) < 1e-9, "%g", ts_screen_left(&s, now));
    finish();
}
END_TEST

START_TEST(nothing_is_said_before_the_run_begins)
{
    ts_screen s = screen(TS_SCREEN_JSON, 0);
    send(&s, TS_PHASE_DENOISE, 1, 50, 0, 0);
    ck_assert_str_eq(said(), "");
    finish();
}
END_TEST

START_TEST(every_event_is_a_line_of_json)
{
    ts_screen s = screen(TS_SCREEN_JSON, 0);
    ts_screen_warn(&s, "a \"quoted\"\nwarning");
    start(&s, 1e12, 2, 1e12);
    send(&s, TS_PHASE_DENOISE, 0, 2, 0, 0);
    for (int step = 1; step <= 2; step++) {
        for (int layer = 1; layer <= 6; layer++) {
            now += 0.11;
            send(&s, TS_PHASE_DENOISE, step, 2, layer, 6);
        }
        send(&s, TS_PHASE_DENOISE, step, 2, 0, 0);
    }
    ts_screen_table(&s, "profile", "a\nb\n");
    ts_screen_done(&s, &(ts_report){.denoise_seconds = 1.5, .attention_dense = 12},
                   &(ts_written){.output = "x.mp4"});
    ts_screen_note(&s, "for people");
    ts_screen_error(&s, 3, "no");
    char *copy = strdup(said()), *save = NULL;
    const char *want[] = {"warning",  "start",    "progress", "progress", "progress",
                          "progress", "progress", "profile",  "done",     "error"};
    int n = 0;
    for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save), n++) {
        cJSON *j = cJSON_ParseWithOpts(line, NULL, 1);
        ck_assert_msg(j != NULL, "%s", line);
        ck_assert_int_lt(n, 10);
        ck_assert_msg(!strcmp(cJSON_GetStringValue(cJSON_GetObjectItem(j, "event")), want[n]),
                      "line %d: %s", n, line);
        if (n == 0)
            ck_assert_str_eq(cJSON_GetStringValue(cJSON_GetObjectItem(j, "message")),
                             "a \"quoted\"\nwarning");
        if (n == 1)
            ck_assert(cJSON_GetObjectItem(cJSON_GetObjectItem(j, "request"), "seed")->valueint ==
                          7 &&
                      cJSON_GetObjectItem(j, "tokens")->valueint == 512);
        if (n == 2) ck_assert(cJSON_IsNull(cJSON_GetObjectItem(j, "eta")));
        if (n == 5)
            ck_assert(cJSON_GetObjectItem(j, "step")->valueint == 2 &&
                      fabs(cJSON_GetObjectItem(j, "eta")->valuedouble - 0.968) < 1e-9);
        if (n == 9) ck_assert_int_eq(cJSON_GetObjectItem(j, "code")->valueint, 3);
        cJSON_Delete(j);
    }
    ck_assert_int_eq(n, 10); /* of twelve layers only those half a second after the last event */
    free(copy);
    finish();
}
END_TEST

START_TEST(a_file_gets_few_lines)
{
    ts_screen s = screen(TS_SCREEN_LINES, 0);
    start(&s, 1, 100, 10);
    send(&s, TS_PHASE_TEXT, 0, 1, 0, 0);
    send(&s, TS_PHASE_TEXT, 1, 1, 0, 0);
    ck_assert_str_eq(said(), "encoding text: 1 prompt in 0.0 s\n");
    send(&s, TS_PHASE_DENOISE, 0, 100, 0, 0);
    for (int step = 1; step <= 100; step++) {
        for (int layer = 1; layer <= 10; layer++) {
            now += 0.05;
            send(&s, TS_PHASE_DENOISE, step, 100, layer, 10);
        }
        send(&s, TS_PHASE_DENOISE, step, 100, 0, 0);
    }
    ck_assert_msg(strstr(said(), "denoising: 100 steps\n") &&
                      strstr(said(), "denoising: 100 steps in 0:50\n"),
                  "%s", said());
    ck_assert_msg(strstr(said(), "denoising: step 21 of 100, 20%, 0:10, 0:45 left\n") ||
                      strstr(said(), "denoising: step 20 of 100, 20%, 0:10, 0:45 left\n"),
                  "%s", said());
    ck_assert_msg(lines(said()) >= 1 + 2 + 3 && lines(said()) <= 1 + 2 + 5, "%s", said());
    ck_assert_ptr_null(strchr(said(), '\r'));
    finish();
}
END_TEST

/* What stands on a terminal's line after the last carriage return, without control sequences. */
static const char *last_drawing(void)
{
    static char line[600];
    const char *at = strrchr(said(), '\r');
    snprintf(line, sizeof line, "%s", at ? at + 1 : "");
    char *end = strstr(line, "\033[K");
    if (end) *end = 0;
    return line;
}

START_TEST(a_bar_fits_its_terminal)
{
    for (int width = 10; width <= 300; width += 29) {
        ts_screen s = screen(TS_SCREEN_BAR, width);
        start(&s, 1, 50, 10);
        send(&s, TS_PHASE_DENOISE, 0, 50, 0, 0);
        now += 1;
        send(&s, TS_PHASE_DENOISE, 25, 50, 0, 0);
        ck_assert_msg((int)strlen(last_drawing()) < width, "%d: %s", width, last_drawing());
        if (width > 70)
            ck_assert_msg(strstr(last_drawing(), "denoising 25/50 [") &&
                              strstr(last_drawing(), "50%") && strstr(last_drawing(), "left"),
                          "%s", last_drawing());
        size_t before = strlen(said());
        now += 0.01;
        send(&s, TS_PHASE_DENOISE, 26, 50, 0, 0);
        ck_assert_msg(strlen(said()) == before, "drawn again after 10 ms");
        ts_screen_warn(&s, "careful");
        ck_assert_msg(strstr(said(), "\r\033[Ktessera: warning: careful\n") != NULL, "%s", said());
        finish();
    }
}
END_TEST

/* Columns stand still from step to step and layer to layer; in narrow terminals share and time left
 * are what stays. */
START_TEST(columns_stand_still)
{
    static const int widths[] = {28, 40, 60, 80, 120};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        ts_screen s = screen(TS_SCREEN_BAR, widths[i]);
        size_t length = 0, at = 0;
        start(&s, 1, 100, 10);
        send(&s, TS_PHASE_DENOISE, 0, 100, 0, 0);
        ck_assert_msg(!strncmp(last_drawing(), "denoising: loading weights", 26) || widths[i] < 60,
                      "%s", last_drawing());
        send(&s, TS_PHASE_DENOISE, 1, 100, 1, 12);
        for (int step = 1; step <= 100; step++)
            for (int layer = 1; layer <= 13; layer++) {
                now += step == 50 ? 700 : 1;
                if (step == 100 && layer == 13) break; /* the end is another line */
                send(&s, TS_PHASE_DENOISE, step, 100, layer % 13, 12);
                const char *line = last_drawing(), *share = strchr(line, '%');
                ck_assert_msg(share != NULL && strstr(line, " left"), "%s", line);
                ck_assert_msg(!length || (strlen(line) == length && share == line + at),
                              "%d columns, step %d, layer %d: %s", widths[i], step, layer, line);
                length = strlen(line);
                at = (size_t)(share - line);
                ck_assert_msg((strstr(line, " s/step") != NULL) == (widths[i] >= 80), "%s", line);
                ck_assert_msg((strchr(line, '[') != NULL) == (widths[i] >= 60), "%s", line);
            }
        finish();
    }
}
END_TEST

START_TEST(quiet_says_errors_only)
{
    ts_screen s = screen(TS_SCREEN_NONE, 0);
    start(&s, 1, 2, 1);
    send(&s, TS_PHASE_DENOISE, 1, 2, 0, 0);
    ts_screen_warn(&s, "careful");
    ts_screen_note(&s, "hello");
    ts_screen_done(&s, &(ts_report){0}, &(ts_written){.output = "x"});
    ck_assert_str_eq(said(), "");
    ts_screen_error(&s, 4, "no disk, `overwrite`");
    ck_assert_str_eq(said(), "tessera: no disk, --overwrite\n");
    finish();
}
END_TEST

START_TEST(clock_texts)
{
    char t[24];
    ck_assert_str_eq(ts_clock_text(0, t), "0:00");
    ck_assert_str_eq(ts_clock_text(59.6, t), "1:00");
    ck_assert_str_eq(ts_clock_text(3599, t), "59:59");
    ck_assert_str_eq(ts_clock_text(3723, t), "1:02:03");
    ck_assert_str_eq(ts_clock_text(-5, t), "0:00");
}
END_TEST

/* Three rows of costs 100, 100, 200: what is left follows from the pace of the row at work, then
 * from that of the rows done. */
START_TEST(a_batch_has_a_line_of_its_own)
{
    ts_screen s = screen(TS_SCREEN_BAR, 60);
    const ts_row_end end = {.file = "p.txt",
                            .output = "1.mp4",
                            .status = "done",
                            .line = 1,
                            .index = 1,
                            .seconds = 20,
                            .seed = 7};
    ts_screen_batch(&s, 3, 400);
    ck_assert(ts_screen_batch_left(&s, now) < 0);
    ts_screen_row(&s, "1.mp4", 100);
    start(&s, 10, 10, 0);
    send(&s, TS_PHASE_DENOISE, 0, 10, 0, 0);
    send(&s, TS_PHASE_DENOISE, 1, 10, 1, 6);
    now += 10;
    send(&s, TS_PHASE_DENOISE, 5, 10, 0, 0); /* half of it in 10 s: 10 more, then 20 and 40 */
    ck_assert_msg(fabs(ts_screen_batch_left(&s, now) - 70) < 1e-9, "%g",
                  ts_screen_batch_left(&s, now));
    ck_assert_ptr_nonnull(strstr(said(), "row 1/3, 1:10 left: 1.mp4\033[K\n\rdenoising  5/10 ["));
    now += 10;
    send(&s, TS_PHASE_DENOISE, 10, 10, 0, 0);
    ts_screen_row_done(&s, &end);
    ck_assert_ptr_null(strstr(said(), "in 20"));
    ts_screen_row(&s, "2.mp4", 100);
    /* by the pace of the first */
    ck_assert_msg(fabs(ts_screen_batch_left(&s, now) - 60) < 1e-9, "%g",
                  ts_screen_batch_left(&s, now));
    now += 40;
    ts_screen_row_done(&s, &(ts_row_end){.file = "p.txt",
                                         .output = "2.mp4",
                                         .status = "failed",
                                         .error = "no luck",
                                         .line = 2,
                                         .seconds = 40});
    ck_assert_ptr_nonnull(strstr(said(), "p.txt:2: no luck\n"));
    ts_screen_row(&s, "3.mp4", 200);
    /* 200 in 60 s so far */
    ck_assert_msg(fabs(ts_screen_batch_left(&s, now) - 60) < 1e-9, "%g",
                  ts_screen_batch_left(&s, now));
    start(&s, 10, 10, 0);
    send(&s, TS_PHASE_DENOISE, 0, 10, 0, 0);
    ts_screen_note(&s, "a note");
    /* both lines are taken away first */
    const char *at = strstr(said(), "\r\033[K\033[A\r\033[Ka note\n");
    ck_assert_msg(at != NULL, "%s", said());
    ts_screen_batch_done(&s, &(ts_batch_end){.done = 2, .failed = 1});
    ck_assert_ptr_nonnull(strstr(said(), "2 done, 1 failed, 0 skipped in 1:00\n"));
    finish();
}
END_TEST

START_TEST(rows_in_lines_and_events)
{
    ts_screen s = screen(TS_SCREEN_LINES, 0);
    const ts_row_end end = {.file = "p.txt",
                            .output = "1.mp4",
                            .status = "done",
                            .line = 4,
                            .index = 3,
                            .seconds = 12.34,
                            .seed = UINT64_MAX};
    ts_screen_batch(&s, 2, 0);
    ts_screen_row(&s, "1.mp4", 0);
    start(&s, 10, 2, 0);
    send(&s, TS_PHASE_DENOISE, 0, 2, 0, 0);
    send(&s, TS_PHASE_DENOISE, 2, 2, 0, 0);
    ts_screen_row_done(&s, &end);
    /* no line a phase, no guess without costs */
    ck_assert_str_eq(said(), "row 1/2: 1.mp4 in 12.3 s\n");
    finish();
    s = screen(TS_SCREEN_JSON, 0);
    ts_screen_batch(&s, 2, 50);
    ts_screen_row(&s, "1.mp4", 25);
    now += 12;
    ts_screen_row_done(&s, &end);
    ts_screen_fault(&s, "p.txt", 7, "what, `count`");
    ck_assert_str_eq(
        said(),
        "{\"event\":\"batch\",\"rows\":2,\"flops\":50}\n"
        "{\"event\":\"row\",\"row\":1,\"rows\":2,\"status\":\"done\",\"output\":\"1.mp4\",\"file\":"
        "\"p.txt\",\"line\":4,\"index\":3,\"seed\":\"18446744073709551615\",\"seconds\":12.34,"
        "\"batch_eta\":12}\n{\"event\":\"fault\",\"file\":\"p.txt\",\"line\":7,\"message\":\"what, "
        "--count\"}\n");
    finish();
}
END_TEST

/* Of two policies with one turn of one prompt, 30, 20 and twice 5 s: what is left is expected
 * first, then follows the pace of the measurement at work, then that of those done. */
START_TEST(a_bench_says_where_it_is)
{
    const ts_screen_turn first = {"dense", 1, 1, 1, 1}, second = {"pooled", 1, 1, 1, 1},
                         compared = {"dense", 1, 1, 0, 1};
    ts_screen s = screen(TS_SCREEN_BAR, 60);
    ts_screen_bench(&s, &(ts_screen_plan){2, 1, 1, 60});
    start(&s, 10, 10, 500);
    ts_screen_measure(&s, &first, 30);
    ck_assert(fabs(ts_screen_batch_left(&s, now) - 60) < 1e-9);
    send(&s, TS_PHASE_DENOISE, 0, 10, 0, 0);
    send(&s, TS_PHASE_DENOISE, 1, 10, 1, 6);
    now += 30; /* half of it: twice as slow, and nothing is decoded behind it */
    send(&s, TS_PHASE_DENOISE, 5, 10, 0, 0);
    ck_assert_msg(fabs(ts_screen_batch_left(&s, now) - 90) < 1e-9, "%g",
                  ts_screen_batch_left(&s, now));
    ck_assert_msg(strstr(said(), "prompt 1/1, turn 1/1, 1:30 left: dense\033[K\n"), "%s", said());
    now += 30;
    send(&s, TS_PHASE_DENOISE, 10, 10, 0, 0);
    ts_screen_measured(&s);
    start(&s, 10, 10, 500);
    ts_screen_measure(&s, &second, 20);
    ck_assert_msg(fabs(ts_screen_batch_left(&s, now) - 60) < 1e-9, "%g",
                  ts_screen_batch_left(&s, now));
    finish();
    s = screen(TS_SCREEN_LINES, 0);
    ts_screen_bench(&s, &(ts_screen_plan){2, 1, 1, 60});
    start(&s, 10, 2, 0);
    ts_screen_measure(&s, &second, 20);
    send(&s, TS_PHASE_DENOISE, 0, 2, 0, 0);
    send(&s, TS_PHASE_DENOISE, 2, 2, 0, 0);
    ts_screen_measured(&s);
    ts_screen_measure(&s, &compared, 5);
    ck_assert_str_eq(said(), "prompt 1/1, turn 1/1: pooled\nprompt 1/1, comparing: dense\n");
    finish();
    s = screen(TS_SCREEN_JSON, 0);
    ts_screen_bench(&s, &(ts_screen_plan){2, 0, 3, 0});
    s.armed = true;
    ts_screen_measure(&s, &(ts_screen_turn){.policy = "pooled", .turn = 2, .turns = 3}, 0);
    send(&s, TS_PHASE_BENCH, 0, 10, 0, 0);
    ts_screen_measured(&s);
    ck_assert_str_eq(said(),
                     "{\"event\":\"bench_begin\",\"policies\":2,\"prompts\":0,\"turns\":3}\n"
                     "{\"event\":\"progress\",\"phase\":\"bench\",\"step\":0,\"steps\":10,"
                     "\"layer\":0,\"layers\":0,\"seconds\":0,\"eta\":null,\"policy\":"
                     "\"pooled\",\"turn\":2,\"turns\":3,\"bench_eta\":null}\n");
    finish();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("progress");
    TCase *t = tcase_create("progress");
    tcase_add_test(t, shares);
    tcase_add_test(t, tiles_are_the_work);
    tcase_add_test(t, a_batch_has_a_line_of_its_own);
    tcase_add_test(t, rows_in_lines_and_events);
    tcase_add_test(t, a_bench_says_where_it_is);
    tcase_add_test(t, time_left_is_the_pace_extended);
    tcase_add_test(t, a_resumed_run_counts_its_own_steps);
    tcase_add_test(t, nothing_is_said_before_the_run_begins);
    tcase_add_test(t, every_event_is_a_line_of_json);
    tcase_add_test(t, a_file_gets_few_lines);
    tcase_add_test(t, a_bar_fits_its_terminal);
    tcase_add_test(t, columns_stand_still);
    tcase_add_test(t, quiet_says_errors_only);
    tcase_add_test(t, clock_texts);
    suite_add_tcase(s, t);
    return testing_main(s);
}
