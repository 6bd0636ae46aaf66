"""What is trained: shapes, batches and learning rates by preset; what both trainings share."""

import torch

PRESETS = {
    # two cores with bf16 matrix units: 64x64, latents of 16x16
    "cpu": dict(
        size=64,
        frames=29,
        vae=dict(
            base_dim=16,
            z_dim=24,
            dim_mult=[1, 4, 4],
            num_res_blocks=1,
            scale_factor_spatial=4,
            temperal_downsample=[True, True],
            is_residual=True,
            patch_size=None,
        ),
        vae_batch={1: 32, 9: 4, 17: 2},
        vae_lr=2e-3,
        text=dict(d_model=128, d_kv=32, d_ff=256, num_layers=2, num_heads=4),
        dit=dict(num_attention_heads=3, attention_head_dim=64, ffn_dim=512, num_layers=6),
        tokens=4096,
        lr=2e-3,
        shift=3.0,
    ),
    # the same with latents of 8x8: a quarter of the tokens
    "tiny": dict(
        size=64,
        frames=29,
        vae=dict(
            base_dim=32,
            decoder_base_dim=32,
            z_dim=32,
            dim_mult=[1, 2, 2],
            num_res_blocks=1,
            scale_factor_spatial=8,
            temperal_downsample=[True, True],
            is_residual=True,
            patch_size=2,
            in_channels=12,
            out_channels=12,
        ),
        vae_batch={1: 32, 9: 4, 17: 2},
        vae_lr=2e-3,
        text=dict(d_model=128, d_kv=32, d_ff=256, num_layers=2, num_heads=4),
        dit=dict(num_attention_heads=3, attention_head_dim=64, ffn_dim=512, num_layers=6),
        tokens=2048,
        lr=2e-3,
        shift=2.0,
    ),
    # one large GPU: 128x128, latents of 32x32 in patches of 2x2, which are 16x16 tokens
    "gpu": dict(
        size=128,
        frames=37,
        vae=dict(
            base_dim=16,
            z_dim=24,
            dim_mult=[1, 4, 4],
            num_res_blocks=1,
            scale_factor_spatial=4,
            temperal_downsample=[True, True],
            is_residual=True,
            patch_size=None,
        ),
        vae_batch={1: 256, 9: 32, 17: 16},
        vae_lr=1e-3,
        patch=2,
        text=dict(d_model=128, d_kv=32, d_ff=256, num_layers=3, num_heads=4),
        dit=dict(num_attention_heads=4, attention_head_dim=64, ffn_dim=1024, num_layers=8),
        tokens=51200,
        lr=1.5e-3,
        shift=3.0,
    ),
}


def device():
    return "cuda" if torch.cuda.is_available() else "cpu"


def send(x, dev):
    """A tensor of the host on the device `dev`, which nothing waits for."""
    return x.pin_memory().to(dev, non_blocking=True) if torch.device(dev).type == "cuda" else x


def bf16(dev):
    """Whether bf16 arithmetic is faster than f32 there."""
    if dev == "cuda":
        return True
    with open("/proc/cpuinfo", encoding="ascii") as f:
        return "avx512_bf16" in f.read()
