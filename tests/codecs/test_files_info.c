/* Text in files: how PNG holds it, what reads back of every kind, nothing where none was asked for,
 * what can not be read. */
#include "test_files.h"

static const char JSON[] = "{\"tessera\":\"0.1.0\",\"prompt\":\"ein Fuchs\"}";

/* A text chunk: its compression as libpng names it, and the text; malloc'd. NULL: none. */
static char *png_text_of(const char *path, const char *key, int *compression)
{
    FILE *f = fopen(path, "rb");
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_textp text;
    int n;
    char *out = NULL;
    png_init_io(png, f);
    png_read_info(png, info);
    png_get_text(png, info, &text, &n);
    for (int i = 0; i < n; i++)
        if (strcmp(text[i].key, key) == 0) {
            ck_assert_msg(!out, "%s stands twice", key);
            out = strdup(text[i].text);
            *compression = text[i].compression;
        }
    png_destroy_read_struct(&png, &info, NULL);
    fclose(f);
    return out;
}

START_TEST(test_png_text)
{
    static const struct {
        const char *text;
        int compression;
        const char *stored;
    } CASES[] = {
        {"a fox\nNegative prompt: blur\nSteps: 3, Seed: 7", PNG_TEXT_COMPRESSION_NONE,
         "a fox\nNegative prompt: blur\nSteps: 3, Seed: 7"},
        {"Füchse ÿ", PNG_TEXT_COMPRESSION_NONE,
         "F\xfc"
         "chse \xff"},
        {"狐 über", PNG_ITXT_COMPRESSION_NONE, "狐 über"},
        {"Ā", PNG_ITXT_COMPRESSION_NONE, "Ā"}, /* U+0100: the first that Latin-1 has not */
    };
    char *d = testing_tmp(), *file = path_in(d, "a.png");
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        ts_file_options o = plain();
        int compression = -9;
        o.metadata = o.overwrite = true;
        o.parameters = CASES[i].text;
        write_clip(file, o, 16, 8, 1, 16, JSON);
        char *text = png_text_of(file, "parameters", &compression);
        ck_assert_str_eq(text, CASES[i].stored);
        ck_assert_int_eq(compression, CASES[i].compression);
        free(text);
        text = png_text_of(file, "tessera", &compression);
        ck_assert_str_eq(text, JSON);
        ck_assert_int_eq(compression, PNG_ITXT_COMPRESSION_NONE);
        free(text);
        check_png_tool(file);
    }
    free(d);
}
END_TEST

static char *long_json(size_t n)
{
    char *json = malloc(n + 64), *p = json + sprintf(json, "{\"tessera\":\"0.1.0\",\"prompt\":\"");
    for (size_t i = 0; i + 4 < n; i += 3) p += sprintf(p, "%s", i % 2 ? "狐" : "abc");
    strcpy(p, "\"}");
    return json;
}

START_TEST(test_metadata_round_trip)
{
    char *d = testing_tmp(),
         *json[] = {strdup(JSON),
                    strdup("{\"tessera\":\"0.1.0\",\"prompt\":\"狐 \\\"🦊\\\" \\n ü\"}"),
                    long_json(300000)};
    static const char *const NAMES[] = {"a.png", "a.mp4", "a.webm", "a.gif", "f-%d.png"};
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < 5; i++) {
            ts_file_options o = plain();
            o.metadata = o.overwrite = true;
            o.title = o.parameters = json[k];
            write_clip(path_in(d, NAMES[i]), o, 16, 16, i ? 2 : 1, 16, json[k]);
            char *back = info_of(path_in(d, i < 4 ? NAMES[i] : "f-1.png"));
            ck_assert_msg(back && strcmp(back, json[k]) == 0, "%s, text %d: %.80s", NAMES[i], k,
                          back ? back : "nothing");
            free(back);
        }
    int compression;
    char *text = png_text_of(path_in(d, "a.png"), "tessera", &compression);
    ck_assert_int_eq(compression, PNG_ITXT_COMPRESSION_zTXt);
    ck_assert_str_eq(text, json[2]);
    free(text);
    for (int k = 0; k < 3; k++) free(json[k]);
    free(d);
}
END_TEST

