/* The command generate: prompt -> file. Latents, plans and their pictures are safe before decoding
 * begins. */
#include "cli/metadata.h"
#include "cli/open_model.h"
#include "cli/render.h"
#include "cli/resume.h"
#include "cli/series.h"
#include "cli/settings.h"
#include "cli/side.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- the request ---- */
/* "-" is standard input, as of a prompt. */
static ts_status set_init(ts_err *err, const ts_flag_value *v, ts_render *r)
{
    ts_request *q = &r->q;
    if (v[TS_F_STRENGTH].set)
        q->strength = v[TS_F_STRENGTH].real;
    else if (v[TS_F_INIT].set)
        q->strength = TS_STRENGTH_DEFAULT;
    if (v[TS_F_INIT].set)
        q->init = r->init = strcmp(v[TS_F_INIT].text, "-") ? realpath(v[TS_F_INIT].text, NULL)
                                                           : strdup("-");
    if (v[TS_F_INIT].set && !q->init)
        return ts_fail(err, TS_EMODEL, "--init: %s: %s", v[TS_F_INIT].text, strerror(errno));
    if (v[TS_F_STRENGTH].set && !q->init)
        return ts_fail(err, TS_EUSAGE,
                       "--strength: there is no picture to begin with, --init gives it");
    return TS_OK;
}

/* The picture that --from began with, where it still is. */
static ts_status find_init(ts_cli *c, ts_render *r)
{
    const char *from = ts_flag_text(&c->flags, TS_F_FROM), *name = r->q.init;
    if (!from || r->init || !name) return TS_OK;
    r->q.init = r->init = strcmp(name, "-") ? ts_metadata_find(from, name) : NULL;
    if (r->init) return TS_OK;
    return ts_fail(&c->err, TS_EMODEL,
                   "%s, the picture that %s began with, is not there: --init gives it",
                   strcmp(name, "-") ? name : "standard input", from);
}

static ts_status set_request(ts_cli *c, ts_render *r)
{
    const ts_flag_value *v = c->flags.value;
    ts_request *q = &r->q;
    ts_status st = ts_render_ask(c, r);
    if (st) return st;
    if (c->flags.words) q->prompt = c->flags.word[0];
    if (!*q->prompt) ts_screen_warn(&c->screen, "the prompt is empty");
    q->keep_plans = v[TS_F_SAVE_PLAN].set || v[TS_F_PLAN_IMAGE].set;
    q->keep_scores = q->keep_plans && v[TS_F_SAVE_PLAN_SCORES].set;
    q->keep_last_scores = v[TS_F_PLAN_IMAGE].set;
    st = ts_cli_set_loras(c, v, ts_flag_text(&c->flags, TS_F_FROM), q);
    if (!st) st = set_init(&c->err, v, r);
    if (!st) st = find_init(c, r);
    if (st) return st;
    int count = v[TS_F_PICTURES].set ? (int)v[TS_F_PICTURES].whole : q->count;
    /* a sheet is one picture of all frames, or of several clips' first */
    bool sheet = (r->sheeted || v[TS_F_GRID].set) && count == 1;
    if (!v[TS_F_FRAMES].set && !sheet && ts_render_asks_picture(c, r)) q->frames = 1;
    st = ts_settings_of(&c->err, &c->flags, q);
    return st ? st : ts_cli_set_images(c, v, ts_flag_text(&c->flags, TS_F_FROM), q, r->image);
}

/* ---- files beside the output ---- */
/* What is known before anything is rendered: a policy without plans, a file where a folder is
 * wanted. */
