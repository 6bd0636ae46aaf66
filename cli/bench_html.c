/* The bench's report as one page that needs nothing else: the table, charts as inline SVG, the clips side by side under one slider, PSNR over frames, plan pictures. */
#include "cli/bench.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 860, BAR = 22, LABEL = 330 };
static const char *const colours[] = {"#8a8f98", "#e4572e", "#2e86ab", "#3fa34d", "#a23b72", "#f2a541", "#5b5ea6", "#00897b"};
enum { COLOURS = sizeof colours / sizeof *colours };

static const char *colour(int i) { return colours[i % COLOURS]; }

static void text(FILE *f, const char *s)
{
    for (; *s; s++) {
        const char *safe = *s == '<' ? "&lt;" : *s == '>' ? "&gt;" : *s == '&' ? "&amp;" : *s == '"' ? "&quot;" : NULL;
        if (safe) fputs(safe, f);
        else fputc(*s, f);
    }
}

/* A file's bytes as a data: address; nothing when it can not be read. */
static void embed(FILE *f, const char *path, const char *type)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned char b[3];
    size_t n;
    FILE *in = fopen(path, "rb");
    if (!in) return;
    fprintf(f, "data:%s;base64,", type);
    while ((n = fread(b, 1, 3, in)) > 0) {
        unsigned long w = (unsigned long)b[0] << 16 | (n > 1 ? (unsigned long)b[1] << 8 : 0) | (n > 2 ? b[2] : 0);
        for (size_t i = 0; i < 4; i++) fputc(i <= n ? digits[w >> (18 - 6 * i) & 63] : '=', f);
    }
    fclose(in);
}

static const char *decibels(double x, char out[24])
{
    if (isnan(x)) strcpy(out, "-");
    else if (isinf(x)) strcpy(out, "equal");
    else snprintf(out, 24, "%.2f", x);
    return out;
}

static void write_table(FILE *f, const ts_bench *b)
{
    char psnr[24], ssim[24], recall[24];
    fputs("<table><tr><th>attention<th>seconds<th>in attention<th>faster<th>attention faster<th>ideal<th>kept<th>recall<th>PSNR, dB<th>SSIM\n", f);
    for (int i = 0; i < b->policies; i++) {
        ts_bench_row r = ts_bench_sum(b, i);
        snprintf(ssim, sizeof ssim, isnan(r.ssim) ? "-" : "%.4f", r.ssim), snprintf(recall, sizeof recall, r.recall > 0 ? "%.3f" : "-", r.recall);
        fprintf(f, "<tr><td><i style=\"background:%s\"></i>", colour(i));
        text(f, b->policy[i].attention);
        fprintf(f, "<td>%.3f<td>%.3f<td>%.2fx<td>%.2fx<td>%.2fx<td>%.3f<td>%s<td>%s<td>%s\n", r.seconds, r.attention, r.speed, r.attention_speed, r.ideal, r.sparse ? r.kept : 1, recall, decibels(r.psnr, psnr), ssim);
    }
    fputs("</table>\n", f);
}

/* ---- charts ---- */
static void open_svg(FILE *f, const char *title, int height)
{
    fprintf(f, "<h2>%s</h2>\n<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s\">\n", title, WIDTH, height, title);
}

static void label(FILE *f, int y, const char *s)
{
    fprintf(f, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">", LABEL - 8, y + 15);
    text(f, s);
    fputs("</text>", f);
}

/* Seconds of every policy: attention in its colour, the rest pale; a mark where Amdahl's limit lies. */
static void write_times(FILE *f, const ts_bench *b)
{
    double most = 0, scale;
    for (int i = 0; i < b->policies; i++) most = fmax(most, ts_bench_sum(b, i).seconds);
    scale = most > 0 ? (WIDTH - LABEL - 120) / most : 0;
    open_svg(f, "Seconds: attention, and the rest", b->policies * (BAR + 6) + 4);
    for (int i = 0; i < b->policies; i++) {
        ts_bench_row r = ts_bench_sum(b, i), d = ts_bench_sum(b, 0);
        int y = i * (BAR + 6);
        label(f, y, b->policy[i].attention);
        fprintf(f, "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/><rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\" opacity=\".3\"/>", LABEL, y, r.attention * scale, BAR,
                colour(i), LABEL + r.attention * scale, y, (r.seconds - r.attention) * scale, BAR, colour(i));
        if (i && r.ideal > 0) fprintf(f, "<rect x=\"%.1f\" y=\"%d\" width=\"2\" height=\"%d\" class=\"mark\"><title>ideal %.2fx</title></rect>", LABEL + d.seconds / r.ideal * scale, y - 2, BAR + 4, r.ideal);
        fprintf(f, "<text x=\"%.1f\" y=\"%d\">%.2f s, %.2fx</text>\n", LABEL + r.seconds * scale + 8, y + 15, r.seconds, r.speed);
    }
    fputs("</svg><p class=\"note\">The thin mark is what arithmetic promises: the dense run's share of attention, and the blocks that were read.</p>\n", f);
}

