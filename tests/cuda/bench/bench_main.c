/* usage: bench_cuda [--tiny] [--only SECTIONS] [--json FILE] [--torch FILE] */
#include "tests/cuda/bench/bench.h"

#include <string.h>

int main(int n, char **arg)
{
    bench_options o = {.say = stdout};
    for (int i = 1; i < n; i++) {
        const char **to = !strcmp(arg[i], "--json")    ? &o.json
                          : !strcmp(arg[i], "--torch") ? &o.torch
                          : !strcmp(arg[i], "--only")  ? &o.only
                                                       : NULL;
        if (!strcmp(arg[i], "--tiny")) {
            o.tiny = true;
        } else if (to && i + 1 < n) {
            *to = arg[++i];
        } else {
            fprintf(stderr,
                    "usage: bench_cuda [--tiny] [--only SECTIONS] [--json FILE] [--torch FILE]\n");
            return 2;
        }
    }
    return bench_cuda(&o);
}
