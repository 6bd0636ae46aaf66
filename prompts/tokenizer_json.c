/* Reads tokenizer.json of the tokenizers library: a Unigram model with its normalizer, pre-tokenizer, template and added tokens. What is not understood is refused by name. */
#include "prompts/unigram.h"

#include <stdlib.h>
#include <string.h>

static ts_status refuse(ts_tokenizer *t, const char *what, const char *name)
{
    return ts_fail(&t->ctx->err, TS_EMODEL, "%s: %s \"%s\" is not supported", t->path, what, name ? name : "");
}

static const cJSON *field(const cJSON *j, const char *key) { return cJSON_GetObjectItemCaseSensitive(j, key); }
static const char *string(const cJSON *j, const char *key) { return cJSON_GetStringValue(field(j, key)); }

static void *decode64(const char *s, size_t *size)
{
    uint8_t *out = malloc(strlen(s) / 4 * 3 + 4);
    uint32_t bits = 0;
    int have = 0;
    *size = 0;
    for (; out && *s && *s != '='; s++) {
        static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        const char *d = strchr(digits, *s);
        if (!d) continue;
        bits = bits << 6 | (uint32_t)(d - digits), have += 6;
        if (have >= 8) out[(*size)++] = (uint8_t)(bits >> (have -= 8));
    }
    return out;
}

static ts_status read_map(ts_tokenizer *t, const cJSON *j)
{
    const char *text = string(j, "precompiled_charsmap");
    size_t size;
    if (!text || !*text) return TS_OK;
    if (t->map.units) return refuse(t, "a second normalizer", "Precompiled");
    void *blob = decode64(text, &size);
    if (!blob) return ts_fail(&t->ctx->err, TS_EMEMORY, "%s: no memory for a character map", t->path);
    ts_status st = ts_charsmap_init(&t->ctx->err, t->path, blob, size, &t->map);
    free(blob);
    return st;
}

static ts_status add_rule(ts_tokenizer *t, ts_rule r, const char *from, const char *to)
{
    if (t->rules == sizeof t->rule / sizeof *t->rule) return refuse(t, "so many normalizers as in", "normalizer");
    r.from = from ? strdup(from) : NULL, r.to = to ? strdup(to) : NULL;
    t->rule[t->rules++] = r;
    return TS_OK;
}

static ts_status read_replace(ts_tokenizer *t, const cJSON *j)
{
    const cJSON *pattern = field(j, "pattern");
    const char *content = string(j, "content"), *plain = string(pattern, "String"), *regex = string(pattern, "Regex");
    if (!content) return refuse(t, "normalizer", "Replace without content");
    if (plain && *plain) return add_rule(t, (ts_rule){.kind = TS_RULE_REPLACE}, plain, content);
    if (regex && !strcmp(regex, " {2,}")) return add_rule(t, (ts_rule){.kind = TS_RULE_SPACES}, NULL, content);
    return refuse(t, "the pattern of normalizer Replace", regex);
}

static ts_status read_normalizer(ts_tokenizer *t, const cJSON *j, int depth)
{
    static const struct { const char *name; ts_rule_kind kind; } plain[] = {{"NFC", TS_RULE_NFC}, {"NFD", TS_RULE_NFD}, {"NFKC", TS_RULE_NFKC}, {"NFKD", TS_RULE_NFKD}, {"Lowercase", TS_RULE_LOWER}};
    ts_status st = TS_OK;
    const char *type = string(j, "type");
    const cJSON *one;
    if (!j || cJSON_IsNull(j)) return TS_OK;
    if (!type || depth > 4) return refuse(t, "normalizer", type);
    if (!strcmp(type, "Sequence")) {
        cJSON_ArrayForEach(one, field(j, "normalizers")) TRY(read_normalizer(t, one, depth + 1));
        return TS_OK;
    }
    if (!strcmp(type, "Precompiled")) {
        TRY(read_map(t, j));
        return add_rule(t, (ts_rule){.kind = TS_RULE_CHARSMAP}, NULL, NULL);
    }
    if (!strcmp(type, "Strip")) return add_rule(t, (ts_rule){.kind = TS_RULE_STRIP, .left = cJSON_IsTrue(field(j, "strip_left")), .right = cJSON_IsTrue(field(j, "strip_right"))}, NULL, NULL);
    if (!strcmp(type, "Replace")) return read_replace(t, j);
    if (!strcmp(type, "Prepend") && string(j, "prepend")) return add_rule(t, (ts_rule){.kind = TS_RULE_PREPEND}, NULL, string(j, "prepend"));
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (!strcmp(type, plain[i].name)) return add_rule(t, (ts_rule){.kind = plain[i].kind}, NULL, NULL);
    st = refuse(t, "normalizer", type);
done:
    return st;
}

