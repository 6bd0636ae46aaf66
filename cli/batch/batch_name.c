/* Names of outputs: a template with fields in braces, the same for a row whoever renders it. No
 * field says anything about time, machine or process. */
#include "cli/batch/batch.h"

#include "backend/hash.h"
#include "backend/number.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* of one name between slashes, the longest that fit beside what a temporary name adds: file systems
 * allow 255 */
enum { NAME_BYTES = 200 };

typedef struct {
    char *s;
    size_t n;
} text;

static void append_bytes(text *t, const char *s, size_t n)
{
    char *more = realloc(t->s, t->n + n + 1);
    if (!more) return; /* a name that is too short collides, or is empty: both are refused */
    t->s = more;
    memcpy(t->s + t->n, s, n);
    t->s[t->n += n] = 0;
}

/* Letters, marks and digits of any script, small; everything between them is one hyphen; at most
 * `most` characters. */
static void put_slug(text *t, const char *s, int most)
{
    int32_t c;
    bool gap = false;
    size_t began = t->n;
    for (utf8proc_ssize_t n; *s && most > 0; s += n) {
        n = utf8proc_iterate((const utf8proc_uint8_t *)s, -1, &c);
        if (n <= 0) {
            n = 1;
            continue;
        }
        utf8proc_category_t kind = utf8proc_category(c);
        bool keep = kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_NO;
        if (!keep) {
            gap = t->n > began;
            continue;
        }
        utf8proc_uint8_t b[4];
        utf8proc_ssize_t size = utf8proc_encode_char(utf8proc_tolower(c), b);
        if (t->n - began + (size_t)size + 1 > 150) break;
        if (gap && most > 1) {
            append_bytes(t, "-", 1);
            most--;
        }
        append_bytes(t, (const char *)b, (size_t)size);
        most--;
        gap = false;
    }
    if (t->n == began) append_bytes(t, "prompt", 6);
}

/* The prompt itself, without what a file name can not have. */
static void put_prompt(text *t, const char *s, int most)
{
    int32_t c;
    size_t began = t->n;
    for (utf8proc_ssize_t n; *s && most > 0; s += n, most--) {
        n = utf8proc_iterate((const utf8proc_uint8_t *)s, -1, &c);
        if (n <= 0) {
            n = 1;
            c = '_';
        }
        if (t->n - began + (size_t)n > 150) break;
        bool bad = c < 32 || c == 127 || strchr("/\\:*?\"<>|", (int)(c < 128 ? c : 'x')) ||
                   (c == '.' && t->n == began);
        if (bad)
            append_bytes(t, "_", 1);
        else
            append_bytes(t, s, (size_t)n);
    }
}

static void put_stem(text *t, const char *path, int most)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path,
               *dot = strrchr(base, '.');
    char stem[256];
    snprintf(stem, sizeof stem, "%.*s", dot && dot > base ? (int)(dot - base) : (int)strlen(base),
             base);
    put_slug(t, stem, most);
}

static void put_number(text *t, unsigned long long x, int width)
{
    char s[64];
    int n = snprintf(s, sizeof s, "%0*llu", width, x);
    append_bytes(t, s, (size_t)n);
}

typedef enum {
    INDEX,
    COPY,
    SEED,
    LINE,
    WIDTH,
    HEIGHT,
    FRAMES,
    STEPS,
    SLUG,
    PROMPT,
    FILE_STEM,
    ID
} field;
static const struct {
    const char *name;
    field which;
} fields[] = {{"index", INDEX}, {"n", COPY},        {"seed", SEED},      {"line", LINE},
              {"width", WIDTH}, {"height", HEIGHT}, {"frames", FRAMES},  {"steps", STEPS},
              {"slug", SLUG},   {"prompt", PROMPT}, {"file", FILE_STEM}, {"hash", ID}};
#define FIELDS                                                                                  \
    "{index} {n} {seed} {line} {width} {height} {frames} {steps} with digits like {index:04}, " \
    "{slug} {prompt} {file} {hash} with a length like {slug:60}"

