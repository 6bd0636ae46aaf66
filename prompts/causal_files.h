/* CLIP's text tower and Llama in files without a config: of transformers, of ComfyUI, in GGUF. */
#ifndef TS_CAUSAL_FILES_H
#define TS_CAUSAL_FILES_H
#include "weights/checkpoint.h"
#include "weights/config.h"

extern const ts_names ts_clip_text_names, ts_llama_names;
/* as ts_encoder_class.infer */
ts_status ts_clip_text_infer(ts_ctx *, const ts_checkpoint *, cJSON *config);
ts_status ts_llama_infer(ts_ctx *, const ts_checkpoint *, cJSON *config);
/* Do files of this naming have the rows of q and k in pairs, channels j and j + d / 2 of a head
 * behind each other? llama.cpp turns neighbours, so its converter lays them out so. */
bool ts_llama_pairs(const ts_naming *);
#endif
