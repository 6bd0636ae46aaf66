/* Words for what a run will take. */
#include "cli/forecast_text.h"

#include "backend/number.h"

#define LITTLE 2e12 /* floating-point operations: seconds on two cores of today */

const char *ts_duration_text(double seconds, char out[TS_DURATION_TEXT])
{
    if (seconds < 0.95)
        snprintf(out, TS_DURATION_TEXT, "%.1g s", seconds);
    else if (seconds < 99.5)
        snprintf(out, TS_DURATION_TEXT, "%.0f s", seconds);
    else if (seconds < 99.5 * 60)
        snprintf(out, TS_DURATION_TEXT, "%.0f min", seconds / 60);
    else if (seconds < 48 * 3600)
        snprintf(out, TS_DURATION_TEXT, "%.1f h", seconds / 3600);
    else
        snprintf(out, TS_DURATION_TEXT, "%.1f days", seconds / 86400);
    return out;
}

double ts_forecast_seconds(const ts_forecast *f)
{
    return f->text_seconds + f->denoise_seconds + f->decode_seconds;
}

const char *ts_forecast_text(const ts_forecast *f, size_t peak, char out[TS_FORECAST_TEXT])
{
    char all[TS_DURATION_TEXT], part[TS_DURATION_TEXT], need[TS_NUMBER_TEXT], may[TS_NUMBER_TEXT];
    const struct {
        const char *name;
        double seconds;
    } phase[] = {{"text", f->text_seconds},
                 {"denoising", f->denoise_seconds},
                 {"decoding", f->decode_seconds}};
    const char *before = ": ";
    int n = snprintf(out, TS_FORECAST_TEXT, "about %s on this machine",
                     ts_duration_text(ts_forecast_seconds(f), all));
    for (int i = 0; i < 3; i++) {
        if (phase[i].seconds <= 0) continue;
        n += snprintf(out + n, (size_t)(TS_FORECAST_TEXT - n), "%s%s %s", before, phase[i].name,
                      ts_duration_text(phase[i].seconds, part));
        before = ", ";
    }
    snprintf(out + n, (size_t)(TS_FORECAST_TEXT - n), "; %s of %s",
             ts_bytes_text((double)peak, need), ts_bytes_text((double)f->allowed_bytes, may));
    return out;
}

ts_status ts_forecast_run(ts_run *r, const ts_estimate *e, bool always, ts_forecast *f)
{
    *f = (ts_forecast){.size = sizeof *f};
    if (!always && e->step_flops * e->steps + e->decode_flops < LITTLE) return TS_OK;
    ts_status st = ts_run_forecast(r, f);
    if (!st || st == TS_ESTOP) return st;
    *f = (ts_forecast){.size = sizeof *f}; /* no guess is worth a run that may succeed */
    return TS_OK;
}
