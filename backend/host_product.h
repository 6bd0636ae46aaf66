/* A product of host matrices in f32, for what is computed beside the device. */
#ifndef TS_HOST_PRODUCT_H
#define TS_HOST_PRODUCT_H
/* y [m, n] += s b [m, k] a [k, n], all row-major without gaps, on the calling thread's OpenMP
 * threads. k 0: nothing. */
void ts_host_add_product(float *y, const float *b, const float *a, long m, long n, long k, float s);
#endif
