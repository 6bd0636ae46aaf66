/* What the blocks of transformers are composed of: plain functions of a context and tensors, which
 * a family combines in its own file. N tokens, A heads, d head width, D = A d, T rows of text. */
#ifndef TS_PARTS_H
#define TS_PARTS_H
#include "attention/grid.h"
#include "dit/dit.h"
#include "weights/weights.h"

/* ---- tensors ---- */
/* [rows, columns] from ctx->arena */
ts_tensor ts_part_take(ts_ctx *, ts_dtype, long rows, long columns);
/* host f32 into `to`; `from` may go away once this returns */
ts_status ts_part_upload(ts_ctx *, ts_tensor to, const float *from);
/* y = a + b */
ts_status ts_part_add(ts_ctx *, ts_tensor a, ts_tensor b, ts_tensor y);
/* [rows, A d] -> [rows, A, d]; rows stay as far apart as they are */
ts_tensor ts_part_heads(ts_tensor, int heads);
/* [rows, A d] -> [1, rows, A, d], as attention reads them */
ts_tensor ts_part_batch_of_one(ts_tensor, int heads);

/* ---- layers ---- */
/* y [rows, O] = act(x W' + b) */
ts_status ts_part_linear(ts_ctx *, const ts_layer *, ts_tensor x, ts_act, ts_tensor y);
/* y [rows, C] = ln(x) w + b */
ts_status ts_part_norm(ts_ctx *, const ts_layer *n, float eps, ts_tensor x, ts_tensor y);
/* x = x / sqrt(mean x^2 + eps) w in place: of [rows, C] over all of a row, of [rows, A, d] over
 * each head; w [C] or [d] */
ts_status ts_part_rms(ts_ctx *, const ts_weight *w, float eps, ts_tensor x);
/* y [rows, O] = l2 silu(l1 sincos(v)) of host numbers v [rows], sincos being as wide as l1 reads */
ts_status ts_part_embed(ts_ctx *, const ts_layer *l1, const ts_layer *l2, const float *v, long rows,
                        ts_tensor y);
/* The same of host rows v [rows, width], as wide as l1 reads, themselves. */
ts_status ts_part_embed_rows(ts_ctx *, const ts_layer *l1, const ts_layer *l2, const float *v,
                             long rows, ts_tensor y);
/* y [rows, O] = l silu(x), x f32 */
ts_status ts_part_project(ts_ctx *, const ts_layer *, ts_tensor x, ts_tensor y);
/* out [rows, columns] = [cos(v w_0) .. cos(v w_h-1), sin(v w_0) ..], w_i = exp(-ln(10000) i / h), h
 * = columns / 2. In f32 throughout: with v up to 1000 the oracle's rounding of w_i shows in the
 * fifth digit. */
void ts_part_sincos(const float *v, long rows, long columns, float *out);

/* ---- modulation: rows of shifts, scales and gates, each D wide ---- */
typedef struct {
    ts_tensor m;   /* f32 [R, k D] */
    ts_tensor sel; /* u8 [N]: the row of m for each row of the stream; absent: row 0 */
} ts_modulation;
/* *m [1, k D] = l silu(row), until the caller's mark */
ts_status ts_part_modulate(ts_ctx *, const ts_layer *, ts_tensor row, ts_modulation *m);
/* *m = table [k, D] + of[row[r]] [D or k D] for each of the rows r: of has one D for all of the
 * table's, or one each. Carved from ctx->arena. */
ts_status ts_part_modulation(ts_ctx *, ts_tensor table, ts_tensor of, const int *row, int rows,
                             ts_tensor *m);
/* y = ln(h) (1 + scale) + shift, ln without weights; shift and scale: their places in m, in D */
ts_status ts_part_modulated(ts_ctx *, float eps, ts_modulation, int shift, int scale, ts_tensor h,
                            ts_tensor y);
/* h += gate (x W' + b); gate: its place in m, in D */
ts_status ts_part_add_gated(ts_ctx *, const ts_layer *, ts_tensor x, ts_modulation, int gate,
                            ts_tensor h);

