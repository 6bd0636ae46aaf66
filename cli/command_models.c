/* The command models: which models are there, of which kind, whether they are complete and fit this
 * machine; and how to get others. Nothing is downloaded. */
#include "backend/number.h"
#include "cli/cli.h"
#include "cli/open_model.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Repositories in the layout and of the pipelines that are read. */
static const char *const offers[] = {"Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
                                     "Wan-AI/Wan2.1-T2V-14B-Diffusers",
                                     "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers",
                                     "Wan-AI/Wan2.1-I2V-14B-720P-Diffusers",
                                     "Wan-AI/Wan2.1-FLF2V-14B-720P-diffusers",
                                     "Wan-AI/Wan2.2-TI2V-5B-Diffusers",
                                     "Wan-AI/Wan2.2-T2V-A14B-Diffusers",
                                     "Wan-AI/Wan2.2-I2V-A14B-Diffusers",
                                     "THUDM/CogVideoX-2b",
                                     "THUDM/CogVideoX-5b",
                                     "THUDM/CogVideoX1.5-5B",
                                     "THUDM/CogVideoX-5b-I2V",
                                     "THUDM/CogVideoX1.5-5B-I2V",
                                     "PixArt-alpha/PixArt-XL-2-512x512",
                                     "PixArt-alpha/PixArt-XL-2-1024-MS",
                                     "PixArt-alpha/PixArt-Sigma-XL-2-512-MS",
                                     "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS",
                                     "hunyuanvideo-community/HunyuanVideo"};
enum { OFFERS = sizeof offers / sizeof *offers };

typedef struct {
    ts_cli *c;
    cJSON *list; /* of --json */
    int models;
    bool there[OFFERS];
} listing;

static double sum_bytes(const cJSON *model)
{
    double bytes = 0;
    const cJSON *part;
    cJSON_ArrayForEach(part, cJSON_GetObjectItemCaseSensitive(model, "components"))
    {
        const cJSON *b = cJSON_GetObjectItemCaseSensitive(part, "bytes");
        if (b) bytes += b->valuedouble;
    }
    return bytes;
}

static double largest_phase(const ts_estimate *e)
{
    size_t most = e->text_bytes > e->denoise_bytes ? e->text_bytes : e->denoise_bytes;
    return (double)(most > e->decode_bytes ? most : e->decode_bytes);
}

/* The model's description and what a run by its defaults needs; a sentence in `wrong` where it can
 * not be opened, is incomplete or does not fit. */
static cJSON *examine_model(ts_cli *c, const char *name, ts_estimate *e, char wrong[600])
{
    ts_model *m = NULL;
    ts_run *run = NULL;
    ts_request q;
    char *json = NULL;
    ts_status st = ts_model_open(c->ctx, name, &m);
    if (!st) st = ts_model_json(m, &json);
    if (!st) {
        ts_request_init(m, &q);
        ts_cli_any_images(m, &q);
        st = ts_run_open(m, &q, &run, e);
    }
    snprintf(wrong, 600, "%.599s", st ? ts_error(c->ctx) : "");
    ts_run_close(run);
    ts_model_close(m);
    cJSON *j = json ? cJSON_Parse(json) : NULL;
    free(json);
    return j;
}

static void list_model(listing *l, const char *name)
{
    ts_estimate e = {0};
    char wrong[600], size[TS_NUMBER_TEXT], need[TS_NUMBER_TEXT];
    cJSON *j = examine_model(l->c, name, &e, wrong);
    const char *pipeline = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(j, "pipeline"));
    for (int i = 0; i < OFFERS; i++) l->there[i] = l->there[i] || !strcmp(name, offers[i]);
    l->models++;
    if (l->list) {
        cJSON *one = cJSON_CreateObject();
        cJSON_AddStringToObject(one, "model", name);
        if (pipeline) cJSON_AddStringToObject(one, "pipeline", pipeline);
        if (j) cJSON_AddNumberToObject(one, "bytes", sum_bytes(j));
        if (!*wrong) cJSON_AddNumberToObject(one, "memory", largest_phase(&e));
        if (*wrong) cJSON_AddStringToObject(one, "error", wrong);
        cJSON_AddItemToArray(l->list, one);
    } else {
        printf("%s\n", name);
        if (pipeline) printf("  %s, %s of weights", pipeline, ts_bytes_text(sum_bytes(j), size));
        if (!*wrong)
            printf(", runs with %s by its defaults\n", ts_bytes_text(largest_phase(&e), need));
        else
            printf("%s%s\n", pipeline ? "; " : "  ", wrong);
    }
    cJSON_Delete(j);
}

