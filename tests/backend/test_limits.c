/* What a process may use, read from folders that look like /proc and /sys of machines with control
 * groups of version 1, version 2, both and neither. */
#include "backend/cpu/limits.h"
#include "tests/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char *root;

/* Writes root/path, making its folders. */
static void write_fake(const char *path, const char *text)
{
    char full[1024];
    snprintf(full, sizeof full, "%s/%s", root, path);
    for (char *p = full + strlen(root) + 1; (p = strchr(p, '/')); p++) {
        *p = 0;
        mkdir(full, 0755);
        *p = '/';
    }
    FILE *f = fopen(full, "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}

static void make_root(void) { root = testing_tmp(); }
static void remove_root(void)
{
    free(root);
    root = NULL;
}

static const size_t GB = (size_t)1 << 30;

static void expect_limit(size_t memory, double cpus)
{
    ck_assert_uint_eq(ts_limit_memory(root, 64 * GB), memory);
    ck_assert_double_eq_tol(ts_limit_cpus(root, 16), cpus, 1e-9);
}

START_TEST(test_no_groups)
{
    expect_limit(64 * GB, 16);
    write_fake("proc/self/cgroup", "0::/\n");
    expect_limit(64 * GB, 16); /* no controllers are there */
    write_fake("proc/self/cgroup", "no colons\n1:onecolon\n");
    expect_limit(64 * GB, 16);
}
END_TEST

START_TEST(test_v2)
{
    write_fake("proc/self/cgroup", "0::/slice/box\n");
    write_fake("sys/fs/cgroup/slice/box/memory.max", "2147483648\n");
    write_fake("sys/fs/cgroup/slice/box/cpu.max", "150000 100000\n");
    expect_limit(2 * GB, 1.5);
    write_fake("sys/fs/cgroup/slice/box/memory.max", "max\n");
    write_fake("sys/fs/cgroup/slice/box/cpu.max", "max 100000\n");
    expect_limit(64 * GB, 16);
}
END_TEST

/* The least of a group and those above it counts; the outermost may lie at the mount itself. */
START_TEST(test_v2_nested)
{
    write_fake("proc/self/cgroup", "0::/a/b/c\n");
    write_fake("sys/fs/cgroup/a/b/c/memory.max", "8589934592\n");
    write_fake("sys/fs/cgroup/a/b/memory.max", "max\n");
    write_fake("sys/fs/cgroup/a/memory.max", "1073741824\n");
    write_fake("sys/fs/cgroup/a/b/c/cpu.max", "max 100000\n");
    write_fake("sys/fs/cgroup/a/b/cpu.max", "400000 100000\n");
    write_fake("sys/fs/cgroup/a/cpu.max", "800000 100000\n");
    expect_limit(GB, 4);
    write_fake("sys/fs/cgroup/cpu.max", "50000 100000\n");
    write_fake("sys/fs/cgroup/memory.max", "536870912\n");
    expect_limit(GB / 2, 0.5);
}
END_TEST

/* More than the machine has is no limit. */
START_TEST(test_beyond_machine)
{
    write_fake("proc/self/cgroup", "0::/box\n");
    write_fake("sys/fs/cgroup/box/memory.max", "9223372036854771712\n");
    write_fake("sys/fs/cgroup/box/cpu.max", "6400000 100000\n");
    expect_limit(64 * GB, 16);
}
END_TEST

START_TEST(test_v1)
{
    write_fake("proc/self/cgroup",
               "12:cpuset:/other\n11:cpuacct:/other\n5:memory:/box\n3:cpu,net_cls:/"
               "work\n1:name=systemd:/\n");
    write_fake("sys/fs/cgroup/memory/box/memory.limit_in_bytes", "3221225472\n");
    write_fake("sys/fs/cgroup/cpu/other/cpu.cfs_quota_us", "10000\n");
    write_fake("sys/fs/cgroup/cpu/other/cpu.cfs_period_us", "50000\n");
    write_fake("sys/fs/cgroup/cpu/work/cpu.cfs_quota_us", "250000\n");
    write_fake("sys/fs/cgroup/cpu/work/cpu.cfs_period_us", "50000\n");
    expect_limit(3 * GB, 5);
    write_fake("sys/fs/cgroup/cpu/work/cpu.cfs_quota_us", "-1\n");
    write_fake("sys/fs/cgroup/memory/box/memory.limit_in_bytes", "9223372036854771712\n");
    expect_limit(64 * GB, 16);
}
END_TEST

START_TEST(test_v1_nested)
{
    write_fake("proc/self/cgroup", "5:memory:/a/b\n3:cpuacct,cpu:/a/b\n");
    write_fake("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n");
    write_fake("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "4294967296\n");
    /* none of its own: the group above decides */
    write_fake("sys/fs/cgroup/cpu/a/b/cpu.cfs_quota_us", "-1\n");
    write_fake("sys/fs/cgroup/cpu/a/b/cpu.cfs_period_us", "100000\n");
    write_fake("sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "60000\n");
    write_fake("sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "20000\n");
    expect_limit(4 * GB, 3);
}
END_TEST

/* A container sees its own group as the mount, while the path names folders outside of it. */
START_TEST(test_v1_container)
{
    write_fake("proc/self/cgroup",
               "5:memory:/docker/0123\n3:cpu,cpuacct:/docker/0123\n0::/docker/0123\n");
    write_fake("sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n");
    write_fake("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n");
    write_fake("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    expect_limit(GB, 2);
}
END_TEST

/* The last level counts, shared between the CPUs that are listed with it; a machine that says
 * nothing has 2 MiB a CPU. */
START_TEST(test_cache)
{
    ck_assert_uint_eq(ts_limit_cache(root), 2 << 20);
    write_fake("sys/devices/system/cpu/cpu0/cache/index0/level", "1\n");
    write_fake("sys/devices/system/cpu/cpu0/cache/index0/size", "32K\n");
    write_fake("sys/devices/system/cpu/cpu0/cache/index0/shared_cpu_list", "0,64\n");
    ck_assert_uint_eq(ts_limit_cache(root), 16 << 10);
    write_fake("sys/devices/system/cpu/cpu0/cache/index1/level", "3\n");
    write_fake("sys/devices/system/cpu/cpu0/cache/index1/size", "32768K\n");
    write_fake("sys/devices/system/cpu/cpu0/cache/index1/shared_cpu_list", "0-7,64-71\n");
    ck_assert_uint_eq(ts_limit_cache(root), 2 << 20);
    write_fake("sys/devices/system/cpu/cpu0/cache/index1/size", "96M\n");
    write_fake("sys/devices/system/cpu/cpu0/cache/index1/shared_cpu_list", "0\n");
    write_fake("sys/devices/system/cpu/cpu0/cache/index2/level", "2\n");
    write_fake("sys/devices/system/cpu/cpu0/cache/index2/size", "1024K\n");
    write_fake("sys/devices/system/cpu/cpu0/cache/index2/shared_cpu_list", "0\n");
    ck_assert_uint_eq(ts_limit_cache(root), (size_t)96 << 20);
    write_fake("sys/devices/system/cpu/cpu0/cache/index1/shared_cpu_list", "none\n");
    ck_assert_uint_eq(ts_limit_cache(root), 1 << 20);
}
END_TEST

/* What the kernel calls available, or what a group leaves; pages of files are not in use. */
START_TEST(test_available)
{
    ck_assert_uint_eq(ts_limit_available(root, 64 * GB), 64 * GB);
    write_fake("proc/meminfo", "MemTotal: 67108864 kB\nXMemAvailable: 1 kB\n"
                               "MemAvailable:    8388608 kB\nBuffers: 5 kB\n");
    ck_assert_uint_eq(ts_limit_available(root, 64 * GB), 8 * GB);
    ck_assert_uint_eq(ts_limit_available(root, 4 * GB), 4 * GB);
    write_fake("proc/self/cgroup", "0::/slice/box\n5:memory:/old\n");
    write_fake("sys/fs/cgroup/slice/box/memory.max", "2147483648\n");
    write_fake("sys/fs/cgroup/slice/box/memory.stat", "anon 536870912\nfile 9999999999\n");
    ck_assert_uint_eq(ts_limit_available(root, 64 * GB), 2 * GB - GB / 2);
    write_fake("sys/fs/cgroup/slice/memory.max", "max\n");
    write_fake("sys/fs/cgroup/slice/memory.stat", "anon 9999999999\n");
    ck_assert_uint_eq(ts_limit_available(root, 64 * GB), 2 * GB - GB / 2);
    write_fake("sys/fs/cgroup/memory/old/memory.limit_in_bytes", "1073741824\n");
    write_fake("sys/fs/cgroup/memory/old/memory.stat",
               "cache 999999999\nrss 5\ntotal_cache 7\ntotal_rss 268435456\n");
    ck_assert_uint_eq(ts_limit_available(root, 64 * GB), GB - GB / 4);
    write_fake("sys/fs/cgroup/memory/old/memory.stat", "total_rss 99999999999\n");
    ck_assert_uint_eq(ts_limit_available(root, 64 * GB), 0);
}
END_TEST

START_TEST(test_here)
{
    ck_assert_int_ge(ts_limit_threads(), 1);
    ck_assert_uint_ge(ts_limit_all_memory(), 1 << 20);
    ck_assert_uint_ge(ts_limit_unused_memory(), 1 << 20);
    ck_assert_uint_le(ts_limit_unused_memory(), ts_limit_all_memory());
}
END_TEST

int main(void)
{
    Suite *s = suite_create("limits");
    TCase *t = tcase_create("all");
    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, make_root, remove_root);
    tcase_add_test(t, test_available);
    tcase_add_test(t, test_no_groups);
    tcase_add_test(t, test_v2);
    tcase_add_test(t, test_v2_nested);
    tcase_add_test(t, test_beyond_machine);
    tcase_add_test(t, test_v1);
    tcase_add_test(t, test_v1_nested);
    tcase_add_test(t, test_v1_container);
    tcase_add_test(t, test_cache);
    tcase_add_test(t, test_here);
    return testing_main(s);
}
