/* Judgement of measured gains. */
#include "cli/bench/bench_doubt.h"

#include <stdio.h>

#define TAKEN 0.1    /* share of the time that may be others' */
#define SLACK (1.02) /* above what arithmetic allows */

static int is_busy(const ts_measured *m)
{
    return m->taken >= 0 ? m->taken > TAKEN : m->load > m->cores;
}

int ts_doubts(const ts_measured *m)
{
    int doubts = is_busy(m) ? TS_DOUBT_BUSY : 0;
    if (m->gain <= 0) return doubts;
    if (m->most > 0 && m->gain > m->most * SLACK) doubts |= TS_DOUBT_IMPOSSIBLE;
    if (m->apart > m->difference) doubts |= TS_DOUBT_APART;
    return doubts;
}

const char *ts_doubt_text(const ts_measured *m, int doubts, char out[TS_DOUBT_TEXT])
{
    int n = 0;
    *out = 0;
    if (doubts & TS_DOUBT_BUSY && m->taken >= 0)
        n += snprintf(out, TS_DOUBT_TEXT, "the machine was busy: others took %.0f%% of its time",
                      100 * m->taken);
    else if (doubts & TS_DOUBT_BUSY)
        n += snprintf(out, TS_DOUBT_TEXT, "the machine was busy: a load of %.1f on %d core%s",
                      m->load, m->cores, m->cores == 1 ? "" : "s");
    if (doubts & TS_DOUBT_IMPOSSIBLE)
        n += snprintf(out + n, (size_t)(TS_DOUBT_TEXT - n),
                      "%s%.2fx is more than the %.2fx that arithmetic allows", n ? "; " : "",
                      m->gain, m->most);
    if (doubts & TS_DOUBT_APART)
        snprintf(out + n, (size_t)(TS_DOUBT_TEXT - n),
                 "%sturns lie %.3g s apart, the difference is %.3g s", n ? "; " : "", m->apart,
                 m->difference);
    return out;
}
