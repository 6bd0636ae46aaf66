/* The hash by which a row is known again: each flag of the table is a setting that makes another
 * row, or named here as one that does not. */
#include "cli/flags_table.c"

#include "tests/cli/program.h"
#include "tests/cli/workspace.h"

static const struct {
    ts_flag_id id;
    const char *value;
} settings[] = {{TS_F_SCALE, "3"},
                {TS_F_CRF, "30"},
                {TS_F_NO_METADATA, ""},
                {TS_F_MODEL, "weights/default"},
                {TS_F_TRANSFORMER, "weights/default/transformer --vae weights/default/vae "
                                   "--text-encoder weights/default/text_encoder"},
                {TS_F_VAE, "weights/default/vae"},
                {TS_F_TEXT_ENCODER, "weights/default/text_encoder"},
                {TS_F_TOKENIZER, "weights/default/tokenizer"},
                {TS_F_SIZE, "48x32"},
                {TS_F_WIDTH, "48"},
                {TS_F_HEIGHT, "48"},
                {TS_F_FRAMES, "9"},
                {TS_F_FPS, "7.5"},
                {TS_F_STEPS, "3"},
                {TS_F_GUIDANCE, "2"},
                {TS_F_GUIDANCE_2, "2"},
                {TS_F_NEGATIVE, "blurry"},
                {TS_F_SEED, "7"},
                {TS_F_SAMPLER, "euler"},
                {TS_F_SHIFT, "3"},
                {TS_F_TIMESTEPS, "1000,500"},
                {TS_F_ATTENTION, "window"},
                {TS_F_VAE_TILE, "32x32"},
                {TS_F_CACHE_STEPS, "easycache"},
                {TS_F_NO_BINS, ""},
                {TS_F_PRECISION, "f32"}};
/* of models of pictures, with two experts, or of one size; of pictures that have a quality */
static const ts_flag_id begins[] = {
    TS_F_INIT,       TS_F_STRENGTH,  TS_F_TRANSFORMER_2,    TS_F_IMAGE_ENCODER,
    TS_F_LORA,       TS_F_LORA_HIGH, TS_F_LORA_LOW,         TS_F_IMAGE,
    TS_F_LAST_IMAGE, TS_F_QUALITY,   TS_F_DYNAMIC_GUIDANCE, TS_F_TEXT_ENCODER_2,
    TS_F_TOKENIZER_2};
static const ts_flag_id others[] = {/* the name, which rows, how fast, what is said */
                                    TS_F_OUTPUT,        TS_F_OUT,           TS_F_NAME,
                                    TS_F_FORMAT,        TS_F_COPIES,        TS_F_OVERWRITE,
                                    TS_F_KEEP_GOING,    TS_F_FAIL_FAST,     TS_F_RETRY,
                                    TS_F_RESUME_STEPS,  TS_F_SHARD,         TS_F_QUEUE,
                                    TS_F_CLAIM_TIMEOUT, TS_F_CACHE,         TS_F_REPORT,
                                    TS_F_STATUS,        TS_F_THREADS,       TS_F_CPU,
                                    TS_F_MEMORY,        TS_F_PROGRESS,      TS_F_QUIET,
                                    TS_F_DRY_RUN,       TS_F_HELP,          TS_F_EXEC,
                                    TS_F_JSON,          TS_F_DEVICE,        TS_F_VRAM,
                                    TS_F_NO_STATE,      TS_F_PRESET,        TS_F_NO_CONFIG,
                                    TS_F_PREVIEW,       TS_F_PREVIEW_EVERY, TS_F_MODELS};

/* The plan of p.txt, in which hashes are names: two rows of the same hash would be refused. */
static const char *plan(const char *flags)
{
    const program_result *r = program_run("batch %s --out %s --dry-run --name '{hash}' --format "
                                          "mp4 --size 32x32 --frames 5 --steps 2 %s",
                                          scratch_path("p.txt"), scratch_path("o"), flags);
    program_expect(r, 0);
    return r->out;
}

static void first_id(const char *plan, char out[17])
{
    const char *name = strstr(plan, "/o/");
    ck_assert_msg(name && strspn(name + 3, "0123456789abcdef") == 16, "%s", plan);
    snprintf(out, 17, "%s", name + 3);
}

