/* What a file or folder is and what it was made from: the library knows pictures, clips and
 * tensors, this file what the program itself writes as text. */
#include "cli/info.h"

#include "backend/number.h"
#include "backend/suffix.h"
#include "backend/utf8.h"
#include "cli/batch/batch.h"
#include "cli/metadata.h"
#include "cli/table.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

/* ---- texts of ours ---- */
/* Rows of a manifest's lines, by what was last said of each output. */
static void count_manifest(FILE *f, cJSON *j)
{
    char *line = NULL;
    size_t room = 0;
    double rows = 0;
    cJSON *last = cJSON_CreateObject();
    int done = 0, failed = 0, begun = 0;
    const cJSON *v;
    while (getline(&line, &room, f) > 0) {
        cJSON *one = cJSON_Parse(line);
        const cJSON *output = cJSON_GetObjectItemCaseSensitive(one, "output"),
                    *status = cJSON_GetObjectItemCaseSensitive(one, "status"),
                    *asked = cJSON_GetObjectItemCaseSensitive(one, "rows");
        if (cJSON_IsNumber(asked)) rows = asked->valuedouble;
        if (cJSON_IsString(output) && cJSON_IsString(status)) {
            cJSON_DeleteItemFromObjectCaseSensitive(last, output->valuestring);
            cJSON_AddStringToObject(last, output->valuestring, status->valuestring);
        }
        cJSON_Delete(one);
    }
    cJSON_ArrayForEach(v, last)
    {
        done += !strcmp(v->valuestring, "done");
        failed += !strcmp(v->valuestring, "failed");
        begun += !strcmp(v->valuestring, "started");
    }
    cJSON_AddNumberToObject(j, "rows", rows);
    cJSON_AddNumberToObject(j, "done", done);
    cJSON_AddNumberToObject(j, "failed", failed);
    cJSON_AddNumberToObject(j, "begun", begun);
    cJSON_Delete(last);
    free(line);
}

/* Of a document of JSON: measurements; false: none of ours. */
static bool describe_measurements(FILE *f, long size, cJSON *j)
{
    enum { MOST = 1 << 28 };
    static const char *const keys[] = {"date", "cpu", "width", "height", "frames", "steps"};
    char *text = size < MOST ? calloc(1, (size_t)size + 1) : NULL;
    size_t n = text ? fread(text, 1, (size_t)size, f) : 0;
    cJSON *all = n ? cJSON_Parse(text) : NULL;
    const cJSON *bench = cJSON_GetObjectItemCaseSensitive(all, "bench");
    bool ours = cJSON_IsString(bench) && cJSON_HasObjectItem(all, "tessera");
    if (ours) {
        cJSON_AddStringToObject(j, "kind", "measurements");
        cJSON_AddItemToObject(j, "bench", cJSON_Duplicate(bench, true));
        for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
            const cJSON *v = cJSON_GetObjectItemCaseSensitive(all, keys[i]);
            if (v) cJSON_AddItemToObject(j, keys[i], cJSON_Duplicate(v, true));
        }
    }
    cJSON_Delete(all);
    free(text);
    return ours;
}

/* A page, manifest or measurements of ours: an object with its kind; NULL: it is none. */
static cJSON *describe_own_text(const char *path)
{
    char head[1024] = "";
    struct stat s;
    FILE *f = fopen(path, "re");
    cJSON *j = NULL;
    if (!f || fstat(fileno(f), &s) || !S_ISREG(s.st_mode)) goto done;
    head[fread(head, 1, sizeof head - 1, f)] = 0;
    rewind(f);
    const char *title = strstr(head, "<title>tessera ");
    bool page = !strncasecmp(head, "<!doctype html>", 15) && title, known = page;
    j = cJSON_CreateObject();
    if (page) {
        cJSON_AddStringToObject(
            j, "kind", strncmp(title + 15, "bench", 5) ? "report of a batch" : "report of a bench");
    } else if (!strncmp(head, "{\"run\":", 7)) {
        cJSON_AddStringToObject(j, "kind", "manifest of a batch");
        count_manifest(f, j);
        known = true;
    } else if (head[0] == '{') {
        known = describe_measurements(f, (long)s.st_size, j);
    }
    if (known) {
        cJSON_AddNumberToObject(j, "bytes", (double)s.st_size);
    } else {
        cJSON_Delete(j);
        j = NULL;
    }
done:
    if (f) fclose(f);
    return j;
}

