/* The AVX2 kernel's source on any machine. */
#include "tests/backend/test_attention_simde.h"

#include "backend/cpu/attention_avx2.c"

EMULATED(TS_LEVEL_AVX2, TS_F32)
