/* The token grid, and the one call for self-attention: what it computes, counts and refuses. */
#include "attention/attend.h"
#include "tests/golden.h"
#include "tests/testing.h"

#include <math.h>
#include <string.h>

START_TEST(grid)
{
    ts_grid g = ts_grid_of(3, 4, 6);
    ck_assert(g.F == 3 && g.H == 4 && g.W == 6 && g.N == 72 && g.nb == 2);
    ck_assert_int_eq(ts_grid_of(1, 8, 8).nb, 1);
    ck_assert_int_eq(ts_grid_of(1, 5, 13).nb, 2); /* 65 tokens */
    ck_assert_int_eq(ts_grid_of(21, 30, 52).N, 32760);
}
END_TEST

/* Blocks of video alone come first; with text the ragged end of the video is none of them. */
START_TEST(sequence)
{
    static const struct {
        int N, L, nb, nv;
    } of[] = {{72, 0, 2, 2},  {64, 0, 1, 1},  {64, 1, 2, 1},  {63, 1, 1, 0},
              {65, 63, 2, 1}, {65, 64, 3, 1}, {128, 1, 3, 2}, {118800, 256, 1861, 1856},
              {1, 0, 1, 1},   {128, 64, 3, 2}};
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        ts_sequence s = ts_sequence_of(of[i].N, of[i].L);
        ck_assert(s.N == of[i].N && s.L == of[i].L && s.T == s.N + s.L);
        ck_assert_msg(s.nb == of[i].nb && s.nv == of[i].nv, "%d + %d: %d of %d blocks", s.N, s.L,
                      s.nv, s.nb);
    }
}
END_TEST

enum { N = 6, A = 2, D = 4, WIDTH = A * D, LD = 3 * WIDTH };
typedef struct {
    float qkv[N * LD], out[N * WIDTH];
    ts_attn attn;
    int short_by, seen;
    ts_status got, observed; /* what the observer answers */
} call;

/* Calls as they are about to be carried out. */
static ts_status observe(void *observer, int layer, const ts_attention *op)
{
    call *c = observer;
    ck_assert(layer == 7 && op->q.nd == 4 && op->q.dim[1] == N && op->q.ld == LD && !op->plan);
    c->seen++;
    return c->observed;
}

/* q, k and v lie in one buffer, as a fused projection leaves them. */
static ts_tensor part(ts_tensor buffer, int i, long n)
{
    return (ts_tensor){
        ts_at(buffer.p, (size_t)(i * WIDTH) * sizeof(float)), TS_F32, 3, {n, A, D}, LD};
}

static ts_status phase(ts_ctx *ctx, void *user)
{
    ts_status st;
    call *c = user;
    ts_tensor buffer = ts_take(&ctx->arena, TS_F32, TS_DIM(N, LD)),
              out = ts_take(&ctx->arena, TS_F32, TS_DIM(N, A, D));
    long n = N - c->short_by;
    out.ld = WIDTH;
    out.dim[0] = n;
    TRY(ts_attn_open(&c->attn, ctx, &(ts_attn_options){.grid = ts_grid_of(1, 2, 3)}));
    ts_attn_begin(&c->attn, 4, 7, 1);
    if (c->observed) c->attn.observe = observe;
    c->attn.observer = c;
    TRY(ctx->dev->ops->upload(ctx->dev, buffer.p, c->qkv, sizeof c->qkv));
    c->got = ts_attend(&c->attn, part(buffer, 0, n), part(buffer, 1, n), part(buffer, 2, n), out);
    if (c->short_by || c->observed) return TS_OK;
    TRY(c->got);
    TRY(ts_attn_step_end(&c->attn));
    TRY(ctx->dev->ops->download(ctx->dev, c->out, out.p, sizeof c->out));
done:
    return st;
}

static double plain(const float *qkv, int n, int a, int d)
{
    double p[N], sum = 0, y = 0;
    for (int j = 0; j < N; j++) {
        p[j] = 0;
        for (int c = 0; c < D; c++)
            p[j] += qkv[n * LD + a * D + c] * qkv[j * LD + WIDTH + a * D + c] / sqrt(D);
        sum += p[j] = exp(p[j]);
    }
    for (int j = 0; j < N; j++) y += p[j] / sum * qkv[j * LD + 2 * WIDTH + a * D + d];
    return y;
}

START_TEST(dense)
{
    ts_ctx *ctx = testing_open(_i ? "far" : "cpu", NULL, 0);
    call c = {0};
    golden_input("input.qkv", 1.7, N * LD, c.qkv);
    testing_run(ctx, phase, &c);
    for (int n = 0; n < N; n++)
        for (int a = 0; a < A; a++)
            for (int d = 0; d < D; d++)
                ck_assert_double_eq_tol(c.out[n * WIDTH + a * D + d], plain(c.qkv, n, a, d), 1e-6);
    ck_assert_int_eq(c.attn.counters.dense, 1);
    ck_assert_int_eq(c.attn.step, 4);
    ck_assert_int_eq(c.attn.slot, 1);
    ts_attn_close(&c.attn);
    testing_close(ctx);
}
END_TEST

START_TEST(other_tokens)
{
    ts_ctx *ctx = testing_open("cpu", NULL, 0);
    call c = {.short_by = 1};
    testing_run(ctx, phase, &c);
    ck_assert_int_eq(c.got, TS_ESHAPE);
    ck_assert_msg(strstr(ctx->err.text, "layer 8: 5 tokens, expected 6"), "says \"%s\"",
                  ctx->err.text);
    ck_assert_int_eq(c.attn.counters.dense, 0);
    ts_attn_close(&c.attn);
    testing_close(ctx);
}
END_TEST

/* An observer sees the call, and what it answers is the call's answer. */
START_TEST(observed)
{
    ts_ctx *ctx = testing_open("cpu", NULL, 0);
    call c = {.observed = TS_ESTOP};
    testing_run(ctx, phase, &c);
    ck_assert_int_eq(c.got, TS_ESTOP);
    ck_assert_int_eq(c.seen, 2); /* while counting, too */
    ck_assert_int_eq(c.attn.calls, 0);
    ts_attn_close(&c.attn);
    testing_close(ctx);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("attend");
    TCase *t = tcase_create("attend");
    tcase_add_test(t, grid);
    tcase_add_test(t, sequence);
    tcase_add_loop_test(t, dense, 0, 2);
    tcase_add_test(t, other_tokens);
    tcase_add_test(t, observed);
    suite_add_tcase(s, t);
    return testing_main(s);
}
