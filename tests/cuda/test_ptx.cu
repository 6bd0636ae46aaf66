/* Every instruction of backend/cuda/ptx.h, and the words of CUDA that kernels use, against their
 * definitions: on the emulator this holds the emulator, on a GPU the text of the PTX. */
#include "backend/cuda/ptx.h"

#include "tests/cuda/device.h"

/* Fragments, filled by the manual's formulas element by element: of T the type, lane, element i. */
template <class T> __host__ __device__ static int a_row(int lane, int i)
{
    int half = sizeof(T) == 2 ? i / 2 : i / 4;
    return lane / 4 + (half == 1 || half == 3 ? 8 : 0);
}
template <class T> __host__ __device__ static int a_column(int lane, int i)
{
    return sizeof(T) == 2 ? lane % 4 * 2 + (i & 1) + (i >= 4 ? 8 : 0)
                          : lane % 4 * 4 + (i & 3) + (i >= 8 ? 16 : 0);
}
template <class T> __host__ __device__ static int b_row(int lane, int i)
{
    return sizeof(T) == 2 ? lane % 4 * 2 + (i & 1) + (i >= 2 ? 8 : 0)
                          : lane % 4 * 4 + (i & 3) + (i >= 4 ? 16 : 0);
}

/* C = A B, from accumulators that are not zero */
__global__ void multiply_bf16(const uint16_t *A, const uint16_t *B, float *C)
{
    int l = (int)threadIdx.x;
    uint32_t a[4] = {}, b[2] = {};
    float c[4] = {1, 2, 3, 4};
    for (int i = 0; i < 8; i++)
        a[i / 2] |= (uint32_t)A[a_row<uint16_t>(l, i) * 16 + a_column<uint16_t>(l, i)]
                    << 16 * (i % 2);
    for (int i = 0; i < 4; i++)
        b[i / 2] |= (uint32_t)B[b_row<uint16_t>(l, i) * 8 + l / 4] << 16 * (i % 2);
    ts_mma(c, a, b[0], b[1]);
    for (int i = 0; i < 4; i++)
        C[(l / 4 + (i < 2 ? 0 : 8)) * 8 + l % 4 * 2 + (i & 1)] = c[i] - (float)(i + 1);
}
__global__ void multiply_s8(const int8_t *A, const int8_t *B, int *C)
{
    int l = (int)threadIdx.x, c[4] = {0, 0, 0, 0};
    uint32_t a[4] = {}, b[2] = {};
    for (int i = 0; i < 16; i++)
        a[i / 4] |= (uint32_t)(uint8_t)A[a_row<int8_t>(l, i) * 32 + a_column<int8_t>(l, i)]
                    << 8 * (i % 4);
    for (int i = 0; i < 8; i++)
        b[i / 4] |= (uint32_t)(uint8_t)B[b_row<int8_t>(l, i) * 8 + l / 4] << 8 * (i % 4);
    ts_mma(c, a, b[0], b[1]);
    for (int i = 0; i < 4; i++) C[(l / 4 + (i < 2 ? 0 : 8)) * 8 + l % 4 * 2 + (i & 1)] = c[i];
}

START_TEST(mma_bf16_is_a_product)
{
    std::vector<uint16_t> A(256), B(128);
    for (size_t i = 0; i < A.size(); i++) A[i] = test_bf16((float)(i * 7 % 31) - 15);
    for (size_t i = 0; i < B.size(); i++) B[i] = test_bf16((float)(i * 5 % 23) - 11);
    float *c = test_take<float>(128);
    ck_cuda(TS_LAUNCH(multiply_bf16, 1, 32, 0, test_stream(), test_give(A), test_give(B), c));
    std::vector<float> C = test_fetch(c, 128);
    for (size_t i = 0; i < 16; i++)
        for (size_t j = 0; j < 8; j++) {
            float s = 0; /* exact */
            for (size_t k = 0; k < 16; k++)
                s += test_widen(A[i * 16 + k]) * test_widen(B[k * 8 + j]);
            ck_assert_msg(C[i * 8 + j] == s, "row %zu column %zu: %g, not %g", i, j, C[i * 8 + j],
                          s);
        }
}
END_TEST

START_TEST(mma_s8_is_a_product)
{
    std::vector<int8_t> A(512), B(256);
    for (size_t i = 0; i < A.size(); i++) A[i] = (int8_t)(i * 37 % 255 - 127);
    for (size_t i = 0; i < B.size(); i++) B[i] = (int8_t)(i * 91 % 255 - 127);
    int *c = test_take<int>(128);
    ck_cuda(TS_LAUNCH(multiply_s8, 1, 32, 0, test_stream(), test_give(A), test_give(B), c));
    std::vector<int> C = test_fetch(c, 128);
    for (size_t i = 0; i < 16; i++)
        for (size_t j = 0; j < 8; j++) {
            int s = 0;
            for (size_t k = 0; k < 32; k++) s += A[i * 32 + k] * B[k * 8 + j];
            ck_assert_int_eq(C[i * 8 + j], s);
        }
}
END_TEST

