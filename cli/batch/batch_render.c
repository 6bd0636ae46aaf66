/* The work itself: which runs there are and what they cost, texts encoded in sections that fit the
 * memory, then row after row. What goes wrong with one row stays with it; what would go wrong with
 * every row (a full disk, a damaged model) ends the batch. */
#include "cli/batch/batch.h"

#include "backend/clock.h"
#include "cli/exec.h"
#include "cli/render.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { AHEAD = 32 }; /* texts that a worker of a queue encodes beside those of the row it claimed */

static void set_job_error(ts_job *j, const char *sentence)
{
    free(j->error);
    j->error = strdup(sentence);
}

static void keep_error(const ts_cli *c, ts_job *j)
{
    char sentence[2048];
    ts_screen_reword(&c->screen, *c->err.text ? c->err.text : ts_error(c->ctx), sentence,
                     sizeof sentence);
    set_job_error(j, sentence);
}

/* ---- planning ---- */
static bool is_guided(const ts_request *q) { return q->guidance > 1 || q->guidance_2 > 1; }

static bool same_text(const char *a, const char *b) { return a == b || (a && b && !strcmp(a, b)); }

static bool same_geometry(const ts_request *a, const ts_request *b)
{
    return a->width == b->width && a->height == b->height && a->frames == b->frames &&
           a->steps == b->steps && a->shift == b->shift && a->no_bins == b->no_bins &&
           !a->init == !b->init && !a->image == !b->image && !a->last_image == !b->last_image &&
           a->strength == b->strength && is_guided(a) == is_guided(b) &&
           same_text(a->sampler, b->sampler) && same_text(a->attention, b->attention) &&
           same_text(a->cache_steps, b->cache_steps) && same_text(a->loras, b->loras) &&
           same_text(a->timesteps, b->timesteps) && same_text(a->vae_tile, b->vae_tile);
}

static bool is_of_this_share(const ts_job *j)
{
    return j->state != TS_JOB_FAULTY && j->state != TS_JOB_ELSEWHERE;
}

static ts_status add_texts(ts_batch *b)
{
    ts_status st = TS_OK;
    TRY(ts_texts_open(b->c->model, &b->texts));
    for (int i = 0; i < b->jobs; i++) {
        ts_job *j = b->job + i;
        char what[512];
        if (!is_of_this_share(j)) continue;
        snprintf(what, sizeof what, "prompt of %.400s:%d", j->file, j->row->line);
        st = ts_texts_add(b->texts, j->q.prompt, what, &j->text[0]);
        j->texts = is_guided(&j->q) ? 2 : 1;
        snprintf(what, sizeof what, "negative prompt of %.400s:%d", j->file, j->row->line);
        if (!st && j->texts == 2) st = ts_texts_add(b->texts, j->q.negative, what, &j->text[1]);
        TRY(st);
    }
done:
    return st;
}

static ts_status find_geometries(ts_batch *b)
{
    for (int i = 0; i < b->jobs; i++) {
        ts_job *j = b->job + i;
        j->geometry = -1;
        if (!is_of_this_share(j)) continue;
        for (int g = b->geometries - 1; g >= 0 && j->geometry < 0; g--)
            if (same_geometry(&b->job[b->geometry[g].first].q, &j->q)) j->geometry = g;
        if (j->geometry >= 0) continue;
        if (!(b->geometries & (b->geometries - 1))) {
            ts_geometry *more = realloc(
                b->geometry, sizeof *more * (b->geometries ? 2 * (size_t)b->geometries : 1));
            if (!more)
                return ts_fail(&b->c->err, TS_EMEMORY, "no memory for %d kinds of rows",
                               b->geometries + 1);
            b->geometry = more;
        }
        b->geometry[b->geometries] = (ts_geometry){.first = i};
        j->geometry = b->geometries++;
    }
    return TS_OK;
}

