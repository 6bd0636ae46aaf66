/* Renderings by the program with the default model at its smallest: every kind of file and what
 * other readers say of it, metadata there and back, latents, state, threads, signals. */
#include "tests/cli/program.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SMALL "--size 64x64 --frames 5 --steps 2 --scale 1 "
static char *tmp;

static void clean(void) { program_expect(program_shell("find %s -mindepth 1 -delete", tmp), 0); }

static void render(const char *args, ...) __attribute__((format(printf, 1, 2)));
static void render(const char *args, ...)
{
    char line[8192];
    va_list list;
    va_start(list, args);
    vsnprintf(line, sizeof line, args, list);
    va_end(list);
    program_expect(program_run("%s", line), 0);
}

/* A field of the metadata; static buffer of the next call's. */
static const char *field(const char *file, const char *key)
{
    static char value[4096];
    const program_result *r = program_run("info %s --json", file);
    program_expect(r, 0);
    cJSON *j = cJSON_Parse(r->out), *v = cJSON_GetObjectItem(j, key);
    ck_assert_msg(v != NULL, "%s has no %s: %s", file, key, r->out);
    if (cJSON_IsString(v))
        snprintf(value, sizeof value, "%s", v->valuestring);
    else
        snprintf(value, sizeof value, "%.17g", v->valuedouble);
    cJSON_Delete(j);
    return value;
}

static bool have(const char *program)
{
    bool there = program_shell("command -v %s", program)->code == 0;
    if (!there) printf("skip: no %s to read the files back with\n", program);
    return there;
}

static void probe(const char *file, const char *entries, const char *want)
{
    const program_result *r = program_shell("ffprobe -v error -count_frames -select_streams v "
                                            "-show_entries %s -of default=noprint_wrappers=1 %s/%s",
                                            entries, tmp, file);
    program_expect(r, 0);
    for (const char *line = want; *line; line += strcspn(line, "\n") + 1) {
        char one[256];
        snprintf(one, sizeof one, "%.*s\n", (int)strcspn(line, "\n"), line);
        ck_assert_msg(strstr(r->out, one) != NULL, "%s: no %sin\n%s", file, one, r->out);
    }
}

START_TEST(every_kind_of_file)
{
    static const struct {
        const char *name, *codec;
        int frames;
    } kind[] = {
        {"a.mp4", "h264", 5}, {"a.webm", "vp9", 5}, {"a.gif", "gif", 5}, {"a.png", "png", 1}};
    bool ffprobe = have("ffprobe");
    for (size_t i = 0; i < sizeof kind / sizeof *kind; i++) {
        char path[4200], want[256];
        snprintf(path, sizeof path, "%s/%s", tmp, kind[i].name);
        const program_result *r = program_run(
            "generate 'a panda \"quoted\", ünïcödé 熊猫' --size 64x64 --steps 2 --scale 2 --fps 10 "
            "--seed 7 -o %s %s",
            path, kind[i].frames > 1 ? "--frames 5" : "");
        program_expect(r, 0);
        ck_assert_msg(!strncmp(r->out, path, strlen(path)) && !strcmp(r->out + strlen(path), "\n"),
                      "stdout is more than the path: %s", r->out);
        ck_assert_str_eq(field(path, "prompt"), "a panda \"quoted\", ünïcödé 熊猫");
        ck_assert_str_eq(field(path, "seed"), "7");
        ck_assert_str_eq(field(path, "width"), "64");
        ck_assert_str_eq(field(path, "scale"), "2");
        ck_assert_int_eq(atoi(field(path, "frames")), kind[i].frames);
        ck_assert_int_eq(program_files(tmp), (int)i + 1);
        snprintf(want, sizeof want, "codec_name=%s\nwidth=128\nheight=128\nnb_read_frames=%d\n",
                 kind[i].codec, kind[i].frames);
        if (ffprobe) probe(kind[i].name, "stream=codec_name,width,height,nb_read_frames", want);
    }
    if (ffprobe) {
        probe("a.mp4", "stream=pix_fmt,avg_frame_rate:format_tags=title",
              "pix_fmt=yuv420p\navg_frame_rate=10/1\nTAG:title=a panda \"quoted\", ünïcödé 熊猫\n");
        program_expect(program_shell("ffprobe -v error -show_entries format_tags=comment -of "
                                     "csv=p=0 %s/a.mp4 | grep -q tessera",
                                     tmp),
                       0);
    }
    if (have("pngcheck")) program_expect(program_shell("pngcheck -q %s/a.png", tmp), 0);
    const program_result *r = program_run("info %s/a.png", tmp);
    ck_assert_msg(strstr(r->out, "seed         7\n") && strstr(r->out, "model        default\n"),
                  "%s", r->out);
    clean();
}
END_TEST

