"""A diffusers directory of a published shape (Wan, CogVideoX, HunyuanVideo, Open-Sora-Plan, PixArt)
with random weights, for measuring without a download. Needs nothing but Python.

  python3 tools/random_model.py OUT [--shape 1.3b|14b|5b|a14b|i2v-14b|flf2v-14b|i2v-a14b|pixart|
                                             pixart-sigma|cogvideox-2b|cogvideox-5b|
                                             cogvideox-1.5|cogvideox-5b-i2v|
                                             cogvideox-1.5-i2v|hunyuanvideo|opensora]
                                    [--layers N] [--text-layers N] [--from MODEL]

--layers cuts Wan's transformers (i2v-14b of 40 layers has 33 GB) and HunyuanVideo's (a third of
them of two streams), --text-layers the text encoder.

Weights repeat one block of random bf16 numbers of the right scale, so that arithmetic stays finite
and disks are written at their own speed. The tokenizer is copied from MODEL (the default model's
unless given); ids stay small, so it fits any vocabulary. 1.3b writes 2.8 GB, 11.4 GB of text
encoder and 0.5 GB of VAE; pixart 1.2 GB, 9.5 GB and 0.3 GB (pixart: 1024 pixels with size
conditions; pixart-sigma: 2048 pixels, 300 tokens); hunyuanvideo 26 GB, 16 GB and 1 GB, with the
tokenizers of a fixture.
"""

import argparse
import json
import os
import random
import shutil
import struct

from random_encoders import clip, clip_vision, llama, t5, umt5
from random_transformers import COGVIDEOX, DIT, cogvideox, hunyuan, opensora, pixart, transformer
from random_vaes import cogvideox_vae, hunyuan_vae, kl, opensora_vae, vae

HERE = os.path.dirname(os.path.abspath(__file__))


def bf16(x):
    return struct.unpack("<I", struct.pack("<f", x))[0] + 0x8000 >> 16 & 0xFFFF


def chunk(dtype, scale, base=0.0, n=1 << 16):
    rng = random.Random(1)
    values = [base + scale * rng.uniform(-1.7, 1.7) for _ in range(n)]
    return (
        struct.pack("<%dH" % n, *map(bf16, values))
        if dtype == "BF16"
        else struct.pack("<%df" % n, *values)
    )


def write(path, tensors, dtype):
    """tensors: {name: shape}. Matrices have variance 1 / fan_in, vectors named *norm*, gamma or
    weight are about 1, biases about 0."""
    size = 2 if dtype == "BF16" else 4
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in tensors.items():
        n = size
        for d in shape:
            n *= d
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    made = {}
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name, shape in tensors.items():
            wide = [d for d in shape if d > 1]
            if name.endswith("scale_shift_table"):
                key = (0.3, 0.0)
            elif len(wide) > 1 and "gamma" not in name:
                fan = 1
                for d in shape[1:]:
                    fan *= d
                key = (round(fan**-0.5, 6), 0.0)
            else:
                key = (0.1, 0.0 if name.endswith("bias") else 1.0)
            block = made.setdefault(key, chunk(dtype, *key))
            left = header[name]["data_offsets"][1] - header[name]["data_offsets"][0]
            while left > 0:
                f.write(block[:left])
                left -= min(left, len(block))


def hunyuan_files(a):
    dual = (a.layers or 60) // 3
    parts = {
        "transformer": hunyuan(dual=dual, single=(a.layers or 60) - dual),
        "text_encoder": llama(a.text_layers or 32),
        "text_encoder_2": clip(),
        "vae": hunyuan_vae(),
    }
    scheduler = dict(_class_name="FlowMatchEulerDiscreteScheduler", shift=7.0)
    index = dict(
        _class_name="HunyuanVideoPipeline",
        scheduler=["diffusers", "FlowMatchEulerDiscreteScheduler"],
        text_encoder=["transformers", "LlamaModel"],
        text_encoder_2=["transformers", "CLIPTextModel"],
        tokenizer=["transformers", "LlamaTokenizerFast"],
        tokenizer_2=["transformers", "CLIPTokenizer"],
        transformer=["diffusers", "HunyuanVideoTransformer3DModel"],
        vae=["diffusers", "AutoencoderKLHunyuanVideo"],
    )
    return parts, scheduler, index


def cut(dit, layers):
    return (dit[0], min(dit[1], layers or dit[1]), *dit[2:])


def wan_files(a):
    parts = {
        "transformer": transformer(*cut(DIT[a.shape], a.layers), a.shape),
        "text_encoder": umt5(a.text_layers or 24),
        "vae": vae(a.shape == "5b"),
    }
    images, experts = "2v" in a.shape, a.shape.endswith("a14b")
    encoder = images and not experts
    if encoder:
        parts["image_encoder"] = clip_vision()
    if experts:
        parts["transformer_2"] = parts["transformer"]
    scheduler = dict(
        _class_name="UniPCMultistepScheduler",
        num_train_timesteps=1000,
        solver_order=2,
        solver_type="bh2",
        predict_x0=True,
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        flow_shift=3.0,
        lower_order_final=True,
        disable_corrector=[],
        final_sigmas_type="zero",
        thresholding=False,
    )
    index = dict(
        _class_name="WanImageToVideoPipeline" if images else "WanPipeline",
        boundary_ratio=(0.9 if images else 0.875) if experts else None,
        expand_timesteps=a.shape == "5b",
        scheduler=["diffusers", "UniPCMultistepScheduler"],
        text_encoder=["transformers", "UMT5EncoderModel"],
        tokenizer=["transformers", "T5TokenizerFast"],
        transformer=["diffusers", "WanTransformer3DModel"],
        transformer_2=["diffusers", "WanTransformer3DModel"] if experts else [None, None],
        image_encoder=["transformers", "CLIPVisionModel"] if encoder else [None, None],
        vae=["diffusers", "AutoencoderKLWan"],
    )
    return parts, scheduler, index