static void refuse_job(ts_batch *b, ts_job *j, ts_job_state state, const char *said)
{
    char sentence[2048];
    ts_screen_reword(&b->c->screen, said, sentence, sizeof sentence);
    ts_screen_fault(&b->c->screen, j->file, j->row->line, sentence);
    set_job_error(j, sentence);
    j->state = state;
    b->faults++;
}

/* What the encoder would refuse after the work: frames too large, names too long. */
static ts_status check_written(ts_batch *b, int g)
{
    const ts_estimate *e = &b->geometry[g].e;
    for (int i = 0; i < b->jobs; i++) {
        ts_job *j = b->job + i;
        const ts_output o = {.size = sizeof o, .crf = j->crf, .scale = j->q.scale};
        char *path = NULL;
        if (j->geometry != g || j->state != TS_JOB_TODO) continue;
        if (asprintf(&path, "%s/%s%s", b->out, j->name, j->folder ? "/" : "") < 0)
            return ts_fail(&b->c->err, TS_EMEMORY, "no memory for a path");
        if (ts_output_check_size(b->c->ctx, path, &o, e->width, e->height, e->frames))
            refuse_job(b, j, TS_JOB_FAULTY, ts_error(b->c->ctx));
        free(path);
    }
    return TS_OK;
}

static bool has_todo(const ts_batch *b, int g)
{
    for (int i = 0; i < b->jobs; i++)
        if (b->job[i].geometry == g && b->job[i].state == TS_JOB_TODO) return true;
    return false;
}

/* Each kind of run is sized by its row with most tokens. One that can not be rendered is told now,
 * not at its turn. */
static ts_status size_geometry(ts_batch *b, int g)
{
    ts_geometry *to = b->geometry + g;
    const ts_job *longest = b->job + to->first;
    ts_run *run = NULL;
    for (int i = 0; i < b->jobs; i++)
        if (b->job[i].geometry == g && ts_texts_tokens(b->texts, b->job[i].text[0]) >
                                           ts_texts_tokens(b->texts, longest->text[0]))
            longest = b->job + i;
    const ts_run_options shared = {.size = sizeof shared, .texts = b->texts};
    ts_status st = ts_run_open_with(b->c->model, &longest->q, &shared, &run, &to->e);
    if (!st && ts_flag_set(&b->c->flags, TS_F_DRY_RUN) && has_todo(b, g))
        st = ts_forecast_run(run, &to->e, true, &to->forecast);
    if (!st && has_todo(b, g)) ts_cli_advise(b->c, run);
    ts_run_close(run);
    /* the VAE computes in f32, at about half the pace of bf16 */
    to->cost = to->e.step_flops * to->e.steps +
               to->e.decode_flops * (to->e.precision && !strcmp(to->e.precision, "bf16") ? 2 : 1);
    if (st == TS_OK) return check_written(b, g);
    if (st == TS_ESTOP) return st;
    to->error = strdup(ts_error(b->c->ctx));
    for (int i = 0; i < b->jobs; i++)
        if (b->job[i].geometry == g && b->job[i].state == TS_JOB_TODO)
            refuse_job(b, b->job + i, st == TS_EMEMORY ? TS_JOB_FAILED : TS_JOB_FAULTY, to->error);
    return TS_OK;
}

ts_status ts_batch_plan(ts_batch *b)
{
    ts_status st = TS_OK;
    int n = 0;
    TRY(add_texts(b));
    TRY(find_geometries(b));
    for (int g = 0; g < b->geometries; g++) {
        TRY(ts_cli_stopped(b->c));
        TRY(size_geometry(b, g));
    }
    b->order = malloc(sizeof *b->order * (size_t)(b->jobs ? b->jobs : 1));
    if (!b->order) TRY(ts_fail(&b->c->err, TS_EMEMORY, "no memory for %d rows", b->jobs));
    for (int g = 0; g < b->geometries; g++)
        for (int i = 0; i < b->jobs; i++)
            if (b->job[i].geometry == g) b->order[n++] = i;
    for (int i = 0; i < b->jobs; i++)
        if (b->job[i].geometry < 0) b->order[n++] = i;
done:
    return st;
}

