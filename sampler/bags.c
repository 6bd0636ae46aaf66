/* The public face of bags: what a program puts in is checked here. */
#include "sampler/tessera.h"

#include "weights/bag.h"

#include <limits.h>
#include <string.h>

ts_status ts_bag_add(ts_ctx *c, ts_bag *bag, const char *name, int nd, const long *dim,
                     const float *data)
{
    enum { MOST_DIMS = 5 };
    size_t n = sizeof(float);
    if (!bag || !name || !*name || (nd && !dim))
        return ts_fail(&c->err, TS_EUSAGE, "ts_bag_add: no %s",
                       !bag              ? "bag"
                       : !name || !*name ? "name of a tensor"
                                         : "dimensions");
    if (!strcmp(name, "__metadata__"))
        return ts_fail(&c->err, TS_EUSAGE,
                       "ts_bag_add: a tensor can not be called %s, which is the place of metadata",
                       name);
    if (nd < 0 || nd > MOST_DIMS)
        return ts_fail(&c->err, TS_EUSAGE,
                       "ts_bag_add: tensor \"%s\" of %d dimensions, expected "
                       "0 to %d",
                       name, nd, MOST_DIMS);
    for (int i = 0; i < nd; i++) {
        if (dim[i] < 0 || (dim[i] && n > (size_t)LONG_MAX / (size_t)dim[i]))
            return ts_fail(&c->err, TS_EUSAGE, "ts_bag_add: tensor \"%s\": dimension %d is %ld",
                           name, i, dim[i]);
        n *= (size_t)dim[i];
    }
    if (!ts_bag_put(bag, name, TS_F32, nd, dim, data))
        return ts_fail(&c->err, TS_EMEMORY, "no memory for tensor \"%s\" of %zu bytes", name, n);
    return TS_OK;
}

ts_status ts_bag_tensor(ts_ctx *c, const ts_bag *bag, const char *name, const char **type, int *nd,
                        long dim[5], const void **data)
{
    const ts_host *t = bag && name ? ts_bag_find(bag, name) : NULL;
    if (type) *type = t ? ts_dtype_name(t->type) : NULL;
    if (nd) *nd = t ? t->nd : 0;
    for (int i = 0; dim && i < 5; i++) dim[i] = t && i < t->nd ? t->dim[i] : 0;
    if (data) *data = t ? t->data : NULL;
    if (t) return TS_OK;
    if (!bag || !name)
        return ts_fail(&c->err, TS_EUSAGE, "ts_bag_tensor: no %s", bag ? "name" : "bag");
    return ts_fail(&c->err, TS_EMODEL, "there is no tensor \"%s\"", name);
}

ts_status ts_bag_meta_set(ts_ctx *c, ts_bag *bag, const char *key, const char *value)
{
    if (!bag || !key || !*key)
        return ts_fail(&c->err, TS_EUSAGE, "ts_bag_meta_set: no %s", bag ? "key" : "bag");
    ts_bag_meta(bag, key, value);
    if (value && !ts_bag_meta_get(bag, key))
        return ts_fail(&c->err, TS_EMEMORY, "no memory for metadata \"%s\"", key);
    return TS_OK;
}