def pixart_files(a):
    sigma = a.shape == "pixart-sigma"
    parts = {
        "transformer": pixart(sigma),
        "text_encoder": t5(a.text_layers or 24),
        "vae": kl(0.13025 if sigma else 0.18215),
    }
    scheduler = dict(
        _class_name="DPMSolverMultistepScheduler",
        num_train_timesteps=1000,
        beta_start=0.0001,
        beta_end=0.02,
        beta_schedule="linear",
        solver_order=2,
        solver_type="midpoint",
        algorithm_type="dpmsolver++",
        prediction_type="epsilon",
        timestep_spacing="linspace",
        lower_order_final=True,
        thresholding=False,
    )
    index = dict(
        _class_name="PixArtSigmaPipeline" if sigma else "PixArtAlphaPipeline",
        scheduler=["diffusers", "DPMSolverMultistepScheduler"],
        text_encoder=["transformers", "T5EncoderModel"],
        tokenizer=["transformers", "T5TokenizerFast"],
        transformer=["diffusers", "PixArtTransformer2DModel"],
        vae=["diffusers", "AutoencoderKL"],
    )
    return parts, scheduler, index


def cogvideox_files(a):
    heads, layers, rope, deep = COGVIDEOX[a.shape]
    image = a.shape.endswith("-i2v")
    parts = {
        "transformer": cogvideox(heads, layers, rope, deep, image),
        "text_encoder": t5(a.text_layers or 24),
        "vae": cogvideox_vae(0.7 if rope else 1.15258426, deep),
    }
    scheduler = dict(
        _class_name="CogVideoXDDIMScheduler",
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=True,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        snr_shift_scale=1.0 if rope else 3.0,
        timestep_spacing="trailing",
    )
    index = dict(
        _class_name="CogVideoXImageToVideoPipeline" if image else "CogVideoXPipeline",
        scheduler=["diffusers", "CogVideoXDDIMScheduler"],
        text_encoder=["transformers", "T5EncoderModel"],
        tokenizer=["transformers", "T5Tokenizer"],
        transformer=["diffusers", "CogVideoXTransformer3DModel"],
        vae=["diffusers", "AutoencoderKLCogVideoX"],
    )
    return parts, scheduler, index


def opensora_files(a):
    text, config = t5(a.text_layers or 24, 250112)
    parts = {
        "transformer": opensora(),
        "text_encoder": (text, dict(config, architectures=["MT5EncoderModel"], model_type="mt5")),
        "vae": opensora_vae(),
    }
    scheduler = dict(
        _class_name="EulerAncestralDiscreteScheduler",
        num_train_timesteps=1000,
        beta_start=0.0001,
        beta_end=0.02,
        beta_schedule="linear",
        prediction_type="epsilon",
        timestep_spacing="linspace",
    )
    index = dict(
        _class_name="OpenSoraPipeline",
        scheduler=["diffusers", "EulerAncestralDiscreteScheduler"],
        text_encoder=["transformers", "MT5EncoderModel"],
        tokenizer=["transformers", "T5TokenizerFast"],
        transformer=["opensora", "OpenSoraT2V"],
        vae=["opensora", "CausalVAEModel"],
    )
    return parts, scheduler, index


SHAPES = [*DIT, "pixart", "pixart-sigma", *COGVIDEOX, "hunyuanvideo", "opensora"]


def files_of(a):
    if a.shape in COGVIDEOX:
        return cogvideox_files(a)
    if a.shape == "hunyuanvideo":
        return hunyuan_files(a)
    if a.shape == "opensora":
        return opensora_files(a)
    return (pixart_files if a.shape.startswith("pixart") else wan_files)(a)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("out")
    p.add_argument("--shape", choices=SHAPES, default="1.3b")
    p.add_argument("--layers", type=int)
    p.add_argument("--text-layers", type=int, default=0)  # 0: as published
    p.add_argument("--from", dest="model", default=None)
    a = p.parse_args()
    hunyuan_shape = a.shape == "hunyuanvideo"
    fixture = os.path.join(HERE, "..", "tests", "fixtures", "hunyuanvideo-adaspa", "model")
    a.model = a.model or (
        fixture if hunyuan_shape else os.path.join(HERE, "..", "weights", "default")
    )
    parts, scheduler, index = files_of(a)
    for name, (tensors, config) in parts.items():
        stem = "model" if name.endswith(("encoder", "encoder_2")) else "diffusion_pytorch_model"
        write(
            os.path.join(a.out, name, stem + ".safetensors"),
            tensors,
            "F32" if name == "vae" else "BF16",
        )
        json.dump(config, open(os.path.join(a.out, name, "config.json"), "w"), indent=2)
    for name in ["tokenizer", "tokenizer_2"] if hunyuan_shape else ["tokenizer"]:
        shutil.copytree(
            os.path.join(a.model, name), os.path.join(a.out, name), dirs_exist_ok=True
        )
    os.makedirs(os.path.join(a.out, "scheduler"), exist_ok=True)
    json.dump(
        scheduler, open(os.path.join(a.out, "scheduler", "scheduler_config.json"), "w"), indent=2
    )
    json.dump(index, open(os.path.join(a.out, "model_index.json"), "w"), indent=2)
    for name, (tensors, _) in parts.items():
        n = 0
        for shape in tensors.values():
            k = 1
            for d in shape:
                k *= d
            n += k
        print("%-14s %5d tensors %15d parameters" % (name, len(tensors), n))


if __name__ == "__main__":
    main()
