/* What files of ours say about themselves, whatever their kind. */
#include "cli/metadata.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Eight bytes of header length, then its brace. */
bool ts_is_safetensors(const char *path)
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

ts_status ts_metadata_read(ts_ctx *ctx, const char *path, char **json)
{
    ts_bag *bag = NULL;
    *json = NULL;
    if (!ts_is_safetensors(path)) return ts_output_info(ctx, path, json);
    ts_status st = ts_bag_read(ctx, path, &bag);
    const char *text = st ? NULL : ts_bag_meta_get(bag, "tessera");
    if (text) *json = strdup(text);
    ts_bag_free(bag);
    return st;
}

char *ts_metadata_field(const char *json, const char *name)
{
    cJSON *j = json ? cJSON_Parse(json) : NULL;
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(j, name));
    char *copy = text ? strdup(text) : NULL;
    cJSON_Delete(j);
    return copy;
}

char *ts_metadata_find(const char *from, const char *name)
{
    const char *slash = strrchr(from, '/');
    char *beside = NULL, *found = NULL;
    if (!strchr(name, '/') && slash &&
        asprintf(&beside, "%.*s/%s", (int)(slash - from), from, name) < 0)
        beside = NULL;
    if (beside) found = realpath(beside, NULL);
    free(beside);
    return found ? found : realpath(name, NULL);
}
