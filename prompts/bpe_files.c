/* Reads byte-level BPE: the parts of tokenizer.json that are its own, and the vocab.json and
 * merges.txt of CLIP, whose rules stand in no file: NFC, white space as one space, small letters,
 * its pattern, and </w> behind the last letter of a word. */
#include "prompts/bpe.h"
#include "weights/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What ByteLevel splits by unless it is told not to (GPT-2). */
static const char pattern_of_gpt2[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
static const char pattern_of_clip[] =
    "'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+";
enum { MOST_TOKENS = 1 << 24, MOST_MERGES_BYTES = 1 << 28 };

static ts_status refuse_bpe_part(ts_tokenizer *t, const char *what, const char *name)
{
    return ts_fail(&t->ctx->err, TS_EMODEL, "%s: %s \"%.80s\" is not supported", t->path, what,
                   name ? name : "");
}

static const cJSON *bpe_field(const cJSON *j, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(j, key);
}

/* ---- vocabulary and merges ---- */

/* {token: id}; ids without a token are pieces that nothing finds */
static ts_status read_ids(ts_tokenizer *t, const cJSON *vocab)
{
    ts_status st = TS_OK;
    const cJSON *one;
    const char **name = NULL;
    int n = 0;
    if (!cJSON_IsObject(vocab) || !vocab->child)
        return ts_fail(&t->ctx->err, TS_EMODEL, "%s: the model has no vocab", t->path);
    cJSON_ArrayForEach(one, vocab)
    {
        if (!cJSON_IsNumber(one) || one->valuedouble < 0 || one->valuedouble >= MOST_TOKENS ||
            one->valuedouble != one->valueint)
            return ts_fail(&t->ctx->err, TS_EMODEL,
                           "%s: token \"%.80s\" of the vocab has no id from 0 to %d", t->path,
                           one->string, MOST_TOKENS - 1);
        if (one->valueint >= n) n = one->valueint + 1;
    }
    name = calloc((size_t)n + 1, sizeof *name);
    if (!name) TRY(ts_fail(&t->ctx->err, TS_EMEMORY, "%s: no memory for %d tokens", t->path, n));
    cJSON_ArrayForEach(one, vocab)
    {
        if (name[one->valueint])
            TRY(ts_fail(&t->ctx->err, TS_EMODEL, "%s: \"%.80s\" and \"%.80s\" both have id %d",
                        t->path, name[one->valueint], one->string, one->valueint));
        name[one->valueint] = one->string;
    }
    for (int i = 0; i < n; i++)
        if (!ts_tokenizer_add(t, name[i] ? name[i] : "", name[i] ? strlen(name[i]) : 0, 0,
                              TS_PIECE_NORMAL))
            TRY(ts_fail(&t->ctx->err, TS_EMEMORY, "%s: no memory for %d tokens", t->path, n));
    if (!ts_tokenizer_index(t))
        TRY(ts_fail(&t->ctx->err, TS_EMEMORY, "%s: no memory for %d tokens", t->path, n));
done:
    free(name);
    return st;
}

/* a, b: what is merged, by name */
static ts_status add_merge(ts_tokenizer *t, const char *a, size_t na, const char *b, size_t nb)
{
    ts_status st;
    ts_buf both = {0};
    ts_buf_put(&both, a, na);
    ts_buf_put(&both, b, nb);
    int left = ts_tokenizer_find(t, a, na), right = ts_tokenizer_find(t, b, nb),
        to = ts_tokenizer_find(t, ts_buf_text(&both), both.n);
    if (both.failed) TRY(ts_fail(&t->ctx->err, TS_EMEMORY, "%s: no memory for merges", t->path));
    if (!na || !nb || left < 0 || right < 0 || to < 0)
        TRY(ts_fail(&t->ctx->err, TS_EMODEL,
                    "%s: merge %d, \"%.*s %.*s\", is of tokens that are not in the vocab", t->path,
                    t->bpe->merges + 1, (int)(na < 80 ? na : 80), a, (int)(nb < 80 ? nb : 80), b));
    TRY(ts_bpe_add(t, left, right, to));
done:
    free(both.s);
    return st;
}

ts_status ts_bpe_add_line(ts_tokenizer *t, const char *s, size_t n)
{
    const char *space = memchr(s, ' ', n);
    if (!space || memchr(space + 1, ' ', n - (size_t)(space + 1 - s)))
        return ts_fail(&t->ctx->err, TS_EMODEL, "%s: merge %d is \"%.*s\", expected two tokens",
                       t->path, t->bpe->merges + 1, (int)(n < 80 ? n : 80), s);
    size_t left = (size_t)(space - s);
    return add_merge(t, s, left, space + 1, n - left - 1);
}

static ts_status read_json_merges(ts_tokenizer *t, const cJSON *list)
{
    ts_status st = TS_OK;
    const cJSON *one;
    if (!cJSON_IsArray(list))
        return ts_fail(&t->ctx->err, TS_EMODEL, "%s: the model has no merges", t->path);
    cJSON_ArrayForEach(one, list)
    {
        const cJSON *a = cJSON_IsArray(one) ? one->child : NULL, *b = a ? a->next : NULL;
        if (cJSON_IsString(one))
            TRY(ts_bpe_add_line(t, one->valuestring, strlen(one->valuestring)));
        else if (a && b && cJSON_IsString(a) && cJSON_IsString(b) && !b->next)
            TRY(add_merge(t, a->valuestring, strlen(a->valuestring), b->valuestring,
                          strlen(b->valuestring)));
        else
            TRY(ts_fail(&t->ctx->err, TS_EMODEL, "%s: merge %d is no pair of tokens", t->path,
                        t->bpe->merges + 1));
    }
done:
    return st;
}

/* ---- tokenizer.json ---- */

ts_status ts_bpe_read_model(ts_tokenizer *t, const cJSON *model)
{
    ts_status st;
    const char *end = cJSON_GetStringValue(bpe_field(model, "end_of_word_suffix")),
               *inner = cJSON_GetStringValue(bpe_field(model, "continuing_subword_prefix"));
    if (inner && *inner) TRY(refuse_bpe_part(t, "continuing_subword_prefix", inner));
    if (end && *end && strcmp(end, "</w>") != 0) TRY(refuse_bpe_part(t, "end_of_word_suffix", end));
    TRY(ts_bpe_new(t));
    if (end && *end) t->bpe->end = "</w>";
    t->bpe->whole = cJSON_IsTrue(bpe_field(model, "ignore_merges"));
    TRY(read_ids(t, bpe_field(model, "vocab")));
    TRY(read_json_merges(t, bpe_field(model, "merges")));
    TRY(ts_bpe_index(t));
done:
    return st;
}

static ts_status read_split(ts_tokenizer *t, const cJSON *j)
{
    const char *pattern = cJSON_GetStringValue(bpe_field(bpe_field(j, "pattern"), "Regex")),
               *behavior = cJSON_GetStringValue(bpe_field(j, "behavior"));
    bool invert = cJSON_IsTrue(bpe_field(j, "invert"));
    if (!pattern) return refuse_bpe_part(t, "pre_tokenizer Split", "a pattern that is no Regex");
    if (behavior && !strcmp(behavior, "Isolated")) return ts_bpe_split(t, pattern, true);
    if (behavior && !strcmp(behavior, "Removed") && invert) return ts_bpe_split(t, pattern, false);
    return refuse_bpe_part(t, "the behavior of pre_tokenizer Split", behavior);
}

ts_status ts_bpe_read_pre(ts_tokenizer *t, const cJSON *j, int depth)
{
    ts_status st = TS_OK;
    const char *type = cJSON_GetStringValue(bpe_field(j, "type"));
    const cJSON *one;
    if (!type || depth > 4) return refuse_bpe_part(t, "pre_tokenizer", type);
    if (!strcmp(type, "Sequence")) {
        cJSON_ArrayForEach(one, bpe_field(j, "pretokenizers"))
            TRY(ts_bpe_read_pre(t, one, depth + 1));
        return TS_OK;
    }
    if (!strcmp(type, "Split")) return read_split(t, j);
    if (strcmp(type, "ByteLevel") != 0) return refuse_bpe_part(t, "pre_tokenizer", type);
    if (cJSON_IsTrue(bpe_field(j, "add_prefix_space")))
        return refuse_bpe_part(t, "pre_tokenizer ByteLevel", "add_prefix_space");
    if (!cJSON_IsFalse(bpe_field(j, "use_regex"))) TRY(ts_bpe_split(t, pattern_of_gpt2, true));
done:
    return st;
}

/* ---- vocab.json and merges.txt ---- */

static ts_status add_clip_token(ts_tokenizer *t, const char *name, int *id, int *n)
{
    *id = ts_tokenizer_find(t, name, strlen(name));
    *n = 1;
    if (*id < 0)
        return ts_fail(&t->ctx->err, TS_EMODEL, "%s: the vocabulary has no %s", t->path, name);
    ts_added *a = t->added + t->addeds++;
    *a = (ts_added){.s = strdup(name), .id = *id, .normalized = true};
    return a->s ? TS_OK : ts_fail(&t->ctx->err, TS_EMEMORY, "%s: no memory for %s", t->path, name);
}

static ts_status read_merge_lines(ts_tokenizer *t)
{
    ts_status st = TS_OK;
    uint8_t *data = NULL;
    size_t size = 0;
    char *vocab = t->path, *slash = strrchr(vocab, '/'), *path = NULL;
    if (asprintf(&path, "%.*smerges.txt", slash ? (int)(slash + 1 - vocab) : 0, vocab) < 0) {
        path = NULL;
        TRY(ts_fail(&t->ctx->err, TS_EMEMORY, "%s: no memory for merges", vocab));
    }
    TRY(ts_file_read(&t->ctx->err, path, MOST_MERGES_BYTES, "merges", &data, &size));
    t->path = path; /* of sentences, while it is read */
    for (size_t at = 0, next; at < size; at = next + 1) {
        const uint8_t *end = memchr(data + at, '\n', size - at);
        next = end ? (size_t)(end - data) : size;
        size_t n = next - at;
        if (n && data[next - 1] == '\r') n--;
        /* a header, and an empty line at the end */
        if (!n || (!at && n > 8 && !memcmp(data, "#version", 8))) continue;
        TRY(ts_bpe_add_line(t, (const char *)data + at, n));
    }
done:
    t->path = vocab;
    free(path);
    free(data);
    return st;
}

ts_status ts_bpe_read_clip(ts_tokenizer *t, const cJSON *vocab)
{
    ts_status st;
    static const ts_rule rules[] = {
        {.kind = TS_RULE_NFC}, {.kind = TS_RULE_WHITE}, {.kind = TS_RULE_LOWER}};
    TRY(ts_bpe_new(t));
    t->bpe->end = "</w>";
    for (int i = 0; i < 3; i++) t->rule[t->rules++] = rules[i];
    TRY(ts_bpe_split(t, pattern_of_clip, false));
    TRY(read_ids(t, vocab));
    TRY(read_merge_lines(t));
    TRY(ts_bpe_index(t));
    t->added = calloc(2, sizeof *t->added);
    if (!t->added) TRY(ts_fail(&t->ctx->err, TS_EMEMORY, "%s: no memory for tokens", t->path));
    TRY(add_clip_token(t, "<|startoftext|>", t->before, &t->befores));
    TRY(add_clip_token(t, "<|endoftext|>", t->after, &t->afters));
done:
    return st;
}
