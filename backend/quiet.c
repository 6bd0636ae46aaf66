/* Threads without signals. */
#include "backend/quiet.h"

#include <pthread.h>

static sigset_t keep_signals_out(void)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT};
    sigset_t all, was;
    sigfillset(&all);
    for (unsigned i = 0; i < sizeof faults / sizeof *faults; i++) sigdelset(&all, faults[i]);
    pthread_sigmask(SIG_SETMASK, &all, &was);
    return was;
}

/* The team is asked every time: a smaller one in between, of the host, may have ended threads,
 * which come back with the mask of the caller. */
sigset_t ts_quiet_begin(void)
{
    sigset_t was = keep_signals_out();
#pragma omp parallel
    keep_signals_out();
    return was;
}

void ts_quiet_end(sigset_t was) { pthread_sigmask(SIG_SETMASK, &was, NULL); }
