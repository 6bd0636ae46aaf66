"""Writes tests/sampler/schedule_rows.h: trajectories of diffusers' schedulers that C must
reproduce. Needs torch and diffusers.

  python3 tools/make_schedules.py > tests/sampler/schedule_rows.h

x0[k] = sin(0.37 (k + 1)), k < 16, times the scheduler's init_noise_sigma; model =
tanh(0.9 y + 0.001 t) of the scaled input y. A row after each step: y[0], y[1], |y| of the sample as
the next evaluation sees it. Noise of a consistency step i: sin(1.3 (k + 1) + i).
"""

import math
import sys

import numpy as np
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
)
from diffusers.schedulers import (
    scheduling_dpm_cogvideox,
    scheduling_euler_ancestral_discrete,
    scheduling_lcm,
)

KINDS = {
    DPMSolverMultistepScheduler: "TS_DPMPP_2M",
    DDIMScheduler: "TS_DDIM",
    EulerDiscreteScheduler: "TS_EULER_NOISE",
    LCMScheduler: "TS_LCM",
    EulerAncestralDiscreteScheduler: "TS_EULER_ANCESTRAL",
    CogVideoXDDIMScheduler: "TS_DDIM",
    CogVideoXDPMScheduler: "TS_DPMPP_2M_SDE",
}
ALPHA = dict(beta_start=0.0001, beta_end=0.02, beta_schedule="linear")
SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
DPM, DDIM, EULER, LCM = (
    DPMSolverMultistepScheduler,
    DDIMScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
)
ANCESTRAL, COG_DDIM, COG_DPM = (
    EulerAncestralDiscreteScheduler,
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
)
COG = dict(
    SD,
    rescale_betas_zero_snr=True,
    prediction_type="v_prediction",
    timestep_spacing="trailing",
    clip_sample=False,
)
CASES = [  # class, steps, first step, config
    (DPM, 20, 0, {}),
    (DPM, 8, 0, {}),
    (DPM, 1, 0, {}),
    (DPM, 15, 0, dict(timestep_spacing="leading", steps_offset=1)),
    (DPM, 7, 0, dict(timestep_spacing="trailing")),
    (DPM, 6, 0, dict(use_karras_sigmas=True)),
    (DPM, 18, 0, dict(SD, use_karras_sigmas=True)),
    (DPM, 6, 0, dict(solver_type="heun")),
    (DPM, 6, 0, dict(solver_order=1)),
    (DPM, 16, 0, dict(final_sigmas_type="sigma_min")),
    (DPM, 6, 0, dict(final_sigmas_type="sigma_min")),
    (DPM, 16, 0, dict(final_sigmas_type="sigma_min", euler_at_final=True)),
    (DPM, 6, 0, dict(final_sigmas_type="sigma_min", lower_order_final=False)),
    (DPM, 6, 0, dict(prediction_type="v_prediction")),
    (DPM, 6, 0, dict(prediction_type="sample")),
    (DPM, 6, 0, dict(beta_schedule="squaredcos_cap_v2")),
    (
        DPM,
        6,
        0,
        dict(
            SD,
            rescale_betas_zero_snr=True,
            prediction_type="v_prediction",
            timestep_spacing="trailing",
        ),
    ),
    (DPM, 10, 4, {}),
    (DDIM, 8, 0, {}),
    (DDIM, 8, 0, dict(clip_sample=False)),
    (DDIM, 6, 0, dict(clip_sample=False, timestep_spacing="trailing")),
    (DDIM, 6, 0, dict(clip_sample=False, timestep_spacing="linspace", set_alpha_to_one=False)),
    (DDIM, 6, 0, dict(SD, clip_sample=False, steps_offset=1, set_alpha_to_one=False)),
    (
        DDIM,
        6,
        0,
        dict(
            clip_sample=False,
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
        ),
    ),
    (DDIM, 6, 0, dict(clip_sample=True, clip_sample_range=0.5, prediction_type="v_prediction")),
    (DDIM, 6, 0, dict(clip_sample=False, prediction_type="sample")),
    (DDIM, 1, 0, dict(clip_sample=False)),
    (DDIM, 10, 3, dict(clip_sample=False)),
    (EULER, 8, 0, {}),
    (EULER, 6, 0, dict(SD, timestep_spacing="leading", steps_offset=1)),
    (EULER, 6, 0, dict(timestep_spacing="trailing")),
    (EULER, 6, 0, dict(use_karras_sigmas=True)),
    (EULER, 6, 0, dict(prediction_type="v_prediction")),
    (EULER, 6, 0, dict(prediction_type="sample")),
    (EULER, 6, 0, dict(final_sigmas_type="sigma_min")),
    (
        EULER,
        6,
        0,
        dict(
            rescale_betas_zero_snr=True, prediction_type="v_prediction", timestep_spacing="trailing"
        ),
    ),
    (EULER, 10, 4, {}),
    (LCM, 4, 0, {}),
    (LCM, 1, 0, {}),
    (LCM, 8, 0, dict(prediction_type="v_prediction")),
    (LCM, 3, 0, dict(SD, original_inference_steps=40, timestep_scaling=5.0)),
    (LCM, 5, 0, dict(timestep_scaling=0.002)),
    (LCM, 3, 0, dict(timestep_scaling=0.002, clip_sample=True)),
    (ANCESTRAL, 6, 0, {}),
    (ANCESTRAL, 1, 0, {}),
    (ANCESTRAL, 6, 0, dict(SD, timestep_spacing="leading", steps_offset=1)),
    (ANCESTRAL, 6, 0, dict(prediction_type="v_prediction")),
    (COG_DDIM, 6, 0, dict(COG, snr_shift_scale=3.0)),
    (COG_DDIM, 5, 0, dict(COG, snr_shift_scale=1.0)),
    (COG_DPM, 5, 0, dict(COG, snr_shift_scale=1.0)),
    (COG_DPM, 6, 0, dict(COG, snr_shift_scale=3.0)),
    (COG_DPM, 1, 0, dict(COG, snr_shift_scale=1.0)),
]
NAMES = dict(
    linear="TS_BETA_LINEAR",
    scaled_linear="TS_BETA_SCALED",
    squaredcos_cap_v2="TS_BETA_COSINE",
    epsilon="TS_PREDICT_NOISE",
    v_prediction="TS_PREDICT_V",
    sample="TS_PREDICT_SAMPLE",
    linspace="TS_SPACING_LINSPACE",
    leading="TS_SPACING_LEADING",
    trailing="TS_SPACING_TRAILING",
)
noise_at = [0]


