"""AutoencoderKLWan over whole clips at once, for training.

diffusers runs the network chunk by chunk (the first frame alone, then groups of four) and carries
what each causal convolution saw last. A clip of 1 + 4 k frames can go through in one pass instead:
the same weights, the same numbers, larger convolutions. `python3 wan_vae.py` compares the two.
Only the residual kind (is_residual) is written out here. Inside, channels are the last axis:
[B, T, H, W, C].
"""

import torch
import torch.nn.functional as F


def rows(x, gain):
    """Unit root mean square by row times gain, then SiLU. x [n, C]."""
    h = x.float()
    h = h * torch.rsqrt(h.square().sum(1, keepdim=True).clamp_min(1e-24))
    return F.silu(h * gain).to(x.dtype)


fused = rows


def fuse():
    """Compile the pointwise part, which is bound by memory: five times faster on a CPU."""
    global fused
    torch._dynamo.config.recompile_limit = 64  # widths, with and without gradients
    fused = torch.compile(rows, dynamic=True)


def norm_silu(norm, x):
    return fused(x.reshape(-1, x.shape[-1]), norm.scale * norm.gamma.view(-1)).view(x.shape)


def conv3(x, w, b, stride=(1, 1, 1), pad=0):
    """A convolution, in time only over what is there: torch has the axes in another order."""
    y = F.conv3d(x.permute(0, 4, 1, 2, 3), w, b, stride=stride, padding=(0, pad, pad))
    return y.permute(0, 2, 3, 4, 1).contiguous()


def flat(x, w, b, stride=1, pad=1):
    """A convolution of every frame alone, all frames of the batch along one axis (the fastest
    on a CPU)."""
    if x.is_cuda:
        y = F.conv2d(x.flatten(0, 1).permute(0, 3, 1, 2), w, b, stride, pad).permute(0, 2, 3, 1)
        return y.contiguous().unflatten(0, x.shape[:2])
    y = conv3(x.flatten(0, 1)[None], w[:, :, None], b, (1, stride, stride), pad)
    return y[0].unflatten(0, x.shape[:2])


