/* Plans from scores, the choice of backend/cpu/topk.c bit by bit, without the host.
 *
 * A warp chooses a row. Its scores lie in registers as unsigned integers that order as the floats
 * do; the k-th largest of them is found from its highest bit down, each step a count of what is not
 * below a candidate: no histogram, no atomics, and an end as soon as the candidate separates k of
 * them. A ballot is then a word of the plan's bits. Bytes: 4 a score, 1 / 8 of a byte a block.
 *
 * What a row's blocks hold of its scores is summed in f64 in the order of the row, as on the CPU:
 * heads of equal scores are equal on every device. A lane sums a row, and a warp brings 32 x 32
 * scores into shared memory for that. Bytes: 4 a score again, with two f64 sums each. It is done
 * only for who asks: stat, or heads that share.
 *
 * Scratch: recall of rows [A, nv] f64, recall of heads [A] f64, budgets [A] i32. */
#include "backend/cuda/numbers.cuh"

#include <float.h>

typedef struct {
    const float *score, *weight; /* [A, nb, nb]; of recalls: weight */
    const int32_t *who;          /* [A] or NULL: all heads are chosen for */
    int which;
    uint32_t *bits;
    float *stat;
    double *recall, *head;
    int *budget; /* NULL: the first choice */
    long A, nb, nv, words, ld_stat;
    int k, few, many; /* budgets; of heads that give, and of those that take */
    bool diagonal;
} topk_args;

/* Integers in the order of the scores. -0 is 0, and NaN lies beyond infinity, by its sign at either
 * end; its bits are those that the CPU's x + 0 gives. */
TS_DEV uint32_t sortable_score(float x)
{
    uint32_t u = __float_as_uint(x);
    if (u == 0x80000000u) u = 0;
    if ((u & 0x7FFFFFFF) > 0x7F800000) u |= 0x400000;
    return u & 0x80000000u ? ~u : u | 0x80000000u;
}

/* Is this head chosen for, and not done before? */
TS_DEV bool is_due(const topk_args &a, long h)
{
    return (!a.who || a.who[h] == a.which) && (!a.budget || a.budget[h] != a.k);
}

/* Words of a row as its warp finds them, stored 32 at a time. */
typedef struct {
    uint32_t *row;
    long words;
    uint32_t mine;
} word_writer;
TS_DEV void add_word(word_writer &out, long i, uint32_t word)
{
    int lane = threadIdx.x % TS_WARP, place = (int)(i % TS_WARP);
    if (lane == place) out.mine = word;
    if ((place == TS_WARP - 1 || i == out.words - 1) && lane <= place)
        out.row[i - place + lane] = out.mine;
}

/* KEEP: scores of a lane in registers; 0: the row is read again at every step */
template <int KEEP> static __global__ void __launch_bounds__(TS_THREADS) choose_blocks(topk_args a)
{
    long row = thread_index() / TS_WARP;
    if (row >= a.A * a.nb) return;
    int lane = threadIdx.x % TS_WARP;
    long h = row / a.nb, p = row % a.nb, forced = a.diagonal ? p : -1;
    const float *score = a.score + row * a.nb;
    int k = a.budget ? a.budget[h] : a.k;
    word_writer out = {a.bits + row * a.words, a.words, 0};
    if (!is_due(a, h)) return;
    if (p >= a.nv) { /* reads everything */
        for (long i = 0; i < a.words; i++)
            add_word(out, i, __ballot_sync(~0u, i * TS_WARP + lane < a.nb));
        return;
    }
    /* 0, which no candidate reaches, for what is not to choose from */
    auto load = [&](long i) {
        long j = i * TS_WARP + lane;
        return j < a.nv && j != forced ? sortable_score(score[j]) : 0;
    };
    uint32_t kept[KEEP ? KEEP : 1];
    TS_UNROLL
    for (int i = 0; i < KEEP; i++) kept[i] = load(i);
    auto count = [&](uint32_t least) {
        int n = 0;
        if constexpr (KEEP > 0) {
            TS_UNROLL
            for (int i = 0; i < KEEP; i++) n += kept[i] >= least;
        } else {
            for (long i = 0; i * TS_WARP < a.nv; i++) n += load(i) >= least;
        }
        return (int)__reduce_add_sync(~0u, (unsigned)n);
    };
    int left = k - (forced >= 0), equal = 0;
    uint32_t least = 0;
    for (uint32_t bit = 0x80000000u; left > 0 && bit; bit /= 2) {
        int n = count(least | bit);
        if (n >= left) least |= bit;
        if (n == left) break;
    }
    if (left > 0) equal = left - (least < UINT32_MAX ? count(least + 1) : 0);
    auto choose = [&](uint32_t u, long i) {
        long j = i * TS_WARP + lane;
        bool other = left > 0 && j < a.nv && j != forced;
        uint32_t same = __ballot_sync(~0u, other && u == least), before = same & ((1u << lane) - 1);
        bool first = other && u == least && __popc(before) < equal;
        equal -= __popc(same);
        return __ballot_sync(~0u, first || (other && u > least) || j == forced ||
                                      (j >= a.nv && j < a.nb));
    };
    TS_UNROLL
    for (int i = 0; i < KEEP; i++)
        if (i < a.words) add_word(out, i, choose(kept[i], i));
    for (long i = KEEP; i < a.words; i++) add_word(out, i, choose(KEEP ? 0 : load(i), i));
}

