/* Weights in blocks on the emulated device: decoded by the host, packed, resident and by turns. */
#include "tests/cuda/emu/emulated.h"
#include "tests/weights/scratch.h"
#include "weights/source.h"
#include "weights/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const emu_options modes[] = {{.late = 1, .guard = 1}, {.late = 0, .guard = 1}};
enum { MODES = sizeof modes / sizeof *modes };

/* Blocks of several types, made row by row and packed in bf16: resident, and by turns in two slots.
 */
START_TEST(decoded_weights)
{
    static const char *const names[] = {"time_projection.1",    "blocks.0.self_attn.q",
                                        "blocks.0.self_attn.v", "blocks.0.ffn.0",
                                        "blocks.0.ffn.2",       "time_embedding.0"};
    enum { N = sizeof names / sizeof *names, MOST = 768 * 128 };
    static float f[MOST];
    static uint16_t got[MOST];
    ts_source s;
    ts_weights *ws;
    const ts_weight *w[N];
    char name[64], path[256];
    snprintf(path, sizeof path, "%s", testing_fixture("gguf-mixed/transformer.gguf"));
    emu_set(modes[_i / 2]);
    ts_ctx *c = testing_open("cuda", NULL, 1);
    ck_ok(c, ts_source_open(&c->err, path, &s));
    ck_ok(c, ts_weights_open(c, path, "model", NULL, &ws));
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "%s.weight", names[i]);
        ck_ok(c, ts_weights_find(ws, i, TS_ROLE_MATRIX, name, 2, (long[]){-1, -1}, w + i));
        ts_keep_wish(NULL, w[i], (ts_form){TS_BF16, 0, 2 * (size_t)ts_count(w[i]->t)});
    }
    if (_i % 2) ts_weights_budget(ws, 0);
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < N; i++) {
            ck_ok(c, ts_weights_enter(ws, i));
            long n = ts_count(w[i]->t);
            const ts_entry *e = s.entry;
            snprintf(name, sizeof name, "%s.weight", names[i]);
            while (strcmp(e->name, name)) e++;
            ck_ok(c, s.class->read(&c->err, &s, e, 0, ts_entry_rows(e), f));
            ck_ok(c, c->dev->ops->download(c->dev, got, w[i]->t.p, 2 * (size_t)n));
            for (long k = 0; k < n; k++)
                ck_assert_msg(got[k] == scratch_bf16(f[k]), "%s: number %ld is %04x of %g", name, k,
                              got[k], (double)f[k]);
        }
    ts_weights_close(ws);
    ts_source_close(&s);
    testing_close(c);
    emulated_expect_clean();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cuda decoded");
    TCase *tc = tcase_create("cuda decoded");
    tcase_set_timeout(tc, 300);
    tcase_add_loop_test(tc, decoded_weights, 0, 2 * MODES);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
