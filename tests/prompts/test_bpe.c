/* Byte-level BPE, in Llama's tokenizer.json and in CLIP's vocab.json with merges.txt, against the
 * ids of transformers 5.24 on the fixtures' vocabularies; files that are broken. */
#include "prompts/text.h"

#include "tests/prompts/models.h"
#include "tests/testing.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MODEL "tests/fixtures/hunyuanvideo-adaspa/model/"
typedef struct {
    const char *text;
    int n, ids[64];
} row;
static const row llama[] = {
    {"", IDS(660)},
    {"A whale & two foxes", IDS(660, 32, 656, 627, 256, 86, 78, 319, 78, 87, 280)},
    {"it's 2025\012\012WOW!! caf\303\251 \360\237\231\202",
     IDS(660, 524, 6, 82, 220, 17, 15, 17, 20, 312, 54, 46, 54, 0, 0, 270, 544, 127, 102, 220, 172,
         253, 247, 224)},
    {"  two  spaces \011\011tab \012 \012 x ",
     IDS(660, 220, 256, 86, 78, 220, 269, 79, 318, 280, 220, 197, 197, 334, 65, 220, 198, 220, 198,
         220, 87, 220)},
    {"I'LL we'Re 'S '\305\277 \305\277",
     IDS(660, 40, 6, 43, 43, 444, 68, 6, 49, 68, 220, 6, 50, 220, 6, 129, 123, 220, 129, 123)},
    {"12345678 \331\241\331\242\331\243 \342\205\267\302\262",
     IDS(660, 16, 17, 18, 19, 20, 21, 22, 23, 220, 149, 94, 149, 95, 149, 96, 220, 158, 227, 115,
         126, 110)},
    {"\304\260stanbul \316\243\316\221\316\243 \303\237",
     IDS(660, 128, 108, 324, 258, 65, 600, 220, 138, 96, 138, 239, 138, 96, 220, 127, 253)},
    {"a<|eot_id|>b <|endoftext|> c<|ENDOFTEXT|>d",
     IDS(660, 64, 669, 65, 220, 27, 91, 261, 564, 636, 307, 91, 29, 270, 27, 91, 36, 45, 35, 46, 37,
         51, 36, 55, 51, 91, 29, 67)},
    {"\343\200\200\342\200\250x\341\240\216y\302\205z\034q",
     IDS(660, 159, 222, 222, 466, 101, 87, 157, 254, 236, 88, 126, 227, 89, 216, 80)},
    {"window cactus foxfox whale", IDS(660, 86, 267, 564, 86, 657, 319, 78, 87, 69, 78, 87, 656)},
    {"e\314\201\342\204\253 \357\254\201",
     IDS(660, 68, 136, 223, 158, 226, 104, 220, 171, 105, 223)},
    {"\346\274\242\345\255\227\343\201\213\343\201\252 \355\225\234\352\270\200 "
     "\340\271\204\340\270\227\340\270\242\015\012!!\015\012\015\012\077",
     IDS(660, 162, 120, 95, 161, 255, 245, 159, 223, 233, 159, 223, 103, 220, 169, 243, 250, 166,
         116, 222, 220, 156, 117, 226, 156, 116, 245, 156, 116, 95, 201, 198, 0, 0, 201, 198, 201,
         198, 30)},
    {"...!!! --- a.b_c\001\177",
     IDS(660, 13, 13, 13, 0, 0, 0, 220, 12, 12, 12, 295, 13, 65, 62, 66, 189, 221)},
    {"don't can't you'd I'm they've'", IDS(660, 67, 260, 6, 83, 270, 258, 6, 83, 220, 88, 78, 84, 6,
                                           67, 493, 6, 76, 259, 88, 6, 510, 6)}};
