/* The report of a bench of clips: one self-contained HTML page with what was measured in words and
 * a table, the charts of bench_charts.c, the clips side by side under one slider, plan pictures. */
#include "cli/bench/bench_page.h"
#include "cli/page.h"
#include "cli/side.h"

#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

void ts_bench_name(FILE *f, int line, const char *policy)
{
    fputs("<span class=\"name\"><svg class=\"dot\" viewBox=\"-8 -8 16 16\">", f);
    ts_bench_mark(f, line);
    fputs("</svg><span>", f);
    for (const char *s = policy; *s; s++) {
        ts_page_text(f, (char[]){*s, 0});
        if (*s == ',' || *s == ':') fputs("<wbr>", f);
    }
    fputs("</span></span>", f);
}

static void write_swatch(FILE *f, const ts_bench *b, int policy)
{
    ts_bench_name(f, b->policy[policy].line, b->policy[policy].attention);
}

/* ---- words and figures ---- */
static void write_facts(FILE *f, const ts_bench *b)
{
    char s[256];
    const ts_bench_machine *m = &b->machine;
    fputs("<ul class=\"facts\">\n", f);
    ts_bench_fact(f, "model",
                  ts_flag_set(&b->c->flags, TS_F_MODEL) ? ts_flag_text(&b->c->flags, TS_F_MODEL)
                                                        : "default");
    snprintf(s, sizeof s, "%d x %d, %d frame%s", b->e.width, b->e.height, b->e.frames,
             b->e.frames == 1 ? "" : "s");
    ts_bench_fact(f, "size", s);
    snprintf(s, sizeof s, "%ld", b->e.tokens);
    ts_bench_fact(f, "tokens", s);
    snprintf(s, sizeof s, "%d, guidance %g, seed %llu", b->q.steps, b->q.guidance,
             (unsigned long long)b->q.seed);
    ts_bench_fact(f, "steps", s);
    snprintf(s, sizeof s, "%d of each, in turns%s", b->repeats, b->repeats > 1 ? "; medians" : "");
    ts_bench_fact(f, "measurements", s);
    ts_bench_machine_facts(f, m, b->e.precision);
    fputs("</ul>\n", f);
}

/* What it comes to, in words. */
static void write_verdict(FILE *f, const ts_bench *b, const ts_bench_words *words)
{
    ts_bench_row d = ts_bench_sum(b, 0);
    if (!words->lines) return;
    ts_bench_why(f, words->why, "likeness does not depend on it");
    ts_bench_lines(f, words->line, words->lines);
    fprintf(f, "<p class=\"note\">Self-attention is %.0f%% of dense denoising.</p>\n",
            d.seconds > 0 ? 100 * d.attention / d.seconds : 0);
}

static const char *format_figure(char out[16], bool known, const char *format, double x)
{
    if (known)
        snprintf(out, 16, format, x);
    else
        strcpy(out, "-");
    return out;
}

static const char *format_gain(char out[16], bool stands, double gain)
{
    snprintf(out, 16, stands ? "%.2fx" : "void", gain);
    return out;
}

static void write_doubts(FILE *f, const ts_bench *b)
{
    char why[TS_DOUBT_TEXT];
    for (int i = 1; i < b->policies; i++) {
        ts_bench_row r = ts_bench_sum(b, i);
        if (!r.doubts || r.doubts & TS_DOUBT_BUSY) continue; /* that is said above */
        fputs("<p class=\"note\">Void: ", f);
        ts_page_text(f, b->policy[i].attention);
        fprintf(f, ": %s.</p>\n", ts_doubt_text(&r.measured, r.doubts, why));
    }
}

