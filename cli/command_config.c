/* The command config: what the user's configuration file says. */
#include "cli/cli.h"

#include <stdlib.h>

ts_status ts_cli_config(ts_cli *c)
{
    char *path = ts_user_config_path();
    if (c->config)
        ts_user_config_print(c->config, stdout);
    else if (path)
        printf("%s is not there\n", path);
    else
        puts("TESSERA_CONFIG is empty, or no folder of the user is known: no configuration");
    free(path);
    return TS_OK;
}