static ts_status read_pre(ts_tokenizer *t, const cJSON *j, int depth)
{
    ts_status st = TS_OK;
    const char *type = string(j, "type");
    const cJSON *one;
    if (!j || cJSON_IsNull(j)) return TS_OK;
    if (!type || depth > 4) return refuse(t, "pre_tokenizer", type);
    if (!strcmp(type, "Sequence")) {
        cJSON_ArrayForEach(one, field(j, "pretokenizers")) TRY(read_pre(t, one, depth + 1));
        return TS_OK;
    }
    if (!strcmp(type, "WhitespaceSplit") && !t->metaspace) {
        t->words = true;
        return TS_OK;
    }
    if (strcmp(type, "Metaspace")) return refuse(t, "pre_tokenizer", type);
    const char *mark = string(j, "replacement"), *scheme = string(j, "prepend_scheme");
    if (mark && strcmp(mark, "\xE2\x96\x81")) return refuse(t, "the replacement of pre_tokenizer Metaspace", mark);
    if (cJSON_IsFalse(field(j, "split"))) return refuse(t, "pre_tokenizer Metaspace with split", "false");
    if (scheme && strcmp(scheme, "always") && strcmp(scheme, "never")) return refuse(t, "the prepend_scheme of pre_tokenizer Metaspace", scheme);
    t->metaspace = true;
    t->prepend = scheme ? !strcmp(scheme, "always") : !cJSON_IsFalse(field(j, "add_prefix_space"));
done:
    return st;
}

static ts_status read_template(ts_tokenizer *t, const cJSON *j)
{
    const char *type = string(j, "type");
    const cJSON *one;
    bool seen = false;
    if (!j || cJSON_IsNull(j)) return TS_OK;
    if (!type || strcmp(type, "TemplateProcessing")) return refuse(t, "post_processor", type);
    cJSON_ArrayForEach(one, field(j, "single")) {
        const char *name = string(field(one, "SpecialToken"), "id");
        if (field(one, "Sequence")) seen = true;
        if (!name) continue;
        const cJSON *id = cJSON_GetArrayItem(field(field(field(j, "special_tokens"), name), "ids"), 0);
        int *n = seen ? &t->afters : &t->befores;
        if (!cJSON_IsNumber(id) || *n == 4) return refuse(t, "the special token of post_processor", name);
        (seen ? t->after : t->before)[(*n)++] = id->valueint;
    }
    return TS_OK;
}

static ts_status read_added(ts_tokenizer *t, const cJSON *list)
{
    const cJSON *one;
    int n = cJSON_GetArraySize(list);
    t->added = calloc((size_t)n + 1, sizeof *t->added);
    if (!t->added) return ts_fail(&t->ctx->err, TS_EMEMORY, "%s: no memory for %d added tokens", t->path, n);
    cJSON_ArrayForEach(one, list) {
        const char *s = string(one, "content");
        const cJSON *id = field(one, "id");
        if (!s || !*s || !cJSON_IsNumber(id) || id->valueint < 0) return ts_fail(&t->ctx->err, TS_EMODEL, "%s: an added token without content or id", t->path);
        ts_added *a = t->added + t->addeds++;
        *a = (ts_added){.s = strdup(s), .n = strlen(s), .id = id->valueint, .lstrip = cJSON_IsTrue(field(one, "lstrip")), .rstrip = cJSON_IsTrue(field(one, "rstrip"))};
    }
    return TS_OK;
}

static ts_status read_vocab(ts_tokenizer *t, const cJSON *model)
{
    const cJSON *one, *unk = field(model, "unk_id"), *vocab = field(model, "vocab");
    const char *type = string(model, "type");
    double least = 0;
    if (!type || strcmp(type, "Unigram")) return refuse(t, "tokenizer model", type);
    if (!cJSON_IsArray(vocab) || !cJSON_GetArraySize(vocab)) return ts_fail(&t->ctx->err, TS_EMODEL, "%s: the model has no vocab", t->path);
    cJSON_ArrayForEach(one, vocab) {
        const cJSON *s = cJSON_IsArray(one) ? one->child : NULL, *score = s ? s->next : NULL;
        if (!cJSON_IsString(s) || !cJSON_IsNumber(score)) return ts_fail(&t->ctx->err, TS_EMODEL, "%s: entry %d of the vocab is not a piece and a score", t->path, t->pieces);
        if (!ts_tokenizer_add(t, s->valuestring, strlen(s->valuestring), score->valuedouble, TS_PIECE_NORMAL)) return ts_fail(&t->ctx->err, TS_EMEMORY, "%s: no memory for the vocab", t->path);
        if (score->valuedouble < least) least = score->valuedouble;
    }
    t->unk = cJSON_IsNumber(unk) ? unk->valueint : -1;
    if (t->unk < 0 || t->unk >= t->pieces) return ts_fail(&t->ctx->err, TS_EMODEL, "%s: unk_id %d, the vocab has %d pieces", t->path, t->unk, t->pieces);
    t->unk_score = least - 10;
    t->byte_fallback = cJSON_IsTrue(field(model, "byte_fallback"));
    return TS_OK;
}

ts_status ts_tokenizer_json(ts_tokenizer *t, const cJSON *j)
{
    ts_status st = TS_OK;
    TRY(read_vocab(t, field(j, "model")));
    TRY(read_normalizer(t, field(j, "normalizer"), 0));
    TRY(read_pre(t, field(j, "pre_tokenizer"), 0));
    TRY(read_template(t, field(j, "post_processor")));
    TRY(read_added(t, field(j, "added_tokens")));
done:
    return st;
}