START_TEST(numbered_frames)
{
    render("generate 'a panda' --size 64x64 --frames 5 --steps 1 -o %s/f-%%03d.png", tmp);
    ck_assert_int_eq(program_files(tmp), 5);
    char path[4200];
    snprintf(path, sizeof path, "%s/f-004.png", tmp);
    ck_assert_str_eq(field(path, "scale"), "1"); /* as computed, though the model would enlarge */
    ck_assert_str_eq(field(path, "frames"), "5");
    program_expect(
        program_run("generate 'a panda' --size 64x64 --frames 5 --steps 1 -o %s/f-%%03d.png", tmp),
        2);
    clean();
    render("generate 'a panda' --size 64x64 --frames 5 --steps 1 -o %s/folder/", tmp);
    snprintf(path, sizeof path, "%s/folder", tmp);
    ck_assert_int_eq(program_files(path), 5);
    clean();
}
END_TEST

START_TEST(from_renders_the_same_bytes)
{
    static const char *const kind[] = {"mp4", "png", "gif", "webm"};
    char a[4200], b[4200];
    for (size_t i = 0; i < sizeof kind / sizeof *kind; i++) {
        snprintf(a, sizeof a, "%s/a.%s", tmp, kind[i]);
        snprintf(b, sizeof b, "%s/b.%s", tmp, kind[i]);
        render("generate 'a fox' --size 64x64 %s --steps 3 --guidance 3.7 --seed "
               "18446744073709551615 --sampler euler --shift 2.5 --negative 'blurry' --fps 7.5 "
               "--scale 3 --precision f32 -o %s",
               strcmp(kind[i], "png") ? "--frames 5" : "", a);
        render("generate --from %s -o %s", a, b);
        ck_assert_msg(program_same(a, b), "%s differs", kind[i]);
        ck_assert_str_eq(field(b, "seed"), "18446744073709551615");
        clean();
    }
    render("generate 'a fox' " SMALL "--seed 5 -o %s/a.mp4 --save-latents %s/l.safetensors", tmp,
           tmp);
    render("generate --from %s/l.safetensors -o %s/b.mp4", tmp, tmp);
    snprintf(a, sizeof a, "%s/a.mp4", tmp);
    snprintf(b, sizeof b, "%s/b.mp4", tmp);
    ck_assert(program_same(a, b));
    render("generate 'a bear' --from %s --seed 6 --overwrite -o %s", a, b); /* flags override */
    ck_assert_str_eq(field(b, "seed"), "6");
    ck_assert_str_eq(field(b, "prompt"), "a bear");
    ck_assert_str_eq(field(b, "steps"), "2");
    clean();
}
END_TEST

START_TEST(given_noise_is_recorded_and_read_again)
{
    char a[4200], b[4200], noise[4200], bad[4200];
    snprintf(a, sizeof a, "%s/a.png", tmp);
    snprintf(b, sizeof b, "%s/b.png", tmp);
    snprintf(noise, sizeof noise, "%s/noise.safetensors", tmp);
    snprintf(bad, sizeof bad, "%s/other.safetensors", tmp);
    render("generate x --size 64x64 --steps 1 -o %s --save-latents %s", a, noise);
    ts_err err = {0};
    ts_bag *from = testing_bag(noise), *to = ts_bag_new();
    ts_host z;
    ck_assert(ts_bag_get(&err, from, "latents", TS_F32, 4, (long[]){-1, -1, -1, -1}, &z) == TS_OK);
    ts_bag_put(to, "noise", TS_F32, 4, z.dim, z.data);
    ck_assert_msg(ts_bag_save(&err, to, noise) == TS_OK, "%s", err.text);
    ts_bag_free(from);
    ts_bag_free(to);
    render("generate x --size 64x64 --steps 1 -o %s --noise %s --overwrite", a, noise);
    render("generate --from %s -o %s", a, b);
    ck_assert(program_same(a, b));
    /* no number was drawn: neither record nor report name a seed */
    const program_result *said = program_run("info %s", a);
    ck_assert_msg(!strstr(said->out, "seed") && strstr(said->out, "noise"), "%s", said->out);
    said = program_run("generate x --size 64x64 --steps 1 -o %s --noise %s --overwrite --dry-run",
                       b, noise);
    ck_assert_msg(!strstr(said->out, "seed") && strstr(said->out, "noise"), "%s", said->out);
    said = program_run("generate x --size 64x64 --steps 1 -o %s --noise %s --overwrite", b, noise);
    ck_assert_msg(!strstr(said->err, "seed") && strstr(said->err, "given noise"), "%s", said->err);
    render("generate --from %s -o %s --seed 42 --overwrite", a, b);
    ck_assert(!program_same(a, b));
    program_expect(program_shell("mv %s %s", noise, bad), 0);
    const program_result *r = program_run("generate --from %s -o %s --overwrite", a, b);
    program_expect(r, 3);
    ck_assert_msg(strstr(r->err, "noise") != NULL, "%s", r->err);
    render("generate --from %s -o %s --noise %s --overwrite", a, b, bad);
    clean();
}
END_TEST

