/* Weights and inputs from an integer hash, so that golden numbers need no files: FNV-1a of the
 * tensor name, one 32-bit mix an element. */
#ifndef GOLDEN_H
#define GOLDEN_H
#include "weights/bag.h"
double golden_u(const char *name, uint32_t j); /* -1..1 */
/* by the rules for names */
void golden_weight(const char *name, int nd, const long *dim, float *out);
/* name "input.x"; scale 1.7, pixels 1.0 */
void golden_input(const char *name, double scale, long n, float *out);
/* dims as long, ended by 0L: adds the tensor with golden weights */
void golden_put(ts_bag *, const char *name, ...);
/* the same with plain u (embeddings, relative biases) */
void golden_put_plain(ts_bag *, const char *name, ...);
/* NAME.weight [out, in] and NAME.bias */
void golden_put_linear(ts_bag *, long out, long in, const char *name, ...)
    __attribute__((format(printf, 4, 5)));
/* Fails the Check test unless the first six, last two, mean and rms agree to `tol` absolute. */
void golden_expect(const char *what, const float *x, long n, const double first[6],
                   const double last[2], double mean, double rms, double tol);
#endif
