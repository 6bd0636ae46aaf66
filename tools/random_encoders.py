"""Encoders of text and images of the models that random_model.py makes: {name: shape} and
config."""

from random_layers import linear

# width, layers, heads, pixels, patch of the image encoder of those that have one
CLIP = (1280, 32, 16, 224, 14)


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
