/* Between the parts of the emulator: threads.cpp (blocks), shadow.cpp (memory and what was done to
 * it), ptx.cpp (instructions), runtime.cpp (the host's calls). */
#ifndef EMU_EMU_H
#define EMU_EMU_H
#include "cuda_runtime.h"

#include <deque>
#include <functional>
#include <map>
#include <vector>

extern emu_options emu_opt;
extern emu_stats emu_count;
extern cudaError_t emu_sticky; /* what broke the device */

/* ---- threads.cpp ---- */
enum { EMU_STACK = 128 << 10, EMU_PAGE = 4096, EMU_THREADS = 1024 };
enum emu_state { EMU_READY, EMU_AT_BARRIER, EMU_MEETING, EMU_DONE };
struct emu_copy16 { /* a cp.async under way */
    void *to;
    const void *from;
    int bytes;
};
struct emu_meeting { /* lanes of a warp that wait for each other */
    const char *what, *file;
    int line;
    unsigned mask, arrived;
    void *args[32];
};
struct emu_fiber : emu_thread {
    emu_state state;
    void *sp;
    char *stack;
    const char *file; /* where it waits */
    int line;
    int yes; /* its vote at a barrier */
    emu_meeting *at;
    std::vector<emu_copy16> open;               /* cp.async not committed yet */
    std::deque<std::vector<emu_copy16>> groups; /* committed, not waited for */
};
/* Time, counted in epochs: a new one at every barrier of a block, every block, every launch.
 * 0: never; 1: the host's. */
struct emu_clock {
    uint32_t epoch, launch, block; /* now; the first of this launch; the first of this block */
};
extern emu_clock emu_now;
/* What of each stream is known to be done: so many of its works. */
typedef std::map<int, long> emu_known;
extern bool emu_meeting_now; /* a rendezvous computes: its loads are the emulator's own */
static inline emu_fiber *emu_me(void) { return (emu_fiber *)emu_self; }
extern uint32_t emu_warp_epoch[32];  /* one more at every __syncwarp of the block's warp */
bool emu_is_parameter(const void *); /* of the kernel that runs */
/* false: emu_error says why */
bool emu_run_grid(const char *name, dim3 grid, dim3 block, size_t shared,
                  void (*call)(const void *), const void *params, size_t bytes);
[[noreturn]] void emu_leave_for_good(void);
void emu_say(const char *file, int line, const char *format, va_list);

/* ---- shadow.cpp ---- */
void *emu_memory_take(size_t);
bool emu_memory_give(void *, size_t *bytes);
void emu_memory_guard(bool open);
bool emu_memory_holds(const void *, size_t);
/* The next work of a stream begins, in an epoch of its own; of other streams it comes after what is
 * `known`, which stays where it is until the next one begins. */
void emu_work_begin(int stream, long place, const emu_known *known);
/* A copy, a fill or a stand-in touches the device's memory. false: it races with another stream's
 * work, and emu_error says so. */
bool emu_memory_reads(const char *what, const void *, size_t);
bool emu_memory_writes(const char *what, const void *, size_t);
void emu_shared_open(size_t dynamic); /* of a launch */
void emu_shared_fresh(void);          /* of a block: nobody has written it */
#endif
