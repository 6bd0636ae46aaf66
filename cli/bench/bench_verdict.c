/* Which policies are worth their likeness. One beats another that it is neither slower nor further
 * away than, beyond what eyes and clocks tell apart, and better than in one of both:
 *
 *   a beats b:  saved_a > saved_b - 2%  and  psnr_a > psnr_b - 1 dB,
 *               and saved_a > saved_b + 2%  or  psnr_a > psnr_b + 1 dB */
#include "cli/bench/bench_verdict.h"

#include <math.h>
#include <stdio.h>

#define SAME_TIME 0.02
#define SAME_PICTURE 1.0 /* dB */
enum { WORTH = 6 };      /* lines for those that nothing beats */

static bool saves_more(const ts_candidate *a, const ts_candidate *b)
{
    return a->saved > b->saved + SAME_TIME;
}

/* Frames that are equal are nearer than any others, and as near as each other. */
static bool looks_nearer(const ts_candidate *a, const ts_candidate *b)
{
    return isinf(b->psnr) ? false : a->psnr > b->psnr + SAME_PICTURE;
}

static bool beats(const ts_candidate *a, const ts_candidate *b)
{
    if (isnan(a->psnr) || isnan(b->psnr) || saves_more(b, a) || looks_nearer(b, a)) return false;
    return saves_more(a, b) || looks_nearer(a, b);
}

/* The one that beats it and is nearest; -1: none. */
static int find_better(const ts_candidate *c, int n, int i)
{
    int best = -1;
    for (int k = 0; k < n; k++)
        if (beats(c + k, c + i) && (best < 0 || c[k].psnr > c[best].psnr)) best = k;
    return best;
}

static const char *change_text(double psnr)
{
    return isinf(psnr)  ? "changes nothing"
           : psnr >= 40 ? "changes nothing that is easily seen"
           : psnr >= 30 ? "changes small things"
           : psnr >= 20 ? "changes the picture visibly"
                        : "changes the picture strongly";
}

static void say_worth(const ts_candidate *c, char *out)
{
    int n;
    if (c->saved > SAME_TIME)
        n = snprintf(out, TS_VERDICT_TEXT, "%.200s saves %.0f%% of denoising", c->name,
                     100 * c->saved);
    else if (c->saved < -SAME_TIME)
        n = snprintf(out, TS_VERDICT_TEXT, "%.200s costs %.0f%% more", c->name, -100 * c->saved);
    else
        n = snprintf(out, TS_VERDICT_TEXT, "%.200s saves nothing", c->name);
    if (isnan(c->psnr)) return;
    n += snprintf(out + n, (size_t)(TS_VERDICT_TEXT - n), " and %s", change_text(c->psnr));
    if (!isinf(c->psnr)) snprintf(out + n, (size_t)(TS_VERDICT_TEXT - n), " (%.0f dB)", c->psnr);
}

static void say_beaten(const ts_candidate *c, const ts_candidate *by, char *out)
{
    int n = snprintf(out, TS_VERDICT_TEXT, "%.200s is beaten by %.200s, which ", c->name, by->name);
    size_t room = (size_t)(TS_VERDICT_TEXT - n);
    if (!looks_nearer(by, c))
        snprintf(out + n, room, "is as near and saves %.0f%% instead of %.0f%%", 100 * by->saved,
                 100 * c->saved);
    else if (isinf(by->psnr))
        snprintf(out + n, room, "saves %s and changes nothing",
                 saves_more(by, c) ? "more" : "as much");
    else
        snprintf(out + n, room, "saves %s and is %.1f dB nearer",
                 saves_more(by, c) ? "more" : "as much", by->psnr - c->psnr);
}

/* Of those that nothing beats, the one that saves most after `last`; -1: there is no more. */
static int next_worth(const ts_candidate *c, int n, int last)
{
    int next = -1;
    for (int i = 0; i < n; i++) {
        bool behind = last < 0 || c[i].saved < c[last].saved ||
                      (c[i].saved == c[last].saved && i > last);
        if (i != last && behind && find_better(c, n, i) < 0 &&
            (next < 0 || c[i].saved > c[next].saved))
            next = i;
    }
    return next;
}

bool ts_verdict_stands(const ts_candidate *c, int n, int i)
{
    return !isnan(c[i].psnr) && find_better(c, n, i) < 0;
}

