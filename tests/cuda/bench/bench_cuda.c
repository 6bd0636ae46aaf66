/* The device, its ceilings, linear layers; what is printed and written; the order of it all. */
#include "tests/cuda/bench/bench.h"

#include "backend/cuda/cuda.h"
#include "backend/cuda/open.h"
#include "backend/median.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool bench_counts(const bench *b) { return b->ctx.dev->counting; }

/* ---- what is said ---- */
static bool is_met(const bench_row *r)
{
    return r->bar == BENCH_AT_LEAST ? r->ratio >= r->limit : r->ratio <= r->limit;
}

void bench_say(bench *b, const bench_row *r)
{
    char rate[32] = "", ratio[120] = "";
    if (bench_counts(b) || b->rows == BENCH_ROWS) return;
    b->row[b->rows++] = *r;
    if (r->rate > 0)
        snprintf(rate, sizeof rate, "%.1f %s", r->rate / (r->unit[0] == 'F' ? 1e12 : 1e9),
                 r->unit[0] == 'F' ? "TFLOP/s" : "GB/s");
    if (r->ratio > 0 && r->bar && !b->o.tiny) {
        *(is_met(r) ? &b->met : &b->missed) += 1;
        snprintf(ratio, sizeof ratio, "%.3f %s (%s %.2f: %s)", r->ratio, r->against,
                 r->bar == BENCH_AT_LEAST ? "at least" : "at most", r->limit,
                 is_met(r) ? "met" : "MISSED");
    } else if (r->ratio > 0) {
        snprintf(ratio, sizeof ratio, "%.3f %s", r->ratio, r->against);
    }
    fprintf(b->o.say, "%-9s %-24s %-36s %10.3f ms %15s  %s\n", r->section, r->what, r->of,
            r->seconds * 1e3, rate, ratio);
    fflush(b->o.say);
}

static void put_text(FILE *f, const char *key, const char *text)
{
    fprintf(f, "\"%s\": \"", key);
    for (const char *s = text; *s; s++)
        if (*s == '\n')
            fputs("\\n", f);
        else if ((unsigned char)*s >= ' ') {
            if (*s == '"' || *s == '\\') fputc('\\', f);
            fputc(*s, f);
        }
    fputc('"', f);
}

static void put_row(FILE *f, const bench *b, const bench_row *r)
{
    put_text(f, "section", r->section);
    put_text((fputs(", ", f), f), "what", r->what);
    put_text((fputs(", ", f), f), "of", r->of);
    fprintf(f, ", \"seconds\": %.9g", r->seconds);
    if (r->rate > 0) fprintf(f, ", \"rate\": %.6g, \"unit\": \"%s/s\"", r->rate, r->unit);
    if (r->ratio > 0) {
        fprintf(f, ", \"ratio\": %.6g, ", r->ratio);
        put_text(f, "against", r->against);
    }
    if (r->ratio > 0 && r->bar)
        fprintf(f, ", \"%s\": %g", r->bar == BENCH_AT_LEAST ? "at_least" : "at_most", r->limit);
    if (r->ratio > 0 && r->bar && !b->o.tiny)
        fprintf(f, ", \"met\": %s", is_met(r) ? "true" : "false");
}

/* Anew after every section, so that what was measured stays when the rest is cut off. */
static ts_status write_json(bench *b)
{
    static const char *const moment[] = {"before", "load", "after"};
    char about[512] = "";
    FILE *f = b->o.json ? fopen(b->o.json, "w") : NULL;
    if (!b->o.json) return TS_OK;
    if (!f) return ts_fail(&b->ctx.err, TS_EIO, "%s: can not be written", b->o.json);
    b->device->ops->about(b->device, about, sizeof about);
    fprintf(f, "{\"void\": %s, ", b->o.tiny ? "true" : "false");
    put_text(f, "device", about);
    fputs(", \"clocks\": {", f);
    for (int i = 0; i < 3; i++) put_text((fputs(i ? ", " : "", f), f), moment[i], b->clocks[i]);
    fprintf(f, "}, \"met\": %d, \"missed\": %d,\n \"left_out\": [", b->met, b->missed);
    for (int i = 0; i < b->left_out; i++) {
        fputs(i ? ", {" : "{", f);
        put_text(f, "why", b->left[i]);
        fputs("}", f);
    }
    fputs("],\n \"rows\": [", f);
    for (int i = 0; i < b->rows; i++) {
        fputs(i ? ",\n  {" : "\n  {", f);
        put_row(f, b, b->row + i);
        fputs("}", f);
    }
    fputs("\n]}\n", f);
    if (fclose(f)) return ts_fail(&b->ctx.err, TS_EIO, "%s: can not be written", b->o.json);
    return TS_OK;
}

