/* Numbers that are stored in blocks: the quantised types of GGML. A block holds `n` numbers in
 * `bytes` bytes, small integers with their scales. Blocks run along rows and follow each other, so
 * any range of whole blocks can be decoded alone.
 *
 * The types are those of ggml-common.h (https://github.com/ggml-org/ggml), the numbers those of its
 * decoders, bit for bit: all products are exact in f32, so each number is rounded once at most,
 * whatever instructions a CPU has. */
#ifndef TS_BLOCKS_H
#define TS_BLOCKS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    int id;           /* as files have it */
    const char *name; /* "Q4_K" */
    int n, bytes;     /* 0: not known here */
    bool decoded;     /* by ts_blocks_decode */
} ts_block_type;
/* NULL: no type has this number. */
const ts_block_type *ts_block_type_of(uint32_t id);
/* blocks at any address -> f32: to [blocks, n]. A type that is not decoded is our own mistake. */
void ts_blocks_decode(const ts_block_type *, const void *from, size_t blocks, float *to);

/* Floating point of 8 bits (https://arxiv.org/abs/2209.05433), exactly. E4M3: bias 7, no infinity,
 * largest 448; E5M2: the upper byte of an IEEE half. */
typedef enum { TS_E4M3, TS_E5M2, TS_FP8_TYPES } ts_fp8;
void ts_fp8_widen(ts_fp8, const void *from, size_t n, float *to);
#endif
