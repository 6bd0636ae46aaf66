/* Flags and metadata -> the images of a request. */
#include "cli/image_flags.h"

#include "cli/metadata.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const ts_flag_id flags[TS_CLI_IMAGES] = {TS_F_IMAGE, TS_F_LAST_IMAGE};
static const char *const hashes[TS_CLI_IMAGES] = {"image_hash", "last_image_hash"};

ts_flag_id ts_cli_image_flag(int i) { return flags[i]; }

static const char **request_image(ts_request *q, int i) { return i ? &q->last_image : &q->image; }

static ts_status find_image(ts_cli *c, const ts_flag_value *v, const char *from, const char *name,
                            int i, char **out)
{
    bool standard = !strcmp(name, "-"), given = v[flags[i]].set;
    *out = given && standard ? strdup("-")
           : given           ? realpath(name, NULL)
           : standard        ? NULL
                             : ts_metadata_find(from, name);
    if (*out) return TS_OK;
    if (given)
        return ts_fail(&c->err, TS_EMODEL, "--%s: %s: %s", ts_flag_name(flags[i]), name,
                       strerror(errno));
    return ts_fail(&c->err, TS_EMODEL,
                   "%s, an image that %s was made of, is not there: --%s gives "
                   "it",
                   standard ? "standard input" : name, from, ts_flag_name(flags[i]));
}

ts_status ts_cli_set_images(ts_cli *c, const ts_flag_value *v, const char *from, ts_request *q,
                            char *own[TS_CLI_IMAGES])
{
    ts_status st = TS_OK;
    for (int i = 0; i < TS_CLI_IMAGES; i++) {
        const char **name = request_image(q, i);
        if (v[flags[i]].set) *name = v[flags[i]].text;
        if (!*name) continue;
        TRY(find_image(c, v, from, *name, i, own + i));
        *name = own[i];
    }
    if (v[TS_F_IMAGE].set && v[TS_F_LAST_IMAGE].set && !strcmp(own[0], "-") && !strcmp(own[1], "-"))
        TRY(ts_fail(&c->err, TS_EUSAGE, "- is standard input, and can be read once"));
    if (v[TS_F_IMAGE].set && !v[TS_F_SIZE].set && !from) {
        int most, least;
        ts_model_images(c->model, &least, &most);
        if (most) TRY(ts_request_fit_image(c->model, q)); /* else it is refused later */
    }
done:
    return st;
}

ts_status ts_cli_read_images(ts_run *run, const ts_request *q)
{
    ts_status st = TS_OK;
    if (q->image) TRY(ts_run_image(run, q->image, false));
    if (q->last_image) TRY(ts_run_image(run, q->last_image, true));
done:
    return st;
}

void ts_cli_compare_images(ts_cli *c, const char *from, const char *was, const char *now)
{
    for (int i = 0; i < TS_CLI_IMAGES; i++) {
        char *a = ts_metadata_field(was, hashes[i]), *b = ts_metadata_field(now, hashes[i]),
             text[512];
        if (a && b && strcmp(a, b) != 0 && !ts_flag_set(&c->flags, flags[i])) {
            snprintf(text, sizeof text,
                     "the %s is not the one that %.300s was made of: the clip will differ",
                     i ? "last image" : "image", from);
            ts_screen_warn(&c->screen, text);
        }
        free(a);
        free(b);
    }
}
