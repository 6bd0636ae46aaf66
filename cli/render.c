/* What generate and decode share: flags -> request -> run -> file. Whatever can be refused is
 * refused before the first weight is read. */
#include "cli/render.h"

#include "backend/number.h"
#include "cli/exec.h"
#include "cli/metadata.h"
#include "cli/open_model.h"
#include "cli/side.h"
#include "cli/table.h"

#include <cjson/cJSON.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

void ts_render_free(ts_render *r)
{
    ts_sheet_free(r->sheet);
    ts_clip_grid_free(r->grid);
    free(r->grid_parameters);
    ts_output_close(r->sink);
    free(r->numbered);
    free(r->usual);
    free(r->formatted);
    free(r->counted);
    free(r->init);
    for (int i = 0; i < TS_CLI_IMAGES; i++) free(r->image[i]);
    free(r->own_state);
    ts_run_close(r->run);
    ts_texts_close(r->texts);
    ts_request_free(&r->q);
    ts_bag_free(r->noise);
    ts_bag_free(r->latents);
    free(r->was);
    free(r->noise_path);
    free(r->json);
    free(r->parameters);
}

/* ---- an earlier run ---- */
/* It is computed again in its own precision, where this CPU can. */
static ts_status set_precision(ts_cli *c, const char *json, const char *from)
{
    char *precision = ts_metadata_field(json, "precision");
    ts_status st = TS_OK;
    if (precision && !ts_flag_set(&c->flags, TS_F_PRECISION))
        st = ts_set_precision(c->ctx, precision);
    if (st == TS_EUSAGE) {
        char text[256];
        snprintf(text, sizeof text,
                 "%.100s was computed in %.16s, which this CPU does not have: numbers will differ",
                 from, precision);
        ts_screen_warn(&c->screen, text);
        st = TS_OK;
    }
    free(precision);
    return st;
}

ts_status ts_render_begin(ts_cli *c, ts_render *r, const char *from)
{
    ts_status st = TS_OK;
    TRY(ts_cli_open(c));
    if (from) {
        TRY(ts_metadata_read(c->ctx, from, &r->was));
        TRY(set_precision(c, r->was, from));
    }
    TRY(ts_cli_open_model(c, r->was, from));
    ts_request_init(c->model, &r->q);
    r->makes_clips = r->q.frames > 1;
    r->clips = 1;
    if (r->was) {
        TRY(ts_request_from_json(c->model, r->was, &r->q));
        cJSON *was = cJSON_Parse(r->was);
        r->sheeted = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(was, "grid"));
        cJSON_Delete(was);
    }
done:
    return st;
}

/* ---- the output ---- */
static bool ends_in(const char *path, const char *extension)
{
    size_t n = strlen(path), m = strlen(extension);
    return n > m && !strcasecmp(path + n - m, extension);
}

bool ts_is_png(const char *path) { return ends_in(path, ".png"); }

bool ts_is_still(const char *path)
{
    return ts_is_png(path) || ends_in(path, ".jpg") || ends_in(path, ".jpeg");
}

bool ts_is_picture(const char *path) { return ts_is_still(path) || ends_in(path, ".webp"); }

bool ts_is_standard(const char *path) { return !strcmp(path, "-") || !strcmp(path, "/dev/stdout"); }

bool ts_is_numbered(const char *path)
{
    struct stat s;
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    if (!*base || (stat(path, &s) == 0 && S_ISDIR(s.st_mode))) return true;
    return ts_is_picture(base) && strchr(base, '%');
}

static const char *const clips[] = {"mp4", "webm", "gif", "mkv", "y4m"};

static bool has_extension(const char *path, const char *format)
{
    size_t n = strlen(path), m = strlen(format);
    return (n > m + 1 && path[n - m - 1] == '.' && !strcasecmp(path + n - m, format)) ||
           (!strcmp(format, "jpg") && ends_in(path, ".jpeg"));
}

static bool is_kind_of_output(const char *path)
{
    bool clip = false;
    for (size_t i = 0; i < sizeof clips / sizeof *clips; i++)
        clip = clip || has_extension(path, clips[i]);
    return clip || ts_is_picture(path);
}

