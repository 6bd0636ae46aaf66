/* Numbers of 8 bits and the scales beside them. */
#include "backend/cpu/block_decoders.h"
#include "tests/weights/scratch.h"
#include "weights/safetensors.h"
#include "weights/weights.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *dir;
static ts_err err;

/* A safetensors file of this header, whose data are these. */
static const char *write_file(const char *header, const void *data, size_t n)
{
    static uint8_t b[1 << 12];
    size_t h = strlen(header);
    ck_assert(8 + h + n <= sizeof b);
    memset(b, 0, 8);
    memcpy(b, &(uint32_t){(uint32_t)h}, 4);
    memcpy(b + 8, header, h);
    memcpy(b + 8 + h, data, n);
    return scratch_write(dir, "eight.safetensors", b, 8 + h + n);
}

static const ts_entry *find_entry(const ts_source *s, const char *name)
{
    for (int i = 0; i < s->entries; i++)
        if (!strcmp(s->entry[i].name, name)) return s->entry + i;
    return NULL;
}

static void open_file(const char *header, const void *data, size_t n, ts_source *s)
{
    ck_assert_msg(ts_source_open(&err, write_file(header, data, n), s) == TS_OK, "%s", err.text);
}

/* ---- tables ---- */

START_TEST(every_number_of_both_types)
{
    ts_bag *want = testing_bag(testing_fixture("fp8-plain/expected.safetensors"));
    ts_fp8_decoder *const *cpu[] = {ts_fp8_ref, ts_fp8_avx2, ts_fp8_avx512};
    int levels = 1;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) levels = 2;
    if (levels == 2 && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        levels = 3;
    for (int level = 0; level <= levels; level++)
        for (int type = 0; type < TS_FP8_TYPES; type++) {
            const float *f = testing_f32(want, type ? "table.e5m2" : "table.e4m3fn", NULL);
            uint8_t from[257];
            float to[256];
            for (int i = 0; i < 257; i++) from[i] = (uint8_t)(i - 1);
            if (level < levels)
                cpu[level][type](from + 1, 256, to);
            else
                ts_fp8_widen((ts_fp8)type, from + 1, 256, to);
            for (int i = 0; i < 256; i++)
                ck_assert_msg(isnan(f[i]) ? isnan(to[i]) : !memcmp(f + i, to + i, sizeof *f),
                              "type %d, level %d, %02x: %g, expected %g", type, level, i, to[i],
                              f[i]);
        }
    ts_bag_free(want);
}
END_TEST

/* ---- scales ---- */

/* A weight of [4, 6] with the numbers 1, 2, 4, ... and one form of scale: which of its numbers
 * number (row, column) is multiplied with. */
static int one_scale(int r, int c) { return 0 * (r + c); }
static int row_scale(int r, int c) { return r + 0 * c; }
static int part_scale(int r, int c) { return 2 * r + c / 3; }
static const struct {
    const char *name, *shape;
    int n;
    int (*of)(int r, int c);
} scaled[] = {
    {"scale_weight", "[]", 1, one_scale},     {"scale_weight", "[1]", 1, one_scale},
    {"weight_scale", "[]", 1, one_scale},     {"weight_scale", "[1,1]", 1, one_scale},
    {"weight_scale", "[4,1]", 4, row_scale},  {"weight_scale", "[4]", 4, row_scale},
    {"scale_weight", "[4,1]", 4, row_scale},  {"scale_weight", "[4,2,1]", 8, part_scale},
    {"scale_weight", "[4,2]", 8, part_scale},
};

START_TEST(scales_of_every_form)
{
    for (int half = 0; half < 2; half++) {
        char header[700];
        uint8_t data[24 + 32] = {0};
        float out[24];
        ts_source s;
        int n = scaled[_i].n, size = half ? 2 : 4;
        for (int i = 0; i < 24; i++) data[i] = (uint8_t)(0x38 + 8 * (i % 6)); /* 2^(i % 6) */
        for (int i = 0; i < n; i++) {
            float f = 0.75f + (float)i;
            uint16_t h = scratch_bf16(f);
            memcpy(data + 24 + size * i, half ? (void *)&h : (void *)&f, (size_t)size);
        }
        snprintf(header, sizeof header,
                 "{\"p.x.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[4,6],\"data_offsets\":[0,24]},"
                 "\"p.x.%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[24,%d]}}",
                 scaled[_i].name, half ? "BF16" : "F32", scaled[_i].shape, 24 + size * n);
        open_file(header, data, (size_t)(24 + size * n), &s);
        ck_assert_int_eq(s.entries, 1);
        const ts_entry *e = s.entry;
        ck_assert(!e->odd && !e->t.data && e->t.type == TS_F32 && e->t.nd == 2 && e->bytes == 24);
        ck_assert_str_eq(e->storage, "F8_E4M3");
        for (int first = 0; first < 4; first += 3) {
            int rows = first ? 1 : 4;
            ck_assert_msg(s.class->read(&err, &s, e, first, rows, out) == TS_OK, "%s", err.text);
            for (int i = 0; i < 6 * rows; i++) {
                float want = (float)(1 << i % 6) *
                             (0.75f + (float)scaled[_i].of(first + i / 6, i % 6));
                ck_assert_msg(out[i] == want, "row %d, number %d: %g, expected %g", first, i,
                              out[i], want);
            }
        }
        ts_source_close(&s);
    }
}
END_TEST

