/* GGUF files made by hand, as llama.cpp's converter writes them: keys, then tensors of f32. */
#ifndef GGUF_WRITER_H
#define GGUF_WRITER_H
#include <stdint.h>

typedef struct gguf_writer gguf_writer;
gguf_writer *gguf_begin(void);
void gguf_text(gguf_writer *, const char *key, const char *value);
void gguf_u32(gguf_writer *, const char *key, uint32_t value);
void gguf_f32(gguf_writer *, const char *key, float value);
void gguf_bool(gguf_writer *, const char *key, int value);
void gguf_texts(gguf_writer *, const char *key, const char *const *value, uint64_t n);
void gguf_i32s(gguf_writer *, const char *key, const int32_t *value, uint64_t n);
/* dim: slowest first */
void gguf_q8_0(gguf_writer *, const char *name, long rows, long width, const void *blocks);
void gguf_tensor(gguf_writer *, const char *name, int nd, const long *dim, const float *);
/* Writes it to PATH and frees the writer. */
void gguf_end(gguf_writer *, const char *path);
#endif