__global__ void talk_among_lanes(int *out)
{
    int l = (int)threadIdx.x;
    unsigned odd = 0xAAAAAAAA;
    out[l] = __shfl_xor_sync(~0u, l, 5) + 100 * __shfl_down_sync(~0u, l, 3) +
             10000 * __shfl_sync(~0u, l, 7) + 1000000 * __shfl_up_sync(~0u, l, 2);
    out[32 + l] = (int)__ballot_sync(~0u, l % 3 == 0);
    out[64 + l] = l & 1 ? __shfl_xor_sync(odd, l, 2) : __shfl_xor_sync(~odd, l, 4);
    out[96 + l] = __any_sync(~0u, l == 9) + 2 * __all_sync(~0u, l < 32) + 4 * __any_sync(~0u, 0) +
                  8 * __all_sync(~0u, l != 9);
}
START_TEST(lanes_exchange_and_vote)
{
    int *out = test_take<int>(128);
    ck_cuda(TS_LAUNCH(talk_among_lanes, 1, 32, 0, test_stream(), out));
    std::vector<int> o = test_fetch(out, 128);
    for (int l = 0; l < 32; l++) {
        int up = l >= 2 ? l - 2 : l, down = l + 3 < 32 ? l + 3 : l;
        size_t i = (size_t)l;
        ck_assert_int_eq(o[i], (l ^ 5) + 100 * down + 70000 + 1000000 * up);
        ck_assert_int_eq(o[32 + i], 0x49249249);
        ck_assert_int_eq(o[64 + i], l & 1 ? l ^ 2 : l ^ 4);
        ck_assert_int_eq(o[96 + i], 3);
    }
}
END_TEST

__global__ void load_both_ways(const uint16_t *in, uint32_t *out)
{
    TS_SHARED(s);
    uint16_t *m = (uint16_t *)s;
    int l = (int)threadIdx.x;
    uint32_t r[4], t[4];
    for (int i = l; i < 256; i += 32) m[i] = in[i];
    __syncwarp();
    ts_ldmatrix(r, m + l * 8);
    ts_ldmatrix_trans(t, m + l * 8);
    for (int i = 0; i < 4; i++) {
        out[l * 8 + i] = r[i];
        out[l * 8 + 4 + i] = t[i];
    }
}
START_TEST(ldmatrix_loads_fragments)
{
    std::vector<uint16_t> in(256);
    for (size_t i = 0; i < 256; i++) in[i] = (uint16_t)i;
    uint32_t *out = test_take<uint32_t>(256);
    ck_cuda(TS_LAUNCH(load_both_ways, 1, 32, 512, test_stream(), test_give(in), out));
    std::vector<uint32_t> t = test_fetch(out, 256);
    for (unsigned l = 0; l < 32; l++)
        for (unsigned i = 0; i < 4; i++) {
            unsigned row = 64 * i + l / 4 * 8 + l % 4 * 2, column = 64 * i + l % 4 * 16 + l / 4;
            ck_assert_uint_eq(t[l * 8 + i], row | (row + 1) << 16);
            ck_assert_uint_eq(t[l * 8 + 4 + i], column | (column + 8) << 16);
        }
}
END_TEST

/* 32 threads copy 16 bytes each in two groups, the odd ones nothing but zeros */
__global__ void copy_later(const uint32_t *in, uint32_t *out)
{
    TS_SHARED(s);
    int t = (int)threadIdx.x;
    ts_cp16(s + 16 * t, in + 4 * t, t & 1 ? 0 : 16);
    ts_cp_commit();
    ts_cp16(s + 512 + 16 * t, in + 4 * t, 16);
    ts_cp_commit();
    ts_cp_wait<1>();
    __syncthreads();
    for (int i = 0; i < 4; i++) out[4 * t + i] = ((uint32_t *)s)[4 * (31 - t) + i];
    ts_cp_wait<0>();
    __syncthreads();
    for (int i = 0; i < 4; i++) out[128 + 4 * t + i] = ((uint32_t *)s)[128 + 4 * (31 - t) + i];
}
START_TEST(cp_async_copies_and_fills)
{
    std::vector<uint32_t> in(128);
    for (size_t i = 0; i < 128; i++) in[i] = 0x1000001u * (uint32_t)(i + 1);
    uint32_t *out = test_take<uint32_t>(256);
    ck_cuda(TS_LAUNCH(copy_later, 1, 32, 1024, test_stream(), test_give(in), out));
    std::vector<uint32_t> o = test_fetch(out, 256);
    for (size_t t = 0; t < 32; t++)
        for (size_t i = 0; i < 4; i++) {
            size_t from = 31 - t;
            ck_assert_uint_eq(o[4 * t + i], from & 1 ? 0 : in[4 * from + i]);
            ck_assert_uint_eq(o[128 + 4 * t + i], in[4 * from + i]);
        }
}
END_TEST

