/* What goes into a run and comes out of it without a file: tensors of bags, noise, a picture to
 * begin with. */
#include "codecs/picture.h"
#include "sampler/tessera.h"
#include "tests/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static ts_ctx *ctx;

static void refused(ts_status got, ts_status code, const char *sentence)
{
    ck_assert_int_eq(got, code);
    ck_assert_msg(strstr(ts_error(ctx), sentence), "\"%s\" does not say \"%s\"", ts_error(ctx),
                  sentence);
}

START_TEST(tensors)
{
    ctx = testing_open("cpu", NULL, 1);
    ts_bag *b = ts_bag_new(), *read;
    const float numbers[] = {1, 2, 3, 4, 5, 6};
    const char *type;
    const void *data;
    long dim[5];
    int nd;
    char *tmp = testing_tmp(), path[4200];
    ck_ok(ctx, ts_bag_add(ctx, b, "b", 2, (long[]){2, 3}, numbers));
    ck_ok(ctx, ts_bag_add(ctx, b, "a", 1, (long[]){4}, NULL));
    ck_ok(ctx, ts_bag_add(ctx, b, "s", 0, NULL, numbers + 4));
    ck_ok(ctx, ts_bag_meta_set(ctx, b, "of", "a test"));
    ck_ok(ctx, ts_bag_meta_set(ctx, b, "gone", "soon"));
    ck_ok(ctx, ts_bag_meta_set(ctx, b, "gone", NULL));
    ck_assert(ts_bag_count(b) == 3 && !strcmp(ts_bag_name(b, 0), "a"));
    ck_assert(!ts_bag_name(b, 3) && !ts_bag_name(b, -1));
    /* what went into a file comes out of it */
    snprintf(path, sizeof path, "%s/b.safetensors", tmp);
    ck_ok(ctx, ts_bag_write(ctx, b, path));
    ck_ok(ctx, ts_bag_read(ctx, path, &read));
    for (int i = 0; i < 2; i++) {
        const ts_bag *from = i ? read : b;
        ck_ok(ctx, ts_bag_tensor(ctx, from, "b", &type, &nd, dim, &data));
        ck_assert_str_eq(type, "F32");
        ck_assert(nd == 2 && dim[0] == 2 && dim[1] == 3 && dim[2] == 0);
        ck_assert(!memcmp(data, numbers, sizeof numbers));
        ck_ok(ctx, ts_bag_tensor(ctx, from, "a", NULL, NULL, NULL, &data));
        ck_assert(((const float *)data)[3] == 0);
        ck_ok(ctx, ts_bag_tensor(ctx, from, "s", NULL, &nd, NULL, &data));
        ck_assert(nd == 0 && *(const float *)data == 5);
        ck_assert_str_eq(ts_bag_meta_get(from, "of"), "a test");
        ck_assert_ptr_null(ts_bag_meta_get(from, "gone"));
    }
    ck_ok(ctx, ts_bag_add(ctx, b, "b", 1, (long[]){0}, NULL)); /* in its place */
    ck_ok(ctx, ts_bag_tensor(ctx, b, "b", NULL, &nd, dim, NULL));
    ck_assert(ts_bag_count(b) == 3 && nd == 1 && dim[0] == 0);
    ts_bag_free(read);
    ts_bag_free(b);
    ts_free(strdup("text"));
    ts_free(NULL);
    free(tmp);
    testing_close(ctx);
}
END_TEST

START_TEST(tensors_that_make_no_sense)
{
    ctx = testing_open("cpu", NULL, 1);
    ts_bag *b = ts_bag_new();
    const void *data = b;
    const char *type = "F32";
    int nd = 2;
    const long one[6] = {1, 1, 1, 1, 1, 1}, huge[] = {1L << 40, 1L << 40}, below[] = {2, -1};
    refused(ts_bag_add(ctx, NULL, "a", 1, one, NULL), TS_EUSAGE, "no bag");
    refused(ts_bag_add(ctx, b, NULL, 1, one, NULL), TS_EUSAGE, "no name");
    refused(ts_bag_add(ctx, b, "", 1, one, NULL), TS_EUSAGE, "no name");
    refused(ts_bag_add(ctx, b, "a", 1, NULL, NULL), TS_EUSAGE, "no dimensions");
    refused(ts_bag_add(ctx, b, "a", 6, one, NULL), TS_EUSAGE, "of 6 dimensions");
    refused(ts_bag_add(ctx, b, "a", -1, one, NULL), TS_EUSAGE, "of -1 dimensions");
    refused(ts_bag_add(ctx, b, "a", 2, below, NULL), TS_EUSAGE, "dimension 1 is -1");
    refused(ts_bag_add(ctx, b, "a", 2, huge, NULL), TS_EUSAGE, "dimension 1 is");
    refused(ts_bag_add(ctx, b, "__metadata__", 1, one, NULL), TS_EUSAGE, "the place of metadata");
    refused(ts_bag_meta_set(ctx, b, "", "x"), TS_EUSAGE, "no key");
    refused(ts_bag_tensor(ctx, b, "a", &type, &nd, NULL, &data), TS_EMODEL,
            "there is no tensor \"a\"");
    ck_assert(!data && !type && nd == 0);
    refused(ts_bag_tensor(ctx, NULL, "a", NULL, NULL, NULL, &data), TS_EUSAGE, "no bag");
    ck_assert_int_eq(ts_bag_count(b), 0);
    ts_bag_free(b);
    testing_close(ctx);
}
END_TEST

