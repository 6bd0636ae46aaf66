"""Training of the video autoencoder (AutoencoderKLWan).

Loss: L1 of pixels, L1 of their differences in space and time (edges), a little of the
Kullback-Leibler divergence. Held out for the figures printed: fixed compositions of the named
subjects, and of subjects that are never trained on.
"""

import os
import time

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan

import wan_vae
from data import Clips, decode
from optim import Muon, clip
from parallel import average, rank, say
from presets import bf16, device


def differences(x):
    d = [x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]]
    if x.shape[2] > 1:
        d.append(x[:, :, 1:] - x[:, :, :-1])
    return d


def begin(vae):
    """Only the newest taps of causal convolutions act at first, and time is resampled by copies."""
    with torch.no_grad():
        for k, w in vae.named_parameters():
            if "time_conv.weight" in k:
                w[:, :, :-1] *= 0.1
                w[:, :, -1, 0, 0] = torch.eye(w.shape[1]).repeat(w.shape[0] // w.shape[1], 1)
            elif "time_conv.bias" in k:
                w.zero_()
            elif w.ndim == 5 and w.shape[2] == 3:
                w[:, :, :-1] = 0


def split(rows, names):
    """Other animated subjects: to train on besides the named ones, and never to train on."""
    other = [
        r["label"]
        for r in rows
        if r["label"] not in names
        and r["frames"] > 1
        and r["group"] in ("animals-nature", "food-drink", "travel-places", "activities")
    ]
    return {k: k for i, k in enumerate(other) if i % 4 != 1}, {
        k: k for i, k in enumerate(other) if i % 4 == 1
    }


@torch.no_grad()
def psnr(vae, clips, dev, frames, n, seed=20251):
    """Mean over n held-out samples of 10 log10(4 / mean squared error)."""
    rng, out = np.random.default_rng(seed), []
    for _ in range(0, n, 8):
        x = clips.draw(rng, frames, 8)[0].to(dev)
        y = wan_vae.decode(vae, wan_vae.encode(vae, x)[0]).clamp(-1, 1)
        out += (10 * torch.log10(4 / (y - x).square().flatten(1).mean(1))).tolist()
    return float(np.mean(out))


def report(vae, sets, dev, n):
    text = []
    for name, clips in sets.items():
        text.append(
            f"{name}: pictures {psnr(vae, clips, dev, 1, n):.2f} dB, "
            f"clips {psnr(vae, clips, dev, 17, n):.2f} dB"
        )
    return "; ".join(text)


def load(path, dev):
    return AutoencoderKLWan.from_pretrained(path, torch_dtype=torch.float32).to(dev)


def measure(vae, clips, dev, n):
    """Means and deviations of the latents by channel, over fresh clips, into the config."""
    rng, zs = np.random.default_rng(7), []
    with torch.no_grad():
        for _ in range(n):
            z, _ = wan_vae.encode(vae, clips.draw(rng, 17, 8)[0].to(dev))
            zs.append(z.transpose(0, 1).flatten(1).cpu())
    z = torch.cat(zs, 1)
    vae.register_to_config(
        latents_mean=[round(v, 5) for v in z.mean(1).tolist()],
        latents_std=[round(v, 5) for v in z.std(1).tolist()],
    )


def train(a, c, names):
    """a: arguments (see train.py); c: preset. Writes a.out/vae and a.out/vae.pt."""
    dev = device()
    torch.backends.cudnn.benchmark = True
    wan_vae.fuse()
    rows, frames = decode(a.clips, a.out)
    torch.manual_seed(a.seed)
    own = Clips(rows, frames, names, c["size"], dev)
    more, unseen = split(rows, names)
    pools = [own, Clips(rows, frames, more, c["size"], dev)]
    sets = dict(named=own, unseen=Clips(rows, frames, unseen, c["size"], dev))
    z = c["vae"]["z_dim"]
    vae = AutoencoderKLWan(**dict(c["vae"], latents_mean=[0.0] * z, latents_std=[1.0] * z)).to(dev)
    begin(vae)
    path = os.path.join(a.out, "vae.pt")
    if a.decoder_only:  # the latents stay as they are, for a transformer trained on them
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
    params = [w for w in vae.parameters() if w.requires_grad]
    inner = [
        w
        for k, w in vae.named_parameters()
        if w.requires_grad
        and w.ndim >= 4
        and "conv_in" not in k
        and "decoder.conv_out" not in k
        and "quant" not in k
        and "norm" not in k
    ]
    ids = {id(w) for w in inner}
    opt = Muon(inner, [w for w in params if id(w) not in ids], decay=0.0)
    step, spent = 0, 0.0
    if a.init:
        vae.load_state_dict(load(os.path.join(a.init, "vae"), dev).state_dict())
    if a.resume and os.path.exists(path):
        s = torch.load(path, map_location=dev)
        vae.load_state_dict(s["model"])
        if s.get("trained") == len(params):
            opt.load_state_dict(s["opt"])
        step, spent = s["step"], s["spent"]
    say("parameters", sum(w.numel() for w in vae.parameters()) / 1e6, "M")
    rng = np.random.default_rng([a.seed, step, rank()])
    turn = np.random.default_rng([a.seed, step])
    lengths = [int(f) for f in a.frames.split(",")]
    start = last = time.time()
    run, first, el = [], step, 0.0
    while True:
        frac = min(1.0, el / (60 * a.minutes))  # of all processes alike: they must stop together
        lr = (
            (a.lr or c["vae_lr"])
            * min(1.0, (step - first + 1) / 100)
            * max(0.02, min(1, 1.4 * (1 - frac)))
        )
        T = lengths[turn.integers(len(lengths))]
        n = max(1, int(c["vae_batch"][T] * a.scale))
        x = pools[int(rng.random() < 0.35)].draw(rng, T, n)[0].to(dev)
        with torch.autocast(dev, dtype=torch.bfloat16, enabled=bf16(dev)):
            with torch.set_grad_enabled(not a.decoder_only):
                mean, logvar = wan_vae.encode(vae, x)
            y = wan_vae.decode(vae, mean + torch.randn_like(mean) * (0.5 * logvar).exp())
        l1 = F.l1_loss(y, x)
        edges = sum(F.l1_loss(u, v) for u, v in zip(differences(y), differences(x)))
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        loss = l1 + 0.5 * edges + a.kl * kl
        opt.zero_grad()
        loss.backward()
        (el,) = average(params, time.time() - start)
        opt.step(lr, clip(params))
        step += 1
        error = (y.detach().clamp(-1, 1) - x).square().mean()
        run.append((T, l1.detach(), error, kl.detach(), n * T))
        if time.time() - last > 60 or frac >= 1:
            text = []
            for f in sorted(set(lengths)):
                m = [[float(v) for v in r] for r in run if r[0] == f] or [[0, 0, 4, 0, 0]]
                m = np.mean(m, 0)
                text.append(f"{f}: l1 {m[1]:.4f} {10 * np.log10(4 / m[2]):.2f} dB kl {m[3]:.2f}")
            rate = sum(r[4] for r in run) / (time.time() - last) * a.processes
            say(f"step {step} {el:.0f}s | {' | '.join(text)} | {rate:.0f} frames/s")
            run = []
            if not a.trial and rank() == 0:
                torch.save(
                    dict(
                        model=vae.state_dict(),
                        opt=opt.state_dict(),
                        step=step,
                        spent=spent + el,
                        trained=len(params),
                    ),
                    path,
                )
            last = time.time()
        if frac >= 1:
            break
    if rank():
        return
    vae.eval()
    torch.backends.cudnn.benchmark = False
    say(report(vae, sets, dev, 32 if a.trial else 64))
    if not a.trial:
        if a.decoder_only:
            old = AutoencoderKLWan.load_config(os.path.join(a.out, "vae"))
            vae.register_to_config(latents_mean=old["latents_mean"], latents_std=old["latents_std"])
        else:
            measure(vae, own, dev, 12)
        vae.save_pretrained(os.path.join(a.out, "vae"))
        say(f"{(spent + el) / 60:.0f} minutes in all")
