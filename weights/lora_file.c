/* Spellings of keys, kinds that are refused, scales. What trainers and extractors write: see the
 * loaders of diffusers (lora_conversion_utils.py), ComfyUI (lora.py) and PEFT (lora/layer.py). */
#include "weights/lora_file.h"

#include "backend/suffix.h"
#include "weights/gguf.h"
#include "weights/kinds.h"

#include <math.h>
#include <regex.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- keys ---- */

/* Before the module; the longer before those that they begin with. */
static const char *const lora_prefixes[] = {"model.diffusion_model.",
                                            "unet.base_model.model.",
                                            "base_model.model.transformer.",
                                            "base_model.model.",
                                            "diffusion_model.",
                                            "lora_transformer_",
                                            "lora_unet__",
                                            "lora_unet_",
                                            "transformer.",
                                            "lycoris_",
                                            "pipe.dit.",
                                            "dit."};
static const char *const text_prefixes[] = {"lora_te_",      "lora_te1_",       "lora_te2_",
                                            "text_encoder.", "text_encoder_2.", "text_encoders."};

/* Behind the module, and which member of it the tensor is. */
#define MEMBER(m) offsetof(ts_lora_module, m)
static const struct {
    const char *end;
    size_t member;
} endings[] = {
    {".lora_A.default.weight", MEMBER(a)},
    {".lora_B.default.weight", MEMBER(b)},
    {".lora_linear_layer.down.weight", MEMBER(a)},
    {".lora_linear_layer.up.weight", MEMBER(b)},
    {".lora_A.weight", MEMBER(a)},
    {".lora_B.weight", MEMBER(b)},
    {".lora_down.weight", MEMBER(a)},
    {".lora_up.weight", MEMBER(b)},
    {".lora.down.weight", MEMBER(a)},
    {".lora.up.weight", MEMBER(b)},
    {"_lora.down.weight", MEMBER(a)},
    {"_lora.up.weight", MEMBER(b)},
    {".lora_A", MEMBER(a)},
    {".lora_B", MEMBER(b)},
    {".lora_B.bias", MEMBER(b_bias)},
    {".lora_up.bias", MEMBER(b_bias)},
    {".alpha", MEMBER(alpha)},
    {".diff_m", MEMBER(diff_m)},
    {".diff_b", MEMBER(diff_b)},
    {".b_norm", MEMBER(diff_b)},
    {".diff", MEMBER(diff)},
    {".w_norm", MEMBER(diff)},
};

static const ts_entry **member_of(ts_lora_module *m, size_t at)
{
    return (const ts_entry **)((char *)m + at);
}

/* Pieces of keys of other methods, which weights can not be made of by adding a product. */
static const struct {
    const char *part, *kind;
} refused[] = {
    {".dora_scale", "DoRA"},
    {".lora_magnitude_vector", "DoRA"},
    {".hada_w", "LoHa"},
    {".hada_t", "LoHa"},
    {".lokr_w", "LoKr"},
    {".lokr_t", "LoKr"},
    {".lora_mid.", "a LoCon with a Tucker decomposition"},
    {".oft_", "OFT"},
    {".boft_", "BOFT"},
    {".a1.weight", "GLoRA"},
    {".b1.weight", "GLoRA"},
    {".ia3_l", "(IA)3"},
    {".on_input", "(IA)3"},
    {".set_weight", "a replacement of weights"},
    {".reshape_weight", "a replacement of weights"},
};

static ts_status refuse_other_kinds(ts_err *err, const ts_lora_file *f)
{
    for (int i = 0; i < f->source.entries; i++)
        for (size_t k = 0; k < sizeof refused / sizeof *refused; k++)
            if (strstr(f->source.entry[i].name, refused[k].part))
                return ts_fail(err, TS_EMODEL,
                               "%s is %s (tensor \"%s\"), which is not read: only LoRAs and whole "
                               "differences are",
                               f->path, refused[k].kind, f->source.entry[i].name);
    return TS_OK;
}

static const char *skip_prefix(const char *key)
{
    for (size_t i = 0; i < sizeof lora_prefixes / sizeof *lora_prefixes; i++) {
        size_t n = strlen(lora_prefixes[i]);
        if (!strncmp(key, lora_prefixes[i], n)) return key + n;
    }
    return key;
}

static bool is_of_text(const char *key)
{
    for (size_t i = 0; i < sizeof text_prefixes / sizeof *text_prefixes; i++)
        if (!strncmp(key, text_prefixes[i], strlen(text_prefixes[i]))) return true;
    return false;
}

/* ---- modules ---- */