static const row clip[] = {
    {"", IDS(672, 673)},
    {"A whale & two foxes", IDS(672, 320, 86, 576, 550, 261, 83, 86, 334, 594, 87, 584, 673)},
    {"it's 2025\012\012WOW!! caf\303\251 \360\237\231\202",
     IDS(672, 72, 339, 6, 338, 273, 271, 273, 276, 526, 342, 0, 256, 534, 69, 127, 358, 172, 253,
         247, 480, 673)},
    {"  two  spaces \011\011tab \012 \012 x ",
     IDS(672, 83, 86, 334, 82, 589, 66, 584, 582, 321, 343, 673)},
    {"I'LL we'Re 'S '\305\277 \305\277",
     IDS(672, 328, 6, 591, 86, 324, 6, 81, 324, 6, 338, 262, 129, 379, 129, 379, 673)},
    {"12345678 \331\241\331\242\331\243 \342\205\267\302\262",
     IDS(672, 272, 273, 274, 275, 276, 277, 278, 279, 149, 350, 149, 351, 149, 352, 158, 227, 371,
         126, 366, 673)},
    {"\304\260stanbul \316\243\316\221\316\243 \303\237",
     IDS(672, 328, 136, 485, 537, 519, 650, 331, 139, 225, 138, 109, 139, 481, 127, 509, 673)},
    {"a<|eot_id|>b <|endoftext|> c<|ENDOFTEXT|>d",
     IDS(672, 320, 27, 347, 68, 78, 339, 318, 72, 323, 91, 285, 321, 673, 322, 673, 323, 673)},
    {"\343\200\200\342\200\250x\341\240\216y\302\205z\034q",
     IDS(672, 343, 157, 254, 492, 344, 345, 472, 336, 673)},
    {"window cactus foxfox whale",
     IDS(672, 86, 513, 571, 342, 534, 66, 83, 590, 594, 87, 594, 343, 86, 576, 550, 673)},
    {"e\314\201\342\204\253 \357\254\201", IDS(672, 127, 102, 127, 354, 171, 105, 479, 673)},
    {"\346\274\242\345\255\227\343\201\213\343\201\252 \355\225\234\352\270\200 "
     "\340\271\204\340\270\227\340\270\242\015\012!!\015\012\015\012\077",
     IDS(672, 162, 120, 95, 161, 255, 245, 159, 223, 233, 159, 223, 359, 169, 243, 250, 166, 116,
         478, 156, 117, 226, 156, 116, 245, 156, 116, 351, 0, 256, 286, 673)},
    {"...!!! --- a.b_c\001\177",
     IDS(672, 13, 13, 13, 0, 0, 256, 12, 12, 268, 320, 269, 321, 318, 322, 189, 477, 673)},
    {"don't can't you'd I'm they've'", IDS(672, 67, 521, 6, 339, 534, 333, 6, 339, 88, 78, 340, 6,
                                           323, 328, 6, 332, 83, 544, 344, 6, 659, 262, 673)}};
enum { ROWS = sizeof llama / sizeof *llama };

static void expect_rows(const char *dir, const row *rows)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    ts_tokenizer *t;
    ck_ok(c, ts_tokenizer_open(c, dir, &t));
    for (int i = 0; i < ROWS; i++) models_expect(c, t, rows[i].text, rows[i].ids, rows[i].n);
    ts_tokenizer_close(t);
    testing_close(c);
}

START_TEST(ids_of_llama) { expect_rows(MODEL "tokenizer", llama); }
END_TEST
START_TEST(ids_of_clip) { expect_rows(MODEL "tokenizer_2", clip); }
END_TEST

