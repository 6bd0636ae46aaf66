/* The device: threads of a block as fibers of this thread, and their meetings. A fiber runs until
 * it has to wait; blocks run one after another, in the order that emu_options says. */
#include "emu.h"

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined __x86_64__
asm(R"(
.text
.globl emu_switch
emu_switch:
    push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp
    ret
)");
extern "C" void emu_switch(void **save, void *to);
static void *prepare_stack(char *top, void (*entry)())
{
    void **s = (void **)((uintptr_t)top & ~(uintptr_t)15);
    *--s = nullptr; /* entry never returns; the stack is aligned as after a call */
    *--s = (void *)entry;
    for (int i = 0; i < 6; i++) *--s = nullptr;
    return s;
}
#else
#error "a switch of stacks for this processor (ucontext would do)"
#endif

namespace
{
struct warp {
    std::vector<std::unique_ptr<emu_meeting>> meetings;
};
} /* namespace */

emu_thread *emu_self;
emu_block emu_here;
emu_clock emu_now = {2, 2, 2};
emu_stats emu_count;
emu_options emu_opt = {};
bool emu_meeting_now;
uint32_t emu_warp_epoch[32];
static emu_fiber fibers[EMU_THREADS];
static warp warps[32];
static int threads, alive, waiting;
static int votes;  /* of the last barrier */
static void *home; /* the scheduler's stack */
static void (*body)(const void *);
static const char *params; /* of the kernel: its threads may read them */
static size_t params_bytes;
static const char *kernel_name = "";
static bool failed;
static char sentence[1024];

bool emu_is_parameter(const void *p)
{
    return (const char *)p >= params && (const char *)p < params + params_bytes;
}
static void leave(void)
{
    emu_fiber *f = emu_me();
    emu_switch(&f->sp, home);
}
void emu_leave_for_good(void)
{
    failed = true;
    leave();
    abort();
}

/* ---- what was found ---- */
const char *emu_error(void)
{
    static char out[sizeof sentence];
    memcpy(out, sentence, sizeof out);
    *sentence = 0;
    failed = false;
    emu_sticky = cudaSuccess;
    return out;
}

extern "C" char __executable_start[];
void emu_say(const char *file, int line, const char *format, va_list ap)
{
    const size_t room = sizeof sentence;
    size_t n;
    if (*sentence) return; /* the first is the cause */
    if (line < 0)          /* an address, for addr2line */
        n = (size_t)snprintf(sentence, room, "+0x%lx: %s",
                             (unsigned long)(file - __executable_start - 1), kernel_name);
    else
        n = (size_t)snprintf(sentence, room, "%s:%d: %s", file, line, kernel_name);
    if (emu_self)
        n += (size_t)snprintf(sentence + n, room - n,
                              ", block (%u, %u, %u), thread %u (warp %u, lane %u)",
                              emu_here.block.x, emu_here.block.y, emu_here.block.z, emu_self->id,
                              emu_self->warp, emu_self->lane);
    n += (size_t)snprintf(sentence + n, room - n, ": ");
    vsnprintf(sentence + n, room - n, format, ap);
}
void emu_fail(const char *file, int line, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    emu_say(file, line, format, ap);
    va_end(ap);
    emu_leave_for_good();
}

/* ---- meetings ---- */
int emu_barrier_count(int yes, const char *file, int line)
{
    emu_fiber *f = emu_me();
    emu_count.barriers++;
    f->state = EMU_AT_BARRIER;
    f->file = file;
    f->line = line;
    f->yes = yes;
    waiting++;
    leave();
    return votes;
}
void emu_barrier(const char *file, int line) { emu_barrier_count(0, file, line); }

static bool same_place(const char *a, int line, const char *b, int other)
{
    return line == other && (a == b || !strcmp(a, b));
}

