/* Pictures as a user draws them: fixtures of PixArt through the program against the frames of
 * diffusers, batches, sheets, pictures to begin with, and what is refused. */
#include "codecs/picture.h"
#include "tests/cli/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SIGMA "--model tests/fixtures/pixart-sigma/model "
#define SMALL SIGMA "--size 48x64 --no-bins --steps 2 --precision f32 --quiet "
static char *tmp;

static ts_picture read_png(const char *name)
{
    char path[4096];
    ts_err err = {0};
    ts_picture p;
    snprintf(path, sizeof path, "%s/%s", tmp, name);
    ck_assert_msg(ts_picture_read(&err, path, &p) == TS_OK, "%s", err.text);
    return p;
}

static bool same(const char *a, const char *b)
{
    char x[4096], y[4096];
    snprintf(x, sizeof x, "%s/%s", tmp, a);
    snprintf(y, sizeof y, "%s/%s", tmp, b);
    return program_same(x, y);
}

static bool there(const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", tmp, name);
    return access(path, F_OK) == 0;
}

/* ---- the fixtures' frames ---- */
START_TEST(fixture)
{
    static const char *const names[] = {"pixart-alpha-256", "pixart-alpha-1024-micro",
                                        "pixart-sigma"};
    const char *name = names[_i];
    char path[512];
    cJSON *j = testing_case(name);
    ts_err err = {0};
    ts_host want;
    program_expect(
        program_run("generate \"%s\" --negative \"%s\" --model tests/fixtures/%s/model --size "
                    "%dx%d --steps %d --guidance %g --noise tests/fixtures/%s/noise.safetensors %s"
                    " --precision f32 -o %s/f.png --overwrite --quiet",
                    cJSON_GetObjectItem(j, "prompt")->valuestring,
                    cJSON_GetObjectItem(j, "negative")->valuestring, name,
                    cJSON_GetObjectItem(j, "width")->valueint,
                    cJSON_GetObjectItem(j, "height")->valueint,
                    cJSON_GetObjectItem(j, "steps")->valueint,
                    cJSON_GetObjectItem(j, "guidance")->valuedouble, name,
                    cJSON_IsTrue(cJSON_GetObjectItem(j, "bins")) ? "" : "--no-bins", tmp),
        0);
    snprintf(path, sizeof path, "tests/fixtures/%s/expected.safetensors", name);
    ts_bag *b = testing_bag(path);
    ts_picture p = read_png("f.png");
    ck_assert_msg(ts_bag_get(&err, b, "frames", TS_U8, 4, (long[]){1, p.h, p.w, 3}, &want) == TS_OK,
                  "%s: %s", name, err.text);
    long n = 3L * p.w * p.h, off = 0;
    for (long i = 0; i < n; i++) off += abs(p.rgb[i] - ((const uint8_t *)want.data)[i]) > 1;
    ck_assert_msg((double)off <= 0.001 * (double)n,
                  "%s: %ld of %ld samples differ by more than one level", name, off, n);
    ts_picture_free(&p);
    ts_bag_free(b);
    cJSON_Delete(j);
}
END_TEST

/* Files of an older diffusers call the transformer by another name and know keys that mean nothing
 * here; a consistency model brings its own steps, and no guidance. */