template <int KEEP> static cudaError_t launch_choice(const topk_args &a, cudaStream_t s)
{
    return TS_SWEEP((choose_blocks<KEEP>), a.A * a.nb * TS_WARP, s, a);
}
static cudaError_t choose_all(const topk_args &a, cudaStream_t s)
{
    return a.nv <= 4 * TS_WARP    ? launch_choice<4>(a, s)
           : a.nv <= 16 * TS_WARP ? launch_choice<16>(a, s)
           : a.nv <= 32 * TS_WARP ? launch_choice<32>(a, s)
           : a.nv <= 64 * TS_WARP ? launch_choice<64>(a, s)
                                  : launch_choice<0>(a, s);
}

/* ---- by mass ---- */
TS_DEV uint64_t mass_of_score(float x, double unit)
{
    return x > 0 ? (uint64_t)((double)fminf(x, FLT_MAX) * unit) : 0;
}
TS_DEV float score_of_sortable(uint32_t u)
{
    return __uint_as_float(u & 0x80000000u ? u & 0x7FFFFFFFu : ~u);
}
TS_DEV uint64_t add_up_warp(uint64_t x)
{
    for (int step = TS_WARP / 2; step; step /= 2) x += __shfl_xor_sync(~0u, x, step);
    return x;
}

/* A warp a row again. The least score that is read is found from its highest bit down, each step a
 * sum of the mass of what is not below a candidate; the row is read again at every step. */
static __global__ void __launch_bounds__(TS_THREADS) choose_by_mass(topk_args a, double share)
{
    long row = thread_index() / TS_WARP;
    if (row >= a.A * a.nb) return;
    int lane = threadIdx.x % TS_WARP, exponent, equal = 0;
    long h = row / a.nb, p = row % a.nb, forced = a.diagonal ? p : -1;
    const float *score = a.score + row * a.nb;
    word_writer out = {a.bits + row * a.words, a.words, 0};
    if (!is_due(a, h)) return;
    bool whole = p >= a.nv; /* reads everything */
    float most = 0;
    uint64_t all = 0, held = 0;
    uint32_t best = 0, least = 0;
    for (long j = lane; j < a.nb; j += TS_WARP) most = score[j] > most ? score[j] : most;
    for (int step = TS_WARP / 2; step; step /= 2)
        most = fmaxf(most, __shfl_xor_sync(~0u, most, step));
    frexp((double)fminf(most, FLT_MAX), &exponent);
    double unit = ldexp(1., 40 - exponent);
    for (long j = lane; j < a.nb; j += TS_WARP) {
        uint64_t x = mass_of_score(score[j], unit);
        uint32_t u = sortable_score(score[j]);
        all += x;
        if (j >= a.nv || j == forced)
            held += x;
        else if (u > best)
            best = u;
    }
    uint64_t need = (uint64_t)ceil(share * (double)add_up_warp(all));
    held = add_up_warp(held);
    need = need > held ? need - held : 0;
    auto gather = [&](uint32_t from) {
        uint64_t sum = 0;
        for (long j = lane; j < a.nv; j += TS_WARP)
            if (j != forced && sortable_score(score[j]) >= from)
                sum += mass_of_score(score[j], unit);
        return add_up_warp(sum);
    };
    for (uint32_t bit = 0x80000000u; need && !whole && bit; bit /= 2)
        if (gather(least | bit) >= need) least |= bit;
    if (need) {
        uint64_t above = least < UINT32_MAX ? gather(least + 1) : 0,
                 one = mass_of_score(score_of_sortable(least), unit);
        equal = whole ? 0 : (int)((need - above + one - 1) / one);
    } else { /* what is read in any case is enough; where that is none of the nv, the largest is */
        for (int step = TS_WARP / 2; step; step /= 2) {
            uint32_t other = __shfl_xor_sync(~0u, best, step);
            best = other > best ? other : best;
        }
        least = best;
        equal = forced < 0;
    }
    for (long i = 0; i < a.words; i++) {
        long j = i * TS_WARP + lane;
        bool other = j < a.nv && j != forced;
        uint32_t u = other ? sortable_score(score[j]) : 0,
                 same = __ballot_sync(~0u, other && u == least), before = same & ((1u << lane) - 1);
        bool take = other && (u > least || (u == least && __popc(before) < equal));
        equal -= __popc(same);
        add_word(out, i,
                 __ballot_sync(~0u, j < a.nb && (whole || take || j == forced || j >= a.nv)));
    }
}

