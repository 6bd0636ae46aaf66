/* One picture or clip on its way: request, geometry, and what the counting run found. Internal to
 * sampler/. */
#ifndef TS_RUN_H
#define TS_RUN_H
#include "attention/recommend.h"
#include "codecs/picture.h"
#include "sampler/model.h"
#include "sampler/step_cache.h"
#include "weights/bag.h"

enum { TS_MOST_PICTURES = 64 };           /* of a batch */
enum { TS_COND, TS_UNCOND, TS_BRANCHES }; /* guidance branches; also the slots of texts */
typedef struct {                          /* of a run's state file, those that it names */
    int slot;                             /* which of their two files; 0: none */
    uint64_t hash;                        /* of the file */
    long searches; /* of this run that had been made when they were written */
} ts_saved_plans;
enum { TS_FIRST, TS_LAST, TS_IMAGES }; /* of a clip */
struct ts_run {
    ts_model *m;
    ts_ctx *ctx;
    ts_request q;   /* rounded; its strings are the run's own */
    long latent[4]; /* C F H W; of pictures: C, how many, H W */
    int padding;    /* of these frames: so many at the beginning are not decoded */
    int pictures;   /* of the batch; 0: the model makes clips */
    ts_grid grid;
    ts_schedule schedule;
    /* first step (from 0) of the second expert; steps when there is none */
    int low;
    int branches;    /* 1: none without the prompt */
    ts_texts *texts; /* holds the run's texts; its own or shared with other runs */
    bool owns_texts;
    int text_id[TS_BRANCHES];
    int n_ids[TS_BRANCHES];
    const ts_bag *states[TS_BRANCHES]; /* of texts, after ts_run_encode */
    long counted;                      /* which of the model's counting runs its sizes are from */
    uint64_t picture_hash;             /* of the pixels that `picture` was made from */
    char *state_request;               /* what its state file says that it belongs to; NULL */
    bool state_spare;                  /* its state may be missing: see ts_run_state */
    ts_saved_plans saved;              /* with its state file */
    float *noise;                      /* host [C, F, H, W], given instead of drawn; NULL */
    /* host [steps, C, F, H, W]: what a solver that draws adds after each step; NULL: it draws */
    float *step_noise;
    float *image_noise; /* host [C, 1, H, W]: that of an image's latents; NULL: it is drawn */
    ts_tensor picture;  /* device [1, H, W, C]: latents to begin with; absent: noise alone */
    /* Of clips that are made of images (images.h), first and last */
    struct {
        ts_picture frame; /* at the size of the clip; rgb NULL: not read */
        float *seen;      /* what the image encoder sees, [side, side, 3]; NULL: there is none */
        uint64_t hash;    /* of the pixels that were given */
    } image[TS_IMAGES];
    float *beside;     /* host [C', F, H, W]: mask and latents of them; NULL: none, as `seen` */
    float *seen;       /* host [images rows, width]: their encoder's states */
    ts_tensor kept;    /* device [1, H, W, C]: latents that stay the first frame; absent: none */
    ts_tensor latents; /* device [F, H, W, C]: what denoising has ended with; absent: it has not */
    size_t scratch[3]; /* bytes that operations take beside it, from the first phase on */
    size_t arena[3];   /* bytes a phase takes, by ts_phase */
    ts_profile price[3]; /* operations of a phase, by ts_phase, all of its steps or frames */
    ts_vae_tile tile;
    /* steps (from 0, ascending) before which denoising keeps the latents, [records] */
    const int *record;
    int records;
    ts_ptr recorded; /* device [records, F, H, W, C], freed with the run */
    ts_watch watch;  /* step NULL: nobody */
    ts_tensor clean; /* device [F, H, W, C]: for who watches; absent: nobody has */
    struct {
        int steps;          /* that were shown */
        double seconds;     /* that took */
        size_t bytes;       /* that a preview takes while it is fitted; 0: there is none */
        float *room;        /* of the last preview, [H, W, C] and its pixels */
        ts_profile profile; /* operations of steps before the last fit, whose own do not count */
    } watched;
    ts_policy policy; /* of q.attention, settled */
    ts_advice advice; /* how it was chosen; asked 0: it was named */
    ts_attn attn;
    ts_cache_wish cache_wish; /* of q.cache_steps */
    ts_step_cache cache;
    char slot[TS_MOST_PICTURES * TS_BRANCHES][16]; /* names of its slots */
    const char *slot_name[TS_MOST_PICTURES * TS_BRANCHES];
    int slot_text[TS_MOST_PICTURES * TS_BRANCHES]; /* rows of text in their self-attention */
    ts_report report;
    ts_estimate estimate;
    ts_profile profile;      /* of the denoising */
    ts_weights_cost weights; /* of the same: packing them */
};
/* The caller's request, of its version of the struct, in this one's; strings are the caller's.
 * TS_EUSAGE: of a newer version. */
