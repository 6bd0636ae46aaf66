#include "tests/comma_locale.h"

#include "tests/testing.h"

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_set(void)
{
    return setlocale(LC_ALL, "de_DE.UTF-8") && !strcmp(localeconv()->decimal_point, ",");
}

bool comma_locale_set(void)
{
    char command[1024], *folder;
    if (is_set()) return true;
    folder = testing_tmp();
    snprintf(command, sizeof command, "localedef -i de_DE -f UTF-8 %s/de_DE.UTF-8 >%s/said 2>&1",
             folder, folder);
    bool made = system(command) == 0;
    setenv("LOCPATH", folder, 1);
    bool set = is_set();
    if (!set)
        printf("skip: no locale with a decimal comma: %s\n",
               made ? "setlocale does not take the one made" : "localedef can not make de_DE");
    free(folder);
    return set;
}

void comma_locale_reset(void) { setlocale(LC_ALL, "C"); }
