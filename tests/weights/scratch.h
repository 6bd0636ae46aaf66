/* Files made by hand for the tests of weights/. */
#ifndef SCRATCH_H
#define SCRATCH_H
#include "tests/testing.h"

/* Writes DIR/NAME and returns its path in a static buffer, valid until the next call; folders in
 * NAME are made. */
const char *scratch_write(const char *dir, const char *name, const void *data, size_t n);
const char *scratch_text(const char *dir, const char *name, const char *text);
/* A safetensors file of this header and `n` data bytes 0, 1, 2, ... */
const char *scratch_safetensors(const char *dir, const char *name, const char *header, size_t n);
/* Fails unless `call` returned `want` and the sentence holds every one of the parts (NULL ends
 * them). */
void scratch_expect(const ts_err *, ts_status got, ts_status want, ...);
uint16_t scratch_bf16(float); /* nearest even */
uint16_t scratch_f16(float);  /* of numbers that binary16 holds exactly */
#endif
