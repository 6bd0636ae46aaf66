/* Which files are a component's: single, sharded, variants, and what is wrong with the rest. */
#include "tests/weights/gguf_writer.h"
#include "tests/weights/scratch.h"
#include "weights/split.h"
#include "weights/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ONE(name, at) \
    "\"" name "\": {\"dtype\": \"F32\", \"shape\": [1, 2], \"data_offsets\": [" at "]}"

/* Shard 1 holds a and b, shard 2 holds c. */
static char *make_shards(const char *map)
{
    char *dir = testing_tmp();
    scratch_safetensors(dir, "model-00001-of-00002.safetensors",
                        "{" ONE("a", "0, 8") ", " ONE("b", "8, 16") "}", 16);
    scratch_safetensors(dir, "model-00002-of-00002.safetensors", "{" ONE("c", "0, 8") "}", 8);
    if (map) scratch_text(dir, "model.safetensors.index.json", map);
    return dir;
}
#define S1 "\"model-00001-of-00002.safetensors\""
#define S2 "\"model-00002-of-00002.safetensors\""

static void expect(char *dir, const char *a, const char *b)
{
    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    ts_weights *ws;
    scratch_expect(&ctx->err, ts_weights_open(ctx, dir, "model", NULL, &ws), TS_EMODEL, dir, a, b,
                   NULL);
    ck_assert_ptr_null(ws);
    testing_close(ctx);
    free(dir);
}

START_TEST(merges_shards)
{
    char *dir = make_shards("{\"metadata\": {\"total_size\": 24}, \"weight_map\": {\"c\": " S2
                            ", \"a\": " S1 ", \"b\": " S1 "}}");
    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    ts_weights *ws;
    ts_weights_stat s;
    float row[2], want[2];
    ck_ok(ctx, ts_weights_open(ctx, dir, "model", NULL, &ws));
    ck_assert(ts_weights_has(ws, "a") && ts_weights_has(ws, "b") && ts_weights_has(ws, "c") &&
              !ts_weights_has(ws, "d"));
    ts_weights_stats(ws, &s);
    ck_assert(s.tensors == 3 && s.parameters == 6 && s.bytes == 24 && s.storages == 1 &&
              s.storage[0].bytes == 24 && s.files == 2);
    ck_assert_str_eq(s.storage[0].name, "F32");
    ck_ok(ctx, ts_weights_rows(ws, "b", (int32_t[]){0}, 1, 1, 2, row));
    memcpy(want, (uint8_t[]){8, 9, 10, 11, 12, 13, 14, 15}, 8); /* from the middle of shard 1 */
    ck_assert(!memcmp(row, want, 8));
    ck_ok(ctx, ts_weights_rows(ws, "c", (int32_t[]){0}, 1, -1, -1, row));
    memcpy(want, (uint8_t[]){0, 1, 2, 3, 4, 5, 6, 7}, 8);
    ck_assert(!memcmp(row, want, 8));
    ck_assert_str_eq(testing_warned(ctx), "");
    ts_weights_warn_unused(ws);
    ck_assert_msg(strstr(testing_warned(ctx), "tensor \"a\" is not used") != NULL, "%s",
                  testing_warned(ctx));
    ts_weights_close(ws);
    testing_close(ctx);
    free(dir);
}
END_TEST

START_TEST(unnamed_tensors_are_there_with_a_warning)
{
    char *dir = make_shards("{\"weight_map\": {\"c\": " S2 ", \"b\": " S1 "}}");
    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    ts_weights *ws;
    ck_ok(ctx, ts_weights_open(ctx, dir, "model", NULL, &ws));
    ck_assert(ts_weights_has(ws, "a"));
    ck_assert_msg(strstr(testing_warned(ctx), "1 tensor that") &&
                      strstr(testing_warned(ctx), "\"a\""),
                  "%s", testing_warned(ctx));
    ts_weights_close(ws);
    testing_close(ctx);
    free(dir);
}
END_TEST