/* ---- recall ---- */
static __global__ void __launch_bounds__(TS_THREADS) sum_rows(topk_args a)
{
    TS_SHARED(memory);
    float(*tile)[TS_WARP + 1] = (float(*)[TS_WARP + 1]) memory + threadIdx.x / TS_WARP * TS_WARP;
    int lane = threadIdx.x % TS_WARP;
    long i = thread_index(), rows = a.A * a.nv, row = i < rows ? i / a.nv * a.nb + i % a.nv : -1;
    bool mine = row >= 0 && is_due(a, i / a.nv);
    double kept = 0, all = 0;
    if (!__any_sync(~0u, mine)) return;
    for (long j = 0; j < a.nb; j += TS_WARP) {
        int n = a.nb - j < TS_WARP ? (int)(a.nb - j) : TS_WARP;
        TS_UNROLL_BY(8)
        for (int r = 0; r < TS_WARP; r++) {
            long from = __shfl_sync(~0u, row, r);
            if (from >= 0 && lane < n) tile[r][lane] = a.weight[from * a.nb + j + lane];
        }
        __syncwarp();
        uint32_t word = mine ? a.bits[row * a.words + j / TS_WARP] : 0;
        for (int c = 0; mine && c < n; c++) {
            double x = tile[lane][c];
            all += x;
            if (word >> c & 1) kept += x;
        }
        __syncwarp();
    }
    if (mine) a.recall[i] = all > 0 ? kept / all : 1;
}

/* Blocks of a head's nv x nv, in thread 0 of its block. */
static __device__ long sum_bits_of_head(const topk_args &a, long h, double *part)
{
    long n = 0, sum = 0;
    const uint32_t *bits = a.bits + h * a.nb * a.words;
    for (long i = threadIdx.x; i < a.nv * a.words; i += TS_THREADS) n += __popc(bits[i]);
    __syncthreads();
    part[threadIdx.x] = (double)n;
    __syncthreads();
    if (threadIdx.x == 0)
        for (int k = 0; k < TS_THREADS; k++) sum += (long)part[k];
    return sum - a.nv * (a.nb - a.nv);
}

/* A block a head. The first and the last choice have a row each of stat, and the last one's budgets
 * a third. */
static __global__ void __launch_bounds__(TS_THREADS)
    average_rows_of_heads(topk_args a, bool first, bool last, bool by_mass)
{
    __shared__ double part[TS_THREADS];
    long h = blockIdx.x;
    double sum = 0;
    if (a.who && a.who[h] != a.which) return;
    for (long i = 0; i < a.nv; i += TS_THREADS) {
        int n = a.nv - i < TS_THREADS ? (int)(a.nv - i) : TS_THREADS;
        if ((int)threadIdx.x < n) part[threadIdx.x] = a.recall[h * a.nv + i + threadIdx.x];
        __syncthreads();
        if (threadIdx.x == 0)
            for (int k = 0; k < n; k++) sum += part[k];
        __syncthreads();
    }
    long blocks = a.budget ? a.budget[h] * a.nv : a.k * a.nv;
    if (by_mass) blocks = sum_bits_of_head(a, h, part);
    if (threadIdx.x > 0) return;
    a.head[h] = sum / (double)a.nv;
    if (a.stat && first) a.stat[h] = (float)a.head[h];
    if (a.stat && last) {
        a.stat[a.ld_stat + h] = (float)a.head[h];
        a.stat[2 * a.ld_stat + h] = (float)blocks;
    }
}