__global__ void compute_elements(const float *x, int n, float *y, uint32_t *h)
{
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= n) return;
    y[i] = ts_exp2(x[i]);
    y[n + i] = ts_log2(fabsf(x[i]));
    y[2 * n + i] = ts_widen_bf16(ts_round_bf16(x[i]));
    y[3 * n + i] = ts_widen_f16(ts_round_f16(x[i]));
    h[i] = ts_bf16x2(x[i], -x[i]);
}
START_TEST(elements_are_within_their_bounds)
{
    const size_t n = 4096;
    std::vector<float> x(n);
    for (size_t i = 0; i < n; i++) x[i] = test_normal() * (i % 3 ? 20.0f : 0.5f);
    x[0] = 0;
    x[1] = 1.00390625f; /* halfway between two bf16: to the even one */
    x[2] = 1.01171875f;
    float *y = test_take<float>(4 * n);
    uint32_t *h = test_take<uint32_t>(n);
    ck_cuda(TS_LAUNCH(compute_elements, (unsigned)(n / 128), 128, 0, test_stream(), test_give(x),
                      (int)n, y, h));
    std::vector<float> r = test_fetch(y, 4 * n);
    std::vector<uint32_t> pairs = test_fetch(h, n);
    ck_assert_msg(r[n] == -INFINITY, "log2 0 is %g", r[n]);
    for (size_t i = 0; i < n; i++) {
        double e = exp2((double)x[i]), l = log2(fabs((double)x[i]));
        _Float16 half = (_Float16)x[i];
        /* PTX ISA: 2^-22 of the result; 2^-22 near 1, else 2^-22 of the result */
        ck_assert_msg(fabs(r[i] - e) <= 0x1p-21 * e, "2^%g: %g, not %g", x[i], r[i], e);
        ck_assert_msg(!i || fabs(r[n + i] - l) <= 0x1p-21 * fmax(1, fabs(l)), "log2 %g: %g, not %g",
                      x[i], r[n + i], l);
        ck_assert_msg(r[2 * n + i] == test_widen(test_bf16(x[i])), "bf16 of %.9g: %.9g", x[i],
                      r[2 * n + i]);
        ck_assert_msg(r[3 * n + i] == (float)half, "f16 of %.9g: %.9g", x[i], r[3 * n + i]);
        ck_assert_uint_eq(pairs[i], test_bf16(x[i]) | (uint32_t)test_bf16(-x[i]) << 16);
    }
}
END_TEST

__global__ void count_in_block(int *out, int *total)
{
    int t = (int)threadIdx.x;
    int odd = __syncthreads_count(t & 1), any = __syncthreads_or(t == 77);
    out[t] = odd + 1000 * any;
    atomicAdd(total, t);
    atomicMax(total + 1, t);
    atomicMin(total + 2, t);
    atomicOr(total + 3, 1 << t % 31);
    if (t < 5) atomicCAS(total + 4, 0, 9);
    if (t == 6) total[5] = __popc(0xF0F0u) + 100 * __clz(1) + 10000 * __ffs(8);
}
START_TEST(blocks_count_and_memory_is_atomic)
{
    int *out = test_take<int>(128), *total = test_give(std::vector<int>(6, 0));
    ck_cuda(TS_LAUNCH(count_in_block, 1, 128, 0, test_stream(), out, total));
    std::vector<int> o = test_fetch(out, 128), t = test_fetch(total, 6);
    for (int v : o) ck_assert_int_eq(v, 64 + 1000);
    ck_assert_int_eq(t[0], 127 * 64);
    ck_assert_int_eq(t[1], 127);
    ck_assert_int_eq(t[2], 0);
    ck_assert_int_eq(t[3], 0x7FFFFFFF);
    ck_assert_int_eq(t[4], 9);
    ck_assert_int_eq(t[5], 8 + 3100 + 40000);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ptx");
    TCase *c = tcase_create("ptx");
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, test_order_default, test_release);
    tcase_add_test(c, mma_bf16_is_a_product);
    tcase_add_test(c, mma_s8_is_a_product);
    tcase_add_test(c, lanes_exchange_and_vote);
    tcase_add_test(c, ldmatrix_loads_fragments);
    tcase_add_test(c, cp_async_copies_and_fills);
    tcase_add_test(c, elements_are_within_their_bounds);
    tcase_add_test(c, blocks_count_and_memory_is_atomic);
    suite_add_tcase(s, c);
    return testing_main(s);
}
