/* make bench-cuda on the emulated device: it runs whole at tiny sizes, what it writes can be read,
 * and the block that it times is the one that a Wan transformer runs. */
#include "sampler/run.h"
#include "tests/cuda/bench/bench.h"
#include "tests/cuda/emu/emulated.h"
#include "tests/testing.h"

#include <stdlib.h>
#include <string.h>

static const emu_options eager = {.late = 0};

static const cJSON *find_row(const cJSON *all, const char *section, const char *what)
{
    const cJSON *r, *rows = cJSON_GetObjectItem(all, "rows");
    cJSON_ArrayForEach(
        r, rows) if (!strcmp(cJSON_GetObjectItem(r, "section")->valuestring, section) &&
                     !strcmp(cJSON_GetObjectItem(r, "what")->valuestring, what)) return r;
    return NULL;
}

/* Every part is there, with bars that an emulator does not judge. */
START_TEST(runs_whole)
{
    static const char *const rows[][2] = {
        {"ceiling", "copy by the driver"},
        {"ceiling", "copy by its kernel"},
        {"ceiling", "product, bf16"},
        {"linear", "to_q"},
        {"linear", "down, gated"},
        {"attention", "dense, cuDNN"},
        {"attention", "dense, PyTorch"},
        {"attention", "dense"},
        {"attention", "dense with sums"},
        {"attention", "sums alone"},
        {"attention", "top-k of sums"},
        {"attention", "half of the blocks"},
        {"attention", "a fifth"},
        {"attention", "a tenth"},
        {"kernel", "flash128_m2_w2_s1"},
        {"rest", "a fifth, with means of the others"},
        {"rest", "linear part"},
        {"step", "dense"},
        {"step", "dense with a search"},
        {"step", "sparse, searched again"},
        {"step", "sparse"},
        {"adaspa", "50 steps, keep 0.2"},
        {"adaspa", "against 50 dense ones"},
    };
    char *folder = testing_tmp(), json[4096], torch[4096], *said = NULL;
    size_t size = 0;
    snprintf(json, sizeof json, "%s/bench.json", folder);
    snprintf(torch, sizeof torch, "%s/torch.txt", folder);
    FILE *f = fopen(torch, "w");
    ck_assert_ptr_nonnull(f);
    fputs("64 150 0.001\n128 150 0.002\n", f);
    fclose(f);
    emu_set(eager);
    FILE *say = open_memstream(&said, &size);
    int code = bench_cuda(&(bench_options){.tiny = true, .json = json, .torch = torch, .say = say});
    fclose(say);
    ck_assert_msg(code == 0, "%d: %.3000s", code, said + (size > 3000 ? size - 3000 : 0));
    ck_assert_msg(strstr(said, "void"), "%.3000s", said);
    if (getenv("VERBOSE")) puts(said);
    emulated_expect_clean();
    f = fopen(json, "r");
    ck_assert_ptr_nonnull(f);
    char *text = calloc(1, 1 << 20);
    ck_assert_int_gt(fread(text, 1, (1 << 20) - 1, f), 0);
    fclose(f);
    cJSON *all = cJSON_Parse(text);
    ck_assert_msg(all != NULL, "no JSON: %.3000s", text);
    ck_assert(cJSON_IsTrue(cJSON_GetObjectItem(all, "void")));
    ck_assert_int_eq(cJSON_GetArraySize(cJSON_GetObjectItem(all, "left_out")), 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const cJSON *r = find_row(all, rows[i][0], rows[i][1]);
        ck_assert_msg(r != NULL, "no row %s, %s", rows[i][0], rows[i][1]);
        ck_assert(cJSON_GetObjectItem(r, "seconds")->valuedouble > 0);
        ck_assert_ptr_null(cJSON_GetObjectItem(r, "met"));
    }
    cJSON_Delete(all);
    free(text);
    free(said);
    free(folder);
}
END_TEST

