/* The pages that bench and batch write, as a browser draws them on a phone, a laptop and a large
 * screen. */
#include "tests/cli/pages.h"
#include "tests/cli/program.h"
#include "tests/cli/workspace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const begin =
    "<!DOCTYPE html><meta name=viewport content='width=device-width'><title>x</title>";

/* Every kind of fault is found, and a page without one has none. */
START_TEST(what_is_wrong_is_found)
{
    static const struct {
        const char *page, *says[12]; /* no says: it is sound */
    } pages[] = {
        {"<p>sound</p><svg viewBox='0 0 99 9' width=99><rect width=50 height=9 /></svg>"
         "<a href='sound.html'>itself</a><a href='#x' id=x>here</a>"
         "<div style='overflow-x:auto'><p style='width:9000px'>a wide table</p></div>"
         "<details><summary>more</summary><p style='font-size:1px'>folded</p></details>",
         {0}},
        {"<p style='width:1000px'>wide</p><p style='font-size:8px'>small</p>"
         "<svg viewBox='0 0 1000 20' width='100%'><text y=12 font-size=13>chart</text></svg>"
         "<p style='position:absolute;left:-90px'>gone</p><p id=a></p><p id=a></p>"
         "<svg viewBox='0 0 400 20' width=380><text y=12>one</text><text x=9 y=12>two</text></svg>"
         "<img src='none.png' alt=''><video src='none.mp4'></video><a href='#none'>there</a>"
         "<a href='none%20here.mp4'>clip</a><a href='https://example.com'>out</a>",
         {"390: scrolls sideways", "1280: text of 8.0 px: \"small\"", "390: text of 4",
          "text leaves the page: \"gone\"", "two elements are #a",
          "labels lie upon each other: \"one\" and \"two\"", "img did not load",
          "video did not load", "leads nowhere: #none", "none here.mp4", "leads out of the page"}},
        {"<svg width=90 height=90></svg><script>nothing.here()</script>",
         {"nothing is painted", "a script fails"}},
        {"", {"the page is empty"}},
    };
    if (!pages_can_be_drawn()) return;
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++) {
        char page[2048];
        snprintf(page, sizeof page, "%s%s", begin, pages[i].page);
        scratch_put("sound.html", page);
        const char *faults = pages_faults(scratch_path("sound.html"));
        ck_assert_msg(!*faults == !pages[i].says[0], "%s\n%s", page, faults);
        for (int k = 0; pages[i].says[k]; k++)
            ck_assert_msg(strstr(faults, pages[i].says[k]) != NULL, "no \"%s\":\n%s",
                          pages[i].says[k], faults);
    }
}
END_TEST

/* Of clips, a picture, frames, names with letters that addresses escape, long words, and rows that
 * fail or can not be used. */
START_TEST(report_of_a_batch)
{
    if (!pages_can_be_drawn()) return;
    scratch_put(
        "rows.jsonl",
        "{\"prompt\":\"a fox <in> the \\\"snow\\\" & more\",\"output\":\"a fox #1 50%.mp4\"}\n"
        "{\"prompt\":\"a panda\",\"frames\":1}\n"
        "{\"prompt\":\"a cake\",\"attention\":\"window:strict\"}\n"
        "{\"prompt\":\"a cat\",\"format\":\"gif\",\"seeds\":[1,2]}\n"
        "{\"prompt\":\"a_word_of_more_letters_than_a_telephone_has_in_a_line_of_its_screen\","
        "\"format\":\"frames\"}\n"
        "{\"prompt\":\"a dog\",\"steps\":0}\n");
    const char *folder = scratch_path("clips");
    program_run("batch %s --out %s --frames 5 --steps 1 --report %s/report.html",
                scratch_path("rows.jsonl"), folder, folder);
    pages_expect_sound(scratch_path("clips/report.html"));
    scratch_clear();
}
END_TEST

/* More policies than there are colours, names that are long or nearly alike, a sweep; a picture
 * stands for a clip. */
START_TEST(report_of_a_bench)
{
    if (!pages_can_be_drawn()) return;
    const char *page = scratch_path("b.html");
    program_expect(
        program_run("bench 'a panda <in> \"snow\"' --frames 5 --steps 2 --repeats 2 --html %s "
                    "--attention window:min-tokens=0 --attention pooled:min-tokens=0 "
                    "--attention random:min-tokens=0,seed=1 --attention random:min-tokens=0,seed=2 "
                    "--attention random:min-tokens=0,seed=3 --attention random:min-tokens=0,seed=4 "
                    "--attention adaspa:min-tokens=0,order=tile,adaptive=off --attention tile "
                    "--attention tile:k=1 --attention adaspa --sweep keep=0.5:1:0.5",
                    page),
        0);
    pages_expect_sound(page);
    program_expect(program_run("bench 'a panda' --frames 1 --steps 2 --repeats 1 --html %s "
                               "--overwrite --attention window:min-tokens=0",
                               page),
                   0);
    pages_expect_sound(page);
    scratch_clear();
}
END_TEST

/* Of single evaluations and of kernels: sound, with the sentences of the table at the top. */
START_TEST(reports_without_clips)
{
    const char *page = scratch_path("s.html");
    const program_result *r = program_run(
        "bench --step --frames 5 --steps 4 --html %s --attention adaspa:min-tokens=0,keep=0.5 "
        "--attention window:min-tokens=0,keep=0.5,dense-layers=0+1+2+3",
        page);
    program_expect(r, 0);
    const char *first = strstr(r->out, "self-attention is "),
               *end = first ? strchr(first, '\n') : NULL;
    ck_assert_msg(end != NULL, "%s", r->out);
    char *sentence = strndup(first, (size_t)(end - first)), *html = program_slurp(page, NULL);
    const char *said = strstr(html, sentence), *table = strstr(html, "<table>");
    ck_assert_msg(said && table && said < table, "the page does not begin with %s", sentence);
    ck_assert(strstr(html, "<rect") && strstr(html, "dense-layers=0"));
    free(sentence);
    free(html);
    if (pages_can_be_drawn()) pages_expect_sound(page);
    page = scratch_path("k.html");
    program_expect(program_run("bench --kernel --tokens 128,256 --heads 1 --dim 64 --repeats 3 "
                               "--keep 1,0.5 --html %s --json %s",
                               page, scratch_path("k.json")),
                   0);
    html = program_slurp(page, NULL);
    text_has(html, "<h2>256 tokens</h2>");
    text_has(html, "cached search");
    char *json = program_slurp(scratch_path("k.json"), NULL);
    cJSON *j = cJSON_Parse(json);
    const cJSON *v = cJSON_GetObjectItem(j, "verdict"), *l;
    ck_assert(cJSON_IsArray(v));
    cJSON_ArrayForEach(l, v) text_has(html, cJSON_GetStringValue(l));
    /* there is always an answer: numbers, or why there are none */
    ck_assert(cJSON_GetArraySize(v) > 0 || strstr(html, "Nothing is concluded") ||
              strstr(html, "void"));
    cJSON_Delete(j);
    free(json);
    free(html);
    if (pages_can_be_drawn()) pages_expect_sound(page);
    program_expect(program_run("bench --kernel --tokens 128 --html %s", page), 2);
    scratch_clear();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pages");
    TCase *tc = tcase_create("pages");
    scratch_open();
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, what_is_wrong_is_found);
    tcase_add_test(tc, report_of_a_batch);
    tcase_add_test(tc, report_of_a_bench);
    tcase_add_test(tc, reports_without_clips);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
