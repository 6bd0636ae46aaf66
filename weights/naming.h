/* The names that other programs give to the tensors of a component: single files in the naming of a
 * model's authors, in ComfyUI's, llama.cpp's. A component's class lists its namings; a checkpoint
 * that has one of them is renamed when it is opened, so that models ask for one set of names. */
#ifndef TS_NAMING_H
#define TS_NAMING_H
#include <stdbool.h>
#include <stddef.h>

enum { TS_NAME_ROOM = 256, TS_NAME_CUTS = 8 };

/* Of a tensor's rows, in shares of `of`: n from `first` on and, where `then` is not 0, n more from
 * then - 1 on. of 0: all of them. */
typedef struct {
    int of, first, n, then;
} ts_cut;
/* One rule: a piece of a name as files have it, and as models ask for it. '#' stands for a number,
 * the same on both sides. A list ends with a rule without `from`. */
typedef struct {
    const char *from, *to;
    ts_cut cut; /* of rules of `head`: a fused tensor has one for each of its parts */
} ts_rename;
typedef struct {
    const char *mark;      /* a tensor that no other naming has */
    const ts_rename *head; /* how names begin; a name that none fits stays as it is */
    const ts_rename *tail; /* what may follow behind the head; NULL: nothing changes there */
} ts_naming;
typedef struct {
    const ts_naming *naming;
    int namings;
    /* what may stand before every name, the longest of those that fit first; ends with NULL. Where
     * a tensor has one, those without it are no part of the component */
    const char *const *prefix;
    /* names as files have them that are left out without a word: how they begin, with a '*' before
     * it how they end, with a '=' all of one; ends with NULL */
    const char *const *unused;
} ts_names;

/* What stands before the names of a transformer, and beside its weights in files of 8 bits, by
 * which programs these files were made for. */
#define TS_TRANSFORMER_PREFIXES \
    "model.diffusion_model.", "diffusion_model.", "model.model.", "net.", "transformer."
#define TS_QUANTIZED_MARKS "scaled_fp8", "*.comfy_quant", "*.scale_input", "*.input_scale"

typedef struct {
    char name[TS_NAME_ROOM];
    ts_cut cut;
} ts_renamed;
/* A name of a file -> those it stands for; returns how many, 1 at least. Names that do not fit stay
 * as they are. */
int ts_naming_apply(const ts_naming *, const char *name, ts_renamed out[TS_NAME_CUTS]);
/* The way back: the first name of a file that gives `name`; false: no rule gives it, and out is
 * `name` itself. */
bool ts_naming_reverse(const ts_naming *, const char *name, char out[TS_NAME_ROOM]);
bool ts_names_are_unused(const ts_names *, const char *name);
#endif