static void write_table(FILE *f, const ts_bench *b, const ts_bench_words *words)
{
    fputs("<div class=\"wide\"><table>\n<thead><tr><th rowspan=\"2\" "
          "class=\"policy\">attention</th><th colspan=\"5\">denoising</th><th "
          "colspan=\"2\">self-attention</th><th colspan=\"2\">plans</th><th colspan=\"3\">against "
          "dense</th></tr>\n"
          "<tr><th>seconds</th><th>CPU "
          "s</th><th>spread</th><th>faster</th><th>ideal</th><th>seconds</"
          "th><th>faster</th><th>kept</th><th>recall</th><th>PSNR</th><th>SSIM</th><th>latents</"
          "th></tr></"
          "thead>\n<tbody>\n",
          f);
    for (int i = 0; i < b->policies; i++) {
        ts_bench_row r = ts_bench_sum(b, i);
        char spread[16], kept[16], recall[16], ssim[16], psnr[24], gain[16], attention[16],
            apart[16];
        bool stands = !i || !r.doubts;
        fputs("<tr><td class=\"policy\">", f);
        write_swatch(f, b, i);
        if (words->frontier[i]) fputs(" <b title=\"none beats it\">*</b>", f);
        fprintf(f,
                "</td><td>%.3f</td><td>%.3f</td><td>%s</td><td><b>%s</b></td><td>%.2fx</td>"
                "<td>%.3f</td><td>%s</td><td>%s</td><td>%s</td><td><b>%s</b></td><td>%s</td>"
                "<td>%s</td></tr>\n",
                r.seconds, r.cpu,
                format_figure(spread, b->repeats > 1 && r.seconds > 0, "%.1f%%",
                              100 * (r.most - r.least) / r.seconds),
                format_gain(gain, stands, r.speed), r.ideal, r.attention,
                format_gain(attention, stands, r.attention_speed),
                format_figure(kept, r.sparse > 0, "%.3f", r.kept),
                format_figure(recall, r.recall > 0, "%.3f", r.recall),
                ts_bench_decibels(r.psnr, psnr),
                format_figure(ssim, !isnan(r.ssim), "%.4f", r.ssim),
                format_figure(apart, !isnan(r.apart), "%.2f%%", 100 * r.apart));
    }
    fputs("</tbody></table></div>\n<p class=\"note\">Seconds are of denoising alone, without text "
          "encoder and VAE",
          f);
    fputs(b->done_prompts > 1 ? ", summed over prompts. " : ". ", f);
    fputs("CPU s: of all threads. Spread: (slowest - fastest turn) / median. Kept: share of the "
          "key blocks that sparse calls read, keep rounded to whole blocks of 64 tokens; -: "
          "nothing was sparse. Recall: share of the softmax weights in a plan's blocks when it was "
          "made. Latents: how far they are from the dense ones, relative. *: none is as near and "
          "faster, or as fast and nearer.</p>\n",
          f);
    write_doubts(f, b);
}

/* ---- clips and plans ---- */
static void write_clip(FILE *f, const ts_bench *b, int prompt, int policy)
{
    bool still = b->frames == 1;
    const ts_bench_cell *c = ts_bench_at(b, prompt, policy);
    fprintf(f, "<figure><div class=\"clip\" tabindex=\"0\" style=\"aspect-ratio:%d/%d\">", b->w,
            b->h);
    fputs(still ? "<img class=\"shown\" src=\""
                : "<video class=\"shown\" muted playsinline preload=\"auto\" src=\"",
          f);
    ts_page_data(f, c->clip, still ? "image/png" : "video/mp4");
    fputs(still ? "\" alt=\"" : "\" aria-label=\"", f);
    ts_page_text(f, b->policy[policy].attention);
    fprintf(f, "\">%s<canvas width=\"%d\" height=\"%d\" hidden></canvas></div><figcaption>",
            still ? "" : "</video>", b->w, b->h);
    write_swatch(f, b, policy);
    if (policy && c->mse) {
        char value[24];
        double mse = 0;
        ts_bench_row r = ts_bench_sum(b, policy);
        for (int t = 0; t < b->frames; t++) mse += c->mse[t] / b->frames;
        fprintf(f, "<br>%.2fx%s, %s", r.doubts ? r.ideal : r.speed,
                r.doubts ? " by arithmetic" : "", ts_bench_decibels(ts_psnr(mse), value));
    }
    fputs("</figcaption></figure>\n", f);
}

