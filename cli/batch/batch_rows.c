/* Files -> jobs: every value of every row is checked by the table of flags before anything is
 * rendered, and all faults of all files are told with file and line. */
#include "cli/batch/batch.h"
#include "cli/open_model.h"

#include "backend/hash.h"
#include "backend/number.h"
#include "cli/preview_file.h"
#include "cli/prompt_text.h"
#include "cli/settings.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PNG, JPG, WEBP, MP4, WEBM, GIF, MKV, Y4M, FRAMES, KINDS };
static const struct {
    const char *format, *extension;
} kinds[] = {[PNG] = {"png", ".png"}, [JPG] = {"jpg", ".jpg"},    [WEBP] = {"webp", ".webp"},
             [MP4] = {"mp4", ".mp4"}, [WEBM] = {"webm", ".webm"}, [GIF] = {"gif", ".gif"},
             [MKV] = {"mkv", ".mkv"}, [Y4M] = {"y4m", ".y4m"},    [FRAMES] = {"frames", ""}};

typedef struct { /* of one row, until its jobs are made */
    ts_batch *b;
    ts_prompts *file;
    ts_prompt *row;
    ts_flags f;     /* the command's, overlaid */
    uint64_t *seed; /* NULL: none given */
    int seeds;
    const char *listed; /* the key that gave them */
} reading;

