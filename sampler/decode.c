/* Latents -> frames -> the caller's sink, one frame at a time; and how large a tile the VAE gets. */
#include "sampler/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static ts_status sink_failed(ts_run *r, ts_sink *sink, ts_status st)
{
    return st == TS_OK ? TS_OK : ts_fail(&r->ctx->err, st, "%s", sink->error);
}

static ts_status open_sink(ts_run *r, ts_sink *sink)
{
    char *json = ts_run_json(r);
    ts_status st = sink_failed(r, sink, sink->open(sink, r->q.width, r->q.height, r->q.frames, r->q.fps, json));
    free(json);
    return st;
}

ts_status ts_decode(ts_run *r, ts_host latents, ts_sink *sink)
{
    ts_status st = TS_OK;
    const ts_vae_class *cls = r->m->family->vae;
    ts_vae *vae = NULL;
    bool end = false;
    double start = ts_seconds();
    ts_progress(r->ctx, (ts_event){.phase = TS_PHASE_DECODE, .steps = r->q.frames});
    if (sink) TRY(open_sink(r, sink));
    TRY(cls->open(r->ctx, r->m->vae_weights, &r->m->vae_info, latents, r->tile, &vae));
    for (int n = 0;; n++) {
        ts_frame frame;
        TRY(ts_stopped(r->ctx));
        TRY(cls->next(vae, &frame, &end));
        if (end) break;
        if (sink) TRY(sink_failed(r, sink, sink->frame(sink, &frame)));
        ts_progress(r->ctx, (ts_event){.phase = TS_PHASE_DECODE, .step = n + 1, .steps = r->q.frames, .seconds = ts_seconds() - start});
    }
    if (sink) TRY(sink_failed(r, sink, sink->close(sink)));
done:
    if (vae) cls->close(vae);
    if (st && sink) sink->abort(sink);
    return st;
}
