/* What all pages of benches have: their style, the facts of the machine, the sentences at the top,
 * the versions at the end. */
#include "cli/bench/bench_page.h"
#include "cli/page.h"

#include <stdlib.h>
#include <string.h>

static const char head[] =
    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
    "content=\"width=device-width, initial-scale=1\"><title>tessera bench</title>\n<style>\n"
    ":root{color-scheme:light "
    "dark;--ink:#1d1f24;--soft:#6a6f7a;--paper:#fff;--line:#8883;--card:#f5f6f8}\n"
    "@media(prefers-color-scheme:dark){:root{--ink:#e8e8ea;--soft:#9aa0ab;--paper:#15171b;--card:#"
    "1e2126}}\n"
    "*{box-sizing:border-box}body{font:15px/1.5 system-ui,'DejaVu "
    "Sans',sans-serif;max-width:1120px;margin:2rem auto;padding:0 "
    "1.2rem;color:var(--ink);background:var(--paper)}\n"
    "h1{font-size:1.7rem;margin:0 0 .3rem}h2{font-size:1.15rem;margin:2.4rem 0 "
    ".6rem}.lede{font-size:1.05rem;overflow-wrap:anywhere}.stopped{color:#e4572e}\n"
    ".facts{list-style:none;display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));"
    "gap:.7rem 1.5rem;background:var(--card);border-radius:8px;padding:.9rem 1.1rem;margin:1rem "
    "0}.facts li{min-width:0;overflow-wrap:anywhere}\n"
    ".facts span{display:block;font-size:.78rem;color:var(--soft)}.wide{overflow-x:auto}\n"
    "table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}"
    "td,th{padding:.35rem .5rem;text-align:right;border-bottom:1px solid "
    "var(--line);white-space:nowrap}\n"
    "th{font-weight:600;color:var(--soft);font-size:.8rem}thead "
    "th[colspan]{text-align:center;border-left:1px solid "
    "var(--line)}.policy{text-align:left;white-space:normal;min-width:11rem}\n"
    ".dot{width:.95em;height:.95em;margin-right:.45em;flex:none;align-self:center}"
    ".name{display:inline-flex;align-items:baseline}.name "
    "span{overflow-wrap:anywhere}svg{overflow:visible}svg text{font-size:13px;fill:var(--ink)}\n"
    ".track,.plot>svg{display:block;width:100%}.row{display:flex;flex-wrap:wrap;"
    "justify-content:space-between;gap:0 1em;margin:.5rem 0}.figures{font-size:.9rem;"
    "font-variant-numeric:tabular-nums}.plot{padding:1.6rem .6rem 3.1rem 2.2rem}\n"
    ".value{text-anchor:end}.tick{text-anchor:middle}.grid{stroke:var(--line)}.lead{stroke:"
    "var(--soft)}.mark{fill:var(--ink);stroke:var(--paper);stroke-width:1}.whisker{stroke:"
    "var(--ink);opacity:.6}.plot text.left,.plot text.value,.plot text.tick{paint-order:stroke;"
    "stroke:var(--paper);stroke-width:3px}\n"
    ".frontier{stroke:var(--ink);stroke-dasharray:6 5;opacity:.45}"
    ".dense{stroke:var(--soft);stroke-dasharray:4 "
    "4}.note,.legend,footer{color:var(--soft);font-size:.85rem;margin:.6rem "
    "0}.legend{display:flex;flex-wrap:wrap;gap:.2rem 1.4em}\n"
    "section{border-top:1px solid "
    "var(--line);margin-top:2.5rem}.prompt{font-size:1.3rem;overflow-wrap:anywhere}\n"
    ".clips>.note{grid-column:1/"
    "-1;margin:0}.clips{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,var(--"
    "w)),1fr));"
    "gap:1rem}.plans{display:grid;grid-template-columns:repeat(auto-fill,minmax(220px,1fr));gap:"
    "1rem;margin:.8rem 0}\n"
    ".bar{grid-column:1/-1;display:flex;flex-wrap:wrap;gap:.6rem "
    "1rem;align-items:center;position:sticky;top:0;background:var(--paper);padding:.5rem "
    "0;z-index:1}.bar input[type=range]{flex:1;min-width:8rem}\n"
    "output{min-width:8.5em;font-variant-numeric:tabular-nums}button{min-width:4.5em;padding:."
    "25rem "
    ".8rem;font:inherit}figure{margin:0;min-width:0}.clip{position:relative;background:var(--card);"
    "border-radius:4px;overflow:hidden}\n"
    ".clip .shown,.clip canvas{position:absolute;inset:0;width:100%;height:100%}.clip "
    "canvas.apart{filter:brightness(4)}.clip{cursor:pointer}.clip.dense::after{content:'dense';"
    "position:absolute;left:.3rem;top:.3rem;font-size:.8rem;padding:0 .4em;border-radius:3px;"
    "background:var(--paper);color:var(--ink)}.plans "
    "img{width:100%;image-rendering:pixelated;border-radius:4px;display:block}\n"
    "figcaption{font-size:.85rem;overflow-wrap:anywhere;margin-top:.3rem}summary{cursor:pointer;"
    "margin:.5rem 0;overflow-wrap:anywhere}pre{overflow:auto;background:var(--card);padding:.8rem "
    "1rem;border-radius:8px;font-size:.8rem}\n"
    "@media(max-width:600px){.clips{grid-template-columns:1fr 1fr;gap:.6rem}}\n"
    "</style></head><body>\n";

