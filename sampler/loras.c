/* LoRAs: from a request's lines to what is added to the transformers' weights. */
#include "sampler/loras.h"

#include "backend/hash.h"
#include "backend/number.h"
#include "sampler/identity.h"
#include "sampler/run.h"
#include "weights/lora.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { EXPERTS = 2, MOST_LORAS = 64 };
static const double MOST_STRENGTH = 100;

typedef struct {
    ts_lora_wish wish;
    ts_lora_file file;
    ts_lora_bound *bound[EXPERTS]; /* NULL: not this one's */
    ts_lora_fit fit[EXPERTS];
} lora;
struct ts_loras {
    char *text; /* of the request that they are of */
    lora *lora;
    int n;
};

/* ---- lines ---- */

static const char *const expert_names[] = {"both", "high", "low"};
const char *ts_lora_expert_name(ts_lora_expert e) { return expert_names[e]; }

/* [high=|low=]FILE[:STRENGTH] of n bytes. A colon that no number follows belongs to the name. */
static ts_status read_line(ts_err *err, const char *s, size_t n, ts_lora_wish *w)
{
    *w = (ts_lora_wish){.strength = 1};
    for (int e = TS_LORA_HIGH; e <= TS_LORA_LOW; e++) {
        size_t k = strlen(expert_names[e]);
        if (n <= k || strncmp(s, expert_names[e], k) != 0 || s[k] != '=') continue;
        w->expert = (ts_lora_expert)e;
        s += k + 1;
        n -= k + 1;
        break;
    }
    w->path = strndup(s, n);
    if (!w->path) return ts_fail(err, TS_EMEMORY, "no memory for a LoRA's name");
    char *colon = strrchr(w->path, ':');
    double strength;
    if (colon && ts_number_read(colon + 1, &strength)) {
        *colon = 0;
        w->strength = strength;
        if (!(fabs(strength) <= MOST_STRENGTH))
            return ts_fail(err, TS_EUSAGE, "LoRA %s: strength %g, must be -%g to %g", w->path,
                           strength, MOST_STRENGTH, MOST_STRENGTH);
    }
    if (!*w->path) return ts_fail(err, TS_EUSAGE, "a LoRA without a file");
    return TS_OK;
}

ts_status ts_lora_wishes_read(ts_err *err, const char *text, ts_lora_wish **out, int *n)
{
    ts_status st = TS_OK;
    *n = 0;
    *out = calloc(MOST_LORAS, sizeof **out);
    if (!*out) return ts_fail(err, TS_EMEMORY, "no memory for LoRAs");
    while (text && *text) {
        size_t length = strcspn(text, "\n");
        if (*n == MOST_LORAS) TRY(ts_fail(err, TS_EUSAGE, "more than %d LoRAs", (int)MOST_LORAS));
        if (length) TRY(read_line(err, text, length, *out + (*n)++));
        text += length + (text[length] == '\n');
    }
done:
    if (st) {
        ts_lora_wishes_free(*out, *n);
        *out = NULL;
    }
    return st;
}

void ts_lora_wishes_free(ts_lora_wish *w, int n)
{
    for (int i = 0; i < n; i++) free(w[i].path);
    free(w);
}

char *ts_lora_wishes_text(const ts_lora_wish *w, int n)
{
    char *text = strdup("");
    for (int i = 0; text && i < n; i++) {
        char *more, strength[TS_NUMBER_TEXT];
        int made = asprintf(&more, "%s%s%s%s%s:%s", text, i ? "\n" : "",
                            w[i].expert ? expert_names[w[i].expert] : "", w[i].expert ? "=" : "",
                            w[i].path, ts_number_text(w[i].strength, strength));
        free(text);
        text = made < 0 ? NULL : more;
    }
    return text;
}

ts_status ts_loras_json(ts_err *err, const char *text, bool bare, cJSON **out)
{
    ts_lora_wish *w;
    int n;
    *out = NULL;
    ts_status st = ts_lora_wishes_read(err, text, &w, &n);
    if (st) return st;
    *out = cJSON_CreateArray();
    for (int i = 0; i < n; i++) {
        const char *slash = strrchr(w[i].path, '/');
        uint64_t h = TS_HASH;
        char hash[24];
        ts_err ignored;
        cJSON *one = cJSON_CreateObject();
        cJSON_AddStringToObject(one, "file", bare && slash ? slash + 1 : w[i].path);
        cJSON_AddNumberToObject(one, "strength", w[i].strength);
        cJSON_AddStringToObject(one, "expert", expert_names[w[i].expert]);
        if (ts_identity_folder(&ignored, w[i].path, &h) == TS_OK) {
            snprintf(hash, sizeof hash, "%016llx", (unsigned long long)h);
            cJSON_AddStringToObject(one, "hash", hash);
        }
        cJSON_AddItemToArray(*out, one);
    }
    ts_lora_wishes_free(w, n);
    return TS_OK;
}

