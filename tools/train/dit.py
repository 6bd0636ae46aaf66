"""Training of the transformer together with its text encoder, on latents of drawn clips.

Flow matching: x_s = (1 - s) x0 + s e, the network predicts e - x0 at noise level s.
"""

import json
import os
import shutil
import time

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import UniPCMultistepScheduler, WanPipeline
from safetensors.torch import load_file

import tokenizer
import wan_dit
import wan_vae
from data import COLORS, MOTIONS, Clips, article, decode
from optim import Muon, clip
from parallel import average, rank, say
from presets import bf16, device, send
from record import Recorded
from vae import load as load_vae


def make_tokenizer(a, pieces=1024):
    """From the words of every subject of the data, whatever is trained on: an unknown name still
    falls into known pieces."""
    rows, _ = decode(a.clips, a.out)
    lines = [r["label"] for r in rows] * 3 + [", ".join(r["tags"]) for r in rows]
    lines += [
        f"{article(r['label'])} {m} on {article(c)} background"
        for r, m, c in zip(rows, list(MOTIONS) * 999, list(COLORS) * 999)
    ]
    lines += ["a clip of", "a picture of", "and", "small"] * 100
    tokenizer.train(lines, os.path.join(a.out, "tokenizer"), pieces, normalization="nmt_nfkc_cf")


class Latents:
    """The autoencoder's latents, normalized by channel as its config says."""

    def __init__(self, path, dev):
        self.vae, self.dev = load_vae(path, dev).eval().requires_grad_(False), dev
        z = self.vae.config.z_dim
        self.mean = torch.tensor(self.vae.config.latents_mean, device=dev).view(1, z, 1, 1, 1)
        self.std = torch.tensor(self.vae.config.latents_std, device=dev).view(1, z, 1, 1, 1)

    @torch.no_grad()
    def encode(self, x):
        with torch.autocast(self.dev, dtype=torch.bfloat16, enabled=bf16(self.dev)):
            return (wan_vae.encode(self.vae, x.to(self.dev))[0] - self.mean) / self.std

    @torch.no_grad()
    def decode(self, z):
        with torch.autocast(self.dev, dtype=torch.bfloat16, enabled=bf16(self.dev)):
            return wan_vae.decode(self.vae, z * self.std + self.mean).clamp(-1, 1).cpu()