START_TEST(other_directories)
{
    program_expect(
        program_shell("cp -rL tests/fixtures/pixart-sigma/model %s/old && sed -i "
                      "s/PixArtTransformer2DModel/Transformer2DModel/ %s/old/model_index.json "
                      "%s/old/transformer/config.json && "
                      "sed -i 's/\"dropout\": 0.0,/\"dropout\": 0.0, \"num_vector_embeds\": null, "
                      "\"only_cross_attention\": false, \"double_self_attention\": false, "
                      "\"use_linear_projection\": false,/' "
                      "%s/old/transformer/config.json",
                      tmp, tmp, tmp, tmp),
        0);
    const char *args = "\"a cat\" --size 48x64 --no-bins --steps 2 --precision f32";
    program_expect(
        program_run("generate %s " SIGMA "-o %s/new.png --no-metadata --quiet", args, tmp), 0);
    const program_result *r = program_run("generate %s --model %s/old -o %s/old.png --no-metadata",
                                          args, tmp, tmp);
    program_expect(r, 0);
    ck_assert_ptr_null(strstr(r->err, "warning"));
    ck_assert(same("new.png", "old.png"));
    program_expect(program_shell("sed -i s/DPMSolverMultistepScheduler/LCMScheduler/ "
                                 "%s/old/model_index.json %s/old/scheduler/scheduler_config.json",
                                 tmp, tmp),
                   0);
    r = program_run("info %s/old --json", tmp);
    program_expect(r, 0);
    cJSON *j = cJSON_Parse(r->out), *d = cJSON_GetObjectItem(j, "defaults");
    ck_assert(cJSON_GetObjectItem(d, "steps")->valueint == 4 &&
              cJSON_GetObjectItem(d, "guidance")->valuedouble == 1);
    ck_assert_str_eq(cJSON_GetObjectItem(d, "sampler")->valuestring, "lcm");
    ck_assert(cJSON_GetObjectItem(d, "width")->valueint == 512 && !cJSON_GetObjectItem(d, "shift"));
    cJSON_Delete(j);
}
END_TEST

/* ---- several at once ---- */
START_TEST(batch)
{
    program_expect(program_run("generate \"a cat\" " SMALL
                               "--seed 5 --count 3 -o %s/b.png --save-latents %s/b.safetensors",
                               tmp, tmp),
                   0);
    ck_assert(!there("b.png") && there("b-0.png") && there("b-1.png") && there("b-2.png") &&
              !there("b-3.png"));
    program_expect(program_run("generate \"a cat\" " SMALL "--seed 7 -o %s/alone.png", tmp), 0);
    ck_assert(same("alone.png", "b-2.png")); /* the same picture, and the same metadata */
    program_expect(
        program_run("generate " SIGMA "--from %s/b-1.png -o %s/again.png --quiet", tmp, tmp), 0);
    ck_assert(same("again.png", "b-1.png"));
    program_expect(program_run("decode %s/b.safetensors -o %s/decoded/ --quiet", tmp, tmp), 0);
    ck_assert(same("decoded/0000.png", "b-0.png") && same("decoded/0002.png", "b-2.png"));
}
END_TEST

START_TEST(sheet)
{
    program_expect(
        program_run("generate \"a cat\" " SMALL "--seed 5 --count 5 --grid -o %s/s.png", tmp), 0);
    program_expect(program_run("generate " SIGMA "--from %s/s.png -o %s/s2.png --quiet", tmp, tmp),
                   0);
    ck_assert(same("s.png", "s2.png"));
    program_expect(program_run("generate \"a cat\" " SMALL "--seed 9 -o %s/last.png", tmp), 0);
    ts_picture s = read_png("s.png"), last = read_png("last.png");
    /* five of 48x64: three and two, eight pixels between them */
    ck_assert_int_eq(s.w, 3 * (48 + 8) - 8);
    ck_assert_int_eq(s.h, 2 * (64 + 8) - 8);
    for (int y = 0; y < 64; y++)
        ck_assert_mem_eq(s.rgb + ((72 + y) * s.w + 56) * 3, last.rgb + y * 48 * 3, 48 * 3);
    /* the sixth place, and between the first two */
    for (int k = 0; k < 3; k++)
        ck_assert(s.rgb[(72 * s.w + s.w - 1) * 3 + k] == 255 && s.rgb[48 * 3 + k] == 255);
    ts_picture_free(&s);
    ts_picture_free(&last);
    /* frames of a clip, too */
    program_expect(program_run("generate \"a cat\" --size 64x64 --frames 5 --steps 1 --scale 1 "
                               "--grid -o %s/clip.png --quiet",
                               tmp),
                   0);
    ts_picture clip = read_png("clip.png");
    ck_assert(clip.w == 3 * 72 - 8 && clip.h == 2 * 72 - 8);
    ts_picture_free(&clip);
}
END_TEST

