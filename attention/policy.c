/* The language of --attention: one table of keys, which policies each belongs to, and the schedule
 * that follows. */
#include "attention/policy.h"

#include "backend/nearest.h"
#include "backend/number.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[TS_POLICIES] = {"dense",    "auto",   "adaspa", "tile",
                                               "window",   "radial", "pooled", "svg",
                                               "recycled", "random", "blocks"};

enum {
    AUTO = 1 << TS_AUTO,
    ADASPA = 1 << TS_ADASPA,
    TILE = 1 << TS_TILE,
    WINDOW = 1 << TS_WINDOW,
    RADIAL = 1 << TS_RADIAL,
    POOLED = 1 << TS_POOLED,
    SVG = 1 << TS_SVG,
    RECYCLED = 1 << TS_RECYCLED,
    RANDOM = 1 << TS_RANDOM,
    BLOCKS = 1 << TS_BLOCKS
};
enum {
    BUDGETED = ADASPA | WINDOW | RADIAL | POOLED | SVG | RECYCLED | RANDOM,
    FIXED = TILE | WINDOW | RADIAL | POOLED | RANDOM,
    ALL = BUDGETED | TILE | BLOCKS
};
typedef enum {
    PSNR,
    KEEP,
    MASS,
    ORDER,
    MIN_TOKENS,
    DENSE_STEPS,
    SEARCH_STEPS,
    SEARCH,
    FRESH,
    SIMILAR,
    APART,
    SEARCHES,
    REST,
    RESIDUAL,
    ADAPTIVE,
    DENSE_LAYERS,
    REFERENCES,
    SEED,
    FILE_NAME,
    STRICT,
    KEYS
} key_id;
static const struct {
    const char *name, *wanted;
    unsigned of;
} keys[KEYS] = {
    [PSNR] = {"psnr", "decibels from 0 to 100: how near to full attention frames are to be", AUTO},
    [KEEP] = {"keep", "more than 0, at most 1: the share of key blocks read", BUDGETED},
    [MASS] = {"mass", "more than 0, at most 1: the share of a row's softmax weight that is read",
              ADASPA},
    [ORDER] = {"order", "raster or tile", ALL & ~BLOCKS},
    [MIN_TOKENS] = {"min-tokens", "a whole number from 0", ALL & ~BLOCKS},
    [DENSE_STEPS] = {"dense-steps", "a whole number from 0", FIXED | BLOCKS},
    [SEARCH_STEPS] = {"search-steps", "steps from 1, like 10+30", ADASPA | SVG | RECYCLED},
    [SEARCH] = {"search", "error or mass", ADASPA},
    [FRESH] = {"fresh", "0, or the number of steps after which plans are ranked anew", ADASPA},
    [SIMILAR] = {"similar", "0 to 1: the mean cosine of queries below which a layer searches again",
                 RECYCLED},
    [APART] = {"apart", "a whole number from 1: steps from one search to the next, at least",
               RECYCLED},
    [SEARCHES] = {"searches", "a whole number from 1: searches of a layer and branch, at most",
                  RECYCLED},
    [REST] = {"rest", "none, mean, linear or (adaspa) measured", ALL},
    [RESIDUAL] = {"residual",
                  "0, 1 or 64: the tokens over which what a search left out is averaged",
                  ADASPA | SVG | RECYCLED},
    [ADAPTIVE] = {"adaptive", "on or off", ADASPA},
    [DENSE_LAYERS] = {"dense-layers", "layers from 0, like 0+1+28-29", ALL},
    [REFERENCES] = {"k", "a whole number from 1: reference frames", TILE},
    [SEED] = {"seed", "a whole number from 0", RANDOM},
    [FILE_NAME] = {"file", "the name of a file, without a comma", TILE | BLOCKS},
    [STRICT] = {"strict", "on or off", ALL},
};

/* Where the policy that decides most often starts to gain. Self-attention of an evaluation of a Wan
 * 2.1 1.3B shape on two Zen 4 cores, ms, dense / sparse adaspa / pooled with its means, keep 0.2:
 *   128 tokens 9 / 6 / 10, 256: 34 / 12 / 23, 512: 131 / 38 / 60, 1,024: 474 / 108 / 162
 * (tools/random_model.py; tessera bench --step --model random --size 256x256 --frames 1 --steps 50
 * --attention adaspa:keep=0.2,min-tokens=1 --attention pooled:keep=0.2,min-tokens=1). */
enum { MIN_TOKENS_DEFAULT = 256 };

