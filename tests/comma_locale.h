/* A locale that writes one half as 0,5, as the host program of a library may have set it. */
#ifndef COMMA_LOCALE_H
#define COMMA_LOCALE_H
#include <stdbool.h>

/* Sets it for the process; false: this machine has none and can not make one, and why is printed.
 * Made in a folder of the test's. */
bool comma_locale_set(void);
void comma_locale_reset(void); /* the C locale again */
#endif
