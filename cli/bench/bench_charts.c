/* Charts of a bench of clips as inline SVG: seconds and fidelity as bars, fidelity over speed, PSNR
 * over frames. One colour and one mark a line: the values of a swept key share theirs. What is
 * across is in percent of the page, what is upright and all text in pixels: legible on a phone. */
#include "cli/bench/bench_page.h"
#include "cli/page.h"

#include <math.h>
#include <string.h>

/* BEST: dB that stand for equal frames; NARROW: pixels across of a chart on a phone */
enum { BAR = 16, TRACK = 24, BEST = 60, NARROW = 280 };

/* ---- colours, marks, names ---- */
/* 9 and 8 have no common divisor: 72 lines before a pair comes again. */
const char *ts_bench_colour(int line)
{
    static const char *const colours[] = {"#e4572e", "#2a8fc7", "#36a35a", "#b455a0", "#d99a1c",
                                          "#6f63d9", "#12a3a3", "#b3717a", "#7d8c2f"};
    return line ? colours[(line - 1) % (int)(sizeof colours / sizeof *colours)] : "#8a8f98";
}

void ts_bench_mark(FILE *f, int line)
{
    static const char *const marks[] = {
        "M-6 0a6 6 0 1 0 12 0a6 6 0 1 0 -12 0z",
        "M-5.5 -5.5h11v11h-11z",
        "M0 -7L7 5.5H-7z",
        "M0 -7.5L7.5 0L0 7.5L-7.5 0z",
        "M0 7L7 -5.5H-7z",
        "M-2.5 -7h5v4.5h4.5v5h-4.5v4.5h-5v-4.5h-4.5v-5h4.5z",
        "M-6 -6h12L-6 6h12z",
        "M0 -7L6.7 -2.2L4.1 5.7H-4.1L-6.7 -2.2z",
    };
    fprintf(f, "<path d=\"%s\" fill=\"%s\"/>",
            marks[line ? (line - 1) % (int)(sizeof marks / sizeof *marks) : 0],
            ts_bench_colour(line));
}

/* of lines without marks */
static const char *line_dashes(int line)
{
    static const char *const dashes[] = {"none", "9 3",     "3 3",         "9 3 3 3",
                                         "1 4",  "9 3 1 3", "9 3 3 3 3 3", "14 6"};
    return dashes[line > 0 ? (line - 1) / 9 % (int)(sizeof dashes / sizeof *dashes) : 0];
}

static const char *line_colour(const ts_bench *b, int policy)
{
    return ts_bench_colour(b->policy[policy].line);
}

/* ---- bars ---- */
static void open_bars(FILE *f, const char *title, const char *id)
{
    fprintf(f, "<h2>%s</h2>\n<div class=\"bars\" id=\"%s\">\n", title, id);
}

/* Name, figures behind it, and below them the place of the bar. */
static void open_bar(FILE *f, const ts_bench *b, int policy, const char *figures)
{
    fputs("<div class=\"row\">", f);
    ts_bench_name(f, b->policy[policy].line, b->policy[policy].attention);
    fprintf(f, "<span class=\"figures\">%s</span>\n<svg class=\"track\" height=\"%d\">", figures,
            TRACK);
}

static void close_bar(FILE *f) { fputs("</svg></div>\n", f); }

static void write_rectangle(FILE *f, double x, double width, const char *paint, const char *opacity)
{
    fprintf(f, "<rect x=\"%.2f%%\" y=\"%d\" width=\"%.2f%%\" height=\"%d\" fill=\"%s\"%s/>", x,
            (TRACK - BAR) / 2, fmax(width, 0), BAR, paint, opacity);
}

