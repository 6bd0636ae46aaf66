/* A first program on libtessera: a model, a prompt, a file; what is said while it works, a preview,
 * and an end on Ctrl-C. C11, and C++ as well. The short way is ts_generate, one call (api.md).
 *
 *   cc example.c $(pkg-config --cflags --libs tessera) -o example
 *   ./example MODEL "a panda" panda.png
 *
 * MODEL is a diffusers directory; that of the default model is PREFIX/share/tessera/default. */
#include <signal.h>
#include <stdio.h>
#include <tessera/tessera.h>

/* Any thread or signal handler may set it; the library looks at it all the time. */
static volatile int stop;
static void ask_to_stop(int signal)
{
    (void)signal;
    stop = 1;
}

/* Called on this thread, during a call. Steps count from 1; layers are within a step. */
static void show_progress(void *user, const ts_event *e)
{
    (void)user;
    if (e->phase == TS_PHASE_DENOISE && e->step && !e->layer)
        fprintf(stderr, "step %d of %d, %.1f s\n", e->step, e->steps, e->seconds);
}

static void show_warning(void *user, const char *sentence)
{
    (void)user;
    fprintf(stderr, "example: warning: %s\n", sentence);
}

/* After a step: what the picture is going to be, small and in plain colours. ts_step_latents and
 * ts_step_clean copy the numbers behind it. */
static ts_status look(void *user, ts_step *s)
{
    ts_frame f;
    ts_status st = ts_step_preview(s, -1, &f);
    double sum = 0;
    (void)user;
    if (st) return st;
    for (int i = 0; i < 3 * f.w * f.h; i++) sum += f.rgb[i];
    fprintf(stderr, "preview of %dx%d, mean %.2f, noise left %.2f\n", f.w, f.h,
            sum / (3 * f.w * f.h), ts_step_sigma(s));
    return TS_OK; /* TS_ESTOP would end the run */
}

/* Each call leaves its sentence in the context; what it was to return is then NULL. */
static ts_status draw(ts_ctx *ctx, ts_model *model, const char *prompt, const char *path)
{
    ts_run *run = NULL;
    ts_sink *file = NULL;
    char *parameters = NULL;
    ts_estimate e;
    ts_request q;
    ts_watch watch = {sizeof watch, look, NULL, 4, true}; /* every fourth step, with previews */
    ts_output o = ts_output_default();                    /* metadata, and no file is replaced */
    ts_status st;

    o.title = prompt;
    ts_request_init(model, &q); /* the model's own size, frames, steps, guidance */
    q.prompt = prompt;
    q.frames = 1; /* a picture */
    q.seed = 4;
    st = ts_output_check(ctx, path, &o, 1); /* before any work */
    if (!st) st = ts_run_open(model, &q, &run, &e);
    if (!st) {
        fprintf(stderr, "%dx%d, %d steps, %.0f MB\n", e.width, e.height, e.steps,
                (double)e.denoise_bytes / 1e6);
        st = ts_run_watch(run, &watch);
    }
    if (!st) st = ts_run_encode(run);
    if (!st) st = ts_run_denoise(run, NULL); /* the latents stay with the run */
    if (!st) {
        parameters = ts_run_parameters(run);
        o.parameters = parameters;
        st = ts_output_open(ctx, path, &o, &file);
    }
    if (!st) st = ts_run_decode(run, NULL, file); /* the file gets its name when it is whole */

    ts_output_close(file);
    ts_free(parameters);
    ts_run_close(run);
    return st;
}

int main(int argc, char **argv)
{
    if (argc != 4) return fprintf(stderr, "usage: example MODEL PROMPT FILE\n"), 2;

    /* A context: the device, how much memory may be used, the sentence of the last failure. NULL
     * for options: every thread and what memory there is. */
    ts_env env = {show_progress, show_warning, NULL, &stop};
    ts_ctx *ctx;
    ts_model *model = NULL;
    ts_status st = ts_open(NULL, &env, &ctx);
    signal(SIGINT, ask_to_stop);

    /* Only the model's configs are read; weights are mapped when they are needed. */
    if (!st) st = ts_model_open(ctx, argv[1], &model);
    if (!st) st = draw(ctx, model, argv[2], argv[3]);
    if (st) fprintf(stderr, "example: %s\n", ts_error(ctx));

    ts_model_close(model);
    ts_close(ctx);
    return st != TS_OK;
}
