/* A set of weights from the inside: what weights.c (opening, finding, reading) and residency.c
 * (where matrices and vectors are) share. */
#ifndef TS_SET_H
#define TS_SET_H
#include "weights/checkpoint.h"
#include "weights/weights.h"

/* The address of vectors that are not read yet: dereferencing it faults. */
#define TS_NOWHERE (UINT64_C(3) << 58)

typedef struct {
    ts_weight w; /* what models hold */
    ts_role role;
    int group;     /* index into group[] */
    bool found;    /* by find: then role and group hold */
    bool read;     /* by rows */
    bool changed;  /* a delta is applied to it */
    bool in_place; /* of the plan: used where the file is mapped */
    /* w when memory was laid out: its want is what pack gives, while another counting run may
     * already write to w's */
    ts_weight plan;
    size_t at; /* bytes from the beginning of the group's memory */
} ts_item;

/* Matrices on the device: none; being brought beside the device's queue; there. */
typedef enum { TS_AWAY, TS_COMING, TS_HERE } ts_place;
typedef struct {
    int *item;
    int n, room;
    size_t bytes;
    bool stays;  /* in memory of its own, else in a slot */
    ts_ptr home; /* own memory */
    ts_place place;
    ts_ticket last; /* to wait for while it comes */
} ts_group;

/* Memory in which groups that do not stay take turns. */
typedef struct {
    ts_ptr home;
    int owner; /* the group that is in it or comes to it; -1: none */
} ts_slot;

struct ts_weights {
    ts_ctx *ctx;
    ts_checkpoint files;
    ts_item *item; /* one a name of files */
    /* group[0] holds matrices that several groups found and always stays; the callers' group g is
     * group[g + 1] */
    ts_group *group;
    int groups;
    int *vector, vectors, loaded; /* items in order of finding; the first `loaded` are resident */
    ts_ptr *chunk;                /* memory of vectors: one a round of loading */
    int chunks;
    ts_delta *delta;
    int deltas;
    size_t most, budget; /* bytes that may be held: at most, and as the caller said */
    size_t all;          /* bytes of everything packed, once it is decided what stays */
    bool planned;
    ts_slot slot[2];
    int slots, current; /* the slot of the group that was entered last */
    float *rows;        /* a part of a matrix, where rows are read to be packed */
    int threads;        /* of the host that make rows */
    size_t again;       /* bytes that are decoded anew in every evaluation */
    bool warned;        /* of them */
    ts_weights_cost cost;
};

static inline const ts_entry *ts_entry_of(const ts_weights *ws, int i)
{
    return ws->files.name[i].e;
}
/* Its numbers are nowhere before they are read. */
static inline bool ts_is_decoded(const ts_weights *ws, int i)
{
    const ts_entry *e = ws->files.name[i].stored;
    return !e->t.data && !e->odd;
}
ts_status ts_set_no_memory(ts_weights *);
/* Rows of item i as f32, deltas applied: out [rows, ts_entry_width]. */
ts_status ts_set_rows(ts_weights *, int i, long first, long rows, float *out);
/* Back to no matrix resident and no memory held for any. */
void ts_set_forget(ts_weights *);
void ts_set_free_vectors(ts_weights *);
#endif
