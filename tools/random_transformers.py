"""Transformers of the models that random_model.py makes: {name: shape} and config."""

from random_encoders import CLIP
from random_layers import conv, linear, norm

DIT = {
    "1.3b": (12, 30, 8960, 16),
    "14b": (40, 40, 13824, 16),
    "a14b": (40, 40, 13824, 16),
    "5b": (24, 30, 14336, 48),
    "i2v-14b": (40, 40, 13824, 16),
    "flf2v-14b": (40, 40, 13824, 16),
    "i2v-a14b": (40, 40, 13824, 16),
}
COGVIDEOX = {  # heads, layers, positions that turn, latent frames to a patch
    "cogvideox-2b": (30, 30, False, None),
    "cogvideox-5b": (48, 42, True, None),
    "cogvideox-1.5": (48, 42, True, 2),
    "cogvideox-5b-i2v": (48, 42, True, None),
    "cogvideox-1.5-i2v": (48, 42, True, 2),
}


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