/* The order of tokens in which a policy's plans hold more of the weights. Measured with the default
 * model, 24 steps, keep 0.2 (tile: k=2), on five clips of 29 frames ("a panda" and "a red car and a
 * whale" at 192x192, "a fox on a teal background", "a parrot and a frog" and "a whale" at 128x128;
 * 8 x 24 x 24 and 8 x 16 x 16 tokens), plans and weights of the last step (--save-plan, adaspa's
 * --save-plan-scores). Means, raster / tile:
 *   recall           adaspa 0.600 / 0.543, window 0.411 / 0.341, pooled 0.569 / 0.499, random 0.294
 *   / 0.275; raster is ahead in each of the five clips PSNR of latents  adaspa 22.7 / 24.6 dB,
 *   window 15.4 / 16.0, pooled 23.6 / 24.2, random 18.2 / 18.8; the sign differs from clip to clip
 *   (adaspa -1.0 to +4.3 dB), too few to decide by tile             in raster recall 0.658 of 53%
 *   of the blocks; in tile order blocks span four frames, and all are read */
static const ts_order orders[TS_POLICIES] = {
    [TS_ADASPA] = TS_RASTER,   [TS_TILE] = TS_RASTER,   [TS_WINDOW] = TS_RASTER,
    [TS_RADIAL] = TS_RASTER,   [TS_POOLED] = TS_RASTER, [TS_SVG] = TS_RASTER,
    [TS_RECYCLED] = TS_RASTER, [TS_RANDOM] = TS_RASTER};

const char *ts_policy_name(ts_policy_kind kind) { return names[kind]; }

static const char *const rests[] = {"none", "mean", "linear", "measured"};

/* ---- values ---- */
static bool read_switch(const char *s, bool *out)
{
    *out = !strcmp(s, "on");
    return *out || !strcmp(s, "off");
}

/* "0.2" or "20%" */
static bool read_share(const char *s, double *out)
{
    const char *end;
    if (!ts_number_prefix(s, out, &end)) return false;
    if (*end == '%') *out /= 100;
    return !*end || !strcmp(end, "%");
}

/* Joins first..last to the spans that it touches or overlaps. */
static bool add_span(ts_set *s, int first, int last)
{
    int from = 0, to;
    while (from < s->n && s->span[from].last < first - 1) from++;
    for (to = from; to < s->n && s->span[to].first <= last + 1; to++) {
        if (s->span[to].first < first) first = s->span[to].first;
        if (s->span[to].last > last) last = s->span[to].last;
    }
    if (to == from && s->n == TS_SPANS) return false;
    memmove(s->span + from + 1, s->span + to, (size_t)(s->n - to) * sizeof *s->span);
    s->span[from] = (ts_span){first, last};
    s->n += 1 - (to - from);
    return true;
}

/* "0+1+28-29", in any order, into ascending spans that neither touch nor overlap. */
static bool read_set(const char *s, int least, ts_set *out)
{
    enum { MOST = 1000000 };
    out->n = 0;
    for (;;) {
        char *end;
        if (*s < '0' || *s > '9') return false;
        long first = strtol(s, &end, 10), last = first;
        if (*end == '-') {
            s = end + 1;
            if (*s < '0' || *s > '9') return false;
            last = strtol(s, &end, 10);
        }
        if (first < least || last < first || last > MOST || !add_span(out, (int)first, (int)last))
            return false;
        if (!*end) return true;
        if (*end != '+') return false;
        s = end + 1;
    }
}

bool ts_set_has(const ts_set *s, int x)
{
    for (int i = 0; i < s->n; i++)
        if (x >= s->span[i].first && x <= s->span[i].last) return true;
    return false;
}

static bool read_rest(ts_policy *p, const char *s)
{
    int known = p->kind == TS_ADASPA ? 4 : 3;
    p->rest = 0;
    while (p->rest < known && strcmp(rests[p->rest], s)) p->rest++;
    return p->rest < known;
}

