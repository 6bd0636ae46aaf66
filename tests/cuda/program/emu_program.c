/* Linked into build/emu/tessera, the program with an emulated GPU: what goes wrong on it is said by
 * the environment.
 *   EMU_FAIL_AFTER  the n-th call of the runtime fails, and the device is lost
 *   EMU_MEMORY      bytes of device memory
 *   EMU_CALLS       a file that gets the number of calls when the program ends */
#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>

static void write_calls(void)
{
    FILE *f = fopen(getenv("EMU_CALLS"), "w");
    if (!f) return;
    fprintf(f, "%ld\n", emu_stats_read(0).calls);
    fclose(f);
}

static long read_number(const char *name)
{
    const char *text = getenv(name);
    return text ? strtol(text, NULL, 10) : 0;
}

__attribute__((constructor)) static void read_environment(void)
{
    emu_set((emu_options){.fail_after = (int)read_number("EMU_FAIL_AFTER"),
                          .fail_with = cudaErrorIllegalAddress,
                          .memory = (size_t)read_number("EMU_MEMORY")});
    if (getenv("EMU_CALLS")) atexit(write_calls);
}