typedef struct {
    char *name; /* malloc'd */
    const ts_entry *e;
    size_t member;
} found_key;

static int compare_found(const void *a, const void *b)
{
    return strcmp(((const found_key *)a)->name, ((const found_key *)b)->name);
}

/* The module and member of a key; false: it is none of a LoRA. */
static bool split_key(const ts_entry *e, found_key *out)
{
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        if (!ts_ends_with(e->name, endings[i].end)) continue;
        const char *module = skip_prefix(e->name);
        size_t whole = strlen(e->name), end = strlen(endings[i].end),
               skipped = (size_t)(module - e->name);
        if (whole < end + skipped) return false;
        *out = (found_key){strndup(module, whole - end - skipped), e, endings[i].member};
        return true;
    }
    return false;
}

static ts_status take_modules(ts_err *err, ts_lora_file *f, found_key *key, int n)
{
    f->module = calloc((size_t)n + 1, sizeof *f->module);
    if (!f->module) return ts_fail(err, TS_EMEMORY, "%s: out of memory", f->path);
    for (int i = 0; i < n; i++) {
        if (i == 0 || strcmp(key[i - 1].name, key[i].name) != 0) {
            ts_lora_module *next = f->module + f->modules;
            if (!(next->name = strdup(key[i].name)))
                return ts_fail(err, TS_EMEMORY, "%s: out of memory", f->path);
            next->key = key[i].e->name;
            f->modules++;
        }
        ts_lora_module *m = f->module + f->modules - 1;
        const ts_entry **to = member_of(m, key[i].member);
        if (*to)
            return ts_fail(err, TS_EMODEL,
                           "%s: tensors \"%s\" and \"%s\" are the same of one module", f->path,
                           (*to)->name, key[i].e->name);
        *to = key[i].e;
        m->keys++;
        f->keys++;
    }
    return TS_OK;
}

static ts_status refuse_without_keys(ts_err *err, const ts_lora_file *f)
{
    const ts_kind *k = ts_kind_of(&f->source, 1, TS_PART_NONE);
    const ts_gguf *g = ts_gguf_of(&f->source);
    if (f->text_keys)
        return ts_fail(err, TS_EMODEL,
                       "%s: a LoRA of a text encoder alone (%d tensors), which is not read",
                       f->path, f->text_keys);
    if (g && ts_gguf_text_is(g, "general.type", "adapter"))
        return ts_fail(err, TS_EMODEL, "%s is a LoRA of llama.cpp, which is not read", f->path);
    return ts_fail(err, TS_EMODEL,
                   k ? "%s is %s, no LoRA"
                     : "%s is no LoRA: none of its tensors is called like one",
                   f->path, k ? k->what : "");
}

static ts_status sort_keys(ts_err *err, ts_lora_file *f)
{
    ts_status st = TS_OK;
    int n = 0;
    found_key *key = calloc((size_t)f->source.entries + 1, sizeof *key);
    if (!key) return ts_fail(err, TS_EMEMORY, "%s: out of memory", f->path);
    for (int i = 0; i < f->source.entries; i++) {
        const ts_entry *e = f->source.entry + i;
        if (is_of_text(e->name)) {
            f->text_keys++;
        } else if (split_key(e, key + n)) {
            if (!key[n++].name) TRY(ts_fail(err, TS_EMEMORY, "%s: out of memory", f->path));
        }
    }
    if (n == 0) TRY(refuse_without_keys(err, f));
    qsort(key, (size_t)n, sizeof *key, compare_found);
    TRY(take_modules(err, f, key, n));
done:
    for (int i = 0; i < n; i++) free(key[i].name);
    free(key);
    return st;
}

/* ---- configs ---- */

static const cJSON *config_value(const ts_lora_file *f, const char *key)
{
    char name[96];
    snprintf(name, sizeof name, "%s%s", f->head, key);
    return cJSON_GetObjectItemCaseSensitive(f->json, name);
}

static ts_status read_lora_config(ts_err *err, ts_lora_file *f, const char *where)
{
    const cJSON *r, *alpha;
    f->head = cJSON_GetObjectItemCaseSensitive(f->json, "transformer.r") ? "transformer." : "";
    r = config_value(f, "r");
    alpha = config_value(f, "lora_alpha");
    if (cJSON_IsTrue(config_value(f, "use_dora")))
        return ts_fail(err, TS_EMODEL, "%s is DoRA (use_dora of %s), which is not read", f->path,
                       where);
    if (!cJSON_IsNumber(r) || !(r->valuedouble > 0)) return TS_OK;
    f->r = r->valuedouble;
    f->alpha = cJSON_IsNumber(alpha) ? alpha->valuedouble : 8; /* PEFT's own default */
    f->rank_stabilized = cJSON_IsTrue(config_value(f, "use_rslora"));
    f->config = true;
    return TS_OK;
}

