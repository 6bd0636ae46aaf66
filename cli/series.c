/* generate --count N of a model of clips: pictures are drawn at once, clips after each other, with
 * the texts encoded once. */
#include "cli/series.h"

#include <stdlib.h>
#include <string.h>

ts_status ts_series_begin(ts_cli *c, ts_render *r)
{
    static const ts_flag_id one[] = {TS_F_NOISE, TS_F_SAVE_LATENTS, TS_F_STATE, TS_F_SAVE_PLAN,
                                     TS_F_PLAN_IMAGE};
    for (size_t i = 0; i < sizeof one / sizeof *one; i++)
        if (ts_flag_set(&c->flags, one[i]))
            return ts_fail(&c->err, TS_EUSAGE,
                           "--count %d: this model makes clips, in turn, and --%s is of one clip",
                           r->q.count, ts_flag_name(one[i]));
    r->clips = r->q.count;
    r->q.count = 1;
    if (!r->sheeted && !ts_flag_set(&c->flags, TS_F_GRID)) return TS_OK;
    r->grid = ts_clip_grid_new(r->clips);
    return r->grid ? TS_OK : ts_fail(&c->err, TS_EMEMORY, "no memory for a grid");
}

/* The name of clip i; malloc'd; NULL: no memory. */
static char *name_clip(const ts_render *r, int i)
{
    const char *path = r->asked ? r->asked : ts_render_usual(r), *slash = strrchr(path, '/'),
               *dot = strrchr(slash ? slash : path, '.');
    char *name = NULL;
    int stem = dot ? (int)(dot - path) : (int)strlen(path);
    return asprintf(&name, "%.*s-%d%s", stem, path, i, dot ? dot : "") < 0 ? NULL : name;
}

static ts_status set_clip_name(ts_cli *c, ts_render *r, int i)
{
    free(r->numbered);
    r->path = r->numbered = name_clip(r, i);
    return r->path ? TS_OK : ts_fail(&c->err, TS_EMEMORY, "no memory for a file's name");
}

ts_status ts_series_check(ts_cli *c, ts_render *r)
{
    ts_status st = TS_OK;
    if (r->grid) return TS_OK; /* one file, of one name */
    if (ts_is_standard(r->path) || ts_is_numbered(r->path))
        return ts_fail(&c->err, TS_EUSAGE,
                       "--count %d: %s is no name that clips can be numbered by: name a file like "
                       "cat.mp4, which becomes cat-0.mp4, cat-1.mp4, ...",
                       r->clips, r->path);
    for (int i = r->clips - 1; i >= 0; i--) {
        TRY(set_clip_name(c, r, i));
        if (i) TRY(ts_output_check(c->ctx, r->path, &r->out, r->q.frames));
    }
done:
    return st;
}

ts_status ts_series_next(ts_cli *c, ts_render *r, int i)
{
    ts_output_close(r->sink);
    ts_run_close(r->run);
    free(r->json);
    if (r->grid && !r->grid_parameters)
        r->grid_parameters = r->parameters;
    else
        free(r->parameters);
    r->sink = NULL;
    r->run = NULL;
    r->json = r->parameters = NULL;
    r->q.seed++;
    if (!r->grid) c->screen.began = c->screen.clock();
    return r->grid ? TS_OK : set_clip_name(c, r, i);
}