static void put_field(text *t, field f, int size, const ts_job *j)
{
    const unsigned long long number[] = {[INDEX] = (unsigned long long)j->row->index,
                                         [COPY] = (unsigned long long)j->copy,
                                         [SEED] = j->q.seed,
                                         [LINE] = (unsigned long long)j->row->line,
                                         [WIDTH] = (unsigned long long)j->q.width,
                                         [HEIGHT] = (unsigned long long)j->q.height,
                                         [FRAMES] = (unsigned long long)j->q.frames,
                                         [STEPS] = (unsigned long long)j->q.steps};
    int most = size > 0 ? size : INT_MAX;
    if (f < SLUG)
        put_number(t, number[f], size);
    else if (f == SLUG)
        put_slug(t, j->q.prompt, most);
    else if (f == PROMPT)
        put_prompt(t, j->q.prompt, most);
    else if (f == FILE_STEM)
        put_stem(t, j->file, most);
    else
        append_bytes(t, j->id, most < TS_ID ? (size_t)most : TS_ID);
}

/* Appends the template's next piece and returns what is behind it; NULL: it is no template. job
 * NULL: only checks. */
static const char *put_piece(text *t, const char *s, const ts_job *job)
{
    if ((s[0] == '{' || s[0] == '}') && s[1] == s[0]) return append_bytes(t, s, 1), s + 2;
    if (s[0] == '}') return NULL;
    if (s[0] != '{') {
        size_t n = strcspn(s, "{}");
        return append_bytes(t, s, n), s + n;
    }
    size_t n = strcspn(++s, ":}");
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (strlen(fields[i].name) != n || strncmp(fields[i].name, s, n)) continue;
        const char *end = s + n;
        uint64_t size = 0;
        if (*end == ':' && !ts_whole_prefix(end + 1, &size, &end)) return NULL;
        if (*end != '}' || size > (fields[i].which < SLUG ? 20 : 1000)) return NULL;
        if (job) put_field(t, fields[i].which, (int)size, job);
        return end + 1;
    }
    return NULL;
}

ts_status ts_batch_template(ts_err *err, const char *template)
{
    text t = {0};
    const char *at = template;
    while (at && *at) at = put_piece(&t, at, NULL);
    free(t.s);
    if (!at)
        return ts_fail(err, TS_EUSAGE,
                       "--name: got \"%.200s\", wanted a name with fields in braces: " FIELDS,
                       template);
    size_t n = strlen(template);
    if (!n || template[0] == '/' || template[n - 1] == '/')
        return ts_fail(err, TS_EUSAGE,
                       "--name: got \"%.200s\", wanted a name below the folder of --out", template);
    return TS_OK;
}

/* ---- what a name must be ---- */
/* Why a name below the folder is none; NULL: it is one. */
static const char *fault_of(const char *name)
{
    if (!*name) return "is empty";
    if (name[0] == '/') return "begins with a slash";
    for (const char *s = name; *s;) {
        size_t n = strcspn(s, "/");
        if (!n) return "has an empty part";
        if (n <= 2 && !strncmp(s, "..", n)) return "has a part that is . or ..";
        if (n > NAME_BYTES) return "is too long: a part of a name has at most 200 bytes";
        s += n + (s[n] == '/');
        if (s[-1] == '/' && !*s) return "ends with a slash";
    }
    if (!strncmp(name, "tessera-batch", 13) || !strncmp(name, ".tessera-batch", 14))
        return "is one of the batch's own";
    return NULL;
}

static char *make_name(const ts_job *j, const char *template)
{
    text t = {0};
    size_t m = strlen(j->extension);
    if (j->output) {
        size_t n = strlen(j->output);
        if (n && j->output[n - 1] == '/') n--; /* of a folder */
        if (n > m && !strncasecmp(j->output + n - m, j->extension, m)) n -= m;
        append_bytes(&t, j->output, n);
        if (j->copies > 1) {
            append_bytes(&t, "-", 1);
            put_number(&t, (unsigned long long)j->copy, 0);
        }
        append_bytes(&t, j->output + n, n + m <= strlen(j->output) ? m : 0);
    } else {
        for (const char *at = template; at && *at;) at = put_piece(&t, at, j);
    }
    size_t n = t.s ? strlen(t.s) : 0;
    if (!(n > m && !strcasecmp(t.s + n - m, j->extension))) append_bytes(&t, j->extension, m);
    return t.s;
}