/* ---- a picture to begin with ---- */
START_TEST(from_a_picture)
{
    program_expect(
        program_run("generate \"a cat\" " SMALL
                    "--init tests/fixtures/pixart-sigma/init.png --strength 0.5 -o %s/i.png",
                    tmp),
        0);
    /* what it names is no path of this machine: it is found beside it, or else to be given */
    const program_result *r = program_run("info %s/i.png --json", tmp);
    ck_assert_msg(strstr(r->out, "\"init\":\"init.png\"") && strstr(r->out, "\"model\":\"model\""),
                  "%s", r->out);
    r = program_run("generate " SIGMA "--from %s/i.png -o %s/i2.png --quiet", tmp, tmp);
    program_expect(r, 3);
    ck_assert_msg(strstr(r->err, "init.png, the picture that ") &&
                      strstr(r->err, "/i.png began with, is not there: --init gives it"),
                  "%s", r->err);
    program_shell("cp tests/fixtures/pixart-sigma/init.png %s && "
                  "ln -s $PWD/tests/fixtures/pixart-sigma/model %s/model",
                  tmp, tmp);
    program_expect(program_run("generate --from %s/i.png -o %s/i2.png --quiet", tmp, tmp), 0);
    ck_assert(same("i.png", "i2.png"));
    program_expect(
        program_run("generate \"a cat\" " SMALL
                    "--init tests/fixtures/pixart-sigma/init.png --strength 1 -o %s/i3.png",
                    tmp),
        0);
    ck_assert(!same("i.png", "i3.png"));
    r = program_run("generate \"a cat\" " SMALL "--steps 6 --init "
                    "tests/fixtures/pixart-sigma/init.png --strength "
                    "0.5 -o %s/i4.png --profile --quiet",
                    tmp);
    program_expect(r, 0);
    ck_assert_msg(strstr(r->err, "denoising: 3 steps of ") != NULL, "%s", r->err);
    /* a step costs what it costs, however many there are */
    double cost[2] = {0, 0};
    for (int i = 0; i < 2; i++) {
        r = program_run(
            "generate \"a cat\" " SIGMA "--size 48x64 --no-bins --precision f32 --steps "
            "6 --progress json %s -o %s/i5-%d.png",
            i ? "--init tests/fixtures/pixart-sigma/init.png --strength 0.5" : "", tmp, i);
        program_expect(r, 0);
        ck_assert_msg(strstr(r->err, i ? "\"step\":3,\"steps\":3" : "\"step\":6,\"steps\":6") !=
                          NULL,
                      "%s", r->err);
        const char *key = strstr(r->err, "\"step_flops\":");
        ck_assert_msg(key != NULL && sscanf(key, "\"step_flops\":%lf", cost + i) == 1, "%s",
                      r->err);
    }
    /* but for its share of what is done once */
    ck_assert_double_eq_tol(cost[1] / cost[0], 1, 0.02);
}
END_TEST

/* From standard input the same picture comes of it; less than a step is one, and that is said. */
START_TEST(init_of_standard_input)
{
    const char *file = "tests/fixtures/pixart-sigma/init.png";
    program_expect(
        program_run("generate x " SMALL "--init %s --no-metadata -o %s/file.png", file, tmp), 0);
    const program_result *r = program_run(
        "generate x " SMALL "--init - --no-metadata -o %s/standard.png < %s", tmp, file);
    program_expect(r, 0);
    ck_assert(same("file.png", "standard.png"));
    program_expect(program_run("generate x " SMALL "--init - -o %s/none.png < /dev/null", tmp), 3);
    r = program_run("generate x " SIGMA
                    "--size 48x64 --no-bins --steps 2 --init %s --strength 0.1 -o %s/least.png",
                    file, tmp);
    program_expect(r, 0);
    ck_assert_msg(strstr(r->err, "strength 0.1 of 2 steps is less than a step: one is run, as of "
                                 "0.5") != NULL,
                  "%s", r->err);
}
END_TEST

