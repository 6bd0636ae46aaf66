/* The next group of matrices comes while one is at work, on a device that goes ahead of its queue.
 */
#include "tests/weights/ledger.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A bench whose device goes ahead of its queue and can use nothing in place. */
static void open_ahead(residency *b)
{
    residency_open(b, false);
    b->dev.dev.goes_ahead = true;
    residency_want_all(b);
    ts_weights_budget(b->ws, 0);
}

/* Group g is there, no other is; `next` is on its way, and nothing else. */
static void check_ahead(const residency *b, int g, long begun)
{
    for (int i = 0; i < 2 * GROUPS; i++) {
        if (i / 2 == g)
            residency_there(b, i);
        else
            residency_away(b, i);
    }
    ck_assert_int_eq(b->dev.begun, begun);
    ck_assert_int_eq(b->dev.begun - b->dev.arrived, 2);
}

/* While a group is computed with the next one comes, to the other of two slots; only what is
 * entered is waited for. */
START_TEST(the_next_group_comes_while_one_is_there)
{
    residency b;
    size_t slots;
    open_ahead(&b);
    ck_assert_uint_eq(ts_weights_packed(b.ws, &slots), GROUPS * GROUP + VECTORS);
    ck_assert_uint_eq(slots, 2 * GROUP);
    for (int round = 0, n = 2; round < 3; round++)
        for (int g = 0; g < GROUPS; g++) {
            ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
            check_ahead(&b, g, n += 2);
            ck_assert_int_eq(b.dev.allocs, 3); /* two slots, vectors */
            ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
            check_ahead(&b, g, n);
        }
    residency_close(&b);
}
END_TEST

/* Out of order: what came in vain is waited for before anything is written over it. */
START_TEST(jumps_find_their_group)
{
    static const int order[] = {0, 2, 1, 1, 3, 2, 0, 3, 0, 1, 2, 3};
    residency b;
    open_ahead(&b);
    for (size_t k = 0; k < sizeof order / sizeof *order; k++) {
        ck_ok(&b.ctx, ts_weights_enter(b.ws, order[k]));
        residency_there(&b, 2 * order[k]);
        residency_there(&b, 2 * order[k] + 1);
        residency_away(&b, (2 * order[k] + 2) % (2 * GROUPS));
    }
    residency_close(&b);
}
END_TEST

/* The budget counts both slots: two groups of four stay beside them. A device that packs at once
 * has one slot, and three stay. Groups that stay come ahead as well, once. */
START_TEST(slots_count_in_the_budget)
{
    for (int goes = 0; goes < 2; goes++) {
        residency b;
        open_ahead(&b);
        b.dev.dev.goes_ahead = goes;
        ts_weights_budget(b.ws, 3 * GROUP + VECTORS);
        for (int round = 0; round < 3; round++)
            for (int g = 0; g < GROUPS; g++) {
                ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
                residency_there(&b, 2 * g);
                residency_there(&b, 2 * g + 1);
                residency_there(&b, 0);
                if (round && !goes) residency_there(&b, 2);
            }
        ck_assert_int_eq(b.dev.allocs, goes ? 1 + 2 + 1 : 2 + 1 + 1);
        /* three take turns with one that is on its way at the end; two take turns */
        ck_assert_int_eq(b.dev.packs, goes ? 2 + 3 * 6 + 2 : 4 + 3 * 4);
        residency_close(&b);
    }
}
END_TEST

/* One that takes turns with nobody has one slot and is packed once. */
START_TEST(one_group_alone_needs_one_slot)
{
    residency b;
    residency_open(&b, false);
    b.dev.dev.goes_ahead = true;
    residency_want_all(&b);
    residency_want(b.w[6], TS_BF16, 5, 100000);
    ts_weights_budget(b.ws, 2 * (100096 + 1024) + 3 * GROUP + VECTORS - 1 - 1024);
    for (int round = 0; round < 2; round++)
        for (int g = 0; g < GROUPS; g++) ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
    ck_assert_int_le(b.dev.allocs, 2 + 2 + 1);
    for (int i = 6; i < 8; i++) residency_there(&b, i);
    residency_close(&b);
}
END_TEST

