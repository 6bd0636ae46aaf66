/* The rules of a naming the other way round: names back to those of files, cut tensors in one. */
#include "tests/sampler/renamed.h"

#include "tests/testing.h"
#include "weights/bag.h"
#include "weights/source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Rows of the parts where their cuts say that they stand in one tensor. */
static void join_parts(ts_bag *to, const char *name, const ts_bag *from, const char *head,
                       const ts_renamed *part, int parts)
{
    float *all = NULL;
    for (int i = 0; i < parts; i++) {
        char whole[TS_NAME_ROOM + 64];
        snprintf(whole, sizeof whole, "%.60s%.255s", head, part[i].name);
        const ts_host *t = ts_bag_find(from, whole);
        ts_cut cut = part[i].cut;
        long dim[5], n = 1;
        ck_assert_msg(t != NULL, "no %s for %s", whole, name);
        memcpy(dim, t->dim, sizeof dim);
        for (int d = 0; d < t->nd; d++) n *= dim[d];
        float *numbers = malloc((size_t)n * sizeof *numbers);
        ck_assert(numbers != NULL);
        ts_widen(t->type, t->data, (size_t)n, numbers);
        int shares = cut.of ? cut.n * (cut.then ? 2 : 1) : 1, of = cut.of ? cut.of : 1;
        long one = n / shares;
        if (t->nd) dim[0] = dim[0] / shares * of;
        if (!all) all = ts_bag_put(to, name, TS_F32, t->nd, dim, NULL);
        size_t first = (size_t)one * (size_t)(cut.of ? cut.n : 1);
        memcpy(all + one * cut.first, numbers, first * sizeof *all);
        if (cut.then) memcpy(all + one * (cut.then - 1), numbers + first, first * sizeof *all);
        free(numbers);
    }
}

char *renamed_weights(const char *file, const char *prefix, const ts_naming *naming,
                      const char *other)
{
    static int files;
    char *path, *dir = testing_tmp();
    ts_err err = {0};
    ts_bag *out = ts_bag_new(), *bag = testing_bag(file);
    for (int i = 0; i < ts_bag_count(bag); i++) {
        char original[TS_NAME_ROOM], whole[TS_NAME_ROOM + 64];
        ts_renamed parts[TS_NAME_CUTS] = {{{0}, {0}}};
        const char *own = ts_bag_name(bag, i) + strlen(prefix);
        int n = 1;
        if (strncmp(ts_bag_name(bag, i), prefix, strlen(prefix)) != 0) continue;
        snprintf(original, sizeof original, "%s", own);
        snprintf(parts[0].name, sizeof parts[0].name, "%s", own);
        if (naming) {
            ts_naming_reverse(naming, own, original);
            n = ts_naming_apply(naming, original, parts);
        }
        snprintf(whole, sizeof whole, "%.60s%.255s", other, original);
        if (!ts_bag_has(out, whole)) join_parts(out, whole, bag, prefix, parts, n);
    }
    ck_assert(asprintf(&path, "%s/part%d.safetensors", dir, files++) > 0);
    ck_assert_msg(!ts_bag_save(&err, out, path), "%s", err.text);
    ts_bag_free(out);
    ts_bag_free(bag);
    free(dir);
    return path;
}