START_TEST(test_no_metadata)
{
    char *d = testing_tmp();
    for (int i = 0; i < 4; i++) {
        ts_file_options o = plain();
        size_t n;
        o.title = o.parameters = "a secret fox";
        write_clip(path_in(d, SINGLE[i]), o, 16, 16, 1, 16, JSON);
        ck_assert_ptr_null(info_of(path_in(d, SINGLE[i])));
        uint8_t *b = bytes_of(path_in(d, SINGLE[i]), &n);
        ck_assert_ptr_null(find_bytes(b, n, "fox"));
        ck_assert_ptr_null(find_bytes(b, n, "tessera"));
        free(b);
    }
    free(d);
}
END_TEST

/* JSON that is not ours, text that is not JSON: no error, and nothing. */
START_TEST(test_foreign_text)
{
    static const char *const TEXTS[] = {"{\"prompt\":1}", "just words", "[\"tessera\"]",
                                        "{\"tessera\":", ""};
    char *d = testing_tmp();
    for (int i = 0; i < 4; i++)
        for (size_t k = 0; k < sizeof TEXTS / sizeof *TEXTS; k++) {
            ts_file_options o = plain();
            o.metadata = o.overwrite = true;
            write_clip(path_in(d, SINGLE[i]), o, 16, 16, 1, 16, TEXTS[k]);
            ck_assert_msg(!info_of(path_in(d, SINGLE[i])), "%s with '%s'", SINGLE[i], TEXTS[k]);
        }
    free(d);
}
END_TEST

static void unreadable(const char *path)
{
    char *json = (char *)path;
    ts_status st = ts_file_info(&err, path, &json);
    ck_assert_msg(st == TS_EMODEL && !json, "%s: status %d", path, st);
    ck_assert_msg(strncmp(err.text, path, strlen(path)) == 0, "%s", err.text);
}

START_TEST(test_info_unreadable)
{
    char *d = testing_tmp();
    ts_file_options o = plain();
    size_t n;
    unreadable(path_in(d, "none.mp4"));
    unreadable(d);
    write_text(path_in(d, "empty.mp4"), "");
    write_text(path_in(d, "a.txt"), "WEBVTT\n\n00:00.000 --> 00:01.000\nwords\n");
    write_text(path_in(d, "b.mp4"), "#EXTM3U\n#EXT-X-TARGETDURATION:1\n/etc/passwd\n");
    write_text(path_in(d, "c.json"), JSON);
    write_text(path_in(d, "d.png"), "\x89PNG\r\n\x1a\n");
    write_text(path_in(d, "e.gif"), "GIF89a");
    unreadable(path_in(d, "empty.mp4"));
    unreadable(path_in(d, "a.txt"));
    unreadable(path_in(d, "b.mp4"));
    unreadable(path_in(d, "c.json"));
    unreadable(path_in(d, "d.png"));
    unreadable(path_in(d, "e.gif"));
    o.metadata = true;
    write_clip(path_in(d, "a.gif"), o, 16, 16, 2, 16, JSON);
    uint8_t *b = bytes_of(path_in(d, "a.gif"), &n);
    for (size_t part = 1; part < n; part++) { /* every beginning of a GIF */
        write_bytes(path_in(d, "part.gif"), b, part);
        unreadable(path_in(d, "part.gif"));
    }
    free(b);
    free(d);
}
END_TEST

/* The content tells what a file is, not its name. */
START_TEST(test_info_by_content)
{
    char *d = testing_tmp();
    ts_file_options o = plain();
    o.metadata = true;
    for (int i = 0; i < 4; i++) {
        write_clip(path_in(d, SINGLE[i]), o, 16, 16, 1, 16, JSON);
        ck_assert_int_eq(rename(path_in(d, SINGLE[i]), path_in(d, "renamed.bin")), 0);
        char *json = info_of(path_in(d, "renamed.bin"));
        ck_assert_str_eq(json, JSON);
        free(json);
    }
    free(d);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("files_info");
    TCase *c = tcase_create("files_info");
    suite_add_tcase(s, c);
    tcase_add_test(c, test_png_text);
    tcase_add_test(c, test_metadata_round_trip);
    tcase_add_test(c, test_no_metadata);
    tcase_add_test(c, test_foreign_text);
    tcase_add_test(c, test_info_unreadable);
    tcase_add_test(c, test_info_by_content);
    return testing_main(s);
}