#define CLIP "--size 64x64 --frames 5 --steps 1 --scale 1 "
/* Clips in turn: each is the one that its seed makes alone, the text is encoded once, and nothing
 * begins where one of them could not be written. */
START_TEST(clips_in_turn)
{
    const program_result *r = program_run("generate x " CLIP "--seed 7 --count 3 -o %s/t.mp4", tmp);
    program_expect(r, 0);
    char want[4096];
    snprintf(want, sizeof want, "%s/t-0.mp4\n%s/t-1.mp4\n%s/t-2.mp4\n", tmp, tmp, tmp);
    ck_assert_str_eq(r->out, want);
    const char *text = strstr(r->err, "encoding text");
    ck_assert_msg(text && !strstr(text + 1, "encoding text"), "%s", r->err);
    program_expect(program_run("generate x " CLIP "--seed 9 -o %s/nine.mp4 --quiet", tmp), 0);
    ck_assert(same("t-2.mp4", "nine.mp4") && !same("t-0.mp4", "t-1.mp4"));
    r = program_shell("rm %s/t-0.mp4 %s/t-1.mp4 && $TESSERA generate x " CLIP
                      "--count 3 -o %s/t.mp4 --quiet",
                      tmp, tmp, tmp);
    program_expect(r, 2);
    ck_assert(strstr(r->err, "/t-2.mp4 exists already") && !there("t-0.mp4"));
    r = program_run("generate x " CLIP "--count 2 -o %s/dry.mp4 --dry-run", tmp);
    program_expect(r, 0);
    ck_assert_msg(strstr(r->out, "/dry-0.mp4\n") && strstr(r->out, "2, one after the other"), "%s",
                  r->out);
    ck_assert(!there("dry-0.mp4"));
}
END_TEST

/* Clips side by side: each frame has that of every clip, which is the one of its seed. */
START_TEST(clips_side_by_side)
{
    program_expect(program_run("generate x " CLIP "--seed 7 --count 3 --grid -o %s/w/", tmp), 0);
    for (int clip = 0; clip < 3; clip++) {
        program_expect(
            program_run("generate x " CLIP "--seed %d -o %s/w-%d/ --quiet", 7 + clip, tmp, clip),
            0);
        for (int i = 0; i < 5; i++) {
            char name[64];
            snprintf(name, sizeof name, "w/%04d.png", i);
            ts_picture all = read_png(name);
            snprintf(name, sizeof name, "w-%d/%04d.png", clip, i);
            ts_picture one = read_png(name);
            ck_assert(all.w == 64 + 8 + 64 && all.h == 64 + 8 + 64);
            for (int y = 0; y < 64; y++)
                ck_assert_mem_eq(all.rgb + ((y + clip / 2 * 72) * all.w + clip % 2 * 72) * 3,
                                 one.rgb + y * 64 * 3, 64 * 3);
            ck_assert(all.rgb[64 * 3] == 255 && all.rgb[(100 * all.w + 100) * 3] == 255);
            ts_picture_free(&all);
            ts_picture_free(&one);
        }
    }
    const program_result *r = program_run(
        "generate x " CLIP "--seed 7 --count 3 --grid -o %s/w.mp4", tmp);
    program_expect(r, 0);
    const char *done = strstr(r->err, "done in");
    ck_assert_msg(done && !strstr(done + 1, "done in"), "%s", r->err);
    char want[4096];
    snprintf(want, sizeof want, "%s/w.mp4\n", tmp);
    ck_assert_str_eq(r->out, want);
    program_expect(program_run("generate --from %s/w.mp4 -o %s/w2.mp4 --quiet", tmp, tmp), 0);
    ck_assert(same("w.mp4", "w2.mp4"));
    program_expect(program_run("generate --from %s/w.mp4 --count 1 -o %s/w3.mp4", tmp, tmp), 0);
    r = program_run("info %s/w3.mp4", tmp);
    ck_assert_msg(strstr(r->out, "64x64") && !strstr(r->out, "grid"), "%s", r->out);
    /* by seed, in a picture; what it is called when nobody says it */
    r = program_run("generate x --size 64x64 --steps 1 --scale 1 --count 4 --grid -o %s/still.png",
                    tmp);
    program_expect(r, 0);
    ck_assert_msg(strstr(r->err, "written as 136x136, 1 frame,") != NULL, "%s", r->err);
    r = program_run("generate x " CLIP "--count 2 --grid --dry-run");
    ck_assert_msg(strstr(r->out, ".mp4\n") && strstr(r->out, "written as 136x64, 5 f"), "%s",
                  r->out);
    r = program_run("generate x " CLIP "--grid --dry-run");
    ck_assert_msg(strstr(r->out, ".png\n") && strstr(r->out, "written as 208x136, 5 f"), "%s",
                  r->out);
}
END_TEST

