/* The flash kernels: one template over head width D, m16 tiles a warp (MT), warps and stages.
 *
 * A thread block computes 16 MT WARPS = 64 or 128 query rows of one head: one or two query blocks,
 * each with its own row of the plan. It walks the union of their key blocks, ascending; a warp
 * skips a block that its own row does not list. For a key block j, with c = scale log2 e, row
 * maxima m and sums l kept in registers:
 *
 *   S = Q K_j',  m' = max(m, c max S),  P = 2^(c S - m'),  l = 2^(m - m') l + sum P,
 *   O = 2^(m - m') O + P V_j
 *
 * Where there are pooled keys, their tiles come behind the key blocks, with the logits of blocks
 * that the row reads at -inf, and log2 of a block's tokens added to the others.
 *
 * out = O / l, lse = (m + log2 l) ln 2. Block sums need lse, which is known at the end only: t_rj =
 * log2 sum P + m' is kept in a scratch of this thread block, and sums_j = sum_r 2^(t_rj - lse_r /
 * ln 2): 64 exponentials a block instead of a second pass over the keys.
 *
 * STAGES 2: K and V of the next block are copied while this one is computed, one barrier a block.
 * STAGES 1: V_j is copied during Q K_j', K_j+1 during P V_j: half of the shared memory, two
 * barriers. */
#include "backend/cuda/attention_kernels.h"
#include "backend/cuda/attention_tile.cuh"

/* tests compile this file with a fault planted, to see it found */
#ifndef TS_PLANTED
#define TS_PLANTED 0
#endif

