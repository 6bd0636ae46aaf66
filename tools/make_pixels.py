"""Pixels and frames of the Wan and PixArt fixtures anew, for a fixture that gets another VAE.

    python3 tools/make_pixels.py [--check] NAME ...

Decodes the expected latents of tests/fixtures/NAME in f32 with the fixture's VAE by diffusers and
writes what of `pixels` and `frames` its expected.safetensors has, of the pixels as many rows.
--check writes nothing and says how far the file is from that. Needs torch, diffusers, safetensors.
"""

import argparse
import json
import os
import sys

import torch
from diffusers import AutoencoderKL, AutoencoderKLWan
from diffusers.image_processor import PixArtImageProcessor
from safetensors.torch import load_file, save_file

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "train"))
from fixture import unclamped  # noqa: E402


def decoded(folder, latents):
    """[3, F, H, W] before the clamp."""
    with open(os.path.join(folder, "config.json")) as f:
        kind = json.load(f)["_class_name"]
    cls = {"AutoencoderKLWan": AutoencoderKLWan, "AutoencoderKL": AutoencoderKL}[kind]
    vae = cls.from_pretrained(folder, torch_dtype=torch.float32).eval()
    if cls is AutoencoderKL:
        return vae.decode(latents[None, :, 0] / vae.config.scaling_factor).sample[0][:, None]
    std, mean = (
        torch.tensor(v).view(1, -1, 1, 1, 1)
        for v in (vae.config.latents_std, vae.config.latents_mean)
    )
    return unclamped(vae, latents[None] * std + mean)[0]


def frames_of(pixels, case):
    """u8 [F, H, W, 3] as a lossless file has them, in the size that the case asks for."""
    x = pixels.clamp(-1, 1)
    if case["family"] == "pixart" and x.shape[2:] != (case["height"], case["width"]):
        resize = PixArtImageProcessor.resize_and_crop_tensor
        x = resize(pixels[:, 0][None], case["width"], case["height"])[0][:, None]
    x = (x * 0.5 + 0.5).clamp(0, 1).permute(1, 2, 3, 0)
    return (x * 255).round().to(torch.uint8)


@torch.no_grad()
def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--check", action="store_true")
    p.add_argument("name", nargs="+")
    a = p.parse_args()
    for name in a.name:
        root = os.path.join(HERE, "..", "tests", "fixtures", name)
        path = os.path.join(root, "expected.safetensors")
        with open(os.path.join(root, "case.json")) as f:
            case = json.load(f)
        old = load_file(path)
        pixels = decoded(os.path.join(root, "model", "vae"), old["latents"])
        new = {"frames": frames_of(pixels, case)[: len(old["frames"])]}
        if "pixels" in old:
            apart = pixels.shape[2] // old["pixels"].shape[2]
            ends = pixels[:, [0, -1]] if pixels.shape[1] > 1 else pixels
            new["pixels"] = ends[:, :, ::apart]
            off = (new["pixels"] - old["pixels"]).abs().max()
            rel = (new["pixels"] - old["pixels"]).norm() / old["pixels"].norm()
            print(f"{name}: pixels differ by at most {off:.1e}, relative {rel:.1e}")
        levels = (new["frames"].int() - old["frames"].int()).abs()
        beyond = (pixels.abs() > 1).float().mean()
        print(
            f"{name}: {int((levels > 0).sum())} of {levels.numel()} samples of frames differ, by "
            f"at most {int(levels.max())}; {beyond:.3f} of the pixels are beyond 1"
        )
        if not a.check:
            save_file({**old, **{k: v.contiguous() for k, v in new.items()}}, path)


if __name__ == "__main__":
    main()
