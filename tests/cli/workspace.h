/* The folder of a test program, and what is looked for in texts. */
#ifndef WORKSPACE_H
#define WORKSPACE_H
#include <stdbool.h>
#include <stddef.h>

const char *scratch_open(void); /* makes it, returns its path; first of all */
/* of what is in it; the last four stay valid */
const char *scratch_path(const char *name);
void scratch_put(const char *name, const char *text);
bool scratch_has(const char *name);
int scratch_count(const char *name, const char *phrase); /* in a file; 0: there is none */
void scratch_clear(void);

void text_has(const char *text, const char *phrase); /* or the test fails */
void text_lacks(const char *text, const char *phrase);
int text_count(const char *text, const char *phrase);
#endif
