/* The AVX512_BF16 kernel's source on any machine. */
#include "tests/backend/test_attention_simde.h"

#include "backend/cpu/attention_avx512_bf16.c"

EMULATED(TS_LEVEL_AVX512_BF16, TS_BF16)