static void write_clips(FILE *f, const ts_bench *b, int prompt)
{
    bool still = b->frames == 1, any = false;
    for (int i = 0; i < b->policies; i++) any = any || ts_bench_at(b, prompt, i)->clip;
    if (!any) {
        fputs("<p class=\"note\">Stopped before frames were made.</p>\n", f);
        return;
    }
    fprintf(f,
            "<div class=\"clips\" data-frames=\"%d\" data-fps=\"%g\" style=\"--w:%dpx\">\n<div "
            "class=\"bar\">",
            b->frames, b->q.fps,
            b->w < 230   ? 230
            : b->w > 480 ? 480
                         : b->w);
    if (!still)
        fprintf(f,
                "<button type=\"button\">play</button><input type=\"range\" min=\"0\" max=\"%d\" "
                "value=\"%d\" aria-label=\"frame\"><output>frame %d of %d</output>",
                b->frames - 1, b->frames / 2, b->frames / 2 + 1, b->frames);
    fputs("<label><input type=\"checkbox\">difference from dense, x4</label></div>\n<p "
          "class=\"note\">A tap or click on a clip shows the dense one in its place, another takes "
          "it away.</p>\n",
          f);
    for (int i = 0; i < b->policies; i++)
        if (ts_bench_at(b, prompt, i)->clip) write_clip(f, b, prompt, i);
    fputs("</div>\n", f);
}

static int order_entries(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}
static int is_png(const struct dirent *d) { return strstr(d->d_name, ".png") != NULL; }

/* At most eight pictures of a policy's plans, spread over branches and layers. */
static void write_plans(FILE *f, const ts_bench *b, int prompt, int policy)
{
    enum { SHOWN = 8 };
    const ts_bench_cell *c = ts_bench_at(b, prompt, policy);
    struct dirent **list = NULL;
    int n = c->plans ? scandir(c->plans, &list, is_png, order_entries) : 0,
        shown = n < SHOWN ? n : SHOWN;
    if (n > 0) {
        fputs("<details><summary>", f);
        write_swatch(f, b, policy);
        fprintf(f, ": %d of %d plans</summary><div class=\"plans\">\n", shown, n);
    }
    for (int i = 0; i < shown; i++) {
        char path[4096];
        const char *file = list[shown > 1 ? i * (n - 1) / (shown - 1) : 0]->d_name;
        int length = (int)strlen(file) - (int)strlen(".png");
        snprintf(path, sizeof path, "%s/%s", c->plans, file);
        fputs("<figure><img src=\"", f);
        ts_page_data(f, path, "image/png");
        fprintf(f, "\" alt=\"%.*s\"><figcaption>%.*s</figcaption></figure>\n", length, file, length,
                file);
    }
    if (n > 0) fputs("</div></details>\n", f);
    for (int i = 0; i < n; i++) free(list[i]);
    free(list);
}

static void write_prompt(FILE *f, const ts_bench *b, int prompt)
{
    bool plans = false;
    fputs("<section><h2 class=\"prompt\">&ldquo;", f);
    ts_page_text(f, b->prompt[prompt]);
    fputs("&rdquo;</h2>\n", f);
    write_clips(f, b, prompt);
    ts_bench_over_frames(f, b, prompt);
    for (int i = 1; i < b->policies; i++) plans = plans || ts_bench_at(b, prompt, i)->plans;
    if (plans)
        fputs("<h2>Plans in force at the end</h2>\n<p class=\"note\">A head a tile; query blocks "
              "down, key blocks across; blocks that are read are bright.</p>\n",
              f);
    for (int i = 1; i < b->policies; i++) write_plans(f, b, prompt, i);
    fputs("</section>\n", f);
}

/* ---- the page ---- */
/* Under one slider all clips show the same frame, at first the middle one; played, they run by
 * themselves and begin again together. A canvas over a clip shows the difference, |clip - dense|,
 * or the dense clip in its place, drawn from what is shown. */