static bool has_more_gain(const ts_candidate *a, const ts_candidate *b)
{
    return a->saved > b->saved || (a->saved == b->saved && a->psnr > b->psnr);
}

static bool is_nearer_dense(const ts_candidate *a, const ts_candidate *b)
{
    return a->psnr > b->psnr || (a->psnr == b->psnr && a->saved > b->saved);
}

/* The best of those that save so much and are so near; -1: there is none. */
static int best_beyond(const ts_candidate *c, int n, double saved, double psnr,
                       bool better(const ts_candidate *, const ts_candidate *))
{
    int best = -1;
    for (int i = 0; i < n; i++)
        if (c[i].saved >= saved && c[i].psnr >= psnr && (best < 0 || better(c + i, c + best)))
            best = i;
    return best;
}

static int say_level(const ts_candidate *c, int i, int last, bool by_speed, char *out, int at)
{
    size_t room = at < TS_VERDICT_TEXT ? (size_t)(TS_VERDICT_TEXT - at) : 0;
    if (i < 0) return snprintf(out + at, room, "none");
    if (i == last) return snprintf(out + at, room, "the same");
    if (by_speed)
        return snprintf(out + at, room, "%.120s (saves %.0f%%)", c[i].name, 100 * c[i].saved);
    if (isinf(c[i].psnr)) return snprintf(out + at, room, "%.120s (equal)", c[i].name);
    return snprintf(out + at, room, "%.120s (%.0f dB)", c[i].name, c[i].psnr);
}

int ts_verdict_levels(const ts_candidate *c, int n, char line[TS_VERDICT_LEVELS][TS_VERDICT_TEXT])
{
    static const double likeness[] = {40, 30, 20}, saved[] = {0.1, 0.25, 0.5};
    int compared = 0, at[2], last[2] = {-1, -1};
    for (int i = 0; i < n; i++) compared += !isnan(c[i].psnr);
    if (compared < 2) return 0;
    at[0] = snprintf(line[0], TS_VERDICT_TEXT, "fastest");
    at[1] = snprintf(line[1], TS_VERDICT_TEXT, "nearest");
    for (int k = 0; k < 3; k++) {
        int fast = best_beyond(c, n, SAME_TIME, likeness[k], has_more_gain),
            near = best_beyond(c, n, saved[k], -INFINITY, is_nearer_dense);
        at[0] += snprintf(line[0] + at[0], (size_t)(TS_VERDICT_TEXT - at[0]),
                          k ? "; %.0f dB: " : " at %.0f dB and more: ", likeness[k]);
        at[0] += say_level(c, fast, last[0], true, line[0], at[0]);
        at[1] += snprintf(line[1] + at[1], (size_t)(TS_VERDICT_TEXT - at[1]),
                          k ? "; %.0f%%: " : " that saves %.0f%% and more: ", 100 * saved[k]);
        at[1] += say_level(c, near, last[1], false, line[1], at[1]);
        last[0] = fast;
        last[1] = near;
    }
    return TS_VERDICT_LEVELS;
}

int ts_verdict(const ts_candidate *c, int n, char line[TS_VERDICT_LINES][TS_VERDICT_TEXT])
{
    int lines = 0, worth = 0, beaten = 0, left;
    for (int i = -1; (i = next_worth(c, n, i)) >= 0; worth++)
        if (worth < WORTH) say_worth(c + i, line[lines++]);
    left = n - worth;
    for (int i = 0; i < n && lines < TS_VERDICT_LINES - 1; i++) {
        int better = find_better(c, n, i);
        if (better < 0) continue;
        say_beaten(c + i, c + better, line[lines++]);
        beaten++;
    }
    if (worth > WORTH || left > beaten) {
        int k = snprintf(line[lines], TS_VERDICT_TEXT, "not named here: ");
        size_t room = (size_t)(TS_VERDICT_TEXT - k);
        if (worth > WORTH)
            k += snprintf(line[lines] + k, room, "%d more that nothing beats%s", worth - WORTH,
                          left > beaten ? ", " : "");
        if (left > beaten)
            snprintf(line[lines] + k, (size_t)(TS_VERDICT_TEXT - k), "%d more that are beaten",
                     left - beaten);
        lines++;
    }
    return lines;
}