/* In the file's metadata, else beside it. */
static ts_status find_lora_config(ts_err *err, ts_lora_file *f)
{
    static const char own[] = "lora_adapter_metadata", beside[] = "adapter_config.json";
    const char *text = ts_source_meta(&f->source, own);
    char path[4096];
    const char *slash = strrchr(f->path, '/');
    if (text) {
        f->json = cJSON_Parse(text);
        if (!cJSON_IsObject(f->json))
            return ts_fail(err, TS_EMODEL, "%s: its metadata \"%s\" is no JSON object", f->path,
                           own);
        return read_lora_config(err, f, own);
    }
    snprintf(path, sizeof path, "%.*s%s", slash ? (int)(slash - f->path + 1) : 0, f->path, beside);
    struct stat s;
    const char *base = slash ? slash + 1 : f->path;
    if (strncmp(base, "adapter_model", 13) != 0 || stat(path, &s)) return TS_OK;
    ts_status st = ts_json_load(err, path, &f->json);
    return st ? st : read_lora_config(err, f, path);
}

ts_status ts_lora_open(ts_err *err, const char *path, ts_lora_file *f)
{
    ts_status st;
    struct stat s;
    memset(f, 0, sizeof *f);
    f->head = "";
    bool folder = stat(path, &s) == 0 && S_ISDIR(s.st_mode);
    if (asprintf(&f->path, folder ? "%s/adapter_model.safetensors" : "%s", path) < 0) {
        f->path = NULL;
        TRY(ts_fail(err, TS_EMEMORY, "%s: out of memory", path));
    }
    TRY(ts_source_open(err, f->path, &f->source));
    TRY(refuse_other_kinds(err, f));
    TRY(find_lora_config(err, f));
    TRY(sort_keys(err, f));
done:
    if (st) ts_lora_close(f);
    return st;
}

void ts_lora_close(ts_lora_file *f)
{
    for (int i = 0; i < f->modules; i++) free((char *)f->module[i].name);
    free(f->module);
    cJSON_Delete(f->json);
    ts_source_close(&f->source);
    free(f->path);
    memset(f, 0, sizeof *f);
}

/* ---- scales ---- */

/* Does the pattern name the module, or its end after a dot? */
static bool fits_pattern(const char *pattern, const char *module)
{
    char whole[512];
    regex_t r;
    snprintf(whole, sizeof whole, pattern[0] == '^' ? "%s$" : "^(.*\\.)?(%s)$", pattern);
    if (regcomp(&r, whole, REG_EXTENDED | REG_NOSUB)) return false;
    bool fits = regexec(&r, module, 0, NULL, 0) == 0;
    regfree(&r);
    return fits;
}

static double by_pattern(const cJSON *patterns, const char *module, double otherwise)
{
    const cJSON *p;
    cJSON_ArrayForEach(p, patterns)
    {
        if (cJSON_IsNumber(p) && fits_pattern(p->string, module)) return p->valuedouble;
    }
    return otherwise;
}

static ts_status read_alpha(ts_err *err, const ts_lora_file *f, const ts_entry *e, float *alpha)
{
    if (e->odd || ts_entry_count(e) != 1)
        return ts_fail(err, TS_EMODEL, "%s: \"%s\" is no single number", f->path, e->name);
    ts_status st = f->source.class->read(err, &f->source, e, 0, 1, alpha);
    if (!st && !isfinite(*alpha))
        st = ts_fail(err, TS_EMODEL, "%s: \"%s\", an alpha, is %g", f->path, e->name,
                     (double)*alpha);
    return st;
}

ts_status ts_lora_scale(ts_err *err, const ts_lora_file *f, const ts_lora_module *m, double *scale,
                        bool *zero)
{
    double r = (double)ts_entry_rows(m->a), alpha;
    float own;
    *scale = 1;
    *zero = false;
    if (m->alpha) {
        ts_status st = read_alpha(err, f, m->alpha, &own);
        if (st) return st;
        *scale = (double)own / r;
        *zero = own == 0;
    } else if (f->config) {
        alpha = by_pattern(config_value(f, "alpha_pattern"), m->name, f->alpha);
        *scale = f->rank_stabilized ? alpha / sqrt(r) : alpha / r;
        if (!isfinite(*scale))
            return ts_fail(err, TS_EMODEL, "%s: the alpha of %s is %g", f->path, m->name, alpha);
    }
    return TS_OK;
}
