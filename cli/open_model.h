/* The model that a command line asks for: --model, components by file, what an earlier run had. */
#ifndef TS_OPEN_MODEL_H
#define TS_OPEN_MODEL_H
#include "cli/cli.h"

/* c->model. json: metadata of the file `from`, whose model and files count where no flag gives
 * others; NULL: none. */
ts_status ts_cli_open_model(ts_cli *c, const char *json, const char *from);
/* A file of weights by its path or, with --models, by its name in those of the folders `below`
 * (ended by NULL) of that; malloc'd. TS_EMODEL: where it was looked for; TS_EMEMORY. */
ts_status ts_cli_find_weights(ts_cli *c, const char *flag, const char *name,
                              const char *const *below, char **path);
/* q->loras: what --lora and its like of these values give, else what metadata of `from` (NULL:
 * none) had put there, with the files where they are now; the text is c's. Of a value with commas
 * each part is one, unless a file is called so. TS_EMODEL: one is not there; TS_EMEMORY. */
ts_status ts_cli_set_loras(ts_cli *c, const ts_flag_value *, const char *from, ts_request *q);
/* The model with the files that flags give it, by which one is told from others; malloc'd, NULL: no
 * memory. */
char *ts_cli_model_text(const ts_flags *, const char *model);
/* Names of images for a request of a model that makes no clip without them, so that a run can be
 * sized before there are any. */
void ts_cli_any_images(const ts_model *, ts_request *);
#endif
