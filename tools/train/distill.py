"""A LoRA with which the model takes a few steps without guidance.

Where a step of the few begins, the model with guidance takes several smaller ones to where it ends;
the student, the same weights with a LoRA, learns the straight line between the two, several times
before another takes its place. Beginnings are noised latents of drawn clips (progressive
distillation over a fixed timetable: Salimans and Ho, arXiv 2202.00512; with guidance in the target:
Meng et al., arXiv 2210.03142).
"""

import os
import time

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch.nn.utils import parametrize

import wan_dit
import wan_vae
from data import Clips, decode
from dit import Bank, build, shares
from optim import clip
from parallel import average, rank, say
from presets import bf16, device, send
from record import Recorded


class Low(torch.nn.Module):
    """A weight and the product of two narrow matrices, the second of which begins as zeros."""

    def __init__(self, w, r):
        super().__init__()
        self.a = torch.nn.Parameter(torch.randn(r, w.shape[1], device=w.device) / r**0.5)
        self.b = torch.nn.Parameter(torch.zeros(w.shape[0], r, device=w.device))
        self.on = True

    def forward(self, w):
        return w + self.b @ self.a if self.on else w


def attach(dit, r):
    """{name of a linear layer: its Low}, for every one of the blocks."""
    out = {}
    for name, m in dit.named_modules():
        if name.startswith("blocks.") and isinstance(m, torch.nn.Linear):
            out[name] = Low(m.weight, r)
    for name, low in out.items():
        parametrize.register_parametrization(dit.get_submodule(name), "weight", low)
    return out


def timetable(steps, shift):
    """Noise levels where `--timesteps trailing` has them, and 0."""
    s = torch.arange(steps, -1, -1) / steps
    return shift * s / (1 + (shift - 1) * s)


def save(low, path):
    """In the names of diffusers, a strength of 1."""
    save_file(
        {
            f"transformer.{k}.lora_{n}.weight": w.detach().bfloat16().cpu().contiguous()
            for k, v in low.items()
            for n, w in (("A", v.a), ("B", v.b))
        },
        path,
    )


def take(low, path):
    """What save() wrote."""
    for k, w in load_file(path).items():
        name, n = k.removeprefix("transformer.").removesuffix(".weight").split(".lora_")
        with torch.no_grad():
            (low[name].a if n == "A" else low[name].b).copy_(w)


class Lines:
    """Where steps begin, their velocities, noise levels and tokens, in a ring of `room`; debt: how
    many are to be drawn."""

    def __init__(self, room, rng):
        self.room, self.rng, self.rows, self.at, self.debt = room, rng, None, 0, room / 4

    def put(self, *rows):
        if self.rows is None:
            self.rows = [torch.empty((0,) + r.shape[1:], dtype=r.dtype).to(r.device) for r in rows]
        n, full = len(rows[0]), len(self.rows[0])
        if full < self.room:
            self.rows = [torch.cat([old, r]) for old, r in zip(self.rows, rows)]
            return
        to = torch.from_numpy((self.at + np.arange(n)) % full).to(rows[0].device)
        self.at = (self.at + n) % full
        for old, r in zip(self.rows, rows):
            old[to] = r

    def batch(self, n):
        dev = self.rows[0].device
        i = send(torch.from_numpy(self.rng.integers(len(self.rows[0]), size=n)), dev)
        return [r[i] for r in self.rows]


