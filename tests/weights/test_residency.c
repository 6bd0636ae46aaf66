/* Where matrices are, on a device that only keeps accounts: who stays, who takes turns, what is
 * allocated, and when pages are touched. */
#include "tests/weights/ledger.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Stands before the C library's: what was asked to be read ahead is written down. */
static uintptr_t ahead[16][2];
static int aheads;
int madvise(void *at, size_t n, int advice)
{
    if (advice == MADV_WILLNEED && aheads < 16) {
        ahead[aheads][0] = (uintptr_t)at;
        ahead[aheads++][1] = (uintptr_t)at + n;
    }
    return (int)syscall(SYS_madvise, at, n, advice);
}

START_TEST(everything_stays_by_default)
{
    residency b;
    size_t largest;
    residency_open(&b, true);
    ck_assert(b.v[0]->t.p.at && b.v[0]->t.type == TS_F32 && b.v[0]->t.nd == 2 &&
              b.w[0]->t.p.at == 0);
    residency_want_all(&b);
    b.dev.dev.counting = true;
    ck_ok(&b.ctx, ts_weights_enter(b.ws, 0));
    ck_assert(b.dev.allocs == 0 && b.dev.packs == 0); /* nothing on a counting device */
    ck_assert_uint_eq(ts_weights_packed(b.ws, &largest), GROUPS * GROUP + VECTORS);
    ck_assert_uint_eq(largest, GROUP);
    b.dev.dev.counting = false;
    for (int round = 0; round < 2; round++)
        for (int g = 0; g < GROUPS; g++) ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
    for (int i = 0; i < 2 * GROUPS; i++) residency_there(&b, i);
    ck_assert(b.dev.packs == 8 && b.dev.uploads == 3 && b.dev.allocs == GROUPS + 1);
    ck_ok(&b.ctx, ts_weights_enter(b.ws, 77)); /* a group without matrices */
    residency_close(&b);
}
END_TEST

START_TEST(vectors_are_there_from_the_first_enter)
{
    residency b;
    residency_open(&b, true);
    uint64_t before = b.v[2]->t.p.at;
    ck_ok(&b.ctx, ts_weights_enter(b.ws, 3)); /* of any group, with no matrix wanted */
    ck_assert(b.dev.packs == 0 && b.dev.uploads == 3 && b.v[2]->t.p.at != before);
    for (int i = 0; i < 3; i++) {
        const float *f = (const float *)(uintptr_t)b.v[i]->t.p.at;
        for (int k = 0; k < 3 + i; k++) ck_assert_float_eq(f[k], (float)(i + k) - 0.5f);
    }
    /* found late: read at the next enter, the others stay put */
    ck_ok(&b.ctx, ts_find_vector(b.ws, 0, b.v + 3, 2, (long[]){1, 6}, "v%d", 3));
    before = b.v[0]->t.p.at;
    ck_ok(&b.ctx, ts_weights_enter(b.ws, 0));
    ck_assert(b.dev.uploads == 4 && b.v[0]->t.p.at == before &&
              ((const float *)(uintptr_t)b.v[3]->t.p.at)[5] == 7.5f);
    residency_close(&b);
}
END_TEST

/* A budget for two of the four groups beside the slot and the vectors: 0 and 1 stay, 2 and 3 take
 * turns, and after the first round nothing is allocated. */
START_TEST(others_take_turns_in_one_slot)
{
    residency b;
    residency_open(&b, true);
    residency_want_all(&b);
    ts_weights_budget(b.ws, 3 * GROUP + VECTORS + 255);
    for (int round = 0; round < 3; round++)
        for (int g = 0; g < GROUPS; g++) {
            ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
            residency_there(&b, 2 * g);
            residency_there(&b, 2 * g + 1);
            ck_assert_int_eq(b.dev.allocs, 4); /* two groups, the slot, vectors */
            if (g < 2) continue;
            residency_there(&b, 0);
            residency_there(&b, 3);
            residency_away(&b, g == 2 ? 6 : 4);
            residency_away(&b, g == 2 ? 7 : 5);
        }
    ck_assert_int_eq(b.dev.packs, 4 + 3 * 4);
    ck_ok(&b.ctx, ts_weights_enter(b.ws, 3)); /* still in the slot */
    ck_assert_int_eq(b.dev.packs, 16);
    ts_weights_budget(b.ws, 3 * GROUP + VECTORS - 1); /* a byte less: only group 0 stays */
    for (int g = 0; g < GROUPS; g++) ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
    residency_there(&b, 0);
    residency_away(&b, 2);
    residency_away(&b, 4);
    residency_there(&b, 6);
    residency_close(&b);
}
END_TEST