START_TEST(latents_decode_to_the_same_bytes)
{
    char a[4200], b[4200];
    render("generate 'a panda' " SMALL
           "--scale 2 --seed 3 --fps 9 -o %s/a.mp4 --save-latents %s/l.safetensors",
           tmp, tmp);
    render("decode %s/l.safetensors -o %s/b.mp4", tmp, tmp);
    snprintf(a, sizeof a, "%s/a.mp4", tmp);
    snprintf(b, sizeof b, "%s/b.mp4", tmp);
    ck_assert(program_same(a, b));
    const program_result *r = program_run("info %s/l.safetensors", tmp);
    program_expect(r, 0);
    ck_assert_msg(strstr(r->out, "a panda") != NULL, "%s", r->out);
    r = program_run("decode %s/l.safetensors -o %s/b.mp4", tmp, tmp);
    program_expect(r, 2); /* exists */
    r = program_run("decode %s/l.safetensors -o %s/b.png", tmp, tmp);
    program_expect(r, 2); /* several frames */
    r = program_run("decode %s/l.safetensors -o %s/c.mp4 --dry-run", tmp, tmp);
    program_expect(r, 0);
    ck_assert_msg(strstr(r->out, "decoding") &&
                      strstr(r->out, "64x64, written as 128x128, 5 frames at 9 a second"),
                  "%s", r->out);
    r = program_run("generate x " SMALL "-o %s/c.mp4 --save-latents %s/l.safetensors", tmp, tmp);
    program_expect(r, 2);
    ck_assert_msg(strstr(r->err, "exists") != NULL, "%s", r->err);
    ck_assert_int_eq(program_files(tmp), 3);
    clean();
}
END_TEST

START_TEST(latents_without_metadata_need_flags)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/l.safetensors", tmp);
    render("generate 'a panda' " SMALL "-o %s/a.mp4 --save-latents %s", tmp, path);
    ts_err err = {0};
    ts_bag *bag = testing_bag(path);
    ts_bag_meta(bag, "tessera", NULL);
    ck_assert_msg(ts_bag_save(&err, bag, path) == TS_OK, "%s", err.text);
    ts_bag_free(bag);
    const program_result *r = program_run("decode %s -o %s/b.mp4 --model weights/default --fps 5",
                                          path, tmp);
    program_expect(r, 0);
    ck_assert_msg(strstr(r->err, "no metadata") != NULL, "%s", r->err);
    snprintf(path, sizeof path, "%s/b.mp4", tmp);
    ck_assert_str_eq(field(path, "fps"), "5");
    /* as diffusers has them: a batch of one */
    ts_host z;
    long any[] = {-1, -1, -1, -1}, shape[5] = {1};
    char whole[4200], batch[4200];
    snprintf(whole, sizeof whole, "%s/l.safetensors", tmp);
    snprintf(batch, sizeof batch, "%s/m.safetensors", tmp);
    bag = testing_bag(whole);
    ts_bag *one = ts_bag_new();
    ck_assert_int_eq(ts_bag_get(&err, bag, "latents", TS_F32, 4, any, &z), TS_OK);
    memcpy(shape + 1, z.dim, sizeof any);
    ck_assert_ptr_nonnull(ts_bag_put(one, "latents", TS_F32, 5, shape, z.data));
    ck_assert_int_eq(ts_bag_save(&err, one, batch), TS_OK);
    ts_bag_free(one);
    ts_bag_free(bag);
    render("decode %s -o %s/c.mp4 --model weights/default --fps 5", batch, tmp);
    snprintf(whole, sizeof whole, "%s/c.mp4", tmp);
    ck_assert(program_same(path, whole));
    clean();
}
END_TEST

START_TEST(a_killed_run_goes_on)
{
    char err[4200], a[4200], b[4200];
    snprintf(err, sizeof err, "%s/err", tmp);
    snprintf(a, sizeof a, "%s/a.safetensors", tmp);
    snprintf(b, sizeof b, "%s/b.safetensors", tmp);
    const char *same =
        "generate 'a panda' --size 64x64 --frames 13 --steps 12 --seed 3 --overwrite";
    render("%s -o %s/a.mp4 --save-latents %s", same, tmp, a);
    pid_t pid = program_start(err,
                              "%s -o %s/b.mp4 --save-latents %s --state %s/state --progress json",
                              same, tmp, b, tmp);
    ck_assert(program_says(pid, err, "\"step\":4,"));
    kill(pid, SIGKILL);
    ck_assert_int_eq(program_wait(pid), 128 + SIGKILL);
    ck_assert_int_ne(access(b, F_OK), 0);
    int done = 0;
    ts_bag *bag;
    char state[4200];
    snprintf(state, sizeof state, "%s/state", tmp);
    bag = testing_bag(state);
    done = atoi(ts_bag_meta_get(bag, "done"));
    ts_bag_free(bag);
    ck_assert_msg(done >= 3 && done < 12, "%d steps done", done);
    const program_result *r = program_run(
        "%s -o %s/b.mp4 --save-latents %s --state %s --progress json", same, tmp, b, state);
    program_expect(r, 0);
    char resumed[64];
    snprintf(resumed, sizeof resumed, "\"resumed\":%d", done);
    ck_assert_msg(strstr(r->err, resumed) != NULL, "no %s in\n%s", resumed, r->err);
    ck_assert_msg(program_same(a, b), "latents differ from those of an undisturbed run");
    r = program_run("generate 'a fox' --size 64x64 --frames 13 --steps 12 --seed 3 --overwrite -o "
                    "%s/b.mp4 --state %s",
                    tmp, state);
    program_expect(r, 3); /* another request */
    ck_assert_msg(strstr(r->err, "another request") != NULL, "%s", r->err);
    clean();
}
END_TEST

