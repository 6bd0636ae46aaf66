/* Reads tokenizer.json of the tokenizers library: a Unigram or BPE model with its normalizer,
 * pre-tokenizer, template and added tokens. What is not understood is refused by name. */
#include "backend/base64.h"
#include "prompts/bpe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_IDS = 1 << 28 };

static ts_status refuse_part(ts_tokenizer *t, const char *what, const char *name)
{
    return ts_fail(&t->ctx->err, TS_EMODEL, "%s: %s \"%.80s\" is not supported", t->path, what,
                   name ? name : "");
}

static ts_status refuse_vocabulary_memory(ts_tokenizer *t)
{
    return ts_fail(&t->ctx->err, TS_EMEMORY, "%s: no memory for the vocabulary", t->path);
}

static const cJSON *find_field(const cJSON *j, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(j, key);
}
static const char *read_string(const cJSON *j, const char *key)
{
    return cJSON_GetStringValue(find_field(j, key));
}

static ts_status read_map(ts_tokenizer *t, const cJSON *j)
{
    ts_status st = TS_OK;
    const char *text = read_string(j, "precompiled_charsmap");
    uint8_t *blob = NULL;
    size_t size;
    if (!text)
        return ts_fail(&t->ctx->err, TS_EMODEL,
                       "%s: normalizer Precompiled has no precompiled_charsmap", t->path);
    if (!*text) return TS_OK;
    if (t->map.units) return refuse_part(t, "a second normalizer", "Precompiled");
    blob = malloc(strlen(text) / 4 * 3 + 3);
    if (!blob) TRY(refuse_vocabulary_memory(t));
    if (!ts_base64_decode(text, blob, &size))
        TRY(ts_fail(&t->ctx->err, TS_EMODEL, "%s: the precompiled_charsmap is not base64",
                    t->path));
    TRY(ts_charsmap_init(&t->ctx->err, t->path, blob, size, &t->map));
done:
    free(blob);
    return st;
}

static ts_status add_rule(ts_tokenizer *t, ts_rule r, const char *from, const char *to)
{
    if (t->rules == sizeof t->rule / sizeof *t->rule)
        return ts_fail(&t->ctx->err, TS_EMODEL, "%s: more than %d normalizers are not supported",
                       t->path, t->rules);
    r.from = from ? strdup(from) : NULL;
    r.to = to ? strdup(to) : NULL;
    t->rule[t->rules++] = r;
    return (from && !r.from) || (to && !r.to) ? refuse_vocabulary_memory(t) : TS_OK;
}

static ts_status read_replace(ts_tokenizer *t, const cJSON *j)
{
    const cJSON *pattern = find_field(j, "pattern");
    const char *content = read_string(j, "content"), *plain = read_string(pattern, "String"),
               *regex = read_string(pattern, "Regex");
    if (!content) return refuse_part(t, "normalizer", "Replace without content");
    if (plain && *plain) return add_rule(t, (ts_rule){.kind = TS_RULE_REPLACE}, plain, content);
    if (regex && !strcmp(regex, " {2,}"))
        return add_rule(t, (ts_rule){.kind = TS_RULE_SPACES}, NULL, content);
    if (regex && !strcmp(regex, "\\s+") && !strcmp(content, " "))
        return add_rule(t, (ts_rule){.kind = TS_RULE_WHITE}, NULL, NULL);
    return refuse_part(t, "the pattern of normalizer Replace", regex);
}

static ts_status read_json_normalizer(ts_tokenizer *t, const cJSON *j, int depth)
{
    static const struct {
        const char *name;
        ts_rule_kind kind;
    } plain[] = {{"NFC", TS_RULE_NFC},
                 {"NFD", TS_RULE_NFD},
                 {"NFKC", TS_RULE_NFKC},
                 {"NFKD", TS_RULE_NFKD},
                 {"Lowercase", TS_RULE_LOWER}};
    ts_status st = TS_OK;
    const char *type = read_string(j, "type");
    const cJSON *one;
    if (!j || cJSON_IsNull(j)) return TS_OK;
    if (!type || depth > 4) return refuse_part(t, "normalizer", type);
    if (!strcmp(type, "Sequence")) {
        cJSON_ArrayForEach(one, find_field(j, "normalizers"))
            TRY(read_json_normalizer(t, one, depth + 1));
        return TS_OK;
    }
    if (!strcmp(type, "Precompiled")) {
        TRY(read_map(t, j));
        return add_rule(t, (ts_rule){.kind = TS_RULE_CHARSMAP}, NULL, NULL);
    }
    if (!strcmp(type, "Strip"))
        return add_rule(t,
                        (ts_rule){.kind = TS_RULE_STRIP,
                                  .left = cJSON_IsTrue(find_field(j, "strip_left")),
                                  .right = cJSON_IsTrue(find_field(j, "strip_right"))},
                        NULL, NULL);
    if (!strcmp(type, "Replace")) return read_replace(t, j);
    if (!strcmp(type, "Prepend") && read_string(j, "prepend"))
        return add_rule(t, (ts_rule){.kind = TS_RULE_PREPEND}, NULL, read_string(j, "prepend"));
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (!strcmp(type, plain[i].name))
            return add_rule(t, (ts_rule){.kind = plain[i].kind}, NULL, NULL);
    st = refuse_part(t, "normalizer", type);
done:
    return st;
}

