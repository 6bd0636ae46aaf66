/* Opens what flags and environment ask for. The only file that looks into the environment for
 * folders. */
#include "cli/cli.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

ts_status ts_cli_stopped(ts_cli *c)
{
    return __atomic_load_n(c->stop, __ATOMIC_RELAXED) ? ts_fail(&c->err, TS_ESTOP, "stopped")
                                                      : TS_OK;
}

/* base + below, malloc'd, when it is a model folder; else NULL. */
static char *find_model(const char *base, const char *below)
{
    char *folder = NULL, *index = NULL;
    if (asprintf(&folder, "%s%s", base, below) < 0) return NULL;
    if (asprintf(&index, "%s/model_index.json", folder) < 0) index = NULL;
    bool there = index && access(index, R_OK) == 0;
    free(index);
    if (there) return folder;
    free(folder);
    return NULL;
}

/* Beside the program in its build tree, else where `make install` put it: relative to the program,
 * so that an installed tree can be moved. NULL: where the library was told at its building. */
static char *find_default_model(void)
{
    char exe[PATH_MAX], *found = NULL;
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    char *slash = n > 0 ? memrchr(exe, '/', (size_t)n) : NULL;
    if (slash) {
        *slash = 0;
        found = find_model(exe, "/weights/default");
        if (!found) found = find_model(exe, "/../share/tessera/default");
    }
    return found;
}

/* A folder of the environment: ~ at its beginning is $HOME, as in Python's expanduser. malloc'd. */
static char *expand_home(const char *folder, const char *below)
{
    char *path = NULL;
    const char *home = getenv("HOME");
    bool tilde = folder[0] == '~' && (folder[1] == '/' || !folder[1]) && home && *home;
    int n = asprintf(&path, "%s%s%s", tilde ? home : "", folder + tilde, below);
    return n < 0 ? NULL : path;
}

/* As huggingface_hub finds it: HF_HUB_CACHE or its older name, $HF_HOME/hub, the user's cache
 * folder. */
char *ts_cli_hub(void)
{
    static const struct {
        const char *variable, *below;
    } places[] = {{"HF_HUB_CACHE", ""},
                  {"HUGGINGFACE_HUB_CACHE", ""},
                  {"HF_HOME", "/hub"},
                  {"XDG_CACHE_HOME", "/huggingface/hub"},
                  {"HOME", "/.cache/huggingface/hub"}};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const char *base = getenv(places[i].variable);
        if (base && *base) return expand_home(base, places[i].below);
    }
    return NULL;
}

ts_status ts_cli_open(ts_cli *c)
{
    char *standard = find_default_model(), *cache = ts_cli_hub();
    const ts_flag_value *v = c->flags.value;
    ts_options o = ts_options_default();
    ts_env env = {
        .progress = ts_screen_event, .warn = ts_screen_warn, .user = &c->screen, .stop = c->stop};
    if (v[TS_F_PRECISION].set) o.precision = v[TS_F_PRECISION].text;
    if (v[TS_F_THREADS].set) o.threads = (int)v[TS_F_THREADS].whole;
    if (v[TS_F_DEVICE].set) o.device = v[TS_F_DEVICE].text;
    if (v[TS_F_CPU].set) o.cpu = v[TS_F_CPU].text;
    if (v[TS_F_MEMORY].set) o.memory = v[TS_F_MEMORY].wide;
    if (v[TS_F_VRAM].set) o.vram = v[TS_F_VRAM].wide;
    o.profile = ts_flag_set(&c->flags, TS_F_PROFILE);
    o.default_model = standard;
    o.hub = cache;
    ts_status st = ts_open(&o, &env, &c->ctx);
    free(standard);
    free(cache);
    return st && !c->ctx ? ts_fail(&c->err, st, "no memory to begin with") : st;
}

void ts_cli_advise(ts_cli *c, const ts_run *run)
{
    char *advice = ts_run_advice(run);
    if (!advice) return;
    if (c->screen.mode == TS_SCREEN_JSON)
        ts_screen_table(&c->screen, "advice", advice);
    else
        ts_screen_note(&c->screen, "%s", advice);
    free(advice);
}

void ts_cli_close(ts_cli *c)
{
    ts_model_close(c->model);
    ts_close(c->ctx);
    ts_user_config_close(c->config);
    for (int i = 0; i < c->texts; i++) free(c->text[i]);
    free(c->text);
    c->text = NULL;
    c->texts = 0;
    c->config = NULL;
    c->model = NULL;
    c->ctx = NULL;
}