START_TEST(every_setting_makes_another_row)
{
    char base[17], other[17], flags[200];
    int rows = 2;
    FILE *f = fopen(scratch_path("p.txt"), "w");
    fputs("a panda --seed 1\na fox --seed 1\n", f);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        const ts_flag *flag = table;
        while (flag->id != settings[i].id) flag++;
        if (flag->commands & ROW) {
            fprintf(f, "a panda %s --%s %s\n", flag->id == TS_F_SEED ? "" : "--seed 1", flag->name,
                    settings[i].value);
            rows++;
        }
    }
    fclose(f);
    const char *all = plan("");
    ck_assert_int_eq(text_count(all, "/o/"), rows);
    first_id(all, base);
    first_id(plan("--threads 1 --quiet --count 2"), other);
    ck_assert_str_eq(base, other);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        const ts_flag *flag = table;
        while (flag->id != settings[i].id) flag++;
        if (flag->commands & ROW) continue;
        snprintf(flags, sizeof flags, "--%s %s", flag->name, settings[i].value);
        first_id(plan(flags), other);
        ck_assert_msg(strcmp(base, other) != 0, "%s makes no other row", flags);
    }
    /* where a text ends */
    scratch_put("p.jsonl", "{\"prompt\": \"x\\ny\", \"negative\": \"z\", \"seed\": "
                           "1}\n{\"prompt\": \"x\", \"negative\": \"y\\nz\", \"seed\": 1}\n"
                           "{\"prompt\": \"xy\", \"negative\": \"z\", \"seed\": 1}\n{\"prompt\": "
                           "\"x\", \"negative\": \"yz\", \"seed\": 1}\n");
    program_expect(program_run("batch %s --out %s --dry-run --name '{hash}'",
                               scratch_path("p.jsonl"), scratch_path("o")),
                   0);
}
END_TEST

/* By what is in the picture, not by its name. */
START_TEST(pictures_to_begin_with)
{
    scratch_put("a.bin", "one");
    scratch_put("b.bin", "two");
    scratch_put("c.bin", "one");
    FILE *f = fopen(scratch_path("p.txt"), "w");
    const char *const rows[] = {"", "--init a.bin", "--init b.bin", "--init a.bin --strength 0.5",
                                "--init c.bin --strength 0.6"};
    for (int i = 0; i < 5; i++) fprintf(f, "a panda --d 1 %s\n", rows[i]);
    fclose(f);
    const program_result *r = program_shell(
        "t=$(realpath ${TESSERA:-./tessera}) && m=$(realpath "
        "tests/fixtures/pixart-alpha-256/model) "
        "&& cd %s && $t batch p.txt --out o --dry-run --name '{hash}' --model $m",
        scratch_path(""));
    program_expect(r, 0);
    ck_assert_int_eq(text_count(r->out, "o/"), 5);
    ck_assert_int_eq(text_count(r->out, "-2.png"), 1);
}
END_TEST

/* Of a kind that has none, quality changes nothing. */
START_TEST(qualities)
{
    scratch_put("p.jsonl", "{\"prompt\": \"x\", \"format\": \"jpg\"}\n"
                           "{\"prompt\": \"x\", \"format\": \"jpg\", \"quality\": 50}\n"
                           "{\"prompt\": \"y\", \"format\": \"png\", \"seed\": 1}\n"
                           "{\"prompt\": \"y\", \"format\": \"png\", \"seed\": 1, "
                           "\"quality\": 50}\n");
    const program_result *r = program_run("batch %s --out %s --dry-run --name '{hash}'",
                                          scratch_path("p.jsonl"), scratch_path("o"));
    program_expect(r, 0);
    ck_assert_int_eq(text_count(r->out, "-2.jpg"), 0);
    ck_assert_int_eq(text_count(r->out, "-2.png"), 1);
}
END_TEST

/* So are the images of a clip, first and last told apart. */
START_TEST(images_of_clips)
{
    FILE *f = fopen(scratch_path("p.txt"), "w");
    const char *const rows[] = {"--image a.bin",
                                "--image b.bin",
                                "--image c.bin",
                                "--image a.bin --last-image a.bin",
                                "--image a.bin --last-image b.bin",
                                "--image b.bin --last-image a.bin"};
    scratch_put("a.bin", "one");
    scratch_put("b.bin", "two");
    scratch_put("c.bin", "one");
    for (int i = 0; i < 6; i++) fprintf(f, "a panda --d 1 --size 32x32 --frames 5 %s\n", rows[i]);
    fclose(f);
    const program_result *r = program_shell(
        "t=$(realpath ${TESSERA:-./tessera}) && m=$(realpath tests/fixtures/wan22-i2v-a14b/model) "
        "&& cd %s && $t batch p.txt --out o --dry-run --name '{hash}' --model $m",
        scratch_path(""));
    program_expect(r, 0);
    ck_assert_int_eq(text_count(r->out, "o/"), 6);
    ck_assert_int_eq(text_count(r->out, "-2.mp4"), 1); /* a.bin and c.bin are the same */
}
END_TEST