/* ---- texts ---- */
/* Those of the row at `at` in the order and of as many behind it as fit an eighth of the memory;
 * earlier ones are forgotten. */
static ts_status encode_texts(ts_batch *b, int at)
{
    ts_status st = TS_OK;
    const char *cache = ts_flag_text(&b->c->flags, TS_F_CACHE);
    const ts_job *first = b->job + b->order[at];
    size_t bytes = 0, room = b->room;
    int n = 0, *ids = NULL;
    bool there = true;
    for (int k = 0; k < first->texts; k++) there = there && b->encoded[first->text[k]];
    if (there) return TS_OK;
    for (int i = 0; i < b->texts_max; i++)
        if (b->encoded[i]) {
            ts_texts_drop(b->texts, i);
            b->encoded[i] = false;
        }
    ids = malloc(sizeof *ids * (size_t)b->texts_max);
    if (!ids) return ts_fail(&b->c->err, TS_EMEMORY, "no memory for %d texts", b->texts_max);
    for (int i = at; i < b->jobs; i++) {
        const ts_job *j = b->job + b->order[i];
        if (j->state != TS_JOB_TODO && i > at) continue;
        if (n && (bytes > room || (b->queue && n >= AHEAD))) break;
        for (int k = 0; k < j->texts; k++) {
            int id = j->text[k];
            if (b->encoded[id]) continue;
            b->encoded[id] = true;
            bytes += ts_texts_bytes(b->texts, id);
            ids[n++] = id;
        }
    }
    ts_screen_batch_texts(&b->c->screen);
    TRY(ts_texts_encode(b->texts, ids, n, cache));
done:
    free(ids);
    return st;
}

/* ---- one row ---- */
typedef struct {
    ts_run *run;
    ts_sink *sink;
    ts_strip *strip;
    char *path, *named; /* where the output is made; what it will be called */
    char *state, *json, *parameters;
    ts_previews previews;
} rendering;

static void free_rendering(ts_batch *b, rendering *r)
{
    b->c->screen.made_at = NULL;
    if (r->run) ts_run_watch(r->run, NULL); /* it stays, as what the next row is like */
    free(r->named);
    ts_strip_close(r->strip);
    ts_output_close(r->sink);
    free(r->path);
    free(r->state);
    free(r->json);
    free(r->parameters);
}

/* A state that does not fit (another machine's precision, another version) is no reason to fail. */
static ts_status denoise_row(ts_batch *b, rendering *r)
{
    ts_status st = ts_run_denoise(r->run, NULL);
    if (st != TS_EMODEL || !r->state || access(r->state, F_OK)) return st;
    char text[1100];
    snprintf(text, sizeof text, "%.900s: this row begins anew", ts_error(b->c->ctx));
    ts_screen_warn(&b->c->screen, text);
    ts_state_remove(r->state);
    return ts_run_denoise(r->run, NULL);
}

static ts_status decode_row(ts_batch *b, ts_job *j, rendering *r)
{
    ts_status st = TS_OK;
    ts_output o = {.size = sizeof o,
                   .crf = j->crf,
                   .scale = j->q.scale,
                   .overwrite = true,
                   .metadata = !ts_flag_set(&b->c->flags, TS_F_NO_METADATA),
                   .title = j->q.prompt,
                   .parameters = r->parameters,
                   .quality = j->quality};
    TRY(ts_output_open(b->c->ctx, r->path, &o, &r->sink));
    ts_sink *to = ts_flag_set(&b->c->flags, TS_F_REPORT)
                      ? ts_strip_open(r->sink, j->q.frames, &r->strip)
                      : r->sink;
    TRY(ts_run_decode(r->run, NULL, to));
done:
    if (st && r->sink) r->sink->abort(r->sink);
    return st;
}

