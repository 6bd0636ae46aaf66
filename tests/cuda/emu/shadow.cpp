/* Memory of the device, and a shadow of every byte that knows who wrote and who read it last.
 *
 * Order. Time is counted in epochs: a new one at every barrier of a block, at every block, at every
 * launch. With E the block's epoch and W a warp's (one more at every __syncwarp), what thread a did
 * at (e, w) is ordered before what b does now if it was an earlier launch's (e < launch), or this
 * block's before its last barrier (block <= e < E), or the same warp's before its last __syncwarp,
 * or a = b. Anything else on one byte, one of the two a write and not both atomic, is a race and is
 * refused, whether or not it did harm in the order in which fibers ran. cp.async writes when its
 * group is waited for; in between its bytes are nobody's to read, and hold 0xFF (NaN in every float
 * type).
 *
 * Streams. Every work of a stream (a launch, a copy, a fill) has an epoch of its own, and comes
 * after what was queued before it in its stream, what its stream has waited for by events, and what
 * the host had waited for when it queued it. What it touches after a work that is none of these is
 * a race between streams.
 *
 * Plain loads and stores are seen where kernels are compiled with -fsanitize=thread: gcc then calls
 * __tsan_read4(p) and the like, which are ours (bottom of this file); its library is not linked. */
#include "emu.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>

/* who wrote last and who read last: an epoch (0: nobody) and id | the warp's epoch << 10 | kind <<
 * 26 */
struct mark {
    uint32_t we, ww, re, rw;
};
enum { PLAIN, ATOMIC, PENDING };  /* kinds of writers */
enum { ONE, WARP, MANY, BLOCKS }; /* kinds of readers */
struct region {
    char *at;
    size_t size, mapped;
    mark *shadow;
    bool shared;
};
static std::vector<region> memory; /* the device's, by address */
static region dynamic_shared, static_shared;
extern "C" char __start_emu_shared[] __attribute__((weak)),
    __stop_emu_shared[] __attribute__((weak));
extern "C" char __executable_start[], end[];

