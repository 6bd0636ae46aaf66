/* Decides which files of a folder are a component's, opens them as sources and merges their names.
 *
 *   STEM.safetensors                            STEM.fp16.safetensors
 *   STEM.safetensors.index.json                 STEM.safetensors.index.fp16.json
 *                                               STEM.safetensors.fp16.index.json
 *   {"weight_map": {"tensor": "STEM-00001-of-00002.safetensors", ...}} */
#include "weights/checkpoint.h"

#include "backend/suffix.h"
#include "weights/config.h"
#include "weights/gguf.h"
#include "weights/rename.h"
#include "weights/split.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- which file ---- */

static int rank_variant(const char *variant)
{
    return !strncmp(variant, "bf16.", 5) ? 0 : !strncmp(variant, "fp16.", 5) ? 1 : 2;
}

/* The best file of `dir` called HEAD<variant>TAIL, the variant without dots and dashes; NULL:
 * none. */
static char *find_variant(const char *dir, const char *head, const char *tail)
{
    char *best = NULL;
    size_t n = strlen(head);
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        const char *s = e->d_name;
        if (strncmp(s, head, n) || !ts_ends_with(s, tail)) continue;
        size_t variant = strcspn(s + n, ".-");
        if (variant == 0 || strcmp(s + n + variant, tail)) continue;
        if (best) {
            int order = rank_variant(s + n) - rank_variant(best + n);
            if (order > 0 || (order == 0 && strcmp(s, best) > 0)) continue;
        }
        free(best);
        best = strdup(s);
    }
    if (d) closedir(d);
    return best;
}

