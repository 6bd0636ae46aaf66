// Frames into a program of one's own instead of a file, in C++17.
//
//   g++ -std=c++17 sink.cc $(pkg-config --cflags --libs tessera) -o sink
//   ./sink MODEL "a panda"
#include <cstdio>
#include <memory>
#include <tessera/tessera.h>

namespace
{
struct closer {
    void operator()(ts_ctx *c) const { ts_close(c); }
    void operator()(ts_model *m) const { ts_model_close(m); }
};

// A sink is a ts_sink with state of its own behind it.
struct averages : ts_sink {
    double sum = 0;
    averages() : ts_sink()
    {
        open = [](ts_sink *, int w, int h, int frames, double fps, const char *json) {
            std::printf("%dx%d, %d at %g a second: %s\n", w, h, frames, fps, json);
            return TS_OK;
        };
        frame = [](ts_sink *s, const ts_frame *f) {
            double sum = 0;
            for (long i = 0; i < 3L * f->w * f->h; i++) sum += f->rgb[i];
            std::printf("frame %d: mean %.3f\n", f->index, sum / (3.0 * f->w * f->h));
            static_cast<averages *>(s)->sum += sum;
            return TS_OK;
        };
        close = [](ts_sink *) { return TS_OK; };
        abort = [](ts_sink *) {};
    }
};

void say(void *, const ts_event *e)
{
    if (e->phase == TS_PHASE_DENOISE && !e->layer)
        std::fprintf(stderr, "step %d of %d\n", e->step, e->steps);
}
} // namespace

int main(int argc, char **argv)
{
    ts_options options = ts_options_default();
    options.precision = "f32";
    ts_env env = {};
    env.progress = say;

    ts_ctx *opened = nullptr;
    ts_status st = ts_open(&options, &env, &opened);
    std::unique_ptr<ts_ctx, closer> ctx(opened);
    ts_model *m = nullptr;
    if (!st) st = ts_model_open(opened, argc > 1 ? argv[1] : nullptr, &m);
    std::unique_ptr<ts_model, closer> model(m); // closed before its context

    averages sink;
    if (!st) {
        ts_request q;
        ts_request_init(m, &q);
        q.prompt = argc > 2 ? argv[2] : "a panda";
        q.frames = 5;
        q.steps = 8;
        st = ts_generate_to(m, &q, &sink);
    }
    if (st) std::fprintf(stderr, "sink: %s\n", ts_error(opened));
    return st != TS_OK;
}