ts_status ts_render_ask(ts_cli *c, ts_render *r)
{
    const char *path = ts_flag_text(&c->flags, TS_F_OUTPUT),
               *format = ts_flag_text(&c->flags, TS_F_OUTPUT_FORMAT);
    int n = 0;
    r->asked = path;
    if (!format || (path && ts_is_standard(path))) return TS_OK;
    if (!path)
        n = asprintf(&r->usual, "tessera.%s", format);
    else if (has_extension(path, format))
        return TS_OK;
    else if (is_kind_of_output(path))
        return ts_fail(&c->err, TS_EUSAGE, "--format %s: the output is %s, of another kind", format,
                       path);
    else if (*path && path[strlen(path) - 1] != '/')
        n = asprintf(&r->formatted, "%s.%s", path, format);
    else if (!strcmp(format, "jpg") || !strcmp(format, "webp"))
        n = asprintf(&r->formatted, "%s%%04d.%s", path, format);
    else if (strcmp(format, "png") != 0)
        return ts_fail(&c->err, TS_EUSAGE,
                       "--format %s: the output is the folder %s, of pictures: png, jpg or webp",
                       format, path);
    if (n < 0) return ts_fail(&c->err, TS_EMEMORY, "no memory for a file's name");
    if (r->formatted) r->asked = r->formatted;
    return TS_OK;
}

/* A name of the output's kind: its own, or of standard output one that --format stands for. */
static const char *name_of_kind(const ts_render *r)
{
    static const char *const names[] = {"-.png",  "-.jpg", "-.webp", "-.mp4",
                                        "-.webm", "-.gif", "-.mkv",  "-.y4m"};
    for (size_t i = 0; r->out.format && i < sizeof names / sizeof *names; i++)
        if (has_extension(names[i], r->out.format)) return names[i];
    return r->path;
}

bool ts_render_asks_picture(const ts_cli *c, const ts_render *r)
{
    const char *format = ts_flag_text(&c->flags, TS_F_OUTPUT_FORMAT);
    if (!r->asked || ts_is_standard(r->asked))
        return format &&
               (!strcmp(format, "png") || !strcmp(format, "jpg") || !strcmp(format, "webp"));
    return ts_is_picture(r->asked) && !ts_is_numbered(r->asked);
}

const char *ts_render_usual(const ts_render *r)
{
    bool picture = r->q.frames == 1 || (r->sheeted && r->clips == 1);
    if (r->usual) return r->usual;
    return picture ? "tessera.png" : "tessera.mp4";
}

/* Several pictures are several files: cat.png becomes cat-%d.png. */
static void number_pictures(ts_render *r)
{
    if (r->numbered || r->q.count < 2 || r->sheeted) return;
    if (!ts_is_picture(r->path) || ts_is_numbered(r->path)) return;
    const char *dot = strrchr(r->path, '.');
    if (asprintf(&r->numbered, "%.*s-%%d%s", (int)(dot - r->path), r->path, dot) < 0)
        r->numbered = NULL;
    else
        r->path = r->numbered;
}

void ts_render_name(const ts_flags *f, ts_render *r, const char *name)
{
    enum { MOST = 9999 };
    struct stat s;
    const char *dot = strrchr(name, '.');
    r->path = name;
    if (ts_flag_set(f, TS_F_OVERWRITE)) return;
    for (int i = 2; i <= MOST && lstat(r->path, &s) == 0; i++) {
        free(r->counted);
        if (asprintf(&r->counted, "%.*s-%d%s", (int)(dot - name), name, i, dot) < 0)
            r->counted = NULL;
        r->path = r->counted ? r->counted : name;
    }
}

void ts_render_set_output(const ts_flags *f, ts_render *r)
{
    const ts_flag_value *v = f->value;
    ts_request *q = &r->q;
    if (v[TS_F_GRID].set) r->sheeted = true;
    const char *usual = ts_render_usual(r);
    if (r->asked || (q->count > 1 && !r->sheeted))
        r->path = r->asked ? r->asked : usual;
    else
        ts_render_name(f, r, usual);
    /* --from a sheet makes a sheet again, where the output can be one */
    r->sheeted = v[TS_F_GRID].set ||
                 (r->sheeted &&
                  (r->clips > 1 || (ts_is_picture(r->path) && !ts_is_numbered(r->path))));
    number_pictures(r);
    bool standard = ts_is_standard(r->path);
    /* numbered frames are as computed */
    if (!v[TS_F_SCALE].set && ts_is_numbered(r->path)) q->scale = 1;
    r->out = (ts_output){.size = sizeof(ts_output),
                         .crf = v[TS_F_CRF].set ? (int)v[TS_F_CRF].whole : -1,
                         .scale = q->scale,
                         .overwrite = v[TS_F_OVERWRITE].set,
                         .metadata = !v[TS_F_NO_METADATA].set,
                         .format = standard ? v[TS_F_OUTPUT_FORMAT].text : NULL,
                         .quality = v[TS_F_QUALITY].set ? (int)v[TS_F_QUALITY].whole : 0};
}