/* A vector, too, and a kernel of five dimensions. */
START_TEST(scales_of_other_shapes)
{
    ts_source s;
    float out[8], scales[] = {2, 3};
    uint8_t data[8 + 8 + 2];
    memset(data, 0x38, sizeof data);
    memcpy(data + 8, scales, sizeof scales);
    open_file("{\"k.weight\":{\"dtype\":\"F8_E5M2\",\"shape\":[2,1,1,2,2],\"data_offsets\":[0,8]},"
              "\"k.weight_scale\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[8,16]},"
              "\"v\":{\"dtype\":\"F8_E4M3\",\"shape\":[2],\"data_offsets\":[16,18]}}",
              data, sizeof data, &s);
    ck_assert_int_eq(s.entries, 2);
    ck_assert(s.class->read(&err, &s, find_entry(&s, "k.weight"), 1, 1, out) == TS_OK);
    for (int i = 0; i < 4; i++) ck_assert(out[i] == 3 * 0.5f); /* 0x38 of E5M2 */
    ck_assert(s.class->read(&err, &s, find_entry(&s, "v"), 0, 1, out) == TS_OK && out[1] == 1);
    ck_assert_ptr_null(s.warning);
    ts_source_close(&s);

    memcpy(data + 2, scales, sizeof scales);
    open_file("{\"n.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[2],\"data_offsets\":[0,2]},"
              "\"n.weight_scale\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[2,10]}}",
              data, 10, &s);
    ck_assert(s.class->read(&err, &s, s.entry, 0, 1, out) == TS_OK && out[0] == 2 && out[1] == 3);
    ts_source_close(&s);
}
END_TEST

/* Scales, formats and marks are no entries where they belong to a weight; a scale beside a weight
 * that is not fp8 is not looked at. */
START_TEST(companions_are_hidden)
{
    ts_source s;
    float out[2];
    uint8_t data[80] = {0};
    data[0] = 0x3c; /* 0x3c00: 1 in F16, at 1 */
    open_file("{\"a.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[1,1],\"data_offsets\":[0,1]},"
              "\"b.weight\":{\"dtype\":\"F16\",\"shape\":[1,1],\"data_offsets\":[1,3]},"
              "\"a.input_scale\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[3,7]},"
              "\"b.scale_input\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[7,11]},"
              "\"b.scale_weight\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[11,15]},"
              "\"a.comfy_quant\":{\"dtype\":\"U8\",\"shape\":[5],\"data_offsets\":[15,20]},"
              "\"c.weight_scale\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[20,24]},"
              "\"m.scaled_fp8\":{\"dtype\":\"F8_E4M3\",\"shape\":[2],\"data_offsets\":[24,26]},"
              "\"unscaled_fp8\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[26,27]}}",
              data, 27, &s);
    ck_assert(s.entries == 4 && find_entry(&s, "a.weight") && find_entry(&s, "b.weight") &&
              find_entry(&s, "c.weight_scale") && find_entry(&s, "unscaled_fp8"));
    ck_assert(s.class->read(&err, &s, find_entry(&s, "b.weight"), 0, 1, out) == TS_OK &&
              out[0] == 0); /* and its scale is 0 */
    ck_assert(s.warning && strstr(s.warning, "for 1 of them") && strstr(s.warning, "\"a.weight\""));
    ts_source_close(&s);
}
END_TEST

/* ---- what is refused when it is asked for ---- */

#define W(type, shape, bytes) \
    "{\"x.weight\":{\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":[0," bytes "]}"