static int order_model_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names of a folder's entries in order, malloc'd with its texts; *n 0: there are none. */
static char **read_names(const char *dir, int *n)
{
    char **name = NULL;
    DIR *d = opendir(dir);
    *n = 0;
    for (struct dirent *e; d && (e = readdir(d));) {
        char **more = e->d_name[0] == '.' ? NULL : realloc(name, (size_t)(*n + 1) * sizeof *name);
        if (!more) continue;
        name = more;
        if ((name[*n] = strdup(e->d_name))) ++*n;
    }
    if (d) closedir(d);
    if (*n) qsort(name, (size_t)*n, sizeof *name, order_model_names);
    return name;
}

static bool is_model_folder(const char *dir)
{
    char *index = NULL;
    bool there = asprintf(&index, "%s/model_index.json", dir) >= 0 && access(index, F_OK) == 0;
    free(index);
    return there;
}

/* models--ORG--NAME of a cache is ORG/NAME; other folders of a given one are models by their
 * model_index.json. */
static void list_folder(listing *l, const char *dir, bool cache)
{
    int n;
    char **name = read_names(dir, &n);
    for (int i = 0; i < n; i++) {
        char *path = NULL, *organisation = strncmp(name[i], "models--", 8) ? NULL : name[i] + 8,
             *rest = organisation ? strstr(organisation, "--") : NULL;
        bool made = cache ? rest && asprintf(&path, "%.*s/%s", (int)(rest - organisation),
                                             organisation, rest + 2) >= 0
                          : asprintf(&path, "%s/%s", dir, name[i]) >= 0 && is_model_folder(path);
        if (made) list_model(l, path);
        free(path);
        free(name[i]);
    }
    free(name);
}

static void print_offers(const listing *l)
{
    puts("\nOthers that can be run, and how to get them:");
    for (int i = 0; i < OFFERS; i++)
        if (!l->there[i])
            printf("  hf download %s --include '*.json' '*.safetensors' '*.model' '*.txt'\n",
                   offers[i]);
}

ts_status ts_cli_models(ts_cli *c)
{
    ts_status st = TS_OK;
    listing l = {.c = c};
    char *hub = ts_cli_hub(), *text = NULL;
    if (c->flags.words > TS_WORDS)
        TRY(ts_fail(&c->err, TS_EUSAGE, "models: %d folders, expected at most %d", c->flags.words,
                    TS_WORDS));
    for (int i = 0; i < c->flags.words; i++)
        if (access(c->flags.word[i], R_OK | X_OK))
            TRY(ts_fail(&c->err, TS_EMODEL, "models: %s: no folder that can be read",
                        c->flags.word[i]));
    TRY(ts_cli_open(c));
    if (ts_flag_set(&c->flags, TS_F_JSON)) l.list = cJSON_CreateArray();
    list_model(&l, "default");
    if (hub) list_folder(&l, hub, true);
    for (int i = 0; i < c->flags.words; i++)
        if (is_model_folder(c->flags.word[i]))
            list_model(&l, c->flags.word[i]);
        else
            list_folder(&l, c->flags.word[i], false);
    if (l.list) {
        text = cJSON_PrintUnformatted(l.list);
        puts(text ? text : "[]");
    } else {
        print_offers(&l);
    }
done:
    cJSON_Delete(l.list);
    free(text);
    free(hub);
    return st;
}