static void add_row_fault(reading *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void add_row_fault(reading *r, const char *format, ...)
{
    char text[1024];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    ts_prompt_file_fault(r->b->c->ctx, r->file, r->row, r->row->line, text);
}

/* ---- keys that are no flags ---- */
static void read_side(reading *r, const char *key, const char *value)
{
    uint64_t x;
    char whole[64];
    ts_flag_value *v = r->f.value + TS_F_SIZE;
    ts_drop_fraction(value, whole, sizeof whole);
    if (!ts_whole_read(whole, TS_SIDE_MAX, &x) || x < TS_SIDE_MIN) {
        add_row_fault(r, "%s: got \"%.100s\", expected a whole number from %d to %d", key, value,
                      TS_SIDE_MIN, TS_SIDE_MAX);
        return;
    }
    if (!v->set) { /* the other side is the model's */
        ts_request q;
        ts_request_init(r->b->c->model, &q);
        *v = (ts_flag_value){.set = true, .w = q.width, .h = q.height};
    }
    if (key[0] == 'w')
        v->w = (int)x;
    else
        v->h = (int)x;
}

/* "7" or "1,2,3" */
static void read_seeds(reading *r, const char *key, const char *value)
{
    int most = 1;
    if (r->seed) {
        add_row_fault(r, "seed and seeds are both given, expected one of them");
        return;
    }
    for (const char *s = value; *s; s++) most += *s == ',';
    r->seed = calloc((size_t)most, sizeof *r->seed);
    r->listed = key;
    if (!r->seed) add_row_fault(r, "%s: no memory for %d seeds", key, most);
    for (const char *s = value; r->seed;) {
        const char *end;
        while (*s == ' ') s++;
        bool read = ts_whole_prefix(s, r->seed + r->seeds, &end);
        if (read && *end == '.' && end[1] == '0') end += 1 + strspn(end + 1, "0");
        while (*end == ' ') end++;
        if (!read || (*end && *end != ',')) {
            const char *random =
                !strcmp(value, "random") || !strcmp(value, "-1")
                    ? ": the seeds of a batch are fixed, so that it can go on where it was stopped"
                    : "";
            add_row_fault(
                r,
                "%s: got \"%.100s\", expected a whole number from 0 to 18446744073709551615, or "
                "several between commas%s",
                key, value, random);
            return;
        }
        r->seeds++;
        if (!*end) return;
        s = end + 1;
    }
}

/* A column that has no meaning is told once, at the header; rows that have a value in it are not
 * rendered. */
static void refuse_column(reading *r, const char *key)
{
    char text[1024];
    ts_prompts *file = r->file;
    snprintf(text, sizeof text, "%s; a column _%s would be your own", r->f.error, key);
    r->row->faulty = 1;
    for (int i = 0; i < file->faults; i++)
        if (file->fault[i].line == file->header && !strcmp(file->fault[i].text, text)) return;
    ts_prompt_file_fault(r->b->c->ctx, file, NULL, file->header, text);
}

static void refuse_row_key(reading *r, const char *key)
{
    if (strncmp(r->f.error, "unknown key", 11) != 0)
        add_row_fault(r, "%s", r->f.error);
    else if (r->file->header)
        refuse_column(r, key);
    else
        add_row_fault(r, "%s; _%s would be your own", r->f.error, key);
}

static void read_row_keys(reading *r)
{
    bool size = false, sides = false;
    for (int i = 0; i < r->row->fields; i++) {
        const ts_setting *s = r->row->field + i;
        bool is_side = !strcmp(s->key, "width") || !strcmp(s->key, "height");
        size = size || !strcmp(s->key, "size");
        sides = sides || is_side;
        if (is_side)
            read_side(r, s->key, s->value);
        else if (!strcmp(s->key, "seed") || !strcmp(s->key, "seeds"))
            read_seeds(r, s->key, s->value);
        else if (s->number && (!strcmp(s->key, "negative") || !strcmp(s->key, "output")))
            add_row_fault(r, "%s: got the number %.64s, expected a text", s->key, s->value);
        else if (ts_flags_key(&r->f, s->key, s->value))
            refuse_row_key(r, s->key);
    }
    if (size && sides)
        add_row_fault(r, "size and width or height are both given, expected one of them");
    if (r->seeds > 1 && r->f.value[TS_F_COPIES].set && r->f.value[TS_F_COPIES].whole > 1)
        add_row_fault(r,
                      "%s names %d seeds and count asks for %ld renderings, expected one of them",
                      r->listed, r->seeds, r->f.value[TS_F_COPIES].whole);
}

/* ---- kind and size of what is written ---- */
/* Kinds of pictures and clips that other programs write: such a name is not one without an
 * extension. */
static bool is_foreign_kind(const char *output)
{
    static const char *const foreign[] = {".3gp",  ".apng", ".avi", ".avif", ".bmp", ".flv",
                                          ".gifv", ".heic", ".jxl", ".m4v",  ".mov", ".mpeg",
                                          ".mpg",  ".mxf",  ".ogv", ".svg",  ".tga", ".tif",
                                          ".tiff", ".ts",   ".wmv", ".yuv"};
    const char *dot = strrchr(output, '.');
    for (size_t i = 0; dot && i < sizeof foreign / sizeof *foreign; i++)
        if (!strcasecmp(dot, foreign[i])) return true;
    return false;
}

static bool is_jpeg(const char *output)
{
    size_t n = output ? strlen(output) : 0, m = strlen(".jpeg");
    return n > m && !strcasecmp(output + n - m, ".jpeg");
}

/* -1: by the number of frames. */
static int choose_kind(reading *r)
{
    const char *format = r->f.value[TS_F_FORMAT].text,
               *output = r->f.value[TS_F_OUTPUT].set ? r->f.value[TS_F_OUTPUT].text : NULL;
    int by_format = -1, by_name = -1;
    for (int k = 0; k < KINDS; k++)
        if (format && !strcmp(format, kinds[k].format)) by_format = k;
    if (!output) return by_format;
    size_t n = strlen(output);
    if (strchr(output, '%'))
        add_row_fault(
            r,
            "output: got \"%.100s\", expected a name without %%: format frames makes a folder of "
            "numbered pictures",
            output);
    for (int k = 0; k < FRAMES; k++) {
        size_t m = strlen(kinds[k].extension);
        if (n > m && !strcasecmp(output + n - m, kinds[k].extension)) by_name = k;
    }
    if (is_jpeg(output)) by_name = JPG;
    if (output[n - 1] == '/') by_name = FRAMES;
    if (is_foreign_kind(output))
        add_row_fault(
            r,
            "output: %.100s: unknown kind of output, expected a name that ends in .png, .jpg, "
            ".webp, .mp4, .webm, .gif, .mkv or .y4m, or a folder (ends in /)",
            output);
    bool own = false; /* the row's format, not the command's */
    for (int i = 0; i < r->row->fields; i++) own = own || !strcmp(r->row->field[i].key, "format");
    if (by_name >= 0 && own && by_format != by_name)
        add_row_fault(r, "output %.100s does not go with format %s, expected a name that does",
                      output, format);
    return by_name >= 0 ? by_name : by_format;
}

/* The hash of a picture's bytes: a row is known again by what is in it. full: its path, malloc'd.
 */
static void hash_picture(reading *r, const char *key, const char *name, char **full, uint64_t *hash)
{
    uint8_t bytes[1 << 14];
    size_t n;
    struct stat s;
    bool there = (*full = realpath(name, NULL)) && stat(*full, &s) == 0;
    FILE *f = there && S_ISREG(s.st_mode) ? fopen(*full, "rbe") : NULL;
    *hash = TS_HASH;
    while (f && (n = fread(bytes, 1, sizeof bytes, f)) > 0) *hash = ts_hash(*hash, bytes, n);
    if (!strcmp(name, "-"))
        add_row_fault(r, "%s: - is standard input, which generate alone reads: expected a file",
                      key);
    else if (there && !S_ISREG(s.st_mode))
        add_row_fault(r, "%s: %.200s is not a file", key, name);
    else if (!f || ferror(f))
        add_row_fault(r, "%s: %.200s: %s", key, name, strerror(errno));
    if (f) fclose(f);
}

/* The picture to begin with. */
static void read_init(reading *r, ts_job *j)
{
    const ts_flag_value *v = r->f.value;
    bool own = false;
    for (int i = 0; i < r->row->fields; i++) own = own || !strcmp(r->row->field[i].key, "strength");
    if (!v[TS_F_INIT].set && own)
        add_row_fault(r, "strength: there is no picture to begin with, expected init, too");
    if (!v[TS_F_INIT].set) return;
    hash_picture(r, "init", v[TS_F_INIT].text, &j->init, &j->picture);
    j->q.init = j->init;
    j->q.strength = v[TS_F_STRENGTH].set ? v[TS_F_STRENGTH].real : TS_STRENGTH_DEFAULT;
}

static void read_row_images(reading *r, ts_job *j)
{
    ts_cli *c = r->b->c;
    char *full = NULL;
    for (int i = 0; i < TS_CLI_IMAGES; i++) {
        ts_flag_id id = ts_cli_image_flag(i);
        if (!r->f.value[id].set) continue;
        hash_picture(r, ts_flag_name(id), r->f.value[id].text, &full, &j->image_hash[i]);
        free(full);
        full = NULL;
    }
    if (r->row->faulty) return;
    *c->err.text = 0;
    if (ts_cli_set_images(c, r->f.value, NULL, &j->q, j->image))
        add_row_fault(r, "%.400s", *c->err.text ? c->err.text : ts_error(c->ctx));
    *c->err.text = 0;
}

static void read_row_loras(reading *r, ts_job *j)
{
    ts_cli *c = r->b->c;
    *c->err.text = 0;
    if (ts_cli_set_loras(c, r->f.value, NULL, &j->q))
        add_row_fault(r, "%.400s", c->err.text + strspn(c->err.text, "-"));
    *c->err.text = 0;
}

static bool same_names(const char *a, const char *b) { return a == b || (a && b && !strcmp(a, b)); }

/* Rows that follow each other name the same files, as a rule, which may be large: those of the row
 * before are not read again. */
static void read_files(reading *r, ts_job *j)
{
    ts_batch *b = r->b;
    const ts_job *last = b->jobs ? b->job + b->jobs - 1 : NULL;
    if (last && last->files && same_names(last->q.attention, j->q.attention) &&
        same_names(last->q.loras, j->q.loras))
        j->files = last->files;
    else if (ts_request_files(b->c->model, &j->q, &j->files))
        add_row_fault(r, "%.400s", ts_error(b->c->ctx));
}

/* The batch's own was looked at before. */
static void read_preview(reading *r, ts_job *j)
{
    ts_cli *c = r->b->c;
    j->preview = r->f.value[TS_F_PREVIEW].text;
    if (!j->preview || j->preview == ts_flag_text(&c->flags, TS_F_PREVIEW)) return;
    *c->err.text = 0;
    if (ts_previews_check(c, j->preview))
        add_row_fault(r, "%.400s", *c->err.text ? c->err.text : ts_error(c->ctx));
    *c->err.text = 0;
}

static bool fill_request(reading *r, ts_job *j)
{
    const ts_flag_value *v = r->f.value;
    int kind = choose_kind(r);
    ts_request_init(r->b->c->model, &j->q);
    ts_settings_apply(v, &j->q);
    j->q.prompt = r->row->prompt;
    read_init(r, j);
    read_row_loras(r, j);
    if (!r->row->faulty) read_files(r, j);
    read_row_images(r, j);
    read_preview(r, j);
    bool picture = kind == PNG || kind == JPG || kind == WEBP;
    if (picture && !v[TS_F_FRAMES].set) j->q.frames = 1;
    if ((kind == PNG || kind == JPG) && j->q.frames > 1)
        add_row_fault(r,
                      "%d frames do not fit one picture, expected format frames, mp4, webm, gif, "
                      "webp, mkv or y4m",
                      j->q.frames);
    if (kind < 0) kind = j->q.frames == 1 ? PNG : MP4;
    if (kind == FRAMES && !v[TS_F_SCALE].set) j->q.scale = 1;
    int crf = v[TS_F_CRF].set ? (int)v[TS_F_CRF].whole : -1;
    if ((kind == MP4 || kind == MKV) && crf > 51)
        add_row_fault(r, "crf: got \"%d\", expected a whole number from 0 to 51 for %s", crf,
                      kinds[kind].format);
    j->crf = kind == MP4 || kind == WEBM || kind == MKV ? crf : -1;
    j->quality = (kind == JPG || kind == WEBP) && v[TS_F_QUALITY].set ? (int)v[TS_F_QUALITY].whole
                                                                      : 0;
    j->folder = kind == FRAMES;
    j->extension = kinds[kind].extension;
    j->output = v[TS_F_OUTPUT].set ? v[TS_F_OUTPUT].text : NULL;
    if (is_jpeg(j->output)) j->extension = ".jpeg";
    return !r->row->faulty;
}

/* ---- jobs ---- */
static ts_job *add_job(ts_batch *b)
{
    if (!(b->jobs & (b->jobs - 1))) {
        ts_job *more = realloc(b->job, sizeof *more * (b->jobs ? 2 * (size_t)b->jobs : 1));
        if (!more) return NULL;
        b->job = more;
    }
    b->job[b->jobs] = (ts_job){0};
    return b->job + b->jobs++;
}

static char *copy_path(const char *path) { return path ? strdup(path) : NULL; }

static ts_status add_row(ts_batch *b, ts_prompts *file, ts_prompt *p)
{
    ts_status st = TS_OK;
    reading r = {.b = b, .file = file, .row = p};
    ts_job j = {.file = file->name, .row = p, .copy = 1, .crf = -1, .extension = ""};
    memcpy(r.f.value, b->c->flags.value, sizeof r.f.value);
    r.f.value[TS_F_OUTPUT] = (ts_flag_value){0};
    if (!p->faulty || p->prompt) read_row_keys(&r);
    bool good = p->prompt && fill_request(&r, &j);
    if (good) ts_prompt_warn(&b->c->screen, p->prompt);
    if (good && r.f.value[TS_F_NEGATIVE].set) ts_settings_warn(&b->c->screen, &j.q);
    int copies = !good                        ? 1
                 : r.seeds > 1                ? r.seeds
                 : r.f.value[TS_F_COPIES].set ? (int)r.f.value[TS_F_COPIES].whole
                                              : 1;
    uint64_t base = b->c->flags.value[TS_F_SEED].set ? b->c->flags.value[TS_F_SEED].wide : 42;
    for (int i = 0; i < copies; i++) {
        ts_job *to = add_job(b);
        if (!to) TRY(ts_fail(&b->c->err, TS_EMEMORY, "no memory for %d rows", b->jobs));
        *to = j;
        to->init = copy_path(j.init);
        for (int k = 0; k < TS_CLI_IMAGES; k++) to->image[k] = copy_path(j.image[k]);
        to->q.init = to->init;
        to->q.image = to->image[0];
        to->q.last_image = to->image[1];
        if (!to->init != !j.init || !to->image[0] != !j.image[0] || !to->image[1] != !j.image[1])
            TRY(ts_fail(&b->c->err, TS_EMEMORY, "no memory for %d rows", b->jobs));
        to->copy = i + 1;
        to->copies = copies;
        to->seeded = r.seeds > 0;
        to->q.seed = r.seeds > 1 ? r.seed[i] : (r.seeds ? *r.seed : base) + (uint64_t)i;
        to->earlier_seed = to->q.seed + (uint64_t)(to->seeded ? 0 : p->index);
        to->state = good ? TS_JOB_TODO : TS_JOB_FAULTY;
    }
done:
    free(j.init);
    for (int i = 0; i < TS_CLI_IMAGES; i++) free(j.image[i]);
    free(r.seed);
    return st;
}

/* The sentence of a faulty row, for the report: its first. */
static void keep_first_fault(ts_batch *b, const ts_prompts *file)
{
    for (int i = 0; i < b->jobs; i++) {
        ts_job *j = b->job + i;
        if (j->state != TS_JOB_FAULTY || j->error || j->file != file->name) continue;
        for (int k = 0; k < file->faults && !j->error; k++)
            if (file->fault[k].line == j->row->line || file->fault[k].line == file->header)
                j->error = strdup(file->fault[k].text);
    }
}

ts_status ts_batch_read(ts_batch *b)
{
    ts_status st = TS_OK;
    ts_cli *c = b->c;
    bool standard = false;
    int n = c->flags.words, good = 0;
    assert(n > 0);
    b->file = calloc((size_t)n, sizeof *b->file);
    if (!b->file) TRY(ts_fail(&c->err, TS_EMEMORY, "no memory for %d files", n));
    for (int i = 0; i < n; i++) {
        if (!strcmp(c->flags.word[i], "-") && standard)
            TRY(ts_fail(&c->err, TS_EUSAGE, "batch: - is standard input, and can be read once"));
        standard = standard || !strcmp(c->flags.word[i], "-");
        st = ts_prompt_file_read(c->ctx, c->flags.word[i], &b->file[i]);
        if (st == TS_EMODEL && strchr(c->flags.word[i], ' ') && access(c->flags.word[i], F_OK))
            TRY(ts_fail(&c->err, TS_EMODEL,
                        "batch: no file \"%.64s\": batch reads files of prompts, a prompt "
                        "itself goes to generate",
                        c->flags.word[i]));
        TRY(st);
        ts_prompts *file = b->file[b->files++];
        for (int k = 0; k < file->rows; k++) TRY(add_row(b, file, file->row + k));
        for (int k = 0; k < file->faults; k++)
            ts_screen_fault(&c->screen, file->name, file->fault[k].line, file->fault[k].text);
        b->faults += file->faults;
        keep_first_fault(b, file);
    }
    bool begins = false, previews = false;
    for (int i = 0; i < b->jobs; i++) {
        good += b->job[i].state != TS_JOB_FAULTY;
        begins = begins || b->job[i].init;
        previews = previews || b->job[i].preview;
    }
    if (ts_flag_set(&c->flags, TS_F_STRENGTH) && !begins && good)
        TRY(ts_fail(&c->err, TS_EUSAGE,
                    "--strength: no row has a picture to begin with, --init or init of a row gives "
                    "it"));
    if (good && !previews) TRY(ts_previews_check(c, NULL));
    if (!good)
        TRY(ts_fail(&c->err, TS_EMODEL, "%s%s: no row that can be rendered", b->file[0]->name,
                    n > 1 ? " and the other files" : ""));
done:
    return st;
}

void ts_batch_free_jobs(ts_batch *b)
{
    for (int i = 0; i < b->jobs; i++) {
        free(b->job[i].name);
        free(b->job[i].init);
        for (int k = 0; k < TS_CLI_IMAGES; k++) free(b->job[i].image[k]);
        free(b->job[i].error);
    }
    for (int i = 0; i < b->files; i++) ts_prompt_file_free(b->file[i]);
    for (int i = 0; i < b->geometries; i++) free(b->geometry[i].error);
    free(b->job);
    free(b->file);
    free(b->geometry);
    free(b->order);
}