ts_status ts_request_read(ts_model *, const ts_request *, ts_request *out);
/* Request -> the same, checked and rounded to what the model can do; geometry of the latent. */
ts_status ts_request_check(ts_run *, const ts_request *);
void ts_request_release(ts_run *);
/* As ts_run_json, for files that people pass on: of paths of model, picture and noise the last
 * part. malloc'd; NULL: no memory. */
char *ts_run_public_json(const ts_run *);
/* Public metadata of one picture of a batch: as if it had been asked for alone; malloc'd. */
char *ts_run_json_of(const ts_run *, int picture);
char *ts_run_parameters_of(const ts_run *, int picture);
/* that are decoded: of the clip, or pictures */
int ts_run_frames(const ts_run *);
/* The steps that are run: all but those that `strength` leaves out before the first. */
int ts_run_steps(const ts_run *);
double ts_guidance_at(const ts_run *, int step); /* of a step from 0 */
/* Is any number drawn by the seed? Not where the noise is given, unless the solver adds more after
 * steps and that is not given, too. */
bool ts_run_seeded(const ts_run *, bool given);
/* guidance branches of a step from 0: the family's to say, and where it leaves it to guidance, two
 * where that is more than 1 */
int ts_run_branches(const ts_run *, int step);
/* What the transformer is told beside timestep and latents; texts [slots], borrowed. */
ts_dit_inputs ts_run_inputs(const ts_run *, const ts_bag *const *texts, int slots);
/* Room for the latents that enter these steps (from 0, ascending; borrowed). TS_EMEMORY. */
ts_status ts_run_record(ts_run *, const int *steps, int n);
ts_tensor ts_run_recorded(const ts_run *, int i); /* [F, H, W, C], of the i-th of them */
/* denoise.c: leaves r->latents, which are there; on a counting device it counts. */
ts_status ts_denoise(ts_run *);
/* run_size.c: arenas, tile and estimate by counting, or from a run that they hold for; NULL: none.
 * TS_EUSAGE, TS_EMEMORY. */
ts_status ts_run_size(ts_run *, const ts_run *like, ts_estimate *);
ts_status ts_run_size_decode(ts_run *, ts_estimate *); /* of decoding alone */
/* For packed weights, beside `taken` bytes: of what may be used, what others leave; at least 1. */
size_t ts_room_beside(const ts_ctx *, size_t taken);
size_t ts_run_room(const ts_run *); /* beside activations and what previews take */
/* Tiles that are tried where a whole frame does not fit, larger ones (fewer seams) first: those of
 * the VAE's authors, 256 pixels to a side (16 latents at least). Returns how many. */
int ts_run_tiles(const ts_run *, ts_vae_tile tile[2]);
/* TS_EUSAGE: there is no sink, or one of its functions is missing */
ts_status ts_sink_check(ts_err *, const ts_sink *);
/* decode.c: latents f32 [F, H, W, C] of the device; sink NULL: counts. */
ts_status ts_decode(ts_run *, ts_tensor latents, ts_sink *);
/* state.c: is there a state file, and is it of this request? Of another one: TS_EMODEL, which says
 * what differs. Noise and picture to begin with are there. */
ts_status ts_state_check(ts_run *);
/* The tensor of latents or of a state that is worth a look: of a state between two steps, where its
 * solver keeps one, the prediction of the clean latents. */
const char *ts_state_shown(const ts_bag *);
/* Latents and history after a step, and plans where searches have changed them; checked again. x
 * [C, F, H, W] */
ts_status ts_state_save(ts_run *, const ts_solver *, ts_tensor x);
ts_status ts_state_load(ts_run *, ts_solver *, ts_tensor x, bool *found);
#endif
