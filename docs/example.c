/* A first program on libtessera: a model, a prompt, a file.
 *
 *   cc example.c $(pkg-config --cflags --libs tessera) -o example
 *   ./example MODEL "a panda" panda.png
 *
 * MODEL is a diffusers directory; that of the default model is PREFIX/share/tessera/default. */
#include <stdio.h>
#include <tessera/tessera.h>

int main(int argc, char **argv)
{
    if (argc != 4) return fprintf(stderr, "usage: example MODEL PROMPT FILE\n"), 2;

    /* A context: the device, how much memory may be used, the sentence of the last failure. NULL,
     * NULL: every thread and what memory there is, nobody hears of progress and warnings. */
    ts_ctx *ctx;
    ts_model *model = NULL;
    ts_status st = ts_open(NULL, NULL, &ctx);

    /* Only the model's configs are read; weights are mapped when they are needed. */
    if (!st) st = ts_model_open(ctx, argv[1], &model);

    if (!st) {
        ts_request q;
        ts_request_init(model, &q); /* the model's own size, frames, steps, guidance */
        q.prompt = argv[2];
        q.frames = 1; /* a picture */
        q.seed = 4;
        st = ts_generate(model, &q, argv[3]);
    }
    if (st) fprintf(stderr, "example: %s\n", ts_error(ctx));

    ts_model_close(model);
    ts_close(ctx);
    return st != TS_OK;
}