/* A link without a target counts as there: opening it then says what is wrong. */
static bool is_there(const char *path)
{
    return faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool try_file(const char *dir, char *name, char **path)
{
    *path = NULL;
    if (name && asprintf(path, "%s/%s", dir, name) < 0) *path = NULL;
    free(name);
    if (*path && is_there(*path)) return true;
    free(*path);
    *path = NULL;
    return false;
}

static char *format_name(const char *format, const char *stem)
{
    char *s = NULL;
    return asprintf(&s, format, stem) < 0 ? NULL : s;
}

/* Shards without an index. */
static bool has_shards(const char *dir, const char *stem)
{
    bool found = false;
    size_t n = strlen(stem);
    DIR *d = opendir(dir);
    for (struct dirent *e; d && !found && (e = readdir(d));)
        found = !strncmp(e->d_name, stem, n) && strstr(e->d_name + n, "-of-") &&
                ts_ends_with(e->d_name, ".safetensors");
    if (d) closedir(d);
    return found;
}

/* The file or index to open. Beside each other, diffusers takes the index, transformers (whose stem
 * is `model`) the file. */
static ts_status choose_files(ts_ctx *ctx, const char *dir, const char *stem, char **path)
{
    static const char *const plain[] = {"%s.safetensors", "%s.safetensors.index.json"};
    int first = strcmp(stem, "model") != 0;
    char *file = format_name("%s.", stem), *index = format_name("%s.safetensors.index.", stem),
         *legacy = format_name("%s.safetensors.", stem);
    bool found = file && index && legacy &&
                 (try_file(dir, format_name(plain[first], stem), path) ||
                  try_file(dir, format_name(plain[!first], stem), path) ||
                  try_file(dir, find_variant(dir, file, ".safetensors"), path) ||
                  try_file(dir, find_variant(dir, index, ".json"), path) ||
                  try_file(dir, find_variant(dir, legacy, ".index.json"), path));
    free(file);
    free(index);
    free(legacy);
    if (found) return TS_OK;
    char *other = NULL;
    const char *also =
        has_shards(dir, stem)
            ? "; shards are there, but the index that lists them is not: download it, too"
        : try_file(dir, format_name("%s.bin", stem), &other) ||
                try_file(dir, format_name("%s.bin.index.json", stem), &other) ||
                try_file(dir, format_name("pytorch_%s.bin", stem), &other)
            ? "; weights are there as .bin, which is not read: take the safetensors files"
            : "";
    free(other);
    return ts_fail(&ctx->err, TS_EMODEL,
                   "%s: there is neither %s.safetensors nor %s.safetensors.index.json%s", dir, stem,
                   stem, also);
}

/* ---- shards ---- */

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The different files that a weight_map names, in order. The names stay cJSON's. */
static ts_status list_shards(ts_err *err, const char *index, const cJSON *map, const char ***out,
                             int *n)
{
    const cJSON *j;
    int all = cJSON_IsObject(map) ? cJSON_GetArraySize(map) : 0, k = 0;
    if (all == 0) return ts_fail(err, TS_EMODEL, "%s: \"weight_map\" names no tensor", index);
    const char **shard = malloc((size_t)all * sizeof *shard);
    if (!shard) return ts_fail(err, TS_EMEMORY, "%s: out of memory", index);
    *out = shard;
    cJSON_ArrayForEach(j, map)
    {
        if (!cJSON_IsString(j) || !j->valuestring[0] || strchr(j->valuestring, '/'))
            return ts_fail(err, TS_EMODEL, "%s: tensor \"%s\": the shard is no file name", index,
                           j->string);
        shard[k++] = j->valuestring;
    }
    qsort(shard, (size_t)k, sizeof *shard, compare_texts);
    *n = 0;
    for (int i = 0; i < k; i++)
        if (i == 0 || strcmp(shard[i], shard[i - 1])) shard[(*n)++] = shard[i];
    return TS_OK;
}

static ts_status open_one(ts_ctx *ctx, const char *path, ts_checkpoint *c)
{
    ts_source *s = c->source + c->sources;
    ts_status st = ts_source_open(&ctx->err, path, s);
    if (st) return st;
    c->sources++;
    if (s->warning) ts_warn(ctx, "%s", s->warning);
    return TS_OK;
}

static ts_status refuse_checkpoint_memory(ts_ctx *ctx, const char *what)
{
    return ts_fail(&ctx->err, TS_EMEMORY, "%s: out of memory", what);
}

/* What the parts of a GGUF say of themselves is what their names say, and they are all there. */
static ts_status check_parts(ts_ctx *ctx, const ts_checkpoint *c, int parts)
{
    int64_t v, wanted = -1, tensors = 0;
    for (int i = 0; i < c->sources; i++) {
        const ts_gguf *g = ts_gguf_of(c->source + i);
        tensors += c->source[i].entries;
        if (!g) continue;
        if (ts_gguf_whole(g, "split.count", &v) && v > 1 && v != parts)
            return ts_fail(&ctx->err, TS_EMODEL,
                           parts > 1 ? "%s is one of %lld parts by its key split.count, of %d by "
                                       "its name"
                                     : "%s is one of %lld parts of a GGUF, which are found by "
                                       "their names (NAME-00001-of-00003.gguf): %d is there",
                           c->source[i].path, (long long)v, parts);
        if (parts > 1 && ts_gguf_whole(g, "split.no", &v) && v != i)
            return ts_fail(&ctx->err, TS_EMODEL,
                           "%s is part %lld by its key split.no, %d by its "
                           "name",
                           c->source[i].path, (long long)v + 1, i + 1);
        if (parts > 1 && ts_gguf_whole(g, "split.tensors.count", &v)) wanted = v;
    }
    if (wanted >= 0 && wanted != tensors)
        return ts_fail(&ctx->err, TS_EMODEL,
                       "%s: its %d parts have %lld tensors, %lld by their key "
                       "split.tensors.count",
                       c->what, parts, (long long)tensors, (long long)wanted);
    return TS_OK;
}

/* The file, or the parts that it is one of by its name. */
static ts_status open_parts(ts_ctx *ctx, ts_checkpoint *c)
{
    ts_status st = TS_OK;
    char *path = NULL;
    ts_split split;
    ts_split_read(c->what, &split);
    if (!(c->source = calloc((size_t)split.parts, sizeof *c->source)))
        TRY(refuse_checkpoint_memory(ctx, c->what));
    for (int i = 1; i <= split.parts; i++) {
        free(path);
        if (!(path = ts_split_path(&split, i))) TRY(refuse_checkpoint_memory(ctx, c->what));
        if (i != split.part && !is_there(path))
            TRY(ts_fail(&ctx->err, TS_EMODEL, "%s is missing: %s is one of %d parts", path, c->what,
                        split.parts));
        TRY(open_one(ctx, path, c));
    }
    TRY(check_parts(ctx, c, split.parts));
done:
    free(path);
    return st;
}

static ts_status open_shards(ts_ctx *ctx, const char *dir, const char *index, const cJSON *map,
                             ts_checkpoint *c)
{
    ts_status st;
    const char **shard = NULL;
    char *path = NULL;
    int n = 0;
    TRY(list_shards(&ctx->err, index, map, &shard, &n));
    if (!(c->source = calloc((size_t)n, sizeof *c->source)))
        TRY(refuse_checkpoint_memory(ctx, index));
    for (int i = 0; i < n; i++) {
        free(path);
        if (asprintf(&path, "%s/%s", dir, shard[i]) < 0) path = NULL;
        if (!path) TRY(refuse_checkpoint_memory(ctx, index));
        if (!is_there(path))
            TRY(ts_fail(&ctx->err, TS_EMODEL, "%s is missing: %s names it as one of %d shards",
                        path, index, n));
        TRY(open_one(ctx, path, c));
    }
done:
    free(path);
    free(shard);
    return st;
}

/* ---- names ---- */

static int compare_named(const void *a, const void *b)
{
    return strcmp(((const ts_named *)a)->name, ((const ts_named *)b)->name);
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp((*(const cJSON *const *)a)->string, (*(const cJSON *const *)b)->string);
}

static bool is_in_shard(const ts_named *n, const char *file)
{
    const char *path = n->source->path;
    return ts_ends_with(path, file) && path[strlen(path) - strlen(file) - 1] == '/';
}

/* Of tensors with one name in two shards only the one that the index means stays; every tensor of
 * the index must be there. */
static ts_status apply_index(ts_ctx *ctx, ts_checkpoint *c, const cJSON *map)
{
    ts_status st = TS_OK;
    int keys = cJSON_GetArraySize(map), k = 0, kept = 0, extra = 0;
    const char *first_extra = NULL;
    const cJSON *j, **key = malloc((size_t)keys * sizeof *key);
    if (!key) return ts_fail(&ctx->err, TS_EMEMORY, "%s: out of memory", c->what);
    cJSON_ArrayForEach(j, map) key[k++] = j;
    qsort(key, (size_t)keys, sizeof *key, compare_keys);
    k = 0;
    for (int i = 0; i < c->names;) {
        int end = i + 1, take = -1;
        while (end < c->names && compare_named(c->name + i, c->name + end) == 0) end++;
        if (k < keys && strcmp(key[k]->string, c->name[i].name) < 0) goto missing;
        if (k < keys && !strcmp(key[k]->string, c->name[i].name)) {
            for (int a = i; a < end; a++)
                if (is_in_shard(c->name + a, key[k]->valuestring)) take = a;
            if (take < 0) goto missing;
            k++;
            if (k < keys && !strcmp(key[k]->string, key[k - 1]->string))
                TRY(ts_fail(&ctx->err, TS_EMODEL, "%s: tensor \"%s\" appears twice", c->what,
                            key[k]->string));
        } else if (end > i + 1) {
            TRY(ts_fail(&ctx->err, TS_EMODEL,
                        "%s: tensor \"%s\" is also in %s, and %s does not say which counts",
                        c->name[i].source->path, c->name[i].name, c->name[i + 1].source->path,
                        c->what));
        } else {
            take = i;
            if (extra++ == 0) first_extra = c->name[i].name;
        }
        c->name[kept++] = c->name[take];
        i = end;
    }
    if (k < keys) goto missing;
    c->names = kept;
    if (extra)
        ts_warn(ctx, "%s: the shards hold %d tensor%s that it does not name, such as \"%s\"",
                c->what, extra, extra == 1 ? "" : "s", first_extra);
done:
    free(key);
    return st;
missing:
    st = ts_fail(&ctx->err, TS_EMODEL, "%s: tensor \"%s\" is not in %s, where the index has it",
                 c->what, key[k]->string, key[k]->valuestring);
    goto done;
}

/* Of parts without an index. */
static ts_status refuse_two_parts(ts_ctx *ctx, const ts_checkpoint *c)
{
    for (int i = 1; i < c->names; i++)
        if (compare_named(c->name + i - 1, c->name + i) == 0)
            return ts_fail(&ctx->err, TS_EMODEL, "tensor \"%s\" is in %s and in %s",
                           c->name[i].name, c->name[i - 1].source->path, c->name[i].source->path);
    return TS_OK;
}

/* The names by which models ask: of a file with names of its own, they would be translated here. */
static ts_status merge_names(ts_ctx *ctx, ts_checkpoint *c)
{
    size_t n = 1;
    for (int k = 0; k < c->sources; k++) n += (size_t)c->source[k].entries;
    if (!(c->name = malloc(n * sizeof *c->name)))
        return ts_fail(&ctx->err, TS_EMEMORY, "%s: out of memory", c->what);
    for (int k = 0; k < c->sources; k++)
        for (int i = 0; i < c->source[k].entries; i++) {
            const ts_entry *e = c->source[k].entry + i;
            c->name[c->names++] = (ts_named){.name = e->name,
                                             .e = e,
                                             .source = c->source + k,
                                             .stored = e,
                                             .turn = ts_entry_count(e)};
        }
    qsort(c->name, (size_t)c->names, sizeof *c->name, compare_named);
    return TS_OK;
}

/* The part of a path before its last slash, "." where there is none; malloc'd. */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == path ? strdup("/")
           : slash       ? strndup(path, (size_t)(slash - path))
                         : strdup(".");
}