/* ---- ids ---- */
/* Of everything that decides about content and name; test_batch_id.c asks it of every flag of the
 * table. */
static void set_id(const ts_batch *b, ts_job *j, const char *name)
{
    char numbers[256];
    const ts_request *q = &j->q;
    const char *precision = ts_flag_text(&b->c->flags, TS_F_PRECISION);
    snprintf(numbers, sizeof numbers, "%dx%d %d %.17g %d %.17g %.17g %.17g %llu %d %d %d %d",
             q->width, q->height, q->frames, q->fps, q->steps, q->guidance, q->guidance_2, q->shift,
             (unsigned long long)q->seed, q->no_bins, q->scale, j->crf,
             ts_flag_set(&b->c->flags, TS_F_NO_METADATA));
    const char *const texts[] = {b->model_text,
                                 q->prompt,
                                 q->negative,
                                 numbers,
                                 q->sampler ? q->sampler : "",
                                 q->attention,
                                 q->vae_tile,
                                 precision ? precision : "auto",
                                 name};
    uint64_t h = TS_HASH;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) h = ts_hash_text(h, texts[i]);
    /* rows without it keep the ids that they had before it was there */
    if (strcmp(q->cache_steps, "none")) h = ts_hash_text(h, q->cache_steps);
    if (j->quality) {
        snprintf(numbers, sizeof numbers, "quality %d", j->quality);
        h = ts_hash_text(h, numbers);
    }
    if (strcmp(q->timesteps, "default")) h = ts_hash_text(h, q->timesteps);
    if (q->dynamic_guidance) h = ts_hash_text(h, "dynamic guidance");
    if (q->loras) h = ts_hash_text(h, q->loras);
    if (j->files) h = ts_hash(h, &j->files, sizeof j->files);
    if (j->init) {
        snprintf(numbers, sizeof numbers, "%016llx %.17g", (unsigned long long)j->picture,
                 q->strength);
        h = ts_hash_text(h, numbers);
    }
    for (int i = 0; i < TS_CLI_IMAGES; i++) {
        if (!j->image[i]) continue;
        snprintf(numbers, sizeof numbers, "image %d %016llx", i,
                 (unsigned long long)j->image_hash[i]);
        h = ts_hash_text(h, numbers);
    }
    snprintf(j->id, sizeof j->id, "%016llx", (unsigned long long)h);
}

/* ---- what follows from the row alone ---- */
static int order_by_id(const void *a, const void *b)
{
    const ts_job *x = *(const ts_job *const *)a, *y = *(const ts_job *const *)b;
    int d = strcmp(x->id, y->id);
    return d ? d : x < y ? -1 : x > y;
}

static int order_by_name_and_id(const void *a, const void *b)
{
    const ts_job *x = *(const ts_job *const *)a, *y = *(const ts_job *const *)b;
    int d = strcmp(x->name, y->name);
    return d ? d : order_by_id(a, b);
}

/* Rows without a seed that ask for the same: each goes on from the seeds of the one before it. */
static void spread_seeds(ts_batch *b, ts_job **list)
{
    int n = 0;
    for (int i = 0; i < b->jobs; i++) {
        ts_job *j = b->job + i;
        if (j->state == TS_JOB_FAULTY || j->seeded || j->copy > 1) continue;
        set_id(b, j, j->output ? j->output : j->extension);
        list[n++] = j;
    }
    if (n) qsort(list, (size_t)n, sizeof *list, order_by_id);
    uint64_t more = 0;
    for (int i = 1; i < n; i++) {
        more = strcmp(list[i]->id, list[i - 1]->id) ? 0 : more + (uint64_t)list[i - 1]->copies;
        for (int k = 0; k < list[i]->copies; k++) list[i][k].q.seed += more;
    }
}

