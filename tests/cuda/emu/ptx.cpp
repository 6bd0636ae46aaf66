/* Instructions that backend/cuda/ptx.h has PTX for: cp.async, ldmatrix, mma. */
#include "backend/cuda/ptx.h"

#include "emu.h"

/* ---- cp.async ---- */
void emu_cp16(void *to, const void *from, int bytes, const char *file, int line)
{
    emu_count.cp_async++;
    if ((uintptr_t)from % 16) emu_fail(file, line, "cp.async from %p: not aligned", from);
    if (bytes) emu_touch(from, (size_t)bytes, EMU_READ, file, line);
    emu_touch(to, 16, EMU_ASYNC_WRITE, file, line);
    memset(to, 0xFF, 16);
    emu_me()->open.push_back({to, from, bytes});
}
void emu_commit(void)
{
    emu_me()->groups.push_back(std::move(emu_me()->open));
    emu_me()->open.clear();
}
void emu_wait(int left)
{
    emu_fiber *f = emu_me();
    while ((int)f->groups.size() > left) {
        for (emu_copy16 &c : f->groups.front()) {
            memcpy(c.to, c.from, (size_t)c.bytes);
            memset((char *)c.to + c.bytes, 0, 16 - (size_t)c.bytes);
            emu_touch(c.to, 16, EMU_ASYNC_DONE, "", 0);
        }
        f->groups.pop_front();
    }
}

/* ---- ldmatrix ---- */
struct ldm {
    const unsigned char *row;
    uint32_t *r;
    const char *file;
    int line;
};
static void load_matrices(void **all, bool transposed)
{
    emu_count.ldmatrix++;
    for (int m = 0; m < 4; m++) {
        unsigned banks = 0;
        for (int i = 0; i < 8; i++) {
            ldm *a = (ldm *)all[8 * m + i];
            emu_touch(a->row, 16, EMU_WARP_READ, a->file, a->line);
            banks |= 1u << ((uintptr_t)a->row / 16 % 8);
        }
        if (banks != 255) emu_count.ldmatrix_conflicts++;
        for (int l = 0; l < 32; l++) {
            uint16_t h[2];
            for (int i = 0; i < 2; i++) {
                /* element (l / 4, 2 (l % 4) + i) of the matrix, or of its transpose */
                int row = transposed ? 2 * (l % 4) + i : l / 4;
                int column = transposed ? l / 4 : 2 * (l % 4) + i;
                memcpy(&h[i], ((ldm *)all[8 * m + row])->row + 2 * column, 2);
            }
            memcpy(((ldm *)all[l])->r + m, h, 4);
        }
    }
}
static void load_straight(void **all, unsigned) { load_matrices(all, false); }
static void load_transposed(void **all, unsigned) { load_matrices(all, true); }
void emu_ldmatrix4(uint32_t r[4], const void *row, bool transposed, const char *file, int line)
{
    ldm a = {(const unsigned char *)row, r, file, line};
    if (transposed)
        emu_meet("ldmatrix.trans", ~0u, &a, load_transposed, file, line);
    else
        emu_meet("ldmatrix", ~0u, &a, load_straight, file, line);
}

/* ---- mma. Fragments as the PTX manual has them (m16n8k16, m16n8k32): lane = 4 g + t holds rows g,
 * g + 8 of A and C, column g of B. ---- */
struct fragments {
    const uint32_t *a, *b;
    void *c;
};
__attribute__((target_clones("avx2,fma", "default"))) static void multiply_bf16(void **all,
                                                                                unsigned)
{
    float A[16][16], B[16][8];
    double C[16][8];
    emu_count.mma++;
    for (int l = 0; l < 32; l++) {
        const fragments *f = (fragments *)all[l];
        int g = l / 4, t = l % 4;
        for (int i = 0; i < 8; i++)
            A[g + i / 2 % 2 * 8][2 * t + i % 2 + i / 4 * 8] = emu_from_bf16(
                (uint16_t)(f->a[i / 2] >> 16 * (i % 2)));
        for (int i = 0; i < 4; i++)
            B[2 * t + i % 2 + i / 2 * 8][g] = emu_from_bf16(
                (uint16_t)(f->b[i / 2] >> 16 * (i % 2)));
        for (int i = 0; i < 4; i++) C[g + i / 2 * 8][2 * t + i % 2] = ((float *)f->c)[i];
    }
    /* products are exact; sums are the device's but for its last bit */
    for (int r = 0; r < 16; r++)
        for (int k = 0; k < 16; k++)
            for (int j = 0; j < 8; j++) C[r][j] += (double)(A[r][k] * B[k][j]);
    for (int l = 0; l < 32; l++)
        for (int i = 0; i < 4; i++)
            ((float *)((fragments *)all[l])->c)[i] = (float)
                C[l / 4 + i / 2 * 8][2 * (l % 4) + i % 2];
}
static void multiply_s8(void **all, unsigned)
{
    int8_t A[16][32], B[8][32];
    emu_count.mma++;
    for (int l = 0; l < 32; l++) {
        const fragments *f = (fragments *)all[l];
        int g = l / 4, t = l % 4;
        for (int i = 0; i < 16; i++)
            A[g + i / 4 % 2 * 8][4 * t + i % 4 + i / 8 * 16] = (int8_t)(f->a[i / 4] >> 8 * (i % 4));
        for (int i = 0; i < 8; i++)
            B[g][4 * t + i % 4 + i / 4 * 16] = (int8_t)(f->b[i / 4] >> 8 * (i % 4));
    }
    for (int l = 0; l < 32; l++)
        for (int i = 0; i < 4; i++) {
            int *c = (int *)((fragments *)all[l])->c + i, s = *c;
            for (int k = 0; k < 32; k++) s += A[l / 4 + i / 2 * 8][k] * B[2 * (l % 4) + i % 2][k];
            *c = s;
        }
}
void emu_mma_bf16(float c[4], const uint32_t a[4], const uint32_t b[2], const char *file, int line)
{
    fragments f = {a, b, c};
    emu_meet("mma bf16", ~0u, &f, multiply_bf16, file, line);
}
void emu_mma_s8(int c[4], const uint32_t a[4], const uint32_t b[2], const char *file, int line)
{
    fragments f = {a, b, c};
    emu_meet("mma s8", ~0u, &f, multiply_s8, file, line);
}