static bool set_value(ts_policy *p, key_id id, const char *s)
{
    uint64_t n = 0;
    switch (id) {
    case PSNR: return ts_number_read(s, &p->psnr) && p->psnr >= 0 && p->psnr <= 100;
    case KEEP: return read_share(s, &p->keep) && p->keep > 0 && p->keep <= 1;
    case MASS: return read_share(s, &p->mass) && p->mass > 0 && p->mass <= 1;
    case ORDER:
        p->order = strcmp(s, "tile") ? TS_RASTER : TS_TILE_ORDER;
        return p->order == TS_TILE_ORDER || !strcmp(s, "raster");
    case MIN_TOKENS:
        p->said_min_tokens = true;
        return ts_whole_read(s, 1000000000, &n) ? p->min_tokens = (long)n, true : false;
    case DENSE_STEPS:
        p->said_steps = true;
        return ts_whole_read(s, 1000000, &n) ? p->dense_steps = (int)n, true : false;
    case SEARCH_STEPS: p->said_steps = true; return read_set(s, 1, &p->search);
    case SEARCH: p->by_error = !strcmp(s, "error"); return p->by_error || !strcmp(s, "mass");
    case FRESH: return ts_whole_read(s, 1000000, &n) ? p->fresh = (int)n, true : false;
    case SIMILAR: return ts_number_read(s, &p->similar) && p->similar >= 0 && p->similar <= 1;
    case APART: return ts_whole_read(s, 1000000, &n) && n > 0 ? p->apart = (int)n, true : false;
    case SEARCHES:
        return ts_whole_read(s, 1000000, &n) && n > 0 ? p->searches = (int)n, true : false;
    case REST: return read_rest(p, s);
    case RESIDUAL:
        if (!ts_whole_read(s, TS_BLOCK, &n)) return false;
        p->residual = (int)n;
        return n <= 1 || n == TS_BLOCK;
    case ADAPTIVE: return read_switch(s, &p->adaptive);
    case DENSE_LAYERS: return read_set(s, 0, &p->dense_layers);
    case REFERENCES: return ts_whole_read(s, 1000000, &n) && n > 0 ? p->k = (int)n, true : false;
    case SEED: return ts_whole_read(s, UINT64_MAX, &p->seed);
    case FILE_NAME: return *s && strlen(s) < sizeof p->file ? strcpy(p->file, s), true : false;
    case STRICT: return read_switch(s, &p->strict);
    case KEYS: break;
    }
    return false;
}

/* ---- parsing ---- */
/* Names of what applies to a policy (or of all policies), "a, b or c". */
static const char *list_names(const char *const *name, int n, char *out, size_t size)
{
    size_t at = 0;
    *out = 0;
    for (int i = 0; i < n && at < size; i++)
        at += (size_t)snprintf(out + at, size - at, "%s%s",
                               !i           ? ""
                               : i == n - 1 ? " or "
                                            : ", ",
                               name[i]);
    return out;
}

static ts_status refuse_policy_key(ts_err *err, ts_policy_kind kind, const char *key, int length)
{
    /* the share that is kept, as others call it; "sparsity" is what is left out elsewhere, so no
     * number is carried over */
    static const char *const habits[] = {"sparsity", "density", "ratio", "keep-ratio", "topk"};
    const char *known[KEYS + 1];
    char text[256];
    int n = 0;
    for (int i = 0; i < KEYS; i++)
        if (keys[i].of >> kind & 1) known[n++] = keys[i].name;
    if (!n) return ts_fail(err, TS_EUSAGE, "attention %s: takes no keys", names[kind]);
    known[n] = NULL;
    char word[32], share[TS_NUMBER_TEXT];
    double x;
    snprintf(word, sizeof word, "%.*s", length, key);
    const char *near = ts_nearest(word, known);
    for (size_t i = 0; i < sizeof habits / sizeof *habits; i++)
        if (keys[KEEP].of >> kind & 1 && ts_same_word(word, habits[i])) near = keys[KEEP].name;
    if (keys[KEEP].of >> kind & 1 && read_share(word, &x) && x > 0 && x <= 1)
        return ts_fail(err, TS_EUSAGE, "attention %s: no key \"%s\": did you mean %s:keep=%s?",
                       names[kind], word, names[kind], ts_number_text(x, share));
    if (near)
        return ts_fail(err, TS_EUSAGE, "attention %s: no key \"%s\": did you mean %s? (of %s)",
                       names[kind], word, near, list_names(known, n, text, sizeof text));
    return ts_fail(err, TS_EUSAGE, "attention %s: no key \"%.*s\", expected %s", names[kind],
                   length, key, list_names(known, n, text, sizeof text));
}