static const char tail[] =
    "<script>\nfor(const g of document.querySelectorAll('.clips')){\n"
    "const "
    "v=[...g.querySelectorAll('.shown')],c=[...g.querySelectorAll('canvas')],r=g.querySelector('["
    "type=range]'),b=g.querySelector('button'),o=g.querySelector('output'),d=g.querySelector('["
    "type=checkbox]');\n"
    "const n=+g.dataset.frames,fps=+g.dataset.fps;let playing=false;\n"
    "const draw=()=>c.forEach((x,i)=>{const box=x.parentElement,dense=box.classList.contains('"
    "dense');x.hidden=!d.checked&&!dense;if(x.hidden)return;x.classList.toggle('apart',d.checked&&!"
    "dense);const "
    "p=x.getContext('2d');p.globalCompositeOperation='copy';p.drawImage(v[0],0,0,x.width,x.height);"
    "if(dense)return;p.globalCompositeOperation='difference';p.drawImage(v[i],0,0,x.width,x."
    "height)});\n"
    "d.onchange=draw;\n"
    "c.forEach((x,i)=>{const box=x.parentElement,turn=()=>{if(i)box.classList.toggle('dense');"
    "draw()};box.onclick=turn;box.onkeydown=e=>{if(e.key==='Enter')turn()}});\n"
    "if(!r)continue;\n"
    "const say=i=>{r.value=i;o.textContent='frame '+(i+1)+' of '+n};\n"
    "const show=i=>{say(i);for(const x of v)x.currentTime=(i+.5)/fps};\n"
    "const stop=()=>{if(!playing)return;playing=false;b.textContent='play';for(const x of "
    "v)x.pause();show(+r.value)};\n"
    "const tick=()=>{if(!playing)return;if(v[0].ended)for(const x of "
    "v){x.currentTime=0;x.play()}say(Math.min(n-1,Math.floor(v[0].currentTime*fps)));draw();"
    "requestAnimationFrame(tick)};\n"
    "for(const x of v)x.onseeked=draw;\n"
    "r.oninput=()=>{const i=+r.value;stop();show(i)};\n"
    "b.onclick=()=>{if(playing)return stop();playing=true;b.textContent='stop';for(const x of "
    "v){x.currentTime=+r.value<n-1?+r.value/fps:0;x.play()}tick()};\n"
    "show(+r.value)}\n</script>\n";

static void write_bench_page(FILE *f, const ts_bench *b)
{
    ts_bench_words words;
    ts_bench_page_begin(f, "Sparse attention against full attention", b->complete);
    ts_bench_conclude(b, &words);
    write_verdict(f, b, &words);
    write_facts(f, b);
    write_table(f, b, &words);
    ts_bench_times(f, b);
    ts_bench_fidelity(f, b);
    ts_bench_curve(f, b, &words);
    for (int p = 0; p < b->done_prompts; p++) write_prompt(f, b, p);
    fputs("<section><h2>What every run did</h2>\n", f);
    for (int i = 1; i < b->policies; i++)
        if (b->done_prompts && ts_bench_at(b, 0, i)->said) {
            fputs("<details><summary>", f);
            write_swatch(f, b, i);
            fputs("</summary><pre>", f);
            ts_page_text(f, ts_bench_at(b, 0, i)->said);
            fputs("</pre></details>\n", f);
        }
    fputs("</section>\n", f);
    ts_bench_footer(f, b->c->ctx);
    fputs(tail, f);
    fputs("</body></html>\n", f);
}

ts_status ts_bench_html(const ts_bench *b)
{
    ts_status st = TS_OK;
    ts_newfile file = {0};
    FILE *f;
    TRY(ts_side_open(&b->c->err, &b->c->flags, TS_F_HTML, false, &file, &f));
    write_bench_page(f, b);
    TRY(ts_side_keep(&b->c->err, TS_F_HTML, &file));
done:
    ts_newfile_drop(&file);
    return st;
}
