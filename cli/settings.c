/* Flags -> request. */
#include "cli/settings.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

static ts_status set_seed(ts_err *err, const ts_flag_value *v, uint64_t *seed)
{
    uint32_t drawn; /* short enough to be copied by hand */
    if (!v->set) return TS_OK;
    if (!v->random) return *seed = v->wide, TS_OK;
    if (getrandom(&drawn, sizeof drawn, 0) != sizeof drawn)
        return ts_fail(err, TS_EDEVICE, "no random seed from the system: %s", strerror(errno));
    *seed = drawn;
    return TS_OK;
}

void ts_settings_apply(const ts_flag_value *v, ts_request *q)
{
    if (v[TS_F_NEGATIVE].set) q->negative = v[TS_F_NEGATIVE].text;
    if (v[TS_F_SIZE].w) q->width = v[TS_F_SIZE].w; /* 0: only the other side was given */
    if (v[TS_F_SIZE].h) q->height = v[TS_F_SIZE].h;
    if (v[TS_F_STEPS].set) q->steps = (int)v[TS_F_STEPS].whole;
    if (v[TS_F_GUIDANCE].set) q->guidance = q->guidance_2 = v[TS_F_GUIDANCE].real;
    if (v[TS_F_GUIDANCE_2].set) q->guidance_2 = v[TS_F_GUIDANCE_2].real;
    if (v[TS_F_DYNAMIC_GUIDANCE].set) q->dynamic_guidance = true;
    if (v[TS_F_SHIFT].set) q->shift = v[TS_F_SHIFT].real;
    if (v[TS_F_TIMESTEPS].set) q->timesteps = v[TS_F_TIMESTEPS].text;
    if (v[TS_F_SAMPLER].set) q->sampler = v[TS_F_SAMPLER].text;
    if (v[TS_F_ATTENTION].set) q->attention = v[TS_F_ATTENTION].text;
    if (v[TS_F_CACHE_STEPS].set) q->cache_steps = v[TS_F_CACHE_STEPS].text;
    if (v[TS_F_VAE_TILE].set) q->vae_tile = v[TS_F_VAE_TILE].text;
    if (v[TS_F_FPS].set) q->fps = v[TS_F_FPS].real;
    if (v[TS_F_FRAMES].set) q->frames = (int)v[TS_F_FRAMES].whole;
    if (v[TS_F_SCALE].set) q->scale = (int)v[TS_F_SCALE].whole;
    if (v[TS_F_NO_BINS].set) q->no_bins = true;
    if (v[TS_F_PICTURES].set) q->count = (int)v[TS_F_PICTURES].whole;
}

ts_status ts_settings_of(ts_err *err, const ts_flags *f, ts_request *q)
{
    ts_settings_apply(f->value, q);
    return set_seed(err, f->value + TS_F_SEED, &q->seed);
}

void ts_settings_warn(ts_screen *screen, const ts_request *q)
{
    if (q->negative && *q->negative && q->guidance <= 1 && q->guidance_2 <= 1)
        ts_screen_warn(screen, "the negative prompt has no effect: guidance is not above 1");
}
