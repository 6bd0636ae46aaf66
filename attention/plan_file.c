/* Plan files: lists of blocks on disk, bits in memory. */
#include "attention/plan_file.h"

#include "weights/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int name_plan(char out[96], const char *branch, int layer, const char *part)
{
    return snprintf(out, 96, "plan.%s.%d.%s", branch, layer, part);
}

ts_status ts_plan_put(ts_err *err, ts_bag *bag, const char *branch, int layer, int A, int nb,
                      const uint32_t *bits, bool shared)
{
    char name[96];
    long words = ts_plan_words(nb), n = 0, at = 0;
    for (long i = 0; i < (shared ? 1L : A) * nb * words; i++) n += __builtin_popcount(bits[i]);
    if (shared) n *= A;
    if (n > INT32_MAX)
        return ts_fail(err, TS_ESHAPE,
                       "the plan of layer %d reads %ld blocks, a file can hold at most %d", layer,
                       n, INT32_MAX);
    name_plan(name, branch, layer, "rows");
    int32_t *rows = ts_bag_put(bag, name, TS_I32, 2, (long[]){A, nb + 1}, NULL);
    name_plan(name, branch, layer, "blocks");
    int32_t *blocks = rows ? ts_bag_put(bag, name, TS_I32, 1, (long[]){n}, NULL) : NULL;
    if (!blocks) return ts_fail(err, TS_EMEMORY, "no memory for the plan of layer %d", layer);
    for (int a = 0; a < A; a++)
        for (int p = 0; p <= nb; p++) {
            rows[(long)a * (nb + 1) + p] = (int32_t)at;
            const uint32_t *row = bits + ((shared ? 0 : (long)a) * nb + p) * words;
            for (int j = 0; p < nb && j < nb; j++)
                if (row[j / 32] >> j % 32 & 1) blocks[at++] = j;
        }
    return TS_OK;
}

ts_status ts_plan_get(ts_err *err, const ts_bag *bag, const char *path, const char *branch,
                      int layer, int A, int nb, uint32_t *bits)
{
    ts_status st;
    char name[96];
    ts_host rows, blocks;
    long words = ts_plan_words(nb), next = 0;
    if (A < 1 || nb < 1)
        return ts_fail(err, TS_EMODEL,
                       "%s: layer %d of branch %s: a plan of %d heads and %d blocks", path, layer,
                       branch, A, nb);
    name_plan(name, branch, layer, "rows");
    if (!ts_bag_has(bag, name))
        return ts_fail(
            err, TS_EMODEL,
            "%s: no plan for layer %d of branch %s (%s): dense-layers leaves a layer dense", path,
            layer, branch, name);
    TRY(ts_bag_get(err, bag, name, TS_I32, 2, (long[]){A, nb + 1}, &rows));
    name_plan(name, branch, layer, "blocks");
    TRY(ts_bag_get(err, bag, name, TS_I32, 1, (long[]){-1}, &blocks));
    const int32_t *at = rows.data, *block = blocks.data;
    memset(bits, 0, (size_t)((long)A * nb * words) * sizeof *bits);
    for (long i = 0; i < (long)A * nb; i++) {
        const int32_t *r = at + i / nb * (nb + 1) + i % nb;
        if (r[0] != next || r[1] <= r[0] || r[1] > blocks.dim[0])
            TRY(ts_fail(err, TS_EMODEL,
                        "%s: layer %d of branch %s: row %ld runs from %d to %d, expected from %ld, "
                        "to at most %ld",
                        path, layer, branch, i, r[0], r[1], next, blocks.dim[0]));
        for (long j = r[0]; j < r[1]; j++) {
            if (block[j] < 0 || block[j] >= nb || (j > r[0] && block[j] <= block[j - 1]))
                TRY(ts_fail(err, TS_EMODEL,
                            "%s: layer %d of branch %s: block %d in row %ld, expected ascending "
                            "blocks below %d",
                            path, layer, branch, block[j], i, nb));
            bits[i * words + block[j] / 32] |= 1u << block[j] % 32;
        }
        next = r[1];
    }
    if (next != blocks.dim[0])
        TRY(ts_fail(err, TS_EMODEL, "%s: layer %d of branch %s: %ld blocks, its rows have %ld",
                    path, layer, branch, blocks.dim[0], next));
done:
    return st;
}

ts_status ts_tile_file(ts_err *err, const char *path, int frames, int layers, int *k)
{
    ts_status st;
    cJSON *j = NULL;
    const cJSON *list, *x;
    TRY(ts_json_load(err, path, &j));
    const cJSON *f = cJSON_GetObjectItemCaseSensitive(j, "frames"),
                *format = cJSON_GetObjectItemCaseSensitive(j, "format");
    if (format && !(cJSON_IsNumber(format) && format->valuedouble >= 0 && format->valuedouble < 2))
        TRY(ts_fail(err, TS_EMODEL, "%s: tiles of format %g, this version reads 1", path,
                    cJSON_GetNumberValue(format)));
    list = cJSON_GetObjectItemCaseSensitive(j, "layers");
    if (!cJSON_IsNumber(f) || !cJSON_IsArray(list))
        TRY(ts_fail(
            err, TS_EMODEL,
            "%s: expected {\"frames\": F, \"layers\": [k, ...]}, as tessera search-tile writes it",
            path));
    if (f->valuedouble != frames)
        TRY(ts_fail(err, TS_EMODEL, "%s: made for %g latent frames, this clip has %d", path,
                    f->valuedouble, frames));
    if (cJSON_GetArraySize(list) != layers)
        TRY(ts_fail(err, TS_EMODEL, "%s: made for %d layers, the model has %d", path,
                    cJSON_GetArraySize(list), layers));
    int i = 0;
    cJSON_ArrayForEach(x, list)
    {
        if (!cJSON_IsNumber(x) || x->valuedouble < 0 || x->valuedouble != x->valueint)
            TRY(ts_fail(err, TS_EMODEL, "%s: layer %d has no whole number of reference frames",
                        path, i));
        k[i++] = x->valueint;
    }
done:
    cJSON_Delete(j);
    return st;
}
