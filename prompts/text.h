/* A prompt becomes ids, ids become states. */
#ifndef TS_TEXT_H
#define TS_TEXT_H
#include "weights/bag.h"
#include "weights/model_dir.h"
#include "weights/weights.h"

/* What the Wan pipeline of diffusers does to a prompt before tokenizing: ftfy.fix_text without its
 * repair of mojibake, html.unescape twice, white space stripped and collapsed. malloc'd. TS_EUSAGE:
 * not UTF-8, with the offset of the byte. */
ts_status ts_clean_prompt(ts_err *, const char *text, char **);

/* What the PixArt pipelines do to one (clean_caption): lower case, and everything gone that
 * captions from the web are full of. malloc'd. TS_EUSAGE: not UTF-8. */
ts_status ts_clean_caption(ts_err *, const char *text, char **);

typedef struct ts_tokenizer ts_tokenizer;
/* DIR/tokenizer.json, or DIR/spiece.model where that is missing: a Unigram model. TS_EMODEL names
 * file and fault, or what is not supported. */
ts_status ts_tokenizer_open(ts_ctx *, const char *dir, ts_tokenizer **);
void ts_tokenizer_close(ts_tokenizer *);
/* ids with the end token, at most max: a longer text is cut and keeps its end token. ids: malloc'd.
 * TS_EUSAGE: not UTF-8, or max is less than the end token needs. */
ts_status ts_tokenize(ts_tokenizer *, const char *text, int max, int32_t **ids, int *n,
                      bool *truncated);
const char *ts_token_piece(const ts_tokenizer *, int id); /* NULL: no such id */
int ts_token_count(const ts_tokenizer *);

typedef struct {
    const int32_t *ids;
    int n;
} ts_ids;
typedef struct ts_encoder ts_encoder;
/* A T5EncoderModel or UMT5EncoderModel in its component folder. TS_EMODEL, TS_ESHAPE: what its
 * config or its files have that is not supported or does not fit. */
ts_status ts_encoder_open(ts_ctx *, const ts_component *, ts_encoder **);
void ts_encoder_close(ts_encoder *);
long ts_encoder_width(const ts_encoder *); /* d_model */
ts_weights *ts_encoder_weights(ts_encoder *);
/* Runs all id lists (each with an id at least), each weight group entered once for all: out[i] f32
 * [n_i, d_model] (host, caller's), final norm included. On a counting device it only counts. Uses
 * ctx->arena and gives it back. Progress: TS_PHASE_TEXT with layers. TS_ESHAPE: an id outside of
 * the vocabulary; TS_ENUMBER: NaN or infinity; TS_ESTOP. */
ts_status ts_encoder_run(ts_encoder *, const ts_ids *, int n, float *const *out);
#endif
