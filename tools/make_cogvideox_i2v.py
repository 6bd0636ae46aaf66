"""CogVideoX image to video on small models: the fixtures cogvideox-5b-i2v and cogvideox15-5b-i2v.

  python3 tools/make_cogvideox_i2v.py

writes them into tests/fixtures, with text encoder, VAE and tokenizer of the fixtures of text to
video as links; only the transformers are their own. Needs torch, diffusers, transformers,
sentencepiece and pillow. In noise.safetensors: `noise`, `image_noise`, with which the latents of
the image are drawn, and where the scheduler draws `step_noise`; in expected.safetensors what
CogVideoXImageToVideoPipeline makes of them, in f32 on a CPU: `condition_pixels`, `condition`
(channels beside the sample's), `latents`, `frames`."""

import json
import os
import shutil
import sys

import numpy as np
import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    CogVideoXImageToVideoPipeline,
    CogVideoXTransformer3DModel,
)
from diffusers.models.autoencoders import vae as autoencoders
from PIL import Image
from safetensors.torch import save_file
from transformers import T5EncoderModel, T5Tokenizer

FIXTURES = os.path.join(
    os.path.dirname(os.path.abspath(__file__)), "..", "tests", "fixtures"
)
IMAGE = "wan21-i2v/image.png"
SCHEDULE = dict(
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    clip_sample=False,
    prediction_type="v_prediction",
    rescale_betas_zero_snr=True,
    snr_shift_scale=1.0,
    timestep_spacing="trailing",
)


