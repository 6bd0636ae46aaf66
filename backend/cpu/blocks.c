/* The types of blocks, and which decoder a CPU takes. */
#include "backend/cpu/block_decoders.h"

#include <assert.h>

/* What files of models have, then what is refused by name. ggml-common.h, and ggml.h for the
 * numbers. */
static const ts_block_type types[] = {
    {0, "F32", 1, 4, false},         {1, "F16", 1, 2, false},
    {30, "BF16", 1, 2, false},       {2, "Q4_0", 32, 18, true},
    {3, "Q4_1", 32, 20, true},       {6, "Q5_0", 32, 22, true},
    {7, "Q5_1", 32, 24, true},       {8, "Q8_0", 32, 34, true},
    {10, "Q2_K", 256, 84, true},     {11, "Q3_K", 256, 110, true},
    {12, "Q4_K", 256, 144, true},    {13, "Q5_K", 256, 176, true},
    {14, "Q6_K", 256, 210, true},    {9, "Q8_1", 32, 36, false},
    {15, "Q8_K", 256, 292, false},   {16, "IQ2_XXS", 256, 66, false},
    {17, "IQ2_XS", 256, 74, false},  {18, "IQ3_XXS", 256, 98, false},
    {19, "IQ1_S", 256, 50, false},   {20, "IQ4_NL", 32, 18, false},
    {21, "IQ3_S", 256, 110, false},  {22, "IQ2_S", 256, 82, false},
    {23, "IQ4_XS", 256, 136, false}, {24, "I8", 1, 1, false},
    {25, "I16", 1, 2, false},        {26, "I32", 1, 4, false},
    {27, "I64", 1, 8, false},        {28, "F64", 1, 8, false},
    {29, "IQ1_M", 256, 56, false},   {34, "TQ1_0", 256, 54, false},
    {35, "TQ2_0", 256, 66, false},   {39, "MXFP4", 32, 17, false},
    {40, "NVFP4", 0, 0, false},      {41, "Q1_0", 0, 0, false},
    {4, "Q4_2", 0, 0, false},        {5, "Q4_3", 0, 0, false},
    {31, "Q4_0_4_4", 0, 0, false},   {32, "Q4_0_4_8", 0, 0, false},
    {33, "Q4_0_8_8", 0, 0, false},   {36, "IQ4_NL_4_4", 0, 0, false},
    {37, "IQ4_NL_4_8", 0, 0, false}, {38, "IQ4_NL_8_8", 0, 0, false},
};

const ts_block_type *ts_block_type_of(uint32_t id)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if ((uint32_t)types[i].id == id) return types + i;
    return NULL;
}

/* What has AVX2 and FMA has F16C as well. */
static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

void ts_blocks_decode(const ts_block_type *type, const void *from, size_t blocks, float *to)
{
    assert(type->decoded);
    ts_block_decoder *const *decoder = has_avx512() ? ts_blocks_avx512
                                       : has_avx2() ? ts_blocks_avx2
                                                    : ts_blocks_ref;
    decoder[type->id](from, blocks, to);
}

void ts_fp8_widen(ts_fp8 type, const void *from, size_t n, float *to)
{
    ts_fp8_decoder *const *decoder = has_avx512() ? ts_fp8_avx512
                                     : has_avx2() ? ts_fp8_avx2
                                                  : ts_fp8_ref;
    decoder[type](from, n, to);
}
