/* A whole run in one call: from a request to frames in a sink. */
#include "sampler/generate.h"

ts_status ts_generate_open(ts_model *m, const ts_request *q, ts_run **out)
{
    ts_status st = TS_OK;
    ts_bag *noise = NULL;
    *out = NULL;
    TRY(ts_run_open(m, q, out, NULL));
    const ts_request *own = &(*out)->q;
    if (own->noise_file) {
        TRY(ts_bag_read(m->ctx, own->noise_file, &noise));
        TRY(ts_run_noise(*out, noise));
    }
    if (own->init) TRY(ts_run_picture(*out, own->init));
    if (own->image) TRY(ts_run_image(*out, own->image, false));
    if (own->last_image) TRY(ts_run_image(*out, own->last_image, true));
done:
    ts_bag_free(noise);
    return st;
}

ts_status ts_generate_run(ts_run *r, ts_sink *sink)
{
    ts_status st = TS_OK;
    TRY(ts_run_encode(r));
    TRY(ts_run_denoise(r, NULL));
    TRY(ts_run_decode(r, NULL, sink));
done:
    return st;
}

ts_status ts_generate_to(ts_model *m, const ts_request *q, ts_sink *sink)
{
    ts_status st = TS_OK;
    ts_run *r = NULL;
    if (!m) return TS_EUSAGE;
    if ((st = ts_sink_check(&m->ctx->err, sink)) != TS_OK) return st;
    TRY(ts_generate_open(m, q, &r));
    TRY(ts_generate_run(r, sink));
done:
    if (st) sink->abort(sink);
    ts_run_close(r);
    return st;
}
