/* Calls of oneDNN that no signal may interrupt. Kernels of its matrix products (2.6, f32 with AVX2)
 * have the stack pointer point into a workspace on the heap while they run: the frame of a signal's
 * handler, a kilobyte and more, is then written over whatever lies before it. */
#ifndef TS_QUIET_H
#define TS_QUIET_H
#include <signal.h>

/* Keeps signals, but for those of faults, from the calling thread until ts_quiet_end, and for good
 * from the threads that OpenMP gives it; others of the process, if it has any, are handed them. */
sigset_t ts_quiet_begin(void);
void ts_quiet_end(sigset_t); /* of ts_quiet_begin */
#endif