static ts_status parse_key(ts_err *err, ts_policy *p, const char *s, size_t n, bool given[KEYS])
{
    char value[sizeof p->file + 1];
    const char *equal = memchr(s, '=', n);
    size_t length = equal ? (size_t)(equal - s) : n;
    int id = 0;
    while (id < KEYS && (strlen(keys[id].name) != length || memcmp(keys[id].name, s, length) ||
                         !(keys[id].of >> p->kind & 1)))
        id++;
    if (id == KEYS) return refuse_policy_key(err, p->kind, s, (int)length);
    if (given[id])
        return ts_fail(err, TS_EUSAGE, "attention %s: %s is given twice", names[p->kind],
                       keys[id].name);
    given[id] = true;
    /* a switch by its name */
    if (!equal && (id == STRICT || id == ADAPTIVE))
        snprintf(value, sizeof value, "on");
    else if (!equal)
        return ts_fail(err, TS_EUSAGE, "attention %s: %s needs a value: %s", names[p->kind],
                       keys[id].name, keys[id].wanted);
    else
        snprintf(value, sizeof value, "%.*s", (int)(n - length - 1), equal + 1);
    if (!set_value(p, (key_id)id, value))
        return ts_fail(err, TS_EUSAGE, "attention %s: %s=%.80s, expected %s", names[p->kind],
                       keys[id].name, value, keys[id].wanted);
    return TS_OK;
}

/* What is no policy: a slip in the name, or a name with something else than a colon behind it. */
static ts_status refuse_policy(ts_err *err, const char *text)
{
    const char *list[TS_POLICIES + 1] = {NULL}, *near;
    char word[32], known[128], key[64] = "", share[TS_NUMBER_TEXT];
    size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
    const char *rest = text + n + strspn(text + n, ":=, ");
    double x;
    memcpy(list, names, sizeof names);
    snprintf(word, sizeof word, "%.*s", (int)n, text);
    near = ts_nearest(word, list);
    if (!near)
        return ts_fail(err, TS_EUSAGE, "attention %.80s: no such policy, expected %s", text,
                       list_names(names, TS_POLICIES, known, sizeof known));
    if (*rest && read_share(rest, &x))
        snprintf(key, sizeof key, ":keep=%s", ts_number_text(x, share));
    else if (*rest)
        snprintf(key, sizeof key, ":%.60s", rest);
    return ts_fail(err, TS_EUSAGE, "attention %.80s: no such policy: did you mean %s%s? (of %s)",
                   text, near, key, list_names(names, TS_POLICIES, known, sizeof known));
}

/* Shares of mass are of measured masses, which search=mass has at every search. */
static ts_status complete_mass(ts_err *err, ts_policy *p, const bool given[KEYS])
{
    char share[TS_NUMBER_TEXT];
    if (!given[MASS]) return TS_OK;
    if (given[KEEP])
        return ts_fail(err, TS_EUSAGE,
                       "attention adaspa: keep and mass exclude each other: a row reads a number "
                       "of blocks, or as many as hold a share of its weight");
    if (given[SEARCH] && p->by_error)
        return ts_fail(err, TS_EUSAGE,
                       "attention adaspa: mass=%s needs search=mass: with search=error rankings "
                       "are compared at equal numbers of blocks",
                       ts_number_text(p->mass, share));
    if (given[ADAPTIVE] && p->adaptive)
        return ts_fail(err, TS_EUSAGE,
                       "attention adaspa: adaptive=on needs keep, whose budgets heads share: with "
                       "mass=%s there are none",
                       ts_number_text(p->mass, share));
    p->keep = p->mass; /* so many at most, where weights are the same everywhere: a bound */
    p->by_error = p->adaptive = false;
    return TS_OK;
}

/* The published method is what search=mass and adaptive ask for; the rest of its keys follow. */
static ts_status complete_search(ts_err *err, ts_policy *p, const bool given[KEYS])
{
    ts_status st = complete_mass(err, p, given);
    if (p->kind == TS_SVG || p->kind == TS_RECYCLED) p->adaptive = false;
    if (st || p->kind != TS_ADASPA) return st;
    if (given[ADAPTIVE] && given[SEARCH] && p->by_error)
        return ts_fail(
            err, TS_EUSAGE,
            "attention adaspa: adaptive is a key of search=mass: with search=error every "
            "head has the same budget");
    if (given[ADAPTIVE]) p->by_error = false;
    if (p->by_error) {
        p->adaptive = false;
        /* a residual is of the plan that left it */
        if (!given[FRESH]) p->fresh = !p->residual;
        if (!given[REST]) p->rest = p->residual ? TS_REST_MEAN : TS_REST_MEASURED;
        return TS_OK;
    }
    if (given[FRESH] && p->fresh)
        return ts_fail(err, TS_EUSAGE,
                       "attention adaspa: fresh=%d needs search=error: plans of masses last until "
                       "the next search",
                       p->fresh);
    if (given[REST] && p->rest == TS_REST_MEASURED)
        return ts_fail(err, TS_EUSAGE,
                       "attention adaspa: rest=measured needs search=error, whose searches have "
                       "something to measure by");
    p->fresh = 0;
    if (!given[RESIDUAL]) p->residual = 0;
    if (!given[REST]) p->rest = TS_REST_NONE;
    return TS_OK;
}