/* A row's take the place of the batch's; how strong, and for which expert, counts. */
START_TEST(loras_make_other_rows)
{
    scratch_put("p.jsonl", "{\"prompt\": \"x\", \"seed\": 1}\n"
                           "{\"prompt\": \"x\", \"seed\": 1, \"lora\": \"high\"}\n"
                           "{\"prompt\": \"x\", \"seed\": 1, \"lora\": \"high:0.5\"}\n"
                           "{\"prompt\": \"x\", \"seed\": 1, \"lora-high\": \"high\"}\n"
                           "{\"prompt\": \"x\", \"seed\": 1, \"lora-low\": \"high\"}\n"
                           "{\"prompt\": \"x\", \"seed\": 1, \"lora\": [\"high:0.5\", \"low\"]}\n"
                           "{\"prompt\": \"x\", \"seed\": 1, \"lora\": \"nowhere\"}\n");
    const program_result *r = program_shell(
        "t=$(realpath ${TESSERA:-./tessera}) && f=$(realpath tests/fixtures) && cd %s && mkdir -p "
        "m/loras && cp $f/lora-experts/high.safetensors $f/lora-experts/low.safetensors m/loras/ "
        "&& $t batch p.jsonl --out o --dry-run --name '{hash}' --model $f/wan22-a14b/model "
        "--models m --lora low --size 32x32 --frames 5 --steps 2",
        scratch_path(""));
    program_expect(r, 1);
    ck_assert_int_eq(text_count(r->out, " o/"), 6);
    ck_assert_int_eq(text_count(r->out, "-2.mp4"), 0);
    ck_assert_msg(strstr(r->err, "p.jsonl:7") && strstr(r->err, "nowhere") &&
                      strstr(r->err, "m/loras"),
                  "%s", r->err);
}
END_TEST

START_TEST(guidance_that_changes)
{
    char fixed[17], dynamic[17];
    scratch_put("p.txt", "a panda --seed 1\n");
    first_id(plan("--model tests/fixtures/cogvideox-2b/model"), fixed);
    first_id(plan("--model tests/fixtures/cogvideox-2b/model --dynamic-guidance"), dynamic);
    ck_assert(strcmp(fixed, dynamic) != 0);
}
END_TEST

/* Files that settings name count by what is in them, too. */
START_TEST(contents_of_named_files)
{
    static const char run[] =
        "t=$(realpath ${TESSERA:-./tessera}) && f=$(realpath tests/fixtures) && cd %s && cp %s && "
        "$t batch p.txt --out ./o --dry-run --name '{hash}' --model $f/wan22-a14b/model --size "
        "32x32 "
        "--frames 5 --steps 2 %s";
    static const struct {
        const char *flags, *one, *other;
    } of[] = {{"--lora l.safetensors", "$f/lora-experts/low.safetensors l.safetensors",
               "$f/lora-experts/high.safetensors l.safetensors"},
              {"--attention tile:file=t.json", "a.json t.json", "b.json t.json"}};
    scratch_put("p.txt", "a panda --seed 1\n");
    scratch_put("a.json", "{\"tessera\": \"tiles\", \"tiles\": [[1]]}");
    scratch_put("b.json", "{\"tessera\": \"tiles\", \"tiles\": [[2]]}");
    for (int i = 0; i < 2; i++) {
        char id[3][17];
        for (int k = 0; k < 3; k++) {
            const program_result *r = program_shell(run, scratch_path(""),
                                                    k == 1 ? of[i].other : of[i].one, of[i].flags);
            first_id(r->out, id[k]);
        }
        ck_assert_str_eq(id[0], id[2]);
        ck_assert_msg(strcmp(id[0], id[1]) != 0, "%s: what is in it does not count", of[i].flags);
    }
}
END_TEST

START_TEST(no_flag_is_forgotten)
{
    for (int i = 0; i < ROWS; i++) {
        bool known = !(table[i].commands & (TS_CMD_BATCH | TS_ROW));
        for (size_t k = 0; k < sizeof settings / sizeof *settings; k++)
            known = known || settings[k].id == table[i].id;
        for (size_t k = 0; k < sizeof others / sizeof *others; k++)
            known = known || others[k] == table[i].id;
        for (size_t k = 0; k < sizeof begins / sizeof *begins; k++)
            known = known || begins[k] == table[i].id;
        ck_assert_msg(known,
                      "--%s: does another value make another output? Then set_id "
                      "(cli/batch/batch_name.c) hashes it",
                      table[i].name);
    }
}
END_TEST

int main(void)
{
    scratch_open();
    Suite *s = suite_create("batch_id");
    TCase *t = tcase_create("batch_id");
    tcase_set_timeout(t, 0);
    tcase_add_test(t, every_setting_makes_another_row);
    tcase_add_test(t, pictures_to_begin_with);
    tcase_add_test(t, qualities);
    tcase_add_test(t, images_of_clips);
    tcase_add_test(t, loras_make_other_rows);
    tcase_add_test(t, guidance_that_changes);
    tcase_add_test(t, contents_of_named_files);
    tcase_add_test(t, no_flag_is_forgotten);
    suite_add_tcase(s, t);
    return testing_main(s);
}