namespace
{
/* what a warp holds of its rows */
template <int D, int MT> struct rows_of_warp {
    float o[MT][D / 8][4], m[MT][2], l[MT][2];
    uint32_t q[MT == 1 ? D / 16 : 1][4]; /* Q as fragments */
};
/* where a warp and a lane are */
struct place {
    int lane, warp, g, t; /* lane = 4 g + t */
    int row;              /* the warp's first, within the thread block */
    int head, first;      /* query row of the thread block's first */
};
TS_DEV place place_thread(int rows)
{
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    return {lane, warp, lane >> 2, lane & 3, warp * rows, 0, 0};
}
/* P as fragments: C's of two neighbours are A's of one */
template <int MT> struct weights_of_block {
    uint32_t p[MT][4][4];
};

template <int D, int MT> TS_DEV void clear_rows(rows_of_warp<D, MT> &w)
{
    TS_UNROLL
    for (int i = 0; i < MT; i++) {
        w.m[i][0] = w.m[i][1] = -INFINITY;
        w.l[i][0] = w.l[i][1] = 0;
        TS_UNROLL
        for (int n = 0; n < D / 8; n++)
            w.o[i][n][0] = w.o[i][n][1] = w.o[i][n][2] = w.o[i][n][3] = 0;
    }
}

/* Q, whose copies are under way, as fragments. */
template <int D> TS_DEV void keep_queries(rows_of_warp<D, 1> &w, const unsigned char *sq, int at_q)
{
    ts_cp_wait<0>();
    __syncthreads();
    TS_UNROLL
    for (int s = 0; s < D / 16; s++) ts_ldmatrix(w.q[s], sq + ts_tile<D>::on(at_q, s));
}

/* Logits of keys beyond the last are -inf. */
template <int MT> TS_DEV void mask_keys(float (&s)[MT][8][4], int j, int t, int Nk)
{
    TS_UNROLL
    for (int i = 0; i < MT; i++) TS_UNROLL
    for (int n = 0; n < 8; n++) TS_UNROLL
    for (int e = 0; e < 4; e++)
        if (j * 64 + 8 * n + 2 * t + (e & 1) >= Nk) s[i][n][e] = -INFINITY;
}
/* s = scale s + bias, to the base 2 */
template <int MT>
TS_DEV void add_bias(float (&s)[MT][8][4], const ts_attend_args &p, const place &me, int j)
{
    TS_UNROLL
    for (int i = 0; i < MT; i++) TS_UNROLL
    for (int e = 0; e < 4; e++) {
        const int r = me.first + me.row + 16 * i + me.g + (e & 2) * 4;
        const float *bias = p.bias + me.head * p.bias_head + min(r, p.Nq - 1) * p.bias_row;
        TS_UNROLL
        for (int n = 0; n < 8; n++) {
            const int key = j * 64 + 8 * n + 2 * me.t + (e & 1);
            s[i][n][e] = key < p.Nk ? fmaf(s[i][n][e], p.scale, TS_LOG2E * __ldg(bias + key))
                                    : -INFINITY;
        }
    }
}

/* s of pooled keys of tile j with what their blocks count, log2 of the tokens over the scale; -inf
 * where the row reads the block itself */
template <int MT>
TS_DEV void weigh_pooled_tile(float (&s)[MT][8][4], const ts_attend_args &p, const ts_left_out &out,
                              int j, int nb, int t)
{
    TS_UNROLL
    for (int n = 0; n < 8; n++) TS_UNROLL
    for (int e = 0; e < 2; e++) {
        const int i = 8 * n + 2 * t + e;
        float tokens = ts_log2_tokens(p.Nq, nb, j * 64 + i) * p.inverse;
        if (!out.has(i)) tokens = -INFINITY;
        TS_UNROLL
        for (int m = 0; m < MT; m++) {
            s[m][n][e] += tokens;
            s[m][n][e + 2] += tokens;
        }
    }
}
/* What comes after tile j (-1: the first): key blocks by the plan, then the tiles of pooled keys,
 * from nk on, where the head takes them; -1: nothing */
template <bool REST>
TS_DEV int next_tile(ts_walk &walk, const ts_attend_args &p, int head, int nk, int nb, int j)
{
    if (!REST || j < nk) {
        j = walk.next(p.bits, nk);
        if (!REST || j >= 0 || !p.pooled_k || (p.form && !__ldg(p.form + head))) return j;
        return nk;
    }
    return j + 1 < nk + ((nb + 63) >> 6) ? j + 1 : -1;
}
/* The rows that tile j is of, keys or values, of which j becomes the block. */
template <bool REST>
TS_DEV ts_head_rows rows_of_tile(const ts_head_rows &x, const void *pooled, const ts_attend_args &p,
                                 int head, int nk, int nb, int &j)
{
    if (!REST || j < nk) return x;
    j -= nk;
    return {(const uint16_t *)pooled + head * p.D, (long)p.A * p.D, nb, p.D};
}

/* s becomes weights; m, l and O grow by this block. Sums of its rows go to `scratch` from this
 * lane's first row on, `kept`. */
template <int D, int MT, bool EMPTY, bool SUMS>
TS_DEV void take_weights(rows_of_warp<D, MT> &w, float (&s)[MT][8][4], weights_of_block<MT> &out,
                         float scale, float *scratch, uint32_t kept, int t)
{
    TS_UNROLL
    for (int i = 0; i < MT; i++) {
        float now[2] = {-INFINITY, -INFINITY}, base[2], sum[2] = {0, 0}, shrink[2];
        TS_UNROLL
        for (int n = 0; n < 8; n++) {
            now[0] = fmaxf(now[0], fmaxf(s[i][n][0], s[i][n][1]));
            now[1] = fmaxf(now[1], fmaxf(s[i][n][2], s[i][n][3]));
        }
        TS_UNROLL
        for (int h = 0; h < 2; h++) {
            now[h] = fmaxf(w.m[i][h], ts_quad_max(now[h]) * scale);
            /* finite: a block holds at least one key; but a bias may leave out all, and so may a
             * plan of pooled keys */
            base[h] = EMPTY && now[h] == -INFINITY ? 0 : now[h];
            shrink[h] = ts_exp2(w.m[i][h] - base[h]);
        }
        const bool grown = __any_sync(TS_LANES, now[0] != w.m[i][0] || now[1] != w.m[i][1]);
        w.m[i][0] = now[0];
        w.m[i][1] = now[1];
        TS_UNROLL
        for (int n = 0; n < 8; n++) TS_UNROLL
        for (int e = 0; e < 4; e++) {
            s[i][n][e] = ts_exp2(fmaf(s[i][n][e], scale, -base[e >> 1]));
            sum[e >> 1] += s[i][n][e];
        }
        TS_UNROLL
        for (int n = 0; n < 8; n++) {
            out.p[i][n >> 1][(n & 1) * 2] = ts_bf16x2(s[i][n][0], s[i][n][1]);
            out.p[i][n >> 1][(n & 1) * 2 + 1] = ts_bf16x2(s[i][n][2], s[i][n][3]);
        }
        TS_UNROLL
        for (int h = 0; h < 2; h++) w.l[i][h] = w.l[i][h] * shrink[h] + sum[h];
        if (grown) {
            TS_UNROLL
            for (int n = 0; n < D / 8; n++) TS_UNROLL
            for (int e = 0; e < 4; e++) w.o[i][n][e] *= shrink[e >> 1];
        }
        if constexpr (SUMS) {
            TS_UNROLL
            for (int h = 0; h < 2; h++) {
                float x = ts_log2(ts_quad_sum(sum[h])) + base[h];
                if (t == 0) scratch[kept + 16 * i + 8 * h] = x;
            }
        }
    }
}

/* O += P V_j */
template <int D, int MT>
TS_DEV void add_values(rows_of_warp<D, MT> &w, const weights_of_block<MT> &weights,
                       const unsigned char *v, int at_v)
{
    using T = ts_tile<D>;
    TS_UNROLL
    for (int c = 0; c < 4; c++) { /* 16 keys */
        uint32_t b[4];
        TS_UNROLL
        for (int n = 0; n < D / 16; n++) { /* 16 columns of V */
            ts_ldmatrix_trans(b, v + T::on(at_v, n) + 16 * c * T::row);
            TS_UNROLL
            for (int i = 0; i < MT; i++) {
                ts_mma(w.o[i][2 * n], weights.p[i][c], b[0], b[1]);
                ts_mma(w.o[i][2 * n + 1], weights.p[i][c], b[2], b[3]);
            }
        }
    }
}

/* A warp puts its rows of out where its rows of Q were, and stores them by whole chunks. lse2: of
 * the thread block's rows, or NULL */
template <int D, int MT>
TS_DEV void store_rows(const rows_of_warp<D, MT> &w, const ts_attend_args &p, const place &me,
                       unsigned char *sq, float *lse2)
{
    using T = ts_tile<D>;
    TS_UNROLL
    for (int i = 0; i < MT; i++) {
        TS_UNROLL
        for (int h = 0; h < 2; h++) {
            const int r = me.row + 16 * i + 8 * h + me.g, n = me.first + r;
            const float all = ts_quad_sum(w.l[i][h]), x = w.m[i][h] + ts_log2(all);
            const float share = all == 0 ? 0 : 1 / all; /* no key is read: zeros */
            if (me.t == 0 && n < p.Nq && p.lse) p.lse[(long)me.head * p.Nq + n] = x * TS_LN2;
            /* of rows that are not there, or read nothing, every weight is zero */
            if (lse2 && me.t == 0) lse2[r] = n < p.Nq && x != -INFINITY ? x : INFINITY;
            TS_UNROLL
            for (int c = 0; c < D / 8; c++)
                *(uint32_t *)(sq + T::at(r, c) + 4 * me.t) = ts_bf16x2(
                    w.o[i][c][2 * h] * share, w.o[i][c][2 * h + 1] * share);
        }
    }
    __syncwarp();
    for (int i = me.lane; i < 16 * MT * T::chunks; i += 32) {
        const int r = me.row + i / T::chunks, c = i % T::chunks;
        if (me.first + r >= p.Nq || 8 * c >= p.D) continue;
        *(uint4 *)((uint16_t *)p.out + (me.first + r) * p.ldo + me.head * p.D +
                   8 * c) = *(const uint4 *)(sq + T::at(r, c));
    }
}

/* Block sums of this thread block's rows: a warp takes every WARPS-th key block. plan, next: words
 * of the plan of its query blocks. */
template <int BM, int WARPS>
TS_DEV void store_sums(const ts_attend_args &p, const place &me, const float *lse2,
                       const float *scratch, int plan, int next)
{
    const int nq = (p.Nq + 63) >> 6, nk = (p.Nk + 63) >> 6, qb = me.first >> 6;
    for (int b = me.warp; b < p.columns; b += WARPS) {
        const float *kept = scratch + (long)b * BM + me.lane;
        TS_UNROLL
        for (int h = 0; h < BM / 64; h++) {
            float x = 0;
            /* nothing was kept of a block that is not listed */
            if (b < nk && ts_is_listed(p.bits, h ? next : plan, b)) {
                const float *lse = lse2 + 64 * h + me.lane;
                x = ts_exp2(kept[64 * h] - lse[0]) + ts_exp2(kept[64 * h + 32] - lse[32]);
            }
            x = ts_warp_sum(x);
            if (me.lane == 0 && qb + h < nq)
                p.sums[((long)me.head * nq + qb + h) * p.columns + b] = x;
        }
    }
}

template <int D, int MT, int WARPS, int STAGES, bool SUMS, bool BIAS, bool REST>
__global__ void __launch_bounds__(32 * WARPS) attend_flash(ts_attend_args p, float *scratch)
{
    using T = ts_tile<D>;
    constexpr int THREADS = 32 * WARPS, BM = 16 * MT * WARPS, LISTS = BM / 64;
    TS_SHARED(shared);
    unsigned char *sq = shared, *sk = sq + BM * T::row, *sv = sk + STAGES * T::block;
    float *lse2 = SUMS ? (float *)(sv + STAGES * T::block) : NULL;
    place me = place_thread(16 * MT);
    const int nq = (p.Nq + 63) >> 6, nk = (p.Nk + 63) >> 6, words = (nq + 31) >> 5;
    const int step = REST && LISTS == 1 ? max(p.every, 1) : LISTS;
    const int tiles = (nq + step - 1) / step;

    for (int item = (int)blockIdx.x; item < p.A * tiles; item += (int)gridDim.x) {
        const int qb = item % tiles * step;
        me.head = item / tiles;
        me.first = qb * 64;
        const int plan = ((p.shared_plan ? 0 : me.head) * nq + qb) * words;
        const int next = LISTS == 2 && qb + 1 < nq ? plan + words : plan;
        const int own = me.row / 64 ? next : plan;
        const ts_head_rows q = {(const uint16_t *)p.q + me.head * p.D, p.ldq, p.Nq, p.D};
        const ts_head_rows k = {(const uint16_t *)p.k + me.head * p.D, p.ldk, p.Nk, p.D};
        const ts_head_rows v = {(const uint16_t *)p.v + me.head * p.D, p.ldv, p.Nk, p.D};
        const int at_q = T::at(me.row + (me.lane & 15), me.lane >> 4);
        const int at_k = T::at((me.lane >> 4) * 8 + (me.lane & 7), me.lane >> 3 & 1);
        const int at_v = T::at(me.lane & 15, me.lane >> 4);
        rows_of_warp<D, MT> w;
        clear_rows(w);

        auto fetch_keys = [&](unsigned char *to, int j) {
            const ts_head_rows x = rows_of_tile<REST>(k, p.pooled_k, p, me.head, nk, nq, j);
            ts_fetch<D, THREADS>(to, x, j * 64, 64);
        };
        auto fetch_values = [&](unsigned char *to, int j) {
            const ts_head_rows x = rows_of_tile<REST>(v, p.pooled_v, p, me.head, nk, nq, j);
            ts_fetch<D, THREADS>(to, x, j * 64, 64);
        };
        ts_walk walk = {plan, next, -1, 0};
        int j = next_tile<REST>(walk, p, me.head, nk, nq, -1), turn = 0;
        ts_fetch<D, THREADS>(sq, q, me.first, BM);
        if (j >= 0) fetch_keys(sk, j);
        if (STAGES == 2 && j >= 0) fetch_values(sv, j);
        ts_cp_commit();
        if constexpr (MT == 1) keep_queries(w, sq, at_q);

        while (j >= 0) {
            const int after = next_tile<REST>(walk, p, me.head, nk, nq, j);
            const int stage = STAGES == 2 ? turn & 1 : 0;
            const bool pooled = REST && j >= nk;
            const bool mine = pooled || LISTS == 1 || ts_is_listed(p.bits, own, j);
            weights_of_block<MT> weights;
            /* 24 addresses follow from these: cheaper to compute than to keep */
            const int qo = ts_anew(at_q), ko = ts_anew(at_k), vo = ts_anew(at_v);
            if (TS_PLANTED != 1) ts_cp_wait<0>();
            if (TS_PLANTED != 2) __syncthreads();
            if (STAGES == 1) {
                fetch_values(sv, j);
            } else if (after >= 0) {
                fetch_keys(sk + (stage ^ 1) * T::block, after);
                fetch_values(sv + (stage ^ 1) * T::block, after);
            }
            ts_cp_commit();

            if (mine) {
                float s[MT][8][4];
                ts_multiply_keys<D>(s, sq, qo, w.q, sk + stage * T::block, ko, TS_PLANTED == 3);
                if (BIAS)
                    add_bias(s, p, me, j);
                else if (pooled)
                    weigh_pooled_tile(s, p, ts_left_out(p.bits, own, j - nk, nq), j - nk, nq, me.t);
                else if (j == nk - 1 && p.Nk & 63)
                    mask_keys(s, j, me.t, p.Nk);
                take_weights<D, MT, BIAS || REST, SUMS>(w, s, weights, BIAS ? 1 : p.scale, scratch,
                                                        (blockIdx.x * nk + j) * BM + me.row + me.g,
                                                        me.t);
            }
            if constexpr (STAGES == 1) {
                ts_cp_wait<0>();
                __syncthreads();
                if (after >= 0) fetch_keys(sk, after);
                ts_cp_commit();
            }
            if (mine) add_values(w, weights, sv + stage * T::block, vo);
            j = after;
            turn++;
        }

        ts_cp_wait<0>();
        if (TS_PLANTED != 4) __syncwarp();
        if (!turn) __syncthreads(); /* no key was read, so no barrier stands behind Q's copies */
        store_rows(w, p, me, sq, lse2);
        if constexpr (SUMS) {
            if (TS_PLANTED != 5) __syncthreads();
            store_sums<BM, WARPS>(p, me, lse2, scratch + (long)blockIdx.x * nk * BM, plan, next);
        }
        /* before the next item's copies; sums have a barrier behind the last look at Q's place */
        if (!SUMS && (int)gridDim.x < p.A * tiles) __syncthreads();
    }
}

template <int D, int MT, int WARPS, int STAGES> constexpr size_t shared_bytes(void)
{
    return (size_t)(16 * MT * WARPS + STAGES * 128) * ts_tile<D>::row +
           16 * MT * WARPS * sizeof(float);
}
template <int D, int MT, int WARPS, int STAGES, bool SUMS, bool BIAS, bool REST>
cudaError_t launch_flash(const ts_attend_args *a, float *scratch, int grid, cudaStream_t s)
{
    return TS_LAUNCH((attend_flash<D, MT, WARPS, STAGES, SUMS, BIAS, REST>), grid, 32 * WARPS,
                     (shared_bytes<D, MT, WARPS, STAGES>()), s, *a, scratch);
}
} /* namespace */