/* Decoding failed: the latents are kept beside the output, as `generate` does it. */
static void rescue_latents(ts_batch *b, const ts_job *j, const rendering *r, ts_status st)
{
    ts_cli *c = b->c;
    char *path = ts_batch_path(b, j->name);
    if (!*c->err.text) ts_fail(&c->err, st, "%s", ts_error(c->ctx));
    ts_err why = c->err;
    if (path && ts_batch_make_parents(&c->err, path) == TS_OK) {
        c->err = why;
        ts_rescue(c->ctx, &c->err, r->run, NULL, path);
    }
    free(path);
}

/* Without being asked for: of a row of many minutes, or one that has left a state before. */
static ts_status keep_row_state(ts_batch *b, const ts_job *j, rendering *r)
{
    ts_status st = TS_OK;
    ts_geometry *g = b->geometry + j->geometry;
    bool there = access(r->state, F_OK) == 0;
    if (!g->forecast.size) TRY(ts_forecast_run(r->run, &g->e, false, &g->forecast));
    if (!there && ts_forecast_seconds(&g->forecast) < TS_LONG_SECONDS) {
        free(r->state);
        r->state = NULL;
        return TS_OK;
    }
    TRY(ts_batch_make_parents(&b->c->err, r->state));
    st = ts_run_state(r->run, r->state, true);
    if (st != TS_EMODEL) return st;
    ts_state_remove(r->state); /* of another precision or version: the row begins anew */
    st = ts_run_state(r->run, r->state, true);
done:
    return st;
}

static ts_status render_row(ts_batch *b, ts_job *j, const ts_run *like, rendering *r)
{
    ts_status st = TS_OK;
    ts_estimate e;
    bool always = ts_flag_set(&b->c->flags, TS_F_RESUME_STEPS),
         never = !always && ts_flag_set(&b->c->flags, TS_F_NO_STATE);
    r->path = ts_batch_work_path(b, j, j->folder ? "/" : j->extension);
    if (!never) r->state = ts_batch_state_path(b, j);
    if (!r->path || (!never && !r->state))
        TRY(ts_fail(&b->c->err, TS_EMEMORY, "no memory for a path"));
    r->named = ts_batch_path(b, j->name);
    if (!r->named) TRY(ts_fail(&b->c->err, TS_EMEMORY, "no memory for a path"));
    b->c->screen.made_at = r->path;
    b->c->screen.made_as = r->named;
    ts_request q = j->q;
    q.state = always ? r->state : NULL;
    const ts_run_options shared = {.size = sizeof shared, .texts = b->texts, .like = like};
    TRY(ts_run_open_with(b->c->model, &q, &shared, &r->run, &e));
    if (r->state && !always) TRY(keep_row_state(b, j, r));
    r->json = ts_run_json(r->run);
    r->parameters = ts_run_parameters(r->run);
    if (!r->json || !r->parameters)
        TRY(ts_fail(&b->c->err, TS_EMEMORY, "no memory for the metadata"));
    long w = e.width, h = e.height;
    ts_written_size(r->path, j->crf, q.scale, &w, &h);
    ts_screen_written(&b->c->screen, w, h);
    st = j->init ? ts_run_picture(r->run, j->init) : ts_cli_read_images(r->run, &j->q);
    if (st == TS_EMODEL) st = ts_fail(&b->c->err, TS_EFAIL, "%s", ts_error(b->c->ctx));
    TRY(st); /* a picture that can not be read is this row's */
    ts_screen_start(&b->c->screen, &e, e.steps, j->name, r->json);
    TRY(ts_run_encode(r->run));
    TRY(ts_previews_begin(&r->previews, b->c, r->run, &q, &e, j->preview));
    TRY(denoise_row(b, r));
    st = decode_row(b, j, r);
    if (st && st != TS_ESTOP) rescue_latents(b, j, r, st);
done:
    return st;
}

/* A worker that was not heard of for as long as --claim-timeout: its work is not lost without a
 * word. */
static void lose_row(ts_batch *b, ts_job *j)
{
    char text[400];
    j->lost = true;
    snprintf(text, sizeof text,
             "%.200s: another worker took this row over while it was rendered here: what was "
             "rendered here is thrown away; a longer --claim-timeout may help",
             j->name);
    ts_screen_warn(&b->c->screen, text);
}

