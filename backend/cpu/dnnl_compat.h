/* The two generations of oneDNN's C API (2.6 of Debian 12, 3.7 of Debian 13) behind one set of
 * words. Included by onednn.c alone. 2.x passes memory descriptors as structs and describes an
 * operation before its primitive; 3.x made descriptors opaque and dropped the operation
 * descriptor. */
#ifndef TS_DNNL_COMPAT_H
#define TS_DNNL_COMPAT_H
#include <dnnl.h>
#include <stdbool.h>

typedef struct {
    dnnl_memory_desc_t m;
} desc; /* own: drop */

#if DNNL_VERSION_MAJOR >= 3
typedef const_dnnl_memory_desc_t desc_ref;
static inline desc_ref refer_to_desc(const desc *d) { return d->m; }
static inline bool make_desc(desc *d, int nd, const dnnl_dims_t dim, dnnl_data_type_t type,
                             const dnnl_dims_t stride)
{
    return (stride ? dnnl_memory_desc_create_with_strides(&d->m, nd, dim, type, stride)
                   : dnnl_memory_desc_create_with_tag(&d->m, nd, dim, type, dnnl_format_tag_any)) ==
           dnnl_success;
}
static inline void drop_desc(desc *d)
{
    if (d->m) dnnl_memory_desc_destroy(d->m);
    d->m = NULL;
}
static inline bool keep_desc(desc *d, desc_ref from)
{
    return dnnl_memory_desc_clone(&d->m, from) == dnnl_success;
}
static inline bool part_of_desc(desc *d, desc_ref of, const dnnl_dims_t dim, const dnnl_dims_t from)
{
    return dnnl_memory_desc_create_submemory(&d->m, of, dim, from) == dnnl_success;
}
static inline bool append_eltwise(dnnl_post_ops_t p, dnnl_alg_kind_t kind, float alpha)
{
    return dnnl_post_ops_append_eltwise(p, kind, alpha, 0) == dnnl_success;
}
static inline bool append_sum(dnnl_post_ops_t p)
{
    return dnnl_post_ops_append_sum(p, 1, 0, dnnl_data_type_undef) == dnnl_success;
}
static inline bool describe_matmul(dnnl_primitive_desc_t *pd, dnnl_engine_t e, desc_ref x,
                                   desc_ref w, desc_ref b, desc_ref y, dnnl_primitive_attr_t attr)
{
    return dnnl_matmul_primitive_desc_create(pd, e, x, w, b, y, attr) == dnnl_success;
}
static inline bool describe_conv(dnnl_primitive_desc_t *pd, dnnl_engine_t e, desc_ref x, desc_ref w,
                                 desc_ref b, desc_ref y, const dnnl_dims_t stride,
                                 const dnnl_dims_t before, const dnnl_dims_t after,
                                 dnnl_primitive_attr_t attr)
{
    static const dnnl_dims_t dense = {0};
    return dnnl_convolution_forward_primitive_desc_create(
               pd, e, dnnl_forward_inference, dnnl_convolution_direct, x, w, b, y, stride, dense,
               before, after, attr) == dnnl_success;
}
#else
typedef const dnnl_memory_desc_t *desc_ref;
static inline desc_ref refer_to_desc(const desc *d) { return &d->m; }
static inline bool make_desc(desc *d, int nd, const dnnl_dims_t dim, dnnl_data_type_t type,
                             const dnnl_dims_t stride)
{
    return (stride ? dnnl_memory_desc_init_by_strides(&d->m, nd, dim, type, stride)
                   : dnnl_memory_desc_init_by_tag(&d->m, nd, dim, type, dnnl_format_tag_any)) ==
           dnnl_success;
}
static inline void drop_desc(desc *d) { (void)d; }
static inline bool keep_desc(desc *d, desc_ref from)
{
    d->m = *from;
    return true;
}
static inline bool part_of_desc(desc *d, desc_ref of, const dnnl_dims_t dim, const dnnl_dims_t from)
{
    return dnnl_memory_desc_init_submemory(&d->m, of, dim, from) == dnnl_success;
}
static inline bool append_eltwise(dnnl_post_ops_t p, dnnl_alg_kind_t kind, float alpha)
{
    return dnnl_post_ops_append_eltwise(p, 1, kind, alpha, 0) == dnnl_success;
}
static inline bool append_sum(dnnl_post_ops_t p)
{
    return dnnl_post_ops_append_sum(p, 1) == dnnl_success;
}
static inline bool describe_matmul(dnnl_primitive_desc_t *pd, dnnl_engine_t e, desc_ref x,
                                   desc_ref w, desc_ref b, desc_ref y, dnnl_primitive_attr_t attr)
{
    dnnl_matmul_desc_t op;
    return dnnl_matmul_desc_init(&op, x, w, b, y) == dnnl_success &&
           dnnl_primitive_desc_create(pd, &op, attr, e, NULL) == dnnl_success;
}
static inline bool describe_conv(dnnl_primitive_desc_t *pd, dnnl_engine_t e, desc_ref x, desc_ref w,
                                 desc_ref b, desc_ref y, const dnnl_dims_t stride,
                                 const dnnl_dims_t before, const dnnl_dims_t after,
                                 dnnl_primitive_attr_t attr)
{
    dnnl_convolution_desc_t op;
    return dnnl_convolution_forward_desc_init(&op, dnnl_forward_inference, dnnl_convolution_direct,
                                              x, w, b, y, stride, before, after) == dnnl_success &&
           dnnl_primitive_desc_create(pd, &op, attr, e, NULL) == dnnl_success;
}
#endif
#endif