/* ---- what is printed ---- */
static void print_number(const char *key, double x)
{
    char text[TS_NUMBER_TEXT];
    ts_table_row(key, "%s", ts_number_text(x, text));
}

/* [16, 8, 8, 8] */
static void print_list(const char *key, const cJSON *list)
{
    char *text = cJSON_PrintUnformatted(list);
    ts_table_row(key, "%s", text ? text : "");
    free(text);
}

/* One line of a size and a length, then the rest key by key. */
static void print_facts(const cJSON *j)
{
    char size[32];
    const cJSON *v, *w = cJSON_GetObjectItemCaseSensitive(j, "width"),
                    *h = cJSON_GetObjectItemCaseSensitive(j, "height"),
                    *codec = cJSON_GetObjectItemCaseSensitive(j, "codec"),
                    *steps = cJSON_GetObjectItemCaseSensitive(j, "steps");
    cJSON_ArrayForEach(v, j)
    {
        const char *key = v->string;
        if (!strcmp(key, "container") && codec)
            ts_table_row("format", "%s, %s", v->valuestring, codec->valuestring);
        else if (!strcmp(key, "width") && h)
            ts_table_row("pixels", "%.0fx%.0f, as written", v->valuedouble, h->valuedouble);
        else if (!strcmp(key, "bytes"))
            ts_table_row("bytes", "%.0f (%s)", v->valuedouble, ts_bytes_text(v->valuedouble, size));
        else if (!strcmp(key, "seconds"))
            ts_table_row("seconds", "%.3g", v->valuedouble);
        else if (!strcmp(key, "done") && steps)
            ts_table_row("done", "%.0f of %.0f steps", v->valuedouble, steps->valuedouble);
        else if ((codec && v == codec) || (w && v == h) ||
                 (steps && v == steps && cJSON_HasObjectItem(j, "done")))
            continue;
        else if (cJSON_IsString(v))
            ts_table_row(key, "%s", v->valuestring);
        else if (cJSON_IsNumber(v))
            print_number(key, v->valuedouble);
        else
            print_list(key, v);
    }
}

static void print_metadata(const cJSON *j)
{
    const cJSON *v;
    cJSON_ArrayForEach(v, j)
    {
        char *other = cJSON_IsString(v) ? NULL : cJSON_PrintUnformatted(v);
        ts_table_row(v->string, "%s", cJSON_IsString(v) ? v->valuestring : other ? other : "");
        free(other);
    }
}

/* The facts and what the file was made from (NULL: it does not say); both are freed. */
static ts_status print_both(ts_cli *c, const char *path, cJSON *facts, cJSON *made)
{
    char *text = NULL;
    if (!ts_flag_set(&c->flags, TS_F_JSON)) {
        ts_table_row("file", "%s", path);
        print_facts(facts);
        if (made) {
            putchar('\n');
            print_metadata(made);
        }
        cJSON_Delete(facts);
        cJSON_Delete(made);
        return TS_OK;
    }
    if (!made) made = cJSON_CreateObject();
    cJSON_AddStringToObject(facts, "path", path);
    cJSON_AddItemToObject(made, "file", facts);
    text = ts_utf8_repair_own(cJSON_PrintUnformatted(made)); /* names of files are bytes */
    cJSON_Delete(made);
    if (!text) return ts_fail(&c->err, TS_EMEMORY, "no memory for what %s is", path);
    puts(text);
    free(text);
    return TS_OK;
}

ts_status ts_info_file(ts_cli *c, const char *path)
{
    ts_status st = TS_OK;
    char *json = NULL, *text = NULL;
    cJSON *made = NULL, *facts = describe_own_text(path);
    if (!facts) {
        TRY(ts_file_json(c->ctx, path, &json));
        facts = cJSON_Parse(json);
        const char *kind = cJSON_GetStringValue(cJSON_GetObjectItem(facts, "kind"));
        static const char *const made_by_us[] = {"clip", "picture", "latents", "state"};
        bool may_say = false;
        for (size_t i = 0; kind && i < sizeof made_by_us / sizeof *made_by_us; i++)
            may_say = may_say || !strcmp(kind, made_by_us[i]);
        if (may_say) TRY(ts_metadata_read(c->ctx, path, &text));
        made = text ? cJSON_Parse(text) : NULL;
        if (text && !cJSON_IsObject(made))
            TRY(ts_fail(&c->err, TS_EMODEL, "%s: its metadata is not JSON", path));
    }
    st = print_both(c, path, facts, made);
    facts = made = NULL;
done:
    cJSON_Delete(facts);
    cJSON_Delete(made);
    free(json);
    free(text);
    return st;
}

