/* The table of text encoders: which class of model_index.json is whose. */
#include "prompts/text.h"

#include <stdio.h>
#include <string.h>

static const ts_encoder_class *const classes[] = {
    &ts_encoder_t5, &ts_encoder_umt5, &ts_encoder_clip, &ts_encoder_llama, &ts_encoder_mt5,
};
enum { CLASSES = sizeof classes / sizeof *classes };

static ts_status refuse_class(ts_ctx *ctx, const ts_component *c)
{
    char known[512] = "";
    size_t at = 0;
    for (int i = 0; i < CLASSES; i++)
        at += (size_t)snprintf(known + at, sizeof known - at, "%s%s", i ? ", " : "",
                               classes[i]->cls);
    return ts_fail(&ctx->err, TS_EMODEL, "%s: class %s is not supported (%s)", c->config_path,
                   c->cls, known);
}

const ts_encoder_class *ts_encoder_class_of(const char *cls)
{
    for (int i = 0; i < CLASSES; i++)
        if (!strcmp(classes[i]->cls, cls)) return classes[i];
    return NULL;
}

ts_status ts_encoder_open(ts_ctx *ctx, const ts_component *c, ts_encoder **out)
{
    const ts_encoder_class *cls = ts_encoder_class_of(c->cls);
    *out = NULL;
    return cls ? cls->open(ctx, c, out) : refuse_class(ctx, c);
}

void ts_encoder_close(ts_encoder *e)
{
    if (e) e->cls->close(e);
}

ts_status ts_encoder_run(ts_encoder *e, ts_text_output output, const ts_ids *ids, int n,
                         float *const *out)
{
    if (n < 1) return ts_fail(&e->ctx->err, TS_EUSAGE, "no text to encode");
    return e->cls->run(e, output, ids, n, out);
}
