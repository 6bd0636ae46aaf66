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

HERE = os.path.dirname(os.path.abspath(__file__))
DIT = {
    "1.3b": (12, 30, 8960, 16),
    "14b": (40, 40, 13824, 16),
    "a14b": (40, 40, 13824, 16),
    "5b": (24, 30, 14336, 48),
    "i2v-14b": (40, 40, 13824, 16),
    "flf2v-14b": (40, 40, 13824, 16),
    "i2v-a14b": (40, 40, 13824, 16),
}
# width, layers, heads, pixels, patch of the image encoder of those that have one
CLIP = (1280, 32, 16, 224, 14)


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


def linear(out, name, o, i, bias=True):
    out[name + ".weight"] = [o, i]
    if bias:
        out[name + ".bias"] = [o]


def transformer(heads, layers, ffn, channels, shape=""):
    d, t = heads * 128, {}
    beside = 4 + channels if "2v" in shape else 0  # a mask and latents of the images
    width, rows = (CLIP[0], (CLIP[3] // CLIP[4]) ** 2 + 1) if shape.endswith("2v-14b") else (0, 0)
    t["patch_embedding.weight"], t["patch_embedding.bias"] = [d, channels + beside, 1, 2, 2], [d]
    c = "condition_embedder."
    if width:
        e = c + "image_embedder."
        t[e + "norm1.weight"], t[e + "norm1.bias"] = [width], [width]
        t[e + "norm2.weight"], t[e + "norm2.bias"] = [d], [d]
        linear(t, e + "ff.net.0.proj", width, width)
        linear(t, e + "ff.net.2", d, width)
    if shape == "flf2v-14b":
        t[c + "image_embedder.pos_embed"] = [1, 2 * rows, width]
    linear(t, c + "time_embedder.linear_1", d, 256)
    linear(t, c + "time_embedder.linear_2", d, d)
    linear(t, c + "time_proj", 6 * d, d)
    linear(t, c + "text_embedder.linear_1", d, 4096)
    linear(t, c + "text_embedder.linear_2", d, d)
    for i in range(layers):
        b = "blocks.%d." % i
        t[b + "scale_shift_table"] = [1, 6, d]
        for a in ("attn1.", "attn2."):
            for p in ("to_q", "to_k", "to_v", "to_out.0"):
                linear(t, b + a + p, d, d)
            t[b + a + "norm_q.weight"], t[b + a + "norm_k.weight"] = [d], [d]
        if width:
            linear(t, b + "attn2.add_k_proj", d, d)
            linear(t, b + "attn2.add_v_proj", d, d)
            t[b + "attn2.norm_added_k.weight"] = [d]
        t[b + "norm2.weight"], t[b + "norm2.bias"] = [d], [d]
        linear(t, b + "ffn.net.0.proj", ffn, d)
        linear(t, b + "ffn.net.2", d, ffn)
    t["scale_shift_table"] = [1, 2, d]
    linear(t, "proj_out", 4 * channels, d)
    config = dict(
        _class_name="WanTransformer3DModel",
        patch_size=[1, 2, 2],
        num_attention_heads=heads,
        attention_head_dim=128,
        in_channels=channels + beside,
        out_channels=channels,
        text_dim=4096,
        freq_dim=256,
        ffn_dim=ffn,
        num_layers=layers,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        eps=1e-6,
        image_dim=width or None,
        added_kv_proj_dim=d if width else None,
        rope_max_seq_len=1024,
        pos_embed_seq_len=2 * rows if shape == "flf2v-14b" else None,
    )
    return t, config


def clip_vision():
    d, layers, heads, side, patch = CLIP
    t, v = {}, "vision_model."
    t[v + "embeddings.class_embedding"] = [d]
    t[v + "embeddings.patch_embedding.weight"] = [d, 3, patch, patch]
    t[v + "embeddings.position_embedding.weight"] = [(side // patch) ** 2 + 1, d]
    for name in ("pre_layrnorm", "post_layernorm"):
        t[v + name + ".weight"], t[v + name + ".bias"] = [d], [d]
    for i in range(layers):
        b = v + "encoder.layers.%d." % i
        for name in ("layer_norm1", "layer_norm2"):
            t[b + name + ".weight"], t[b + name + ".bias"] = [d], [d]
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            linear(t, b + "self_attn." + name, d, d)
        linear(t, b + "mlp.fc1", 4 * d, d)
        linear(t, b + "mlp.fc2", d, 4 * d)
    config = dict(
        architectures=["CLIPVisionModel"],
        model_type="clip_vision_model",
        hidden_size=d,
        intermediate_size=4 * d,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        image_size=side,
        patch_size=patch,
        hidden_act="gelu",
    )
    return t, config


def pixart(sigma, d=1152, layers=28, caption=4096):
    t = {
        "pos_embed.proj.weight": [d, 4, 2, 2],
        "pos_embed.proj.bias": [d],
        "scale_shift_table": [2, d],
    }
    e = "adaln_single.emb."
    linear(t, e + "timestep_embedder.linear_1", d, 256)
    linear(t, e + "timestep_embedder.linear_2", d, d)
    for name in () if sigma else ("resolution_embedder", "aspect_ratio_embedder"):
        linear(t, e + name + ".linear_1", d // 3, 256)
        linear(t, e + name + ".linear_2", d // 3, d // 3)
    linear(t, "adaln_single.linear", 6 * d, d)
    linear(t, "caption_projection.linear_1", d, caption)
    linear(t, "caption_projection.linear_2", d, d)
    for i in range(layers):
        b = "transformer_blocks.%d." % i
        t[b + "scale_shift_table"] = [6, d]
        for a in ("attn1.", "attn2."):
            for p in ("to_q", "to_k", "to_v", "to_out.0"):
                linear(t, b + a + p, d, d)
        linear(t, b + "ff.net.0.proj", 4 * d, d)
        linear(t, b + "ff.net.2", d, 4 * d)
    linear(t, "proj_out", 32, d)
    config = dict(
        _class_name="PixArtTransformer2DModel",
        num_attention_heads=16,
        attention_head_dim=72,
        in_channels=4,
        out_channels=8,
        num_layers=layers,
        cross_attention_dim=d,
        attention_bias=True,
        sample_size=256 if sigma else 128,
        patch_size=2,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
        interpolation_scale=4 if sigma else 2,
        caption_channels=caption,
        use_additional_conditions=not sigma,
    )
    return t, config


COGVIDEOX = {  # heads, layers, positions that turn, latent frames to a patch
    "cogvideox-2b": (30, 30, False, None),
    "cogvideox-5b": (48, 42, True, None),
    "cogvideox-1.5": (48, 42, True, 2),
    "cogvideox-5b-i2v": (48, 42, True, None),
    "cogvideox-1.5-i2v": (48, 42, True, 2),
}


def norm(out, name, c):
    out[name + ".weight"], out[name + ".bias"] = [c], [c]


def cogvideox(heads, layers, rope, deep, image, head=64, time=512, text=4096, channels=16):
    d, t = heads * head, {}
    seen = channels * (2 if image else 1)
    patch = channels * 4 * (deep or 1)
    t["patch_embed.proj.weight"] = [d, seen * 4 * deep] if deep else [d, seen, 2, 2]
    t["patch_embed.proj.bias"] = [d]
    linear(t, "patch_embed.text_proj", d, text)
    linear(t, "time_embedding.linear_1", time, d)
    linear(t, "time_embedding.linear_2", time, time)
    if image and deep:
        linear(t, "ofs_embedding.linear_1", time, time)
        linear(t, "ofs_embedding.linear_2", time, time)
    elif image:
        t["patch_embed.pos_embedding"] = [1, 226 + 13 * 30 * 45, d]
    for i in range(layers):
        b = "transformer_blocks.%d." % i
        for n in ("norm1", "norm2"):
            linear(t, b + n + ".linear", 6 * d, time)
            norm(t, b + n + ".norm", d)
        for p in ("to_q", "to_k", "to_v", "to_out.0"):
            linear(t, b + "attn1." + p, d, d)
        norm(t, b + "attn1.norm_q", head)
        norm(t, b + "attn1.norm_k", head)
        linear(t, b + "ff.net.0.proj", 4 * d, d)
        linear(t, b + "ff.net.2", d, 4 * d)
    norm(t, "norm_final", d)
    linear(t, "norm_out.linear", 2 * d, time)
    norm(t, "norm_out.norm", d)
    linear(t, "proj_out", patch, d)
    config = dict(
        _class_name="CogVideoXTransformer3DModel",
        num_attention_heads=heads,
        attention_head_dim=head,
        in_channels=seen,
        out_channels=channels,
        time_embed_dim=time,
        ofs_embed_dim=time if image and deep else None,
        text_embed_dim=text,
        num_layers=layers,
        sample_height=96 if deep else 60,
        sample_width=170 if deep else 90,
        sample_frames=81 if deep else 49,
        patch_size=2,
        patch_size_t=deep,
        temporal_compression_ratio=4,
        max_text_seq_length=226,
        use_rotary_positional_embeddings=rope,
        use_learned_positional_embeddings=image and not deep,
    )
    return t, config


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


def opensora(heads=24, head=96, layers=32, caption=4096):
    d = heads * head
    t, config = pixart(True, d, layers, caption)
    linear(t, "proj_out", 16, d)
    config = dict(
        _class_name="OpenSoraT2V",
        num_attention_heads=heads,
        attention_head_dim=head,
        in_channels=4,
        out_channels=4,
        num_layers=layers,
        cross_attention_dim=d,
        attention_bias=True,
        sample_size=[90, 160],
        sample_size_t=8,
        patch_size=2,
        patch_size_t=1,
        activation_fn="gelu-approximate",
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
        interpolation_scale_t=1.0,
        interpolation_scale_h=1.5,
        interpolation_scale_w=2.0,
        caption_channels=caption,
        use_rope=True,
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


def t5(layers, vocab=32128):
    t, config = umt5(layers, vocab)
    for i in range(1, layers):
        del t["encoder.block.%d.layer.0.SelfAttention.relative_attention_bias.weight" % i]
    return t, dict(config, architectures=["T5EncoderModel"], model_type="t5")


def umt5(layers, vocab=256384, d=4096, ff=10240, heads=64):
    t = {"shared.weight": [vocab, d], "encoder.final_layer_norm.weight": [d]}
    for i in range(layers):
        b = "encoder.block.%d.layer." % i
        for p in "qkvo":
            t[b + "0.SelfAttention.%s.weight" % p] = [d, d]
        t[b + "0.SelfAttention.relative_attention_bias.weight"] = [32, heads]
        t[b + "0.layer_norm.weight"], t[b + "1.layer_norm.weight"] = [d], [d]
        t[b + "1.DenseReluDense.wi_0.weight"], t[b + "1.DenseReluDense.wi_1.weight"] = [ff, d], [
            ff,
            d,
        ]
        t[b + "1.DenseReluDense.wo.weight"] = [d, ff]
    config = dict(
        architectures=["UMT5EncoderModel"],
        model_type="umt5",
        vocab_size=vocab,
        d_model=d,
        d_kv=64,
        d_ff=ff,
        num_layers=layers,
        num_heads=heads,
        feed_forward_proj="gated-gelu",
        relative_attention_num_buckets=32,
        relative_attention_max_distance=128,
        layer_norm_epsilon=1e-6,
    )
    return t, config


def conv(out, name, o, i, *k):
    out[name + ".weight"], out[name + ".bias"] = [o, i, *k], [o]


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


def hunyuan_block(out, at, d, names):
    for name in names:
        linear(out, at + name, d, d)


def hunyuan(d=3072, head=128, dual=20, single=40, text=4096):
    t, m = {}, 4 * d
    conv(t, "x_embedder.proj", d, 16, 1, 2, 2)
    linear(t, "context_embedder.proj_in", d, text)
    for at, i in (
        ("context_embedder.time_text_embed.timestep_embedder", 256),
        ("context_embedder.time_text_embed.text_embedder", text),
        ("time_text_embed.timestep_embedder", 256),
        ("time_text_embed.guidance_embedder", 256),
        ("time_text_embed.text_embedder", 768),
    ):
        linear(t, at + ".linear_1", d, i)
        linear(t, at + ".linear_2", d, d)
    qkv = ["attn.to_q", "attn.to_k", "attn.to_v"]
    for i in range(2):
        at = "context_embedder.token_refiner.refiner_blocks.%d." % i
        hunyuan_block(t, at, d, [*qkv, "attn.to_out.0"])
        linear(t, at + "norm_out.linear", 2 * d, d)
        linear(t, at + "ff.net.0.proj", m, d)
        linear(t, at + "ff.net.2", d, m)
        for k in ("norm1", "norm2"):
            t[at + k + ".weight"], t[at + k + ".bias"] = [d], [d]
    added = ["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"]
    for i in range(dual):
        at = "transformer_blocks.%d." % i
        hunyuan_block(t, at, d, [*qkv, "attn.to_out.0", *added])
        for k in ("norm1", "norm1_context"):
            linear(t, at + k + ".linear", 6 * d, d)
        for k in ("ff", "ff_context"):
            linear(t, at + k + ".net.0.proj", m, d)
            linear(t, at + k + ".net.2", d, m)
        for k in ("norm_q", "norm_k", "norm_added_q", "norm_added_k"):
            t[at + "attn." + k + ".weight"] = [head]
    for i in range(single):
        at = "single_transformer_blocks.%d." % i
        hunyuan_block(t, at, d, qkv)
        linear(t, at + "norm.linear", 3 * d, d)
        linear(t, at + "proj_mlp", m, d)
        linear(t, at + "proj_out", d, d + m)
        for k in ("norm_q", "norm_k"):
            t[at + "attn." + k + ".weight"] = [head]
    linear(t, "norm_out.linear", 2 * d, d)
    linear(t, "proj_out", 64, d)
    return t, dict(  # the rest is its defaults
        _class_name="HunyuanVideoTransformer3DModel", num_layers=dual, num_single_layers=single
    )


def llama(layers, d=4096, ff=14336, kv=1024, vocab=128320):
    t = {"embed_tokens.weight": [vocab, d], "norm.weight": [d]}
    for i in range(layers):
        at = "layers.%d." % i
        for name, o, k in (
            ("self_attn.q_proj", d, d),
            ("self_attn.k_proj", kv, d),
            ("self_attn.v_proj", kv, d),
            ("self_attn.o_proj", d, d),
            ("mlp.gate_proj", ff, d),
            ("mlp.up_proj", ff, d),
            ("mlp.down_proj", d, ff),
        ):
            linear(t, at + name, o, k, False)
        t[at + "input_layernorm.weight"] = t[at + "post_attention_layernorm.weight"] = [d]
    return t, dict(
        architectures=["LlamaModel"],
        model_type="llama",
        vocab_size=vocab,
        hidden_size=d,
        intermediate_size=ff,
        num_hidden_layers=layers,
        num_attention_heads=32,
        num_key_value_heads=8,
        rms_norm_eps=1e-5,
        rope_theta=500000.0,
        max_position_embeddings=8192,
    )


def clip(d=768, layers=12):
    t = {
        "text_model.embeddings.token_embedding.weight": [49408, d],
        "text_model.embeddings.position_embedding.weight": [77, d],
    }
    for i in range(layers):
        at = "text_model.encoder.layers.%d." % i
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            linear(t, at + "self_attn." + name, d, d)
        linear(t, at + "mlp.fc1", 4 * d, d)
        linear(t, at + "mlp.fc2", d, 4 * d)
        for k in ("layer_norm1", "layer_norm2"):
            t[at + k + ".weight"], t[at + k + ".bias"] = [d], [d]
    for k in ("weight", "bias"):
        t["text_model.final_layer_norm." + k] = [d]
    return t, dict(
        architectures=["CLIPTextModel"],
        model_type="clip_text_model",
        vocab_size=49408,
        hidden_size=d,
        intermediate_size=4 * d,
        num_hidden_layers=layers,
        num_attention_heads=12,
        eos_token_id=2,
    )


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