/* ---- folders ---- */
static bool is_frame(const char *name)
{
    size_t digits = strspn(name, "0123456789");
    return digits >= 4 && (!strcmp(name + digits, ".png") || !strcmp(name + digits, ".jpg") ||
                           !strcmp(name + digits, ".webp"));
}

static bool is_text(const char *name)
{
    return !strncmp(name, "text-", 5) && ts_ends_with(name, ".safetensors");
}

static bool names_manifest(const char *name)
{
    return !strncmp(name, "tessera-batch", 13) && ts_ends_with(name, ".jsonl");
}

ts_folder_kind ts_info_folder_kind(const char *dir)
{
    DIR *d = opendir(dir);
    bool manifest = false, frame = false, text = false, index = false;
    for (struct dirent *e; d && (e = readdir(d));) {
        manifest = manifest || names_manifest(e->d_name);
        frame = frame || is_frame(e->d_name);
        text = text || is_text(e->d_name);
        index = index || !strcmp(e->d_name, "model_index.json");
    }
    if (d) closedir(d);
    return index      ? TS_FOLDER_MODEL
           : manifest ? TS_FOLDER_BATCH
           : frame    ? TS_FOLDER_FRAMES
           : text     ? TS_FOLDER_TEXTS
                      : TS_FOLDER_MODEL;
}

/* Files of a kind in a folder: how many, their bytes, and the first by name (malloc'd). */
static char *count_files(const char *dir, bool (*wanted)(const char *), int *files, double *bytes)
{
    char *first = NULL;
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        char *path = NULL;
        struct stat s;
        if (!wanted(e->d_name) || asprintf(&path, "%s/%s", dir, e->d_name) < 0) continue;
        if (stat(path, &s) == 0) *bytes += (double)s.st_size;
        ++*files;
        if (first && strcmp(first, path) < 0) {
            free(path);
            continue;
        }
        free(first);
        first = path;
    }
    if (d) closedir(d);
    return first;
}

ts_status ts_info_folder(ts_cli *c, const char *dir, ts_folder_kind kind)
{
    ts_status st = TS_OK;
    int files = 0;
    double bytes = 0;
    char *text = NULL, *json = NULL, *first = NULL;
    if (kind == TS_FOLDER_BATCH && !ts_flag_set(&c->flags, TS_F_JSON))
        return ts_batch_status(&c->err, dir, false);
    first = count_files(dir,
                        kind == TS_FOLDER_FRAMES  ? is_frame
                        : kind == TS_FOLDER_TEXTS ? is_text
                                                  : names_manifest,
                        &files, &bytes);
    cJSON *made = NULL, *facts = NULL, *picture = NULL;
    if (!first) TRY(ts_fail(&c->err, TS_EMODEL, "%s: %s", dir, strerror(errno)));
    if (kind == TS_FOLDER_BATCH) facts = describe_own_text(first);
    if (!facts) facts = cJSON_CreateObject();
    if (kind != TS_FOLDER_BATCH)
        cJSON_AddStringToObject(facts, "kind",
                                kind == TS_FOLDER_FRAMES ? "folder of frames"
                                                         : "folder of encoded texts");
    cJSON_AddNumberToObject(facts, "files", files);
    if (kind == TS_FOLDER_FRAMES) {
        TRY(ts_file_json(c->ctx, first, &json));
        picture = cJSON_Parse(json);
        cJSON_AddItemToObject(facts, "width", cJSON_DetachItemFromObject(picture, "width"));
        cJSON_AddItemToObject(facts, "height", cJSON_DetachItemFromObject(picture, "height"));
        TRY(ts_metadata_read(c->ctx, first, &text));
        made = text ? cJSON_Parse(text) : NULL;
    }
    cJSON_DeleteItemFromObjectCaseSensitive(facts, "bytes");
    cJSON_AddNumberToObject(facts, "bytes", bytes);
    st = print_both(c, dir, facts, made);
    facts = made = NULL;
done:
    cJSON_Delete(facts);
    cJSON_Delete(made);
    cJSON_Delete(picture);
    free(first);
    free(text);
    free(json);
    return st;
}