/* ---- on the model ---- */

void ts_model_free_loras(ts_model *m)
{
    struct ts_loras *all = m->loras;
    m->loras = NULL;
    if (!all) return;
    for (int i = 0; i < all->n; i++) {
        for (int e = 0; e < EXPERTS; e++) ts_lora_release(all->lora[i].bound[e]);
        ts_lora_close(&all->lora[i].file);
        free(all->lora[i].wish.path);
    }
    free(all->lora);
    free(all->text);
    free(all);
}

static bool is_meant_for(const lora *l, int expert)
{
    return l->wish.expert == TS_LORA_BOTH || (l->wish.expert == TS_LORA_HIGH) == (expert == 0);
}

static bool has_name(const char *path, const char *const *marks)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    for (; *marks; marks++)
        if (strcasestr(name, *marks)) return true;
    return false;
}

/* The commonest mistake with two experts. */
static void warn_of_expert(ts_model *m, const lora *l)
{
    static const char *const high[] = {"high_noise", "highnoise", "high-noise",
                                       "_HN",        "_high",     NULL},
                             *const low[] = {"low_noise", "lownoise", "low-noise",
                                             "_LN",       "_low",     NULL};
    bool to_high = has_name(l->wish.path, high), to_low = has_name(l->wish.path, low);
    if (!m->family->experts || to_high == to_low) return;
    ts_lora_expert by_name = to_high ? TS_LORA_HIGH : TS_LORA_LOW;
    if (l->wish.expert == by_name) return;
    ts_warn(m->ctx, "LoRA %s is by its name for the %s-noise expert, and goes to %s", l->wish.path,
            expert_names[by_name], l->wish.expert == TS_LORA_BOTH ? "both" : "the other one alone");
}

static ts_status check_fit(ts_model *m, const lora *l)
{
    int keys = 0, left = 0;
    const ts_lora_fit *some = NULL;
    for (int e = 0; e < EXPERTS; e++) {
        keys += l->fit[e].keys;
        if (!l->bound[e]) continue;
        left = l->fit[e].left;
        some = l->fit + e;
    }
    if (keys == 0)
        return ts_fail(&m->ctx->err, TS_EMODEL,
                       "%s: a LoRA of another model: none of its %d keys is of a layer of this "
                       "transformer, such as \"%s\"",
                       l->file.path, l->file.keys, some ? some->some[0] : "");
    if (left)
        ts_warn(m->ctx,
                "%s: %d of its %d keys are of no layer of this model and left out: %s%s%s%s%s",
                l->file.path, left, l->file.keys, some->some[0], some->some[1] ? ", " : "",
                some->some[1] ? some->some[1] : "", some->some[2] ? ", " : "",
                some->some[2] ? some->some[2] : "");
    if (l->file.text_keys)
        ts_warn(m->ctx, "%s: %d of its keys are of a text encoder and left out", l->file.path,
                l->file.text_keys);
    return TS_OK;
}

/* A line for people; malloc'd. */
static char *describe_lora(const ts_model *m, const lora *l)
{
    const ts_lora_fit *f = l->bound[0] ? l->fit : l->fit + 1;
    char *text, strength[TS_NUMBER_TEXT], rank[48] = "", more[48] = "";
    const char *slash = strrchr(l->wish.path, '/');
    if (f->layers && f->rank_least == f->rank_most)
        snprintf(rank, sizeof rank, " of rank %ld", f->rank_most);
    else if (f->layers)
        snprintf(rank, sizeof rank, " of ranks %ld to %ld", f->rank_least, f->rank_most);
    if (f->differences) snprintf(more, sizeof more, ", %d differences", f->differences);
    int made = asprintf(&text, "LoRA %s: %d layers%s%s, strength %s%s",
                        slash ? slash + 1 : l->wish.path, f->layers, rank, more,
                        ts_number_text(l->wish.strength, strength),
                        !m->family->experts              ? ""
                        : l->wish.expert == TS_LORA_BOTH ? ", both experts"
                        : l->wish.expert == TS_LORA_HIGH ? ", the high-noise expert"
                                                         : ", the low-noise expert");
    return made < 0 ? NULL : text;
}

char *ts_run_loras(const ts_run *r)
{
    const struct ts_loras *all = r->m->loras;
    char *text = NULL;
    if (!all || !r->q.loras || strcmp(all->text, r->q.loras) != 0) return NULL;
    for (int i = 0; i < all->n; i++) {
        char *line = describe_lora(r->m, all->lora + i), *more;
        int made = asprintf(&more, "%s%s%s", text ? text : "", text ? "\n" : "", line ? line : "");
        free(line);
        free(text);
        text = made < 0 ? NULL : more;
    }
    return text;
}

/* What the authors of LoRAs that were distilled to a few steps run them with: LightX2V's
 * configs/distill, Wan2.2-Lightning's generate.py, the cards of CausVid, FastWan and FastHunyuan.
 */
