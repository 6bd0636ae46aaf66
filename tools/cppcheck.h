/* What cppcheck has to know of other libraries. */
#define cJSON_ArrayForEach(e, a) for (e = (a)->child; e; e = e->next)
