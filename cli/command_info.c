/* The commands info and tokens: what files, models and texts are made of, as tables or JSON on
 * stdout. */
#include "backend/number.h"
#include "cli/info.h"
#include "cli/open_model.h"
#include "cli/table.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const cJSON *get_field(const cJSON *j, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(j, name);
}

static const char *get_text(const cJSON *j, const char *name)
{
    const char *s = cJSON_GetStringValue(get_field(j, name));
    return s ? s : "";
}

static double get_number(const cJSON *j, const char *name)
{
    const cJSON *v = get_field(j, name);
    return cJSON_IsNumber(v) ? v->valuedouble : 0;
}

/* ---- models ---- */
static void print_component(const cJSON *part)
{
    char size[32], types[96] = "";
    const cJSON *t;
    size_t n = 0;
    cJSON_ArrayForEach(t, get_field(part, "bytes_by_type")) if (n < sizeof types)
        n += (size_t)snprintf(types + n, sizeof types - n, "%s%s", n ? "+" : "", t->string);
    bool weights = get_field(part, "parameters") != NULL;
    printf("%-16s %-*s", get_text(part, "name"), weights ? 34 : 0, get_text(part, "class"));
    if (weights)
        printf(" %14.0f  %-8s %9s", get_number(part, "parameters"), types,
               ts_bytes_text(get_number(part, "bytes"), size));
    putchar('\n');
}

static void print_defaults(const cJSON *d)
{
    char shift[32] = "", frames[64] = "";
    if (get_field(d, "shift")) snprintf(shift, sizeof shift, ", shift %g", get_number(d, "shift"));
    if (get_number(d, "frames") != 1)
        snprintf(frames, sizeof frames, " %.0f frames at %g a second,", get_number(d, "frames"),
                 get_number(d, "fps"));
    ts_table_row("defaults", "%.0fx%.0f,%s %.0f steps of %s%s", get_number(d, "width"),
                 get_number(d, "height"), frames, get_number(d, "steps"), get_text(d, "sampler"),
                 shift);
    if (get_field(d, "guidance_2"))
        ts_table_row("guidance", "%g, second expert %g", get_number(d, "guidance"),
                     get_number(d, "guidance_2"));
    else
        ts_table_row("guidance", "%g", get_number(d, "guidance"));
    if (*get_text(d, "negative")) ts_table_row("negative", "%s", get_text(d, "negative"));
}

/* How many images a clip is made of. */
static void print_images(const cJSON *images)
{
    int least = (int)get_number(images, "least"), most = (int)get_number(images, "most");
    if (!images) return;
    ts_table_row("images", "%s",
                 least == 2   ? "a first and a last one"
                 : most == 2  ? "a first one, and a last one if wanted"
                 : least == 1 ? "a first one"
                              : "a first one if wanted");
}

static void print_model(const cJSON *j, const ts_estimate *e, const char *refused)
{
    const cJSON *part, *t = get_field(j, "transformer"), *v = get_field(j, "vae");
    char a[32], b[32], d[32];
    ts_table_row("model", "%s", get_text(j, "model"));
    if (*get_text(j, "folder")) ts_table_row("folder", "%s", get_text(j, "folder"));
    ts_table_row("pipeline", "%s", get_text(j, "pipeline"));
    if (t)
        ts_table_row("transformer", "%.0f layers, %.0f heads of %.0f", get_number(t, "layers"),
                     get_number(t, "heads"), get_number(t, "head_dim"));
    if (v)
        ts_table_row("VAE", "%.0f channels, %.0fx%.0f pixels and %.0f frames to a latent",
                     get_number(v, "channels"), get_number(v, "stride"), get_number(v, "stride"),
                     get_number(v, "time_stride"));
    print_images(get_field(j, "images"));
    if (get_field(j, "defaults")) print_defaults(get_field(j, "defaults"));
    if (refused)
        ts_table_row("memory", "%s", refused);
    else
        ts_table_row("memory", "text %s, denoising %s, decoding %s (by the defaults, %s)",
                     ts_bytes_text((double)e->text_bytes, a),
                     ts_bytes_text((double)e->denoise_bytes, b),
                     ts_bytes_text((double)e->decode_bytes, d), e->precision);
    printf("\n%-16s %-34s %14s  %-8s %9s\n", "component", "class", "parameters", "types", "size");
    cJSON_ArrayForEach(part, get_field(j, "components")) { print_component(part); }
}

