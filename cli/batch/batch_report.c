/* What is said when a batch ends: a table on stdout; and, with --report, after every row, too, a
 * page: of each row its picture or a strip of frames, prompt, seed and seconds, or why it failed.
 * It needs nothing but itself, but for clips, which it plays from their files, and rows that were
 * rendered without --report: it shows their files. */
#include "cli/batch/batch.h"
#include "cli/page.h"
#include "cli/side.h"

#include "backend/clock.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- the table ---- */
static const char *state_word(const ts_job *j)
{
    switch (j->state) {
    case TS_JOB_DONE: return "done";
    case TS_JOB_HAD: return "had";
    case TS_JOB_GAVE_UP: return "gave up";
    case TS_JOB_FAILED: return "failed";
    case TS_JOB_FAULTY: return "faulty";
    case TS_JOB_TODO: return "to do";
    case TS_JOB_ELSEWHERE: return "elsewhere";
    }
    return "";
}

void ts_batch_table(const ts_batch *b)
{
    ts_screen_clear(&b->c->screen);
    printf("%-9s %9s %20s  %s\n", "state", "seconds", "seed", "output");
    for (int i = 0; i < b->jobs; i++) {
        const ts_job *j = b->job + i;
        char seconds[32] = "-";
        if (j->state == TS_JOB_ELSEWHERE && !j->lost) continue;
        if (j->seconds > 0 && j->state != TS_JOB_TODO)
            snprintf(seconds, sizeof seconds, "%.1f", j->seconds);
        printf("%-9s %9s ", j->lost ? "lost" : state_word(j), seconds);
        if (j->name)
            printf("%20llu  %s/%s", (unsigned long long)j->q.seed, b->out, j->name);
        else
            printf("%20s  %s:%d", "-", j->file, j->row->line);
        if (j->error) printf("  (%s)", j->error);
        putchar('\n');
    }
}

static bool is_movie(const ts_job *j)
{
    return !strcmp(j->extension, ".mp4") || !strcmp(j->extension, ".webm");
}

/* ---- strips of frames ---- */
/* pixels: of a clip's frames side by side, of a picture alone */
enum { STRIP_FRAMES = 5, STRIP_HEIGHT = 144, PICTURE_HEIGHT = 512 };
struct ts_strip {
    ts_sink s; /* first: a ts_sink * is a ts_strip * */
    ts_sink *to;
    int frames, taken, w, h; /* of one small frame */
    float *rgb;              /* [STRIP_FRAMES][h][w][3] */
};

static ts_status pass_status(ts_strip *t, ts_status st)
{
    if (st) memcpy(t->s.error, t->to->error, sizeof t->s.error);
    return st;
}

static ts_status strip_open(ts_sink *s, int w, int h, int frames, double fps, const char *json)
{
    ts_strip *t = (ts_strip *)s;
    int most = frames == 1 ? PICTURE_HEIGHT : STRIP_HEIGHT;
    t->frames = frames;
    t->h = h < most ? h : most;
    t->w = (int)((long)w * t->h / h);
    if (t->w < 1) t->w = 1;
    free(t->rgb);
    /* without it there is no strip */
    t->rgb = malloc(sizeof(float) * STRIP_FRAMES * 3 * (size_t)t->w * (size_t)t->h);
    return pass_status(t, t->to->open(t->to, w, h, frames, fps, json));
}

/* Each small pixel is the mean of those it covers. */
static void shrink_frame(const ts_frame *f, float *to, int w, int h)
{
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            int y0 = (int)((long)y * f->h / h), y1 = (int)((long)(y + 1) * f->h / h),
                x0 = (int)((long)x * f->w / w), x1 = (int)((long)(x + 1) * f->w / w);
            double sum[3] = {0};
            if (y1 <= y0) y1 = y0 + 1;
            if (x1 <= x0) x1 = x0 + 1;
            for (int i = y0; i < y1; i++)
                for (int k = x0; k < x1; k++)
                    for (int c = 0; c < 3; c++)
                        sum[c] += f->rgb[((size_t)i * (size_t)f->w + (size_t)k) * 3 + (size_t)c];
            for (int c = 0; c < 3; c++) *to++ = (float)(sum[c] / ((double)(y1 - y0) * (x1 - x0)));
        }
}

static int wanted_frames(const ts_strip *t)
{
    return t->frames < STRIP_FRAMES ? t->frames : STRIP_FRAMES;
}