START_TEST(the_index_decides_between_copies)
{
    char *dir = make_shards("{\"weight_map\": {\"c\": " S2 ", \"a\": " S1 ", \"b\": " S1 "}}");
    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    ts_weights *ws;
    float row[2];
    scratch_safetensors(dir, "model-00002-of-00002.safetensors",
                        "{" ONE("a", "8, 16") ", " ONE("c", "0, 8") "}", 16);
    ck_ok(ctx, ts_weights_open(ctx, dir, "model", NULL, &ws));
    ck_ok(ctx, ts_weights_rows(ws, "a", (int32_t[]){0}, 1, 1, 2, row));
    ck_assert_uint_eq(*(uint8_t *)row, 0); /* shard 1 has it at byte 0, shard 2 at 8 */
    ts_weights_close(ws);
    testing_close(ctx);
    scratch_text(dir, "model.safetensors.index.json",
                 "{\"weight_map\": {\"c\": " S2 ", \"b\": " S1 "}}");
    expect(dir, "\"a\"", "also in");
}
END_TEST

START_TEST(refuses_broken_sets)
{
    expect(make_shards(NULL), "neither model.safetensors",
           "shards are there, but the index that lists them is not");
    expect(make_shards("{\"weight_map\": {\"a\": " S1
                       ", \"b\": \"model-00003-of-00003.safetensors\"}}"),
           "model-00003-of-00003.safetensors is missing", "index.json");
    expect(make_shards("{\"weight_map\": {\"a\": " S1 ", \"zz\": " S2 "}}"), "\"zz\"",
           "model-00002-of-00002.safetensors");
    expect(make_shards("{\"weight_map\": {\"a\": " S1 ", \"0\": " S2 "}}"), "\"0\"",
           "model-00002-of-00002.safetensors");
    /* there, but in the other shard */
    expect(make_shards("{\"weight_map\": {\"a\": " S2 ", \"b\": " S1 "}}"), "\"a\"",
           "model-00002-of-00002.safetensors");
    expect(make_shards("{\"weight_map\": {\"a\": " S1 ", \"a\": " S1 "}}"), "\"a\"", "twice");
    expect(make_shards("{\"weight_map\": {\"a\": \"../x.safetensors\"}}"), "\"a\"", "no file name");
    expect(make_shards("{\"weight_map\": {\"a\": 3}}"), "\"a\"", "no file name");
    expect(make_shards("{\"weight_map\": {}}"), "weight_map", "no tensor");
    expect(make_shards("{\"weight_map\": [1]}"), "weight_map", "no tensor");
    expect(make_shards("{\"other\": 1}"), "weight_map", "no tensor");
    expect(make_shards("[1, 2"), "index.json:1:", "JSON");
    char *dir = make_shards("{\"weight_map\": {\"a\": " S1 ", \"b\": " S1 ", \"c\": " S2 "}}");
    scratch_safetensors(dir, "model-00002-of-00002.safetensors", "{" ONE("c", "0, 8") "}", 7);
    expect(dir, "model-00002-of-00002.safetensors", "\"c\"");
    dir = testing_tmp();
    scratch_text(dir, "pytorch_model.bin", "x");
    expect(dir, "neither", ".bin");
}
END_TEST

/* The plain file goes first, then its index, then variants in order of preference. */
START_TEST(falls_back_to_variants)
{
    static const char *const order[] = {"model.safetensors",
                                        "model.bf16.safetensors",
                                        "model.fp16.safetensors",
                                        "model.non_ema.safetensors",
                                        "model.safetensors.index.fp16.json",
                                        "model.safetensors.fp16.index.json"};
    char *dir = testing_tmp(), path[600];
    scratch_safetensors(dir, "model.fp16-00001-of-00001.safetensors", "{" ONE("t4", "0, 8") "}", 8);
    /* two dots: no variant */
    scratch_safetensors(dir, "model.a.b.safetensors", "{" ONE("no", "0, 8") "}", 8);
    scratch_text(dir, order[4],
                 "{\"weight_map\": {\"t4\": \"model.fp16-00001-of-00001.safetensors\"}}");
    scratch_safetensors(dir, "model-00001-of-00001.fp16.safetensors", "{" ONE("t5", "0, 8") "}", 8);
    scratch_text(dir, order[5],
                 "{\"weight_map\": {\"t5\": \"model-00001-of-00001.fp16.safetensors\"}}");
    for (int i = 0; i < 4; i++) {
        char header[100];
        snprintf(header, sizeof header,
                 "{\"t%d\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 8]}}", i);
        scratch_safetensors(dir, order[i], header, 8);
    }
    for (int i = 0; i < 6; i++) {
        ts_ctx *ctx = testing_open("cpu", NULL, 1);
        ts_weights *ws;
        char name[] = {'t', (char)('0' + i), 0};
        ck_ok(ctx, ts_weights_open(ctx, dir, "model", NULL, &ws));
        ck_assert_msg(ts_weights_has(ws, name), "%s is not what was opened", order[i]);
        ts_weights_close(ws);
        testing_close(ctx);
        snprintf(path, sizeof path, "%s/%s", dir, order[i]);
        remove(path);
    }
    expect(dir, "neither", "model.safetensors");
}
END_TEST