bool ts_policy_keeps_plans(const ts_policy *p)
{
    return p->kind == TS_ADASPA || p->kind == TS_SVG || p->kind == TS_RECYCLED;
}

bool ts_policy_searches_again(const ts_policy *p)
{
    return p->kind == TS_ADASPA && !p->by_error && !p->residual;
}

ts_status ts_policy_parse(ts_err *err, const char *text, ts_policy *p)
{
    ts_status st = TS_OK;
    bool given[KEYS] = {false};
    size_t n = strcspn(text, ":");
    *p = (ts_policy){.psnr = 30,
                     .keep = 0.2,
                     .min_tokens = MIN_TOKENS_DEFAULT,
                     .dense_steps = -1,
                     .adaptive = true,
                     .similar = 0.9,
                     .apart = 2,
                     .searches = 4,
                     .k = 2};
    int kind = 0;
    while (kind < TS_POLICIES && (strlen(names[kind]) != n || memcmp(names[kind], text, n))) kind++;
    if (kind == TS_POLICIES) return refuse_policy(err, text);
    p->kind = (ts_policy_kind)kind;
    p->order = orders[kind];
    p->by_error = p->kind == TS_ADASPA || p->kind == TS_SVG;
    if (p->kind == TS_ADASPA) p->residual = -1;
    if (text[n] && !text[n + 1])
        return ts_fail(err, TS_EUSAGE, "attention %s: a key must follow the colon", names[kind]);
    for (const char *s = text[n] ? text + n + 1 : NULL; s; s = *s == ',' ? s + 1 : NULL) {
        size_t length = strcspn(s, ",");
        TRY(parse_key(err, p, s, length, given));
        s += length;
    }
    if (p->kind == TS_BLOCKS && !*p->file)
        TRY(ts_fail(err, TS_EUSAGE,
                    "attention blocks: needs file=PLAN.safetensors, the plans of a run"));
    if (given[REFERENCES] && given[FILE_NAME])
        TRY(ts_fail(err, TS_EUSAGE, "attention tile: k and file exclude each other"));
    TRY(complete_search(err, p, given));
done:
    return st;
}

/* ---- the schedule ---- */
/* [share S], [x] = floor(x + 0.5) */
static int step_at(double share, int steps) { return (int)floor(share * steps + 0.5); }

void ts_policy_settle(ts_policy *p, int steps)
{
    int first = step_at(0.2, steps) > 1 ? step_at(0.2, steps) : 1, later = step_at(0.6, steps);
    /* a dense call: of few steps too large a part, for plans that are ranked anew anyway */
    if ((p->by_error && steps < 10) || p->kind == TS_RECYCLED) later = first;
    if (ts_policy_keeps_plans(p) && !p->search.n) {
        p->search = (ts_set){{{first, first}}, 1};
        if (later == first + 1)
            p->search.span[0].last = later;
        else if (later > first)
            p->search.span[p->search.n++] = (ts_span){later, later};
    }
    if (p->dense_steps < 0) p->dense_steps = p->kind == TS_BLOCKS ? 0 : step_at(0.2, steps);
}

ts_do ts_policy_decide(const ts_policy *p, int step, int layer, bool have)
{
    if (p->kind == TS_DENSE || ts_set_has(&p->dense_layers, layer)) return TS_DO_DENSE;
    if (!ts_policy_keeps_plans(p))
        return step <= p->dense_steps ? TS_DO_DENSE
               : p->kind == TS_POOLED ? TS_DO_POOL
                                      : TS_DO_SPARSE;
    if (!have) return step < p->search.span[0].first ? TS_DO_DENSE : TS_DO_SEARCH;
    if (!ts_set_has(&p->search, step)) return TS_DO_SPARSE;
    return ts_policy_searches_again(p) ? TS_DO_SEARCH_AGAIN : TS_DO_SEARCH;
}

bool ts_policy_searches(const ts_policy *p, int step)
{
    return ts_policy_keeps_plans(p) && ts_set_has(&p->search, step);
}