/* Noise of a program's own numbers, and a picture of its own pixels: the bits that files give. */
START_TEST(noise_and_picture)
{
    ts_model *m;
    ts_request q;
    ts_run *r;
    ts_bag *file = testing_bag("tests/fixtures/pixart-sigma/noise.safetensors"), *own, *z[2];
    ts_picture p;
    const void *data;
    long dim[5], n;
    int nd;
    const char *path = "tests/fixtures/pixart-sigma/init.png";
    ctx = testing_open("cpu", NULL, 1);
    ck_ok(ctx, ts_model_open(ctx, "tests/fixtures/pixart-sigma/model", &m));
    ck_ok(ctx, ts_picture_read(&ctx->err, path, &p));
    ck_ok(ctx, ts_bag_tensor(ctx, file, "noise", NULL, &nd, dim, &data));
    own = ts_bag_new();
    ck_ok(ctx, ts_bag_add(ctx, own, "noise", nd, dim, data));
    ts_request_init(m, &q);
    q.prompt = "a panda";
    q.width = 128;
    q.height = 192;
    q.no_bins = true;
    q.steps = 5;
    q.init = path;
    q.strength = 0.6;
    for (int i = 0; i < 2; i++) {
        ck_ok(ctx, ts_run_open(m, &q, &r, NULL));
        ck_ok(ctx, ts_run_noise(r, i ? own : file));
        if (i)
            ck_ok(ctx, ts_run_picture_rgb(r, p.w, p.h, p.rgb));
        else
            ck_ok(ctx, ts_run_picture(r, path));
        ck_ok(ctx, ts_run_encode(r));
        ck_ok(ctx, ts_run_denoise(r, z + i));
        refused(ts_run_picture_rgb(r, p.w, p.h, NULL), TS_EUSAGE, "no pixels");
        refused(ts_run_picture_rgb(r, 0, 4, p.rgb), TS_EUSAGE, "a picture of 0x4");
        refused(ts_run_picture_rgb(r, 1 << 20, 1 << 20, p.rgb), TS_EUSAGE, "a picture of 1048576x");
        ts_run_close(r);
    }
    const float *a = testing_f32(z[0], "latents", &n), *b = testing_f32(z[1], "latents", NULL);
    ck_assert(!memcmp(a, b, (size_t)n * sizeof *a));
    ts_bag_free(z[0]);
    ts_bag_free(z[1]);
    ts_bag_free(own);
    ts_bag_free(file);
    ts_picture_free(&p);
    ts_model_close(m);
    testing_close(ctx);
}
END_TEST

/* Noise of every step: as many as there are steps, for samplers that add any; no number is the
 * seed's then, and metadata have none. */
START_TEST(noise_of_steps)
{
    ts_model *m;
    ts_request q;
    ts_run *r;
    ts_bag *bag = testing_bag("tests/fixtures/pixart-lcm/noise.safetensors");
    ctx = testing_open("cpu", NULL, 1);
    ck_ok(ctx, ts_model_open(ctx, "tests/fixtures/pixart-lcm/model", &m));
    ts_request_init(m, &q);
    q.prompt = "a panda";
    q.width = 112;
    q.height = 144;
    q.no_bins = true;
    q.noise_file = "noise.safetensors";
    for (int i = 0; i < 3; i++) {
        q.steps = i == 1 ? 3 : 4;
        q.sampler = i == 2 ? "ddim" : "lcm";
        ck_ok(ctx, ts_run_open(m, &q, &r, NULL));
        char *before = ts_run_json(r);
        ck_assert((strstr(before, "\"seed\"") != NULL) == (i < 2));
        if (i == 1)
            refused(ts_run_noise(r, bag), TS_ESHAPE, "step_noise");
        else
            ck_ok(ctx, ts_run_noise(r, bag));
        char *after = ts_run_json(r);
        ck_assert((strstr(after, "\"seed\"") != NULL) == (i == 1));
        free(before);
        free(after);
        ts_run_close(r);
    }
    ts_bag_free(bag);
    ts_model_close(m);
    testing_close(ctx);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bags");
    TCase *tc = tcase_create("bags");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, tensors);
    tcase_add_test(tc, tensors_that_make_no_sense);
    tcase_add_test(tc, noise_and_picture);
    tcase_add_test(tc, noise_of_steps);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