/* Stored type, row-major: uploaded ahead, from the mapping. */
START_TEST(stored_form_comes_ahead)
{
    residency b;
    size_t n = sizeof(float) * ROWS * COLUMNS;
    open_ahead(&b);
    for (int i = 0; i < 2 * GROUPS; i++) residency_want(b.w[i], TS_F32, 0, n);
    for (int round = 0; round < 2; round++)
        for (int g = 0; g < GROUPS; g++) {
            ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
            for (int i = 2 * g; i < 2 * g + 2; i++) {
                const uint8_t *p = (const uint8_t *)(uintptr_t)b.w[i]->t.p.at;
                ck_assert(p && b.w[i]->layout == 0 && b.w[i]->t.type == TS_F32 && p[0] == 100 + i &&
                          p[n - 1] == 100 + i);
            }
            residency_away(&b, (2 * g + 2) % (2 * GROUPS));
        }
    ck_assert(b.dev.packs == 0 && b.dev.begun == 2 * (2 * GROUPS + 1));
    residency_close(&b);
}
END_TEST

/* What is on its way when everything changes has arrived before its memory is freed or laid out
 * anew. */
START_TEST(changes_wait_for_what_is_coming)
{
    residency b;
    const ts_weight *again;
    open_ahead(&b);
    ck_ok(&b.ctx, ts_weights_enter(b.ws, 0));
    check_ahead(&b, 0, 4);
    ts_weights_leave(b.ws);
    ck_assert_int_eq(b.dev.allocs - b.dev.frees, 1);
    ck_ok(&b.ctx, ts_weights_enter(b.ws, 0));
    /* another counting run: larger, when it is on its way, and when its time to begin comes */
    residency_want(b.w[2], TS_BF16, 5, 5000);
    residency_want(b.w[4], TS_BF16, 5, 7000);
    for (int g = 1; g < GROUPS; g++) {
        ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
        residency_there(&b, 2 * g);
    }
    residency_want(b.w[0], TS_BF16, 5, 9000);
    ck_ok(&b.ctx, ts_weights_enter(b.ws, 2));
    residency_there(&b, 4);
    residency_want(b.w[6], TS_BF16, 5, 30000);
    ck_ok(&b.ctx, ts_weights_enter(b.ws, 1));
    ck_ok(&b.ctx, ts_weights_enter(b.ws, 2)); /* 3 begins as memory was laid out, in vain */
    ck_ok(&b.ctx, ts_weights_enter(b.ws, 3));
    residency_there(&b, 6);
    ck_ok(&b.ctx, ts_weights_enter(b.ws, 0));
    residency_there(&b, 0);
    /* the group that is coming loses a matrix to those that always stay */
    ck_ok(&b.ctx, ts_weights_find(b.ws, 3, TS_ROLE_MATRIX, "m2", 2, (long[]){-1, -1}, &again));
    ck_ok(&b.ctx, ts_weights_enter(b.ws, 1));
    residency_there(&b, 2);
    ts_weights_budget(b.ws, SIZE_MAX);
    for (int g = 0; g < GROUPS; g++) ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
    for (int i = 0; i < 2 * GROUPS; i++) residency_there(&b, i);
    residency_close(&b);
}
END_TEST

/* The same ahead of the queue: copies that have begun are waited for, whatever fails beside them.
 */
START_TEST(failures_ahead_leave_it_whole)
{
    int failures = 0;
    for (int k = 1; k < 40; k++) {
        residency b;
        ts_status st = TS_OK;
        open_ahead(&b);
        b.dev.refuse = k;
        for (int g = 0; g < GROUPS && st == TS_OK; g++) st = ts_weights_enter(b.ws, g);
        if (st != TS_OK) {
            failures++;
            ck_assert_msg(st == TS_EMEMORY && strstr(b.ctx.err.text, "refused"), "%s",
                          b.ctx.err.text);
        }
        for (int i = 0; i < 2 * GROUPS; i++)
            if (b.w[i]->t.p.at) residency_there(&b, i);
        b.dev.refuse = 0;
        if (k % 2) /* else right away */
            for (int g = 0; g < GROUPS; g++) {
                ck_ok(&b.ctx, ts_weights_enter(b.ws, g));
                residency_there(&b, 2 * g);
                residency_there(&b, 2 * g + 1);
            }
        residency_close(&b);
    }
    /* allocs; vectors; five groups begin, of which four are waited for */
    ck_assert_int_eq(failures, 3 + 3 + 2 * 5 + 4);
}
END_TEST

int main(void)
{
    residency_model();
    Suite *s = suite_create("residency ahead");
    TCase *t = tcase_create("all");
    tcase_add_test(t, the_next_group_comes_while_one_is_there);
    tcase_add_test(t, jumps_find_their_group);
    tcase_add_test(t, slots_count_in_the_budget);
    tcase_add_test(t, one_group_alone_needs_one_slot);
    tcase_add_test(t, stored_form_comes_ahead);
    tcase_add_test(t, changes_wait_for_what_is_coming);
    tcase_add_test(t, failures_ahead_leave_it_whole);
    suite_add_tcase(s, t);
    int failed = testing_main(s);
    free(residency_dir);
    return failed;
}
