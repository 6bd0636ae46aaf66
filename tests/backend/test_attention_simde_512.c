/* The AVX-512 f32 kernel's source on any machine. */
#include "tests/backend/test_attention_simde.h"

#include "backend/cpu/attention_avx512.c"

EMULATED(TS_LEVEL_AVX512, TS_F32)
