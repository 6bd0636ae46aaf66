/* What info says of every kind of file and folder that the program writes. */
#include "tests/cli/program.h"
#include "tests/cli/workspace.h"

#include <stdio.h>

static const char *told(const char *name)
{
    const program_result *r = program_run("info %s", scratch_path(name));
    program_expect(r, 0);
    ck_assert_str_eq(r->err, "");
    return r->out;
}

START_TEST(files_and_folders_of_a_run)
{
    program_expect(program_run("generate 'a panda' -q --steps 2 --frames 5 --size 32x32 --scale 1 "
                               "-o %s/ --state %s --save-latents %s",
                               scratch_path("frames"), scratch_path("s.state"),
                               scratch_path("l.safetensors")),
                   0);
    program_expect(program_run("decode %s -q -o %s --scale 2", scratch_path("l.safetensors"),
                               scratch_path("c.mp4")),
                   0);
    text_has(told("c.mp4"), "kind         clip\nformat       MP4, h264\npixels       64x64, as");
    text_has(told("c.mp4"), "frames       5\n");
    text_has(told("c.mp4"), "prompt       a panda");
    text_has(told("s.state"), "kind         state\ndone         2 of 2 steps\n");
    text_has(told("l.safetensors"), "kind         latents\nshape        [24,2,8,8]\n");
    text_has(told("frames"), "kind         folder of frames\nfiles        5\npixels       32x32");
    text_has(told("frames/0000.png"), "kind         picture\nformat       PNG, png\n");
    const program_result *r = program_run("info --json %s %s", scratch_path("c.mp4"),
                                          scratch_path("s.state"));
    program_expect(r, 0);
    ck_assert_int_eq(text_count(r->out, "\n"), 2);
    text_has(r->out, "\"file\":{\"kind\":\"clip\",\"container\":\"MP4\",\"codec\":\"h264\"");
    text_has(r->out, "\"file\":{\"kind\":\"state\",\"done\":2,\"steps\":2");
    /* the others are told, too */
    r = program_run("info %s /nonexistent", scratch_path("c.mp4"));
    program_expect(r, 3);
    text_has(r->out, "kind         clip");
    text_has(r->err, "/nonexistent: No such file");
    text_has(r->err, "1 of 2 arguments can not be told");
    scratch_clear();
}
END_TEST

START_TEST(a_batch_and_its_files)
{
    scratch_put("p.txt", "a panda\n");
    program_expect(program_run("batch %s -q --steps 1 --frames 1 --size 32x32 --scale 1 --out %s "
                               "--cache %s --report %s",
                               scratch_path("p.txt"), scratch_path("o"), scratch_path("texts"),
                               scratch_path("r.html")),
                   0);
    text_has(told("o"), "1 of 1 rows done");
    text_has(told("o/tessera-batch.jsonl"),
             "kind         manifest of a batch\nrows         1\ndone         1\nfailed       0\n");
    text_has(told("texts"), "kind         folder of encoded texts\n");
    text_has(told("r.html"), "kind         report of a batch\n");
    scratch_clear();
}
END_TEST