/* Clocks and power as they are now, by nvidia-smi where that is installed. */
static void read_clocks(bench *b, int which)
{
    char command[256];
    if (b->o.tiny) return;
    snprintf(command, sizeof command,
             "nvidia-smi -i %d --query-gpu=clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem,"
             "power.draw,power.limit,temperature.gpu --format=csv,noheader 2>/dev/null",
             ts_cuda_of(b->device)->index);
    FILE *f = popen(command, "r");
    if (!f) return;
    if (!fgets(b->clocks[which], sizeof b->clocks[which], f)) b->clocks[which][0] = 0;
    b->clocks[which][strcspn(b->clocks[which], "\n")] = 0;
    pclose(f);
    fprintf(b->o.say, "sm, memory, most of both, power, its limit, temperature: %s\n",
            *b->clocks[which] ? b->clocks[which] : "not known");
}

/* ---- time ---- */
ts_status bench_time(bench *b, bench_call *call, int n)
{
    ts_status st = TS_OK;
    ts_device *dev = b->ctx.dev;
    ts_profile p;
    ts_moment from[BENCH_REPEATS][BENCH_CALLS], to[BENCH_REPEATS][BENCH_CALLS];
    int repeats = b->o.tiny ? 1 : BENCH_REPEATS;
    for (int i = 0; i < n; i++) { /* once to warm up; of this the parts */
        if (!bench_counts(b)) TRY(ts_profile_time(dev, true, NULL));
        TRY(call[i].run(b, call[i].args));
        if (bench_counts(b)) continue;
        TRY(ts_profile_read(dev, &p, true));
        TRY(ts_profile_time(dev, false, NULL));
        memcpy(call[i].parts, p.seconds, sizeof call[i].parts);
    }
    if (bench_counts(b)) goto done;
    for (int r = 0; r < repeats; r++) {
        for (int i = 0; i < n; i++) {
            TRY(dev->ops->mark(dev, &from[r][i]));
            TRY(call[i].run(b, call[i].args));
            TRY(dev->ops->mark(dev, &to[r][i]));
        }
        TRY(dev->ops->join(dev));
    }
    for (int i = 0; i < n; i++) {
        double sample[BENCH_REPEATS];
        for (int r = 0; r < repeats; r++)
            TRY(dev->ops->elapsed(dev, from[r][i], to[r][i], sample + r));
        call[i].seconds = ts_median(sample, repeats);
        if (call[i].seconds <= 0) call[i].seconds = 1e-9; /* an emulator has no clock */
    }
done:
    return st;
}

/* ---- tensors ---- */
ts_tensor bench_take(bench *b, ts_dtype type, long rows, long columns)
{
    return ts_take(&b->ctx.arena, type, TS_DIM(rows, columns));
}

/* Normal numbers are made as f32, some rows at a time. */
ts_status bench_random(bench *b, ts_dtype type, long rows, long columns, double spread,
                       ts_tensor *t)
{
    enum { PIECE = 1 << 24 };
    ts_status st = TS_OK;
    ts_device *dev = b->ctx.dev;
    *t = bench_take(b, type, rows, columns);
    size_t mark = ts_mark(&b->ctx.arena);
    long most = PIECE / columns > 0 ? PIECE / columns : 1, n = rows < most ? rows : most;
    ts_tensor x = bench_take(b, TS_F32, n, columns);
    for (long at = 0; at < rows; at += n) {
        long some = rows - at < n ? rows - at : n;
        ts_tensor from = ts_row_range(x, 0, some), to = ts_row_range(*t, at, some);
        TRY(dev->ops->randn(dev, &(ts_randn){.seed = 1,
                                             .first = (uint64_t)(at * columns),
                                             .rows = columns,
                                             .columns = 1,
                                             .y = from}));
        TRY(ts_lincomb_op(dev, (ts_lincomb){.n = 1, .c = {(float)spread}, .x = {from}, .y = to}));
    }
done:
    ts_release(&b->ctx.arena, mark);
    return st;
}

ts_status bench_weight(bench *b, long O, long K, ts_weight *w)
{
    *w = (ts_weight){0};
    return bench_random(b, TS_BF16, O, K, 1 / sqrt((double)K), &w->t);
}

ts_status bench_vector(bench *b, long C, ts_weight *w)
{
    *w = (ts_weight){0};
    ts_status st = bench_random(b, TS_F32, 1, C, 0.02, &w->t);
    w->t = ts_view(w->t, TS_DIM(C));
    return st;
}

/* ---- ceilings ---- */
typedef struct {
    ts_tensor from, to;
} pair;