/* Older exports say add_prefix_space, newer ones prepend_scheme. */
static ts_status read_metaspace(ts_tokenizer *t, const cJSON *j)
{
    static const char *const schemes[] = {
        [TS_PREPEND_NEVER] = "never", [TS_PREPEND_FIRST] = "first", [TS_PREPEND_ALWAYS] = "always"};
    const char *mark = read_string(j, "replacement"), *scheme = read_string(j, "prepend_scheme");
    int found = -1;
    if (mark && strcmp(mark, TS_MARK))
        return refuse_part(t, "the replacement of pre_tokenizer Metaspace", mark);
    for (int i = 0; scheme && i < 3; i++)
        if (!strcmp(scheme, schemes[i])) found = i;
    if (scheme && found < 0)
        return refuse_part(t, "the prepend_scheme of pre_tokenizer Metaspace", scheme);
    t->metaspace = true;
    t->whole = cJSON_IsFalse(find_field(j, "split"));
    t->prepend = scheme                                             ? (ts_prepend)found
                 : cJSON_IsFalse(find_field(j, "add_prefix_space")) ? TS_PREPEND_NEVER
                                                                    : TS_PREPEND_ALWAYS;
    return TS_OK;
}

static ts_status read_pre(ts_tokenizer *t, const cJSON *j, int depth)
{
    ts_status st = TS_OK;
    const char *type = read_string(j, "type");
    const cJSON *one;
    if (!j || cJSON_IsNull(j)) return TS_OK;
    if (!type || depth > 4) return refuse_part(t, "pre_tokenizer", type);
    if (!strcmp(type, "Sequence")) {
        cJSON_ArrayForEach(one, find_field(j, "pretokenizers")) TRY(read_pre(t, one, depth + 1));
        return TS_OK;
    }
    if (!strcmp(type, "WhitespaceSplit") && !t->metaspace) {
        t->words = true;
        return TS_OK;
    }
    if (strcmp(type, "Metaspace") || t->metaspace) return refuse_part(t, "pre_tokenizer", type);
    TRY(read_metaspace(t, j));
done:
    return st;
}

/* RobertaProcessing: ["</s>", 2] behind a text, another before it */
static ts_status read_framing(ts_tokenizer *t, const cJSON *j, const char *key, int *id, int *n)
{
    const cJSON *one = cJSON_GetArrayItem(find_field(j, key), 1);
    if (!cJSON_IsNumber(one) || one->valueint < 0)
        return refuse_part(t, "post_processor RobertaProcessing without", key);
    *id = one->valueint;
    *n = 1;
    return TS_OK;
}

/* What stands before and after the text. Unigram encoders of text need an end token, so a file
 * without one is refused. */
static ts_status read_template(ts_tokenizer *t, const cJSON *j)
{
    ts_status st = TS_OK;
    const char *type = read_string(j, "type");
    const cJSON *one;
    bool seen = false;
    if (t->bpe && type && !strcmp(type, "Sequence")) {
        cJSON_ArrayForEach(
            one, find_field(j, "processors")) if (!read_string(one, "type") ||
                                                  strcmp(read_string(one, "type"), "Sequence") != 0)
            TRY(read_template(t, one));
        return TS_OK;
    }
    if (t->bpe && type && !strcmp(type, "ByteLevel")) return TS_OK;
    if (t->bpe && type && !strcmp(type, "RobertaProcessing")) {
        TRY(read_framing(t, j, "cls", t->before, &t->befores));
        return read_framing(t, j, "sep", t->after, &t->afters);
    }
    if (j && !cJSON_IsNull(j) && (!type || strcmp(type, "TemplateProcessing")))
        return refuse_part(t, "post_processor", type);
    cJSON_ArrayForEach(one, find_field(j, "single"))
    {
        const char *name = read_string(find_field(one, "SpecialToken"), "id");
        if (find_field(one, "Sequence")) seen = true;
        if (!name) continue;
        const cJSON *ids = find_field(find_field(find_field(j, "special_tokens"), name), "ids"),
                    *id = cJSON_GetArrayItem(ids, 0);
        int *n = seen ? &t->afters : &t->befores;
        if (!cJSON_IsNumber(id) || id->valueint < 0 || cJSON_GetArraySize(ids) != 1 || *n == 4)
            return refuse_part(t, "the special token of post_processor", name);
        (seen ? t->after : t->before)[(*n)++] = id->valueint;
    }
    if (!t->afters && !t->bpe)
        return ts_fail(&t->ctx->err, TS_EMODEL, "%s: post_processor appends no end token", t->path);
done:
    return st;
}

