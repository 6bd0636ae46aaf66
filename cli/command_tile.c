/* The command search-tile: prompts in, a file for --attention tile:file=FILE out. */
#include "cli/bench/bench.h"
#include "cli/open_model.h"
#include "cli/settings.h"
#include "cli/side.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void summarize_tiles(ts_screen *screen, const char *json)
{
    const cJSON *k;
    cJSON *j = cJSON_Parse(json), *layers = cJSON_GetObjectItemCaseSensitive(j, "layers");
    int full = 0, n = cJSON_GetArraySize(layers);
    double kept = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(j, "kept"));
    cJSON_ArrayForEach(k, layers) full += k->valueint == 0;
    ts_screen_note(screen, "%d of %d layers are sparse, %.1f%% of all blocks are read", n - full, n,
                   100 * kept);
    cJSON_Delete(j);
}

ts_status ts_cli_search_tile(ts_cli *c)
{
    ts_status st = TS_OK;
    ts_flag_value *v = c->flags.value;
    ts_request q;
    double given[TS_LIST] = {0};
    int k[TS_LIST];
    char *json = NULL;
    ts_tile_options o = {.prompt = c->flags.word,
                         .prompts = c->flags.words,
                         .k = k,
                         .loss = v[TS_F_LOSS].set ? v[TS_F_LOSS].real : 0.1,
                         .samples = v[TS_F_SAMPLES].set ? (int)v[TS_F_SAMPLES].whole : 3};
    if (!v[TS_F_TILE_OUTPUT].set) v[TS_F_TILE_OUTPUT].text = "tile.json";
    const char *path = v[TS_F_TILE_OUTPUT].text;
    if (v[TS_F_KS].set) o.ks = ts_parse_list(v[TS_F_KS].text, true, 1, 10000, given);
    for (int i = 0; i < o.ks; i++) k[i] = (int)lround(given[i]);
    TRY(ts_side_check(&c->err, &c->flags, TS_F_TILE_OUTPUT, false));
    TRY(ts_cli_open(c));
    TRY(ts_cli_open_model(c, NULL, NULL));
    ts_request_init(c->model, &q);
    TRY(ts_settings_of(&c->err, &c->flags, &q));
    TRY(ts_cli_set_loras(c, v, NULL, &q));
    if (ts_flag_set(&c->flags, TS_F_NEGATIVE)) ts_settings_warn(&c->screen, &q);
    /* several runs, one after the other: there is no estimate of all of them to start with */
    c->screen.armed = true;
    TRY(ts_search_tile(c->model, &q, &o, &json));
    TRY(ts_side_write(&c->err, &c->flags, TS_F_TILE_OUTPUT, json, strlen(json)));
    summarize_tiles(&c->screen, json);
    puts(path);
done:
    free(json);
    return st;
}