/* CLIP's files as tokenizer.json has them give the same ids. */
START_TEST(clip_in_one_file)
{
    char *dir = testing_tmp();
    size_t n;
    char path[4096];
    char *vocab = (char *)models_read(MODEL "tokenizer_2/vocab.json", &n);
    cJSON *j = cJSON_Parse(
        "{\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFC\"}, "
        "{\"type\": \"Replace\", \"pattern\": {\"Regex\": \"\\\\s+\"}, \"content\": \" \"}, "
        "{\"type\": \"Lowercase\"}]}, \"pre_tokenizer\": {\"type\": \"Sequence\", "
        "\"pretokenizers\": [{\"type\": \"Split\", \"pattern\": {\"Regex\": "
        "\"'s|'t|'re|'ve|'m|'ll|'d|[\\\\p{L}]+|[\\\\p{N}]|[^\\\\s\\\\p{L}\\\\p{N}]+\"}, "
        "\"behavior\": \"Removed\", \"invert\": true}, {\"type\": \"ByteLevel\", "
        "\"add_prefix_space\": false}]}, \"post_processor\": {\"type\": \"RobertaProcessing\", "
        "\"sep\": [\"<|endoftext|>\", 673], \"cls\": [\"<|startoftext|>\", 672]}, "
        "\"added_tokens\": [{\"id\": 672, \"content\": \"<|startoftext|>\", \"normalized\": true}, "
        "{\"id\": 673, \"content\": \"<|endoftext|>\", \"normalized\": true}], "
        "\"model\": {\"type\": \"BPE\", \"end_of_word_suffix\": \"</w>\"}}");
    cJSON *model = cJSON_GetObjectItem(j, "model"), *merges = cJSON_CreateArray();
    ck_assert_ptr_nonnull(j);
    cJSON_AddItemToObject(model, "vocab", cJSON_Parse(vocab));
    cJSON_AddItemToObject(model, "merges", merges);
    free(vocab);
    FILE *f = fopen(MODEL "tokenizer_2/merges.txt", "r");
    while (fgets(path, sizeof path, f)) {
        char *space = strchr(path, ' ');
        path[strcspn(path, "\n")] = 0;
        if (*path == '#') continue;
        cJSON *pair = cJSON_CreateArray();
        *space = 0;
        cJSON_AddItemToArray(pair, cJSON_CreateString(path));
        cJSON_AddItemToArray(pair, cJSON_CreateString(space + 1));
        cJSON_AddItemToArray(merges, pair);
    }
    fclose(f);
    char *text = cJSON_PrintUnformatted(j);
    models_write(dir, "tokenizer.json", text, strlen(text));
    expect_rows(dir, clip);
    free(text);
    free(dir);
    cJSON_Delete(j);
}
END_TEST

/* A long piece takes no longer than its length asks for, and a text that is cut keeps its end. */
START_TEST(long_and_cut)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    ts_tokenizer *t;
    enum { LONG = 1 << 20 };
    char *text = malloc(LONG + 1);
    int32_t *ids;
    int n;
    bool cut;
    for (int i = 0; i < LONG; i++) text[i] = "whale"[i % 5];
    text[LONG] = 0;
    ck_ok(c, ts_tokenizer_open(c, MODEL "tokenizer_2", &t));
    ck_ok(c, ts_tokenize(t, text, LONG + 2, &ids, &n, &cut));
    ck_assert(n > LONG / 5 && !cut && ids[n - 1] == 673);
    free(ids);
    ck_ok(c, ts_tokenize(t, text, 77, &ids, &n, &cut));
    ck_assert(cut && n == 77 && ids[0] == 672 && ids[76] == 673);
    free(ids);
    free(text);
    ts_tokenizer_close(t);
    testing_close(c);
}
END_TEST

static const struct {
    const char *vocab, *merges, *says;
} broken[] = {
    {"{}", "", "vocab.json: the model has no vocab"},
    {"{\"a\": \"b\"}", "", "token \"a\" of the vocab has no id from 0 to 16777215"},
    {"{\"a\": 1, \"b\": 1}", "", "\"a\" and \"b\" both have id 1"},
    {"{\"a\": 0}", "", "the vocabulary has no token for byte 0x00"},
    {"{\"a\": 0, \"b\": 1}", "a b\n",
     "merges.txt: merge 1, \"a b\", is of tokens that are not in the vocab"},
    {"{\"a\": 0}", "#version: 0.2\na\n", "merges.txt: merge 1 is \"a\", expected two tokens"},
    {"{\"a\": 0}", NULL, "merges.txt"},
};
START_TEST(broken_files)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    char *dir = testing_tmp();
    char path[4096];
    ts_tokenizer *t;
    models_write(dir, "vocab.json", broken[_i].vocab, strlen(broken[_i].vocab));
    if (broken[_i].merges)
        models_write(dir, "merges.txt", broken[_i].merges, strlen(broken[_i].merges));
    snprintf(path, sizeof path, "%s/merges.txt", dir);
    if (!broken[_i].merges) remove(path);
    ck_assert_int_ne(ts_tokenizer_open(c, dir, &t), TS_OK);
    ck_assert_msg(strstr(c->err.text, broken[_i].says), "%s", c->err.text);
    free(dir);
    testing_close(c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bpe");
    TCase *tc = tcase_create("bpe");
    tcase_add_test(tc, ids_of_llama);
    tcase_add_test(tc, ids_of_clip);
    tcase_add_test(tc, clip_in_one_file);
    tcase_add_test(tc, long_and_cut);
    tcase_add_loop_test(tc, broken_files, 0, sizeof broken / sizeof *broken);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