/* The row's file gets its name, unless another worker has taken the row over. */
static ts_status publish_row(ts_batch *b, ts_job *j, rendering *r)
{
    ts_status st = TS_OK;
    bool ours = true;
    if (b->queue) TRY(ts_queue_holds(b, &ours));
    char *path = r->path;
    size_t n = strlen(path);
    if (path[n - 1] == '/') path[n - 1] = 0;
    if (ours) {
        st = ts_batch_publish(b, j, path);
        if (st == TS_EFAIL && b->queue)
            ours = false;
        else
            TRY(st);
        st = TS_OK;
    }
    if (!ours) {
        ts_remove_tree(path);
        lose_row(b, j);
    }
    j->state = ours ? TS_JOB_DONE : TS_JOB_ELSEWHERE;
    j->bytes = ours ? ts_batch_bytes(b, j->name) : 0;
    if (ours && r->strip) ts_strip_save(b, r->strip, j);
    if (ours) ts_state_remove(r->state);
done:
    return st;
}

/* What concerns every row that would follow. */
static bool ends_batch(ts_status st)
{
    return st == TS_ESTOP || st == TS_EIO || st == TS_EMODEL || st == TS_ESHAPE;
}

static ts_status do_row(ts_batch *b, ts_job *j, ts_run **like)
{
    ts_status st = TS_OK;
    rendering r = {0};
    double start = ts_seconds();
    *b->c->err.text = 0;
    j->lost = false;
    TRY(ts_manifest_add(b, j, "started"));
    ts_screen_row(&b->c->screen, j->name, b->geometry[j->geometry].cost);
    st = render_row(b, j, *like, &r);
    if (!st) st = publish_row(b, j, &r);
    j->seconds = ts_seconds() - start;
    if (r.run) {
        ts_run_close(*like);
        *like = r.run;
    }
    if (st && !ends_batch(st)) {
        bool ours = true;
        keep_error(b->c, j);
        if (b->queue) TRY(ts_queue_holds(b, &ours));
        if (!ours) lose_row(b, j);
        j->state = ours ? TS_JOB_FAILED : TS_JOB_ELSEWHERE;
        *b->c->err.text = 0;
        st = TS_OK;
    }
    TRY(st);
    if (j->state == TS_JOB_DONE || j->state == TS_JOB_FAILED) {
        TRY(ts_manifest_add(b, j, j->state == TS_JOB_DONE ? "done" : "failed"));
        if (b->queue) TRY(ts_queue_finish(b, j));
    }
    bool done = j->state == TS_JOB_DONE;
    ts_screen_row_done(&b->c->screen,
                       &(ts_row_end){.file = j->file,
                                     .line = j->row->line,
                                     .index = j->row->index,
                                     .output = j->name,
                                     .path = done ? r.named : NULL,
                                     .frames = b->geometry[j->geometry].e.frames,
                                     .bytes = j->bytes,
                                     .seconds = j->seconds,
                                     .seed = j->q.seed,
                                     .error = j->error,
                                     .status = j->state == TS_JOB_DONE     ? "done"
                                               : j->state == TS_JOB_FAILED ? "failed"
                                                                           : "elsewhere"});
    ts_batch_refresh(b);
    const char *command = ts_flag_text(&b->c->flags, TS_F_EXEC);
    if (done && command)
        ts_exec_run(&b->c->screen, command,
                    &(ts_exec){.output = r.named,
                               .prompt = j->q.prompt,
                               .seed = j->q.seed,
                               .seconds = j->seconds,
                               .file = j->file,
                               .line = j->row->line});
done:
    free_rendering(b, &r);
    return st;
}

/* ---- all rows ---- */
/* A row that is done by what its file and the manifest show, or that can not be rendered at all, is
 * only written down. */
