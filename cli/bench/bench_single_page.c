/* The pages of `bench --step` and `bench --kernel`: what it comes to, facts, bars, a table. */
#include "cli/bench/bench_page.h"
#include "cli/bench/bench_single.h"
#include "cli/page.h"
#include "cli/side.h"

#include <math.h>

enum { BAR_HEIGHT = 16, BAR_ROOM = 24 };

/* ---- bars ---- */
/* A bar of `solid` and, behind it, `pale`, of `most` across; a mark at `mark`, negative: none. */
static void draw_track(FILE *f, const char *colour, double solid, double pale, double mark,
                       double most)
{
    double scale = most > 0 ? 98 / most : 0;
    fprintf(f, "<svg class=\"track\" height=\"%d\">", BAR_ROOM);
    fprintf(f, "<rect x=\"0%%\" y=\"%d\" width=\"%.2f%%\" height=\"%d\" fill=\"%s\"/>",
            (BAR_ROOM - BAR_HEIGHT) / 2, solid * scale, BAR_HEIGHT, colour);
    fprintf(f,
            "<rect x=\"%.2f%%\" y=\"%d\" width=\"%.2f%%\" height=\"%d\" fill=\"%s\" "
            "opacity=\".35\"/>",
            solid * scale, (BAR_ROOM - BAR_HEIGHT) / 2, pale * scale, BAR_HEIGHT, colour);
    if (mark >= 0)
        fprintf(f, "<rect x=\"%.2f%%\" y=\"1\" width=\"3\" height=\"%d\" class=\"mark\"/>",
                mark * scale, BAR_ROOM - 2);
    fputs("</svg></div>\n", f);
}

/* ---- single evaluations ---- */
static void draw_policies(FILE *f, const ts_step_sum *p, int n)
{
    double most = 0;
    for (int i = 0; i < n; i++) most = fmax(most, p[i].seconds);
    fputs("<h2>Seconds of a run</h2>\n<div class=\"bars\" id=\"run\">\n", f);
    for (int i = 0; i < n; i++) {
        fputs("<div class=\"row\">", f);
        ts_bench_name(f, i, p[i].name);
        fprintf(f, "<span class=\"figures\">%.2f s</span>\n", p[i].seconds);
        draw_track(f, ts_bench_colour(i), p[i].attention, p[i].seconds - p[i].attention,
                   i && p[i].ideal > 0 ? p[0].seconds / p[i].ideal : -1, most);
    }
    fputs("</div>\n<p class=\"note\">Solid: self-attention. Pale: everything else. Upright mark: "
          "where Amdahl's law puts the end of the bar.</p>\n",
          f);
}

static void write_policies(FILE *f, const ts_step_sum *p, int n)
{
    fputs("<div class=\"wide\"><table>\n<thead><tr><th class=\"policy\">attention</th><th>seconds</"
          "th><th>CPU s</th><th>self-attention</th><th>searching</th><th>faster</th><th>ideal</th>"
          "</tr></thead>\n<tbody>\n",
          f);
    for (int i = 0; i < n; i++) {
        char gain[16] = "1.00x";
        if (i) snprintf(gain, sizeof gain, p[i].doubtful ? "void" : "%.2fx", p[i].gain);
        fputs("<tr><td class=\"policy\">", f);
        ts_bench_name(f, i, p[i].name);
        fprintf(f,
                "</td><td>%.3f</td><td>%.3f</td><td>%.3f</td><td>%.3f</td><td><b>%s</b></td>"
                "<td>%.2fx</td></tr>\n",
                p[i].seconds, p[i].cpu, p[i].attention, p[i].search, gain,
                i && p[i].ideal > 0 ? p[i].ideal : 1);
    }
    fputs("</tbody></table></div>\n<p class=\"note\">Of a run of all steps with one guidance "
          "branch, from one evaluation of each kind that the policy has. CPU s: of all threads. "
          "Searching is part of self-attention.</p>\n",
          f);
}