START_TEST(progress_is_json_line_by_line)
{
    const program_result *r = program_run("generate 'a panda' --size 70x64 --frames 5 --steps 3 "
                                          "--seed 99 -o %s/a.mp4 --progress json --profile",
                                          tmp);
    program_expect(r, 0);
    char *copy = strdup(r->err), *save = NULL;
    int starts = 0, dones = 0, warnings = 0, profiles = 0, step = 0, frame = 0, n = 0;
    for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save), n++) {
        cJSON *j = cJSON_ParseWithOpts(line, NULL, 1);
        ck_assert_msg(j != NULL, "not JSON: %s", line);
        const char *event = cJSON_GetStringValue(cJSON_GetObjectItem(j, "event")),
                   *phase = cJSON_GetStringValue(cJSON_GetObjectItem(j, "phase"));
        ck_assert_msg(event != NULL, "%s", line);
        starts += !strcmp(event, "start");
        warnings += !strcmp(event, "warning");
        profiles += !strcmp(event, "profile");
        dones += !strcmp(event, "done");
        if (!strcmp(event, "start"))
            ck_assert_int_eq(
                cJSON_GetObjectItem(cJSON_GetObjectItem(j, "request"), "seed")->valueint, 99);
        if (!strcmp(event, "done"))
            ck_assert(cJSON_GetObjectItem(j, "denoise_seconds")->valuedouble > 0);
        if (!strcmp(event, "progress")) {
            int s = cJSON_GetObjectItem(j, "step")->valueint;
            ck_assert_msg(starts == 1 && !dones, "out of order: %s", line);
            ck_assert(cJSON_GetObjectItem(j, "seconds")->valuedouble >= 0);
            if (!strcmp(phase, "denoise")) {
                ck_assert_msg(s >= step && s <= 3, "%s", line);
                step = s;
            } else if (!strcmp(phase, "decode")) {
                ck_assert_msg(s >= frame && s <= 5 && step == 3, "%s", line);
                frame = s;
            }
        }
        cJSON_Delete(j);
    }
    ck_assert_msg(starts == 1 && dones == 1 && warnings >= 1 && profiles == 1 && step == 3 &&
                      frame == 5,
                  "%d %d %d %d, step %d, frame %d of %d events\n%s", starts, dones, warnings,
                  profiles, step, frame, n, r->err);
    free(copy);
    clean();
}
END_TEST

START_TEST(people_get_lines_and_quiet_gets_none)
{
    const program_result *r = program_run("generate 'a panda' " SMALL "--seed 99 -o %s/a.mp4", tmp);
    program_expect(r, 0);
    ck_assert_msg(strstr(r->err, "seed 99") && strstr(r->err, "denoising: 2 steps in ") &&
                      strstr(r->err, "decoding: 5 frames in ") && strstr(r->err, "done in "),
                  "%s", r->err);
    ck_assert_ptr_null(strchr(r->err, '\r'));
    r = program_run("generate '' --size 70x64 --frames 5 --steps 1 --quiet --overwrite -o %s/a.mp4",
                    tmp);
    program_expect(r, 0);
    ck_assert_str_eq(r->err, "");
    r = program_run("generate '' " SMALL "--overwrite -o %s/a.mp4", tmp);
    program_expect(r, 0);
    ck_assert_msg(strstr(r->err, "the prompt is empty") != NULL, "%s", r->err);
    r = program_run("generate x " SMALL "--profile --progress none --overwrite -o %s/a.mp4", tmp);
    program_expect(r, 0);
    ck_assert_msg(strstr(r->err, "linear") && strstr(r->err, "attention") && strstr(r->err, "%"),
                  "%s", r->err);
    clean();
}
END_TEST

/* Signals a run when it says `when`: the code, and that only the words of stderr remain. */
static void stopped(int number, const char *args, const char *when)
{
    char err[4200];
    snprintf(err, sizeof err, "%s/err", tmp);
    pid_t pid = program_start(err, "%s -o %s/a.mp4 --progress json", args, tmp);
    ck_assert_msg(program_says(pid, err, when), "never said %s", when);
    kill(pid, number);
    int code = program_wait(pid);
    char *said = program_slurp(err, NULL), want[64];
    ck_assert_msg(code == 128 + number, "exit code %d\n%s", code, said);
    snprintf(want, sizeof want, "{\"event\":\"error\",\"code\":%d,", code);
    ck_assert_msg(strstr(said, want) != NULL, "ended by the signal itself?\n%s", said);
    ck_assert_int_eq(program_files(tmp), 1);
    free(said);
    clean();
}

START_TEST(signals_stop_cleanly)
{
    stopped(SIGINT, "generate 'a panda' --size 64x64 --frames 9 --steps 1000", "\"step\":1,");
    stopped(SIGTERM, "generate 'a panda' --size 64x64 --frames 9 --steps 1000", "\"step\":1,");
    /* of people, and those by which schedulers announce the end */
    static const int signals[] = {SIGINT,  SIGTERM, SIGHUP,  SIGQUIT,
                                  SIGUSR1, SIGUSR2, SIGXCPU, SIGALRM};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        stopped(signals[i], "generate 'a panda' --size 64x64 --frames 121 --steps 1 --guidance 1",
                "\"phase\":\"decode\",\"step\":5,");
}
END_TEST