static void write_fidelity(FILE *f, const ts_bench *b)
{
    open_svg(f, "PSNR against the dense clip, dB", b->policies * (BAR + 6) + 4);
    for (int i = 1, row = 0; i < b->policies; i++, row++) {
        ts_bench_row r = ts_bench_sum(b, i);
        char value[24];
        int y = row * (BAR + 6);
        double width = isnan(r.psnr) ? 0 : fmin(r.psnr, 60) / 60 * (WIDTH - LABEL - 120);
        label(f, y, b->policy[i].attention);
        fprintf(f, "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/><text x=\"%.1f\" y=\"%d\">%s, SSIM %.4f</text>\n", LABEL, y, width, BAR, colour(i), LABEL + width + 8, y + 15,
                decibels(r.psnr, value), r.ssim);
    }
    fputs("</svg>\n", f);
}

typedef struct { double x0, x1, y0, y1; int h; } axes;

static double px(const axes *a, double x) { return 60 + (x - a->x0) / (a->x1 - a->x0) * (WIDTH - 90); }
static double py(const axes *a, double y) { return a->h - 34 - (y - a->y0) / (a->y1 - a->y0) * (a->h - 50); }

static void draw_axes(FILE *f, const axes *a, const char *x, const char *y)
{
    for (int i = 0; i <= 4; i++) {
        double v = a->y0 + i * (a->y1 - a->y0) / 4, u = a->x0 + i * (a->x1 - a->x0) / 4;
        fprintf(f, "<line x1=\"60\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" class=\"grid\"/><text x=\"52\" y=\"%.1f\" text-anchor=\"end\">%.4g</text>", WIDTH - 30, py(a, v), py(a, v), py(a, v) + 4, v);
        fprintf(f, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.4g</text>", px(a, u), a->h - 16, u);
    }
    fprintf(f, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text><text x=\"60\" y=\"12\">%s</text>\n", WIDTH - 30, a->h - 2, x, y);
}

static void spread(double *lo, double *hi)
{
    double gap = *hi > *lo ? (*hi - *lo) * 0.08 : 0.5;
    *lo -= gap, *hi += gap;
}

/* Fidelity over speed: a line a policy, a point a value of the swept key. */
static void write_sweep(FILE *f, const ts_bench *b)
{
    axes a = {INFINITY, -INFINITY, INFINITY, -INFINITY, 380};
    for (int i = 1; i < b->policies; i++) {
        ts_bench_row r = ts_bench_sum(b, i);
        if (!isfinite(r.psnr)) continue;
        a.x0 = fmin(a.x0, r.speed), a.x1 = fmax(a.x1, r.speed), a.y0 = fmin(a.y0, r.psnr), a.y1 = fmax(a.y1, r.psnr);
    }
    if (!b->sweep[0] || !isfinite(a.x0)) return;
    spread(&a.x0, &a.x1), spread(&a.y0, &a.y1);
    open_svg(f, "Fidelity over speed", a.h);
    draw_axes(f, &a, "times faster", "PSNR, dB");
    for (int i = 1; i < b->policies; i++) {
        const ts_bench_policy *p = b->policy + i;
        ts_bench_row r = ts_bench_sum(b, i);
        if (!isfinite(r.psnr)) continue;
        bool first = i == 1 || !p->series || !b->policy[i - 1].series || strcmp(p->series, b->policy[i - 1].series);
        const char *paint = colour(i);
        if (!first) {
            ts_bench_row q = ts_bench_sum(b, i - 1);
            if (isfinite(q.psnr)) fprintf(f, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"mark\"/>", px(&a, q.speed), py(&a, q.psnr), px(&a, r.speed), py(&a, r.psnr));
        }
        fprintf(f, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"5\" fill=\"%s\"><title>", px(&a, r.speed), py(&a, r.psnr), paint);
        text(f, p->attention);
        fputs("</title></circle>", f);
        fprintf(f, "<text x=\"%.1f\" y=\"%.1f\">", px(&a, r.speed) + 8, py(&a, r.psnr) - 6);
        if (first) text(f, p->series ? p->series : p->attention);
        if (p->series) fprintf(f, " %g", p->x);
        fputs("</text>\n", f);
    }
    fputs("</svg>\n", f);
}

static void write_frames(FILE *f, const ts_bench *b, int prompt)
{
    axes a = {0, b->frames - 1, INFINITY, -INFINITY, 260};
    for (int i = 1; i < b->policies; i++)
        for (int t = 0; ts_bench_at(b, prompt, i)->mse && t < b->frames; t++) {
            double v = fmin(ts_psnr(ts_bench_at(b, prompt, i)->mse[t]), 60);
            a.y0 = fmin(a.y0, v), a.y1 = fmax(a.y1, v);
        }
    if (!isfinite(a.y0) || b->frames < 2) return;
    spread(&a.y0, &a.y1);
    open_svg(f, "PSNR over frames", a.h);
    draw_axes(f, &a, "frame", "dB (60 and more: 60)");
    for (int i = 1; i < b->policies; i++) {
        const ts_bench_cell *c = ts_bench_at(b, prompt, i);
        if (!c->mse) continue;
        fprintf(f, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"", colour(i));
        for (int t = 0; t < b->frames; t++) fprintf(f, "%.1f,%.1f ", px(&a, t), py(&a, fmin(ts_psnr(c->mse[t]), 60)));
        fputs("\"><title>", f);
        text(f, b->policy[i].attention);
        fputs("</title></polyline>\n", f);
    }
    fputs("</svg>\n", f);
}

/* ---- clips and plans ---- */
static void write_clips(FILE *f, const ts_bench *b, int prompt)
{
    bool still = b->frames == 1;
    fprintf(f, "<div class=\"clips\" data-frames=\"%d\" data-fps=\"%g\">\n", b->frames, b->q.fps);
    if (!still) fprintf(f, "<div class=\"bar\"><button>play</button><input type=\"range\" min=\"0\" max=\"%d\" value=\"0\"><output>frame 1 of %d</output></div>\n", b->frames - 1, b->frames);
    for (int i = 0; i < b->policies; i++) {
        const ts_bench_cell *c = ts_bench_at(b, prompt, i);
        if (!c->clip) continue;
        fputs(still ? "<figure><img src=\"" : "<figure><video muted playsinline preload=\"auto\" src=\"", f);
        embed(f, c->clip, still ? "image/png" : "video/mp4");
        fprintf(f, "\" width=\"%d\">%s<figcaption><i style=\"background:%s\"></i>", b->w < 200 ? 200 : b->w > 480 ? 480 : b->w, still ? "" : "</video>", colour(i));
        text(f, b->policy[i].attention);
        fputs("</figcaption></figure>\n", f);
    }
    fputs("</div>\n", f);
}

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }
static int is_png(const struct dirent *d) { return strstr(d->d_name, ".png") != NULL; }

