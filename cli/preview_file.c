/* A step -> frames of a preview -> a sink. Latents are smaller than pictures: what is written is
 * enlarged, up to the picture's own size. */
#include "cli/preview_file.h"

#include "cli/render.h"
#include "cli/sheet.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SHOWN = 512, QUARTER = 4 }; /* pixels that it is enlarged to at most */

static ts_output preview_output(int w, int h)
{
    int side = w > h ? w : h, scale = side > 0 ? SHOWN / side : 1;
    scale = scale < 1 ? 1 : scale > QUARTER ? QUARTER : scale;
    return (ts_output){.size = sizeof(ts_output), .crf = -1, .scale = scale, .overwrite = true};
}

static bool is_terminal(const char *path) { return !strcmp(path, "term"); }

/* Asked once. */
static ts_term_kind ask_terminal(const ts_cli *c)
{
    enum { PATIENCE = 1000 };
    static ts_term_kind kind;
    static bool asked;
    if (!asked) kind = ts_term_ask(fileno(c->screen.out), PATIENCE);
    asked = true;
    return kind;
}

static ts_status check_terminal(ts_cli *c)
{
    if (c->screen.mode == TS_SCREEN_JSON || c->screen.mode == TS_SCREEN_NONE)
        return ts_fail(&c->err, TS_EUSAGE,
                       "preview term: shown with the progress, which is not on the terminal");
    if (!isatty(fileno(c->screen.out)))
        return ts_fail(&c->err, TS_EUSAGE,
                       "preview term: standard error is no terminal: name a file, like p.png");
    if (ask_terminal(c)) return TS_OK;
    return ts_fail(&c->err, TS_EUSAGE,
                   "preview term: this terminal shows no pictures (kitty's protocol, sixel): name "
                   "a file, like p.png");
}

ts_status ts_previews_check(ts_cli *c, const char *path)
{
    const ts_output o = preview_output(0, 0);
    if (!path && ts_flag_set(&c->flags, TS_F_PREVIEW_EVERY))
        return ts_fail(&c->err, TS_EUSAGE,
                       "--preview-every: there is no preview, --preview names its file");
    if (!path) return TS_OK;
    if (is_terminal(path)) return check_terminal(c);
    if (ts_is_standard(path) || ts_is_numbered(path))
        return ts_fail(&c->err, TS_EUSAGE,
                       "preview: %s is not one file: name a .png, or a clip like .gif", path);
    return ts_output_check(c->ctx, path, &o, 1);
}

/* Of a clip the middle frame, or all frames of its latents where the file is a clip; of a batch all
 * pictures. `out` and `sheet` are the caller's to close. */
static ts_status put_preview(const ts_previews *p, ts_step *s, ts_sink **out, ts_sheet **sheet,
                             ts_err *why)
{
    ts_status st = TS_OK;
    ts_ctx *ctx = p->c->ctx;
    ts_sink *to;
    bool still = ts_is_still(p->path), all = !still || p->pictures > 1;
    ts_frame f;
    int shape[4], n;
    ts_step_shape(s, shape);
    n = all ? shape[1] : 1;
    TRY(ts_step_preview(s, all ? 0 : -1, &f));
    const ts_output o = preview_output(f.w, f.h);
    TRY(ts_output_open(ctx, p->path, &o, out));
    if (still && all && !(*sheet = ts_sheet_new(*out)))
        TRY(ts_fail(why, TS_EMEMORY, "no memory for a sheet"));
    to = *sheet ? ts_sheet_sink(*sheet) : *out;
    TRY(to->open(to, f.w, f.h, n, p->fps, NULL));
    for (int i = 0; i < n; i++) {
        if (i) TRY(ts_step_preview(s, i, &f));
        f.index = i;
        TRY(to->frame(to, &f));
    }
    TRY(to->close(to));
done:
    return st;
}

/* The middle frame, or picture, each pixel enlarged to a square. */
static ts_status put_on_terminal(const ts_previews *p, ts_step *s, ts_err *why)
{
    enum { MOST = 256 }; /* pixels that it is enlarged to */
    ts_status st = TS_OK;
    ts_frame f;
    uint8_t *rgb = NULL;
    TRY(ts_step_preview(s, -1, &f));
    int side = f.w > f.h ? f.w : f.h, n = side < MOST ? MOST / side : 1, w = f.w * n, h = f.h * n;
    rgb = malloc((size_t)w * (size_t)h * 3);
    if (!rgb) TRY(ts_fail(why, TS_EMEMORY, "no memory for a picture of %dx%d", w, h));
    for (int i = 0; i < w * h * 3; i++) {
        long x = i / 3 % w / n, y = i / 3 / w / n;
        rgb[i] = (uint8_t)rintf(255 * f.rgb[3 * (y * f.w + x) + i % 3]);
    }
    ts_screen_clear(&p->c->screen);
    ts_term_put(p->c->screen.out, p->term, w, h, rgb);
done:
    free(rgb);
    return st;
}

static ts_status show_step(void *user, ts_step *s)
{
    ts_previews *p = user;
    char text[800];
    ts_err own = {0};
    ts_sink *sink = NULL;
    ts_sheet *sheet = NULL;
    if (p->failed) return TS_OK;
    ts_status st = p->term ? put_on_terminal(p, s, &own) : put_preview(p, s, &sink, &sheet, &own);
    if (st && st != TS_ESTOP) {
        const char *why = *own.text                               ? own.text
                          : sheet && *ts_sheet_sink(sheet)->error ? ts_sheet_sink(sheet)->error
                          : sink && *sink->error                  ? sink->error
                                                                  : ts_error(p->c->ctx);
        snprintf(text, sizeof text, "no more previews: %s", why);
        ts_screen_warn(&p->c->screen, text);
        p->failed = true;
    }
    ts_sheet_free(sheet);
    ts_output_close(sink);
    if (!st) ts_screen_preview(&p->c->screen, p->path, ts_step_number(s), ts_step_count(s));
    return st == TS_ESTOP ? st : TS_OK;
}

ts_status ts_previews_begin(ts_previews *p, ts_cli *c, ts_run *run, const ts_request *q,
                            const ts_estimate *e, const char *path)
{
    char text[800];
    const ts_flag_value *every = c->flags.value + TS_F_PREVIEW_EVERY;
    if (!path) return TS_OK;
    *p = (ts_previews){.c = c,
                       .path = path,
                       .fps = 100 / ceil(100 * e->frames / (q->fps * e->latent[1])),
                       .pictures = q->count,
                       .term = is_terminal(path) ? ask_terminal(c) : TS_TERM_NONE};
    const ts_watch w = {.size = sizeof w,
                        .step = show_step,
                        .user = p,
                        .every = every->set ? (int)every->whole : 1,
                        .preview = true};
    ts_status st = ts_run_watch(run, &w);
    if (st != TS_EMEMORY) return st;
    snprintf(text, sizeof text, "no previews: %s", ts_error(c->ctx));
    ts_screen_warn(&c->screen, text);
    return TS_OK;
}
