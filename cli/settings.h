/* What flags say of a request, over the model's defaults. */
#ifndef TS_SETTINGS_H
#define TS_SETTINGS_H
#include "backend/err.h"
#include "cli/flags.h"
#include "cli/progress.h"
#include "sampler/tessera.h"

#define TS_STRENGTH_DEFAULT 0.6 /* of a picture to begin with */
/* The values of flags, or of a row of a prompt file; prompt, seed and the frames that follow from
 * an output's name are their owners' business. */
void ts_settings_apply(const ts_flag_value *, ts_request *);
/* The same and the seed, which may be drawn: what generate, bench and search-tile ask for, but for
 * prompt, attention and what is written. TS_EDEVICE: the system has no random numbers. */
ts_status ts_settings_of(ts_err *, const ts_flags *, ts_request *);
/* Warns of a negative prompt that was given and has no effect, there being no guidance. */
void ts_settings_warn(ts_screen *, const ts_request *);
#endif
