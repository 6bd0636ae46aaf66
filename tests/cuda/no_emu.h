/* The emulator's face where CUDA is the real one: what tests turn and ask does nothing. C and
 * C++. */
#ifndef NO_EMU_H
#define NO_EMU_H
#include <cuda_runtime_api.h>

#ifndef EMU_CUDA_RUNTIME_API_H
#define ON_GPU 1
typedef enum { EMU_FORWARD, EMU_BACKWARD, EMU_SHUFFLED } emu_order;
typedef struct {
    int late, guard;
    emu_order order;
    unsigned seed;
    size_t memory;
    int shared, fail_after, fail_with, devices, major, minor, processors;
} emu_options;
typedef struct {
    long launches, blocks, collectives, barriers, mma, ldmatrix, ldmatrix_conflicts, cp_async,
        pageable, checked, calls;
} emu_stats;
static inline void emu_set(emu_options o) { (void)o; }
static inline const char *emu_error(void) { return ""; }
static inline long emu_open_handles(void) { return 0; }
static inline emu_stats emu_stats_read(int reset)
{
    emu_stats none = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    (void)reset;
    return none;
}
#else
#define ON_GPU 0
#endif
#endif
