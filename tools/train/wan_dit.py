"""WanTransformer3DModel and UMT5 text encoder as one network to train.

The same weights and numbers as diffusers, with differences in how they are computed:
- the zero rows that the pipeline pads a prompt with (to 512, without a mask) are a few rows that
  carry the logarithm of how many they stand for, which gives the same softmax;
- queries and keys have their even coordinates before their odd ones (no product changes), so that
  the rotation is of two halves;
- nothing asks what a tensor holds, so that a CUDA graph can be recorded;
- pointwise parts are functions of their own, which `fuse` compiles.
`python3 wan_dit.py` compares the two.
"""

import torch
import torch.nn.functional as F
from diffusers import WanTransformer3DModel
from transformers import UMT5Config, UMT5EncoderModel

TEXT_ROWS, LMAX = 512, 24


def modulate(x, scale, shift):
    """Layer norm of rows, then x (1 + scale) + shift. x [B, N, d], scale and shift [B, 1, d]."""
    h = x.float()
    h = h - h.mean(-1, keepdim=True)
    h = h * torch.rsqrt(h.square().mean(-1, keepdim=True) + 1e-6)
    return (h * (1 + scale) + shift).to(x.dtype)


def gated(x, y, gate):
    return (x.float() + y.float() * gate).to(x.dtype)


def turned(x, gain, cos, sin):
    """Root mean square norm over all heads, then rotation. x [B, N, A, D], cos, sin [N, 1, D/2]."""
    h = x.flatten(-2).float()
    h = (h * torch.rsqrt(h.square().mean(-1, keepdim=True) + 1e-6)).unflatten(-1, x.shape[-2:])
    a, b = (h * gain).chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1).to(x.dtype)


def halves(w, heads):
    """Rows of each head: the even ones, then the odd ones. w [A D, ...]."""
    return w.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def normed(x, gain):
    h = x.float()
    return (h * torch.rsqrt(h.square().mean(-1, keepdim=True) + 1e-6) * gain).to(x.dtype)


def gelu(x):
    return F.gelu(x, approximate="tanh")


def fuse():
    """Compile the pointwise parts, which are bound by memory."""
    torch._dynamo.config.recompile_limit = 64
    for f in (modulate, gated, turned, normed, gelu):
        globals()[f.__name__] = torch.compile(f, dynamic=True)


