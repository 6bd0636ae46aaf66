/* The command decode: latents -> file. */
#include "cli/metadata.h"
#include "cli/render.h"
#include "cli/settings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Of a state between two steps: what is shown of it. */
static void say_state(ts_cli *c, const ts_render *r)
{
    const char *done = ts_bag_meta_get(r->latents, "done");
    if (!done || atoi(done) >= r->q.steps) return;
    ts_screen_note(&c->screen, "after step %d of %d: %s", atoi(done), r->q.steps,
                   ts_bag_meta_get(r->latents, "prediction")
                       ? "what the solver predicts of the end"
                       : "the sample with its noise, this sampler keeps no prediction");
}

ts_status ts_cli_decode(ts_cli *c)
{
    ts_status st = TS_OK;
    ts_render r = {0};
    char size[TS_SIZE_TEXT], about[TS_FORECAST_TEXT];
    const char *file = c->flags.word[0];
    if (access(file, R_OK)) TRY(ts_fail(&c->err, TS_EMODEL, "%s: %s", file, strerror(errno)));
    if (!ts_is_safetensors(file))
        TRY(ts_fail(&c->err, TS_EMODEL,
                    "%s: not a safetensors file of latents, as --save-latents writes it", file));
    TRY(ts_render_begin(c, &r, file));
    if (!r.was)
        ts_screen_warn(&c->screen,
                       "the latents carry no metadata: model and rate come from the flags");
    TRY(ts_bag_read(c->ctx, file, &r.latents));
    ts_settings_apply(c->flags.value, &r.q);
    TRY(ts_render_ask(c, &r));
    ts_render_set_output(&c->flags, &r);
    const ts_run_options decoding = {.size = sizeof decoding, .latents = r.latents};
    TRY(ts_run_open_with(c->model, &r.q, &decoding, &r.run, &r.e));
    r.q.frames = r.e.frames;
    if (!r.asked) ts_render_name(&c->flags, &r, ts_render_usual(&r));
    TRY(ts_render_check_output(c, &r, r.e.frames));
    TRY(ts_render_check_size(c, &r, r.e.frames));
    TRY(ts_render_describe(c, &r));
    TRY(ts_cli_stopped(c));
    TRY(ts_render_forecast(c, &r));
    if (ts_flag_set(&c->flags, TS_F_DRY_RUN)) {
        ts_render_print_estimate(&r);
        goto done;
    }
    ts_screen_note(&c->screen, "%s", ts_render_size_text(&r, size));
    say_state(c, &r);
    if (r.forecast.allowed_bytes)
        ts_screen_note(&c->screen, "%s", ts_forecast_text(&r.forecast, r.peak, about));
    TRY(ts_output_folders(c->ctx, r.path));
    ts_render_start(c, &r);
    TRY(ts_render_decode(c, &r));
    ts_render_report(c, &r);
done:
    ts_render_free(&r);
    return st;
}