/* Runs with different room share weights: while all of them fit, nobody packs again; the first
 * budget that is too small changes what stays. */
START_TEST(a_budget_that_fits_everything_changes_nothing)
{
    residency b;
    residency_open(&b, false);
    residency_want_all(&b);
    const size_t enough = GROUPS * GROUP + VECTORS,
                 budgets[] = {SIZE_MAX, enough, enough + 1, 2 * enough};
    for (int i = 0; i < 4; i++) {
        ts_weights_budget(b.ws, budgets[i]);
        for (int g = 0; g < GROUPS; g++) ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
        ck_assert_int_eq(b.dev.packs, 2 * GROUPS);
    }
    ts_weights_budget(b.ws, enough - 1);
    for (int g = 0; g < GROUPS; g++) ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
    ck_assert_int_eq(b.dev.packs, 4 * GROUPS);
    for (int i = 0; i < 2; i++) residency_there(&b, i);
    residency_away(&b, 2 * (GROUPS - 2)); /* the last two took turns */
    residency_close(&b);
}
END_TEST

START_TEST(no_budget_streams_everything)
{
    residency b;
    residency_open(&b, false);
    residency_want_all(&b);
    residency_want(b.w[4], TS_BF16, 5, 5000); /* the largest decides the slot */
    ts_weights_budget(b.ws, 0);
    for (int round = 0; round < 2; round++)
        for (int g = 0; g < GROUPS; g++) {
            ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
            for (int i = 0; i < 2 * GROUPS; i++) {
                if (i / 2 == g)
                    residency_there(&b, i);
                else
                    residency_away(&b, i);
            }
        }
    ck_assert(b.dev.allocs == 2 && b.dev.packs == 16);
    residency_close(&b);
}
END_TEST

/* A large group first does not keep later, smaller ones from staying. */
START_TEST(small_groups_stay_after_a_large_one)
{
    residency b;
    residency_open(&b, false);
    residency_want_all(&b);
    residency_want(b.w[0], TS_BF16, 5, 100000);
    ts_weights_budget(b.ws, 100096 + 1024 + 3 * GROUP + VECTORS);
    for (int round = 0; round < 2; round++)
        for (int g = 0; g < GROUPS; g++) ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
    for (int i = 0; i < 2 * GROUPS; i++) residency_there(&b, i);
    ck_assert_int_eq(b.dev.packs, 8);
    residency_close(&b);
}
END_TEST

START_TEST(unused_matrices_are_left_alone)
{
    residency b;
    residency_open(&b, true);
    residency_want(b.w[2], TS_BF16, 5, 999);
    for (int g = 0; g < GROUPS; g++) ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
    residency_there(&b, 2);
    for (int i = 0; i < 2 * GROUPS; i++)
        if (i != 2) residency_away(&b, i);
    ck_assert_int_eq(b.dev.packs, 1);
    residency_close(&b);
}
END_TEST

/* Stored type, row-major: in the mapping where the device can, uploaded where it can not; never
 * packed. */
START_TEST(stored_form_is_used_in_place)
{
    for (int adopts = 0; adopts < 2; adopts++) {
        residency b;
        residency_open(&b, adopts);
        size_t n = sizeof(float) * ROWS * COLUMNS, largest;
        for (int i = 0; i < 2 * GROUPS; i++) residency_want(b.w[i], TS_F32, 0, n);
        ck_assert_uint_eq(ts_weights_packed(b.ws, &largest), (adopts ? 0 : 8 * n) + 3 * 256);
        ts_weights_budget(b.ws, 0);
        for (int g = 0; g < GROUPS; g++) {
            ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
            for (int i = 2 * g; i < 2 * g + 2; i++) {
                const uint8_t *p = (const uint8_t *)(uintptr_t)b.w[i]->t.p.at;
                ck_assert(p && b.w[i]->layout == 0 && b.w[i]->t.type == TS_F32 && p[0] == 100 + i &&
                          p[n - 1] == 100 + i);
            }
            /* what is residency_mapped is never evicted */
            ck_assert((b.w[0]->t.p.at != 0) == (g == 0 || adopts));
        }
        ck_assert(b.dev.packs == 0 && b.dev.uploads == (adopts ? 3 : 11) &&
                  b.dev.allocs == (adopts ? 1 : 2));
        residency_close(&b);
    }
}
END_TEST