/* The variable in the environment of a running process; NULL: none. Static buffer of the next
 * call's. */
static const char *variable(pid_t pid, const char *name)
{
    static char value[64];
    char path[64];
    size_t size, n = strlen(name);
    bool found = false;
    snprintf(path, sizeof path, "/proc/%ld/environ", (long)pid);
    char *all = program_slurp(path, &size);
    for (const char *v = all; v < all + size && !found; v += strlen(v) + 1)
        if (!strncmp(v, name, n) && v[n] == '=') {
            snprintf(value, sizeof value, "%s", v + n + 1);
            found = true;
        }
    free(all);
    return found ? value : NULL;
}

START_TEST(waiting_threads_do_not_spin_for_long)
{
    char err[4200];
    snprintf(err, sizeof err, "%s/err", tmp);
    for (int given = 0; given < 2; given++) { /* what the environment says already counts */
        unsetenv("GOMP_SPINCOUNT");
        if (given)
            setenv("OMP_WAIT_POLICY", "active", 1);
        else
            unsetenv("OMP_WAIT_POLICY");
        pid_t pid = program_start(
            err, "generate x --size 64x64 --frames 5 --steps 1000 -o %s/a.mp4 --progress json",
            tmp);
        ck_assert(program_says(pid, err, "\"event\":\"progress\""));
        const char *spin = variable(pid, "GOMP_SPINCOUNT");
        ck_assert_msg(given ? !spin : spin && !strcmp(spin, "2000"), "GOMP_SPINCOUNT=%s",
                      spin ? spin : "(none)");
        kill(pid, SIGTERM);
        ck_assert_int_eq(program_wait(pid), 143);
        clean();
    }
    unsetenv("OMP_WAIT_POLICY");
}
END_TEST

/* The process is the loader then, and its name on the command line is not its own. */
START_TEST(a_loader_runs_the_program)
{
    static const char *const loaders[] = {"/lib64/ld-linux-x86-64.so.2",
                                          "/lib/ld-linux-aarch64.so.1"};
    unsetenv("GOMP_SPINCOUNT");
    unsetenv("OMP_WAIT_POLICY");
    for (int i = 0; i < 2; i++) {
        if (access(loaders[i], X_OK)) continue;
        const program_result *r = program_shell("%s $TESSERA --version", loaders[i]);
        program_expect(r, 0);
        ck_assert_msg(!strncmp(r->out, "tessera ", 8), "%s", r->out);
        return;
    }
    printf("skip: no loader of a known name\n");
}
END_TEST

START_TEST(a_full_disk_keeps_the_latents)
{
    /* 512-byte blocks: room for the latents of one frame, not for a picture of 1024x1024 */
    const program_result *r = program_shell("ulimit -f 64; exec $TESSERA generate x "
                                            "--size 64x64 --steps 1 --scale 16 -o %s/a.png",
                                            tmp);
    program_expect(r, 4);
    ck_assert_msg(strstr(r->err, "a.png") && strstr(r->err, "tessera decode"), "%s", r->err);
    ck_assert_int_eq(program_files(tmp), 1); /* nothing half */
    render("decode %s/a.png.latents.safetensors -o %s/b.png", tmp, tmp);
    ck_assert_int_eq(program_files(tmp), 2);
    clean();
}
END_TEST

/* Neither picture nor latents fit: what is said of the latents is true. */
START_TEST(latents_that_are_lost_are_said_to_be)
{
    for (int asked = 0; asked < 2; asked++) {
        const program_result *r = program_shell(
            "ulimit -f 1; exec $TESSERA generate x --size 64x64 --steps 1 "
            "--quiet -o %s/a.png %s%s%s",
            tmp, asked ? "--save-latents " : "", asked ? tmp : "", asked ? "/l.safetensors" : "");
        program_expect(r, 4);
        ck_assert_msg(strstr(r->err, "a.png: can not be written") != NULL, "%s", r->err);
        ck_assert_msg(strstr(r->err, "the latents are lost") != NULL, "%s", r->err);
        ck_assert_msg(!strstr(r->err, "tessera decode"), "%s", r->err);
        ck_assert_int_eq(program_files(tmp), 0);
    }
}
END_TEST