START_TEST(texts_and_weights)
{
    scratch_put("t.json", "{\"format\":1,\"frames\":8,\"layers\":[1,2,0],\"kept\":0.5}");
    text_has(told("t.json"), "kind         tiles\nlatent_frames 8\nlayers       3\n");
    scratch_put("m.json", "{\"tessera\":\"0.1.0\",\"bench\":\"clips\",\"steps\":4}");
    text_has(told("m.json"), "kind         measurements\nbench        clips\n");
    const program_result *r = program_run("info weights/default/vae/diffusion_pytorch_model."
                                          "safetensors");
    program_expect(r, 0);
    text_has(r->out, "kind         Wan VAE\nclass        AutoencoderKLWan\n");
    text_has(r->out, "tensors      122\n");
    r = program_run("info tests/fixtures/lora-diff/lora.safetensors");
    program_expect(r, 0);
    text_has(r->out, "kind         LoRA\nfamily       Wan\nwidth        32\nlayers       35\n");
    text_has(r->out, "rank         4\nscale        1\ndifferences  61\n");
    r = program_run("info tests/fixtures/lora-names/kohya.safetensors");
    program_expect(r, 0);
    text_has(r->out, "rank         4 to 8\nscale        0.25\n");
    r = program_run("info tests/fixtures/gguf-mixed/transformer.gguf");
    program_expect(r, 0);
    text_has(r->out, "kind         Wan transformer\nclass        WanTransformer3DModel\n");
    text_has(r->out, "names        of its authors\nwidth        128\n");
    r = program_run("info tests/fixtures/hostile-weights/dora.safetensors");
    program_expect(r, 3);
    text_has(r->err, "DoRA");
    scratch_put("x.json", "{\"a\":1}");
    r = program_run("info %s", scratch_path("x.json"));
    program_expect(r, 3);
    text_has(r->err, "is JSON, but none that tessera writes");
    scratch_put("empty", "");
    r = program_run("info %s", scratch_path("empty"));
    program_expect(r, 3);
    text_has(r->err, "empty: is empty");
    scratch_put("lfs", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n");
    r = program_run("info %s", scratch_path("lfs"));
    program_expect(r, 3);
    text_has(r->err, "Git LFS pointer");
    scratch_clear();
}
END_TEST

START_TEST(models_of_cache_and_folders)
{
    program_expect(program_shell("mkdir -p %s && cp -rL tests/fixtures/wan21-t2v/model %s && rm "
                                 "%s/transformer/*.safetensors && mkdir -p "
                                 "%s/models--Org--Other/snapshots",
                                 scratch_path("all"), scratch_path("all/broken"),
                                 scratch_path("all/broken"), scratch_path("hub")),
                   0);
    const program_result *r = program_shell(
        "HF_HUB_CACHE=%s $TESSERA models %s tests/fixtures/pixart-alpha-256/model",
        scratch_path("hub"), scratch_path("all"));
    program_expect(r, 0);
    text_has(r->out, "default\n  WanPipeline, ");
    text_has(r->out, "of weights, runs with ");
    text_has(r->out, "Org/Other\n  ");
    text_has(r->out, "all/broken\n  ");
    text_has(r->out, "neither diffusion_pytorch_model.safetensors");
    text_has(r->out, "pixart-alpha-256/model\n  PixArtAlphaPipeline, ");
    text_has(r->out, "hf download Wan-AI/Wan2.1-T2V-1.3B-Diffusers");
    r = program_shell("HF_HUB_CACHE=/nonexistent $TESSERA models --json");
    program_expect(r, 0);
    text_has(r->out, "[{\"model\":\"default\",\"pipeline\":\"WanPipeline\",\"bytes\":");
    program_expect(program_run("models /nonexistent"), 3);
    scratch_clear();
}
END_TEST

START_TEST(a_model_of_the_environment)
{
    static const char fixture[] = "TESSERA_MODEL=tests/fixtures/pixart-alpha-256/model ";
    program_expect(
        program_shell("%s $TESSERA generate x --dry-run -o %s", fixture, scratch_path("x.png")), 0);
    text_has(program_shell("%s $TESSERA generate x --dry-run -o %s", fixture, scratch_path("x.png"))
                 ->out,
             "PixArtAlphaPipeline");
    text_has(program_shell("%s $TESSERA generate x -m default --dry-run -o %s", fixture,
                           scratch_path("x.png"))
                 ->out,
             "WanPipeline");
    program_expect(program_shell("TESSERA_MODEL=/nonexistent $TESSERA tokens x"), 3);
}
END_TEST

int main(void)
{
    scratch_open();
    Suite *s = suite_create("info");
    TCase *t = tcase_create("info");
    tcase_set_timeout(t, 300);
    tcase_add_test(t, files_and_folders_of_a_run);
    tcase_add_test(t, a_batch_and_its_files);
    tcase_add_test(t, texts_and_weights);
    tcase_add_test(t, models_of_cache_and_folders);
    tcase_add_test(t, a_model_of_the_environment);
    suite_add_tcase(s, t);
    return testing_main(s);
}
