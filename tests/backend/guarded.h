/* Tensors in host memory with bytes around and between their rows that must not change, and calls
 * of one operation at several CPU levels. */
#ifndef GUARDED_H
#define GUARDED_H
#include "tests/testing.h"

/* [rows, C] with rows ld >= C apart, of numbers scale * (-1..1) + shift by the hash of `name`; not
 * aligned beyond its type below a MiB, to 64 bytes above. Lives until guarded_free. */
ts_tensor guarded_tensor(ts_dtype, long rows, long C, long ld, const char *name, double scale,
                         double shift);
ts_tensor guarded_twin(ts_tensor); /* a second one with the same contents */
/* fails the test where a byte outside the rows changed */
void guarded_check(ts_tensor, const char *what);
void guarded_free(void); /* all of them */

/* Elements as f64, and exact comparison of the rows. */
double guarded_at(ts_tensor, long row, long c);
void guarded_set(ts_tensor, long row, long c, float);
void guarded_same(ts_tensor a, ts_tensor b, const char *what);

/* Levels above "ref" that this machine has; NULL ends. The first call prints a line for each that
 * it lacks. */
const char *const *guarded_levels(void);
/* `f` on a device of that level and as many threads. */
void guarded_on(const char *level, int threads, ts_status (*f)(ts_device *, void *user),
                void *user);
#endif