/* Another counting run wants other layouts: decided anew, nothing leaks, the data follow. */
START_TEST(wants_may_change)
{
    residency b;
    residency_open(&b, true);
    residency_want_all(&b);
    for (int g = 0; g < GROUPS; g++) ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
    for (int i = 0; i < 2 * GROUPS; i++) residency_want(b.w[i], TS_BF16, 5, 3000);
    for (int g = 0; g < GROUPS; g++) ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
    for (int i = 0; i < 2 * GROUPS; i++) residency_there(&b, i);
    ck_assert_int_eq(b.dev.packs, 16);
    ts_weights_budget(b.ws, 0);
    ck_ok(&b.ctx, ts_weights_enter(b.ws, 1));
    residency_there(&b, 2);
    residency_away(&b, 0);
    residency_close(&b);
}
END_TEST

/* The default is the most there is: f32 copies of everything fit, twice the memory does not. */
START_TEST(widening_is_bounded)
{
    residency b;
    residency_open(&b, true);
    /* 320 MiB of packed matrices from a file of 8 */
    for (int i = 0; i < 2 * GROUPS; i++) residency_want(b.w[i], TS_BF16, 5, (size_t)40 << 20);
    ts_weights_budget(b.ws, SIZE_MAX);
    for (int g = 0; g < GROUPS; g++) ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
    /* 256 MiB hold a slot of 80 and two groups */
    ck_assert(b.w[0]->t.p.at && b.w[2]->t.p.at && !b.w[4]->t.p.at && b.w[6]->t.p.at);
    residency_close(&b);
}
END_TEST

START_TEST(leaving_gives_memory_back)
{
    residency b;
    residency_open(&b, true);
    residency_want_all(&b);
    residency_want(b.w[7], TS_F32, 0, sizeof(float) * ROWS * COLUMNS);
    for (int round = 0; round < 2; round++) {
        for (int g = 0; g < GROUPS; g++) ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
        for (int i = 0; i < 2 * GROUPS - 1; i++) residency_there(&b, i);
        /* reads it all */
        ck_assert(memchr((void *)(uintptr_t)b.w[7]->t.p.at, 0, sizeof(float) * ROWS * COLUMNS) ==
                  NULL);
        ck_assert_int_gt(residency_kib(), 1000);
        ts_weights_leave(b.ws);
        for (int i = 0; i < 2 * GROUPS; i++) residency_away(&b, i);
        ck_assert_int_eq(b.dev.allocs - b.dev.frees, 1); /* the vectors stay */
        ck_assert_int_lt(residency_kib(), 512);
    }
    ck_assert(b.dev.packs == 14 && b.dev.uploads == 3);
    residency_close(&b);
}
END_TEST

START_TEST(shared_matrices_always_stay)
{
    residency b;
    const ts_weight *again;
    residency_open(&b, true);
    residency_want_all(&b);
    ck_ok(&b.ctx, ts_weights_find(b.ws, 3, TS_ROLE_MATRIX, "m0", 2, (long[]){-1, -1}, &again));
    ck_assert_ptr_eq(again, b.w[0]);
    ck_ok(&b.ctx, ts_weights_find(b.ws, 2, TS_ROLE_MATRIX, "m0", 2, (long[]){-1, -1}, &again));
    /* the same group twice is no sharing */
    ck_ok(&b.ctx, ts_weights_find(b.ws, 0, TS_ROLE_MATRIX, "m1", 2, (long[]){-1, -1}, &again));
    ts_weights_budget(b.ws, 0);
    for (int g = GROUPS - 1; g >= 0; g--) {
        ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
        residency_there(&b, 0);
        residency_there(&b, 2 * g + 1);
        if (g) residency_away(&b, 1);
    }
    residency_close(&b);
}
END_TEST

START_TEST(stop_comes_first)
{
    residency b;
    volatile int stop = 1;
    residency_open(&b, true);
    residency_want_all(&b);
    b.ctx.env.stop = &stop;
    ck_assert_int_eq(ts_weights_enter(b.ws, 0), TS_ESTOP);
    b.dev.dev.counting = true;
    ck_assert_int_eq(ts_weights_enter(b.ws, 0), TS_ESTOP);
    ck_assert_int_eq(b.dev.allocs, 0);
    residency_close(&b);
}
END_TEST

/* Whichever operation fails: the sentence comes through, nothing half stays, nothing leaks, and
 * trying again works. */