static ts_status copy_by_driver(bench *b, const void *args)
{
    const pair *p = args;
    ts_cuda *c = ts_cuda_of(b->device);
    size_t bytes = (size_t)ts_count(p->to) * ts_dtype_size(p->to.type);
    if (bench_counts(b)) return TS_OK;
    return ts_cuda_result(c,
                          cudaMemcpyAsync(ts_cuda_at(p->to.p), ts_cuda_at(p->from.p), bytes,
                                          cudaMemcpyDeviceToDevice, c->queue),
                          "copy");
}

static ts_status copy_by_kernel(bench *b, const void *args)
{
    const pair *p = args;
    return ts_cast(b->ctx.dev, p->from, p->to);
}

static ts_status run_linear(bench *b, const void *args)
{
    return ts_linear_op(b->ctx.dev, *(const ts_linear *)args);
}

static ts_status measure_copies(ts_ctx *ctx, void *user)
{
    bench *b = user;
    ts_status st;
    long n = b->o.tiny ? 64 : 16384;
    pair p;
    (void)ctx;
    TRY(bench_random(b, TS_BF16, n, n, 1, &p.from));
    p.to = bench_take(b, TS_BF16, n, n);
    bench_call call[] = {{.run = copy_by_driver, .args = &p}, {.run = copy_by_kernel, .args = &p}};
    TRY(bench_time(b, call, 2));
    if (bench_counts(b)) goto done;
    double bytes = 2.0 * (double)n * (double)n * 2;
    b->copy_rate = bytes / call[0].seconds;
    bench_row r = {"ceiling", "copy by the driver", "", call[0].seconds, b->copy_rate, "B", 0,
                   "",        BENCH_NO_BAR,         0};
    snprintf(r.of, sizeof r.of, "%.0f MB, read and written", bytes / 2e6);
    bench_say(b, &r);
    r.what = "copy by its kernel";
    r.seconds = call[1].seconds;
    r.rate = bytes / call[1].seconds;
    r.ratio = call[0].seconds / call[1].seconds;
    r.against = "of the driver's";
    bench_say(b, &r);
done:
    return st;
}

static ts_status measure_matmul(ts_ctx *ctx, void *user)
{
    bench *b = user;
    ts_status st;
    long n = b->o.tiny ? 32 : 8192;
    ts_weight w;
    ts_linear a = {.w = &w};
    (void)ctx;
    TRY(bench_weight(b, n, n, &w));
    TRY(bench_random(b, TS_BF16, n, n, 1, &a.x));
    a.y = bench_take(b, TS_BF16, n, n);
    bench_call call = {.run = run_linear, .args = &a};
    if (!bench_counts(b) && !b->o.tiny) { /* clocks under load */
        for (int i = 0; i < 200; i++) TRY(run_linear(b, &a));
        read_clocks(b, 1);
    }
    TRY(bench_time(b, &call, 1));
    if (bench_counts(b)) goto done;
    b->matmul_rate = 2.0 * (double)n * (double)n * (double)n / call.seconds;
    bench_row r = {"ceiling", "product, bf16", "", call.seconds, b->matmul_rate, "FLOP", 0,
                   "",        BENCH_NO_BAR,    0};
    snprintf(r.of, sizeof r.of, "%ld x %ld x %ld by cuBLASLt", n, n, n);
    bench_say(b, &r);
done:
    return st;
}

/* ---- linear layers ---- */
typedef struct {
    const char *what, *of;
    long M, K, O;
    ts_act act;
    bool gated; /* added to the residual stream, f32, times a gate; else bf16 */
} layer_case;

static ts_status measure_layer(bench *b, const layer_case *c)
{
    ts_status st;
    ts_weight w, bias, gate = {0};
    ts_linear a = {.w = &w, .b = &bias, .act = c->act};
    size_t mark = ts_mark(&b->ctx.arena);
    TRY(bench_weight(b, c->O, c->K, &w));
    TRY(bench_vector(b, c->O, &bias));
    TRY(bench_random(b, TS_BF16, c->M, c->K, 1, &a.x));
    a.y = bench_take(b, c->gated ? TS_F32 : TS_BF16, c->M, c->O);
    if (c->gated) {
        TRY(bench_vector(b, c->O, &gate));
        TRY(b->ctx.dev->ops->zero(b->ctx.dev, a.y.p, (size_t)ts_count(a.y) * sizeof(float)));
        a.gate = ts_view(gate.t, TS_DIM(1, c->O));
        a.resid = a.y;
    }
    bench_call call = {.run = run_linear, .args = &a};
    TRY(bench_time(b, &call, 1));
    if (bench_counts(b)) goto done;
    bench_row r = {"linear",
                   c->what,
                   "",
                   call.seconds,
                   2.0 * (double)c->M * (double)c->K * (double)c->O / call.seconds,
                   "FLOP",
                   0,
                   "of the product's rate",
                   BENCH_AT_LEAST,
                   0.8};
    r.ratio = b->matmul_rate > 0 ? r.rate / b->matmul_rate : 0;
    snprintf(r.of, sizeof r.of, "%s: [%ld, %ld] x [%ld]", c->of, c->M, c->K, c->O);
    bench_say(b, &r);
done:
    ts_release(&b->ctx.arena, mark);
    return st;
}