static ts_status check_plans(ts_err *err, const ts_flags *f, const char *policy)
{
    const char *images = ts_flag_text(f, TS_F_PLAN_IMAGE);
    struct stat s;
    if ((images || ts_flag_set(f, TS_F_SAVE_PLAN)) && (!policy || !strcmp(policy, "dense")))
        return ts_fail(err, TS_EUSAGE, "--%s: attention dense makes no plan",
                       images ? "plan-image" : "save-plan");
    if (images && stat(images, &s) == 0 && !S_ISDIR(s.st_mode))
        return ts_fail(err, TS_EUSAGE, "--plan-image: %s is not a folder", images);
    ts_status st = images ? ts_side_check_folder(err, TS_F_PLAN_IMAGE, images) : TS_OK;
    if (st) return st;
    if (ts_flag_set(f, TS_F_SAVE_PLAN_SCORES) && !ts_flag_set(f, TS_F_SAVE_PLAN))
        return ts_fail(err, TS_EUSAGE,
                       "--save-plan-scores: adds to --save-plan FILE, which is missing");
    return TS_OK;
}

static ts_status check_sides(ts_err *err, const ts_flags *f, const char *output)
{
    ts_status st = TS_OK;
    static const ts_flag_id sides[] = {TS_F_SAVE_LATENTS, TS_F_STATE, TS_F_SAVE_PLAN,
                                       TS_F_PLAN_IMAGE, TS_F_PREVIEW};
    enum { SIDES = sizeof sides / sizeof *sides };
    for (int i = 0; i < SIDES; i++) {
        const char *path = ts_flag_text(f, sides[i]), *name = ts_flag_name(sides[i]);
        if (!path) continue;
        for (int k = i + 1; k < SIDES; k++)
            if (ts_flag_set(f, sides[k]) && !strcmp(path, ts_flag_text(f, sides[k])))
                TRY(ts_fail(err, TS_EUSAGE, "--%s and --%s: both name %s", name,
                            ts_flag_name(sides[k]), path));
        if (!strcmp(path, output))
            TRY(ts_fail(err, TS_EUSAGE, "--%s and the output: both name %s", name, path));
    }
    TRY(ts_side_check(err, f, TS_F_SAVE_LATENTS, false));
    TRY(ts_side_check(err, f, TS_F_STATE, true));
    TRY(ts_side_check(err, f, TS_F_SAVE_PLAN, false));
done:
    return st;
}

/* Given noise is part of what a file was made from: without it, and without a seed instead, the
 * file would silently become another. */
static ts_status read_noise(ts_cli *c, ts_render *r)
{
    ts_status st = TS_OK;
    const char *given = ts_flag_text(&c->flags, TS_F_NOISE);
    char *recorded = ts_flag_set(&c->flags, TS_F_SEED) ? NULL : ts_metadata_field(r->was, "noise");
    char *found = !given && recorded
                      ? ts_metadata_find(ts_flag_text(&c->flags, TS_F_FROM), recorded)
                      : NULL;
    const char *path = given ? given : found ? found : recorded;
    r->q.noise_file = NULL;
    if (!path) goto done;
    st = ts_bag_read(c->ctx, path, &r->noise);
    if (st && !given)
        ts_fail(&c->err, st,
                "%s (the noise that %s was made from; --noise gives it, --seed does without)",
                ts_error(c->ctx), ts_flag_text(&c->flags, TS_F_FROM));
    TRY(st);
    r->noise_path = realpath(path, NULL);
    r->q.noise_file = r->noise_path;
done:
    free(found);
    free(recorded);
    return st;
}

static ts_status save_side(ts_cli *c, const ts_bag *bag, ts_flag_id id)
{
    const char *path = ts_flag_text(&c->flags, id);
    if (!path) return TS_OK;
    return ts_flag_set(&c->flags, TS_F_OVERWRITE) ? ts_bag_write(c->ctx, bag, path)
                                                  : ts_bag_write_new(c->ctx, bag, path);
}

/* Plans and their pictures. Scores that were only kept for pictures stay out of the file. */
static ts_status save_plans(ts_cli *c, ts_render *r)
{
    ts_status st = TS_OK;
    const char *images = ts_flag_text(&c->flags, TS_F_PLAN_IMAGE);
    const ts_bag *plans;
    if (!images && !ts_flag_set(&c->flags, TS_F_SAVE_PLAN)) return TS_OK;
    TRY(ts_run_plans(r->run, &plans));
    if (images) TRY(ts_plan_images(c->ctx, plans, images));
    TRY(save_side(c, plans, TS_F_SAVE_PLAN));
done:
    return st;
}