class Model(torch.nn.Module):
    """text: UMT5EncoderModel, dit: WanTransformer3DModel, made from the preset c."""

    def __init__(self, c, vocab):
        super().__init__()
        z = c["vae"]["z_dim"]
        self.text = UMT5EncoderModel(
            UMT5Config(
                vocab_size=vocab, feed_forward_proj="gated-gelu", dropout_rate=0.0, **c["text"]
            )
        )
        self.dit = WanTransformer3DModel(
            patch_size=(1, c.get("patch", 1), c.get("patch", 1)),
            in_channels=z,
            out_channels=z,
            freq_dim=256,
            text_dim=c["text"]["d_model"],
            **c["dit"]
        )

    def read(self, ids, mask):
        """What the text encoder says of tokens ids [B, L], of which mask marks those that count."""
        e = self.text.encoder
        h = e.embed_tokens(ids)
        none = torch.where(mask, 0.0, float("-inf"))[:, None, None]
        for b in e.block:
            m, f = b.layer[0].SelfAttention, b.layer[1].DenseReluDense
            y = normed(h, b.layer[0].layer_norm.weight)
            q, k, v = (w(y).unflatten(-1, (m.n_heads, -1)).transpose(1, 2) for w in (m.q, m.k, m.v))
            bias = (m.compute_bias(ids.shape[1], ids.shape[1], ids.device) + none).to(q.dtype)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
            h = h + m.o(y.transpose(1, 2).flatten(2))
            y = normed(h, b.layer[1].layer_norm.weight)
            h = h + f.wo(gelu(f.wi_0(y)) * f.wi_1(y))
        return normed(h, e.final_layer_norm.weight)

    def encode_text(self, ids):
        """Rows of the prompts [B, LMAX, d] and the logarithms of what each stands for [B, LMAX]."""
        mask = ids.ne(0)
        h = self.read(ids, mask) * mask[..., None]
        n = mask.sum(1, keepdim=True)
        pad = torch.log((TEXT_ROWS - n) / (ids.shape[1] - n)).float()
        return h, torch.where(mask, 0.0, pad)

    def attend(self, m, y, rope):
        """Self-attention. y [B, N, d]."""
        A, D = m.heads, y.shape[-1] // m.heads
        w = torch.cat([halves(m.to_q.weight, A), halves(m.to_k.weight, A), m.to_v.weight])
        b = torch.cat([halves(m.to_q.bias, A), halves(m.to_k.bias, A), m.to_v.bias])
        q, k, v = F.linear(y, w, b).unflatten(-1, (3, A, D)).unbind(2)
        q = turned(q, halves(m.norm_q.weight, A).view(A, D), *rope)
        k = turned(k, halves(m.norm_k.weight, A).view(A, D), *rope)
        y = F.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v)))
        return m.to_out[0](y.transpose(1, 2).flatten(2))

    def cross(self, m, y, text, bias):
        q = normed(m.to_q(y), m.norm_q.weight).unflatten(-1, (m.heads, -1)).transpose(1, 2)
        k = normed(m.to_k(text), m.norm_k.weight).unflatten(-1, (m.heads, -1)).transpose(1, 2)
        v = m.to_v(text).unflatten(-1, (m.heads, -1)).transpose(1, 2)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        return m.to_out[0](y.transpose(1, 2).flatten(2))

    def forward(self, x, s, ids):
        """Velocity [B, z, t, h, w] at x for noise levels s [B] and prompts ids [B, LMAX]."""
        d = self.dit
        text, bias = self.encode_text(ids)
        bias = bias[:, None, None, :]
        cos, sin = d.rope(x)
        rope = (cos[0, :, :, 0::2].float(), sin[0, :, :, 1::2].float())
        temb, steps, text, _ = d.condition_embedder(s * 1000, text)
        steps = steps.float().unflatten(1, (6, -1))
        B, z, t, h, w = x.shape
        p = d.config.patch_size[1]
        y = x.view(B, z, t, h // p, p, w // p, p).permute(0, 2, 3, 5, 1, 4, 6)
        y = F.linear(
            y.reshape(B, -1, z * p * p), d.patch_embedding.weight.flatten(1), d.patch_embedding.bias
        )
        for b in d.blocks:
            m = (b.scale_shift_table + steps).chunk(6, 1)
            y = gated(y, self.attend(b.attn1, modulate(y, m[1], m[0]), rope), m[2])
            one = b.norm2.weight.view(1, 1, -1) - 1, b.norm2.bias.view(1, 1, -1)
            y = y + self.cross(b.attn2, modulate(y, *one), text, bias)
            u = gelu(b.ffn.net[0].proj(modulate(y, m[4], m[3])))
            y = gated(y, b.ffn.net[2](u), m[5])
        shift, scale = (d.scale_shift_table + temb[:, None]).float().chunk(2, 1)
        y = d.proj_out(modulate(y, scale, shift))
        y = y.float().view(B, t, h // p, w // p, p, p, z).permute(0, 6, 1, 2, 4, 3, 5)
        return y.reshape(B, z, t, h, w)


def matrices(model):
    """Weights for Muon: of the blocks, not of embeddings or of the first and last layers."""
    return [
        w
        for k, w in model.named_parameters()
        if w.ndim == 2
        and (
            k.startswith("dit.blocks")
            or "text_embedder" in k
            or (k.startswith("text.encoder.block") and "relative" not in k)
        )
    ]


@torch.no_grad()
def check(patch):
    torch.manual_seed(0)
    c = dict(
        patch=patch,
        vae=dict(z_dim=8),
        text=dict(d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4),
        dit=dict(num_attention_heads=2, attention_head_dim=32, ffn_dim=96, num_layers=3),
    )
    m = Model(c, 100)
    for k, w in m.named_parameters():
        w.normal_(std=0.1) if w.ndim > 1 else w.normal_(1.0 if "norm" in k else 0.0, 0.2)
    ids = torch.zeros(2, LMAX, dtype=torch.long)
    ids[0, :5], ids[1, :9] = torch.randint(1, 100, (5,)), torch.randint(1, 100, (9,))
    x, s = torch.randn(2, 8, 3, 4, 4), torch.tensor([0.3, 0.8])
    h = (
        m.text(input_ids=ids, attention_mask=ids.ne(0).long()).last_hidden_state
        * ids.ne(0)[..., None]
    )
    h = F.pad(h, (0, 0, 0, TEXT_ROWS - LMAX))
    want = m.dit(hidden_states=x, timestep=s * 1000, encoder_hidden_states=h, return_dict=False)[0]
    print((m(x, s, ids) - want).abs().max().item(), want.abs().max().item())


if __name__ == "__main__":
    check(1)
    check(2)