static ts_status find_files(ts_ctx *ctx, const char *place, const char *stem, char **dir,
                            char **what)
{
    struct stat s;
    if (stat(place, &s) == 0 && S_ISDIR(s.st_mode)) {
        *dir = strdup(place);
        ts_status st = choose_files(ctx, place, stem, what);
        if (st) return st;
    } else {
        ts_split split;
        char *index = ts_split_read(place, &split) ? ts_split_index(&split) : NULL;
        bool listed = index && is_there(index);
        *dir = folder_of(place);
        *what = listed ? index : strdup(place);
        if (!listed) free(index);
    }
    if (!*dir || !*what) return ts_fail(&ctx->err, TS_EMEMORY, "%s: out of memory", place);
    return TS_OK;
}

ts_status ts_checkpoint_open(ts_ctx *ctx, const char *place, const char *stem,
                             const ts_names *names, ts_checkpoint *c)
{
    ts_status st;
    cJSON *index = NULL;
    char *dir = NULL;
    memset(c, 0, sizeof *c);
    TRY(find_files(ctx, place, stem, &dir, &c->what));
    if (ts_ends_with(c->what, ".json")) {
        TRY(ts_json_load(&ctx->err, c->what, &index));
        const cJSON *map = cJSON_GetObjectItemCaseSensitive(index, "weight_map");
        TRY(open_shards(ctx, dir, c->what, map, c));
        TRY(merge_names(ctx, c));
        TRY(apply_index(ctx, c, map));
    } else {
        TRY(open_parts(ctx, c));
        TRY(merge_names(ctx, c));
        TRY(refuse_two_parts(ctx, c));
    }
    if (names) TRY(ts_checkpoint_rename(ctx, c, names));
done:
    cJSON_Delete(index);
    free(dir);
    if (st != TS_OK) ts_checkpoint_close(c);
    return st;
}