START_TEST(refused)
{
    static const struct {
        const char *args;
        int code;
        const char *says;
    } bad[] = {
        {"generate x " SMALL "--init Makefile", 3,
         "Makefile: not a picture that can be read (PNG, JPEG, WebP, TIFF, GIF, BMP, TGA)"},
        {"generate x " SMALL "--init nowhere.jpg", 3,
         "--init: nowhere.jpg: No such file or directory"},
        {"generate x " SMALL "--strength 0.5", 2,
         "--strength: there is no picture to begin with, --init gives it"},
        {"generate x " SMALL "--init tests/fixtures/pixart-sigma/init.png --strength 1.5", 2,
         "--strength: got \"1.5\", wanted a number from 0.01 to 1"},
        {"generate - " SMALL "--init -", 2, "- is standard input, and can be read once"},
        {"generate x --init tests/fixtures/pixart-sigma/init.png", 2,
         "this model makes clips and begins with noise"},
        {"generate x --count 2 --grid --frames 5", 2, "5 frames do not fit one picture"},
        {"generate x --count 64 --grid --size 4096x4096", 2,
         "a sheet of 64 pictures of 4096x4096 would be 32824x32824, at most 32768 a side"},
        {"generate x --count 2 --state s", 2, "--state is of one clip"},
        {"generate x --count 2 -o f-%d.png", 2,
         "f-%d.png is no name that clips can be numbered by"},
        {"generate x --count 2 -o -", 2, "- is no name that clips can be numbered by"},
        {"generate x " SMALL "--count 65", 2,
         "--count: got \"65\", wanted a whole number from 1 to 64"},
        {"generate x " SMALL "--grid -o x.gif", 2,
         "--grid: the output is x.gif, a sheet is one picture: name a .png"},
        {"generate x " SIGMA "--size 48x64 --no-bins --sampler unipc", 2,
         "sampler unipc: must be dpmpp-2m, ddim, euler, lcm, dpmpp-2m-sde or euler-a for "
         "this model"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const program_result *r = program_run("%s%s%s%s", bad[i].args,
                                              strstr(bad[i].args, "-o ") ? "" : " -o ",
                                              strstr(bad[i].args, "-o ") ? "" : tmp,
                                              strstr(bad[i].args, "-o ") ? "" : "/refused.png");
        program_expect(r, bad[i].code);
        ck_assert_msg(strstr(r->err, bad[i].says) != NULL, "%s\n%s does not say %s", bad[i].args,
                      r->err, bad[i].says);
        ck_assert(!there("refused.png"));
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("generate_pictures");
    TCase *tc = tcase_create("generate_pictures");
    tmp = testing_tmp();
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, fixture, 0, 3);
    tcase_add_test(tc, other_directories);
    tcase_add_test(tc, batch);
    tcase_add_test(tc, sheet);
    tcase_add_test(tc, from_a_picture);
    tcase_add_test(tc, init_of_standard_input);
    tcase_add_test(tc, clips_in_turn);
    tcase_add_test(tc, clips_side_by_side);
    tcase_add_test(tc, refused);
    suite_add_tcase(suite, tc);
    int bad = testing_main(suite);
    free(tmp);
    return bad;
}