static ts_status strip_frame(ts_sink *s, const ts_frame *f)
{
    ts_strip *t = (ts_strip *)s;
    int n = wanted_frames(t), next = n > 1 ? (int)((long)t->taken * (t->frames - 1) / (n - 1)) : 0;
    if (t->rgb && t->taken < n && f->index == next)
        shrink_frame(f, t->rgb + (size_t)t->taken++ * 3 * (size_t)t->w * (size_t)t->h, t->w, t->h);
    return pass_status(t, t->to->frame(t->to, f));
}

static ts_status strip_close(ts_sink *s)
{
    return pass_status((ts_strip *)s, ((ts_strip *)s)->to->close(((ts_strip *)s)->to));
}
static void strip_abort(ts_sink *s) { ((ts_strip *)s)->to->abort(((ts_strip *)s)->to); }

ts_sink *ts_strip_open(ts_sink *to, int frames, ts_strip **out)
{
    ts_strip *t = *out = calloc(1, sizeof *t);
    if (!t) return to;
    *t = (ts_strip){
        .s = {.open = strip_open, .frame = strip_frame, .close = strip_close, .abort = strip_abort},
        .to = to,
        .frames = frames};
    return &t->s;
}

void ts_strip_close(ts_strip *t)
{
    if (!t) return;
    free(t->rgb);
    free(t);
}

/* end: of the name, ".png" for the strip, ".first.png" for its first frame. malloc'd. */
static char *strip_path(const ts_batch *b, const ts_job *j, const char *end, bool make)
{
    char *path = NULL;
    if (asprintf(&path, "%s/.tessera-batch/strips", b->out) < 0) return NULL;
    if (make) mkdir(path, 0777);
    free(path);
    return asprintf(&path, "%s/.tessera-batch/strips/%s%s", b->out, j->id, end) < 0 ? NULL : path;
}

/* The first n small frames side by side. One that can not be written is left out of the page. */
static void save_frames(ts_batch *b, const ts_strip *t, int n, char *path)
{
    int w = t->w * n;
    float *row = n ? malloc(sizeof *row * 3 * (size_t)w * (size_t)t->h) : NULL;
    ts_output o = {.size = sizeof o, .crf = -1, .scale = 1, .overwrite = true};
    ts_sink *sink = NULL;
    if (!path || !row) goto done;
    for (int y = 0; y < t->h; y++)
        for (int i = 0; i < n; i++)
            memcpy(row + ((size_t)y * (size_t)w + (size_t)i * (size_t)t->w) * 3,
                   t->rgb + ((size_t)i * (size_t)t->h + (size_t)y) * (size_t)t->w * 3,
                   sizeof *row * 3 * (size_t)t->w);
    ts_frame f = {.w = w, .h = t->h, .rgb = row};
    if (ts_output_open(b->c->ctx, path, &o, &sink)) goto done;
    if (sink->open(sink, w, t->h, 1, 1, NULL) || sink->frame(sink, &f) || sink->close(sink))
        sink->abort(sink);
done:
    ts_output_close(sink);
    free(row);
    free(path);
}

/* Kept beside the manifest, so that the page of a later run has those of earlier ones. */
void ts_strip_save(ts_batch *b, ts_strip *t, const ts_job *j)
{
    save_frames(b, t, t->taken, strip_path(b, j, ".png", true));
    if (is_movie(j)) save_frames(b, t, t->taken > 0, strip_path(b, j, ".first.png", true));
}

/* ---- the page ---- */
/* The path of the output as the page's folder has it: for a link. malloc'd; NULL: there is none. */
static char *link_to(const ts_batch *b, const char *name)
{
    const char *report = ts_flag_text(&b->c->flags, TS_F_REPORT), *slash = strrchr(report, '/');
    char *folder = NULL, *from = NULL, *to = NULL, *link = NULL;
    size_t size, i = 0, same = 0;
    FILE *f = NULL;
    if (asprintf(&folder, "%.*s", slash ? (int)(slash - report) + 1 : 2, slash ? report : "./") < 0)
        folder = NULL;
    from = folder ? realpath(folder, NULL) : NULL;
    to = realpath(b->out, NULL);
    f = from && to ? open_memstream(&link, &size) : NULL;
    if (!f) goto done;
    for (; from[i] && from[i] == to[i]; i++)
        if (from[i] == '/') same = i;
    if ((!from[i] || from[i] == '/') && (!to[i] || to[i] == '/')) same = i;
    for (const char *c = from + same; *c; c++)
        if (*c == '/' && c[1]) fputs("../", f);
    fputs(to[same] == '/' ? to + same + 1 : to + same, f);
    if (to[same] && to[same + 1]) fputc('/', f);
    fputs(name, f);
    fclose(f);
done:
    free(folder);
    free(from);
    free(to);
    return link;
}