void ts_checkpoint_close(ts_checkpoint *c)
{
    for (int i = 0; i < c->sources; i++) ts_source_close(c->source + i);
    ts_checkpoint_free_aliases(c);
    free(c->source);
    free(c->name);
    free(c->what);
    memset(c, 0, sizeof *c);
}

int ts_checkpoint_find(const ts_checkpoint *c, const char *name)
{
    int low = 0, high = c->names - 1;
    while (low <= high) {
        int mid = (low + high) / 2, order = strcmp(c->name[mid].name, name);
        if (order == 0) return mid;
        if (order < 0)
            low = mid + 1;
        else
            high = mid - 1;
    }
    return -1;
}

long ts_checkpoint_dim(const ts_checkpoint *c, const char *name, int d)
{
    int i = ts_checkpoint_find(c, name);
    if (i < 0) return 0;
    const ts_host *t = &c->name[i].e->t;
    return d < t->nd ? t->dim[d] : 0;
}

long ts_checkpoint_blocks(const ts_checkpoint *c, const char *head)
{
    long most = 0;
    size_t n = strlen(head);
    for (int i = 0; i < c->names; i++) {
        char *end;
        const char *digits = c->name[i].name + n;
        if (strncmp(c->name[i].name, head, n) || *digits < '0' || *digits > '9') continue;
        long k = strtol(digits, &end, 10);
        if (*end == '.' && k < 1 << 20 && k + 1 > most) most = k + 1;
    }
    return most;
}
