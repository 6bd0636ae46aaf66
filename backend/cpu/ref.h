/* Plain C of every operation, one thread-parallel loop nest each: the oracle of the fast versions,
 * and what runs at level "ref". Shapes were checked by cpu.c. */
#ifndef TS_REF_H
#define TS_REF_H
#include "backend/cpu/cpu.h"
#include "backend/half.h"

#include <string.h>

static inline float ts_from_bf16(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline uint16_t ts_to_bf16(float f) /* to nearest, ties to even; NaN stays NaN */
{
    uint32_t u;
    memcpy(&u, &f, 4);
    if ((u & 0x7FFFFFFF) > 0x7F800000) return (uint16_t)(u >> 16 | 64);
    return (uint16_t)((u + 0x7FFF + (u >> 16 & 1)) >> 16);
}
uint16_t ts_to_f16(float);
/* Element i of bytes of a float type. */
static inline float ts_load(const void *p, ts_dtype t, long i)
{
    return t == TS_F32    ? ((const float *)p)[i]
           : t == TS_BF16 ? ts_from_bf16(((const uint16_t *)p)[i])
                          : ts_from_f16(((const uint16_t *)p)[i]);
}
static inline void ts_store(void *p, ts_dtype t, long i, float x)
{
    if (t == TS_F32)
        ((float *)p)[i] = x;
    else if (t == TS_BF16)
        ((uint16_t *)p)[i] = ts_to_bf16(x);
    else
        ((uint16_t *)p)[i] = ts_to_f16(x);
}
float ts_act_ref(ts_act, float);

void ts_linear_ref(const ts_linear *);
void ts_conv_ref(const ts_conv *);
void ts_norm_ref(const ts_norm *, float (*stat)[2]); /* stat: [groups] of a group norm */
void ts_activate_ref(const ts_activate *);
void ts_rope_ref(const ts_rope *);
void ts_copy_ref(const ts_copy *);
void ts_gather_ref(const ts_gather *);
void ts_lincomb_ref(const ts_lincomb *);
void ts_randn_ref(const ts_randn *);
void ts_resample_ref(const ts_resample *);
void ts_affine_ref(const ts_affine *);
bool ts_finite_ref(ts_tensor);
void ts_pack_ref(const ts_host *, ts_dtype to, void *at); /* row-major */
#endif