/* Which tensor of a folder with a single file and an index is found under a stem. */
static void expect_choice(const char *stem, const char *name)
{
    char *dir = testing_tmp(), file[96], index[96], shard[96], map[200];
    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    ts_weights *ws;
    snprintf(file, sizeof file, "%s.safetensors", stem);
    snprintf(index, sizeof index, "%s.safetensors.index.json", stem);
    snprintf(shard, sizeof shard, "%s-00001-of-00001.safetensors", stem);
    snprintf(map, sizeof map, "{\"weight_map\": {\"shard\": \"%s\"}}", shard);
    scratch_safetensors(dir, file, "{" ONE("single", "0, 8") "}", 8);
    scratch_safetensors(dir, shard, "{" ONE("shard", "0, 8") "}", 8);
    scratch_text(dir, index, map);
    ck_ok(ctx, ts_weights_open(ctx, dir, stem, NULL, &ws));
    ck_assert_msg(ts_weights_has(ws, name), "%s: not %s", stem, name);
    ts_weights_close(ws);
    testing_close(ctx);
    free(dir);
}

START_TEST(a_file_beside_shards)
{
    expect_choice("diffusion_pytorch_model", "shard");
    expect_choice("model", "single");
}
END_TEST

START_TEST(links_of_a_broken_download)
{
    char *dir = testing_tmp(), path[600];
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    ck_assert_int_eq(symlink("../../blobs/0123", path), 0);
    expect(dir, "model.safetensors is a link to ../../blobs/0123", "not there");
    dir = make_shards("{\"weight_map\": {\"a\": " S1 ", \"b\": " S1 ", \"c\": " S2 "}}");
    snprintf(path, sizeof path, "%s/model-00002-of-00002.safetensors", dir);
    ck_assert(remove(path) == 0 && symlink("../blobs/2", path) == 0);
    expect(dir, "model-00002-of-00002.safetensors is a link to ../blobs/2", "not there");
}
END_TEST