/* As an attribute: what an address can not hold is escaped. */
static void write_link(FILE *f, const char *link)
{
    for (; *link; link++)
        if (strchr("/-_.~", *link) || (*link >= '0' && *link <= '9') ||
            ((*link | 32) >= 'a' && (*link | 32) <= 'z'))
            fputc(*link, f);
        else
            fprintf(f, "%%%02X", (unsigned)(unsigned char)*link);
}

/* As a data: address; false: there is none, and nothing is written. */
static bool write_strip(FILE *f, const ts_batch *b, const ts_job *j, const char *end,
                        const char *before)
{
    char *path = strip_path(b, j, end, false);
    bool there = path && access(path, R_OK) == 0;
    if (there) {
        fputs(before, f);
        ts_page_data(f, path, "image/png");
        fputc('"', f);
    }
    free(path);
    return there;
}

/* A clip plays from where it is, and its strip is in the page; a picture is in the page. Of a run
 * without --report there is neither: then the output itself is shown, of a folder its first
 * frame. */
static void write_output(FILE *f, const ts_batch *b, const ts_job *j, const char *link)
{
    bool there = link && j->name && ts_batch_exists(b, j->name);
    if (there && is_movie(j)) {
        fputs("<video controls muted loop playsinline preload=\"metadata\"", f);
        write_strip(f, b, j, ".first.png", " poster=\"");
        fputs(" src=\"", f);
        write_link(f, link);
        fputs("\"></video>", f);
    }
    if (write_strip(f, b, j, ".png",
                    (j->q.frames > 1) ? "<img class=\"strip\" alt=\"\" src=\""
                                      : "<img alt=\"\" src=\"")) {
        fputc('>', f);
    } else if (there && !is_movie(j)) {
        fputs("<img alt=\"\" loading=\"lazy\" src=\"", f);
        write_link(f, link);
        fputs(j->folder ? "/0000.png\">" : "\">", f);
    }
}

static const char *page_word(const ts_job *j)
{
    switch (j->state) {
    case TS_JOB_DONE: return "done";
    case TS_JOB_HAD: return "done before";
    case TS_JOB_GAVE_UP: return "failed before";
    case TS_JOB_FAULTY: return "can not be used";
    case TS_JOB_ELSEWHERE: return "at another worker";
    default: return state_word(j);
    }
}

static void write_name(FILE *f, const ts_job *j, const char *link)
{
    fputs("<p class=\"name\">", f);
    if (link) {
        fputs("<a href=\"", f);
        write_link(f, link);
        fputs("\">", f);
    }
    ts_page_text(f, j->name);
    fputs(link ? "</a></p>" : "</p>", f);
}

static void write_card(FILE *f, const ts_batch *b, const ts_job *j)
{
    bool good = j->state == TS_JOB_DONE || j->state == TS_JOB_HAD;
    char *link = good && j->name ? link_to(b, j->name) : NULL, spent[24];
    fprintf(f, "<section class=\"%s\">", good ? "good" : j->state == TS_JOB_TODO ? "open" : "bad");
    if (good) write_output(f, b, j, link);
    fputs("<p class=\"prompt\">", f);
    ts_page_text(f, j->row->prompt ? j->row->prompt : "");
    fputs("</p>", f);
    if (j->error) {
        fputs("<p class=\"why\">", f);
        ts_page_text(f, j->error);
        fputs("</p>", f);
    }
    if (j->name) write_name(f, j, link);
    fprintf(f, "<p><b>%s</b>", page_word(j));
    if (j->name)
        fprintf(f, " &middot; seed %llu &middot; %dx%d, %d frame%s, %d step%s",
                (unsigned long long)j->q.seed, j->q.width, j->q.height, j->q.frames,
                j->q.frames == 1 ? "" : "s", j->q.steps, j->q.steps == 1 ? "" : "s");
    bool timed = j->state != TS_JOB_TODO; /* one that was stopped has seconds, too */
    if (timed && j->seconds >= 60)
        fprintf(f, " &middot; %s", ts_clock_text(j->seconds, spent));
    else if (timed && j->seconds > 0)
        fprintf(f, " &middot; %.1f s", j->seconds);
    fputs(" &middot; ", f);
    ts_page_text(f, j->file);
    fprintf(f, ":%d</p></section>\n", j->row->line);
    free(link);
}