START_TEST(failures_leave_it_whole)
{
    int failures = 0;
    for (int k = 1; k < 40; k++) {
        residency b;
        ts_status st = TS_OK;
        residency_open(&b, true);
        residency_want_all(&b);
        ts_weights_budget(b.ws, 3 * GROUP + VECTORS);
        b.dev.refuse = k;
        for (int g = 0; g < GROUPS && st == TS_OK; g++) st = ts_weights_enter(b.ws, g);
        if (st != TS_OK) {
            failures++;
            ck_assert_msg(st == TS_EMEMORY && strstr(b.ctx.err.text, "refused"), "%s",
                          b.ctx.err.text);
        }
        /* memory is taken whole or not at all; the fourth is that of the vectors */
        if (k <= 4) ck_assert_int_eq(b.dev.allocs - b.dev.frees, k == 4 ? 3 : 0);
        int half = (int)(b.dev.packs / 2 * 2); /* of the group whose packing failed */
        if (k > 4 && st != TS_OK) {
            residency_away(&b, half);
            residency_away(&b, half + 1);
        }
        b.dev.refuse = 0;
        for (int g = 0; g < GROUPS; g++) {
            ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
            residency_there(&b, 2 * g);
            residency_there(&b, 2 * g + 1);
        }
        ck_assert_float_eq(*(const float *)(uintptr_t)b.v[2]->t.p.at, 1.5f);
        residency_close(&b);
    }
    ck_assert_int_eq(failures, 4 + 3 + 8);
}
END_TEST

/* Where the file holds matrix i: its bytes are all 100 + i. */
static bool ahead_of(int range, int i)
{
    const uint8_t *p = (const uint8_t *)ahead[range][0];
    size_t n = ahead[range][1] - ahead[range][0], page = (size_t)sysconf(_SC_PAGESIZE);
    return n >= 4 * ROWS * COLUMNS && n < 4 * ROWS * COLUMNS + 2 * page && p[page] == 100 + i &&
           p[4 * ROWS * COLUMNS - 1] == 100 + i;
}

/* The group that will be packed next is read ahead; what is resident or in the slot is not, nor a
 * matrix that nobody uses. */
START_TEST(the_next_group_is_read_ahead)
{
    residency b;
    residency_open(&b, true);
    residency_want_all(&b);
    residency_want(b.w[7], TS_F32, 0, 0);
    /* group 0 stays, the others take turns; 3 is smaller and would fit, but 0 came first */
    ts_weights_budget(b.ws, 2 * GROUP + VECTORS);
    aheads = 0;
    static const int next[2][GROUPS] = {{1, 2, 3, 1}, {-1, 2, 3, 1}};
    for (int round = 0; round < 2; round++)
        for (int g = 0; g < GROUPS; g++) {
            int n = next[round][g];
            aheads = 0;
            ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
            ck_assert_int_eq(aheads, n < 0 ? 0 : n == 3 ? 1 : 2);
            for (int k = 0; k < aheads; k++) ck_assert(ahead_of(k, 2 * n + k));
        }
    ck_ok(&b.ctx, ts_weights_enter(b.ws, 3));
    ck_assert_int_eq(aheads, 2); /* nothing new: it was there */
    residency_close(&b);
}
END_TEST

/* 8 MiB of matrices: opening, binding and counting touch headers alone, and packed pages are given
 * back. */
START_TEST(pages_are_touched_late_and_given_back)
{
    residency b;
    residency_open(&b, true);
    ck_assert(residency_mapped());
    residency_want_all(&b);
    b.dev.dev.counting = true;
    for (int g = 0; g < GROUPS; g++) ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
    ts_weights_warn_unused(b.ws);
    ck_assert_int_lt(residency_kib(), 256); /* the header and what the kernel maps around it */
    b.dev.dev.counting = false;
    for (int g = 0; g < GROUPS; g++) {
        ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
        ck_assert_int_lt(residency_kib(), 512);
    }
    residency_close(&b);
    ck_assert(!residency_mapped());
}
END_TEST

int main(void)
{
    residency_model();
    Suite *s = suite_create("residency");
    TCase *t = tcase_create("all");
    tcase_add_test(t, everything_stays_by_default);
    tcase_add_test(t, vectors_are_there_from_the_first_enter);
    tcase_add_test(t, others_take_turns_in_one_slot);
    tcase_add_test(t, a_budget_that_fits_everything_changes_nothing);
    tcase_add_test(t, no_budget_streams_everything);
    tcase_add_test(t, small_groups_stay_after_a_large_one);
    tcase_add_test(t, unused_matrices_are_left_alone);
    tcase_add_test(t, stored_form_is_used_in_place);
    tcase_add_test(t, wants_may_change);
    tcase_add_test(t, widening_is_bounded);
    tcase_add_test(t, leaving_gives_memory_back);
    tcase_add_test(t, shared_matrices_always_stay);
    tcase_add_test(t, stop_comes_first);
    tcase_add_test(t, failures_leave_it_whole);
    tcase_add_test(t, the_next_group_is_read_ahead);
    tcase_add_test(t, pages_are_touched_late_and_given_back);
    suite_add_tcase(s, t);
    int failed = testing_main(s);
    free(residency_dir);
    return failed;
}