static const struct {
    const char *header, *part;
    const char *data; /* behind 8 zeros */
    size_t n;         /* of data, those included */
} refused[] = {
    {W("F8_E4M3", "[4,2]", "8") ",\"x.weight_scale\":{\"dtype\":\"F32\",\"shape\":[3,1],"
                                "\"data_offsets\":[8,20]}}",
     "a scale of F32 [3, 1] for [4, 2]", "", 20},
    {W("F8_E4M3", "[2,4]", "8") ",\"x.scale_weight\":{\"dtype\":\"F32\",\"shape\":[2,3,1],"
                                "\"data_offsets\":[8,32]}}",
     "a scale of F32 [2, 3, 1] for [2, 4]", "", 32},
    {W("F8_E4M3", "[2,4]", "8") ",\"x.weight_scale\":{\"dtype\":\"F8_E8M0\",\"shape\":[2,1],"
                                "\"data_offsets\":[8,10]}}",
     "F8_E8M0", "", 10},
    {W("F8_E4M3", "[2,4]", "8") ",\"x.weight_scale\":{\"dtype\":\"F32\",\"shape\":[0],"
                                "\"data_offsets\":[8,8]}}",
     "a scale of F32 [0]", "", 8},
    {W("U8", "[2,4]", "8") ",\"x.comfy_quant\":{\"dtype\":\"U8\",\"shape\":[19],\"data_offsets\":"
                           "[8,27]}}",
     "format nvfp4", "{\"format\": \"nvfp4\"}", 27},
    {W("I8", "[2,4]", "8") ",\"x.comfy_quant\":{\"dtype\":\"U8\",\"shape\":[28],\"data_offsets\":"
                           "[8,36]}}",
     "format int8_tensorwise", "{\"format\":\"int8_tensorwise\"}", 36},
    {W("I8", "[2,4]", "8") ",\"__metadata__\":{\"_quantization_metadata\":\"{\\\"layers\\\":"
                           "{\\\"x\\\":{\\\"format\\\":\\\"mxfp8\\\"}}}\"}}",
     "format mxfp8", "", 8},
    {W("F8_E4M3", "[2,4]", "8") ",\"__metadata__\":{\"_quantization_metadata\":\"{\\\"layers\\\":"
                                "{\\\"x\\\":{\\\"format\\\":\\\"float8_e4m3fn\\\",\\\"convrot\\\":"
                                "true}}}\"}}",
     "format float8_e4m3fn with convrot", "", 8},
    {W("U8", "[2,4]", "8") ",\"x.weight_scale\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":"
                           "[8,12]}}",
     "U8 with a scale", "", 12},
    {W("I8", "[2,4]", "8") "}", "type I8", "", 8},
    {W("F8_E4M3FNUZ", "[2,4]", "8") "}", "type F8_E4M3FNUZ", "", 8},
    {W("F8_E8M0", "[2,4]", "8") "}", "type F8_E8M0", "", 8},
};

START_TEST(refuses_what_it_can_not_decode)
{
    uint8_t data[64] = {0};
    ts_ctx *ctx = testing_open("cpu", NULL, 1);
    ts_weights *ws;
    const ts_weight *w;
    memcpy(data + 8, refused[_i].data, strlen(refused[_i].data));
    const char *path = write_file(refused[_i].header, data, refused[_i].n);
    ck_ok(ctx, ts_weights_open(ctx, path, "model", NULL, &ws));
    scratch_expect(&ctx->err,
                   ts_weights_find(ws, 0, TS_ROLE_MATRIX, "x.weight", 2, (long[]){-1, -1}, &w),
                   TS_EMODEL, path, "x.weight", refused[_i].part, "not supported", NULL);
    ts_weights_close(ws);
    testing_close(ctx);
}
END_TEST

START_TEST(refuses_files)
{
    ts_source s;
    uint8_t data[16] = {0};
    const char *path = write_file(W("F8_E5M2", "[2,3]", "8") "}", data, 8);
    scratch_expect(&err, ts_source_open(&err, path, &s), TS_EMODEL, path, "x.weight",
                   "F8_E5M2 [2, 3] does not take 8 bytes", NULL);
    path = write_file("{\"l.qweight\":{\"dtype\":\"I32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
                      data, 8);
    scratch_expect(&err, ts_source_open(&err, path, &s), TS_EMODEL, path, "l.qweight", "SVDQuant",
                   NULL);
    ck_assert(!s.class && !s.own);
}
END_TEST

START_TEST(refuses_scales_that_are_none)
{
    static const float bad[] = {0, -0.0f, -1, NAN, INFINITY};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ts_source s;
        float out[4];
        uint8_t data[12] = {0};
        float scales[] = {1, bad[i]};
        memcpy(data + 4, scales, sizeof scales);
        open_file(W("F8_E4M3", "[2,2]", "4") ",\"x.weight_scale\":{\"dtype\":\"F32\",\"shape\":"
                                             "[2,1],\"data_offsets\":[4,12]}}",
                  data, sizeof data, &s);
        ck_assert(s.class->read(&err, &s, s.entry, 0, 1, out) == TS_OK);
        scratch_expect(&err, s.class->read(&err, &s, s.entry, 0, 2, out), TS_EMODEL,
                       "eight.safetensors", "\"x.weight_scale\"", "scale 1", NULL);
        ts_source_close(&s);
    }
}
END_TEST

