/* Tokenizer files made by tests. */
#ifndef MODELS_H
#define MODELS_H
#include "prompts/text.h"

size_t models_decode64(const char *, uint8_t *out);
void models_write(const char *dir, const char *name, const void *data, size_t n); /* DIR/NAME */
uint8_t *models_read(const char *path, size_t *n);                                /* malloc'd */

/* A SentencePiece model, field by field. */
typedef struct {
    const char *s;
    float score;
    int type;
} models_piece;
typedef struct {
    int field;
    int64_t value;
} models_field;
typedef struct {
    const models_piece *piece;
    int pieces;
    bool bytes;                               /* and the 256 pieces <0x00>..<0xFF> */
    const models_field *trainer, *normalizer; /* each ended by field 0, or NULL */
} models_spiece;
void models_write_spiece(const char *dir, const models_spiece *);

/* Fails unless `text` has exactly these ids, the end among them. */
void models_expect(ts_ctx *, ts_tokenizer *, const char *text, const int *ids, int n);
#define IDS(...) \
    (int)(sizeof((int[]){__VA_ARGS__}) / sizeof(int)), { __VA_ARGS__ }
#endif