START_TEST(finds_by_name_type_and_shape)
{
    char *dir = testing_tmp();
    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    ts_weights *ws;
    ts_weights_stat stat;
    const ts_weight *w;
    ts_layer layer;
    const char *path = scratch_safetensors(
        dir, "model.safetensors",
        "{\"m.weight\": {\"dtype\": \"BF16\", \"shape\": [2, 3], \"data_offsets\": [0, 12]}, "
        "\"m.bias\": {\"dtype\": \"F16\", \"shape\": [2], \"data_offsets\": [12, 16]},"
        "\"c.weight\": {\"dtype\": \"F32\", \"shape\": [1, 2, 1, 1], \"data_offsets\": [16, 24]}, "
        "\"c.bias\": {\"dtype\": \"F32\", \"shape\": [3], \"data_offsets\": [24, 36]},"
        "\"f64\": {\"dtype\": \"F64\", \"shape\": [1], \"data_offsets\": [36, 44]}, \"i\": "
        "{\"dtype\": \"I32\", \"shape\": [1], \"data_offsets\": [44, 48]}}",
        48);
    char file[600];
    snprintf(file, sizeof file, "%s", path);
    ck_ok(ctx,
          ts_weights_open(ctx, dir, "model", NULL, &ws)); /* types nobody asks for do no harm */
    static const struct {
        const char *name;
        size_t bytes;
    } storage[] = {{"F32", 20}, {"I32", 4}, {"F16", 4}, {"BF16", 12}};
    ts_weights_stats(ws, &stat);
    ck_assert(stat.tensors == 6 && stat.parameters == 2 + 3 + 1 + 2 + 6 && stat.bytes == 48);
    ck_assert_int_eq(stat.storages, 4); /* F64 can not be used */
    for (int i = 0; i < 4; i++) {
        ck_assert_str_eq(stat.storage[i].name, storage[i].name);
        ck_assert_uint_eq(stat.storage[i].bytes, storage[i].bytes);
    }
    ck_ok(ctx, ts_find_linear(ws, 0, &layer, 2, 3, true, "%c", 'm'));
    ck_assert(layer.w->t.nd == 2 && layer.w->t.dim[1] == 3 && layer.w->t.ld == 3 &&
              layer.w->t.type == TS_BF16 && layer.b->t.type == TS_F32 && layer.b->t.dim[0] == 2);
    ck_ok(ctx, ts_weights_find(ws, 5, TS_ROLE_VECTOR, "m.bias", 1, (long[]){-1}, &w));
    ck_assert_ptr_eq(w, layer.b);
    ck_ok(ctx, ts_find_linear(ws, 0, &layer, -1, -1, false, "m"));
    ck_assert_ptr_null(layer.b);
    scratch_expect(&ctx->err, ts_find_linear(ws, 0, &layer, 2, 4, true, "m"), TS_ESHAPE, file,
                   "\"m.weight\" is [2, 3], expected [2, 4]", NULL);
    scratch_expect(&ctx->err, ts_find_linear(ws, 0, &layer, 1, 1, true, "blocks.%d.x", 7),
                   TS_EMODEL, file, "\"blocks.7.x.weight\" [1, 1] is missing", NULL);
    scratch_expect(&ctx->err, ts_find_conv(ws, 0, &layer, 4, (long[]){1, 2, 1, 1}, "c"), TS_ESHAPE,
                   file, "\"c.bias\" is [3], expected [1]", NULL);
    scratch_expect(&ctx->err, ts_find_conv(ws, 0, &layer, 5, (long[]){1, 2, 1, 1, 1}, "c"),
                   TS_ESHAPE, file, "\"c.weight\" is [1, 2, 1, 1], expected [1, 2, 1, 1, 1]", NULL);
    scratch_expect(&ctx->err, ts_find_vector(ws, 0, &w, 1, (long[]){1}, "f64"), TS_EMODEL, file,
                   "\"f64\": type F64 is not supported", NULL);
    scratch_expect(&ctx->err, ts_find_vector(ws, 0, &w, 1, (long[]){1}, "i"), TS_EMODEL, file,
                   "\"i\" is I32, expected F32, BF16 or F16", NULL);
    ck_assert_ptr_null(w);
    ts_weights_close(ws);
    ts_weights_close(NULL);
    testing_close(ctx);
    free(dir);
}
END_TEST