/* What was said and changes nothing of such an output. */
static void warn_of_output_flags(ts_cli *c, const ts_render *r, int frames)
{
    const char *path = name_of_kind(r);
    bool webp = ends_in(path, ".webp") && frames > 1 && !r->sheeted && !ts_is_numbered(path);
    bool crf = ends_in(path, ".mp4") || ends_in(path, ".webm") || ends_in(path, ".mkv"),
         clip = crf || ends_in(path, ".gif") || ends_in(path, ".y4m");
    if (ts_flag_set(&c->flags, TS_F_CRF) && !crf)
        ts_screen_warn(&c->screen, "--crf has no effect: it is for .mp4, .mkv and .webm");
    if (ts_flag_set(&c->flags, TS_F_QUALITY) && (!ts_is_picture(path) || ts_is_png(path)))
        ts_screen_warn(&c->screen, "--quality has no effect: it is for .jpg and .webp");
    if (ts_flag_set(&c->flags, TS_F_FPS) && !clip && !webp && !ts_is_standard(path))
        ts_screen_warn(&c->screen, "--fps has no effect on pictures but for what they record");
    if (clip && frames == 1)
        ts_screen_warn(
            &c->screen,
            "a clip of one frame: a name that ends in .png, .jpg or .webp makes a picture");
}

ts_status ts_render_check_output(ts_cli *c, const ts_render *r, int frames)
{
    bool sheet = r->sheeted && r->clips == 1;
    if (sheet && (!ts_is_picture(name_of_kind(r)) || ts_is_numbered(r->path)))
        return ts_fail(&c->err, TS_EUSAGE,
                       "--grid: the output is %s, a sheet is one picture: name a .png", r->path);
    warn_of_output_flags(c, r, frames);
    return ts_output_check(c->ctx, r->path, &r->out, sheet ? 1 : frames);
}

/* Of a sheet or grid. */
static int count_places(const ts_render *r) { return r->clips > 1 ? r->clips : r->e.frames; }

ts_status ts_render_check_size(ts_cli *c, const ts_render *r, int frames)
{
    ts_status st = TS_OK;
    long w = r->e.width, h = r->e.height;
    if (r->sheeted) {
        int places = count_places(r);
        TRY(ts_sheet_check(&c->err, r->e.width, r->e.height, places));
        ts_sheet_size(r->e.width, r->e.height, places, &w, &h);
        if (r->clips == 1) frames = 1;
    }
    TRY(ts_output_check_size(c->ctx, r->path, &r->out, (int)w, (int)h, frames));
done:
    return st;
}

ts_status ts_render_describe(ts_cli *c, ts_render *r)
{
    r->json = ts_run_json(r->run);
    r->parameters = ts_run_parameters(r->run);
    if (!r->json || !r->parameters)
        return ts_fail(&c->err, TS_EMEMORY, "no memory for the metadata");
    r->out.title = r->q.prompt;
    r->out.parameters = r->parameters;
    cJSON *said = cJSON_Parse(r->json); /* it records what has an effect */
    if (ts_flag_set(&c->flags, TS_F_GUIDANCE_2) && !cJSON_HasObjectItem(said, "guidance_2"))
        ts_screen_warn(&c->screen, "--guidance-2 has no effect: this model has one expert");
    cJSON_Delete(said);
    return TS_OK;
}

/* The clip that is done, and with the last of them the file. */
static ts_status decode_into_grid(ts_cli *c, ts_render *r)
{
    ts_status st = TS_OK;
    TRY(ts_run_decode(r->run, NULL, ts_clip_grid_sink(r->grid)));
    if (!ts_clip_grid_is_full(r->grid)) return TS_OK;
    if (r->grid_parameters) r->out.parameters = r->grid_parameters;
    TRY(ts_output_open(c->ctx, r->path, &r->out, &r->sink));
    st = ts_clip_grid_write(r->grid, r->sink);
    if (st) ts_fail(&c->err, st, "%s", r->sink->error);
done:
    return st;
}