START_TEST(existing_files_are_kept)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/a.mp4", tmp);
    program_expect(program_shell("echo precious > %s", path), 0);
    const program_result *r = program_run("generate x " SMALL "-o %s", path);
    program_expect(r, 2);
    ck_assert_msg(strstr(r->err, "--overwrite") != NULL, "%s", r->err);
    char *text = program_slurp(path, NULL);
    ck_assert_str_eq(text, "precious\n");
    free(text);
    render("generate x " SMALL "-o %s --overwrite", path);
    ck_assert_str_eq(field(path, "prompt"), "x");
    render("generate x " SMALL "-o %s --overwrite --no-metadata", path);
    r = program_run("info %s --json", path);
    program_expect(r, 0);
    ck_assert_msg(strstr(r->out, "\"clip\"") && !strstr(r->out, "\"prompt\""), "%s", r->out);
    clean();
    for (int again = 0; again < 2; again++) {
        r = program_shell("cd %s && $TESSERA generate x --size 64x64 --frames 1 --steps 1", tmp);
        program_expect(r, 0);
        ck_assert_str_eq(r->out, again ? "tessera-2.png\n" : "tessera.png\n");
    }
    r = program_shell("cd %s && $TESSERA generate x --size 64x64 --frames 5 --steps 1", tmp);
    program_expect(r, 0);
    ck_assert_str_eq(r->out, "tessera.mp4\n");
    /* what is asked for by name is refused, or replaced */
    r = program_shell("cd %s && $TESSERA generate x --size 64x64 --frames 5 --steps 1 --overwrite",
                      tmp);
    program_expect(r, 0);
    ck_assert_str_eq(r->out, "tessera.mp4\n");
    clean();
}
END_TEST

/* A shorter clip over a longer one leaves no mixture; what is not tessera's stays. */
START_TEST(shorter_clips_replace_longer_ones)
{
    render("generate x --size 64x64 --frames 9 --steps 1 -o %s/f/", tmp);
    program_expect(program_shell("echo mine >%s/f/0099.png", tmp), 0);
    const program_result *r = program_run(
        "generate x --size 64x64 --frames 5 --steps 1 -o %s/f/ --overwrite", tmp);
    program_expect(r, 0);
    ck_assert_msg(strstr(r->err, "4 frames of an older run were removed: this one has 5") &&
                      strstr(r->err, "frame 99 and what follows it are of an older run"),
                  "%s", r->err);
    r = program_shell("ls %s/f && cat %s/f/0099.png", tmp, tmp);
    ck_assert_str_eq(r->out, "0000.png\n0001.png\n0002.png\n0003.png\n0004.png\n0099.png\nmine\n");
    program_expect(program_shell("rm -r %s/f", tmp), 0);
}
END_TEST

/* Flags that change nothing of an output are told of. */
START_TEST(flags_without_effect)
{
    static const struct {
        const char *flags, *warning;
    } of[] = {{"--frames 1 -o %s/a.png --crf 20", "--crf has no effect: it is for .mp4"},
              {"--frames 1 -o %s/a.png --fps 5", "--fps has no effect on pictures"},
              {"--frames 5 -o %s/a.gif --crf 20", "--crf has no effect"},
              {"--frames 1 -o %s/a.mp4", "a clip of one frame: a name that ends in .png"},
              {"--frames 1 -o %s/a.png --quality 20", "--quality has no effect: it is for .jpg"},
              {"--frames 5 -o %s/a.mp4 --quality 20", "--quality has no effect: it is for .jpg"},
              {"-o %s/a.jpeg --quality 20", NULL},
              {"--frames 5 -o %s/a.webp --quality 20 --fps 9", NULL},
              {"--frames 5 -o %s/a.mkv --crf 20 --fps 9", NULL}};
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        char flags[4300];
        snprintf(flags, sizeof flags, of[i].flags, tmp);
        const program_result *r = program_run("generate x --size 128x128 --steps 1 --dry-run %s",
                                              flags);
        program_expect(r, 0);
        ck_assert_msg(of[i].warning ? strstr(r->err, of[i].warning) != NULL
                                    : !strstr(r->err, "warning"),
                      "%s: %s", flags, r->err);
    }
}
END_TEST

/* A clip through a pipe is Y4M and nothing else, a single frame PNG; what it holds is what the file
 * of that kind holds. */
START_TEST(standard_output)
{
    render("generate x " SMALL "-o %s/a.y4m", tmp);
    const program_result *r = program_shell(
        "$TESSERA generate x " SMALL "-o - | cmp - %s/a.y4m && head -c 30 %s/a.y4m", tmp, tmp);
    program_expect(r, 0);
    ck_assert_msg(!strncmp(r->out, "YUV4MPEG2 W64 H64 F12:1", 23), "%s", r->out);
    r = program_shell("$TESSERA generate x " SMALL "-o /dev/stdout --quiet | wc -c");
    /* five frames of 64 x 64 in yuv420p, six bytes before each, a line of text */
    ck_assert_int_ge(atol(r->out), 5 * (64 * 64 * 3 / 2 + 6) + 20);
    ck_assert_int_lt(atol(r->out), 5 * (64 * 64 * 3 / 2 + 6) + 200);
    r = program_shell(
        "$TESSERA generate x --size 64x64 --frames 1 --steps 1 --scale 1 -o - --quiet "
        ">%s/one.png && $TESSERA info %s/one.png --json",
        tmp, tmp);
    program_expect(r, 0);
    ck_assert_ptr_nonnull(strstr(r->out, "\"prompt\""));
    render("generate x " SMALL "-o %s/a.mkv", tmp);
    r = program_run("info %s/a.mkv --json", tmp);
    ck_assert_msg(strstr(r->out, "\"prompt\"") && strstr(r->out, "h264"), "%s", r->out);
    r = program_shell("script -qec \"$TESSERA generate x " SMALL "-o -\" /dev/null");
    ck_assert_ptr_nonnull(strstr(r->out, "-: standard output is a terminal: send it on"));
    /* nobody reads: one sentence, exit code 4, and no file that was not asked for */
    r = program_shell("cd %s && { $TESSERA generate x " SMALL
                      "-o - --quiet 2>said; echo $? >code; } "
                      "| true; cat code said; ls *latents*",
                      tmp);
    ck_assert_str_eq(r->out, "4\ntessera: -: can not be written: Broken pipe; nothing is kept of "
                             "less than a minute's work\n");
    r = program_shell("cd %s && { $TESSERA generate x " SMALL
                      "-o - --save-latents l.st --quiet 2>said; echo $? >code; } "
                      "| true; cat code said",
                      tmp);
    ck_assert_str_eq(r->out, "4\ntessera: -: can not be written: Broken pipe; the latents are in "
                             "l.st: tessera decode goes on from them\n");
    clean();
}
END_TEST

