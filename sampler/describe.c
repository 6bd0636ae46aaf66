/* What a model directory holds and what it asks for, as JSON for `info`. Headers only: no weight is
 * read. */
#include "sampler/model.h"

#include <stdlib.h>
#include <string.h>

static ts_status add_weights(ts_model *m, const ts_component *c, cJSON *to)
{
    ts_weights *w = NULL;
    ts_weights_stat s;
    ts_status st = ts_weights_open(m->ctx, c->dir,
                                   strncmp(c->name, "text_encoder", 12) &&
                                           strcmp(c->name, "image_encoder")
                                       ? "diffusion_pytorch_model"
                                       : "model",
                                   NULL, &w);
    if (st) return st;
    ts_weights_stats(w, &s);
    ts_weights_close(w);
    cJSON_AddNumberToObject(to, "files", s.files);
    cJSON_AddNumberToObject(to, "tensors", (double)s.tensors);
    cJSON_AddNumberToObject(to, "parameters", (double)s.parameters);
    cJSON_AddNumberToObject(to, "bytes", (double)s.bytes);
    cJSON *types = cJSON_AddObjectToObject(to, "bytes_by_type");
    for (int i = 0; i < s.storages; i++)
        cJSON_AddNumberToObject(types, s.storage[i].name, (double)s.storage[i].bytes);
    return TS_OK;
}

static void add_settings(const ts_model *m, cJSON *j)
{
    const ts_defaults *d = &m->def;
    cJSON *s = cJSON_AddObjectToObject(j, "defaults");
    cJSON_AddNumberToObject(s, "width", d->width);
    cJSON_AddNumberToObject(s, "height", d->height);
    cJSON_AddNumberToObject(s, "frames", d->frames);
    cJSON_AddNumberToObject(s, "fps", d->fps);
    cJSON_AddNumberToObject(s, "steps", d->steps);
    cJSON_AddNumberToObject(s, "guidance", d->guidance);
    if (m->family->experts) cJSON_AddNumberToObject(s, "guidance_2", d->guidance_2);
    if (!m->family->diffusion) cJSON_AddNumberToObject(s, "shift", m->shift);
    cJSON_AddStringToObject(s, "sampler", ts_solver_name(m->solver));
    cJSON_AddStringToObject(s, "negative", d->negative);
    cJSON_AddNumberToObject(s, "scale", d->scale);
    cJSON *t = cJSON_AddObjectToObject(j, "transformer");
    cJSON_AddNumberToObject(t, "layers", m->dit_info.layers);
    cJSON_AddNumberToObject(t, "heads", m->dit_info.heads);
    cJSON_AddNumberToObject(t, "head_dim", m->dit_info.head_dim);
    cJSON_AddNumberToObject(t, "channels", m->dit_info.in_channels);
    cJSON *v = cJSON_AddObjectToObject(j, "vae");
    cJSON_AddNumberToObject(v, "channels", m->vae_info.channels);
    cJSON_AddNumberToObject(v, "stride", m->vae_info.stride);
    cJSON_AddNumberToObject(v, "time_stride", m->vae_info.time_stride);
    int least, most;
    ts_model_images(m, &least, &most);
    if (most) {
        cJSON *i = cJSON_AddObjectToObject(j, "images");
        cJSON_AddNumberToObject(i, "least", least);
        cJSON_AddNumberToObject(i, "most", most);
    }
    if (m->boundary > 0) cJSON_AddNumberToObject(j, "boundary_ratio", m->boundary);
}

ts_status ts_model_json(ts_model *m, char **json)
{
    ts_status st = TS_OK;
    cJSON *j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "model", m->name);
    cJSON_AddStringToObject(j, "folder", m->dir.dir);
    cJSON_AddStringToObject(j, "pipeline", m->dir.pipeline);
    cJSON *parts = cJSON_AddArrayToObject(j, "components");
    for (int i = 0; i < m->dir.parts; i++) {
        const ts_component *c = m->dir.part + i;
        cJSON *part = cJSON_CreateObject();
        cJSON_AddItemToArray(parts, part);
        cJSON_AddStringToObject(part, "name", c->name);
        cJSON_AddStringToObject(part, "class", c->cls);
        if (!strncmp(c->name, "transformer", 11) || !strncmp(c->name, "text_encoder", 12) ||
            !strcmp(c->name, "vae") || !strcmp(c->name, "image_encoder"))
            TRY(add_weights(m, c, part));
    }
    add_settings(m, j);
    *json = cJSON_PrintUnformatted(j);
done:
    cJSON_Delete(j);
    return st;
}