ts_status ts_step_html(ts_cli *c, const ts_request *q, const ts_bench_machine *m,
                       const ts_step_sum *p, int n, const char *why, long tokens, int turns,
                       bool complete)
{
    ts_status st = TS_OK;
    ts_newfile file = {0};
    FILE *f;
    char s[128], line[TS_VERDICT_LINES][TS_VERDICT_TEXT];
    int lines = ts_step_verdict(p, n, q->steps, line);
    if (!ts_flag_set(&c->flags, TS_F_HTML)) return TS_OK;
    TRY(ts_side_open(&c->err, &c->flags, TS_F_HTML, false, &file, &f));
    ts_bench_page_begin(f, "Single evaluations of the transformer", complete);
    ts_bench_why(f, why, "");
    ts_bench_lines(f, line, lines);
    fputs("<ul class=\"facts\">\n", f);
    ts_bench_fact(f, "model",
                  ts_flag_set(&c->flags, TS_F_MODEL) ? ts_flag_text(&c->flags, TS_F_MODEL)
                                                     : "default");
    snprintf(s, sizeof s, "%d x %d, %d frame%s", q->width, q->height, q->frames,
             q->frames == 1 ? "" : "s");
    ts_bench_fact(f, "size", s);
    snprintf(s, sizeof s, "%ld", tokens);
    ts_bench_fact(f, "tokens", s);
    snprintf(s, sizeof s, "%d", q->steps);
    ts_bench_fact(f, "steps of a run", s);
    snprintf(s, sizeof s, "%d of each%s", turns, turns > 1 ? ", in turns; medians" : "");
    ts_bench_fact(f, "measurements", s);
    ts_bench_machine_facts(f, m, NULL);
    fputs("</ul>\n", f);
    write_policies(f, p, n);
    draw_policies(f, p, n);
    ts_bench_footer(f, c->ctx);
    fputs("</body></html>\n", f);
    TRY(ts_side_keep(&c->err, TS_F_HTML, &file));
done:
    ts_newfile_drop(&file);
    return st;
}

/* ---- kernels ---- */
static const char *label_kernel(const ts_kernel_row *r, char out[64])
{
    if (r->what == TS_KERNEL_UNEVEN)
        snprintf(out, 64, "uneven, %d thread%s", r->threads, r->threads == 1 ? "" : "s");
    else if (r->what == TS_KERNEL_SPARSE)
        snprintf(out, 64, "sparse, %.3g of the blocks", r->kept);
    else
        snprintf(out, 64, "%s", r->name);
    return out;
}

/* One number of tokens: bars of milliseconds, with what a plan's share promises. */
static void draw_kernels(FILE *f, const ts_kernel_result *k, int first, int last)
{
    double most = 0, dense = 0;
    char name[64];
    for (int i = first; i < last; i++) {
        most = fmax(most, k[i].r.seconds);
        if (k[i].r.what == TS_KERNEL_DENSE) dense = k[i].r.seconds;
    }
    fprintf(f, "<h2>%ld tokens</h2>\n<div class=\"bars\">\n", k[first].r.tokens);
    for (int i = first; i < last; i++) {
        const ts_kernel_row *r = &k[i].r;
        fputs("<div class=\"row\">", f);
        ts_bench_name(f, (int)r->what - TS_KERNEL_DENSE, label_kernel(r, name));
        fprintf(f, "<span class=\"figures\">%.3f ms%s</span>\n", 1e3 * r->seconds,
                k[i].doubts ? ", comparisons void" : "");
        draw_track(f, ts_bench_colour((int)r->what - TS_KERNEL_DENSE), r->seconds, 0,
                   r->what == TS_KERNEL_SPARSE ? dense * r->kept : -1, most);
    }
    fputs("</div>\n", f);
}