static ts_status decode_into_file(ts_cli *c, ts_render *r)
{
    ts_status st = TS_OK;
    TRY(ts_output_open(c->ctx, r->path, &r->out, &r->sink));
    if (r->sheeted && !(r->sheet = ts_sheet_new(r->sink)))
        TRY(ts_fail(&c->err, TS_EMEMORY, "no memory for a sheet"));
    TRY(ts_run_decode(r->run, r->latents, r->sheet ? ts_sheet_sink(r->sheet) : r->sink));
done:
    return st;
}

ts_status ts_render_decode(ts_cli *c, ts_render *r)
{
    ts_status st = r->grid ? decode_into_grid(c, r) : decode_into_file(c, r);
    if (st && r->sink) r->sink->abort(r->sink);
    return st;
}

char *ts_name_beside(const char *output, const char *tail)
{
    char *path = NULL;
    size_t n = strlen(output), tail_length = strlen(tail), base;
    if (n > 1 && output[n - 1] == '/') n--;
    for (base = n; base > 0 && output[base - 1] != '/';) base--;
    if (n - base + tail_length > NAME_MAX) n = base + NAME_MAX - tail_length;
    while (n > base && (output[n] & 0xC0) == 0x80) n--; /* not within a character of UTF-8 */
    return asprintf(&path, "%.*s%s", (int)n, output, tail) < 0 ? NULL : path;
}

/* clip.mp4.latents.safetensors, then clip.mp4.latents-2.safetensors */
static char *name_rescue(const char *output, int count)
{
    char tail[48] = ".latents.safetensors";
    if (count > 1) snprintf(tail, sizeof tail, ".latents-%d.safetensors", count);
    return ts_name_beside(ts_is_standard(output) ? "tessera" : output, tail);
}

/* Writes the latents under the first such name that is free; NULL: they could not be written, and
 * the context says why. */
static char *save_rescue(ts_ctx *ctx, ts_run *run, const char *output)
{
    enum { MOST = 1000 };
    char *path = NULL;
    ts_bag *latents = NULL;
    ts_status st = ts_run_latents(run, &latents);
    for (int i = 1; !st; i++) {
        path = name_rescue(output, i);
        st = path ? ts_bag_write_new(ctx, latents, path) : TS_EMEMORY;
        if (!st) break;
        if (st == TS_EUSAGE && i < MOST) st = TS_OK; /* the name is taken */
        free(path);
        path = NULL;
    }
    ts_bag_free(latents);
    return path;
}

void ts_rescue(ts_ctx *ctx, ts_err *err, ts_run *run, const char *saved, const char *output)
{
    ts_err why = *err; /* why decoding failed; saving has an error of its own */
    char *path = saved ? NULL : save_rescue(ctx, run, output);
    if (path) saved = path;
    /* where the latents are is said in full, whatever the length of the rest */
    int room = (int)sizeof err->text - 64 - (int)strlen(saved ? saved : "");
    if (saved)
        ts_fail(err, why.code, "%.*s; the latents are in %s: tessera decode goes on from them",
                room > 0 ? room : 0, why.text, saved);
    else
        ts_fail(err, why.code, "%.300s; the latents are lost: %s", why.text, ts_error(ctx));
    free(path);
}

/* ---- what is said ---- */
void ts_written_size(const char *path, int crf, int scale, long *w, long *h)
{
    bool even = ends_in(path, ".mp4") || ends_in(path, ".webm") ||
                (ends_in(path, ".mkv") && crf != 0) || ends_in(path, ".y4m") ||
                ts_is_standard(path);
    *w *= scale;
    *h *= scale;
    *w += even && *w & 1;
    *h += even && *h & 1;
}

/* Pixels of each file that is written. */
static void count_written(const ts_render *r, long *w, long *h)
{
    *w = r->e.width;
    *h = r->e.height;
    if (r->sheeted) ts_sheet_size(r->e.width, r->e.height, count_places(r), w, h);
    ts_written_size(name_of_kind(r), r->out.crf, r->q.scale, w, h);
}

