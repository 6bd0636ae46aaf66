/* One evaluation of a transformer as the sampler asks for it: what goes in, what came out, what
 * taps saw. */
#ifndef EVALUATE_H
#define EVALUATE_H
#include "dit/dit.h"
#include "tests/testing.h"

enum { SAMPLES = 2 };
typedef struct {
    ts_host states; /* what a bag of the run's inputs will hold */
    long length;    /* ts_dit_inputs.text_rows; the last text's counts */
} evaluation_text;
typedef struct {
    ts_dit *dit;
    const float *x; /* host [C, F, H, W] */
    ts_bag *noise;  /* what x is of; NULL: the caller's own */
    long latent[4];
    evaluation_text text[SAMPLES];
    float t[SAMPLES];
    /* samples run slots 0, 1; the same evaluation `steps` times, numbered from 1 */
    int texts, nt, samples, steps;
    int trow, trow_sel;
    /* of the picture in pixels, for classes that are told; 0: not said */
    int height, width;
    const uint8_t *sel; /* host [N]; NULL: none */
    /* of the inputs, beside the texts; ts_dit_watch */
    ts_host latents, picture;
    double guidance;
    const ts_dit_hook *hook;
    float *v[SAMPLES]; /* out: host [out_channels, F, H, W], evaluation_free */
    /* out when not NULL: tap.* of sample 0, negative_tap.* of sample 1 */
    ts_bag *taps;
    ts_attn attn;
    /* of the arena, after prepare and after the last step; in the real run */
    size_t used[2], peak[2];
} evaluation;

/* Opens tests' folder DIR (config.json and weights) by the class that its config names. */
ts_dit *evaluation_open(ts_ctx *, const char *dir, int first_layer);
/* Reads noise, states and first timestep of a fixture; `dir`: the component's folder. The states
 * are those of *expected (ts_bag_free after the last run). */
void evaluation_of_fixture(evaluation *, ts_ctx *, const char *fixture, const char *dir,
                           ts_bag **expected);
/* A phase for testing_run, user: evaluation. */
ts_status evaluation_phase(ts_ctx *, void *user);
/* Counting run and real run; returns the status of the first that fails. */
ts_status evaluation_try(ts_ctx *, evaluation *);
/* Fails unless got and want, n numbers of `what`, agree as far as the oracle agrees with itself. */
void evaluation_expect(const char *fixture, const char *what, const float *got, const float *want,
                       long n);
/* Evaluates a fixture with its taps and hands every sample to `compare`; `branch` is the prefix of
 * the sample's taps. Fails on a warning. */
void evaluation_compare(const char *backend, const char *fixture, const char *dir,
                        void (*compare)(const evaluation *, const ts_bag *expected,
                                        const char *fixture, int sample, const char *branch));
void evaluation_free(evaluation *); /* outputs, noise and the model */
#endif