def fill(model, seed):
    """Numbers of the size that training leaves, so that each of them counts."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, w in model.named_parameters():
            r = torch.randn(w.shape, generator=g)
            if w.ndim == 1:
                w.copy_(1 + 0.15 * r if name.endswith("weight") else 0.08 * r)
            else:
                w.copy_(r / (w.numel() / w.shape[0]) ** 0.5)
        for name, w in model.named_buffers():
            w.add_(0.3 * torch.randn(w.shape, generator=g))
    return model.to(torch.bfloat16).float().eval()  # as its file will have it


def flip(x):
    """[.., F, C, H, W] <-> [.., C, F, H, W]"""
    return x.transpose(-4, -3)


def link(target, path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.symlink(os.path.relpath(target, os.path.dirname(path)), path)


def link_part(base, root, name):
    folder = os.path.join(FIXTURES, base, "model", name)
    link(os.path.realpath(folder), os.path.join(root, "model", name))


def write(path, value):
    with open(path, "w") as f:
        json.dump(value, f, indent=2)


def make(name, base, seed, size, frames, steps, dpm, scaling, transformer):
    root, width, height = os.path.join(FIXTURES, name), *size
    old = os.path.join(FIXTURES, base, "model")
    shutil.rmtree(root, ignore_errors=True)
    vae = AutoencoderKLCogVideoX.from_pretrained(os.path.join(old, "vae"))
    vae.register_to_config(scaling_factor=scaling)
    z, deep = vae.config.latent_channels, transformer.get("patch_size_t")
    dit = fill(
        CogVideoXTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            in_channels=2 * z,
            out_channels=z,
            time_embed_dim=16,
            text_embed_dim=32,
            num_layers=2,
            sample_width=width // 8,
            sample_height=height // 8,
            sample_frames=frames,
            use_rotary_positional_embeddings=True,
            **transformer,
        ),
        seed,
    )
    pipe = CogVideoXImageToVideoPipeline(
        tokenizer=T5Tokenizer.from_pretrained(os.path.join(old, "tokenizer")),
        text_encoder=T5EncoderModel.from_pretrained(os.path.join(old, "text_encoder")),
        vae=vae,
        transformer=dit,
        scheduler=(CogVideoXDPMScheduler if dpm else CogVideoXDDIMScheduler)(**SCHEDULE),
    )
    pipe.set_progress_bar_config(disable=True)
    latents = (frames - 1) // 4 + 1
    padding = -latents % (deep or 1)
    g = torch.Generator().manual_seed(seed + 1)
    shape = (z, latents + padding, height // 8, width // 8)
    noise, image_noise = torch.randn(shape, generator=g), torch.randn(z, 1, *shape[2:], generator=g)
    step_noise = torch.randn(steps, *shape, generator=g)

    autoencoders.randn_tensor = lambda *a, **k: image_noise[None]
    module, at = sys.modules[type(pipe.scheduler).__module__], [-1]
    step = pipe.scheduler.step

    def count(*a, **k):
        at[0] += 1
        return step(*a, **k)

    module.randn_tensor, pipe.scheduler.step = lambda *a, **k: flip(step_noise[at[0]])[None], count
    seen = {}

    def look(m, a, k):
        seen.setdefault("beside", k["hidden_states"][-1, :, z:].clone())

    dit.register_forward_pre_hook(look, with_kwargs=True)
    case = dict(
        family="cogvideox",
        prompt="the fox turns its head",
        negative="blurry",
        width=width,
        height=height,
        frames=frames,
        steps=steps,
        guidance=5.0,
        sampler="dpmpp-2m-sde" if dpm else "ddim",
        seed=seed,
        image="image.png",
    )
    image = Image.open(os.path.join(FIXTURES, IMAGE)).convert("RGB")
    out = pipe(
        image=image,
        prompt=case["prompt"],
        negative_prompt=case["negative"],
        width=width,
        height=height,
        num_frames=frames,
        num_inference_steps=steps,
        guidance_scale=case["guidance"],
        latents=flip(noise)[None].clone(),
        output_type="latent",
    ).frames
    with torch.no_grad():
        pixels = pipe.decode_latents(out[:, padding:])
    clip = pipe.video_processor.postprocess_video(pixels, output_type="np")[0]
    expected = dict(
        condition_pixels=pipe.video_processor.preprocess(image, height=height, width=width),
        condition=flip(seen["beside"]),
        latents=flip(out[0]),
        frames=torch.from_numpy(np.round(clip * 255).astype(np.uint8)),
    )
    for part in ("text_encoder", "tokenizer"):
        link_part(base, root, part)
    with open(os.path.join(old, "vae", "config.json")) as f:
        config = json.load(f)
    if config["scaling_factor"] == scaling:
        link_part(base, root, "vae")
    else:
        link_part(base, root, os.path.join("vae", "diffusion_pytorch_model.safetensors"))
        config["scaling_factor"] = scaling
        write(os.path.join(root, "model", "vae", "config.json"), config)
    dit.to(torch.bfloat16).save_pretrained(os.path.join(root, "model", "transformer"))
    pipe.scheduler.save_pretrained(os.path.join(root, "model", "scheduler"))
    index = {k: v for k, v in pipe.config.items() if isinstance(v, (list, tuple))}
    index["tokenizer"] = ["transformers", "T5Tokenizer"]
    write(
        os.path.join(root, "model", "model_index.json"),
        {"_class_name": type(pipe).__name__, **index},
    )
    link(os.path.join(FIXTURES, IMAGE), os.path.join(root, "image.png"))
    given = dict(noise=noise, image_noise=image_noise)
    if dpm:
        given["step_noise"] = step_noise
    for file, bag in (("noise", given), ("expected", expected)):
        bag = {k: v.contiguous().clone() for k, v in bag.items()}
        save_file(bag, os.path.join(root, file + ".safetensors"))
    write(os.path.join(root, "case.json"), case)
    print(name, "latents rms %.3f" % out.square().mean().sqrt().item())


torch.manual_seed(0)
# a size and length that positions are learned of; the sizes of the VAE are those of the fixture
make(
    "cogvideox-5b-i2v",
    "cogvideox-2b",
    431,
    (64, 48),
    9,
    5,
    False,
    0.7,
    dict(use_learned_positional_embeddings=True),
)
# padding before the clip, an image that is scaled as it is decoded, an offset, noise after steps
make(
    "cogvideox15-5b-i2v",
    "cogvideox15-5b",
    441,
    (80, 48),
    9,
    4,
    True,
    0.7,
    dict(patch_size_t=2, ofs_embed_dim=16, patch_bias=False),
)
