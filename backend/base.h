/* The vocabulary of every layer: status, events, frames and sinks. Installed beside tessera.h; C
 * and C++. */
#ifndef TS_BASE_H
#define TS_BASE_H
#include <stddef.h>
#include <stdint.h>

/* What the shared library exports; everything else in it is hidden. */
#define TS_API __attribute__((visibility("default")))

/* What went wrong, by who can mend it. The sentence that goes with it is in the one error slot of
 * the context. */
typedef enum {
    TS_OK,
    TS_EUSAGE, /* the caller asked for something that makes no sense: exit code 2 */
    /* a file that was given can not be used: missing, damaged, of an unknown class: 3 */
    TS_EMODEL,
    TS_ESHAPE,  /* a tensor of a wrong shape or type: 3 */
    TS_EMEMORY, /* more memory than there is: 4 */
    TS_EDEVICE, /* the machine or a library failed: 4 */
    TS_ENUMBER, /* NaN or infinity: 4 */
    TS_EIO,     /* an output could not be written: 4 */
    TS_ESTOP,   /* stop was asked for: 130, 143 */
    TS_EFAIL    /* some jobs failed, or `strict` refused: 1 */
} ts_status;

typedef enum { TS_PHASE_TEXT, TS_PHASE_DENOISE, TS_PHASE_DECODE, TS_PHASE_BENCH } ts_phase;

/* where a run is; steps, layers and frames count from 1, 0: the phase begins */
typedef struct {
    ts_phase phase;
    /* denoise: solver step; decode: frame; bench: hundredths of the work; text: prompt, and with
     * layers 1 of 1, since those that are encoded together go through each layer together */
    int step, steps;
    /* of the transformer or text encoder; decode in tiles: a tile, or one of the chunks of its
     * frames, of those of all tiles; of step 0: of all frames. Each as it begins; 0: none */
    int layer, layers;
    double seconds; /* since the phase began */
} ts_event;

typedef struct { /* what the caller lends for the life of a context; every pointer may be NULL */
    void (*progress)(void *user, const ts_event *);
    void (*warn)(void *user, const char *sentence);
    void *user;
    /* Non-zero: stop at the next chance. Read by relaxed atomic loads from every thread that works;
     * a signal handler or another thread may set it at any time. */
    const volatile int *stop;
} ts_env;

typedef struct { /* one frame, borrowed until the call returns */
    int w, h, index;
    const float *rgb; /* [h, w, 3] in 0..1 */
    /* of a picture of a batch: what would make it alone, for numbered files; NULL: what the sink
     * was given for all */
    const char *json, *parameters;
} ts_frame;

typedef struct ts_sink ts_sink;
/* where frames go: pulled from the decoder in display order; all four return the sink's own
 * sentence in `error` */
struct ts_sink {
    ts_status (*open)(ts_sink *, int w, int h, int frames, double fps, const char *json);
    ts_status (*frame)(ts_sink *, const ts_frame *);
    ts_status (*close)(ts_sink *); /* all frames are there: the file gets its final name */
    /* remove what was written; legal at any time, also after a failed call */
    void (*abort)(ts_sink *);
    char error[512];
};
#endif