START_TEST(finds_the_layers_of_a_table)
{
    static const struct {
        const char *name;
        int nd;
        long dim[2];
    } tensor[] = {{"b.4.up.weight", 2, {2, 3}},   {"b.4.up.bias", 1, {2}},
                  {"b.4.norm.weight", 1, {2}},    {"b.4.norm.bias", 1, {2}},
                  {"b.4.down.weight", 2, {3, 2}}, {"b.4.down.bias", 1, {3}},
                  {"norm.weight", 1, {1}},        {"norm.bias", 1, {1}}};
    static const float numbers[6];
    char *dir = testing_tmp(), path[600];
    ts_bag *bag = ts_bag_new();
    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    ts_weights *ws;
    ts_layer l[3], top;
    const ts_layer_row row[] = {TS_LINEAR(l, "up", 2, 3),
                                TS_NORM(l + 1, "norm", 2),
                                {l + 2, "down", 3, 2, false}},
                       wide[] = {TS_NORM(l, "norm", 3)}, alone[] = {TS_NORM(&top, "norm", 1)};
    for (size_t i = 0; i < sizeof tensor / sizeof *tensor; i++)
        ts_bag_put(bag, tensor[i].name, TS_F32, tensor[i].nd, tensor[i].dim, numbers);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    ck_ok(ctx, ts_bag_save(&ctx->err, bag, path));
    ts_bag_free(bag);
    ck_ok(ctx, ts_weights_open(ctx, dir, "model", NULL, &ws));
    ck_ok(ctx, ts_find_layers(ws, 0, row, 3, "b", 4));
    ck_assert(l[0].w->t.nd == 2 && l[0].w->t.dim[1] == 3 && l[0].b->t.dim[0] == 2);
    ck_assert(l[1].w->t.nd == 1 && l[1].w->t.dim[0] == 2 && l[1].b && l[1].b != l[1].w);
    ck_assert(l[2].w->t.dim[0] == 3 && !l[2].b);
    ck_ok(ctx, ts_find_layers(ws, 0, alone, 1, NULL, 4));
    ck_assert(top.w->t.dim[0] == 1 && top.w != l[1].w);
    scratch_expect(&ctx->err, ts_find_layers(ws, 0, wide, 1, "b", 4), TS_ESHAPE,
                   "\"b.4.norm.weight\" is [2], expected [3]", NULL);
    scratch_expect(&ctx->err, ts_find_layers(ws, 0, row, 3, "b", 5), TS_EMODEL,
                   "\"b.5.up.weight\" [2, 3] is missing", NULL);
    ts_weights_close(ws);
    testing_close(ctx);
    free(dir);
}
END_TEST

START_TEST(reads_rows)
{
    char *dir = testing_tmp(), path[600];
    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    ts_weights *ws;
    ts_bag *bag = ts_bag_new();
    float table[4 * 3], out[3 * 3];
    uint16_t half[12], bf[12];
    for (int i = 0; i < 12; i++) {
        table[i] = (float)i / 4 - 1;
        half[i] = scratch_f16(table[i]);
        bf[i] = scratch_bf16(table[i]);
    }
    ts_bag_put(bag, "f32", TS_F32, 2, (long[]){4, 3}, table);
    ts_bag_put(bag, "f16", TS_F16, 2, (long[]){4, 3}, half);
    ts_bag_put(bag, "bf16", TS_BF16, 2, (long[]){4, 3}, bf);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    ck_ok(ctx, ts_bag_save(&ctx->err, bag, path));
    ts_bag_free(bag);
    ck_ok(ctx, ts_weights_open(ctx, dir, "model", NULL, &ws));
    for (const char *const *name = (const char *const[]){"f32", "f16", "bf16", NULL}; *name;
         name++) {
        ck_ok(ctx, ts_weights_rows(ws, *name, (int32_t[]){3, 0, 3}, 3, 4, 3, out));
        for (int i = 0; i < 3; i++)
            ck_assert(out[i] == table[9 + i] && out[3 + i] == table[i] &&
                      out[6 + i] == table[9 + i]);
    }
    scratch_expect(&ctx->err, ts_weights_rows(ws, "f32", (int32_t[]){4}, 1, 4, 3, out), TS_ESHAPE,
                   "id 4", "4 rows", NULL);
    scratch_expect(&ctx->err, ts_weights_rows(ws, "f32", (int32_t[]){-1}, 1, 4, 3, out), TS_ESHAPE,
                   "id -1", "\"f32\"", NULL);
    scratch_expect(&ctx->err, ts_weights_rows(ws, "f32", NULL, 0, 5, 3, out), TS_ESHAPE, "[4, 3]",
                   "[5, 3]", NULL);
    ts_weights_warn_unused(ws);
    ck_assert_str_eq(testing_warned(ctx), ""); /* read is used */
    ts_weights_close(ws);
    testing_close(ctx);
    free(dir);
}
END_TEST

/* ---- parts that are found by their names ---- */