def conv(m, x):
    """A causal convolution. A single frame meets only the newest tap."""
    kt, kh, _ = m.weight.shape[2:]
    if x.shape[1] == 1 or kt == 1:
        return flat(x, m.weight[:, :, -1], m.bias, pad=kh // 2)
    return conv3(F.pad(x, (0, 0, 0, 0, 0, 0, kt - 1, 0)), m.weight, m.bias, pad=kh // 2)


def res(m, x):
    h = x if isinstance(m.conv_shortcut, torch.nn.Identity) else conv(m.conv_shortcut, x)
    return h + conv(m.conv2, norm_silu(m.norm2, conv(m.conv1, norm_silu(m.norm1, x))))


def attention(m, x):
    b, t, h, w, c = x.shape
    y = F.normalize(x.view(b * t, h * w, c).float(), dim=-1) * (
        m.norm.scale * m.norm.gamma.view(-1)
    )
    y = F.linear(y.to(x.dtype), m.to_qkv.weight.flatten(1), m.to_qkv.bias)[:, None]
    y = F.scaled_dot_product_attention(*y.chunk(3, -1))[:, 0]
    y = F.linear(y, m.proj.weight.flatten(1), m.proj.bias)
    return x + y.view(x.shape)


def mid(m, x):
    return res(m.resnets[1], attention(m.attentions[0], res(m.resnets[0], x)))


def shrink(m, x):
    """AvgDown3D: means over groups of pixels and channels."""
    ft, fs = m.factor_t, m.factor_s
    if m.factor * m.in_channels == m.out_channels == x.shape[-1]:
        return x
    x = F.pad(x, (0, 0, 0, 0, 0, 0, -x.shape[1] % ft, 0))
    b, t, h, w, c = x.shape
    x = x.view(b, t // ft, ft, h // fs, fs, w // fs, fs, c)
    if m.group_size == m.factor:
        return x.mean((2, 4, 6))
    x = x.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(b, t // ft, h // fs, w // fs, m.out_channels, -1)
    return x.mean(-1)


def enlarge(m, x):
    """DupUp3D: copies to groups of pixels and channels; of the first frame only the last copy."""
    ft, fs = m.factor_t, m.factor_s
    b, t, h, w, c = x.shape
    if m.repeats == m.factor:
        x = x[:, :, None, :, None, :, None].expand(b, t, ft, h, fs, w, fs, c)
    else:
        x = x.repeat_interleave(m.repeats, -1).view(b, t, h, w, m.out_channels, ft, fs, fs)
        x = x.permute(0, 1, 5, 2, 6, 3, 7, 4)
    return x.reshape(b, t * ft, h * fs, w * fs, m.out_channels)[:, ft - 1 :]


def down(m, x):
    y = x
    for r in m.resnets:
        y = res(r, y)
    if m.downsampler is None:
        return y + shrink(m.avg_shortcut, x)
    d = m.downsampler.resample[1]
    y = flat(F.pad(y, (0, 0, 0, 1, 0, 1)), d.weight, d.bias, stride=2, pad=0)
    if m.downsampler.mode == "downsample3d" and y.shape[1] > 1:
        t = m.downsampler.time_conv
        y = torch.cat([y[:, :1], conv3(y, t.weight, t.bias, (2, 1, 1))], 1)
    return y + shrink(m.avg_shortcut, x)


def up(m, x):
    y = x
    for r in m.resnets:
        y = res(r, y)
    if m.upsampler is None:
        return y
    if m.upsampler.mode == "upsample3d" and y.shape[1] > 1:
        t = m.upsampler.time_conv
        z = conv3(F.pad(y[:, 1:], (0, 0, 0, 0, 0, 0, 2, 0)), t.weight, t.bias)
        z = z.unflatten(-1, (2, -1)).permute(0, 1, 4, 2, 3, 5).flatten(1, 2)
        y = torch.cat([y[:, :1], z], 1)
    b, t, h, w, c = y.shape
    y = y[:, :, :, None, :, None].expand(b, t, h, 2, w, 2, c).reshape(b, t, 2 * h, 2 * w, c)
    u = m.upsampler.resample[1]
    return flat(y, u.weight, u.bias) + enlarge(m.avg_shortcut, x)


def encode(vae, x):
    """Pixels [B, 3, 1 + 4 k, H, W] to mean and logarithm of variance, both [B, z, 1 + k, h, w]."""
    e, p = vae.encoder, vae.config.patch_size or 1
    b, c, t, h, w = x.shape
    x = x.view(b, c, t, h // p, p, w // p, p).permute(
        0, 2, 3, 5, 1, 6, 4
    )  # pixels of a patch are channels
    x = conv(e.conv_in, x.reshape(b, t, h // p, w // p, c * p * p))
    for b in e.down_blocks:
        x = down(b, x)
    x = conv(e.conv_out, norm_silu(e.norm_out, mid(e.mid_block, x)))
    mean, logvar = conv(vae.quant_conv, x).float().permute(0, 4, 1, 2, 3).chunk(2, 1)
    return mean, logvar.clamp(-30, 20)


def decode(vae, z):
    """Latents to pixels, not clamped."""
    d = vae.decoder
    x = conv(vae.post_quant_conv, z.permute(0, 2, 3, 4, 1).contiguous())
    x = mid(d.mid_block, conv(d.conv_in, x))
    for b in d.up_blocks:
        x = up(b, x)
    x = conv(d.conv_out, norm_silu(d.norm_out, x)).float()
    p = vae.config.patch_size or 1
    b, t, h, w, c = x.shape
    x = x.view(b, t, h, w, c // p // p, p, p).permute(0, 4, 1, 2, 6, 3, 5)
    return x.reshape(b, c // p // p, t, h * p, w * p)


@torch.no_grad()
def check():
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    for p, mult in ((None, [1, 2, 2]), (None, [1, 4, 4]), (2, [2, 4, 4])):
        vae = AutoencoderKLWan(
            base_dim=8,
            z_dim=4,
            dim_mult=mult,
            num_res_blocks=1,
            is_residual=True,
            temperal_downsample=[True, True],
            scale_factor_spatial=4 * (p or 1),
            patch_size=p,
            in_channels=3 * (p or 1) ** 2,
            out_channels=3 * (p or 1) ** 2,
        )
        for t in (1, 5, 17):
            x = torch.rand(2, 3, t, 32, 32) * 2 - 1
            mean, logvar = encode(vae, x)
            want = vae.encode(x).latent_dist
            print(
                mult,
                t,
                (mean - want.mean).abs().max().item(),
                (logvar - want.logvar).abs().max().item(),
                (decode(vae, mean).clamp(-1, 1) - vae.decode(mean).sample).abs().max().item(),
            )


if __name__ == "__main__":
    check()