/* ---- the command ---- */
static ts_status encode_and_denoise(ts_cli *c, ts_render *r)
{
    ts_status st = TS_OK;
    TRY(ts_run_encode(r->run));
    TRY(ts_run_denoise(r->run, NULL));
done:
    if (st == TS_ESTOP) ts_resume_say_stop(c, r);
    return st;
}

/* The run of one clip, or of all pictures. */
/* Plans that auto turns out not to make are refused before hours of work. */
static ts_status check_advice(ts_cli *c, const ts_render *r)
{
    ts_status st = TS_OK;
    const ts_flags *f = &c->flags;
    bool images = ts_flag_set(f, TS_F_PLAN_IMAGE);
    char *advice = images || ts_flag_set(f, TS_F_SAVE_PLAN) ? ts_run_advice(r->run) : NULL,
         *policy = advice ? ts_metadata_field(r->json, "attention") : NULL;
    if (policy && !strcmp(policy, "dense"))
        st = ts_fail(&c->err, TS_EUSAGE, "--%s: a dense run makes no plan, and this is one: %s",
                     images ? "plan-image" : "save-plan", advice);
    free(policy);
    free(advice);
    return st;
}

static ts_status open_render_run(ts_cli *c, ts_render *r)
{
    ts_status st = TS_OK;
    const ts_run_options o = {.size = sizeof o, .texts = r->texts};
    TRY(ts_run_open_with(c->model, &r->q, &o, &r->run, &r->e));
    TRY(ts_render_check_size(c, r, r->q.count > 1 ? r->q.count : r->e.frames));
    if (r->noise) TRY(ts_run_noise(r->run, r->noise));
    if (r->q.init && !ts_flag_set(&c->flags, TS_F_DRY_RUN)) TRY(ts_run_picture(r->run, r->q.init));
    if (!ts_flag_set(&c->flags, TS_F_DRY_RUN)) TRY(ts_cli_read_images(r->run, &r->q));
    TRY(ts_render_describe(c, r));
    TRY(check_advice(c, r));
    if (r->was) ts_cli_compare_images(c, ts_flag_text(&c->flags, TS_F_FROM), r->was, r->json);
    TRY(ts_cli_stopped(c));
done:
    return st;
}

static ts_status prepare_render(ts_cli *c, ts_render *r)
{
    ts_status st = TS_OK;
    const char *from = ts_flag_text(&c->flags, TS_F_FROM);
    TRY(ts_render_begin(c, r, from));
    if (from && !r->was)
        TRY(ts_fail(&c->err, TS_EMODEL, "--from: %s carries no metadata of tessera", from));
    TRY(set_request(c, r));
    if (r->makes_clips && r->q.count > 1) TRY(ts_series_begin(c, r));
    ts_render_set_output(&c->flags, r);
    if (r->clips > 1) TRY(ts_series_check(c, r));
    TRY(ts_render_check_output(c, r, r->q.count > 1 ? r->q.count : r->q.frames));
    TRY(check_sides(&c->err, &c->flags, r->path));
    TRY(check_plans(&c->err, &c->flags, r->q.attention));
    TRY(ts_previews_check(c, ts_flag_text(&c->flags, TS_F_PREVIEW)));
    TRY(read_noise(c, r));
    if (ts_flag_set(&c->flags, TS_F_NEGATIVE)) ts_settings_warn(&c->screen, &r->q);
    /* a dry run counts the text encoder in */
    if (r->clips > 1 && !ts_flag_set(&c->flags, TS_F_DRY_RUN))
        TRY(ts_texts_open(c->model, &r->texts));
    TRY(open_render_run(c, r));
done:
    return st;
}

/* Latents and plans that can not be saved are a failure, but of the kind after which the clip can
 * still be written. *latents: whether they were saved. */
