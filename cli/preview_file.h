/* Previews of a run while it goes on: a file that is written anew after steps, or pictures on the
 * terminal. */
#ifndef TS_PREVIEW_FILE_H
#define TS_PREVIEW_FILE_H
#include "cli/cli.h"
#include "cli/term_picture.h"

typedef struct {
    ts_cli *c;
    const char *path;  /* borrowed */
    double fps;        /* of a clip of all latent frames, which last whole 1/100 s */
    int pictures;      /* that are drawn at once */
    bool failed;       /* said so: no more of them */
    ts_term_kind term; /* path "term": what the terminal understands */
} ts_previews;
/* Before any work: --preview-every has a preview, and the file is one that can be written, or for
 * "term" the terminal one that shows pictures. `path`: the flag's, or a row's; NULL: none.
 * TS_EUSAGE, TS_EIO. */
ts_status ts_previews_check(ts_cli *, const char *path);
/* From the run's next denoising on; *p is lent to the run. path NULL: none. A preview that there is
 * no memory for, or that can not be written, is warned of, and the run goes on without. */
ts_status ts_previews_begin(ts_previews *p, ts_cli *, ts_run *, const ts_request *,
                            const ts_estimate *, const char *path);
#endif
