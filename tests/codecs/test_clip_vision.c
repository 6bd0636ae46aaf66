/* CLIP's image encoder: what it sees of a picture, and configs that are not supported. Its states
 * are compared with transformers' where whole pipelines are (sampler/test_pipeline). */
#include "codecs/clip_vision.h"

#include "tests/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char encoder_config[] =
    "{\"hidden_size\": 20, \"intermediate_size\": 40, \"num_hidden_layers\": 4, "
    "\"num_attention_heads\": 2, \"image_size\": 28, \"patch_size\": 7, \"hidden_act\": \"gelu\"}";

/* Reads the two configs, the second where it is not NULL. */
static ts_status read_configs(ts_ctx *c, const char *encoder, const char *processor,
                              ts_clip_vision_info *i)
{
    char *dir = testing_tmp(), path[4096];
    ts_component parts[2] = {{.name = "image_encoder",
                              .dir = dir,
                              .config = cJSON_Parse(encoder),
                              .config_path = "encoder/config.json"},
                             {.name = "image_processor", .dir = dir}};
    ck_assert_ptr_nonnull(parts[0].config);
    snprintf(path, sizeof path, "%s/preprocessor_config.json", dir);
    if (processor) {
        FILE *f = fopen(path, "w");
        ck_assert(f && fputs(processor, f) >= 0);
        fclose(f);
    }
    ts_status st = ts_clip_vision_read(c, parts, processor ? parts + 1 : NULL, i);
    cJSON_Delete(parts[0].config);
    free(dir);
    return st;
}

static void refuse(const char *encoder, const char *processor, const char *says)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    ts_clip_vision_info i;
    ck_assert_int_eq(read_configs(c, encoder, processor, &i), TS_EMODEL);
    ck_assert_msg(strstr(c->err.text, says) != NULL, "\"%s\" does not say \"%s\"", c->err.text,
                  says);
    testing_close(c);
}

START_TEST(configs)
{
    ts_ctx *c = testing_open("cpu", NULL, 1);
    ts_clip_vision_info i;
    ck_ok(c, read_configs(c, encoder_config, NULL, &i));
    ck_assert(i.edge == 28 && i.act == TS_ACT_GELU && ts_clip_vision_rows(&i) == 17);
    ck_ok(c, read_configs(c, encoder_config, "{\"size\": 30, \"crop_size\": 28}", &i));
    ck_assert_int_eq(i.edge, 30);
    ck_ok(c, read_configs(c, encoder_config,
                          "{\"size\": {\"height\": 40, \"width\": 50}, \"resample\": 3}", &i));
    ck_assert(i.edge == 0 && i.edge_w == 50 && i.edge_h == 40);
    ck_assert_str_eq(testing_warned(c), "");
    testing_close(c);
    refuse(encoder_config, "{\"size\": {\"longest_edge\": 28}}",
           "\"size\" is {\"longest_edge\":28}");
    refuse(encoder_config, "{\"size\": -1}", "\"size\" is -1");
    refuse(encoder_config, "{\"crop_size\": {\"height\": 27, \"width\": 28}}",
           "\"crop_size\" is 28x27, the encoder sees 28x28");
    refuse(encoder_config, "{\"resample\": 1}", "resample");
    refuse(encoder_config, "{\"do_center_crop\": false}", "do_center_crop");
    refuse(encoder_config, "{\"image_std\": [1, 0, 1]}", "\"image_std\" is 0");
    refuse(encoder_config, "{", "preprocessor_config.json");
    refuse("{\"hidden_act\": \"relu\"}", NULL, "hidden_act \"relu\" is not supported");
    refuse("{\"hidden_size\": 10, \"num_attention_heads\": 3}", NULL, "no multiple of 3 heads");
    refuse("{\"num_channels\": 1}", NULL, "num_channels");
    refuse("{\"image_size\": 4, \"patch_size\": 5}", NULL, "patch_size");
}
END_TEST

/* A picture of one colour: the middle is that colour, what lies beyond it is black. */
START_TEST(smaller_than_the_crop)
{
    ts_err err = {0};
    static uint8_t rgb[3 * 12 * 9];
    ts_picture p = {.w = 12, .h = 9, .rgb = rgb};
    ts_clip_vision_info i = {.image = 8,
                             .edge = 5, /* 6 x 5 in 8 x 8: one column to the left, two rows above */
                             .rescale = 1 / 255.0,
                             .mean = {0.5F, 0.25F, 0},
                             .std = {0.5F, 1, 2}};
    float out[8 * 8 * 3];
    memset(rgb, 51, sizeof rgb);
    ck_assert(ts_clip_vision_pixels(&err, &i, &p, out) == TS_OK);
    for (int y = 0; y < 8; y++)
        for (int x = 0; x < 8; x++) {
            bool inside = x >= 1 && x < 7 && y >= 2 && y < 7;
            for (int c = 0; c < 3; c++) {
                float want = ((inside ? 0.2F : 0) - i.mean[c]) / i.std[c];
                ck_assert_msg(out[3 * (8 * y + x) + c] == want, "%d, %d: %g, expected %g", x, y,
                              out[3 * (8 * y + x) + c], want);
            }
        }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("clip vision");
    TCase *tc = tcase_create("clip vision");
    tcase_add_test(tc, configs);
    tcase_add_test(tc, smaller_than_the_crop);
    suite_add_tcase(s, tc);
    return testing_main(s);
}
