/* An opened model directory: its configs understood, its weights opened when a run first needs
 * them. Internal to sampler/. */
#ifndef TS_MODEL_H
#define TS_MODEL_H
#include "codecs/clip_vision.h"
#include "prompts/text.h"
#include "sampler/families.h"
#include "sampler/schedule.h"
#include "sampler/tessera.h"

enum { TS_MODEL_FILES = 8 };
/* what a component is called in ts_model_files and in metadata */
const char *ts_model_file_name(int i);

struct ts_model {
    ts_ctx *ctx;
    ts_model_dir dir;
    char *name; /* as metadata has it: a full path, ORG/NAME, or "default" */
    /* full paths of components that were given by themselves, in order of ts_model_files; NULL:
     * not given */
    char *file[TS_MODEL_FILES];
    const ts_family *family;
    ts_defaults def;     /* the family's, overlaid with tessera.json */
    char negative[2048]; /* what def.negative points to when tessera.json has one */
    /* share of the timetable below which the second expert works; 0: one expert */
    double boundary;
    ts_solver_kind solver;  /* of the scheduler's config */
    double shift;           /* of a flow's timetable */
    ts_diffusion diffusion; /* what else it says, of a diffusion model */
    ts_dit_info dit_info;
    ts_vae_info vae_info;
    void *vae_config;           /* the class's struct, of vae_info */
    ts_clip_vision_info vision; /* of its image encoder; width 0: it has none */
    ts_dit *dit[2];             /* opened by the first run */
    ts_weights *vae_weights;
    struct ts_preview *preview; /* colours of latents; NULL: nobody has asked for a preview */
    ts_tokenizer *tokenizer[TS_TEXT_RULES]; /* of the family's rules */
    struct ts_loras *loras;                 /* that the transformers have; NULL: none (loras.c) */
    /* counting runs so far: the sizes and layouts of the last one hold */
    long counts;
    int children; /* runs and texts that are open */
    bool closed;  /* by its owner; it goes with its last child */
};
/* A child is closed: frees its parent when that is closed and has no other. */
void ts_model_release(ts_model *);
void ts_ctx_release(ts_ctx *);
/* schedule_config.c: solver, shift, diffusion */
ts_status ts_model_scheduler(ts_model *);
/* of a rule of the family; opened once */
ts_status ts_model_tokenizer(ts_model *, int rule, ts_tokenizer **);
/* dit[], vae_weights: mapped and bound, nothing touched */
ts_status ts_model_weights(ts_model *);
/* A text as a rule's encoder reads it: cleaned, in the rule's template, malloc'd. TS_EUSAGE. */
ts_status ts_model_phrase(ts_model *, int rule, const char *text, char **);
/* The same, tokenized, and warned of when cut. ids: malloc'd. */
ts_status ts_model_tokenize(ts_model *, int rule, const char *text, const char *what, int32_t **ids,
                            int *n);
#endif