class Bank:
    """Latents of T frames and tokens of their captions in a ring of `room`; new ones replace the
    oldest."""

    def __init__(self, clips, latents, tok, T, room, rng):
        self.clips, self.latents, self.T, self.room, self.rng = clips, latents, T, room, rng
        self.tok, self.z, self.at, self.debt = tok, None, 0, 0.0
        self.ids = torch.zeros((room, wan_dit.LMAX), dtype=torch.long, device=latents.dev)
        self.nothing = ids_of(tok, [""]).to(latents.dev)
        self.chunk = min(room, max(1, (64 if latents.dev == "cpu" else 1024) // T))
        self.full = 0

    def add(self, n):
        self.debt += n
        while self.debt >= self.chunk:
            x, caps = self.clips.draw(self.rng, self.T, self.chunk)
            z = self.latents.encode(x).half()
            if self.z is None:
                self.z = torch.empty(
                    (self.room,) + z.shape[1:], dtype=torch.float16, device=z.device
                )
            to = (self.at + np.arange(self.chunk)) % self.room
            self.at = int(to[-1] + 1) % self.room
            self.full = min(self.room, self.full + self.chunk)
            to = torch.from_numpy(to).to(z.device)
            self.z[to], self.ids[to] = z, ids_of(self.tok, caps).to(z.device)
            self.debt -= self.chunk

    def batch(self, n):
        """n latents and their tokens, one in ten without a caption."""
        i = send(torch.from_numpy(self.rng.integers(self.full, size=n)), self.z.device)
        without = send(torch.from_numpy(self.rng.random((n, 1)) < 0.1), self.z.device)
        return self.z[i].float(), torch.where(without, self.nothing, self.ids[i])


def ids_of(tok, caps):
    t = tok(
        caps,
        padding="max_length",
        max_length=wan_dit.LMAX - 1,
        truncation=True,
        return_tensors="pt",
    )
    return F.pad(t.input_ids, (0, 1))  # at least one row of padding


def fit(mine, other):
    """Takes the weights of the same shapes; returns the names of the rest."""
    have = mine.state_dict()
    take = {k: w for k, w in other.items() if k in have and have[k].shape == w.shape}
    mine.load_state_dict(take, strict=False)
    return [k for k in have if k not in take and "embed_tokens" not in k]


def build(a, c, dev):
    """Model, its tokenizer, latents; from a.out/dit.pt, a.init or nothing. Also the saved state."""
    path = os.path.join(a.out, "tokenizer")
    tok = tokenizer.load(path)
    torch.manual_seed(a.seed)
    m = wan_dit.Model(c, len(tok)).to(dev)
    state = None
    saved = os.path.join(a.out, "dit.pt")
    if a.init:
        for mine, name in (
            (m.text, "text_encoder/model.safetensors"),
            (m.dit, "transformer/diffusion_pytorch_model.safetensors"),
        ):
            fresh = fit(mine, load_file(os.path.join(a.init, name)))
            if fresh:
                say("of other shapes, not taken:", ", ".join(fresh))
    elif (a.resume or a.what != "transformer") and os.path.exists(saved):
        state = torch.load(saved, map_location=dev)
        m.load_state_dict(state["model"])
    return m, tok, Latents(os.path.join(a.out, "vae"), dev), state


@torch.no_grad()
def sample(m, tok, latents, prompts, T, c, steps=24, guidance=4.0, seed=0):
    """Pixels [n, 3, T, size, size] by Euler's method, one prompt at a time."""
    z, side, out = c["vae"]["z_dim"], c["size"] // c["vae"]["scale_factor_spatial"], []
    dev = latents.dev
    for i, p in enumerate(prompts):
        g = torch.Generator().manual_seed(seed + i)
        x = torch.randn((1, z, (T - 1) // 4 + 1, side, side), generator=g).to(dev)
        ids = ids_of(tok, [p, ""]).to(dev)
        s = torch.linspace(1, 0, steps + 1)
        s = c["shift"] * s / (1 + (c["shift"] - 1) * s)
        for k in range(steps):
            with torch.autocast(dev, dtype=torch.bfloat16, enabled=bf16(dev)):
                v = m(torch.cat([x, x]), s[k].expand(2).to(dev), ids)
            x = x + (s[k + 1] - s[k]).item() * (v[1:] + guidance * (v[:1] - v[1:]))
        out.append(latents.decode(x)[0])
    return torch.stack(out)


def save_sheet(y, path, every=4, columns=8):
    """Clips as rows of every fourth frame, pictures as a grid."""
    from PIL import Image

    cells = [v[:, i] for v in y for i in range(0, v.shape[1], every)]
    if y.shape[2] > 1:
        columns = len(cells) // len(y)
    cells += [torch.ones_like(cells[0])] * (-len(cells) % columns)
    img = torch.cat(
        [torch.cat(cells[i : i + columns], 2) for i in range(0, len(cells), columns)], 1
    )
    img = Image.fromarray(((img + 1) * 127.5).byte().permute(1, 2, 0).numpy())
    img.resize((img.width * 2, img.height * 2), Image.NEAREST).save(path)


def sheet(a, c):
    """Samples of the averaged weights: every subject once as a picture, eight clips."""
    m, tok, latents, s = build(a, c, device())
    if s and not a.last:
        m.load_state_dict(s["ema"])
    rng = np.random.default_rng(3)
    from data import read_subjects

    names = list(read_subjects(a.subjects).values())
    where = [f" on {article(list(COLORS)[rng.integers(16)])} background" for _ in names]
    motions = list(MOTIONS) + [""] * 99
    if "1" in a.lengths:
        y = sample(
            m,
            tok,
            latents,
            [article(n) + w for n, w in zip(names, where)],
            1,
            c,
            guidance=a.guidance,
        )
        save_sheet(y, os.path.join(a.out, "pictures.png"), columns=9)
    if str(c["frames"]) in a.lengths:
        few = [f"{article(n)} {k}".strip() + w for n, k, w in zip(names[::4], motions, where)]
        print(*few, sep="\n")
        save_sheet(
            sample(m, tok, latents, few, c["frames"], c, guidance=a.guidance),
            os.path.join(a.out, "clips.png"),
        )


def edit(folder, change):
    """The configuration in a folder with some keys changed, and without paths of this machine."""
    for name in ("model_index.json", "config.json", "scheduler_config.json"):
        path = os.path.join(folder, name)
        if os.path.exists(path):
            with open(path, encoding="utf-8") as f:
                d = dict(json.load(f), **change)
            d.pop("_name_or_path", None)
            with open(path, "w", encoding="utf-8") as f:
                json.dump(d, f, indent=2)
                f.write("\n")


def export(a, c):
    """The averaged weights in the layout of WanPipeline, in bf16; tessera.json is left as it is."""
    m, tok, latents, s = build(a, c, "cpu")
    if s and not a.last:
        m.load_state_dict(s["ema"])
    sch = UniPCMultistepScheduler(
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        flow_shift=c["shift"],
        num_train_timesteps=1000,
    )
    pipe = WanPipeline(
        tokenizer=tok, text_encoder=m.text, vae=latents.vae, scheduler=sch, transformer=m.dit
    )
    pipe.to(torch.bfloat16)
    pipe.save_pretrained(a.to)
    shutil.rmtree(os.path.join(a.to, "tokenizer"))
    shutil.copytree(os.path.join(a.out, "tokenizer"), os.path.join(a.to, "tokenizer"))
    for part, change in (
        ("", dict(tokenizer=["transformers", "T5TokenizerFast"])),
        ("vae", {}),
        ("transformer", {}),
        ("text_encoder", {}),
        ("scheduler", {}),
    ):
        edit(os.path.join(a.to, part), change)


def shares(text):
    """'1:0.5,29:0.5' as lengths and their shares of the steps."""
    part = [p.split(":") for p in text.split(",")]
    w = np.array([float((p + ["1"])[1]) for p in part])
    return [int(p[0]) for p in part], w / w.sum()


def train(a, c, names):
    """Writes a.out/dit.pt every minute."""
    dev = device()
    torch.backends.cudnn.benchmark = True
    m, tok, latents, state = build(a, c, dev)
    wan_vae.fuse()
    wan_dit.fuse()
    clips = Clips(*decode(a.clips, a.out), names, c["size"], dev)
    some = wan_dit.matrices(m)
    ids = {id(w) for w in some}
    opt = Muon(some, [w for w in m.parameters() if id(w) not in ids], betas=(0.9, 0.98))
    step, seen, spent = 0, 0, 0.0
    ema = {k: v.detach().clone() for k, v in m.state_dict().items()}
    if state:
        ema, step, seen, spent = state["ema"], state["step"], state["seen"], state["spent"]
        opt.load_state_dict(state["opt"])
    say(
        "parameters",
        {
            k: round(sum(w.numel() for w in v.parameters()) / 1e6, 2)
            for k, v in (("text", m.text), ("dit", m.dit), ("vae", latents.vae))
        },
        "million",
    )
    rng = np.random.default_rng([a.seed, step, rank()])
    turn = np.random.default_rng([a.seed, step])
    g = torch.Generator().manual_seed(1000003 * rank() + step)
    torch.manual_seed(1000003 * rank() + step)  # of the noise
    lengths, share = shares(a.lengths)
    start = time.time()
    banks = {
        T: Bank(clips, latents, tok, T, max(64, int(a.bank * 64 / (63 + T))), rng) for T in lengths
    }
    for b in banks.values():
        b.add(max(b.chunk, b.room // 4))
    say("banks", {T: b.full for T, b in banks.items()}, f"{time.time() - start:.0f}s")
    start = last = time.time()
    losses, el, first = {T: [] for T in lengths}, 0.0, step
    now = [w for w in m.state_dict().values() if w.is_floating_point()]
    slow = [w for w in ema.values() if w.is_floating_point()]
    path = os.path.join(a.out, "dit.pt")
    params = list(m.parameters())
    m.train()

    def learn(x0, ids, s, lr):
        """One step of everything; the loss."""
        opt.zero_grad()
        e = torch.randn_like(x0)
        sv = s.view(-1, 1, 1, 1, 1)
        with torch.autocast(dev, dtype=torch.bfloat16, enabled=bf16(dev)):
            v = m((1 - sv) * x0 + sv * e, s, ids)
        loss = F.mse_loss(v, e - x0)
        loss.backward()
        (mean,) = average(params, loss.detach())
        opt.step(lr, clip(params))
        return mean

    one = Recorded(learn, opt.zero_grad)
    while True:
        frac = min(1.0, el / (60 * a.minutes))
        fall = 1.0 if a.level else max(0.02, min(1.0, 2.5 * (1 - frac)))
        lr = (a.lr or c["lr"]) * min(1.0, (step - first + 1) / 100) * fall
        T = lengths[turn.choice(len(lengths), p=share)]
        side = c["size"] // c["vae"]["scale_factor_spatial"] // c.get("patch", 1)
        n = max(1, c["tokens"] // (side * side * ((T - 1) // 4 + 1)))
        banks[T].add(a.fresh[min(T, 2) - 1] * n)
        x0, ids = banks[T].batch(n)
        u = torch.sigmoid(torch.randn(n, generator=g))
        u = torch.where(torch.rand(n, generator=g) < 0.2, torch.rand(n, generator=g), u)
        s = send(c["shift"] * u / (1 + (c["shift"] - 1) * u), dev)
        losses[T].append(one(x0, ids, s, torch.full((), lr, device=dev)))
        if dev == "cuda" and step % 16 == 0:
            torch.cuda.synchronize()  # or Python would be far ahead, and so would its clock
        (el,) = average([], time.time() - start)
        step += 1
        seen += n * a.processes
        keep = min(0.998, (1 + step) / (10 + step))
        if rank() == 0:
            with torch.no_grad():
                torch._foreach_lerp_(slow, now, 1 - keep)
        if time.time() - last > 60 or el > 60 * a.minutes:
            text = " ".join(
                f"| {T}: {np.mean([float(w) for w in v]):.4f} x{len(v)}"
                for T, v in losses.items()
                if v
            )
            say(f"step {step} seen {seen} {el:.0f}s {text}")
            losses = {T: [] for T in lengths}
            if rank() == 0:
                torch.save(
                    dict(
                        model=m.state_dict(),
                        ema=ema,
                        opt=opt.state_dict(),
                        step=step,
                        seen=seen,
                        spent=spent + el,
                    ),
                    path + ".new",
                )
                os.replace(path + ".new", path)
            last = time.time()
        if el > 60 * a.minutes:
            break
    say(f"{(spent + el) / 60:.0f} minutes in all")