/* ---- the block ---- */
static ts_profile at[3]; /* as each layer begins */
static ts_device *profiled;
static void see(void *user, const ts_event *e)
{
    (void)user;
    if (e->phase == TS_PHASE_DENOISE && e->step == 1 && e->layer >= 1 && e->layer <= 3)
        ck_assert_int_eq(ts_profile_read(profiled, at + e->layer - 1, false), TS_OK);
}

/* What one block of the fixture asks of its device: between the beginnings of two layers. */
static void watch_block(bench_shape *s, ts_profile *block)
{
    ts_ctx *c = testing_open("cuda", NULL, 2);
    ts_model *m;
    ts_run *r;
    ts_request q;
    ts_estimate e;
    ts_bag *latents;
    char path[512];
    ck_ok(c, ts_profile_open(c->dev, &profiled));
    c->dev = profiled;
    c->act = TS_BF16;
    snprintf(path, sizeof path, "%s/model", testing_fixture("wan21-t2v"));
    ck_ok(c, ts_model_open(c, path, &m));
    ts_request_init(m, &q);
    q.prompt = "a fox";
    q.negative = "";
    q.width = q.height = 64;
    q.frames = 5;
    q.steps = 1;
    q.guidance = 1;
    q.no_bins = true;
    ck_ok(c, ts_run_open(m, &q, &r, &e));
    ck_ok(c, ts_run_encode(r));
    c->env.progress = see;
    ck_ok(c, ts_run_denoise(r, &latents));
    c->env.progress = NULL;
    *s = (bench_shape){.name = "fixture", .size = "", .layers = m->dit_info.layers};
    s->N = r->grid.N;
    s->A = m->dit_info.heads;
    s->D = m->dit_info.head_dim;
    for (int i = 0; i < TS_TIMES; i++) {
        block->calls[i] = at[2].calls[i] - at[1].calls[i];
        block->flops[i] = at[2].flops[i] - at[1].flops[i];
    }
    ts_bag_free(latents);
    ts_run_close(r);
    ts_model_close(m);
    testing_close(c);
}

/* The same kinds of operations, as many of each, of as many multiplications. */
START_TEST(times_the_block_of_wan)
{
    bench_shape s;
    ts_profile want, got;
    bench b = {.o = {.tiny = true}};
    bench_layer l;
    emu_set(eager);
    watch_block(&s, &want);
    s.ff = 96;
    double tokens = 4.0 * (double)(s.N * s.N) * (double)(s.A * s.D),
           row = 4.0 * (double)(s.N * s.A * s.D);
    s.text = (long)((want.flops[TS_TIME_ATTENTION] - tokens) / row + 0.5);
    ck_assert_int_ge(s.text, 1); /* rows of text that it reads */
    ck_ok(&b.ctx, testing_cuda_open(&b.ctx.env, &b.ctx.err, &b.device));
    ck_ok(&b.ctx, ts_profile_open(b.device, &b.ctx.dev));
    b.ctx.dev->counting = true;
    ck_ok(&b.ctx, ts_arena_open(&b.ctx.arena, b.ctx.dev, 0));
    ck_ok(&b.ctx, bench_layer_take(&b, &s, 0.2, &l));
    ck_ok(&b.ctx, ts_profile_read(b.ctx.dev, &got, true));
    ck_ok(&b.ctx, bench_layer_run(&b, &l, TS_DO_DENSE));
    ck_ok(&b.ctx, ts_profile_read(b.ctx.dev, &got, true));
    for (int i = 0; i < TS_TIMES; i++)
        ck_assert_msg(got.calls[i] == want.calls[i] && got.flops[i] == want.flops[i],
                      "%s: %ld calls of %g, in a model %ld of %g", ts_time_name((ts_time)i),
                      got.calls[i], got.flops[i], want.calls[i], want.flops[i]);
    ts_arena_close(&b.ctx.arena);
    ts_device_close(b.ctx.dev);
    emulated_expect_clean();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bench cuda");
    TCase *tc = tcase_create("bench cuda");
    tcase_set_timeout(tc, 600);
    tcase_add_test(tc, runs_whole);
    tcase_add_test(tc, times_the_block_of_wan);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