static void write_time_bar(FILE *f, const ts_bench *b, int policy, double scale)
{
    ts_bench_row r = ts_bench_sum(b, policy), d = ts_bench_sum(b, 0);
    char figures[160];
    int n = snprintf(figures, sizeof figures, "%.2f s, CPU %.2f s", r.seconds, r.cpu);
    if (policy && r.doubts)
        snprintf(figures + n, sizeof figures - (size_t)n, " &#160; void (ideal <b>%.2fx</b>)",
                 r.ideal);
    else if (policy)
        snprintf(figures + n, sizeof figures - (size_t)n, " &#160; <b>%.2fx</b> (ideal %.2fx)",
                 r.speed, r.ideal);
    open_bar(f, b, policy, figures);
    write_rectangle(f, 0, r.attention * scale, line_colour(b, policy), "");
    write_rectangle(f, r.attention * scale, (r.seconds - r.attention) * scale,
                    line_colour(b, policy), " opacity=\".35\"");
    if (r.most > r.least) {
        fprintf(f,
                "<line x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"%d\" y2=\"%d\" class=\"whisker\"><title>"
                "fastest %.3f s, slowest %.3f s</title></line>",
                r.least * scale, r.most * scale, TRACK / 2, TRACK / 2, r.least, r.most);
        for (int i = 0; i < 2; i++)
            fprintf(f, "<line x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"%d\" y2=\"%d\" class=\"whisker\"/>",
                    (i ? r.most : r.least) * scale, (i ? r.most : r.least) * scale, TRACK / 2 - 4,
                    TRACK / 2 + 4);
    }
    if (policy && r.ideal > 0)
        fprintf(f,
                "<rect x=\"%.2f%%\" y=\"1\" width=\"3\" height=\"%d\" "
                "class=\"mark\"><title>ideal %.2fx</title></rect>",
                d.seconds / r.ideal * scale, TRACK - 2, r.ideal);
    fprintf(f, "<line x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"0\" y2=\"%d\" class=\"dense\"/>",
            d.seconds * scale, d.seconds * scale, TRACK);
    close_bar(f);
}

