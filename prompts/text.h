/* A prompt becomes ids, ids become states. */
#ifndef TS_TEXT_H
#define TS_TEXT_H
#include "weights/bag.h"
#include "weights/checkpoint.h"
#include "weights/model_dir.h"
#include "weights/weights.h"

/* What the Wan pipeline of diffusers does to a prompt before tokenizing: ftfy.fix_text without its
 * repair of mojibake, html.unescape twice, white space stripped and collapsed. malloc'd. TS_EUSAGE:
 * not UTF-8, with the offset of the byte. */
ts_status ts_clean_prompt(ts_err *, const char *text, char **);

/* What the PixArt pipelines do to one (clean_caption): lower case, and everything gone that
 * captions from the web are full of. malloc'd. TS_EUSAGE: not UTF-8. */
ts_status ts_clean_caption(ts_err *, const char *text, char **);
/* The same, as Open-Sora-Plan does it: Chinese characters stay. */
ts_status ts_clean_caption_with_han(ts_err *, const char *text, char **);

/* A prompt as it stands; malloc'd. TS_EUSAGE: not UTF-8. */
ts_status ts_keep_prompt(ts_err *, const char *text, char **);

typedef struct ts_tokenizer ts_tokenizer;
/* PLACE/tokenizer.json, PLACE/spiece.model or PLACE/vocab.json with merges.txt, the first that is
 * there; or PLACE, which is one of these or weights that carry a vocabulary: a Unigram or a
 * byte-level BPE model. TS_EMODEL names file and fault, or
 * what is not supported. */
ts_status ts_tokenizer_open(ts_ctx *, const char *place, ts_tokenizer **);
/* Is it a file of weights that carries a vocabulary (a tensor `spiece_model`, keys of a GGUF)? */
bool ts_tokenizer_is_in(const char *path);
void ts_tokenizer_close(ts_tokenizer *);
/* ids with the tokens that the file puts around a text, at most max: a longer text is cut and keeps
 * these. ids: malloc'd.
 * TS_EUSAGE: not UTF-8, or max is less than the end token needs. */
ts_status ts_tokenize(ts_tokenizer *, const char *text, int max, int32_t **ids, int *n,
                      bool *truncated);
const char *ts_token_piece(const ts_tokenizer *, int id); /* NULL: no such id */
int ts_token_count(const ts_tokenizer *);

typedef struct {
    const int32_t *ids;
    int n;
} ts_ids;
/* Which of an encoder's outputs. */
typedef struct {
    /* 0: the states that it ends with, its last norm included; -k: the states k from the end of
     * embedding, layers and norm, as transformers counts hidden_states */
    int hidden;
    bool pooled; /* one row that stands for the whole text, instead of a row a token */
} ts_text_output;

/* ---- encoders: a class each, joined in a table (encoders.c) ---- */
typedef struct ts_encoder ts_encoder;
typedef struct {
    const char *cls; /* what model_index.json calls it */
    /* class whose files its own can not be told from; NULL: there is none */
    const char *like;
    /* what its tensors are called where not as transformers saves them; NULL: nothing else */
    const ts_names *names;
    /* The config that the shapes of a checkpoint tell, for files that come without one. TS_EMODEL.
     * NULL: they tell too little. */
    ts_status (*infer)(ts_ctx *, const ts_checkpoint *, cJSON *config);
    /* Binds the component's weights. TS_EMODEL, TS_ESHAPE: what its config or its files have that
     * is not supported or does not fit. */
    ts_status (*open)(ts_ctx *, const ts_component *, ts_encoder **);
    void (*close)(ts_encoder *); /* NULL is legal */
    /* as ts_encoder_run, of the outputs that it has */
    ts_status (*run)(ts_encoder *, ts_text_output, const ts_ids *, int n, float *const *out);
} ts_encoder_class;
struct ts_encoder { /* the head of every encoder; what follows is its class's own */
    const ts_encoder_class *cls;
    ts_ctx *ctx;
    ts_weights *weights;
    long width;  /* of its states */
    long pooled; /* width of the row that stands for a text; 0: it makes none */
};
extern const ts_encoder_class ts_encoder_t5;    /* T5EncoderModel: prompts/t5.c */
extern const ts_encoder_class ts_encoder_umt5;  /* UMT5EncoderModel: prompts/t5.c */
extern const ts_encoder_class ts_encoder_clip;  /* CLIPTextModel: prompts/causal.c */
extern const ts_encoder_class ts_encoder_llama; /* LlamaModel: prompts/causal.c */
extern const ts_encoder_class ts_encoder_mt5;   /* MT5EncoderModel: prompts/t5.c */

/* The class of that name; NULL: there is none. */
const ts_encoder_class *ts_encoder_class_of(const char *cls);
/* The encoder of the component's class. TS_EMODEL: there is none; and as the class's own. */
ts_status ts_encoder_open(ts_ctx *, const ts_component *, ts_encoder **);
void ts_encoder_close(ts_encoder *); /* NULL is legal */
/* Runs all id lists (each with an id at least), each weight group entered once for all: out[i] f32
 * [n_i, width], or [1, pooled] (host, caller's). On a counting device it only counts. Uses
 * ctx->arena and gives it back. Progress: TS_PHASE_TEXT with layers. TS_ESHAPE: an id outside of
 * the vocabulary; TS_ENUMBER: NaN or infinity; TS_ESTOP. */
ts_status ts_encoder_run(ts_encoder *, ts_text_output, const ts_ids *, int n, float *const *out);
#endif