void ts_bench_page_begin(FILE *f, const char *title, bool complete)
{
    fputs(head, f);
    fprintf(f, "<h1>%s</h1>\n", title);
    if (!complete)
        fputs("<p class=\"stopped\"><b>Stopped before its end:</b> this is what was measured until "
              "then.</p>\n",
              f);
}

void ts_bench_why(FILE *f, const char *why, const char *stands)
{
    if (!*why) return;
    fputs("<p class=\"stopped\"><b>Measured gains are void:</b> ", f);
    ts_page_text(f, why);
    fprintf(f, ". What is said of time here is arithmetic%s%s.</p>\n", *stands ? "; " : "", stands);
}

void ts_bench_lines(FILE *f, const char line[][TS_VERDICT_TEXT], int n)
{
    if (!n) return;
    fputs("<ul class=\"lede\">\n", f);
    for (int i = 0; i < n; i++) {
        fputs("<li>", f);
        ts_page_text(f, line[i]);
        fputs("</li>\n", f);
    }
    fputs("</ul>\n", f);
}

void ts_bench_fact(FILE *f, const char *what, const char *value)
{
    fprintf(f, "<li><span>%s</span> ", what);
    ts_page_text(f, value);
    fputs("</li>\n", f);
}

void ts_bench_machine_facts(FILE *f, const ts_bench_machine *m, const char *precision)
{
    char s[256];
    snprintf(s, sizeof s, "%s%s%d core%s%s%s", m->cpu, *m->cpu ? ", " : "", m->cores,
             m->cores == 1 ? "" : "s", precision ? ", " : "", precision ? precision : "");
    ts_bench_fact(f, "machine", s);
    snprintf(s, sizeof s, "%.1f before, %.1f after", m->load[0], m->load[1]);
    if (m->load[0] >= 0) ts_bench_fact(f, "load average", s);
    snprintf(s, sizeof s, "%.0f%%", 100 * m->taken);
    if (m->taken >= 0) ts_bench_fact(f, "taken by other programs", s);
    ts_bench_fact(f, "date", m->date);
}

void ts_bench_footer(FILE *f, ts_ctx *ctx)
{
    char *versions = ts_versions(ctx);
    fputs("<footer>", f);
    for (char *save, *line = versions ? strtok_r(versions, "\n", &save) : NULL; line;
         line = strtok_r(NULL, "\n", &save)) {
        ts_page_text(f, line);
        fputs("<br>\n", f);
    }
    fputs("</footer>\n", f);
    free(versions);
}