def noise(shape, **_):
    k = torch.arange(1, 17, dtype=torch.float64)
    return torch.sin(1.3 * k + noise_at[0]).float()


for module in (
    scheduling_lcm,
    scheduling_dpm_cogvideox,
    scheduling_euler_ancestral_discrete,
):
    module.randn_tensor = noise


def level(s, i):
    """What the sample after step i is divided by to be the model's input."""
    sigmas = isinstance(s, (EulerDiscreteScheduler, EulerAncestralDiscreteScheduler))
    return float((s.sigmas[i + 1] ** 2 + 1) ** 0.5) if sigmas else 1.0


def run(cls, n, first, config):
    s = cls(**{**ALPHA, **config})
    s.set_timesteps(n)
    x = torch.tensor([math.sin(0.37 * (k + 1)) for k in range(16)], dtype=torch.float64).float()
    if first:  # what was noised to step `first`, as an image is
        if cls is EULER:
            x = x * float((s.sigmas[first] ** 2 + 1) ** 0.5)
        if hasattr(s, "set_begin_index"):
            s.set_begin_index(first)
    else:
        x = x * s.init_noise_sigma
    rows = []
    old = None
    for i, t in enumerate(s.timesteps):
        if i < first:
            continue
        y = s.scale_model_input(x, t)
        v = torch.tanh(0.9 * y.double() + 0.001 * float(t)).float()
        noise_at[0] = i
        if cls is COG_DPM:
            x, old = s.step(v, old, t, s.timesteps[i - 1] if i else None, x, return_dict=False)
        else:
            x = s.step(v, t, x, return_dict=False)[0]
        z = x / level(s, i)
        rows.append((float(z[0]), float(z[1]), float(z.double().norm())))
    return s, [float(t) for t in s.timesteps], rows


def main():
    print("/* Made by tools/make_schedules.py from diffusers' schedulers. */")
    table = []
    for k, (cls, n, first, config) in enumerate(CASES):
        s, ts, rows = run(cls, n, first, config)
        c = s.config
        print("static const double made_t%d[] = {%s};" % (k, ", ".join("%.9g" % t for t in ts)))
        print(
            "static const row made_x%d[] = {" % k
            + ", ".join("{%.8g, %.8g, %.8g}" % r for r in rows)
            + "};"
        )
        dpm = cls is DPM
        fields = [
            ".beta = %s, .beta_start = %.17g, .beta_end = %.17g"
            % (NAMES[c.beta_schedule], c.beta_start, c.beta_end),
            ".snr_shift = %.17g" % c.get("snr_shift_scale", 0),
            ".zero_snr = %d" % c.rescale_betas_zero_snr,
            ".prediction = %s" % NAMES[c.prediction_type],
            ".spacing = %s, .offset = %d" % (NAMES[c.timestep_spacing], c.steps_offset),
            ".order = %d" % (c.solver_order if dpm else 2),
            ".heun = %d" % (dpm and c.solver_type == "heun"),
            ".lower_order_final = %d" % (c.lower_order_final if dpm else 1),
            ".euler_at_final = %d" % (dpm and c.euler_at_final),
            ".final_min = %d" % (c.get("final_sigmas_type") == "sigma_min"),
            ".karras = %d" % bool(c.get("use_karras_sigmas")),
            ".clip = %.17g" % (c.clip_sample_range if c.get("clip_sample") else 0),
            ".alpha_to_one = %d" % c.get("set_alpha_to_one", True),
            ".original_steps = %d, .timestep_scaling = %.17g"
            % (c.get("original_inference_steps", 50), c.get("timestep_scaling", 10.0)),
        ]
        table.append(
            "    {%s, %d, %d, {%s}, made_t%d, made_x%d},"
            % (KINDS[cls], n, first, ", ".join(fields), k, k)
        )
    print("static const made made_rows[] = {\n" + "\n".join(table) + "\n};")


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    sys.exit(main())