static ts_status save_sides(ts_cli *c, ts_render *r, bool *latents, ts_err *why)
{
    bool wanted = ts_flag_set(&c->flags, TS_F_SAVE_LATENTS);
    ts_bag *bag = NULL;
    ts_status st = wanted ? ts_run_latents(r->run, &bag) : TS_OK;
    if (!st) st = save_side(c, bag, TS_F_SAVE_LATENTS);
    ts_bag_free(bag);
    *latents = !st && wanted;
    if (!st) st = save_plans(c, r);
    if (!st) return TS_OK;
    ts_fail(why, st, "%s", ts_error(c->ctx));
    ts_screen_warn(&c->screen, why->text);
    return st;
}

static ts_status decode_or_rescue(ts_cli *c, ts_render *r, bool saved)
{
    ts_status st = ts_render_decode(c, r);
    const char *latents = saved ? ts_flag_text(&c->flags, TS_F_SAVE_LATENTS) : NULL;
    if (st == TS_ESTOP) ts_resume_stop_decode(c, r, latents);
    if (!st || st == TS_ESTOP) return st;
    if (!*c->err.text) ts_fail(&c->err, st, "%s", ts_error(c->ctx));
    /* a reader that has gone had enough, as a rule: a file is left where it would cost time */
    if (!latents) latents = ts_resume_whole(r);
    if (st == TS_EIO && !latents && ts_is_standard(r->path) && ts_resume_is_short(r)) {
        ts_err why = c->err;
        return ts_fail(&c->err, st, "%.400s; nothing is kept of less than a minute's work",
                       why.text);
    }
    ts_rescue(c->ctx, &c->err, r->run, latents, r->path);
    return st;
}

/* From the run's first word to its file. */
static ts_status render_run(ts_cli *c, ts_render *r)
{
    ts_status st = TS_OK;
    ts_err unsaved = {0};
    char size[TS_SIZE_TEXT], seed[TS_SEED_TEXT], about[TS_FORECAST_TEXT];
    bool saved;
    TRY(ts_output_folders(c->ctx, r->path));
    if (r->clips == 1) TRY(ts_resume_begin(c, r));
    ts_screen_note(&c->screen, "%s, %d step%s, %s, %s", ts_render_size_text(r, size), r->e.steps,
                   r->e.steps == 1 ? "" : "s", *ts_render_seed_text(r, seed) ? seed : "given noise",
                   r->e.precision);
    if (r->forecast.allowed_bytes)
        ts_screen_note(&c->screen, "%s", ts_forecast_text(&r->forecast, r->peak, about));
    ts_cli_advise(c, r->run);
    ts_resume_say_begin(c, r);
    TRY(ts_previews_begin(&r->previews, c, r->run, &r->q, &r->e,
                          ts_flag_text(&c->flags, TS_F_PREVIEW)));
    ts_render_start(c, r);
    TRY(encode_and_denoise(c, r));
    save_sides(c, r, &saved, &unsaved);
    TRY(decode_or_rescue(c, r, saved));
    if (!unsaved.code) ts_resume_end(r);
    if (!r->grid || ts_clip_grid_is_full(r->grid)) ts_render_report(c, r);
    if (unsaved.code) st = ts_fail(&c->err, unsaved.code, "%s", unsaved.text);
done:
    return st;
}

ts_status ts_cli_generate(ts_cli *c)
{
    ts_status st = TS_OK;
    ts_render r = {0};
    if (!c->flags.words && !ts_flag_set(&c->flags, TS_F_FROM))
        TRY(ts_fail(&c->err, TS_EUSAGE,
                    "generate: a prompt is missing: tessera generate \"a prompt\" -o clip.mp4"));
    TRY(prepare_render(c, &r));
    TRY(ts_render_forecast(c, &r));
    if (ts_flag_set(&c->flags, TS_F_DRY_RUN)) {
        ts_render_print_estimate(&r);
        goto done;
    }
    TRY(render_run(c, &r));
    for (int i = 1; i < r.clips; i++) {
        TRY(ts_series_next(c, &r, i));
        TRY(open_render_run(c, &r));
        TRY(ts_render_forecast(c, &r));
        TRY(render_run(c, &r));
    }
done:
    ts_render_free(&r);
    return st;
}
