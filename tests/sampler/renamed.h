/* Weights of a directory as other programs keep them: under other names, fused as these have it. */
#ifndef RENAMED_H
#define RENAMED_H
#include "weights/naming.h"

/* A component's file in the naming, its names with `other` in the place of `prefix`; those without
 * the prefix are left out. naming NULL: the names stay. The new file's path, malloc'd. */
char *renamed_weights(const char *file, const char *prefix, const ts_naming *naming,
                      const char *other);
#endif
