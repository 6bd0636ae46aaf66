/* Charts of a bench of clips as inline SVG: seconds and fidelity as bars, fidelity over speed, PSNR
 * over frames. One colour a line: the values of a swept key share theirs. */
#include "cli/bench/bench_page.h"
#include "cli/page.h"

#include <math.h>
#include <string.h>

/* BEST: dB that stand for equal frames */
enum {
    WIDTH = 1000,
    ROW = 44,
    BAR = 16,
    VALUES = 230,
    LEFT = 52,
    BOTTOM = 40,
    TOP = 22,
    BEST = 60
};

const char *ts_bench_colour(int line)
{
    static const char *const colours[] = {"#e4572e", "#2a8fc7", "#36a35a", "#b455a0",
                                          "#e0972f", "#7a78d6", "#12a3a3", "#c94f6d"};
    return line ? colours[(line - 1) % (int)(sizeof colours / sizeof *colours)] : "#8a8f98";
}

static const char *line_colour(const ts_bench *b, int policy)
{
    return ts_bench_colour(b->policy[policy].line);
}

static void open_svg(FILE *f, const char *title, const char *id, int height)
{
    fprintf(f,
            "<h2>%s</h2>\n<svg id=\"%s\" viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s\">\n",
            title, id, WIDTH, height, title);
}

/* A policy's name; the middle of a very long one is left out. */
static void write_policy_name(FILE *f, const char *s)
{
    enum { LONGEST = 120, END = 50 };
    size_t n = strlen(s);
    if (n <= LONGEST) {
        ts_page_text(f, s);
        return;
    }
    char start[LONGEST];
    snprintf(start, sizeof start, "%.*s", LONGEST - END - 1, s);
    ts_page_text(f, start);
    fputs("&hellip;", f);
    ts_page_text(f, s + n - END);
}

static void write_rectangle(FILE *f, double x, int y, double width, const char *paint,
                            const char *opacity)
{
    fprintf(f, "<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\"%s/>", x, y,
            fmax(width, 0), BAR, paint, opacity);
}

/* Name above, figures at the right; the bar's own y comes back. */
static int open_bar(FILE *f, const ts_bench *b, int policy, int row)
{
    fprintf(f, "<text x=\"0\" y=\"%d\">", row * ROW + 14);
    write_policy_name(f, b->policy[policy].attention);
    fputs("</text>", f);
    return row * ROW + 20;
}

void ts_bench_times(FILE *f, const ts_bench *b)
{
    double most = 0, scale;
    ts_bench_row d = ts_bench_sum(b, 0);
    for (int i = 0; i < b->policies; i++) {
        ts_bench_row r = ts_bench_sum(b, i);
        most = fmax(most, fmax(r.most, r.ideal > 0 ? d.seconds / r.ideal : 0));
    }
    scale = most > 0 ? (WIDTH - VALUES) / most : 0;
    open_svg(f, "Seconds of denoising", "seconds", b->policies * ROW + 4);
    fprintf(f, "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"16\" y2=\"%d\" class=\"dense\"/>\n",
            d.seconds * scale, d.seconds * scale, b->policies * ROW);
    for (int i = 0; i < b->policies; i++) {
        ts_bench_row r = ts_bench_sum(b, i);
        int y = open_bar(f, b, i, i);
        write_rectangle(f, 0, y, r.attention * scale, line_colour(b, i), "");
        write_rectangle(f, r.attention * scale, y, (r.seconds - r.attention) * scale,
                        line_colour(b, i), " opacity=\".35\"");
        if (r.most > r.least)
            fprintf(f,
                    "<path d=\"M%.1f %dv8m0 -4H%.1fm0 -4v8\" class=\"whisker\"><title>fastest %.3f "
                    "s, slowest %.3f s</title></path>",
                    r.least * scale, y + 4, r.most * scale, r.least, r.most);
        if (i && r.ideal > 0)
            fprintf(f,
                    "<rect x=\"%.1f\" y=\"%d\" width=\"3\" height=\"%d\" "
                    "class=\"mark\"><title>ideal %.2fx</title></rect>",
                    d.seconds / r.ideal * scale - 1.5, y - 3, BAR + 6, r.ideal);
        fprintf(f, "<text x=\"%d\" y=\"%d\" class=\"value\">%.2f s", WIDTH, y + 13, r.seconds);
        if (i)
            fprintf(f, " &#160; <tspan class=\"strong\">%.2fx</tspan> (ideal %.2fx)", r.speed,
                    r.ideal);
        fputs("</text>\n", f);
    }
    fputs("</svg>\n<p class=\"note\">Solid: self-attention. Pale: everything else. Upright mark: "
          "where Amdahl's law puts the end of the bar (dense seconds, self-attention alone divided "
          "by what the blocks read promise). ",
          f);
    fputs(b->repeats > 1
              ? "Whiskers: fastest and slowest turn. Dashed line: dense.</p>\n"
              : "Dashed line: dense. One turn: how far turns lie apart is not known.</p>\n",
          f);
}