START_TEST(names_of_parts)
{
    static const struct {
        const char *path;
        int part, parts;
        const char *first, *index;
    } row[] = {
        {"a/model-00002-of-00003.safetensors", 2, 3, "a/model-00001-of-00003.safetensors",
         "a/model.safetensors.index.json"},
        {"x-1-of-9.gguf", 1, 9, "x-1-of-9.gguf", "x.gguf.index.json"},
        {"wan-14b-Q4-00010-of-00012.gguf", 10, 12, "wan-14b-Q4-00001-of-00012.gguf",
         "wan-14b-Q4.gguf.index.json"},
        {"model-00001-of-00001.fp16.safetensors", 1, 1, "model-00001-of-00001.fp16.safetensors",
         "model.fp16.safetensors.index.json"},
        {"model-00000-of-00003.safetensors", 0, 0, NULL, NULL},
        {"model-00004-of-00003.safetensors", 0, 0, NULL, NULL},
        {"model-2-of-03.safetensors", 0, 0, NULL, NULL},
        {"b-00001-of-00002/model.safetensors", 0, 0, NULL, NULL},
        {"model-00001-of-00002", 0, 0, NULL, NULL},
        {"model-1234567-of-1234567.gguf", 0, 0, NULL, NULL},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        ts_split split;
        ck_assert_msg(ts_split_read(row[i].path, &split) == (row[i].part > 0), "%s", row[i].path);
        char *first = ts_split_path(&split, 1);
        ck_assert_str_eq(first, row[i].first ? row[i].first : row[i].path);
        free(first);
        if (!row[i].part) continue;
        char *index = ts_split_index(&split);
        ck_assert(split.part == row[i].part && split.parts == row[i].parts);
        ck_assert_str_eq(index, row[i].index);
        free(index);
    }
}
END_TEST

static ts_status open_part(ts_ctx *ctx, const char *dir, const char *name, ts_weights **ws)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return ts_weights_open(ctx, path, "model", NULL, ws);
}

/* Any of them gives all, with an index beside them and without. */
START_TEST(parts_by_the_name_of_one)
{
    static const char *const map = "{\"weight_map\": {\"c\": " S2 ", \"a\": " S1 ", \"b\": " S1
                                   "}}";
    for (int i = 0; i < 4; i++) {
        ts_ctx *ctx = testing_open("cpu", NULL, 1);
        char *dir = make_shards(i / 2 ? map : NULL);
        ts_weights *ws;
        ts_weights_stat s;
        ck_ok(ctx, open_part(ctx, dir,
                             i % 2 ? "model-00001-of-00002.safetensors"
                                   : "model-00002-of-00002.safetensors",
                             &ws));
        ts_weights_stats(ws, &s);
        ck_assert(s.tensors == 3 && s.files == 2 && ts_weights_has(ws, "a") &&
                  ts_weights_has(ws, "c"));
        ts_weights_close(ws);
        free(dir);
        testing_close(ctx);
    }
}
END_TEST

START_TEST(a_part_is_missing_or_there_twice)
{
    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    char *dir = make_shards(NULL), path[4096];
    ts_weights *ws;
    scratch_safetensors(dir, "model-00002-of-00002.safetensors", "{" ONE("b", "0, 8") "}", 8);
    scratch_expect(&ctx->err, open_part(ctx, dir, "model-00001-of-00002.safetensors", &ws),
                   TS_EMODEL, "tensor \"b\" is in ", "model-00001-of-00002.safetensors and in",
                   "model-00002-of-00002.safetensors", NULL);
    snprintf(path, sizeof path, "%s/model-00002-of-00002.safetensors", dir);
    ck_assert_int_eq(unlink(path), 0);
    scratch_expect(&ctx->err, open_part(ctx, dir, "model-00001-of-00002.safetensors", &ws),
                   TS_EMODEL, "model-00002-of-00002.safetensors is missing: ",
                   "model-00001-of-00002.safetensors is one of 2 parts", NULL);
    free(dir);
    testing_close(ctx);
}
END_TEST

