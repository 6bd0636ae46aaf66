/* LoRAs and whole differences, added to a set's weights on their way to the device:
 *
 *   W' = W + strength sum of s (B A)   or   W + strength d,   in f32, rounded once
 *
 * with A [r, in], B [out, r] and s by the file (Hu et al., LoRA, 2021, section 4.1). */
#ifndef TS_LORA_H
#define TS_LORA_H
#include "weights/lora_file.h"
#include "weights/naming.h"
#include "weights/weights.h"

/* How a file fits a set. */
typedef struct {
    int layers, differences; /* tensors that pairs change; that whole differences change */
    long rank_least, rank_most;
    int keys, left;      /* keys that fit the set; that do not */
    const char *some[3]; /* of those that do not; the file's */
} ts_lora_fit;
typedef struct ts_lora_bound ts_lora_bound;
/* Which tensors of the set the file changes, and how: its modules are looked up by the set's names
 * and by those of `names`, in dots and flattened. No key that fits is no failure: fit->keys is 0.
 * The file lives as long as *out. TS_EMODEL: a pair that is none, shapes of another model, one
 * tensor twice; warned of: alpha 0, a first layer of other channels. TS_EMEMORY. */
ts_status ts_lora_bind(ts_ctx *, const ts_weights *, const ts_names *names, const ts_lora_file *,
                       double strength, ts_lora_bound **out, ts_lora_fit *fit);
void ts_lora_release(ts_lora_bound *); /* NULL is legal */
ts_delta ts_lora_delta(ts_lora_bound *);
#endif