/* --format says the kind where the name does not, and nothing else than the name does. */
START_TEST(formats)
{
    static const struct {
        const char *args, *out, *container;
    } of[] = {{"--format gif", "tessera.gif", "GIF, gif"},
              {"--format gif", "tessera-2.gif", "GIF, gif"},
              {"--format webm -o v1.2", "v1.2.webm", "WebM, vp9"},
              {"--format webm -o a.webm", "a.webm", "WebM, vp9"},
              {"--format jpg --frames 1 -o b.jpeg", "b.jpeg", "JPEG, mjpeg"},
              {"--format jpg -o f/", "f/0000.jpg", "JPEG, mjpeg"},
              {"--format png -o g/", "g/", "folder of frames"},
              {"--format mkv --crf 0 -o - >s", "s", "MKV, ffv1"},
              {"--format gif -o - >s", "s", "GIF, gif"},
              {"--format webp -o - >s", "s", "WebP, webp"},
              {"--format webm -o - >s", "s", "WebM, vp9"},
              {"--format jpg -o /dev/stdout --frames 1 >s", "s", "JPEG, mjpeg"}},
      bad[] = {
          {"--format png -o a.mp4", "--format png: the output is a.mp4, of another kind", ""},
          {"--format mp4 -o f/", "the output is the folder f/, of pictures: png, jpg or webp", ""},
          {"--format mp4 -o - | cat", "standard output can not be mp4, expected png", ""},
          {"--format jpg -o - | cat", "-: 5 frames do not fit one picture", ""},
          {"--format avi", "--format: got \"avi\", wanted png, jpg", ""}};
    const program_result *r;
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        r = program_shell("t=$(realpath $TESSERA); cd %s && $t generate x " SMALL "%s", tmp,
                          of[i].args);
        program_expect(r, 0);
        size_t n = strlen(of[i].out);
        ck_assert_msg(of[i].out[0] == 's' || !strncmp(r->out, of[i].out, n), "%s", r->out);
        r = program_run("info %s/%s", tmp, of[i].out);
        program_expect(r, 0);
        ck_assert_msg(strstr(r->out, of[i].container) != NULL, "%s: %s", of[i].args, r->out);
    }
    ck_assert_ptr_nonnull(strstr(program_run("info %s/f", tmp)->out, "folder of frames"));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        r = program_shell("t=$(realpath $TESSERA); cd %s && $t generate x " SMALL "%s", tmp,
                          bad[i].args);
        ck_assert_msg(strstr(r->err, bad[i].out) != NULL, "%s: %s", bad[i].args, r->err);
    }
    /* a kind of pictures means one, as the name of one does */
    r = program_shell("t=$(realpath $TESSERA); cd %s && $t generate x --steps 1 --dry-run "
                      "--format png",
                      tmp);
    ck_assert_msg(strstr(r->out, "tessera.png\n") && strstr(r->out, ", 1 frame\n"), "%s", r->out);
    program_expect(program_shell("rm -r %s/f %s/g", tmp, tmp), 0);
    clean();
}
END_TEST

/* OpenMP's variables change how many threads there are, and nothing of what so many compute: sums
 * of oneDNN in f32 without AVX-512 hang on their number. */
START_TEST(smaller_teams)
{
    static const char *const variables[] = {"OMP_THREAD_LIMIT=1", "OMP_DYNAMIC=true",
                                            "OMP_MAX_ACTIVE_LEVELS=0", "OMP_NUM_THREADS=1"};
    char one[4096], two[4096], b[4096];
    snprintf(one, sizeof one, "%s/one.png", tmp);
    snprintf(two, sizeof two, "%s/two.png", tmp);
    snprintf(b, sizeof b, "%s/b.png", tmp);
    render("generate x " SMALL "--frames 1 --threads 1 -o %s", one);
    render("generate x " SMALL "--frames 1 --threads 2 -o %s", two);
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) {
        const program_result *r = program_shell("%s $TESSERA generate x " SMALL
                                                "--frames 1 --threads 2 -o %s --overwrite",
                                                variables[i], b);
        program_expect(r, 0);
        ck_assert_msg(program_same(i ? two : one, b), "%s", variables[i]);
        ck_assert_msg(!strstr(r->err, "OMP_THREAD_LIMIT) is 1") == (i > 0), "%s", r->err);
    }
    clean();
}
END_TEST

