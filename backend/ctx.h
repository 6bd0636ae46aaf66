/* The context that everything is called with: one run at a time on one device, its error slot, its
 * arena. */
#ifndef TS_CTX_H
#define TS_CTX_H
#include "backend/device.h"

typedef struct ts_ctx ts_ctx;

/* ---- arena: a phase's memory, taken in order, given back in reverse, sized by running the phase
 * on a counting device ---- */
typedef struct {
    ts_device *dev;
    ts_ptr base;
    size_t size, used, peak;
} ts_arena;
/* a counting device needs no size: any amount can be taken, `peak` is the answer */
ts_status ts_arena_open(ts_arena *, ts_device *, size_t size);
void ts_arena_close(ts_arena *);
/* 256-byte aligned, not cleared; running out is our own mistake: assert */
ts_tensor ts_take(ts_arena *, ts_dtype, int nd, const long *dim);
/* nd, dim of ts_take, ts_view, ts_tensor_of */
#define TS_DIM(...) \
    (int)(sizeof((long[]){__VA_ARGS__}) / sizeof(long)), (long[]) { __VA_ARGS__ }
static inline size_t ts_mark(const ts_arena *a) { return a->used; }
static inline void ts_release(ts_arena *a, size_t mark) { a->used = mark; }

/* What `phase` takes from the context's arena, by running it on the counting device. Then the
 * device counts as it did before, whatever is returned. */
ts_status ts_count_phase(ts_ctx *, ts_status (*phase)(ts_ctx *, void *user), void *user,
                         size_t *bytes);

/* ---- the context: one run at a time on one device. Internal; tessera.h shows it as opaque.
 * ---- */
struct ts_ctx {
    ts_err err;
    ts_env env;
    ts_device *dev;
    ts_arena arena; /* the phase's */
    ts_dtype act;   /* activations of transformers and text encoders: TS_F32 or TS_BF16 */
    ts_dtype codec; /* those of VAEs, between latents and pixels, which are f32 */
    size_t memory;  /* bytes that may be used */
    size_t unused;  /* of them, what nobody used when the context was opened; 0: all */
    const char *default_model, *hub; /* paths, may be NULL */
    /* tests: sees activations of the first evaluation of each branch; NULL */
    ts_status (*tap)(void *user, const char *name, ts_tensor);
    void *tap_user;
    bool owns_dev;
    int children; /* models that are open */
    bool closed;  /* by its owner; it goes with its last child */
};
void ts_warn(const ts_ctx *, const char *format, ...) __attribute__((format(printf, 2, 3)));
void ts_progress(const ts_ctx *, ts_event);
ts_status ts_stopped(ts_ctx *); /* TS_ESTOP once stop was asked for */
#endif