double ts_policy_work(const ts_policy *p, int steps, int nb)
{
    double sum = 0,
           plans = p->kind == TS_SVG             ? 2
                   : p->rest == TS_REST_MEASURED ? 9
                                                 : 6,
           tries = (p->by_error ? plans * p->keep * fmin(1, 24.0 / nb) : 0) +
                   (p->residual ? p->keep : 0);
    bool have = !ts_policy_keeps_plans(p);
    for (int s = 1; s <= steps; s++) {
        int layer = 0;
        while (ts_set_has(&p->dense_layers, layer)) layer++;
        ts_do what = ts_policy_decide(p, s, layer, have);
        if (what == TS_DO_SEARCH) have = true;
        sum += what == TS_DO_DENSE          ? 1
               : what == TS_DO_SEARCH       ? 1 + tries
               : what == TS_DO_SEARCH_AGAIN ? 0.5 + p->keep
                                            : p->keep;
    }
    return sum / steps;
}

/* ---- text ---- */
static void print_set(FILE *f, const ts_set *s)
{
    for (int i = 0; i < s->n; i++) {
        const ts_span *p = s->span + i;
        fprintf(f,
                p->last > p->first + 1 ? "%s%d-%d"
                : p->last > p->first   ? "%s%d+%d"
                                       : "%s%d",
                i ? "+" : "", p->first, p->last);
    }
}

static void print_value(FILE *f, const ts_policy *p, key_id id)
{
    char text[TS_NUMBER_TEXT];
    switch (id) {
    case PSNR: fputs(ts_number_text(p->psnr, text), f); break;
    case KEEP: fputs(ts_number_text(p->keep, text), f); break;
    case MASS: fputs(ts_number_text(p->mass, text), f); break;
    case ORDER: fputs(ts_order_name(p->order), f); break;
    case MIN_TOKENS: fprintf(f, "%ld", p->min_tokens); break;
    case DENSE_STEPS: fprintf(f, "%d", p->dense_steps); break;
    case SEARCH_STEPS: print_set(f, &p->search); break;
    case SEARCH: fputs(p->by_error ? "error" : "mass", f); break;
    case FRESH: fprintf(f, "%d", p->fresh); break;
    case RESIDUAL: fprintf(f, "%d", p->residual); break;
    case SIMILAR: fputs(ts_number_text(p->similar, text), f); break;
    case APART: fprintf(f, "%d", p->apart); break;
    case SEARCHES: fprintf(f, "%d", p->searches); break;
    case REST: fputs(rests[p->rest], f); break;
    case ADAPTIVE: fputs(p->adaptive ? "on" : "off", f); break;
    case DENSE_LAYERS: print_set(f, &p->dense_layers); break;
    case REFERENCES: fprintf(f, "%d", p->k); break;
    case SEED: fprintf(f, "%llu", (unsigned long long)p->seed); break;
    case FILE_NAME: fputs(p->file, f); break;
    case STRICT: fputs(p->strict ? "on" : "off", f); break;
    case KEYS: break;
    }
}

/* A key that has nothing to say: an unset file, or k beside a file, no dense layers, a schedule
 * that is not settled. */
static bool says_nothing(const ts_policy *p, key_id id)
{
    return (id == FILE_NAME && !*p->file) || (id == REFERENCES && *p->file) ||
           (id == DENSE_LAYERS && !p->dense_layers.n) || (id == SEARCH_STEPS && !p->search.n) ||
           (id == KEEP && p->mass > 0) || (id == MASS && !(p->mass > 0)) ||
           (id == ADAPTIVE && (p->by_error || p->mass > 0)) || (id == FRESH && !p->by_error) ||
           (id == REST && p->kind != TS_ADASPA && !p->rest) ||
           (id == RESIDUAL &&
            (p->residual < 0 || (!p->residual && (p->kind != TS_ADASPA || !p->by_error)))) ||
           (id == DENSE_STEPS && p->dense_steps < 0) || (id == STRICT && !p->strict);
}

char *ts_policy_text(const ts_policy *p)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f) return NULL;
    fputs(names[p->kind], f);
    char before = ':';
    for (int id = 0; id < KEYS; id++) {
        if (!(keys[id].of >> p->kind & 1) || says_nothing(p, (key_id)id)) continue;
        fprintf(f, "%c%s=", before, keys[id].name);
        print_value(f, p, (key_id)id);
        before = ',';
    }
    fclose(f);
    return text;
}
