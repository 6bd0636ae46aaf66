/* What a run will take, in one line, and whether it is one that is worth the question. */
#ifndef TS_CLI_FORECAST_H
#define TS_CLI_FORECAST_H
#include "cli/cli.h"

enum { TS_DURATION_TEXT = 24, TS_FORECAST_TEXT = 192, TS_LONG_SECONDS = 600 };
/* "40 s", "12 min", "18.7 h", "3.5 days". Returns out. */
const char *ts_duration_text(double seconds, char out[TS_DURATION_TEXT]);
double ts_forecast_seconds(const ts_forecast *); /* of all phases */
/* "about 19 h on this machine: text 1 min, denoising 18.7 h, decoding 20 min; 12 GB of 23 GB";
 * peak: bytes.  * Returns out. */
const char *ts_forecast_text(const ts_forecast *, size_t peak, char out[TS_FORECAST_TEXT]);
/* Asks the run; what is so little that no machine takes a minute for it is not asked for, and stays
 * zero, unless `always`; so does what can not be measured. TS_ESTOP. */
ts_status ts_forecast_run(ts_run *, const ts_estimate *, bool always, ts_forecast *);
#endif