#define ROW(D, MT, WARPS, STAGES, MOST, SUMS, BIAS, REST)                                  \
    {                                                                                      \
        "flash" #D "_m" #MT "_w" #WARPS "_s" #STAGES, D, 16 * MT *WARPS, 32 * WARPS, MOST, \
            shared_bytes<D, MT, WARPS, STAGES>(), SUMS, BIAS, REST,                        \
            launch_flash<D, MT, WARPS, STAGES, SUMS, BIAS, REST>,                          \
            (const void *)attend_flash<D, MT, WARPS, STAGES, SUMS, BIAS, REST>             \
    }
#define PLAIN_ROW(D, MT, WARPS, STAGES, MOST) ROW(D, MT, WARPS, STAGES, MOST, false, false, false)
#define SUMS_ROW(D, MT, WARPS, STAGES, MOST) ROW(D, MT, WARPS, STAGES, MOST, true, false, false)
#define BIAS_ROW(D, MT, WARPS, STAGES, MOST) ROW(D, MT, WARPS, STAGES, MOST, false, true, false)
#define REST_ROW(D, MT, WARPS, STAGES, MOST) ROW(D, MT, WARPS, STAGES, MOST, false, false, true)
/* of each kind by D, then the larger thread block first, then the rows of a warp */
extern "C" const ts_flash_kernel ts_flash_kernels[] = {
#if TS_PLANTED == 0
    PLAIN_ROW(32, 1, 4, 2, 5),  PLAIN_ROW(64, 2, 4, 2, 2),  PLAIN_ROW(64, 1, 4, 2, 4),
    PLAIN_ROW(80, 1, 4, 2, 3),  PLAIN_ROW(96, 1, 4, 2, 3),  PLAIN_ROW(128, 2, 4, 1, 2),
    PLAIN_ROW(128, 2, 2, 1, 4), PLAIN_ROW(128, 1, 4, 1, 3), SUMS_ROW(32, 1, 4, 2, 5),
    SUMS_ROW(64, 1, 4, 2, 4),   SUMS_ROW(80, 1, 4, 2, 3),   SUMS_ROW(96, 1, 4, 2, 3),
    SUMS_ROW(128, 2, 4, 1, 2),  SUMS_ROW(128, 1, 4, 1, 3),  BIAS_ROW(32, 1, 4, 2, 5),
    BIAS_ROW(64, 1, 4, 2, 4),   BIAS_ROW(96, 1, 4, 2, 3),   BIAS_ROW(128, 1, 4, 1, 3),
    REST_ROW(32, 1, 4, 2, 5),   REST_ROW(64, 1, 4, 2, 4),   REST_ROW(80, 1, 4, 2, 3),
    REST_ROW(96, 1, 4, 2, 3),   REST_ROW(128, 2, 2, 1, 4),  REST_ROW(128, 1, 4, 1, 2),
#else
    SUMS_ROW(64, 1, 4, 2, 4),
    PLAIN_ROW(64, 2, 4, 2, 2),
#endif
};
extern "C" const int ts_flash_count = sizeof ts_flash_kernels / sizeof *ts_flash_kernels;