void emu_meet(const char *what, unsigned mask, void *args, void (*meet)(void **, unsigned),
              const char *file, int line)
{
    emu_fiber *f = emu_me();
    warp *w = warps + f->warp;
    emu_meeting *m = nullptr;
    emu_count.collectives++;
    if (!(mask >> f->lane & 1))
        emu_fail(file, line, "%s: this lane is not in its mask %08x", what, mask);
    /* lanes that wait under another mask may come here later; under the same they can not */
    for (auto &o : w->meetings) {
        if (o->mask != mask) continue;
        if (!same_place(file, line, o->file, o->line) || strcmp(o->what, what))
            emu_fail(file, line, "%s with mask %08x, while lanes %08x wait in %s at %s:%d", what,
                     mask, o->arrived, o->what, o->file, o->line);
        m = o.get();
    }
    if (!m) {
        w->meetings.push_back(
            std::make_unique<emu_meeting>(emu_meeting{what, file, line, mask, 0, {}}));
        m = w->meetings.back().get();
    }
    m->arrived |= 1u << f->lane;
    m->args[f->lane] = args;
    f->file = file;
    f->line = line;
    f->at = m;
    if (m->arrived != mask) {
        f->state = EMU_MEETING;
        leave();
        return;
    }
    emu_meeting_now = true;
    meet(m->args, mask);
    emu_meeting_now = false;
    for (int i = 0; i < 32; i++)
        if (mask >> i & 1) fibers[f->warp * 32 + i].state = EMU_READY;
    for (size_t i = 0; i < w->meetings.size(); i++) {
        if (w->meetings[i].get() != m) continue;
        w->meetings.erase(w->meetings.begin() + (long)i);
        break;
    }
}
void emu_warp_ordered(void) { emu_warp_epoch[emu_me()->warp]++; }

/* Nobody can go on. */
static void tell_who_waits(void)
{
    char text[700] = "";
    size_t n = 0;
    for (int i = 0; i < threads && n + 120 < sizeof text; i++) {
        emu_fiber *f = fibers + i, *g = i ? f - 1 : nullptr;
        if (g && f->state == g->state && f->line == g->line && f->file == g->file) continue;
        if (f->state == EMU_DONE)
            n += (size_t)snprintf(text + n, sizeof text - n, "; from thread %d on: ended", i);
        else
            n += (size_t)snprintf(text + n, sizeof text - n, "; from thread %d on: in %s at %s:%d",
                                  i, f->state == EMU_AT_BARRIER ? "__syncthreads" : f->at->what,
                                  f->file, f->line);
    }
    if (!*sentence)
        snprintf(sentence, sizeof sentence,
                 "%s, block (%u, %u, %u): its threads wait for each other%s", kernel_name,
                 emu_here.block.x, emu_here.block.y, emu_here.block.z, text);
    failed = true;
}

/* All living threads are at a barrier. */
static void pass_barrier(void)
{
    emu_fiber *first = nullptr;
    int yes = 0;
    for (int i = 0; i < threads; i++) {
        emu_fiber *f = fibers + i;
        if (f->state != EMU_AT_BARRIER) continue;
        if (!first) first = f;
        yes += f->yes;
        if (!same_place(f->file, f->line, first->file, first->line)) {
            tell_who_waits();
            return;
        }
    }
    for (int i = 0; i < threads; i++)
        if (fibers[i].state == EMU_AT_BARRIER) fibers[i].state = EMU_READY;
    votes = yes;
    waiting = 0;
    emu_now.epoch++;
    for (int w = 0; w < 32; w++) emu_warp_epoch[w] = 0;
}

/* ---- running a grid ---- */
static std::minstd_rand rng;
static void draw_order(std::vector<int> &v, int n)
{
    v.resize((size_t)n);
    for (int i = 0; i < n; i++) v[(size_t)i] = emu_opt.order == EMU_BACKWARD ? n - 1 - i : i;
    if (emu_opt.order == EMU_SHUFFLED) std::shuffle(v.begin(), v.end(), rng);
}

