/* The vectorised kernels of the CPU: everything that is neither matrix product nor convolution nor
 * attention. A table is filled upward: plain C first, then each level that the machine has and the
 * caller allows puts its own in place. Shapes were checked by cpu.c; the meaning is that of
 * ops.h and ref.c. Results depend neither on the number of threads nor on where the bytes
 * are. */
#ifndef TS_SIMD_H
#define TS_SIMD_H
#include "backend/ctx.h"
#include "backend/strides.h"

typedef enum { TS_LEVEL_REF, TS_LEVEL_AVX2, TS_LEVEL_AVX512, TS_LEVEL_AVX512_BF16 } ts_level;

typedef struct {
    /* scratch: ts_norm_scratch bytes, 64-byte aligned */
    void (*norm)(const ts_norm *, void *scratch);
    void (*activate)(const ts_activate *);
    void (*rope)(const ts_rope *);
    void (*copy)(const ts_copy *);
    void (*gather)(const ts_gather *);
    void (*lincomb)(const ts_lincomb *);
    void (*resample)(const ts_resample *, void *scratch); /* scratch: ts_resample_scratch bytes */
    void (*affine)(const ts_affine *);
    bool (*finite)(ts_tensor);
} ts_simd;

void ts_simd_init(ts_simd *, ts_level);
size_t ts_norm_scratch(const ts_norm *);
size_t ts_resample_scratch(const ts_resample *);

/* One a file, called by ts_simd_init only. */
void ts_simd_avx2(ts_simd *);
void ts_simd_avx512(ts_simd *);
void ts_simd_avx512_bf16(ts_simd *);

/* ---- what the levels share ---- */
/* the rows of a group norm are summed in at most so many blocks, in order */
enum { TS_NORM_BLOCKS = 256 };
/* Work below this many bytes is done by one thread: waking others takes longer. */
enum { TS_ALONE = 1 << 16 };
#endif
