/* A program of its own on libtessera: a sink instead of a file. cc example.c $(pkg-config --cflags
 * --libs tessera) -o example; ./example MODEL "a prompt" */
#include <stdio.h>
#include <tessera.h>

static ts_status begin(ts_sink *s, int w, int h, int frames, double fps, const char *json)
{
    (void)s;
    return printf("%dx%d, %d at %g a second: %s\n", w, h, frames, fps, json) < 0 ? TS_EIO : TS_OK;
}

static ts_status show(ts_sink *s, const ts_frame *f)
{
    (void)s;
    printf("frame %d begins with %.2f %.2f %.2f\n", f->index, (double)f->rgb[0], (double)f->rgb[1],
           (double)f->rgb[2]);
    return TS_OK;
}

static ts_status end(ts_sink *s) { return (void)s, TS_OK; }
static void drop(ts_sink *s) { (void)s; }

int main(int argc, char **argv)
{
    ts_options options = ts_options_default();
    ts_ctx *ctx = NULL;
    ts_model *model = NULL;
    ts_run *run = NULL;
    ts_bag *latents = NULL;
    ts_request q;
    ts_estimate estimate;
    ts_sink sink = {.open = begin, .frame = show, .close = end, .abort = drop};
    ts_status st = ts_open(&options, NULL, &ctx);
    if (!st) st = ts_model_open(ctx, argc > 1 ? argv[1] : NULL, &model);
    if (!st) {
        ts_request_init(model, &q);
        /* sizes become the least that the model can draw */
        q.prompt = argc > 2 ? argv[2] : "a panda";
        q.width = q.height = 16;
        q.frames = 1;
        q.steps = 1;
        st = ts_run_open(model, &q, &run, &estimate);
    }
    if (!st) st = ts_run_encode(run);
    if (!st) st = ts_run_denoise(run, &latents);
    if (!st) st = ts_run_decode(run, latents, &sink);
    if (st) fprintf(stderr, "%s\n", ts_error(ctx));
    ts_bag_free(latents);
    ts_run_close(run);
    ts_model_close(model);
    ts_close(ctx);
    return st != TS_OK;
}