static void add_estimate(cJSON *j, const ts_estimate *e, const char *refused)
{
    cJSON *o = cJSON_AddObjectToObject(j, "estimate");
    if (refused) {
        cJSON_AddStringToObject(o, "error", refused);
        return;
    }
    cJSON_AddNumberToObject(o, "text_bytes", (double)e->text_bytes);
    cJSON_AddNumberToObject(o, "denoise_bytes", (double)e->denoise_bytes);
    cJSON_AddNumberToObject(o, "decode_bytes", (double)e->decode_bytes);
    cJSON_AddNumberToObject(o, "tokens", (double)e->tokens);
    cJSON_AddNumberToObject(o, "step_flops", e->step_flops);
    cJSON_AddNumberToObject(o, "decode_flops", e->decode_flops);
    cJSON_AddStringToObject(o, "precision", e->precision);
}

static ts_status show_model(ts_cli *c, const char *name)
{
    ts_status st = TS_OK;
    char *json = NULL, *refused = NULL, *text = NULL;
    cJSON *j = NULL;
    ts_run *run = NULL;
    ts_request q;
    ts_estimate e = {0};
    TRY(ts_model_open(c->ctx, name, &c->model));
    TRY(ts_model_json(c->model, &json));
    j = cJSON_Parse(json);
    if (!j) TRY(ts_fail(&c->err, TS_EMEMORY, "no memory for the model's description"));
    ts_request_init(c->model, &q);
    ts_cli_any_images(c->model, &q);
    st = ts_run_open(c->model, &q, &run, &e);
    /* worth knowing, no failure */
    if (st == TS_EMEMORY) {
        refused = strdup(ts_error(c->ctx));
        st = TS_OK;
    }
    TRY(st);
    if (ts_flag_set(&c->flags, TS_F_JSON)) {
        add_estimate(j, &e, refused);
        text = cJSON_PrintUnformatted(j);
        puts(text ? text : "");
    } else {
        print_model(j, &e, refused);
    }
done:
    ts_run_close(run);
    cJSON_Delete(j);
    free(json);
    free(refused);
    free(text);
    return st;
}

/* ORG/NAME: one slash between two names. */
static bool may_be_name(const char *s)
{
    const char *slash = strchr(s, '/');
    return slash && slash > s && slash[1] && !strchr(slash + 1, '/') && s[0] != '.';
}

/* Of one argument; NULL: the default model. */
static ts_status show_one(ts_cli *c, const char *what)
{
    struct stat s;
    bool there = what && stat(what, &s) == 0;
    if (what && !there && !may_be_name(what) && strcmp(what, "default") != 0)
        return ts_fail(&c->err, TS_EMODEL, "%s: %s", what, strerror(errno));
    if (there && !S_ISDIR(s.st_mode)) return ts_info_file(c, what);
    ts_folder_kind kind = there ? ts_info_folder_kind(what) : TS_FOLDER_MODEL;
    if (kind != TS_FOLDER_MODEL) return ts_info_folder(c, what, kind);
    ts_status st = show_model(c, what);
    ts_model_close(c->model);
    c->model = NULL;
    return st;
}

ts_status ts_cli_info(ts_cli *c)
{
    ts_status st = TS_OK;
    int n = c->flags.words, failed = 0;
    if (n > TS_WORDS)
        return ts_fail(&c->err, TS_EUSAGE, "info: %d arguments, expected at most %d", n, TS_WORDS);
    TRY(ts_cli_open(c));
    if (n < 2) return show_one(c, n ? c->flags.word[0] : NULL);
    for (int i = 0; i < n; i++) {
        if (i > failed && !ts_flag_set(&c->flags, TS_F_JSON)) putchar('\n');
        ts_status one = show_one(c, c->flags.word[i]);
        if (!one) continue;
        /* the others are told all the same */
        ts_screen_warn(&c->screen, *c->err.text ? c->err.text : ts_error(c->ctx));
        c->err = (ts_err){0};
        st = one;
        failed++;
    }
    if (failed) ts_fail(&c->err, st, "info: %d of %d arguments can not be told", failed, n);
done:
    return st;
}

/* ---- texts ---- */
ts_status ts_cli_tokens(ts_cli *c)
{
    ts_status st = TS_OK;
    char *json = NULL;
    cJSON *j = NULL;
    const cJSON *t;
    int i = 0;
    TRY(ts_cli_open(c));
    TRY(ts_cli_open_model(c, NULL, NULL));
    TRY(ts_tokens(c->model, c->flags.word[0], &json));
    if (ts_flag_set(&c->flags, TS_F_JSON)) {
        puts(json);
        goto done;
    }
    j = cJSON_Parse(json);
    printf("%5s %8s  %s\n", "index", "id", "piece");
    cJSON_ArrayForEach(t, get_field(j, "tokens"))
    {
        printf("%5d %8.0f  %s\n", i++, get_number(t, "id"), get_text(t, "piece"));
    }
    if (cJSON_IsTrue(get_field(j, "truncated")))
        ts_screen_warn(&c->screen, "the text is longer than the model reads: the rest is ignored");
done:
    cJSON_Delete(j);
    free(json);
    return st;
}