static const struct {
    const char *mark, *settings;
    int steps;
    double guidance;
} distilled[] = {
    {"fastwan", "`steps` 3, `guidance` 1, `shift` 8 (of 5B: 5)", 3, 1},
    {"causvid", "`steps` 6 to 8, `guidance` 1, `strength` 0.3 to 0.5 of the LoRA", 8, 1},
    {"fasthunyuan", "`steps` 6, `shift` 17", 6, 100},
    {"fastvideo", "`steps` 6, `shift` 17", 6, 100},
    {"lcm", "`steps` 4, `guidance` 1, `sampler` lcm", 4, 1},
#define FOUR "`steps` 4, `guidance` 1, `shift` 5, `sampler` euler, `timesteps` trailing", 4, 1
    {"lightx2v", FOUR},
    {"lightning", FOUR},
    {"step_distill", FOUR},
    {"step-distill", FOUR},
    {"4step", FOUR},
    {"4-step", FOUR},
    {"4_step", FOUR},
};

void ts_loras_advise(ts_model *m, const ts_request *q)
{
    const struct ts_loras *all = m->loras;
    for (int i = 0; all && i < all->n; i++)
        for (size_t k = 0; k < sizeof distilled / sizeof *distilled; k++) {
            const char *const mark[] = {distilled[k].mark, NULL};
            if (!has_name(all->lora[i].wish.path, mark)) continue;
            if (q->steps > 2 * distilled[k].steps + 4 || q->guidance > distilled[k].guidance)
                ts_warn(m->ctx,
                        "LoRA %s is by its name distilled to a few steps: its authors run it with "
                        "%s",
                        all->lora[i].wish.path, distilled[k].settings);
            break;
        }
}

static ts_status bind_one(ts_model *m, lora *l)
{
    ts_status st;
    TRY(ts_lora_open(&m->ctx->err, l->wish.path, &l->file));
    if (!m->family->experts && l->wish.expert != TS_LORA_BOTH)
        TRY(ts_fail(&m->ctx->err, TS_EUSAGE,
                    "LoRA %s for the %s-noise expert: this model has one transformer", l->wish.path,
                    expert_names[l->wish.expert]));
    for (int e = 0; e < EXPERTS; e++)
        if (m->dit[e] && is_meant_for(l, e))
            TRY(ts_lora_bind(m->ctx, ts_dit_weights(m->dit[e]), m->family->dit->names, &l->file,
                             l->wish.strength, &l->bound[e], &l->fit[e]));
    TRY(check_fit(m, l));
    warn_of_expert(m, l);
done:
    return st;
}

/* The weights of both transformers are as the loras say; NULL: as they are in the files. */
static ts_status add_to_weights(ts_model *m, const struct ts_loras *all)
{
    ts_status st = TS_OK;
    ts_delta delta[MOST_LORAS];
    for (int e = 0; e < EXPERTS && m->dit[e]; e++) {
        int n = 0;
        for (int i = 0; all && i < all->n; i++)
            if (all->lora[i].bound[e]) delta[n++] = ts_lora_delta(all->lora[i].bound[e]);
        TRY(ts_weights_set_deltas(ts_dit_weights(m->dit[e]), delta, n));
    }
done:
    return st;
}

static ts_status open_loras(ts_model *m, const char *text, struct ts_loras **out)
{
    ts_status st;
    ts_lora_wish *w = NULL;
    int n = 0;
    struct ts_loras *all = *out = calloc(1, sizeof *all);
    if (!all || !(all->text = strdup(text)))
        TRY(ts_fail(&m->ctx->err, TS_EMEMORY, "no memory for LoRAs"));
    TRY(ts_lora_wishes_read(&m->ctx->err, text, &w, &n));
    all->lora = calloc((size_t)n + 1, sizeof *all->lora);
    if (!all->lora) TRY(ts_fail(&m->ctx->err, TS_EMEMORY, "no memory for LoRAs"));
    for (int i = 0; i < n; i++) {
        all->lora[i].wish = w[i];
        w[i].path = NULL;
    }
    all->n = n;
    for (int i = 0; i < n; i++) TRY(bind_one(m, all->lora + i));
done:
    if (w) ts_lora_wishes_free(w, n);
    return st;
}

ts_status ts_model_set_loras(ts_model *m, const char *text)
{
    ts_status st = TS_OK;
    struct ts_loras *next = NULL;
    const char *now = m->loras ? m->loras->text : "";
    if (!text) text = "";
    if (!strcmp(now, text)) return TS_OK;
    TRY(add_to_weights(m, NULL));
    ts_model_free_loras(m);
    if (!*text) goto done;
    st = open_loras(m, text, &next);
    m->loras = next;
    if (!st) st = add_to_weights(m, next);
    if (st) {
        add_to_weights(m, NULL);
        ts_model_free_loras(m);
    }
done:
    return st;
}
