/* Fixtures of tests/fixtures, rendered by the public API on a device of testing_open. */
#ifndef PIPELINE_H
#define PIPELINE_H
#include <stdbool.h>

enum {
    PIPELINE_FIXTURES = 25,
    PIPELINE_SPARSE = 20 /* the first of those with a policy */
};
extern const char *const pipeline_fixtures[PIPELINE_FIXTURES];
/* In f32: text states, the latents after every step, plans, the final latents, frames are what
 * diffusers computed; the test fails if not. sparse: by the fixture's policy, else dense. stream:
 * no matrix stays; every group comes anew whenever it is entered. */
void pipeline_render(const char *fixture, const char *backend, bool sparse, bool stream);
/* The same of a variant of the case, from 0 on: other files that give the same numbers. -1: the
 * case itself. */
void pipeline_render_variant(const char *fixture, int variant, const char *backend, bool sparse,
                             bool stream);
/* The same of the case with a component from a file, by its name in metadata. */
void pipeline_render_files(const char *fixture, const char *component, const char *file,
                           const char *backend, bool stream);
/* Ids and states of the prompt alone. */
void pipeline_encode(const char *fixture, int variant, const char *backend);
/* In bf16, dense: relative L2 between the final latents and those of diffusers in f32. level: of a
 * CPU. */
double pipeline_error_bf16(const char *fixture, const char *backend, const char *level);
#endif