/* ---- regions ---- */
static size_t pages_of(size_t bytes) { return (bytes + EMU_PAGE - 1) / EMU_PAGE * EMU_PAGE; }
static void *map_pages(size_t bytes)
{
    void *p = mmap(nullptr, bytes ? bytes : (size_t)EMU_PAGE, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? nullptr : p;
}
/* Bytes that end where a page ends that nobody may touch. The device's memory begins at a page, as
 * cudaMalloc's does at 256 bytes. */
static region map_region(size_t bytes, bool shared)
{
    region r = {nullptr, bytes, pages_of(bytes) + EMU_PAGE, nullptr, shared};
    char *p = (char *)map_pages(r.mapped);
    r.shadow = (mark *)map_pages(pages_of(bytes * sizeof(mark)));
    if (!p || !r.shadow) return r;
    mprotect(p + r.mapped - EMU_PAGE, EMU_PAGE, PROT_NONE);
    r.at = shared ? p + (r.mapped - EMU_PAGE - (bytes + 1023) / 1024 * 1024) : p;
    return r;
}
static void unmap_region(region *r)
{
    char *p = (char *)((uintptr_t)r->at & ~(uintptr_t)(EMU_PAGE - 1));
    if (r->at) {
        munmap(p, r->mapped);
        munmap(r->shadow, pages_of(r->size * sizeof(mark)));
    }
    *r = {};
}

void *emu_memory_take(size_t bytes)
{
    const size_t most = 64u << 20; /* of a large one the rest is zero, and unwritten all the same */
    region r = map_region(bytes, false);
    if (!r.at || !r.shadow) return nullptr;
    memset(r.at, 0xFF, bytes < most ? bytes : most);
    size_t i = 0;
    while (i < memory.size() && memory[i].at < r.at) i++;
    memory.insert(memory.begin() + (long)i, r);
    return r.at;
}
bool emu_memory_give(void *p, size_t *bytes)
{
    for (size_t i = 0; i < memory.size(); i++) {
        if (memory[i].at != p) continue;
        *bytes = memory[i].size;
        unmap_region(&memory[i]);
        memory.erase(memory.begin() + (long)i);
        return true;
    }
    return false;
}
void emu_memory_guard(bool open)
{
    for (auto &r : memory)
        mprotect(r.at, r.mapped - EMU_PAGE, open ? PROT_READ | PROT_WRITE : PROT_NONE);
}
static region *find_region(const void *p)
{
    const char *c = (const char *)p;
    size_t lo = 0, hi = memory.size();
    if (c >= dynamic_shared.at &&
        c < dynamic_shared.at + (dynamic_shared.size + 1023) / 1024 * 1024)
        return &dynamic_shared;
    if (c >= static_shared.at && c < static_shared.at + static_shared.size) return &static_shared;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (memory[mid].at + memory[mid].mapped <= c)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < memory.size() && c >= memory[lo].at ? &memory[lo] : nullptr;
}
bool emu_memory_holds(const void *p, size_t bytes)
{
    region *r = find_region(p);
    return r && !r->shared && (const char *)p + bytes <= r->at + r->size;
}
void emu_shared_open(size_t bytes)
{
    if (__start_emu_shared && !static_shared.shadow) {
        size_t n = (size_t)(__stop_emu_shared - __start_emu_shared);
        static_shared = {__start_emu_shared, n, 0, (mark *)map_pages(pages_of(n * sizeof(mark))),
                         true};
    }
    if (bytes == dynamic_shared.size) return;
    unmap_region(&dynamic_shared);
    if (bytes) dynamic_shared = map_region(bytes, true);
}
void emu_shared_fresh(void)
{
    for (region *r : {&dynamic_shared, &static_shared}) {
        if (!r->size) continue;
        memset(r->at, 0xFF, r->size);
        memset((void *)r->shadow, 0, r->size * sizeof(mark));
    }
}
unsigned char *emu_dynamic_shared(void) { return (unsigned char *)dynamic_shared.at; }

/* ---- order ---- */
/* Whose works the epochs are. */
struct owner {
    uint32_t first;
    int stream;
    long place;
};
static std::vector<owner> owners; /* ascending */
static const emu_known *known_now;
static uint32_t known_first = 1, known_end; /* epochs that were looked up last, and are known */

void emu_work_begin(int stream, long place, const emu_known *known)
{
    emu_now.launch = emu_now.block = ++emu_now.epoch;
    owners.push_back({emu_now.epoch, stream, place});
    known_now = known;
    known_first = known_end = emu_now.epoch;
}
/* Whether what was done at `e`, before this work began, comes before it. */
static bool look_up(uint32_t e)
{
    auto next = std::upper_bound(owners.begin(), owners.end(), e,
                                 [](uint32_t x, const owner &o) { return x < o.first; });
    if (next == owners.begin()) return true;
    const owner &o = next[-1];
    if (o.stream != owners.back().stream) {
        auto of = known_now->find(o.stream);
        if (of == known_now->end() || of->second < o.place) return false;
    }
    known_first = o.first;
    known_end = next == owners.end() ? emu_now.launch : next->first;
    return true;
}

static uint32_t mark_who(uint32_t kind, uint32_t id)
{
    return id | (emu_warp_epoch[emu_self->warp] & 0xFFFF) << 10 | kind << 26;
}
static uint32_t kind_of(uint32_t w) { return w >> 26; }
static uint32_t id_of(uint32_t w) { return w & 1023; }

static inline bool is_known(uint32_t e)
{
    return (e >= known_first && e < known_end) || look_up(e);
}

/* Whether what `w` did at `e` is ordered before what this thread (or all of its warp together) does
 * now. */
static bool is_ordered(uint32_t e, uint32_t w, bool by_warp, uint32_t id)
{
    const emu_thread *f = emu_self;
    if (e < emu_now.launch || (e >= emu_now.block && e < emu_now.epoch)) return true;
    if (e < emu_now.block) return false;
    if (id / 32 == f->warp && (w >> 10 & 0xFFFF) < emu_warp_epoch[f->warp]) return true;
    return !by_warp && id == f->id;
}

struct touch { /* one byte of one access */
    const region *r;
    size_t at;
    emu_access a;
    const char *file;
    int line;
};
static const char *where_is(const touch &t)
{
    return t.r->shared ? "shared memory" : "device memory";
}
static const char *verb_of(emu_access a)
{
    return a == EMU_READ || a == EMU_WARP_READ ? "reads" : "writes";
}

static void check_writer(const mark *m, const touch &t)
{
    const uint32_t kind = kind_of(m->ww);
    const bool both_atomic = t.a == EMU_ATOMIC && kind == ATOMIC;
    if (!m->we) return;
    if (kind == PENDING && m->we >= emu_now.block)
        emu_fail(t.file, t.line,
                 "%s byte %zu of %s, into which cp.async of thread %u is still copying: no wait",
                 verb_of(t.a), t.at, where_is(t), id_of(m->ww));
    if (m->we < emu_now.launch && !is_known(m->we))
        emu_fail(t.file, t.line,
                 "%s byte %zu of %s, which work of another stream writes: no event between",
                 verb_of(t.a), t.at, where_is(t));
    if (!both_atomic && !is_ordered(m->we, m->ww, t.a == EMU_WARP_READ, id_of(m->ww)))
        emu_fail(t.file, t.line,
                 "%s byte %zu of %s, which thread %u %s has written, with no barrier between",
                 verb_of(t.a), t.at, where_is(t), id_of(m->ww),
                 m->we < emu_now.block ? "of another block" : "of this block");
}

static void mark_read(mark *m, const touch &t)
{
    const emu_thread *f = emu_self;
    const bool warp_reads = t.a == EMU_WARP_READ;
    uint32_t by = warp_reads ? mark_who(WARP, f->warp) : mark_who(ONE, f->id);
    if (!m->we)
        emu_fail(t.file, t.line, "reads byte %zu of %s, which nobody has written", t.at,
                 where_is(t));
    if (m->re == emu_now.epoch) {
        uint32_t kind = kind_of(m->rw), id = id_of(m->rw), w = kind == ONE ? id / 32 : id;
        if (kind != ONE || warp_reads || id != f->id)
            by = kind <= WARP && w == f->warp ? mark_who(WARP, f->warp) : mark_who(MANY, 0);
    } else if (m->re >= emu_now.launch && m->re < emu_now.block) {
        by = mark_who(BLOCKS, 0);
    }
    m->re = emu_now.epoch;
    m->rw = by;
}

/* Whoever has read it must be done. */
static void check_reader(const mark *m, const touch &t)
{
    const uint32_t kind = kind_of(m->rw), id = id_of(m->rw);
    if (m->re && m->re < emu_now.launch && !is_known(m->re))
        emu_fail(t.file, t.line,
                 "writes byte %zu of %s, which work of another stream reads: no event between",
                 t.at, where_is(t));
    if (m->re < emu_now.launch || t.a == EMU_ATOMIC) return;
    if (m->re >= emu_now.block && kind != BLOCKS) {
        if (m->re < emu_now.epoch) return;
        if (kind == ONE && is_ordered(m->re, m->rw, false, id)) return;
        if (kind == WARP && is_ordered(m->re, m->rw, true, id * 32)) return;
    }
    emu_fail(t.file, t.line, "writes byte %zu of %s, which %s still reads: no barrier between",
             t.at, where_is(t),
             kind == ONE                               ? "another thread"
             : kind == BLOCKS || m->re < emu_now.block ? "another block"
                                                       : "a warp");
}

void emu_touch(const void *p, size_t n, emu_access a, const char *file, int line)
{
    emu_fiber *f = emu_me();
    const char *c = (const char *)p;
    if (!f || (c >= f->stack && c < f->stack + EMU_STACK)) return;
    region *r = find_region(p);
    emu_count.checked++;
    if (!r) {
        bool reads = a == EMU_READ || a == EMU_WARP_READ;
        if (reads && ((c >= __executable_start && c < end) || emu_is_parameter(p))) return;
        emu_fail(file, line, "touches %p, which is neither shared nor the device's", p);
    }
    touch t = {r, (size_t)(c - r->at), a, file, line};
    if (t.at + n > r->size)
        emu_fail(file, line, "%s bytes %zu to %zu of %s of %zu", verb_of(a), t.at, t.at + n - 1,
                 where_is(t), r->size);
    if ((uintptr_t)p % n && (n & (n - 1)) == 0)
        emu_fail(file, line, "%s %zu bytes at %zu of %s: not aligned", verb_of(a), n, t.at,
                 where_is(t));
    uint32_t kind = a == EMU_ATOMIC ? ATOMIC : a == EMU_ASYNC_WRITE ? PENDING : PLAIN;
    for (mark *m = r->shadow + t.at, *to = m + n; m < to; m++, t.at++) {
        if (a != EMU_ASYNC_DONE) check_writer(m, t);
        if (a == EMU_READ || a == EMU_WARP_READ) {
            mark_read(m, t);
            continue;
        }
        if (a != EMU_ASYNC_DONE) check_reader(m, t);
        if (a == EMU_ATOMIC && !m->we)
            emu_fail(file, line, "changes byte %zu of %s, which nobody has written", t.at,
                     where_is(t));
        m->we = emu_now.epoch;
        m->ww = mark_who(kind, f->id);
    }
}

/* ---- copies, fills, stand-ins ---- */
static void report(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    emu_say("the host", 0, format, ap);
    va_end(ap);
}
bool emu_memory_reads(const char *what, const void *p, size_t bytes)
{
    region *r = find_region(p);
    if (!r) return true;
    size_t at = (size_t)((const char *)p - r->at);
    for (mark *m = r->shadow + at, *to = m + bytes; m < to; m++, at++) {
        if (m->we < emu_now.launch && !is_known(m->we)) {
            report("a %s reads byte %zu of device memory, which work of another stream writes: no "
                   "event between",
                   what, at);
            return false;
        }
        m->re = emu_now.epoch;
        m->rw = (uint32_t)BLOCKS << 26;
    }
    return true;
}
bool emu_memory_writes(const char *what, const void *p, size_t bytes)
{
    region *r = find_region(p);
    if (!r) return true;
    size_t at = (size_t)((const char *)p - r->at);
    for (mark *m = r->shadow + at, *to = m + bytes; m < to; m++, at++) {
        if ((m->we < emu_now.launch && !is_known(m->we)) ||
            (m->re < emu_now.launch && !is_known(m->re))) {
            report("a %s writes byte %zu of device memory, which work of another stream %s: no "
                   "event between",
                   what, at, m->we < emu_now.launch && !is_known(m->we) ? "writes" : "reads");
            return false;
        }
        *m = {emu_now.epoch, 0, 0, 0};
    }
    return true;
}

/* ---- what gcc -fsanitize=thread calls ---- */
static void see_access(void *p, size_t n, emu_access a, void *from)
{
    emu_fiber *f = emu_me();
    if (!f || emu_meeting_now) return;
    if ((const char *)p >= f->stack && (const char *)p < f->stack + EMU_STACK) return;
    emu_touch(p, n, a, (const char *)from, -1); /* the place, as an address */
}
static void see_bytes(void *p, size_t n, emu_access a, void *from)
{
    for (size_t i = 0; i < n; i++) see_access((char *)p + i, 1, a, from);
}
/* ... and -fsanitize=alignment, of a 16-byte access that gcc takes apart. */
struct place {
    const char *file;
    uint32_t line, column;
};
struct mismatch {
    place at;
    const void *type;
    unsigned char log_alignment, kind;
};
#define HERE __builtin_return_address(0)
/* clang-format off */
#define HOOK(n) \
    void __tsan_read##n(void *p) { see_access(p, n, EMU_READ, HERE); } \
    void __tsan_write##n(void *p) { see_access(p, n, EMU_WRITE, HERE); } \
    void __tsan_unaligned_read##n(void *p) { see_bytes(p, n, EMU_READ, HERE); } \
    void __tsan_unaligned_write##n(void *p) { see_bytes(p, n, EMU_WRITE, HERE); } \
    void __tsan_volatile_read##n(void *p) { see_access(p, n, EMU_READ, HERE); } \
    void __tsan_volatile_write##n(void *p) { see_access(p, n, EMU_WRITE, HERE); }
/* clang-format on */
extern "C" {
void __ubsan_handle_type_mismatch_v1(mismatch *d, uintptr_t p)
{
    if (emu_meeting_now) return;
    if (emu_self)
        emu_fail(d->at.file, (int)d->at.line, "touches %p as something of %d bytes: not aligned",
                 (void *)p, 1 << d->log_alignment);
    fprintf(stderr, "%s:%u: %p is no address of something of %d bytes\n", d->at.file, d->at.line,
            (void *)p, 1 << d->log_alignment);
    abort();
}
HOOK(1)
HOOK(2)
HOOK(4)
HOOK(8)
HOOK(16)
void __tsan_init(void) {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit(void) {}
void __tsan_read_range(void *p, unsigned long n) { see_bytes(p, n, EMU_READ, HERE); }
void __tsan_write_range(void *p, unsigned long n) { see_bytes(p, n, EMU_WRITE, HERE); }
}