/* A mark of a weight in fp8 is looked at with its first row: rotated weights are none of ours. */
START_TEST(refuses_marks)
{
    static const struct {
        const char *mark, *says; /* NULL: it is read */
    } marks[] = {{"{\"format\":\"float8_e4m3fn\"}", NULL},
                 {"{\"format\":\"float8_e4m3fn\",\"full_precision_matrix_mult\":true}", NULL},
                 {"no JSON", NULL},
                 {"{\"format\":\"mxfp8\"}", "format mxfp8"},
                 {"{\"format\":\"float8_e5m2\",\"convrot\":true}", "with convrot"}};
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        char header[400];
        uint8_t data[100] = {0};
        float out[8];
        ts_source s;
        size_t n = strlen(marks[i].mark);
        memcpy(data + 8, marks[i].mark, n);
        snprintf(header, sizeof header,
                 W("F8_E4M3", "[2,4]", "8") ",\"x.comfy_quant\":{\"dtype\":\"U8\",\"shape\":[%zu],"
                                            "\"data_offsets\":[8,%zu]}}",
                 n, n + 8);
        open_file(header, data, n + 8, &s);
        ts_status st = s.class->read(&err, &s, s.entry, 0, 2, out);
        if (marks[i].says)
            scratch_expect(&err, st, TS_EMODEL, "eight.safetensors", "\"x.weight\"", marks[i].says,
                           "not supported", NULL);
        else
            ck_assert_int_eq(st, TS_OK);
        ts_source_close(&s);
    }
}
END_TEST

/* The first and the last row that diffusers' weights have once they are decoded, of a file under a
 * prefix. */
START_TEST(gives_the_rows_of_a_scaled_file)
{
    static const char *const pair[][2] = {
        {"blocks.0.self_attn.q.weight", "rows.blocks.0.attn1.to_q.weight"},
        {"blocks.0.cross_attn.o.weight", "rows.blocks.0.attn2.to_out.0.weight"},
        {"blocks.0.ffn.2.weight", "rows.blocks.0.ffn.net.2.weight"},
        {"text_embedding.0.weight", "rows.condition_embedder.text_embedder.linear_1.weight"},
        {"head.head.weight", "rows.proj_out.weight"},
    };
    ts_source s;
    float got[256];
    ts_bag *want = testing_bag(testing_fixture("fp8-scaled/expected.safetensors"));
    ck_assert_msg(ts_source_open(&err, testing_fixture("fp8-scaled/transformer.safetensors"), &s) ==
                      TS_OK,
                  "%s", err.text);
    for (size_t i = 0; i < sizeof pair / sizeof *pair; i++) {
        char name[128];
        long n;
        snprintf(name, sizeof name, "model.diffusion_model.%s", pair[i][0]);
        const ts_entry *e = find_entry(&s, name);
        const float *f = testing_f32(want, pair[i][1], &n);
        ck_assert(e && n == 2 * ts_entry_width(e) && n <= 256);
        ck_assert(s.class->read(&err, &s, e, 0, 1, got) == TS_OK);
        ck_assert(s.class->read(&err, &s, e, ts_entry_rows(e) - 1, 1, got + n / 2) == TS_OK);
        ck_assert_msg(!memcmp(got, f, (size_t)n * sizeof *f), "%s differs", name);
    }
    ck_assert_ptr_null(s.warning);
    ts_source_close(&s);
    ts_bag_free(want);
}
END_TEST

int main(void)
{
    dir = testing_tmp();
    Suite *s = suite_create("fp8");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, every_number_of_both_types);
    tcase_add_loop_test(t, scales_of_every_form, 0, (int)(sizeof scaled / sizeof *scaled));
    tcase_add_test(t, scales_of_other_shapes);
    tcase_add_test(t, companions_are_hidden);
    tcase_add_loop_test(t, refuses_what_it_can_not_decode, 0,
                        (int)(sizeof refused / sizeof *refused));
    tcase_add_test(t, refuses_files);
    tcase_add_test(t, refuses_marks);
    tcase_add_test(t, refuses_scales_that_are_none);
    tcase_add_test(t, gives_the_rows_of_a_scaled_file);
    suite_add_tcase(s, t);
    int failed = testing_main(s);
    free(dir);
    return failed;
}
