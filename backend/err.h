/* The sentence of a failure and the way it takes: made once, where the numbers are known, in the
 * one slot that the caller owns, and forwarded. */
#ifndef TS_ERR_H
#define TS_ERR_H
#include "backend/base.h"

typedef struct {
    ts_status code;
    char text[512];
} ts_err;
/* Writes the sentence (what, which, got, wanted) into the slot and returns `code`. One line:
 * control characters of names become '?'. */
ts_status ts_fail(ts_err *, ts_status code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The one macro with control flow: needs a local `ts_status st` and a label `done`. */
#define TRY(call)                              \
    do {                                       \
        if ((st = (call)) != TS_OK) goto done; \
    } while (0)
#ifdef __clang_analyzer__
/* It sees one file at a time, and is told here what this function never returns. */
static inline ts_status ts_fail_never_ok(ts_status st) { return st ? st : TS_EFAIL; }
#define ts_fail(...) ts_fail_never_ok((ts_fail)(__VA_ARGS__))
#endif
#endif