/* no, count, tensors: of the keys split.*; -1: not there */
static void write_gguf_part(const char *dir, const char *name, int no, int count, int tensors,
                            const char *tensor)
{
    char path[4096];
    gguf_writer *w = gguf_begin();
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (no >= 0) gguf_u32(w, "split.no", (uint32_t)no);
    if (count >= 0) gguf_u32(w, "split.count", (uint32_t)count);
    if (tensors >= 0) gguf_u32(w, "split.tensors.count", (uint32_t)tensors);
    if (tensor) gguf_tensor(w, tensor, 1, (long[]){2}, (float[]){1, 2});
    gguf_end(w, path);
}

START_TEST(parts_of_a_gguf)
{
    static const struct {
        const char *second; /* the name of the second part */
        int no, count, tensors;
        const char *tensor, *open, *says[2];
    } row[] = {
        {"m-00002-of-00002.gguf", 1, 2, 2, "b", "m-00001-of-00002.gguf", {NULL}},
        {"m-00002-of-00002.gguf", 1, 2, 2, "b", "m-00002-of-00002.gguf", {NULL}},
        {"m-00002-of-00002.gguf", 1, 2, -1, "b", "m-00002-of-00002.gguf", {NULL}},
        {"m-00003-of-00002.gguf",
         1,
         2,
         2,
         "b",
         "m-00001-of-00002.gguf",
         {"m-00002-of-00002.gguf is missing", "one of 2 parts"}},
        {"m-00002-of-00002.gguf",
         2,
         2,
         2,
         "b",
         "m-00001-of-00002.gguf",
         {"is part 3 by its key split.no, 2 by its name"}},
        {"m-00002-of-00002.gguf",
         1,
         3,
         2,
         "b",
         "m-00001-of-00002.gguf",
         {"is one of 3 parts by its key split.count, of 2 by its name"}},
        {"m-00002-of-00002.gguf",
         1,
         2,
         2,
         NULL,
         "m-00001-of-00002.gguf",
         {"have 1 tensors, 2 by their key"}},
        {"m-00002-of-00002.gguf", 1, 2, 2, "a", "m-00001-of-00002.gguf", {"tensor \"a\" is in"}},
        {"second.gguf",
         1,
         3,
         2,
         "b",
         "second.gguf",
         {"second.gguf is one of 3 parts of a GGUF", "NAME-00001-of-00003.gguf"}},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        ts_ctx *ctx = testing_open("cpu", NULL, 1);
        char *dir = testing_tmp();
        ts_weights *ws;
        write_gguf_part(dir, "m-00001-of-00002.gguf", 0, 2, row[i].tensors, "a");
        write_gguf_part(dir, row[i].second, row[i].no, row[i].count, row[i].tensors, row[i].tensor);
        ts_status st = open_part(ctx, dir, row[i].open, &ws);
        if (row[i].says[0])
            scratch_expect(&ctx->err, st, TS_EMODEL, row[i].says[0],
                           row[i].says[1] ? row[i].says[1] : "", NULL);
        else
            ck_ok(ctx, st);
        ck_assert(!!ws == !st);
        if (ws) ck_assert(ts_weights_has(ws, "a") && ts_weights_has(ws, "b"));
        ts_weights_close(ws);
        free(dir);
        testing_close(ctx);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("checkpoint");
    TCase *t = tcase_create("all");
    tcase_add_test(t, merges_shards);
    tcase_add_test(t, unnamed_tensors_are_there_with_a_warning);
    tcase_add_test(t, the_index_decides_between_copies);
    tcase_add_test(t, refuses_broken_sets);
    tcase_add_test(t, falls_back_to_variants);
    tcase_add_test(t, a_file_beside_shards);
    tcase_add_test(t, links_of_a_broken_download);
    tcase_add_test(t, finds_by_name_type_and_shape);
    tcase_add_test(t, finds_the_layers_of_a_table);
    tcase_add_test(t, reads_rows);
    tcase_add_test(t, names_of_parts);
    tcase_add_test(t, parts_by_the_name_of_one);
    tcase_add_test(t, a_part_is_missing_or_there_twice);
    tcase_add_test(t, parts_of_a_gguf);
    suite_add_tcase(s, t);
    return testing_main(s);
}