/* At most eight pictures of a policy's plans, spread over branches and layers. */
static void write_plans(FILE *f, const ts_bench *b, int prompt, int policy)
{
    enum { SHOWN = 8 };
    const ts_bench_cell *c = ts_bench_at(b, prompt, policy);
    struct dirent **list = NULL;
    int n = c->plans ? scandir(c->plans, &list, is_png, by_name) : 0, shown = n < SHOWN ? n : SHOWN;
    if (n > 0) {
        fputs("<details><summary>Plans of ", f);
        text(f, b->policy[policy].attention);
        fprintf(f, " (%d of %d; a head a tile, query blocks down, key blocks across, read blocks bright)</summary><div class=\"plans\">\n", shown, n);
    }
    for (int i = 0; i < shown; i++) {
        char path[4096];
        const char *name = list[shown > 1 ? i * (n - 1) / (shown - 1) : 0]->d_name;
        snprintf(path, sizeof path, "%s/%s", c->plans, name);
        fputs("<figure><img src=\"", f);
        embed(f, path, "image/png");
        fprintf(f, "\" width=\"200\"><figcaption>%s</figcaption></figure>\n", name);
    }
    if (n > 0) fputs("</div></details>\n", f);
    for (int i = 0; i < n; i++) free(list[i]);
    free(list);
}