def train(a, c, names):
    """Writes a.out/few.safetensors every minute, from which --resume goes on. a.few: its steps,
    each of a.sub by guidance."""
    dev = device()
    m, tok, latents, state = build(a, c, dev)
    if state:
        m.load_state_dict(state["ema"])
    m.requires_grad_(False).eval()
    wan_vae.fuse()
    wan_dit.fuse()
    low = attach(m.dit, a.rank)
    saved = os.path.join(a.out, "few.safetensors")
    if a.resume and os.path.exists(saved):
        take(low, saved)
    params = [w for v in low.values() for w in (v.a, v.b)]
    rate = torch.zeros((), device=dev)
    opt = torch.optim.AdamW(params, lr=rate, weight_decay=0.0, capturable=dev == "cuda")
    clips = Clips(*decode(a.clips, a.out), names, c["size"], dev)
    rng, turn = np.random.default_rng([a.seed, rank()]), np.random.default_rng(a.seed)
    torch.manual_seed(1000003 * rank())
    lengths, share = shares(a.lengths)
    banks = {
        T: Bank(clips, latents, tok, T, max(64, int(a.bank * 64 / (63 + T))), rng) for T in lengths
    }
    for b in banks.values():
        b.add(max(b.chunk, b.room // 4))
    table = timetable(a.few, c["shift"])

    def velocity(x, s, ids):
        with torch.autocast(dev, dtype=torch.bfloat16, enabled=bf16(dev)):
            return m(x, s, ids)

    def teach(x0, ids, nothing, ends):
        """ends [n, 2]: noise levels where a step begins and ends. Where it begins, velocity."""
        n, line = len(x0), ends.T.reshape(2, -1, 1, 1, 1, 1)
        x = (1 - line[0]) * x0 + line[0] * torch.randn_like(x0)
        y = x
        for v in low.values():
            v.on = False
        with torch.no_grad():
            for k in range(a.sub):
                s = ends[:, 0] + (ends[:, 1] - ends[:, 0]) * k / a.sub
                v = velocity(torch.cat([y, y]), torch.cat([s, s]), torch.cat([ids, nothing]))
                y = y + (line[1] - line[0]) / a.sub * (v[n:] + a.guidance * (v[:n] - v[n:]))
        for v in low.values():
            v.on = True
        return torch.stack([x, (y - x) / (line[1] - line[0])])

    def learn(x, v, s, ids, lr):
        loss = F.mse_loss(velocity(x, s, ids), v)
        opt.zero_grad()
        loss.backward()
        (mean,) = average(params, loss.detach())
        clip(params)
        rate.fill_(lr)
        opt.step()
        return mean

    told, one = Recorded(teach, opt.zero_grad), Recorded(learn, opt.zero_grad)
    lines = {T: Lines(max(32, b.room // 4), rng) for T, b in banks.items()}

    def more(T, n):
        """n new lines of clips of T frames."""
        banks[T].add(a.fresh[min(T, 2) - 1] * n)
        x0, ids = banks[T].batch(n)
        k = torch.from_numpy(rng.integers(a.few, size=n))
        ends = send(torch.stack([table[k], table[k + 1]], 1), dev)
        x, v = told(x0, ids, banks[T].nothing.expand(n, -1), ends)
        lines[T].put(x.half(), v.half(), ends[:, 0], ids)

    start = last = time.time()
    step, el, losses = 0, 0.0, {T: [] for T in lengths}
    side = c["size"] // c["vae"]["scale_factor_spatial"] // c.get("patch", 1)
    while el < 60 * a.minutes:
        T = lengths[turn.choice(len(lengths), p=share)]
        n = max(1, c["tokens"] // (side * side * ((T - 1) // 4 + 1)))
        lines[T].debt += a.teach * n
        while lines[T].rows is None or lines[T].debt >= n:
            more(T, n)
            lines[T].debt -= n
        fall = max(0.02, min(1.0, 2 * (1 - el / (60 * a.minutes))))
        lr = (a.lr or 1e-3) * min(1.0, (step + 1) / 50) * fall
        x, v, s, ids = lines[T].batch(n)
        losses[T].append(one(x.float(), v.float(), s, ids, torch.full((), lr, device=dev)))
        if dev == "cuda" and step % 16 == 0:
            torch.cuda.synchronize()
        (el,) = average([], time.time() - start)
        step += 1
        if time.time() - last > 60 or el >= 60 * a.minutes:
            text = [
                f"| {T}: {np.mean([float(w) for w in v]):.4f} x{len(v)}"
                for T, v in losses.items()
                if v
            ]
            say(f"step {step} {el:.0f}s", *text)
            losses, last = {T: [] for T in lengths}, time.time()
            if rank() == 0:
                save(low, saved)