void ts_bench_times(FILE *f, const ts_bench *b)
{
    double most = 0, scale;
    ts_bench_row d = ts_bench_sum(b, 0);
    for (int i = 0; i < b->policies; i++) {
        ts_bench_row r = ts_bench_sum(b, i);
        most = fmax(most, fmax(r.most, r.ideal > 0 ? d.seconds / r.ideal : 0));
    }
    scale = most > 0 ? 98 / most : 0;
    open_bars(f, "Seconds of denoising", "seconds");
    for (int i = 0; i < b->policies; i++) write_time_bar(f, b, i, scale);
    fputs("</div>\n<p class=\"note\">Solid: self-attention. Pale: everything else. Upright mark: "
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
    open_bars(f, "Nearness to the dense clip", "fidelity");
    for (int i = 1; i < b->policies; i++) {
        ts_bench_row r = ts_bench_sum(b, i);
        char value[24], figures[80];
        int n = snprintf(figures, sizeof figures, "<b>%s</b>", ts_bench_decibels(r.psnr, value));
        if (!isnan(r.ssim))
            snprintf(figures + n, sizeof figures - (size_t)n, " &#160; SSIM %.4f", r.ssim);
        open_bar(f, b, i, figures);
        write_rectangle(f, 0, 100, line_colour(b, i), " opacity=\".12\"");
        if (!isnan(r.psnr))
            write_rectangle(f, 0, at_most_best(r.psnr) / most * 100, line_colour(b, i), "");
        close_bar(f);
    }
    fprintf(f,
            "</div>\n<p class=\"note\">PSNR of all frames and prompts; a full bar is %.0f dB. It "
            "says how near the clips are to the dense ones, not how good: look at them.</p>\n",
            most);
}

/* ---- charts with axes ---- */
typedef struct {
    double lo, hi, step;
} axis;
typedef struct {
    axis x, y;
    int h; /* pixels */
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

static double x_percent(const plot *p, double x)
{
    return (x - p->x.lo) / (p->x.hi - p->x.lo) * 100;
}
static double y_pixel(const plot *p, double y)
{
    return p->h - (y - p->y.lo) / (p->y.hi - p->y.lo) * p->h;
}

static void open_plot(FILE *f, const char *title, const char *id, const plot *p)
{
    fprintf(f,
            "<h2>%s</h2>\n<div class=\"plot\"><svg id=\"%s\" height=\"%d\" role=\"img\" "
            "aria-label=\"%s\">\n",
            title, id, p->h, title);
}

static void draw_axes(FILE *f, const plot *p, const char *x, const char *y)
{
    double first = ceil(p->x.lo / p->x.step - 1e-9) * p->x.step + 0.0;
    int rows = (int)floor((p->y.hi - p->y.lo) / p->y.step + 0.5),
        columns = (int)floor((p->x.hi - first) / p->x.step + 1e-6);
    for (int i = 0; i <= rows; i++) {
        double v = p->y.lo + i * p->y.step;
        fprintf(f,
                "<line x1=\"0%%\" x2=\"100%%\" y1=\"%.1f\" y2=\"%.1f\" class=\"grid\"/><text "
                "x=\"-8\" y=\"%.1f\" class=\"value\">%g</text>",
                y_pixel(p, v), y_pixel(p, v), y_pixel(p, v) + 4, v);
    }
    for (int i = 0; i <= columns; i++) {
        double v = first + i * p->x.step;
        fprintf(f,
                "<line x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"0\" y2=\"%d\" class=\"grid\"/><text "
                "x=\"%.2f%%\" y=\"%d\" class=\"tick\">%g</text>",
                x_percent(p, v), x_percent(p, v), p->h, x_percent(p, v), p->h + 22, v);
    }
    fprintf(f,
            "<text x=\"100%%\" y=\"%d\" class=\"value\">%s</text><text x=\"-34\" "
            "y=\"-12\">%s</text>\n",
            p->h + 41, x, y);
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

/* ---- fidelity over speed ---- */
typedef struct {
    double speed, psnr;
    bool drawn;
    /* the label: text, pixels across, and of its middle below the chart's upper end */
    char name[40];
    double width, y;
} point;

/* A place at or before n bytes where no character is cut. */
static int cut_before(const char *s, int n)
{
    while (n > 0 && (s[n] & 0xc0) == 0x80) n--;
    return n;
}

/* What is written at a point: the swept value, else the policy, in the middle cut. */
static void name_point(const ts_bench *b, int i, point *p)
{
    enum { LONGEST = 26, HALF = 12, WIDE = 8 }; /* bytes; pixels a character, at most */
    const ts_bench_policy *a = b->policy + i;
    int n = (int)strlen(a->attention);
    if (a->series)
        snprintf(p->name, sizeof p->name, "%g", a->x);
    else if (n <= LONGEST)
        snprintf(p->name, sizeof p->name, "%s", a->attention);
    else
        snprintf(p->name, sizeof p->name, "%.*s..%s", cut_before(a->attention, HALF), a->attention,
                 a->attention + cut_before(a->attention, n - HALF));
    p->width = WIDE * (double)strlen(p->name);
}

/* Across, on a phone: labels begin at the left of the chart, end at its right, else lie over their
 * point. On wider pages points are further apart and labels as they are, so what does not overlap
 * there does not overlap here. */
static double label_left(const plot *p, const point *q)
{
    double x = x_percent(p, q->speed);
    return x * NARROW / 100 - (x < 40 ? 0 : x > 60 ? q->width : q->width / 2);
}

/* Above its point, or as far above or below as no other label and no point is in the way. */
static void place_label(const plot *p, point *all, int n, int i)
{
    enum { LINE = 15, NEAR = 14 };
    point *q = all + i;
    double at = y_pixel(p, q->psnr), left = label_left(p, q);
    for (int k = 0; k < 4 * TS_BENCH_MOST; k++) {
        bool free = true;
        q->y = at + (k % 2 ? NEAR + LINE * (k / 2) : -NEAR - LINE * (k / 2));
        for (int o = 0; o < n && free; o++) {
            const point *r = all + o;
            double other = label_left(p, r), x = x_percent(p, r->speed) * NARROW / 100;
            if (!r->drawn) continue;
            free = fabs(y_pixel(p, r->psnr) - q->y) >= 11 || x + 8 < left ||
                   x - 8 > left + q->width;
            if (o < i && fabs(r->y - q->y) < LINE && other < left + q->width &&
                left < other + r->width)
                free = false;
        }
        if (free && q->y > -40 && q->y < p->h) return;
    }
}

static void draw_point(FILE *f, const ts_bench *b, const plot *p, const point *q, int policy)
{
    double x = x_percent(p, q->speed), y = y_pixel(p, q->psnr);
    if (fabs(q->y - y) > 20)
        fprintf(f, "<line x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"%.1f\" y2=\"%.1f\" class=\"lead\"/>", x,
                x, y, q->y);
    fprintf(f, "<svg class=\"point\" x=\"%.2f%%\" y=\"%.1f\">", x, y);
    ts_bench_mark(f, b->policy[policy].line);
    fputs("<title>", f);
    ts_page_text(f, b->policy[policy].attention);
    fprintf(f, ": %.2fx</title></svg><text x=\"%.2f%%\" y=\"%.1f\" class=\"%s\">", q->speed, x,
            q->y + 4,
            x < 40   ? "left"
            : x > 60 ? "value"
                     : "tick");
    ts_page_text(f, q->name);
    fputs("</text>\n", f);
}

/* Of those on the frontier that are slower than the last one, the fastest; 0: there is none. */
static int next_on_frontier(const ts_bench *b, const ts_bench_words *words, const point *q,
                            int last)
{
    int next = 0;
    for (int i = 1; i < b->policies; i++)
        if (words->frontier[i] && q[i].drawn && (!last || q[i].speed < q[last].speed) &&
            (!next || q[i].speed > q[next].speed))
            next = i;
    return next;
}

static void draw_frontier(FILE *f, const ts_bench *b, const ts_bench_words *words, const plot *p,
                          const point *q)
{
    int last = next_on_frontier(b, words, q, 0);
    for (int i; last && (i = next_on_frontier(b, words, q, last)); last = i)
        fprintf(f,
                "<line x1=\"%.2f%%\" y1=\"%.1f\" x2=\"%.2f%%\" y2=\"%.1f\" "
                "class=\"frontier\"/>",
                x_percent(p, q[last].speed), y_pixel(p, q[last].psnr), x_percent(p, q[i].speed),
                y_pixel(p, q[i].psnr));
}

/* Over the gain that was measured, or, where that is void, that arithmetic allows. */
void ts_bench_curve(FILE *f, const ts_bench *b, const ts_bench_words *words)
{
    bool measured = !*words->why;
    plot p = {{INFINITY, -INFINITY, 0}, {INFINITY, -INFINITY, 0}, 400};
    point q[TS_BENCH_MOST] = {0};
    for (int i = 1; i < b->policies; i++) {
        ts_bench_row r = ts_bench_sum(b, i);
        q[i].speed = measured ? r.speed : r.ideal;
        q[i].psnr = at_most_best(r.psnr);
        q[i].drawn = !isnan(r.psnr) && q[i].speed > 0;
        if (!q[i].drawn) continue;
        name_point(b, i, q + i);
        widen_axis(&p.x, q[i].speed);
        widen_axis(&p.y, q[i].psnr);
    }
    if (!isfinite(p.x.lo)) return;
    widen_axis(&p.x, 1);
    round_axis(&p.x, 6, 0.05);
    round_axis(&p.y, 6, 1);
    open_plot(f, "Fidelity over speed", "curve", &p);
    draw_axes(f, &p, measured ? "times faster than dense" : "times faster, by arithmetic",
              "PSNR, dB");
    draw_frontier(f, b, words, &p, q);
    for (int i = 2; i < b->policies; i++)
        if (b->policy[i].line == b->policy[i - 1].line && q[i].drawn && q[i - 1].drawn)
            fprintf(f,
                    "<line x1=\"%.2f%%\" y1=\"%.1f\" x2=\"%.2f%%\" y2=\"%.1f\" stroke=\"%s\" "
                    "stroke-width=\"2.5\"/>",
                    x_percent(&p, q[i - 1].speed), y_pixel(&p, q[i - 1].psnr),
                    x_percent(&p, q[i].speed), y_pixel(&p, q[i].psnr), line_colour(b, i));
    for (int i = 1; i < b->policies; i++) {
        if (!q[i].drawn) continue;
        place_label(&p, q, b->policies, i);
        draw_point(f, b, &p, q + i, i);
    }
    fputs("</svg></div>\n", f);
    draw_legend(f, b);
    fputs("<p class=\"note\">", f);
    if (b->sweep[0]) fprintf(f, "Numbers at the points: %s. ", b->sweep);
    fputs("Further right and further up is better; dashes join those that none beats.</p>\n", f);
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
    p.x.step = axis_step(p.x.hi, 7, 1);
    round_axis(&p.y, 5, 1);
    snprintf(id, sizeof id, "frames-%d", prompt);
    open_plot(f, "PSNR over frames", id, &p);
    draw_axes(f, &p, "frame, from 0", "PSNR, dB");
    /* lines of points know no percent: what is across is stretched */
    fprintf(f, "<svg viewBox=\"0 0 1000 %d\" preserveAspectRatio=\"none\">\n", p.h);
    for (int i = 1; i < b->policies; i++) {
        const ts_bench_cell *c = ts_bench_at(b, prompt, i);
        if (!c->mse) continue;
        fprintf(f,
                "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2.5\" stroke-linejoin="
                "\"round\" vector-effect=\"non-scaling-stroke\" stroke-dasharray=\"%s\" "
                "opacity=\"%.2f\" points=\"",
                line_colour(b, i), line_dashes(b->policy[i].line), line_opacity(b, i));
        for (int t = 0; t < b->frames; t++)
            fprintf(f, "%.1f,%.1f ", 10 * x_percent(&p, t),
                    y_pixel(&p, at_most_best(ts_psnr(c->mse[t]))));
        fputs("\"><title>", f);
        ts_page_text(f, b->policy[i].attention);
        fputs("</title></polyline>\n", f);
    }
    fputs("</svg></svg></div>\n", f);
    draw_legend(f, b);
}
