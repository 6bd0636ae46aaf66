/* One rendering of generate or decode: what both have in common. */
#ifndef TS_RENDER_H
#define TS_RENDER_H
#include "cli/cli.h"
#include "cli/clip_grid.h"
#include "cli/forecast_text.h"
#include "cli/image_flags.h"
#include "cli/preview_file.h"
#include "cli/sheet.h"

typedef struct { /* everything that one rendering owns */
    ts_request q;
    ts_output out;
    ts_estimate e;
    ts_forecast forecast; /* zero: not asked for */
    size_t peak;          /* bytes of the whole process, with the forecast */
    const char *state;    /* file that the run keeps its state in; NULL: none */
    char *own_state;      /* name of the one beside the output; NULL */
    const char *path;     /* of the output */
    const char *asked;    /* what -o and --format name; NULL: no name was given */
    char *usual;          /* the name where none was given; NULL: as suits the frames */
    char *formatted;      /* `asked` with what --format adds; NULL */
    char *counted;        /* the usual name where that is taken: tessera-2.mp4; NULL */
    char *numbered;       /* path of several pictures, made from the one given; NULL */
    char *was;            /* metadata of --from, or of the latents; NULL */
    /* of a model of clips, which are made in turn, with seeds that follow each other; 1: one */
    int clips;
    bool makes_clips;           /* the model does */
    ts_texts *texts;            /* that they share; NULL: one clip, or pictures */
    char *init;                 /* full path of the picture to begin with; NULL */
    char *image[TS_CLI_IMAGES]; /* of the images of a clip; NULL */
    char *noise_path, *json, *parameters;
    ts_bag *noise;
    ts_bag *latents; /* of a file; NULL: the run has them */
    ts_run *run;
    ts_sink *sink;
    ts_sheet *sheet;
    bool sheeted;          /* the pictures, frames or clips are written side by side */
    ts_clip_grid *grid;    /* of several clips; NULL */
    char *grid_parameters; /* of the first of them; NULL */
    ts_previews previews;
} ts_render;

/* Context, model and request, by the metadata of the file `from` where there is one; without that
 * (NULL) by flags alone. */
ts_status ts_render_begin(ts_cli *, ts_render *, const char *from);
/* r->asked, r->usual: what -o and --format say together. TS_EUSAGE: they contradict each other. */
ts_status ts_render_ask(ts_cli *, ts_render *);
/* It is one picture by what was asked for, if no number of frames says otherwise. */
bool ts_render_asks_picture(const ts_cli *, const ts_render *);
/* The name of an output that nobody has named; needs q.frames. */
const char *ts_render_usual(const ts_render *);
/* Path and options of the output; needs q.frames. */
void ts_render_set_output(const ts_flags *, ts_render *);
/* An output that nobody has named: `name`, or the first of name-2, name-3, .. that is free. */
void ts_render_name(const ts_flags *, ts_render *, const char *name);
/* Before any work: so many frames can be written there. */
ts_status ts_render_check_output(ts_cli *, const ts_render *, int frames);
/* Before any work, too: they are not too large for the output; needs the run. */
ts_status ts_render_check_size(ts_cli *, const ts_render *, int frames);
/* A file beside the output, by its name and this tail (the name cut where it would not fit);
 * malloc'd; NULL: no memory. */
char *ts_name_beside(const char *output, const char *tail);
/* The metadata that the output carries; needs the run. */
ts_status ts_render_describe(ts_cli *, ts_render *);
/* What it will take, for a dry run or a run that is not short: r->forecast, r->peak. */
ts_status ts_render_forecast(ts_cli *, ts_render *);
enum { TS_SIZE_TEXT = 128 };
/* "64x64, written as 384x384, 29 frames at 8 a second". Returns out. */
const char *ts_render_size_text(const ts_render *, char out[TS_SIZE_TEXT]);
enum { TS_SEED_TEXT = 48 };
/* "seed 42"; "" where no number is drawn, as the noise is given. Returns out. */
const char *ts_render_seed_text(const ts_render *, char out[TS_SEED_TEXT]);
/* Tells the screen what begins. */
void ts_render_start(ts_cli *, const ts_render *);
/* What --dry-run says. */
void ts_render_print_estimate(const ts_render *);
/* Pixels of a frame of w x h in the file that `path` names, with that crf (-1: none): enlarged, and
 * even where clips must be. */
void ts_written_size(const char *path, int crf, int scale, long *w, long *h);
ts_status ts_render_decode(ts_cli *, ts_render *);
void ts_render_report(ts_cli *, ts_render *);
void ts_render_free(ts_render *);
bool ts_is_png(const char *path);      /* by its name */
bool ts_is_still(const char *path);    /* the same: a PNG or JPEG; */
bool ts_is_picture(const char *path);  /* or a WebP, which an animation can be, too */
bool ts_is_standard(const char *path); /* standard output */
bool ts_is_numbered(const char *path); /* stands for several pictures: a pattern or a folder */

/* Decoding failed with `err` after the work was done: the latents of the run are kept, whether that
 * was asked for or not, and the sentence says where, or why not. saved: where it is already; NULL:
 * nowhere. */
void ts_rescue(ts_ctx *, ts_err *, ts_run *, const char *saved, const char *output);
#endif