static void end_of_thread(void)
{
    body(params);
    emu_fiber *f = emu_me();
    if (!f->open.empty() || !f->groups.empty())
        emu_fail("kernel", 0, "ends with cp.async that nobody has waited for");
    f->state = EMU_DONE;
    alive--;
    leave();
}

static void on_fault(int, siginfo_t *i, void *)
{
    char text[256];
    int n = snprintf(text, sizeof text, "emulator: %s%s: address %p is not there\n", kernel_name,
                     emu_self ? ", a kernel's thread" : "the host (device memory, perhaps)",
                     i->si_addr);
    if (write(2, text, (size_t)n)) _exit(139);
    _exit(139);
}

static void open_fibers(void)
{
    static bool open;
    if (open) return;
    open = true;
    const size_t each = EMU_STACK + EMU_PAGE;
    char *all = (char *)mmap(nullptr, EMU_THREADS * each, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED) abort();
    for (size_t i = 0; i < EMU_THREADS; i++) {
        mprotect(all + i * each, EMU_PAGE, PROT_NONE);
        fibers[i].stack = all + i * each + EMU_PAGE;
    }
    /* an overflow of a fiber's stack is told on another one */
    static char spare[64 << 10];
    stack_t s = {};
    s.ss_size = sizeof spare;
    s.ss_sp = spare;
    sigaltstack(&s, nullptr);
    struct sigaction act = {};
    act.sa_sigaction = on_fault;
    act.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &act, nullptr);
    sigaction(SIGBUS, &act, nullptr);
}

static void begin_block(void)
{
    dim3 b = emu_here.threads;
    alive = threads;
    waiting = 0;
    emu_now.block = ++emu_now.epoch;
    emu_count.blocks++;
    emu_shared_fresh();
    for (int i = 0; i < 32; i++) {
        emu_warp_epoch[i] = 0;
        warps[i].meetings.clear();
    }
    for (int n = 0; n < threads; n++) {
        unsigned i = (unsigned)n;
        emu_fiber *f = fibers + n;
        f->thread = {i % b.x, i / b.x % b.y, i / (b.x * b.y)};
        f->lane = i % 32;
        f->warp = i / 32;
        f->id = i;
        f->state = EMU_READY;
        f->sp = prepare_stack(f->stack + EMU_STACK, end_of_thread);
        f->open.clear();
        f->groups.clear();
    }
}

static void run_block(void)
{
    static std::vector<int> turn;
    begin_block();
    while (alive && !failed) {
        bool went = false;
        draw_order(turn, threads);
        for (int i : turn) {
            if (fibers[i].state != EMU_READY) continue;
            went = true;
            emu_self = fibers + i;
            emu_switch(&home, fibers[i].sp);
            emu_self = nullptr;
            if (failed) break;
        }
        if (failed) break;
        if (waiting && waiting == alive)
            pass_barrier();
        else if (!went)
            tell_who_waits();
    }
    emu_meeting_now = false;
}

bool emu_run_grid(const char *name, dim3 grid, dim3 block, size_t shared,
                  void (*call)(const void *), const void *p, size_t bytes)
{
    std::vector<int> turn;
    open_fibers();
    kernel_name = name;
    body = call;
    params = (const char *)p;
    params_bytes = bytes;
    failed = false;
    emu_here = {{0, 0, 0}, grid, block};
    threads = (int)(block.x * block.y * block.z);
    emu_count.launches++;
    rng.seed(emu_opt.seed + 1);
    emu_shared_open(shared);
    draw_order(turn, (int)(grid.x * grid.y * grid.z));
    for (int n : turn) {
        unsigned i = (unsigned)n;
        emu_here.block = {i % grid.x, i / grid.x % grid.y, i / (grid.x * grid.y)};
        run_block();
        if (failed) break;
    }
    kernel_name = "";
    params_bytes = 0;
    return !failed;
}