/* The same row with the same seed again: -2, -3 behind the name, where that does not differ. */
static ts_status number_twins(ts_batch *b, ts_job **list)
{
    int n = 0, same = 1;
    for (int i = 0; i < b->jobs; i++)
        if (b->job[i].state != TS_JOB_FAULTY && !b->job[i].output) list[n++] = b->job + i;
    if (n) qsort(list, (size_t)n, sizeof *list, order_by_name_and_id);
    const ts_job *first = n ? list[0] : NULL;
    for (int i = 1; i < n; i++) {
        ts_job *j = list[i];
        char *name = NULL;
        if (strcmp(j->name, first->name) || strcmp(j->id, first->id)) {
            first = j;
            same = 1;
            continue;
        }
        size_t m = strlen(j->name) - strlen(j->extension);
        if (asprintf(&name, "%.*s-%d%s", (int)m, j->name, ++same, j->name + m) < 0)
            return ts_fail(&b->c->err, TS_EMEMORY, "no memory for %d names", b->jobs);
        free(j->name);
        j->name = name;
    }
    return TS_OK;
}

typedef struct {
    char *ids; /* of rows that are done, sorted */
    size_t n;
} done_rows;

static int compare_ids(const void *a, const void *b) { return memcmp(a, b, TS_ID); }

/* Names began with the row's index once, and seeds counted on with it: what was made then is taken
 * for the row's. */
static ts_status adopt_earlier(ts_batch *b, const done_rows *done, ts_job *j, const char *template)
{
    ts_job was = *j;
    if (!done->n) return TS_OK;
    was.q.seed = j->earlier_seed;
    set_id(b, &was, "");
    char *name = make_name(&was, template ? template : "{index:04}_{slug:60}_s{seed}");
    if (!name) return ts_fail(&b->c->err, TS_EMEMORY, "no memory for %d names", b->jobs);
    set_id(b, &was, name);
    bool had = bsearch(was.id, done->ids, done->n, TS_ID, compare_ids) && ts_batch_exists(b, name);
    if (had) {
        free(j->name);
        j->name = name;
        j->q.seed = was.q.seed;
        memcpy(j->id, was.id, sizeof j->id);
    } else {
        free(name);
    }
    return TS_OK;
}

/* ---- faults of names ---- */
/* A folder stands right before what is in it. */
static int compare_names(const char *a, const char *b)
{
    for (; *a && *a == *b; a++) b++;
    return (*a == '/' ? 1 : (uint8_t)*a) - (*b == '/' ? 1 : (uint8_t)*b);
}

static int order_names(const void *a, const void *b)
{
    const ts_job *x = *(const ts_job *const *)a, *y = *(const ts_job *const *)b;
    int d = compare_names(x->name, y->name);
    return d ? d : x < y ? -1 : x > y;
}

static void tell_fault(ts_batch *b, const ts_job *j, const char *sentence)
{
    ts_screen_fault(&b->c->screen, j->file, j->row->line, sentence);
    b->faults++;
}

static void drop_job(ts_batch *b, ts_job *j, const char *sentence)
{
    tell_fault(b, j, sentence);
    j->state = TS_JOB_FAULTY;
    free(j->error);
    j->error = strdup(sentence);
    free(j->name);
    j->name = NULL;
}

/* y is later in the order of names, x is the last one before it that stays. Returns which of them
 * stays; NULL: both do. Where a row named its own output, the later row is at fault; else the
 * template is, and *found counts. */