ts_status ts_render_forecast(ts_cli *c, ts_render *r)
{
    const ts_estimate *e = &r->e;
    long w, h;
    ts_status st = ts_forecast_run(r->run, e, ts_flag_set(&c->flags, TS_F_DRY_RUN), &r->forecast);
    if (st) return st;
    count_written(r, &w, &h);
    r->peak = e->decode_bytes + ts_output_bytes(name_of_kind(r), (int)w, (int)h,
                                                r->sheeted && r->clips == 1 ? 1 : e->frames);
    if (r->sheeted && r->clips > 1)
        r->peak += ts_clip_grid_bytes(r->clips, e->frames, e->width, e->height);
    if (e->text_bytes > r->peak) r->peak = e->text_bytes;
    if (e->denoise_bytes > r->peak) r->peak = e->denoise_bytes;
    r->peak += r->forecast.program_bytes;
    return TS_OK;
}

const char *ts_render_size_text(const ts_render *r, char out[TS_SIZE_TEXT])
{
    long w, h;
    const ts_estimate *e = &r->e;
    int pictures = r->q.count, n = snprintf(out, TS_SIZE_TEXT, "%dx%d", e->width, e->height);
    count_written(r, &w, &h);
    if (w != e->width || h != e->height)
        n += snprintf(out + n, (size_t)(TS_SIZE_TEXT - n), ", written as %ldx%ld", w, h);
    if (pictures > 1)
        snprintf(out + n, (size_t)(TS_SIZE_TEXT - n), ", %d pictures", pictures);
    else if (e->frames == 1)
        snprintf(out + n, (size_t)(TS_SIZE_TEXT - n), ", 1 frame");
    else
        snprintf(out + n, (size_t)(TS_SIZE_TEXT - n), ", %d frames at %g a second", e->frames,
                 r->q.fps);
    return out;
}

const char *ts_render_seed_text(const ts_render *r, char out[TS_SEED_TEXT])
{
    cJSON *said = r->json ? cJSON_Parse(r->json) : NULL; /* it records what has an effect */
    bool seeded = cJSON_HasObjectItem(said, "seed");
    cJSON_Delete(said);
    *out = 0;
    if (seeded) snprintf(out, TS_SEED_TEXT, "seed %llu", (unsigned long long)r->q.seed);
    return out;
}

/* Which LoRAs the run has, a line each. */
static void say_loras(ts_cli *c, const ts_run *run)
{
    char *text = ts_run_loras(run), *rest = NULL;
    for (char *line = text ? strtok_r(text, "\n", &rest) : NULL; line;
         line = strtok_r(NULL, "\n", &rest))
        ts_screen_note(&c->screen, "%s", line);
    free(text);
}

void ts_render_start(ts_cli *c, const ts_render *r)
{
    long w, h;
    count_written(r, &w, &h);
    ts_screen_written(&c->screen, w, h);
    ts_screen_forecast(&c->screen, &r->forecast);
    ts_screen_start(&c->screen, &r->e, r->e.steps, r->path, r->json);
    say_loras(c, r->run);
}

/* Every file, as it can be opened; of a folder the folder alone. NULL: no memory. */
static char **list_files(const ts_render *r, int *n)
{
    const char *slash = strrchr(r->path, '/'), *base = slash ? slash + 1 : r->path,
               *percent = strchr(base, '%'), *d = percent ? strchr(percent, 'd') : NULL;
    bool several = d && ts_is_picture(r->path);
    int digits = several ? (int)strtol(percent + 1, NULL, 10) : 0;
    *n = 0;
    if (ts_is_standard(r->path)) return NULL; /* that is where names would go */
    char **list = calloc((size_t)(several ? r->e.frames : 1), sizeof *list);
    for (int i = 0; list && i < (several ? r->e.frames : 1); i++) {
        if (several ? asprintf(list + i, "%.*s%0*d%s", (int)(percent - r->path), r->path, digits, i,
                               d + 1) < 0
                    : !(list[i] = strdup(r->path)))
            break;
        (*n)++;
    }
    return list;
}

