/* Hashes that tell one file's content from another's. Internal to sampler/. */
#ifndef TS_IDENTITY_H
#define TS_IDENTITY_H
#include "sampler/model.h"

#include <stdint.h>

/* Goes on with *h. Of a component's folder, or its file: names of its weight files and configs,
 * their sizes and samples all over them, so that hundreds of GB take no time. TS_EMODEL,
 * TS_EMEMORY. */
ts_status ts_identity_folder(ts_err *, const char *dir, uint64_t *h);
/* Of a file: every byte. TS_EMODEL. */
ts_status ts_identity_file(ts_err *, const char *path, uint64_t *h);
/* Of what denoising takes from the model: every component but the VAE, which `vae` adds. TS_EMODEL,
 * TS_EMEMORY. */
ts_status ts_identity_model(const ts_model *, bool vae, uint64_t *h);
#endif