const char *ts_bench_decibels(double x, char out[24])
{
    if (isnan(x))
        strcpy(out, "-");
    else if (isinf(x))
        strcpy(out, "equal");
    else
        snprintf(out, 24, "%.2f dB", x);
    return out;
}

static double at_most_best(double psnr) { return fmin(psnr, BEST); }

void ts_bench_fidelity(FILE *f, const ts_bench *b)
{
    double most = 0;
    for (int i = 1; i < b->policies; i++) {
        ts_bench_row r = ts_bench_sum(b, i);
        if (!isnan(r.psnr)) most = fmax(most, at_most_best(r.psnr));
    }
    if (!(most > 0)) return;
    most = fmax(ceil(most / 10) * 10, 30);
    open_svg(f, "Nearness to the dense clip", "fidelity", (b->policies - 1) * ROW + 4);
    for (int i = 1; i < b->policies; i++) {
        ts_bench_row r = ts_bench_sum(b, i);
        char value[24];
        int y = open_bar(f, b, i, i - 1);
        write_rectangle(f, 0, y, WIDTH - VALUES, line_colour(b, i), " opacity=\".12\"");
        if (!isnan(r.psnr))
            write_rectangle(f, 0, y, at_most_best(r.psnr) / most * (WIDTH - VALUES),
                            line_colour(b, i), "");
        fprintf(f, "<text x=\"%d\" y=\"%d\" class=\"value\"><tspan class=\"strong\">%s</tspan>",
                WIDTH, y + 13, ts_bench_decibels(r.psnr, value));
        if (!isnan(r.ssim)) fprintf(f, " &#160; SSIM %.4f", r.ssim);
        fputs("</text>\n", f);
    }
    fprintf(f,
            "</svg>\n<p class=\"note\">PSNR of all frames and prompts; a full bar is %.0f dB. It "
            "says how near the clips are to the dense ones, not how good: look at them.</p>\n",
            most);
}

/* ---- charts with axes ---- */
typedef struct {
    double lo, hi, step;
} axis;
typedef struct {
    axis x, y;
    int h;
} plot;

static void widen_axis(axis *a, double v)
{
    a->lo = fmin(a->lo, v);
    a->hi = fmax(a->hi, v);
}

/* 1, 2 or 5 times a power of ten, at most n of which cover the range, and at least `least`. */
static double axis_step(double range, int n, double least)
{
    double raw = fmax(range / n, least), unit = pow(10, floor(log10(raw) + 1e-9));
    return raw <= unit * (1 + 1e-9) ? unit
           : raw <= 2 * unit        ? 2 * unit
           : raw <= 5 * unit        ? 5 * unit
                                    : 10 * unit;
}

/* Ends at whole steps, with room around what is drawn. */
static void round_axis(axis *a, int n, double least)
{
    double room = fmax((a->hi - a->lo) * 0.05, least / 4);
    a->step = axis_step(a->hi - a->lo + 2 * room, n, least);
    a->lo = floor((a->lo - room) / a->step) * a->step;
    a->hi = ceil((a->hi + room) / a->step) * a->step;
}

static double x_pixel(const plot *p, double x)
{
    return LEFT + (x - p->x.lo) / (p->x.hi - p->x.lo) * (WIDTH - LEFT - 16);
}
static double y_pixel(const plot *p, double y)
{
    return p->h - BOTTOM - (y - p->y.lo) / (p->y.hi - p->y.lo) * (p->h - BOTTOM - TOP);
}

static void draw_axes(FILE *f, const plot *p, const char *x, const char *y)
{
    double first = ceil(p->x.lo / p->x.step - 1e-9) * p->x.step + 0.0;
    int rows = (int)floor((p->y.hi - p->y.lo) / p->y.step + 0.5),
        columns = (int)floor((p->x.hi - first) / p->x.step + 1e-6);
    for (int i = 0; i <= rows; i++) {
        double v = p->y.lo + i * p->y.step;
        fprintf(f,
                "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" class=\"grid\"/><text x=\"%d\" "
                "y=\"%.1f\" class=\"value\">%g</text>",
                LEFT, WIDTH - 16, y_pixel(p, v), y_pixel(p, v), LEFT - 8, y_pixel(p, v) + 4, v);
    }
    for (int i = 0; i <= columns; i++) {
        double v = first + i * p->x.step;
        fprintf(f,
                "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\" class=\"grid\"/><text "
                "x=\"%.1f\" y=\"%d\" class=\"tick\">%g</text>",
                x_pixel(p, v), x_pixel(p, v), TOP, p->h - BOTTOM, x_pixel(p, v), p->h - BOTTOM + 16,
                v);
    }
    fprintf(f,
            "<text x=\"%d\" y=\"%d\" class=\"value\">%s</text><text x=\"0\" y=\"12\">%s</text>\n",
            WIDTH - 16, p->h - 5, x, y);
}

