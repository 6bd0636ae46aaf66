/* Bytes on disk -> named, shape-checked tensors. The files of a component (one, or shards) are
 * mapped; matrices and kernels are packed for the device a group at a time, small vectors are
 * resident f32. Models hold pointers to weights that stay put and never ask where the bytes are.
 *
 * Life: open -> find (bind) -> [counting run] -> enter(group) before each use -> close. The
 * counting run lets the operations choose layouts; the first real enter then decides, by `budget`,
 * which groups stay resident once packed; the others take turns in one slot, or in two where the
 * device brings one group while it computes with another. Until the first real enter nothing but
 * headers has been read, so a set whose turn has not come costs no memory. A later counting run may
 * want other layouts or use other tensors: the next enter then decides anew. */
#ifndef TS_WEIGHTS_H
#define TS_WEIGHTS_H
#include "backend/ctx.h"
#include "weights/naming.h"

typedef struct ts_weights ts_weights;
/* matrix: weights of linear and conv; vector: everything small, resident in f32 from the first real
 * enter (of any group) on */
typedef enum { TS_ROLE_MATRIX, TS_ROLE_VECTOR } ts_role;

/* Opens PLACE/STEM.safetensors, PLACE/STEM.safetensors.index.json with its shards, or a variant
 * (PLACE/STEM.fp16.safetensors); or PLACE, which is a file. Checks headers, offsets, shapes and
 * overlaps. names: what else the component's tensors may be called; NULL: nothing. TS_EMODEL names
 * file and tensor. The context and its device outlive the set. */
ts_status ts_weights_open(ts_ctx *, const char *place, const char *stem, const ts_names *,
                          ts_weights **);
void ts_weights_close(ts_weights *); /* NULL is legal */
bool ts_weights_has(const ts_weights *, const char *name);
/* that its files have, of those of `names`; NULL: the one that models ask for */
const ts_naming *ts_weights_naming(const ts_weights *);
/* Finds a tensor (F32, BF16 or F16) and refuses any other shape (an expected dimension of -1 takes
 * what is there). Groups count from 0; the pointer lives as long as the set. Finding a name twice
 * returns the same weight; a matrix of several groups is always resident.
 * Until the first real enter: VECTOR t is f32 [dim...] at an address that is no memory (so that
 * counting sees a tensor); MATRIX t.p is 0, t.type the stored type. Keep the const ts_weight *, not
 * its t. */
ts_status ts_weights_find(ts_weights *, int group, ts_role, const char *name, int nd,
                          const long *dim, const ts_weight **);
/* after bind: one warning that counts and names the tensors that were not found */
void ts_weights_warn_unused(ts_weights *);
/* stop? then make the group's matrices resident: packed as the counting run wanted them (stored
 * type and row-major: used in the mapping where the device can), mapped pages given back, the next
 * group begun where the device goes ahead of its queue, its pages asked for where it does not;
 * matrices that no operation has used are left alone. Nothing on a counting device. TS_EMEMORY;
 * after the first call with given wants nothing is allocated. */
ts_status ts_weights_enter(ts_weights *, int group);
/* Bytes that the set may hold on the device at once: resident groups, slots and the vectors. What
 * fits stays; slots and the vectors are taken in any case. Never more than the default:
 * 1.25 times the size of the files and at least 256 MiB, so that weights which are widened do not
 * double memory; numbers that have to be decoded count as f32, as to do that again costs more. When
 * such weights take turns although there is a budget, a warning says so once. */
void ts_weights_budget(ts_weights *, size_t bytes);
/* What entering has cost: seconds of the caller, and bytes that were packed, each time again. */
typedef struct {
    double seconds, bytes;
} ts_weights_cost;
/* Since the last call with reset. */
ts_weights_cost ts_weights_spent(ts_weights *, bool reset);
/* gives back the memory of all matrices and the pages of those used in the mapping; the wants are
 * kept and the next enter packs again */
void ts_weights_leave(ts_weights *);
/* After the counting run: bytes of everything when resident (vectors too), and of the slots where
 * groups take turns when not everything stays: once or twice the largest group. */
size_t ts_weights_packed(const ts_weights *, size_t *slots);
/* Rows of a 2-D table (embeddings) as f32, read from the mapping: out [n, dim]. TS_ESHAPE: another
 * shape than [vocab, dim] (-1: any), or an id outside of it. */
ts_status ts_weights_rows(ts_weights *, const char *name, const int32_t *ids, int n, long vocab,
                          long dim, float *out);
/* What is in the files, for `info`. */
typedef struct {
    long tensors, parameters;
    size_t bytes;
    struct {
        const char *name; /* "BF16", ...: static */
        size_t bytes;
    } storage[32]; /* the formats that occur, in order of the names of tensors */
    int storages;
    int files;
} ts_weights_stat;
void ts_weights_stats(const ts_weights *, ts_weights_stat *);

/* Something that is added to tensors of a set on their way to the device, such as a LoRA. */
typedef struct {
    bool (*touches)(void *user, const char *name);
    /* Adds to `rows` rows of NAME, from row `first` on: w [rows, numbers in a row], f32, in place.
     * Rows run along the first dimension; what has fewer than two dimensions is one row. Called for
     * what it touches alone, on the thread that enters, again whenever a group comes again */
    ts_status (*apply)(void *user, const char *name, long first, long rows, float *w);
    void *user; /* there as long as the set */
} ts_delta;
/* Before the first real enter; deltas add up in order. In the set's numbers, never in its files: a
 * matrix that is touched is made in f32 some rows at a time and packed, so it is rounded once and
 * not used where it is mapped. Embeddings (ts_weights_rows) and vectors are changed too. TS_EMEMORY
 */
ts_status ts_weights_add_delta(ts_weights *, const ts_delta *);
/* These n in the place of all before, at any time: what was made of others goes, and is made anew
 * by the next enter. TS_EMEMORY: none is left. */
ts_status ts_weights_set_deltas(ts_weights *, const ts_delta *, int n);

/* A linear layer's or convolution's two tensors, PREFIX.weight and PREFIX.bias. */
typedef struct {
    const ts_weight *w, *b;
} ts_layer;
ts_status ts_find_linear(ts_weights *, int group, ts_layer *, long out, long in, bool bias,
                         const char *prefix, ...) __attribute__((format(printf, 7, 8)));
ts_status ts_find_conv(ts_weights *, int group, ts_layer *, int nd, const long *dim,
                       const char *prefix, ...) __attribute__((format(printf, 6, 7)));
ts_status ts_find_vector(ts_weights *, int group, const ts_weight **, int nd, const long *dim,
                         const char *name, ...) __attribute__((format(printf, 6, 7)));
/* A norm's two vectors of `width` numbers, PREFIX.weight and PREFIX.bias. */
ts_status ts_find_norm(ts_weights *, int group, ts_layer *, long width, const char *prefix, ...)
    __attribute__((format(printf, 5, 6)));
/* A row of a table of layers. */
typedef struct {
    ts_layer *layer;
    const char *name;
    long out, in; /* numbers that a linear layer gives and reads; a norm's width and 0 */
    bool bias;    /* a linear layer has one */
} ts_layer_row;
#define TS_LINEAR(layer, name, out, in) \
    {                                   \
        layer, name, out, in, true      \
    }
#define TS_NORM(layer, name, width)  \
    {                                \
        layer, name, width, 0, false \
    }
/* The layers of a table, in its order, each as BLOCKS.I.NAME or, `blocks` being NULL, NAME. */
ts_status ts_find_layers(ts_weights *, int group, const ts_layer_row *, size_t rows,
                         const char *blocks, int i);
#endif