static const char head[] =
    "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>tessera bench</title>\n"
    "<style>:root{color-scheme:light dark;--ink:#222;--paper:#fff;--line:#8884}@media(prefers-color-scheme:dark){:root{--ink:#e8e8ea;--paper:#17181c}}\n"
    "body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem;color:var(--ink);background:var(--paper)}h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}\n"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums}td,th{padding:.25rem .7rem;text-align:right;border-bottom:1px solid var(--line)}td:first-child,th:first-child{text-align:left}\n"
    "i{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin-right:.5em}svg{width:100%;height:auto}svg text{font-size:12px;fill:var(--ink)}.grid{stroke:var(--line)}.mark{fill:var(--ink);stroke:var(--ink);stroke-width:1}\n"
    ".clips,.plans{display:flex;flex-wrap:wrap;gap:1rem}.bar{flex-basis:100%;display:flex;gap:1rem;align-items:center}.bar input{flex:1}figure{margin:0;max-width:480px}video,img{max-width:100%;image-rendering:auto;display:block}\n"
    "figcaption{font-size:.85rem;overflow-wrap:anywhere}.note,.facts{color:#888;font-size:.85rem}summary{cursor:pointer;margin-top:.6rem}pre{overflow:auto}</style></head><body>\n";

static const char tail[] =
    "<script>for(const g of document.querySelectorAll('.clips')){const v=[...g.querySelectorAll('video')],r=g.querySelector('input'),b=g.querySelector('button'),o=g.querySelector('output');if(!r)continue;\n"
    "const n=+g.dataset.frames,fps=+g.dataset.fps;let timer=0;const show=i=>{r.value=i;o.textContent='frame '+(+i+1)+' of '+n;for(const x of v)x.currentTime=(+i+.5)/fps};\n"
    "const stop=()=>{clearInterval(timer);timer=0;b.textContent='play'};r.oninput=()=>{stop();show(r.value)};b.onclick=()=>{if(timer)return stop();b.textContent='stop';timer=setInterval(()=>show((+r.value+1)%n),1000/fps)};show(0)}</script></body></html>\n";

static void write_page(FILE *f, const ts_bench *b)
{
    char *versions = ts_versions(b->c->ctx);
    fputs(head, f);
    fprintf(f, "<h1>Sparse attention against full attention</h1><p class=\"facts\">%dx%d, %d frames, %d steps, %ld tokens, %s, seed %llu, %d turn%s of each, medians; model ", b->e.width, b->e.height, b->e.frames,
            b->q.steps, b->e.tokens, b->e.precision, (unsigned long long)b->q.seed, b->repeats, b->repeats == 1 ? "" : "s");
    text(f, ts_cli_set(b->c, TS_F_MODEL) ? ts_cli_text(b->c, TS_F_MODEL) : "default");
    fputs(b->complete ? "</p>\n" : "; <b>stopped before its end</b></p>\n", f);
    write_table(f, b);
    write_times(f, b);
    write_fidelity(f, b);
    write_sweep(f, b);
    for (int p = 0; p < b->done_prompts; p++) {
        fputs("<h2>&ldquo;", f);
        text(f, b->prompt[p]);
        fputs("&rdquo;</h2>\n", f);
        write_clips(f, b, p);
        write_frames(f, b, p);
        for (int i = 1; i < b->policies; i++) write_plans(f, b, p, i);
    }
    fputs("<h2>What every run did</h2><pre>", f);
    for (int i = 1; i < b->policies; i++)
        if (b->done_prompts && ts_bench_at(b, 0, i)->said) text(f, ts_bench_at(b, 0, i)->said);
    fputs("</pre><p class=\"facts\">", f);
    if (versions) text(f, versions);
    fputs("</p>\n", f);
    fputs(tail, f);
    free(versions);
}

ts_status ts_bench_html(const ts_bench *b, const char *path)
{
    char *page = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&page, &size);
    if (!f) return ts_cli_fail(b->c, TS_EMEMORY, "no memory for %s", path);
    write_page(f, b);
    fclose(f);
    ts_status st = ts_cli_write(b->c, "html", path, page, size);
    free(page);
    return st;
}