static bool read_flag(const cJSON *j, const char *key, bool otherwise)
{
    const cJSON *v = find_field(j, key);
    return cJSON_IsBool(v) ? cJSON_IsTrue(v) : otherwise;
}

static ts_status read_added(ts_tokenizer *t, const cJSON *list)
{
    const cJSON *one;
    int n = cJSON_GetArraySize(list);
    t->added = calloc((size_t)n + 1, sizeof *t->added);
    if (!t->added) return refuse_vocabulary_memory(t);
    cJSON_ArrayForEach(one, list)
    {
        const char *s = read_string(one, "content");
        const cJSON *id = find_field(one, "id");
        if (!s || !*s || !cJSON_IsNumber(id) || id->valueint < 0 || id->valueint > MOST_IDS)
            return ts_fail(&t->ctx->err, TS_EMODEL, "%s: added token %d has no content or no id",
                           t->path, t->addeds);
        if (read_flag(one, "single_word", false))
            return refuse_part(t, "the single_word of added token", s);
        ts_added *a = t->added + t->addeds++;
        *a = (ts_added){.s = strdup(s),
                        .id = id->valueint,
                        .left = read_flag(one, "lstrip", false),
                        .right = read_flag(one, "rstrip", false)};
        a->normalized = read_flag(one, "normalized", !read_flag(one, "special", false));
        if (!a->s) return refuse_vocabulary_memory(t);
    }
    return TS_OK;
}

/* Every id that a text can become is a token's. */
static ts_status check_template(ts_tokenizer *t)
{
    int count = ts_token_count(t);
    for (int i = 0; i < t->befores; i++)
        if (t->before[i] >= count)
            return ts_fail(&t->ctx->err, TS_EMODEL,
                           "%s: post_processor puts id %d before a text, there are %d tokens",
                           t->path, t->before[i], count);
    for (int i = 0; i < t->afters; i++)
        if (t->after[i] >= count)
            return ts_fail(&t->ctx->err, TS_EMODEL,
                           "%s: post_processor puts id %d behind a text, there are %d tokens",
                           t->path, t->after[i], count);
    return TS_OK;
}

static ts_status read_vocab(ts_tokenizer *t, const cJSON *model)
{
    const cJSON *one, *unk = find_field(model, "unk_id"), *vocab = find_field(model, "vocab");
    const char *type = read_string(model, "type");
    double least = HUGE_VAL;
    if (type && !strcmp(type, "BPE")) return ts_bpe_read_model(t, model);
    if (!type || strcmp(type, "Unigram")) return refuse_part(t, "tokenizer model", type);
    if (!cJSON_IsArray(vocab) || !vocab->child)
        return ts_fail(&t->ctx->err, TS_EMODEL, "%s: the model has no vocab", t->path);
    cJSON_ArrayForEach(one, vocab)
    {
        const cJSON *s = cJSON_IsArray(one) ? one->child : NULL, *score = s ? s->next : NULL;
        if (!s || !cJSON_IsString(s) || !cJSON_IsNumber(score))
            return ts_fail(&t->ctx->err, TS_EMODEL,
                           "%s: entry %d of the vocab is not a piece and a score", t->path,
                           t->pieces);
        if (!ts_tokenizer_add(t, s->valuestring, strlen(s->valuestring), score->valuedouble,
                              TS_PIECE_NORMAL))
            return refuse_vocabulary_memory(t);
        if (score->valuedouble < least) least = score->valuedouble;
    }
    t->unk = cJSON_IsNumber(unk) ? unk->valueint : -1;
    if (t->unk < 0 || t->unk >= t->pieces)
        return ts_fail(&t->ctx->err, TS_EMODEL, "%s: unk_id is %d, the vocab has %d pieces",
                       t->path, t->unk, t->pieces);
    t->unk_score = least - 10;
    t->byte_fallback = read_flag(model, "byte_fallback", false);
    return TS_OK;
}

ts_status ts_tokenizer_json(ts_tokenizer *t, const cJSON *j)
{
    ts_status st = TS_OK;
    TRY(read_vocab(t, find_field(j, "model")));
    TRY(read_json_normalizer(t, find_field(j, "normalizer"), 0));
    TRY(t->bpe ? ts_bpe_read_pre(t, find_field(j, "pre_tokenizer"), 0)
               : read_pre(t, find_field(j, "pre_tokenizer"), 0));
    TRY(read_template(t, find_field(j, "post_processor")));
    TRY(read_added(t, find_field(j, "added_tokens")));
    TRY(check_template(t));
done:
    return st;
}