/* ---- latents and tokens; p: latents to a token along t, h, w ---- */
/* to f32 [F, H, W, C] from host f32 [C, F, H, W], which may go away once this returns; takes from
 * the arena and gives back */
ts_status ts_part_upload_latents(ts_ctx *, const float *from, ts_tensor to);
/* Channels that stand beside a sample's own, those of the inputs: f32 [F, H, W, C'] from
 * ctx->arena; absent: there are none. */
ts_status ts_part_beside(ts_ctx *, const ts_dit_inputs *, ts_tensor *beside);
/* *x f32 [F, H, W, C] with them behind its own, until the caller's mark; as it is without. */
ts_status ts_part_join(ts_ctx *, ts_tensor beside, ts_tensor *x);
/* h [N, D] = conv(x) + resid, kernel = stride = p; x f32 [F, H, W, C]; resid f32 [N, D] in raster
 * order, may be absent */
ts_status ts_part_patchify(ts_ctx *, const ts_layer *, const int p[3], ts_tensor x, ts_tensor resid,
                           ts_tensor h);
/* v f32 [F, H, W, C] from rows f32 [N, pt ph pw C]: of a token's patch the channel is the fastest
 */
ts_status ts_part_unpatchify(ts_ctx *, const int p[3], ts_tensor rows, ts_tensor v);
/* The same where the channel is the slowest of a patch; to_rows: rows from v. */
ts_status ts_part_move_patches(ts_ctx *, const int p[3], ts_tensor v, ts_tensor rows, bool to_rows);
/* cos, sin f32 [N, d / 2] in the grid's order of tokens: channels (2j, 2j + 1) of an axis that is
 * width[axis] channels wide turn by position theta^(-2j / width). Axes t, h, w one after the other;
 * position[axis] [F, H or W]. Angles in f64. */
ts_status ts_part_rope_table(ts_ctx *, const ts_grid *, const long width[3], double theta,
                             const double *const position[3], ts_tensor cos, ts_tensor sin);
/* The same of tokens whose positions are their indices along each axis. */
ts_status ts_part_rope_indices(ts_ctx *, const ts_grid *, const long width[3], double theta,
                               ts_tensor cos, ts_tensor sin);
/* Sines instead of turns: columns `column` .. of each row of `to`, f32 [N, ..] in raster order, =
 * [sin(v w_0) .., cos(v w_0) ..], v = position[i] of a token that is i-th along the axis, w_k =
 * 10000^(-2 k / width). Angles in f64; takes from the arena and gives back. */
ts_status ts_part_sines(ts_ctx *, const ts_grid *, int axis, const double *position, long width,
                        ts_tensor to, long column);

/* ---- rows of text as keys ----
 * All texts' rows, one after the other. Rows of a text after its real ones are zeros, hence one key
 * that occurs many times: one row whose logit has log(count) added gives the same softmax. */
enum { TS_PART_TEXTS = 64 };
typedef struct {
    ts_tensor bias; /* f32 [1, rows]: log of how often a row occurs */
    long rows;
    struct {
        long first, rows; /* rows: with the one for its zero rows, if any */
        long zeros;
    } of[TS_PART_TEXTS];
} ts_part_texts;
/* Lays the rows of the inputs' texts out and carves the bias from ctx->arena. length: rows that the
 * model sees of each text, 0: its real ones. TS_EUSAGE: too many texts. */
ts_status ts_part_texts_lay(ts_ctx *, ts_part_texts *, const ts_dit_inputs *, long length);
/* states f32 [rows, width], and the bias */
ts_status ts_part_texts_upload(ts_ctx *, const ts_part_texts *, const ts_dit_inputs *,
                               ts_tensor states);
/* The same into *x [rows, width] of the type of ctx->act, until the caller's mark. */
ts_status ts_part_texts_take(ts_ctx *, const ts_part_texts *, const ts_dit_inputs *, long width,
                             ts_tensor *x);
/* the rows of a text among all of them */
ts_tensor ts_part_text_rows(const ts_part_texts *, ts_tensor all, int slot);
/* its bias for attention, [1, 1, rows]; absent where every row occurs once */
ts_tensor ts_part_text_bias(const ts_part_texts *, int slot);
#endif
