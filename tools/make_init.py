"""Image to image on the fixture pixart-sigma, by diffusers' parts: what --init must reproduce.

  python3 tools/make_init.py

writes init.png and init.safetensors into tests/fixtures/pixart-sigma. Needs torch, diffusers,
safetensors, Pillow.

init.safetensors: `encoded` [4,1,24,16] the picture's latents (mean of the posterior, scaled),
`latents` the final ones of 5 steps at strength 0.6, guidance 3.5, with the fixture's noise and
texts.
"""

import os

import numpy as np
import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, PixArtTransformer2DModel
from PIL import Image
from safetensors.torch import load_file, save_file

ROOT = os.path.join(
    os.path.dirname(os.path.abspath(__file__)), "..", "tests", "fixtures", "pixart-sigma"
)
MODEL = os.path.join(ROOT, "model")
STEPS, STRENGTH, GUIDANCE = 5, 0.6, 3.5


def main():
    y, x = np.mgrid[0:192, 0:128]
    rgb = (
        np.stack([x * 2, y, 255 - (x + y) // 2 - 40 * ((x // 32 + y // 32) % 2)], -1)
        .clip(0, 255)
        .astype(np.uint8)
    )
    Image.fromarray(rgb).save(os.path.join(ROOT, "init.png"), optimize=True)
    vae = AutoencoderKL.from_pretrained(MODEL, subfolder="vae")
    dit = PixArtTransformer2DModel.from_pretrained(MODEL, subfolder="transformer")
    s = DPMSolverMultistepScheduler.from_pretrained(MODEL, subfolder="scheduler")
    exp = load_file(os.path.join(ROOT, "expected.safetensors"))
    noise = load_file(os.path.join(ROOT, "noise.safetensors"))["noise"][:, 0][None]
    pixels = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255 * 2 - 1
    z = vae.encode(pixels).latent_dist.mean * vae.config.scaling_factor
    s.set_timesteps(STEPS)
    first = STEPS - int(STEPS * STRENGTH)
    s.set_begin_index(first)
    lat = s.add_noise(z, noise, s.timesteps[first : first + 1])
    for t in s.timesteps[first:]:
        v = [
            dit(
                lat,
                encoder_hidden_states=exp[k][None],
                timestep=t[None],
                encoder_attention_mask=None,
                added_cond_kwargs={"resolution": None, "aspect_ratio": None},
            ).sample[:, :4]
            for k in ("states", "negative_states")
        ]
        lat = s.step(v[1] + GUIDANCE * (v[0] - v[1]), t, lat).prev_sample
    save_file(
        {"encoded": z[0][:, None].contiguous(), "latents": lat[0][:, None].contiguous()},
        os.path.join(ROOT, "init.safetensors"),
    )


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