static void write_kernels_table(FILE *f, const ts_kernel_result *k, int n)
{
    char name[64], share[16], rate[16];
    fputs("<div class=\"wide\"><table>\n<thead><tr><th>tokens</th><th class=\"policy\">kernel</th>"
          "<th>kept</th><th>ms</th><th>fastest</th><th>slowest</th><th>CPU ms</th><th>GFLOP/s</th>"
          "<th>of peak</th></tr></thead>\n<tbody>\n",
          f);
    for (int i = 0; i < n; i++) {
        const ts_kernel_row *r = &k[i].r;
        if (r->what == TS_KERNEL_PEAK) continue;
        snprintf(rate, sizeof rate, r->flops > 0 ? "%.1f" : "-", r->flops / 1e9);
        snprintf(share, sizeof share,
                 r->peak_share <= 0 ? "-"
                 : k[i].doubts      ? "void"
                                    : "%.1f%%",
                 100 * r->peak_share);
        fprintf(f,
                "<tr><td>%ld</td><td class=\"policy\">%s</td><td>%.4f</td><td>%.3f</td><td>%.3f"
                "</td><td>%.3f</td><td>%.3f</td><td>%s</td><td>%s</td></tr>\n",
                r->tokens, label_kernel(r, name), r->kept, 1e3 * r->seconds, 1e3 * r->fastest,
                1e3 * r->slowest, 1e3 * r->cpu, rate, share);
    }
    fputs("</tbody></table></div>\n", f);
}

static void write_kernel_facts(FILE *f, const ts_kernel_bench *b, const ts_bench_machine *m,
                               const ts_kernel_result *k, int n)
{
    char s[128], what[32];
    fputs("<ul class=\"facts\">\n", f);
    snprintf(s, sizeof s, "%d of %d", b->heads, b->dim);
    ts_bench_fact(f, "heads", s);
    snprintf(s, sizeof s, "%d of each, in turns; medians", b->repeats);
    ts_bench_fact(f, "measurements", s);
    for (int i = 0; i < n; i++) {
        if (k[i].r.what != TS_KERNEL_PEAK) continue;
        snprintf(s, sizeof s, "%.1f GFLOP/s, %s", k[i].r.flops / 1e9, k[i].r.level);
        snprintf(what, sizeof what, "%s peak", k[i].r.precision);
        ts_bench_fact(f, what, s);
    }
    ts_bench_machine_facts(f, m, n ? k[n - 1].r.precision : NULL);
    fputs("</ul>\n", f);
}

ts_status ts_kernel_html(ts_cli *c, const ts_kernel_bench *b, const ts_bench_machine *m,
                         const ts_kernel_result *k, int n, bool complete)
{
    ts_status st = TS_OK;
    ts_newfile file = {0};
    FILE *f;
    char line[TS_VERDICT_LINES][TS_VERDICT_TEXT], why[TS_DOUBT_TEXT];
    int lines = ts_kernel_verdict(k, n, line);
    const ts_measured busy = ts_bench_measured(m);
    if (!ts_flag_set(&c->flags, TS_F_HTML)) return TS_OK;
    TRY(ts_side_open(&c->err, &c->flags, TS_F_HTML, false, &file, &f));
    ts_bench_page_begin(f, "Attention kernels", complete);
    if (*ts_doubt_text(&busy, ts_doubts(&busy), why)) {
        fputs("<p class=\"stopped\"><b>Nothing is concluded:</b> ", f);
        ts_page_text(f, why);
        fputs(".</p>\n", f);
    }
    ts_bench_lines(f, line, lines);
    write_kernel_facts(f, b, m, k, n);
    write_kernels_table(f, k, n);
    for (int first = 0, last; first < n; first = last) {
        for (last = first; last < n && k[last].r.tokens == k[first].r.tokens;) last++;
        if (k[first].r.tokens) draw_kernels(f, k, first, last);
    }
    fputs("<p class=\"note\">Upright mark: the dense time times the share of blocks that the plan "
          "keeps.</p>\n",
          f);
    ts_bench_footer(f, c->ctx);
    fputs("</body></html>\n", f);
    TRY(ts_side_keep(&c->err, TS_F_HTML, &file));
done:
    ts_newfile_drop(&file);
    return st;
}