/* The n heads of the highest recall give to the n of the lowest; among equals the lower one counts
 * as higher. */
static __global__ void __launch_bounds__(TS_THREADS) share_budgets(topk_args a, int *budget)
{
    long n = 0;
    for (long g = 0; g < a.A; g++) n += a.head[g] > 0.8;
    if (n > a.A / 2) n = a.A / 2;
    for (long h = threadIdx.x; h < a.A; h += TS_THREADS) {
        long better = 0;
        double own = a.head[h];
        for (long g = 0; g < a.A; g++) better += a.head[g] > own || (a.head[g] == own && g < h);
        budget[h] = better < n ? a.few : better >= a.A - n ? a.many : a.k;
    }
}

/* ---- of the host ---- */
static topk_args prepare_topk(const ts_topk *t)
{
    topk_args a = {};
    a.score = (const float *)ts_address(t->scores.p);
    a.weight = ts_there(t->weights) ? (const float *)ts_address(t->weights.p) : a.score;
    a.who = (const int32_t *)ts_address(t->who.p);
    a.which = t->which;
    a.bits = (uint32_t *)ts_address(t->plan.bits);
    a.stat = (float *)ts_address(t->stat.p);
    a.A = t->scores.dim[0];
    a.nb = t->scores.dim[1];
    a.nv = t->nv ? t->nv : a.nb;
    a.words = ts_plan_words((int)a.nb);
    a.ld_stat = t->stat.ld;
    a.diagonal = t->diagonal;
    double high = fmin(1, 1.5 * t->keep);
    a.k = (int)ts_plan_budget(t->mass < 1 ? t->keep : 1, a.nv);
    a.many = (int)ts_plan_budget(high, a.nv);
    a.few = (int)ts_plan_budget(2 * t->keep - high, a.nv);
    return a;
}

size_t ts_cuda_topk_scratch(const ts_topk *t)
{
    topk_args a = prepare_topk(t);
    size_t heads = (size_t)a.A;
    return a.stat || t->adaptive
               ? heads * ((size_t)a.nv * sizeof(double) + sizeof(double) + sizeof(int))
               : 0;
}

static cudaError_t measure_recall(const topk_args &a, bool first, bool last, bool by_mass,
                                  cudaStream_t s)
{
    size_t shared = sizeof(float) * TS_THREADS * (TS_WARP + 1);
    dim3 blocks(ts_grid(a.A * a.nv)), threads(TS_THREADS);
    cudaError_t e = TS_LAUNCH(sum_rows, blocks, threads, shared, s, a);
    if (e) return e;
    return TS_LAUNCH(average_rows_of_heads, dim3((unsigned)a.A), threads, 0, s, a, first, last,
                     by_mass);
}

cudaError_t ts_cuda_topk(const ts_topk *t, void *scratch, cudaStream_t s)
{
    topk_args a = prepare_topk(t);
    if (a.A == 0 || a.nb == 0) return cudaSuccess;
    if (a.nb > INT_MAX / 64 || a.A > INT_MAX / a.nb / TS_WARP) return cudaErrorInvalidValue;
    a.recall = (double *)scratch;
    a.head = a.recall + a.A * a.nv;
    bool by_mass = t->mass > 0 && t->mass < 1;
    cudaError_t e = by_mass ? TS_SWEEP(choose_by_mass, a.A * a.nb * TS_WARP, s, a, t->mass)
                            : choose_all(a, s);
    if (!e && (a.stat || t->adaptive)) e = measure_recall(a, true, !t->adaptive, by_mass, s);
    if (e || !t->adaptive) return e;
    int *budget = (int *)(a.head + a.A);
    e = TS_LAUNCH(share_budgets, dim3(1), dim3(TS_THREADS), 0, s, a, budget);
    a.budget = budget;
    if (!e) e = choose_all(a, s);
    if (!e) e = measure_recall(a, false, true, false, s);
    return e;
}