static const char head[] = TS_REPORT_BEGIN
    "<meta name=\"viewport\" content=\"width=device-width\">\n<style>\n"
    ":root{color-scheme:light dark;--text:#222;--dim:#666;--back:#f4f4f2;--card:#fff;--line:#ddd;"
    "--good:#2e8b6a;--bad:#b8322a}\n"
    "@media(prefers-color-scheme:dark){:root{--text:#ddd;--dim:#999;--back:#161616;--card:#212121;"
    "--line:#383838;--good:#5cc2a0;--bad:#ff8a80}}\n"
    "body{font:15px/1.45 sans-serif;margin:0 auto;padding:1em;color:var(--text);"
    "background:var(--back)}\n"
    "h1{font-size:1.4em;margin:.2em 0}p{margin:.35em 0;color:var(--dim);overflow-wrap:anywhere}"
    "a{color:inherit}\n"
    "main{display:grid;gap:1em;margin-top:1em;align-items:start;"
    "grid-template-columns:repeat(auto-fill,minmax(min(100%,26em),1fr))}\n"
    "section{background:var(--card);border:1px solid var(--line);border-left:4px solid var(--line);"
    "padding:.8em;min-width:0}section.good{border-left-color:var(--good)}"
    "section.bad{border-left-color:var(--bad)}\n"
    "img,video{display:block;width:100%;max-height:26em;object-fit:contain;margin:0 0 .5em;"
    "background:#0001}img.strip{max-height:none}\n"
    "p.prompt{color:var(--text);font-size:1.1em;white-space:pre-wrap}p.why{color:var(--bad)}\n"
    "</style></head><body>\n<h1>tessera batch</h1>\n<p>";

/* While the run goes on the page looks for its next version, but not while a clip plays. */
static const char again[] =
    "<script>setInterval(function(){var v=[].slice.call(document.querySelectorAll('video'));"
    "if(!v.some(function(x){return !x.paused}))location.reload()},10000)</script>\n";

static void write_batch_page(FILE *f, const ts_batch *b)
{
    int count[8] = {0};
    double seconds = 0;
    char when[64] = "", sum[24];
    time_t now = time(NULL);
    struct tm tm;
    for (int i = 0; i < b->jobs; i++) {
        const ts_job *j = b->job + i;
        count[j->state]++;
        if (j->state == TS_JOB_DONE || j->state == TS_JOB_HAD) seconds += j->seconds;
    }
    if (localtime_r(&now, &tm)) strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S %Z", &tm);
    fputs(head, f);
    ts_page_text(f, b->out);
    fprintf(f, ": %d done, %d done before, %d failed, %d to do; model ", count[TS_JOB_DONE],
            count[TS_JOB_HAD], count[TS_JOB_FAILED] + count[TS_JOB_FAULTY] + count[TS_JOB_GAVE_UP],
            count[TS_JOB_TODO]);
    ts_page_text(f, b->model);
    fprintf(f, "</p>\n<p>%s &middot; %s in all for the rows that are done%s</p>\n<main>\n", when,
            ts_clock_text(seconds, sum), b->ended ? "" : " &middot; the run goes on");
    for (int i = 0; i < b->jobs; i++)
        if (b->job[i].state != TS_JOB_ELSEWHERE) write_card(f, b, b->job + i);
    fputs("</main>\n", f);
    if (!b->ended) fputs(again, f);
    fputs("</body></html>\n", f);
}

static ts_status write_page(ts_batch *b)
{
    ts_status st = TS_OK;
    ts_newfile file = {0};
    FILE *f;
    TRY(ts_side_open(&b->c->err, &b->c->flags, TS_F_REPORT, true, &file, &f));
    write_batch_page(f, b);
    TRY(ts_side_keep(&b->c->err, TS_F_REPORT, &file));
done:
    ts_newfile_drop(&file);
    return st;
}

ts_status ts_batch_page(ts_batch *b)
{
    ts_status st = TS_OK;
    bool alone = b->shares == 1 && !b->queue;
    ts_job *mine = alone ? NULL : malloc(sizeof *mine * (size_t)(b->jobs ? b->jobs : 1));
    if (alone) return write_page(b);
    if (!mine) return ts_fail(&b->c->err, TS_EMEMORY, "no memory for %d rows", b->jobs);
    memcpy(mine, b->job, sizeof *mine * (size_t)b->jobs);
    TRY(ts_manifest_others(b));
    TRY(write_page(b));
done:
    for (int i = 0; i < b->jobs; i++)
        if (b->job[i].error != mine[i].error) free(b->job[i].error);
    memcpy(b->job, mine, sizeof *mine * (size_t)b->jobs);
    free(mine);
    return st;
}

void ts_batch_refresh(ts_batch *b)
{
    double now = ts_seconds();
    if (!ts_flag_set(&b->c->flags, TS_F_REPORT) || now - b->page_written < 4 * b->page_took) return;
    ts_err why = b->c->err;
    ts_batch_page(b); /* the last one tells what is wrong */
    b->c->err = why;
    b->page_written = ts_seconds();
    b->page_took = b->page_written - now;
}
