/* A prompt becomes ids, ids become states. */
#ifndef TS_TEXT_H
#define TS_TEXT_H
#include "weights/bag.h"
#include "weights/config.h"
#include "weights/weights.h"

/* What the Wan pipeline does to a prompt before tokenizing (wan.md section 5): of ftfy the listed substitutions and NFC, HTML-unescape twice, strip, collapse white space. malloc'd. TS_EUSAGE: not UTF-8. */
ts_status ts_clean_prompt(ts_err *, const char *text, char **);

typedef struct ts_tokenizer ts_tokenizer;
/* DIR/tokenizer.json, or DIR/spiece.model where that is missing. TS_EMODEL names file and fault. */
ts_status ts_tokenizer_open(ts_ctx *, const char *dir, ts_tokenizer **);
void ts_tokenizer_close(ts_tokenizer *);
/* ids with the end token, at most max (the end token is kept). ids: malloc'd. */
ts_status ts_tokenize(ts_tokenizer *, const char *text, int max, int32_t **ids, int *n, bool *truncated);
const char *ts_token_piece(const ts_tokenizer *, int id); /* NULL: no such id */
int ts_token_count(const ts_tokenizer *);

typedef struct { const int32_t *ids; int n; } ts_ids;
/* Runs a T5EncoderModel or UMT5EncoderModel (its component folder) on all id lists, each weight group entered once for all: out[i] f32 [n_i, d_model] (host, caller's). On a counting device it only counts.
 * Uses ctx->arena; opens and closes its weights. Progress: TS_PHASE_TEXT with layers. TS_EMODEL, TS_ENUMBER. */
typedef struct ts_encoder ts_encoder;
ts_status ts_encoder_open(ts_ctx *, const ts_component *, ts_encoder **);
void ts_encoder_close(ts_encoder *);
long ts_encoder_width(const ts_encoder *); /* d_model */
ts_weights *ts_encoder_weights(ts_encoder *);
ts_status ts_encoder_run(ts_encoder *, const ts_ids *, int n, float *const *out);
#endif