void ts_render_print_estimate(const ts_render *r)
{
    const ts_estimate *e = &r->e;
    char size[TS_SIZE_TEXT], seed[TS_SEED_TEXT], forecast[TS_FORECAST_TEXT], a[32], b[32], f[3][32],
        d[32], w[32], *model = ts_metadata_field(r->json, "model"),
                      *pipeline = ts_metadata_field(r->json, "pipeline");
    bool decodes = e->step_flops <= 0; /* nothing else is left to do */
    ts_table_row("model", "%s (%s)", model ? model : "", pipeline ? pipeline : "");
    ts_table_row("output", "%s", r->path);
    if (r->clips > 1)
        ts_table_row("clips", "%d, one after the other; cost and time are of each", r->clips);
    ts_table_row("size", "%s", ts_render_size_text(r, size));
    ts_table_row("latents", "%d channels, %d x %d x %d, %ld tokens", e->latent[0], e->latent[1],
                 e->latent[2], e->latent[3], e->tokens);
    if (decodes) {
        ts_table_row("memory", "decoding %s", ts_bytes_text((double)e->decode_bytes, d));
        ts_table_row("cost", "%s decoding", ts_flops_text(e->decode_flops, f[0]));
    } else {
        ts_table_row("text", "%d tokens, negative %d", e->text_tokens, e->negative_tokens);
        if (*ts_render_seed_text(r, seed))
            ts_table_row("seed", "%llu", (unsigned long long)r->q.seed);
        if (r->noise_path) ts_table_row("noise", "%s", r->noise_path);
        ts_table_row("denoising", "%d step%s, %d layers, %s, weights %s", e->steps,
                     e->steps == 1 ? "" : "s", e->layers, e->precision,
                     ts_bytes_text((double)e->weight_bytes, w));
        ts_table_row(
            "memory", "text %s, denoising %s, decoding %s", ts_bytes_text((double)e->text_bytes, a),
            ts_bytes_text((double)e->denoise_bytes, b), ts_bytes_text((double)e->decode_bytes, d));
        ts_table_row("cost", "%s a step, %s decoding, %s in all",
                     ts_flops_text(e->step_flops, f[0]), ts_flops_text(e->decode_flops, f[1]),
                     ts_flops_text(e->step_flops * e->steps + e->decode_flops, f[2]));
    }
    char *advice = ts_run_advice(r->run), *policy = advice ? strstr(advice, ": ") : NULL;
    if (policy) ts_table_row("attention", "%s", policy + 2);
    free(advice);
    if (r->forecast.allowed_bytes)
        ts_table_row("time", "%s", ts_forecast_text(&r->forecast, r->peak, forecast));
    if (e->tile_w) ts_table_row("VAE tile", "%dx%d", e->tile_w, e->tile_h);
    free(model);
    free(pipeline);
}

static void run_command_of_user(ts_cli *c, const ts_render *r, const ts_written *w)
{
    const char *command = ts_flag_text(&c->flags, TS_F_EXEC);
    char *all = NULL;
    size_t size;
    FILE *f = command ? open_memstream(&all, &size) : NULL;
    if (!f) return;
    for (int i = 0; i < w->n; i++) fprintf(f, "%s%s", i ? "\n" : "", w->paths[i]);
    fclose(f);
    if (all)
        ts_exec_run(&c->screen, command,
                    &(ts_exec){.output = all,
                               .prompt = r->q.prompt,
                               .seed = r->q.seed,
                               .seconds = c->screen.clock() - c->screen.began});
    free(all);
}

void ts_render_report(ts_cli *c, ts_render *r)
{
    ts_report report;
    char *profile = ts_flag_set(&c->flags, TS_F_PROFILE) ? ts_run_profile(r->run) : NULL,
         *attention = ts_run_attention(r->run), *cache = ts_run_cache(r->run);
    bool said = !ts_flag_set(&c->flags, TS_F_QUIET) || c->screen.mode == TS_SCREEN_JSON;
    ts_run_report(r->run, &report);
    if (profile) ts_screen_table(&c->screen, "profile", profile);
    if (attention && said) ts_screen_table(&c->screen, "attention", attention);
    if (cache && said) ts_screen_table(&c->screen, "cache", cache);
    free(cache);
    free(profile);
    free(attention);
    ts_written w = {.output = r->path, .frames = r->e.frames};
    w.paths = list_files(r, &w.n);
    for (int i = 0; i < w.n; i++) w.bytes += ts_side_bytes(w.paths[i]);
    ts_screen_done(&c->screen, &report, &w);
    for (int i = 0; i < w.n; i++) puts(w.paths[i]);
    run_command_of_user(c, r, &w);
    for (int i = 0; i < w.n; i++) free(w.paths[i]);
    free(w.paths);
}
