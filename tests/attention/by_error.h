/* Searches that compare rankings and forms of the rest by error, against their definition in
 * double, on a backend of testing_open. */
#ifndef BY_ERROR_H
#define BY_ERROR_H
#include "backend/tensor.h"

/* Choices, plans, and what sparse calls give with them: step 1 searches; at step 4 the tokens are
 * others, and what is fresh follows them. */
void by_error_choices(const char *backend);
/* a form for all heads, of policies of every kind */
enum { BY_ERROR_FORMS = 15 };
void by_error_form(const char *backend, ts_dtype, int i);
/* a step in between is not ranked anew */
void by_error_every_third(const char *backend);
/* stopped after two steps and gone on: the bytes of a run in one go */
void by_error_interrupted(const char *backend);
/* what a damaged state says of heads */
void by_error_damaged(const char *backend);
#endif
