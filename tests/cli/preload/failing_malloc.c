/* A library to be preloaded: allocation number $FAIL_AT (from 1) that the program itself asks for
 * fails; those of its libraries do not count. $FAIL_COUNT names a file for how many there were. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
    void *(*malloc)(size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
} real;
static uintptr_t from, to; /* the program's code */
static long count, fail_at = -1;
static bool ready;

/* dlsym may ask for memory before there is a calloc to give it. */
static char early[1 << 16];
static size_t early_used;

static void find_program(void)
{
    static char maps[1 << 17], exe[512];
    size_t have = 0;
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    int fd = open("/proc/self/maps", O_RDONLY);
    while (n > 0 && (n = read(fd, maps + have, sizeof maps - 1 - have)) > 0) have += (size_t)n;
    close(fd);
    for (char *line = maps, *end; (end = strchr(line, '\n')); line = end + 1) {
        unsigned long a, b;
        char may[8];
        *end = 0;
        if (sscanf(line, "%lx-%lx %7s", &a, &b, may) != 3 || may[2] != 'x' || !strstr(line, exe))
            continue;
        if (!from) from = a;
        to = b;
    }
}

__attribute__((constructor)) static void begin(void)
{
    const char *at = getenv("FAIL_AT");
    real.calloc = (void *(*)(size_t, size_t))dlsym(RTLD_NEXT, "calloc");
    real.malloc = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
    real.realloc = (void *(*)(void *, size_t))dlsym(RTLD_NEXT, "realloc");
    if (at) fail_at = atol(at);
    find_program();
    ready = true;
}

__attribute__((destructor)) static void end(void)
{
    const char *path = getenv("FAIL_COUNT");
    FILE *f = path ? fopen(path, "w") : NULL;
    if (!f) return;
    fprintf(f, "%ld\n", count);
    fclose(f);
}

static bool fails(void *caller)
{
    if (!ready || (uintptr_t)caller < from || (uintptr_t)caller >= to) return false;
    if (__atomic_add_fetch(&count, 1, __ATOMIC_RELAXED) != fail_at) return false;
    errno = ENOMEM;
    return true;
}

void *malloc(size_t n)
{
    if (!real.malloc) real.malloc = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
    return fails(__builtin_return_address(0)) ? NULL : real.malloc(n);
}

void *calloc(size_t n, size_t each)
{
    static bool asking;
    if (!real.calloc && !asking) {
        asking = true;
        real.calloc = (void *(*)(size_t, size_t))dlsym(RTLD_NEXT, "calloc");
    }
    if (!real.calloc) {
        void *p = early + early_used;
        early_used += (n * each + 15) & ~(size_t)15;
        return early_used <= sizeof early ? p : NULL;
    }
    return fails(__builtin_return_address(0)) ? NULL : real.calloc(n, each);
}

void *realloc(void *p, size_t n)
{
    if (!real.realloc) real.realloc = (void *(*)(void *, size_t))dlsym(RTLD_NEXT, "realloc");
    return fails(__builtin_return_address(0)) ? NULL : real.realloc(p, n);
}
