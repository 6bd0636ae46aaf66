/* Sums of counters, and what sparsity was worth. */
#include "attention/counters.h"

long ts_attn_calls(const ts_attn_counters *c)
{
    return c->dense + c->searched + c->again + c->sparse;
}

double ts_attn_seconds(const ts_attn_counters *c)
{
    return c->dense_s + c->searched_s + c->again_s + c->sparse_s;
}

double ts_attn_work(const ts_attn_counters *c)
{
    return (double)(c->dense + c->searched) + 0.5 * (double)c->again + c->read + c->tried;
}

double ts_attn_gain(const ts_attn_counters *c, double *measured)
{
    double calls = (double)ts_attn_calls(c), work = ts_attn_work(c), all = ts_attn_seconds(c);
    double one = c->dense      ? c->dense_s / (double)c->dense
                 : c->searched ? c->searched_s / (double)c->searched
                               : 0;
    *measured = all > 0 ? one * calls / all : 0;
    return work > 0 ? calls / work : 1;
}