static ts_status record_settled(ts_batch *b)
{
    ts_status st = TS_OK;
    for (int i = 0; i < b->jobs; i++) {
        ts_job *j = b->job + i;
        if (j->state == TS_JOB_HAD && j->found) TRY(ts_manifest_add(b, j, "done"));
        /* a queue knows rows as failed until --retry */
        j->refused = !b->queue &&
                     (j->state == TS_JOB_FAILED || (j->state == TS_JOB_FAULTY && j->name));
        if (j->refused) TRY(ts_manifest_add(b, j, "failed"));
        j->found = false;
    }
done:
    return st;
}

static ts_status render_in_order(ts_batch *b, ts_run **like)
{
    ts_status st = TS_OK;
    for (int i = 0; i < b->jobs; i++) {
        ts_job *j = b->job + b->order[i];
        if (j->state != TS_JOB_TODO) continue;
        TRY(ts_cli_stopped(b->c));
        TRY(encode_texts(b, i));
        TRY(do_row(b, j, like));
        if (j->state == TS_JOB_FAILED && ts_flag_set(&b->c->flags, TS_F_FAIL_FAST))
            TRY(ts_fail(&b->c->err, TS_EFAIL, "%s:%d: %s", j->file, j->row->line,
                        j->error ? j->error : "failed"));
    }
done:
    return st;
}

static ts_status render_from_queue(ts_batch *b, ts_run **like)
{
    ts_status st = TS_OK;
    TRY(ts_queue_fill(b));
    for (;;) {
        int at, which;
        TRY(ts_cli_stopped(b->c));
        TRY(ts_queue_next(b, &which));
        if (which < 0) break; /* all are finished, here or elsewhere */
        ts_job *j = b->job + which;
        for (at = 0; b->order[at] != which;) at++;
        /* its worker ended between the name and the word */
        if (j->state == TS_JOB_TODO && !j->replaces && ts_batch_exists(b, j->name)) {
            j->found = true;
            j->state = TS_JOB_DONE;
            TRY(ts_manifest_add(b, j, "done"));
        }
        /* it has its output: only the queue did not know yet */
        if (j->state == TS_JOB_HAD || j->state == TS_JOB_DONE) {
            TRY(ts_queue_finish(b, j));
            continue;
        }
        if (j->state != TS_JOB_FAILED && j->state != TS_JOB_FAULTY) {
            j->state = TS_JOB_TODO;
            TRY(encode_texts(b, at));
            TRY(do_row(b, j, like));
        } else {
            TRY(ts_manifest_add(b, j, "failed"));
            TRY(ts_queue_finish(b, j));
        }
        if (j->state == TS_JOB_FAILED && ts_flag_set(&b->c->flags, TS_F_FAIL_FAST))
            TRY(ts_fail(&b->c->err, TS_EFAIL, "%s:%d: %s", j->file, j->row->line,
                        j->error ? j->error : "failed"));
    }
    TRY(ts_queue_count(b));
done:
    return st;
}

ts_status ts_batch_render(ts_batch *b)
{
    ts_status st = TS_OK;
    ts_run *like = NULL;
    double cost = 0;
    int todo = 0;
    for (int i = 0; i < b->jobs; i++) {
        const ts_job *j = b->job + i;
        if (j->state == TS_JOB_TODO) {
            todo++;
            cost += b->geometry[j->geometry].cost;
        }
        if (j->geometry < 0) continue;
        for (int k = 0; k < j->texts; k++)
            if (j->text[k] >= b->texts_max) b->texts_max = j->text[k] + 1;
    }
    b->encoded = calloc((size_t)(b->texts_max ? b->texts_max : 1), sizeof *b->encoded);
    if (!b->encoded) TRY(ts_fail(&b->c->err, TS_EMEMORY, "no memory for %d texts", b->texts_max));
    TRY(record_settled(b));
    /* other workers take rows, too: how many are left for this one is not known */
    ts_screen_batch(&b->c->screen, todo, b->queue ? 0 : cost);
    TRY(b->queue ? render_from_queue(b, &like) : render_in_order(b, &like));
done:
    ts_run_close(like);
    free(b->encoded);
    b->encoded = NULL;
    return st;
}
