/* The tests of test_linear.c with oneDNN held to AVX2. */
#define LEVEL "avx2"
#include "tests/backend/test_linear.c"