static ts_status measure_linear(ts_ctx *ctx, void *user)
{
    static const layer_case real[] = {
        {"to_q", "1.3B", 32760, 1536, 1536, TS_ACT_NONE, false},
        {"to_out, gated", "1.3B", 32760, 1536, 1536, TS_ACT_NONE, true},
        {"up, GELU", "1.3B", 32760, 1536, 8960, TS_ACT_GELU_TANH, false},
        {"down, gated", "1.3B", 32760, 8960, 1536, TS_ACT_NONE, true},
        {"to_q", "14B", 75600, 5120, 5120, TS_ACT_NONE, false},
        {"to_out, gated", "14B", 75600, 5120, 5120, TS_ACT_NONE, true},
        {"up, GELU", "14B", 75600, 5120, 13824, TS_ACT_GELU_TANH, false},
        {"down, gated", "14B", 75600, 13824, 5120, TS_ACT_NONE, true},
    };
    static const layer_case tiny[] = {
        {"to_q", "tiny", 33, 32, 32, TS_ACT_NONE, false},
        {"down, gated", "tiny", 33, 64, 32, TS_ACT_NONE, true},
    };
    bench *b = user;
    ts_status st = TS_OK;
    int n = b->o.tiny ? 2 : (int)(sizeof real / sizeof *real);
    (void)ctx;
    for (int i = 0; i < n; i++) TRY(measure_layer(b, (b->o.tiny ? tiny : real) + i));
done:
    return st;
}

/* ---- all of it ---- */
static int run_section(bench *b, const char *name, ts_status (*section)(ts_ctx *, void *))
{
    ts_ctx *c = &b->ctx;
    size_t size = 0;
    ts_status st = ts_count_phase(c, section, b, &size);
    if (!st) st = ts_arena_open(&c->arena, c->dev, size);
    if (!st) st = section(c, b);
    ts_arena_close(&c->arena);
    if (st) {
        fprintf(b->o.say, "%s: left out: %s\n", name, c->err.text);
        snprintf(b->left[b->left_out++], sizeof b->left[0], "%s: %s", name, c->err.text);
    }
    if (write_json(b)) {
        fprintf(b->o.say, "%s\n", c->err.text);
        return 1;
    }
    return st && st != TS_EMEMORY; /* a smaller card measures what fits */
}

static int run_sections(bench *b)
{
    int failed = 0;
    static const struct {
        const char *name;
        ts_status (*run)(ts_ctx *, void *);
    } section[] = {{"copies", measure_copies},         {"product", measure_matmul},
                   {"linear", measure_linear},         {"kernels", bench_kernels_all},
                   {"attention", bench_attention_all}, {"rest", bench_rest_all},
                   {"steps", bench_steps_all}};
    for (size_t i = 0; i < sizeof section / sizeof *section; i++)
        if (!b->o.only || strstr(b->o.only, section[i].name))
            failed |= run_section(b, section[i].name, section[i].run);
    return failed;
}

int bench_cuda(const bench_options *o)
{
    int failed = 1;
    char about[512];
    bench *b = calloc(1, sizeof *b);
    if (!b) return 1;
    b->o = *o;
    ts_ctx *c = &b->ctx;
    ts_status st = ts_cuda_open((ts_device_options){.kind = "cuda"}, &c->env, &c->err, &b->device);
    if (!st) st = ts_profile_open(b->device, &c->dev);
    if (st) {
        fprintf(o->say, "bench-cuda: %s\n", c->err.text);
        ts_device_close(b->device);
        free(b);
        return 1;
    }
    c->act = TS_BF16;
    b->device->ops->about(b->device, about, sizeof about);
    fprintf(o->say, "%s\n", about);
    if (o->tiny) fprintf(o->say, "tiny sizes: every time and ratio below is void\n");
    read_clocks(b, 0);
    failed = run_sections(b);
    read_clocks(b, 2);
    if (write_json(b)) failed = 1;
    if (!o->tiny) fprintf(o->say, "bars: %d met, %d missed\n", b->met, b->missed);
    ts_device_close(c->dev);
    free(b);
    return failed;
}