static ts_job *settle_collision(ts_batch *b, ts_job *x, ts_job *y, int *found)
{
    size_t m = strlen(x->name);
    bool same = !strcmp(x->name, y->name),
         within = !strncmp(x->name, y->name, m) && y->name[m] == '/';
    if (!same && !within) return NULL;
    ts_job *later = x > y ? x : y, *first = x > y ? y : x;
    char sentence[1024];
    if (same)
        snprintf(sentence, sizeof sentence, "writes %.200s, as %.200s:%d does", y->name,
                 first->file, first->row->line);
    else if (later == y)
        snprintf(sentence, sizeof sentence, "writes %.200s, into what %.200s:%d writes", y->name,
                 x->file, x->row->line);
    else
        snprintf(sentence, sizeof sentence, "writes %.200s, which %.200s:%d writes into", x->name,
                 y->file, y->row->line);
    if (x->output || y->output) {
        drop_job(b, later, sentence);
        return first;
    }
    tell_fault(b, later, sentence);
    (*found)++;
    return x;
}

static ts_status refuse_collisions(ts_batch *b)
{
    int n = 0, found = 0;
    ts_job **list = malloc(sizeof *list * (size_t)(b->jobs ? b->jobs : 1)), *last = NULL;
    if (!list) return ts_fail(&b->c->err, TS_EMEMORY, "no memory for %d names", b->jobs);
    for (int i = 0; i < b->jobs; i++)
        if (b->job[i].state != TS_JOB_FAULTY) list[n++] = b->job + i;
    if (n) qsort(list, (size_t)n, sizeof *list, order_names);
    for (int i = 0; i < n; i++) {
        ts_job *stays = last ? settle_collision(b, last, list[i], &found) : NULL;
        last = stays ? stays : list[i];
    }
    free(list);
    if (!found) return TS_OK;
    return ts_fail(&b->c->err, TS_EUSAGE,
                   "%d output%s would replace another of the same batch: fields of --name "
                   "tell them apart ({seed}, {n} of --count, {index}, {file})",
                   found, found == 1 ? "" : "s");
}

static ts_status name_jobs(ts_batch *b, const char *template)
{
    ts_status st = TS_OK;
    done_rows done = {0};
    ts_job **list = malloc(sizeof *list * (size_t)(b->jobs ? b->jobs : 1));
    if (!list) return ts_fail(&b->c->err, TS_EMEMORY, "no memory for %d names", b->jobs);
    TRY(ts_manifest_ids(b, &done.ids, &done.n));
    spread_seeds(b, list);
    for (int i = 0; i < b->jobs; i++) {
        ts_job *j = b->job + i;
        if (j->state == TS_JOB_FAULTY) continue;
        set_id(b, j, ""); /* for {hash}, which can not hold itself */
        j->name = make_name(j, template ? template : TS_NAME_DEFAULT);
        if (!j->name) TRY(ts_fail(&b->c->err, TS_EMEMORY, "no memory for %d names", b->jobs));
        TRY(adopt_earlier(b, &done, j, template));
    }
    TRY(number_twins(b, list));
done:
    free(done.ids);
    free(list);
    return st;
}

ts_status ts_batch_names(ts_batch *b, const char *template)
{
    ts_status st = TS_OK;
    int good = 0;
    const ts_job *misnamed = NULL;
    TRY(name_jobs(b, template));
    for (int i = 0; i < b->jobs; i++) {
        ts_job *j = b->job + i;
        const char *fault = j->state == TS_JOB_FAULTY ? NULL : fault_of(j->name);
        if (fault) {
            char sentence[400];
            snprintf(sentence, sizeof sentence,
                     "the output's name \"%.100s\" %s, expected one below the folder of --out",
                     j->name, fault);
            drop_job(b, j, sentence);
            if (!j->output && !misnamed) misnamed = j;
        }
        if (j->state != TS_JOB_FAULTY) set_id(b, j, j->name);
    }
    TRY(refuse_collisions(b));
    for (int i = 0; i < b->jobs; i++) good += b->job[i].state != TS_JOB_FAULTY;
    if (!good && misnamed)
        TRY(ts_fail(&b->c->err, TS_EUSAGE, "--name: %s", misnamed->error ? misnamed->error : ""));
    if (!good)
        TRY(ts_fail(&b->c->err, TS_EMODEL, "%s%s: no row that can be rendered", b->file[0]->name,
                    b->files > 1 ? " and the other files" : ""));
done:
    return st;
}
