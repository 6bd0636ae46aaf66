"""VAEs of the models that random_model.py makes: {name: shape} and config."""

from random_layers import conv, linear, norm


def resnet(out, name, i, o):
    out[name + ".norm1.gamma"], out[name + ".norm2.gamma"] = [i, 1, 1, 1], [o, 1, 1, 1]
    conv(out, name + ".conv1", o, i, 3, 3, 3)
    conv(out, name + ".conv2", o, o, 3, 3, 3)
    if i != o:
        conv(out, name + ".conv_shortcut", o, i, 1, 1, 1)


def mid(out, name, c):
    resnet(out, name + ".resnets.0", c, c)
    out[name + ".attentions.0.norm.gamma"] = [c, 1, 1]
    conv(out, name + ".attentions.0.to_qkv", 3 * c, c, 1, 1)
    conv(out, name + ".attentions.0.proj", c, c, 1, 1)
    resnet(out, name + ".resnets.1", c, c)


def vae(residual):
    base, dec, z, ch = (160, 256, 48, 12) if residual else (96, 96, 16, 3)
    t, mult, time = {}, [1, 2, 4, 4], [False, True, True]
    e = [base] + [base * m for m in mult]
    conv(t, "encoder.conv_in", e[0], ch, 3, 3, 3)
    flat = 0
    for i in range(4):
        for r in range(2):
            resnet(
                t,
                (
                    "encoder.down_blocks.%d.resnets.%d" % (i, r)
                    if residual
                    else "encoder.down_blocks.%d" % flat
                ),
                e[i] if r == 0 else e[i + 1],
                e[i + 1],
            )
            flat += 1
        if i < 3:
            n = (
                "encoder.down_blocks.%d.downsampler" % i
                if residual
                else "encoder.down_blocks.%d" % flat
            )
            conv(t, n + ".resample.1", e[i + 1], e[i + 1], 3, 3)
            if time[i]:
                conv(t, n + ".time_conv", e[i + 1], e[i + 1], 3, 1, 1)
            flat += 1
    mid(t, "encoder.mid_block", e[4])
    t["encoder.norm_out.gamma"] = [e[4], 1, 1, 1]
    conv(t, "encoder.conv_out", 2 * z, e[4], 3, 3, 3)
    conv(t, "quant_conv", 2 * z, 2 * z, 1, 1, 1)
    conv(t, "post_quant_conv", z, z, 1, 1, 1)
    d = [dec * mult[-1]] + [dec * m for m in reversed(mult)]
    conv(t, "decoder.conv_in", d[0], z, 3, 3, 3)
    mid(t, "decoder.mid_block", d[0])
    for i in range(4):
        b = "decoder.up_blocks.%d." % i
        first = d[i] if residual or i == 0 else d[i] // 2
        for r in range(3):
            resnet(t, b + "resnets.%d" % r, first if r == 0 else d[i + 1], d[i + 1])
        if i < 3:
            n, o = (b + "upsampler", d[i + 1]) if residual else (b + "upsamplers.0", d[i + 1] // 2)
            conv(t, n + ".resample.1", o, d[i + 1], 3, 3)
            if list(reversed(time))[i]:
                conv(t, n + ".time_conv", 2 * d[i + 1], d[i + 1], 3, 1, 1)
    t["decoder.norm_out.gamma"] = [d[4], 1, 1, 1]
    conv(t, "decoder.conv_out", ch, d[4], 3, 3, 3)
    config = dict(
        _class_name="AutoencoderKLWan",
        base_dim=base,
        decoder_base_dim=dec if residual else None,
        z_dim=z,
        dim_mult=mult,
        num_res_blocks=2,
        attn_scales=[],
        temperal_downsample=time,
        dropout=0.0,
        is_residual=residual,
        in_channels=ch,
        out_channels=ch,
        patch_size=2 if residual else None,
        scale_factor_temporal=4,
        scale_factor_spatial=16 if residual else 8,
        latents_mean=[0.0] * z,
        latents_std=[1.0] * z,
    )
    return t, config


def kl_resnet(out, name, i, o):
    for k, c in (("norm1", i), ("norm2", o)):
        out[name + "." + k + ".weight"], out[name + "." + k + ".bias"] = [c], [c]
    conv(out, name + ".conv1", o, i, 3, 3)
    conv(out, name + ".conv2", o, o, 3, 3)
    if i != o:
        conv(out, name + ".conv_shortcut", o, i, 1, 1)


def kl_mid(out, name, c):
    for i in range(2):
        kl_resnet(out, name + ".resnets.%d" % i, c, c)
    out[name + ".attentions.0.group_norm.weight"], out[name + ".attentions.0.group_norm.bias"] = [
        c
    ], [c]
    for p in ("to_q", "to_k", "to_v", "to_out.0"):
        linear(out, name + ".attentions.0." + p, c, c)


def kl(scaling):
    t, width = {}, [128, 256, 512, 512]
    conv(t, "encoder.conv_in", 128, 3, 3, 3)
    conv(t, "decoder.conv_in", 512, 4, 3, 3)
    for half, sizes, n, sample in (
        ("encoder.down_blocks", width, 2, "downsamplers"),
        ("decoder.up_blocks", width[::-1], 3, "upsamplers"),
    ):
        c = sizes[0]
        for i, o in enumerate(sizes):
            for r in range(n):
                kl_resnet(t, "%s.%d.resnets.%d" % (half, i, r), o if r else c, o)
            if i < 3:
                conv(t, "%s.%d.%s.0.conv" % (half, i, sample), o, o, 3, 3)
            c = o
    for half, c, o in (("encoder", 512, 8), ("decoder", 128, 3)):
        kl_mid(t, half + ".mid_block", 512)
        t[half + ".conv_norm_out.weight"], t[half + ".conv_norm_out.bias"] = [c], [c]
        conv(t, half + ".conv_out", o, c, 3, 3)
    conv(t, "quant_conv", 8, 8, 1, 1)
    conv(t, "post_quant_conv", 4, 4, 1, 1)
    config = dict(
        _class_name="AutoencoderKL",
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=width,
        layers_per_block=2,
        norm_num_groups=32,
        act_fn="silu",
        sample_size=512,
        scaling_factor=scaling,
        force_upcast=True,
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
    )
    return t, config


def hunyuan_vae():
    """AutoencoderKL's layers with a third axis and other names."""
    t = {}
    for name, shape in kl(1)[0].items():
        cut, last = name.rsplit(".", 1)
        point = cut in ("quant_conv", "post_quant_conv")
        if len(shape) == 4:
            shape = [*shape[:2], shape[2], *shape[2:]]
        if "conv" in cut.rsplit(".", 1)[-1] and "norm" not in cut and not point:
            cut += ".conv"
        t[cut + "." + last] = shape
    wide = {4: 16, 8: 32}  # latent channels of the published one
    for name in ("quant_conv", "post_quant_conv", "encoder.conv_out.conv"):
        for part in (".weight", ".bias"):
            t[name + part] = [wide.get(n, n) for n in t[name + part]]
    t["decoder.conv_in.conv.weight"][1] = 16
    return t, dict(_class_name="AutoencoderKLHunyuanVideo")  # the rest is its defaults


def cogvideox_vae(scaling, deep, width=(128, 256, 256, 512), blocks=3, z=16, groups=32):
    t = {}

    def guided(name, c):
        norm(t, name + ".norm_layer", c)
        conv(t, name + ".conv_y.conv", c, z, 1, 1, 1)
        conv(t, name + ".conv_b.conv", c, z, 1, 1, 1)

    def block(name, i, o, normed):
        normed(name + ".norm1", i)
        conv(t, name + ".conv1.conv", o, i, 3, 3, 3)
        normed(name + ".norm2", o)
        conv(t, name + ".conv2.conv", o, o, 3, 3, 3)
        if i != o:
            conv(t, name + ".conv_shortcut", o, i, 1, 1, 1)

    def plain(name, c):
        norm(t, name, c)

    for half, sizes, n, sample, normed in (
        ("encoder.down_blocks", width, blocks, "downsamplers", plain),
        ("decoder.up_blocks", width[::-1], blocks + 1, "upsamplers", guided),
    ):
        c = sizes[0]
        for i, o in enumerate(sizes):
            for r in range(n):
                block("%s.%d.resnets.%d" % (half, i, r), o if r else c, o, normed)
            if i + 1 < len(sizes):
                conv(t, "%s.%d.%s.0.conv" % (half, i, sample), o, o, 3, 3)
            c = o
    for half, first, last, o, normed in (
        ("encoder", (width[0], 3), width[-1], 2 * z, plain),
        ("decoder", (width[-1], z), width[0], 3, guided),
    ):
        conv(t, half + ".conv_in.conv", *first, 3, 3, 3)
        for r in range(2):
            block("%s.mid_block.resnets.%d" % (half, r), width[-1], width[-1], normed)
        normed(half + ".norm_out", last)
        conv(t, half + ".conv_out.conv", o, last, 3, 3, 3)
    config = dict(
        _class_name="AutoencoderKLCogVideoX",
        in_channels=3,
        out_channels=3,
        block_out_channels=list(width),
        latent_channels=z,
        layers_per_block=blocks,
        act_fn="silu",
        norm_eps=1e-6,
        norm_num_groups=groups,
        temporal_compression_ratio=4,
        scaling_factor=scaling,
        invert_scale_latents=bool(deep),
    )
    return t, config


def opensora_vae(base=128, mult=(1, 2, 4, 4), blocks=2, z=4, groups=32):
    """The decoder alone."""
    t, width = {}, [base * m for m in mult]

    def block(name, i, o):
        norm(t, name + ".norm1", i)
        conv(t, name + ".conv1.conv", o, i, 3, 3, 3)
        norm(t, name + ".norm2", o)
        conv(t, name + ".conv2.conv", o, o, 3, 3, 3)
        if i != o:
            conv(t, name + ".nin_shortcut.conv", o, i, 1, 1, 1)

    c = width[-1]
    conv(t, "post_quant_conv.conv", z, z, 1, 1, 1)
    conv(t, "decoder.conv_in.conv", c, z, 3, 3, 3)
    for n in ("block_1", "block_2"):
        block("decoder.mid." + n, c, c)
    norm(t, "decoder.mid.attn_1.norm", c)
    for n in ("q", "k", "v", "proj_out"):
        conv(t, "decoder.mid.attn_1.%s.conv" % n, c, c, 1, 1, 1)
    for i in range(len(width) - 1, -1, -1):
        for r in range(blocks + 1):
            block("decoder.up.%d.block.%d" % (i, r), width[i] if r else c, width[i])
        c = width[i]
        if i:
            conv(t, "decoder.up.%d.upsample.conv.conv" % i, c, c, 1 if i == 1 else 3, 3, 3)
    norm(t, "decoder.norm_out", c)
    conv(t, "decoder.conv_out.conv", 3, c, 3, 3, 3)
    config = dict(
        _class_name="CausalVAEModel",
        hidden_size=base,
        hidden_size_mult=list(mult),
        num_res_blocks=blocks,
        z_channels=z,
        embed_dim=z,
        norm_num_groups=groups,
    )
    return t, config