/* A line of the charts by name: a swept policy without its key. */
static void draw_legend(FILE *f, const ts_bench *b)
{
    fputs("<p class=\"legend\">", f);
    for (int i = 1; i < b->policies; i++) {
        const ts_bench_policy *p = b->policy + i;
        if (i > 1 && p->line == p[-1].line) continue;
        ts_bench_name(f, p->line, p->series ? p->series : p->attention);
    }
    fputs("</p>\n", f);
}

typedef struct {
    double speed, psnr;
    bool drawn;
} point;

static point point_of(const ts_bench *b, int i)
{
    ts_bench_row r = ts_bench_sum(b, i);
    return (point){r.speed, at_most_best(r.psnr), !isnan(r.psnr) && r.speed > 0};
}

void ts_bench_curve(FILE *f, const ts_bench *b)
{
    plot p = {{INFINITY, -INFINITY, 0}, {INFINITY, -INFINITY, 0}, 400};
    for (int i = 1; i < b->policies; i++) {
        point q = point_of(b, i);
        if (q.drawn) {
            widen_axis(&p.x, q.speed);
            widen_axis(&p.y, q.psnr);
        }
    }
    if (!isfinite(p.x.lo)) return;
    widen_axis(&p.x, 1);
    round_axis(&p.x, 10, 0.1);
    round_axis(&p.y, 6, 1);
    open_svg(f, "Fidelity over speed", "curve", p.h);
    draw_axes(f, &p, "times faster than dense", "PSNR, dB");
    for (int i = 1; i < b->policies; i++) {
        const ts_bench_policy *a = b->policy + i;
        point q = point_of(b, i), was = point_of(b, i - 1);
        if (i > 1 && a->line == a[-1].line && q.drawn && was.drawn)
            fprintf(f,
                    "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" "
                    "stroke-width=\"2.5\"/>",
                    x_pixel(&p, was.speed), y_pixel(&p, was.psnr), x_pixel(&p, q.speed),
                    y_pixel(&p, q.psnr), line_colour(b, i));
    }
    for (int i = 1; i < b->policies; i++) {
        point q = point_of(b, i);
        if (!q.drawn) continue;
        fprintf(f, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"6\" fill=\"%s\"><title>",
                x_pixel(&p, q.speed), y_pixel(&p, q.psnr), line_colour(b, i));
        ts_page_text(f, b->policy[i].attention);
        fprintf(f, ": %.2fx</title></circle>", q.speed);
        if (b->policy[i].series)
            fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" class=\"tick\">%g</text>", x_pixel(&p, q.speed),
                    y_pixel(&p, q.psnr) - 11, b->policy[i].x);
        fputc('\n', f);
    }
    fputs("</svg>\n", f);
    draw_legend(f, b);
    if (b->sweep[0])
        fprintf(f,
                "<p class=\"note\">Numbers at the points: %s. Further right and further up is "
                "better.</p>\n",
                b->sweep);
    else
        fputs("<p class=\"note\">Further right and further up is better.</p>\n", f);
}

/* Of a series the later values are drawn stronger. */
static double line_opacity(const ts_bench *b, int policy)
{
    int first = policy, last = policy;
    while (first > 1 && b->policy[first - 1].line == b->policy[policy].line) first--;
    while (last + 1 < b->policies && b->policy[last + 1].line == b->policy[policy].line) last++;
    return last > first ? 0.35 + 0.65 * (policy - first) / (last - first) : 1;
}

void ts_bench_over_frames(FILE *f, const ts_bench *b, int prompt)
{
    char id[32];
    plot p = {{0, b->frames - 1, 0}, {INFINITY, -INFINITY, 0}, 300};
    for (int i = 1; i < b->policies; i++)
        for (int t = 0; ts_bench_at(b, prompt, i)->mse && t < b->frames; t++)
            widen_axis(&p.y, at_most_best(ts_psnr(ts_bench_at(b, prompt, i)->mse[t])));
    if (!isfinite(p.y.lo) || b->frames < 2) return;
    p.x.step = axis_step(p.x.hi, 14, 1);
    round_axis(&p.y, 5, 1);
    snprintf(id, sizeof id, "frames-%d", prompt);
    open_svg(f, "PSNR over frames", id, p.h);
    draw_axes(f, &p, "frame, from 0", "PSNR, dB");
    for (int i = 1; i < b->policies; i++) {
        const ts_bench_cell *c = ts_bench_at(b, prompt, i);
        if (!c->mse) continue;
        fprintf(f,
                "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2.5\" "
                "stroke-linejoin=\"round\" opacity=\"%.2f\" points=\"",
                line_colour(b, i), line_opacity(b, i));
        for (int t = 0; t < b->frames; t++)
            fprintf(f, "%.1f,%.1f ", x_pixel(&p, t), y_pixel(&p, at_most_best(ts_psnr(c->mse[t]))));
        fputs("\"><title>", f);
        ts_page_text(f, b->policy[i].attention);
        fputs("</title></polyline>\n", f);
    }
    fputs("</svg>\n", f);
    draw_legend(f, b);
}
