/* Opens what flags and environment ask for. The only file that looks into the environment for
 * folders. */
#include "cli/cli.h"

#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

ts_status ts_cli_fail(ts_cli *c, ts_status code, const char *format, ...)
{
    char text[sizeof c->error]; /* the arguments may point into the slot */
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    memcpy(c->error, text, sizeof text);
    return code;
}

ts_status ts_cli_stopped(ts_cli *c)
{
    return atomic_load(c->stop) ? ts_cli_fail(c, TS_ESTOP, "stopped") : TS_OK;
}

/* base + below, malloc'd, when it is a model folder; else NULL. */
static char *model_at(const char *base, const char *below)
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
 * so that an installed tree can be moved, then as compiled in. */
static char *default_model(void)
{
    char exe[PATH_MAX], *found = NULL;
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    char *slash = n > 0 ? memrchr(exe, '/', (size_t)n) : NULL;
    if (slash) {
        *slash = 0;
        found = model_at(exe, "/weights/default");
        if (!found) found = model_at(exe, "/../share/tessera/default");
    }
    return found ? found : model_at(TS_DEFAULT_INSTALLED, "");
}

/* As huggingface_hub finds it: HF_HUB_CACHE, $HF_HOME/hub, the user's cache folder. */
static char *hub(void)
{
    static const struct {
        const char *variable, *below;
    } places[] = {{"HF_HUB_CACHE", ""},
                  {"HF_HOME", "/hub"},
                  {"XDG_CACHE_HOME", "/huggingface/hub"},
                  {"HOME", "/.cache/huggingface/hub"}};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const char *base = getenv(places[i].variable);
        char *folder = NULL;
        if (base && *base)
            return asprintf(&folder, "%s%s", base, places[i].below) < 0 ? NULL : folder;
    }
    return NULL;
}

ts_status ts_cli_open(ts_cli *c, const char *precision)
{
    char *standard = default_model(), *cache = hub();
    const ts_flag_value *v = c->flags.value;
    ts_options o = ts_options_default();
    ts_env env = {
        .progress = ts_screen_event, .warn = ts_screen_warn, .user = &c->screen, .stop = c->stop};
    if (precision) o.precision = precision;
    if (v[TS_F_PRECISION].set) o.precision = v[TS_F_PRECISION].text;
    if (v[TS_F_THREADS].set) o.threads = (int)v[TS_F_THREADS].whole;
    if (v[TS_F_CPU].set) o.cpu = v[TS_F_CPU].text;
    if (v[TS_F_MEMORY].set) o.memory = v[TS_F_MEMORY].wide;
    o.profile = ts_cli_set(c, TS_F_PROFILE);
    o.default_model = standard;
    o.hub = cache;
    ts_status st = ts_open(&o, &env, &c->ctx);
    free(standard);
    free(cache);
    return st;
}

void ts_cli_close(ts_cli *c)
{
    ts_model_close(c->model);
    ts_close(c->ctx);
    c->model = NULL;
    c->ctx = NULL;
}

/* Eight bytes of header length, then its brace. */
bool ts_cli_is_safetensors(const char *path)
{
    unsigned char head[9];
    struct stat s;
    FILE *f = stat(path, &s) == 0 && S_ISREG(s.st_mode) ? fopen(path, "rb") : NULL;
    if (!f) return false;
    uint64_t length = 0;
    bool whole = fread(head, 1, sizeof head, f) == sizeof head;
    fclose(f);
    for (int i = 7; whole && i >= 0; i--) length = length << 8 | head[i];
    return whole && head[8] == '{' && length >= 2 && length <= (uint64_t)s.st_size - 8;
}

ts_status ts_cli_metadata(ts_cli *c, const char *path, char **json)
{
    ts_bag *bag = NULL;
    *json = NULL;
    if (!ts_cli_is_safetensors(path)) return ts_output_info(c->ctx, path, json);
    ts_status st = ts_bag_read(c->ctx, path, &bag);
    const char *text = st ? NULL : ts_bag_meta_get(bag, "tessera");
    if (text) *json = strdup(text);
    ts_bag_free(bag);
    return st;
}

const char *ts_cli_bytes(double x, char out[32])
{
    static const char *const unit[] = {"bytes", "kB", "MB", "GB", "TB"};
    int i = 0;
    for (; x >= 999.5 && i < 4; i++) x /= 1000;
    snprintf(out, 32, x < 10 && i ? "%.1f %s" : "%.0f %s", x, unit[i]);
    return out;
}

void ts_cli_row(const char *label, const char *format, ...)
{
    va_list list;
    printf("%-12s ", label);
    va_start(list, format);
    vprintf(format, list);
    va_end(list);
    putchar('\n');
}
