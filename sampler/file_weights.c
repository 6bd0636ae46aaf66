/* What a file of weights is: which part of which model, or a LoRA and of what. Headers only, but
 * for the alphas of a LoRA. */
#include "sampler/file_weights.h"

#include "sampler/model_files.h"
#include "weights/kinds.h"
#include "weights/lora_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void add_types(const ts_checkpoint *c, cJSON *j)
{
    double parameters = 0, tensors = 0;
    cJSON *types = cJSON_CreateObject();
    for (int k = 0; k < c->sources; k++) {
        const ts_source *s = c->source + k;
        tensors += s->entries;
        for (int i = 0; i < s->entries; i++) {
            const ts_entry *e = s->entry + i;
            const cJSON *was = cJSON_GetObjectItemCaseSensitive(types, e->storage);
            double bytes = (double)e->bytes + (was ? was->valuedouble : 0);
            cJSON_DeleteItemFromObjectCaseSensitive(types, e->storage);
            cJSON_AddNumberToObject(types, e->storage, bytes);
            if (!e->odd) parameters += (double)ts_entry_count(e);
        }
    }
    if (c->sources > 1) cJSON_AddNumberToObject(j, "files", c->sources);
    cJSON_AddNumberToObject(j, "tensors", tensors);
    cJSON_AddNumberToObject(j, "parameters", parameters);
    cJSON_AddItemToObject(j, "bytes_by_type", types);
}

/* ---- LoRAs ---- */

/* By a module of the middle of the network, with dots or without; the first that fits. width: does
 * A read, or B write, as many numbers as the model is wide? */
static const struct {
    const char *part, *flat, *family;
    bool reads;
} families[] = {
    {".img_attn_qkv", "individual_token_refiner", "HunyuanVideo", false},
    {"double_blocks.", "double_blocks_", "HunyuanVideo or Flux", false},
    {"single_blocks.", "single_blocks_", "HunyuanVideo or Flux", false},
    {"single_transformer_blocks.", "single_transformer_blocks_", "HunyuanVideo or Flux", false},
    {"down_blocks.", "down_blocks_", "Stable Diffusion", false},
    {"input_blocks.", "input_blocks_", "Stable Diffusion", false},
    {".self_attn.q", "_self_attn_q", "Wan", true},
    {"transformer_blocks.0.attn1.to_q", "transformer_blocks_0_attn1_to_q",
     "PixArt, CogVideoX or Open-Sora-Plan", true},
    {".attn1.to_q", "_attn1_to_q", "Wan", true},
    {".cross_attn.", "_cross_attn_", "Wan", false},
    {"blocks.", "blocks_", "Wan", false},
};

static void add_family(const ts_lora_file *f, cJSON *j)
{
    for (size_t k = 0; k < sizeof families / sizeof *families; k++)
        for (int i = 0; i < f->modules; i++) {
            const ts_lora_module *m = f->module + i;
            if (!strstr(m->name, families[k].part) && !strstr(m->name, families[k].flat)) continue;
            cJSON_AddStringToObject(j, "family", families[k].family);
            if (families[k].reads && m->a)
                cJSON_AddNumberToObject(j, "width", (double)ts_entry_width(m->a));
            return;
        }
}

static void add_range(cJSON *j, const char *key, double least, double most)
{
    char text[64];
    if (least == most) {
        cJSON_AddNumberToObject(j, key, least);
        return;
    }
    snprintf(text, sizeof text, "%g to %g", least, most);
    cJSON_AddStringToObject(j, key, text);
}

static ts_status describe_lora_file(ts_err *err, const char *path, cJSON *j)
{
    ts_lora_file f;
    ts_status st = ts_lora_open(err, path, &f);
    if (st) return st;
    double rank[2] = {0, 0}, scale[2] = {0, 0};
    int pairs = 0, differences = 0;
    for (int i = 0; i < f.modules; i++) {
        const ts_lora_module *m = f.module + i;
        differences += (m->diff != NULL) + (m->diff_b != NULL) + (m->diff_m != NULL);
        if (!m->a || !m->b) continue;
        double s, r = (double)ts_entry_rows(m->a);
        bool zero;
        TRY(ts_lora_scale(err, &f, m, &s, &zero));
        if (!pairs || r < rank[0]) rank[0] = r;
        if (!pairs || r > rank[1]) rank[1] = r;
        if (!pairs || s < scale[0]) scale[0] = s;
        if (!pairs || s > scale[1]) scale[1] = s;
        pairs++;
    }
    add_family(&f, j);
    cJSON_AddNumberToObject(j, "layers", pairs);
    if (pairs) add_range(j, "rank", rank[0], rank[1]);
    if (pairs) add_range(j, "scale", scale[0], scale[1]);
    if (differences) cJSON_AddNumberToObject(j, "differences", differences);
    if (f.text_keys) cJSON_AddNumberToObject(j, "text_encoder_keys", f.text_keys);
done:
    ts_lora_close(&f);
    return st;
}

ts_status ts_describe_weights(ts_ctx *ctx, const char *path, cJSON *j)
{
    ts_status st;
    ts_checkpoint c;
    TRY(ts_checkpoint_open(ctx, path, "model", NULL, &c));
    const ts_kind *k = ts_kind_of(c.source, c.sources, TS_PART_NONE);
    cJSON_AddStringToObject(j, "kind",
                            !k                        ? "weights"
                            : k->part == TS_PART_LORA ? "LoRA"
                                                      : strchr(k->what, ' ') + 1);
    if (k && k->part == TS_PART_LORA)
        st = describe_lora_file(&ctx->err, path, j);
    else if (k)
        ts_describe_part(ctx, path, k, j);
    add_types(&c, j);
    ts_checkpoint_close(&c);
done:
    return st;
}