/* Folders on the way to an output are made, when work begins and not before. */
START_TEST(folders_are_made)
{
    const program_result *r = program_run("generate x " SMALL "-o %s/a/b/c.mp4 --dry-run", tmp);
    program_expect(r, 0);
    ck_assert_int_eq(program_files(tmp), 0);
    render("generate x " SMALL "-o %s/a/b/c.mp4", tmp);
    render("generate x " SMALL "-o %s/a/d/", tmp);
    r = program_shell("cd %s && ls a a/b a/d", tmp);
    ck_assert_str_eq(r->out, "a:\nb\nd\n\na/b:\nc.mp4\n\na/d:\n0000.png\n0001.png\n"
                             "0002.png\n0003.png\n0004.png\n");
    r = program_run("generate x " SMALL "-o .");
    program_expect(r, 2);
    ck_assert_ptr_nonnull(
        strstr(r->err, ".: a folder: ./ puts numbered frames into it, or name a file there"));
    program_expect(program_shell("rm -r %s/a", tmp), 0);
}
END_TEST

START_TEST(seeds)
{
    char a[4200], b[4200], first[64];
    snprintf(a, sizeof a, "%s/a.png", tmp);
    snprintf(b, sizeof b, "%s/b.png", tmp);
    render("generate x --size 64x64 --steps 1 -o %s", a);
    ck_assert_str_eq(field(a, "seed"), "42");
    const program_result *r = program_run("generate x --size 64x64 --steps 1 -o %s --seed random",
                                          b);
    program_expect(r, 0);
    snprintf(first, sizeof first, "seed %s,", field(b, "seed"));
    render("generate x --size 64x64 --steps 1 -o %s --seed random --overwrite", a);
    ck_assert_str_ne(strtok(first + 5, ","), field(a, "seed")); /* one chance in 2^32 */
    ck_assert(!program_same(a, b));
    clean();
}
END_TEST

/* Sums are cut otherwise: what a chain of steps is allowed against diffusers, which is also only
 * another order of sums. */
START_TEST(threads_change_last_bits_at_most)
{
    char a[4200], b[4200];
    long n, m;
    snprintf(a, sizeof a, "%s/1.safetensors", tmp);
    snprintf(b, sizeof b, "%s/2.safetensors", tmp);
    const char *same =
        "generate 'a panda' --size 64x64 --frames 5 --steps 4 --seed 3 --overwrite --precision f32";
    render("%s -o %s/a.mp4 --threads 1 --save-latents %s", same, tmp, a);
    render("%s -o %s/b.mp4 --threads 1 --save-latents %s", same, tmp, b);
    ck_assert_msg(program_same(a, b), "two runs with one thread differ");
    render("%s -o %s/b.mp4 --threads 2 --save-latents %s", same, tmp, b);
    ts_bag *x = testing_bag(a), *y = testing_bag(b);
    const float *p = testing_f32(x, "latents", &n), *q = testing_f32(y, "latents", &m);
    ck_assert_int_eq(n, m);
    ck_assert_msg(testing_rel(q, p, n) <= 1e-5, "latents of 1 and 2 threads differ by %g",
                  testing_rel(q, p, n));
    ts_bag_free(x);
    ts_bag_free(y);
    clean();
}
END_TEST

int main(void)
{
    tmp = testing_tmp();
    Suite *s = suite_create("render");
    TCase *t = tcase_create("render");
    tcase_set_timeout(t, 0);
    tcase_add_checked_fixture(t, clean, NULL); /* one failure stays one */
    tcase_add_test(t, every_kind_of_file);
    tcase_add_test(t, numbered_frames);
    tcase_add_test(t, from_renders_the_same_bytes);
    tcase_add_test(t, given_noise_is_recorded_and_read_again);
    tcase_add_test(t, latents_decode_to_the_same_bytes);
    tcase_add_test(t, latents_without_metadata_need_flags);
    tcase_add_test(t, a_killed_run_goes_on);
    tcase_add_test(t, progress_is_json_line_by_line);
    tcase_add_test(t, people_get_lines_and_quiet_gets_none);
    tcase_add_test(t, signals_stop_cleanly);
    tcase_add_test(t, waiting_threads_do_not_spin_for_long);
    tcase_add_test(t, a_loader_runs_the_program);
    tcase_add_test(t, a_full_disk_keeps_the_latents);
    tcase_add_test(t, latents_that_are_lost_are_said_to_be);
    tcase_add_test(t, existing_files_are_kept);
    tcase_add_test(t, smaller_teams);
    tcase_add_test(t, folders_are_made);
    tcase_add_test(t, shorter_clips_replace_longer_ones);
    tcase_add_test(t, flags_without_effect);
    tcase_add_test(t, standard_output);
    tcase_add_test(t, formats);
    tcase_add_test(t, seeds);
    tcase_add_test(t, threads_change_last_bits_at_most);
    suite_add_tcase(s, t);
    return testing_main(s);
}
