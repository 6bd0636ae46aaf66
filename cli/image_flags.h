/* Images that a clip is made of: --image and --last-image, keys of rows, and what an earlier run
 * had. */
#ifndef TS_IMAGE_FLAGS_H
#define TS_IMAGE_FLAGS_H
#include "cli/cli.h"

enum { TS_CLI_IMAGES = 2 }; /* first and last */
ts_flag_id ts_cli_image_flag(int i);
/* Full paths of the images that the flags name into q and `own` (freed by the caller), and the size
 * that follows from the first where the flags say none. `from`: a file whose metadata q has, with
 * the images that no flag names: where they are now; the size stays. NULL: none. TS_EMODEL. */
ts_status ts_cli_set_images(ts_cli *, const ts_flag_value *, const char *from, ts_request *q,
                            char *own[TS_CLI_IMAGES]);
/* Reads those of the run's request. TS_EMODEL. */
ts_status ts_cli_read_images(ts_run *, const ts_request *);
/* Warns of an image that has changed since: `was` and `now` are metadata. */
void ts_cli_compare_images(ts_cli *, const char *from, const char *was, const char *now);
#endif
