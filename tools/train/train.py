"""Trains the default model. `python3 train.py --help`; README.md gives the commands in order."""

import argparse
import os

import numpy as np

import data
import distill
import dit
import parallel
import vae
from presets import PRESETS


def sample_data(a, c, names):
    """data.png: eight drawn clips, every fourth frame; their captions are printed."""
    clips = data.Clips(*data.decode(a.clips, a.out), names, c["size"])
    x, caps = clips.draw(np.random.default_rng(a.seed), c["frames"], 8)
    print(*caps, sep="\n")
    dit.save_sheet(x, os.path.join(a.out, "data.png"))


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument(
        "what", choices=("data", "tokenizer", "vae", "transformer", "sheet", "export", "distill")
    )
    p.add_argument("--clips", help="the directory with clips.mp4 and clips.json")
    p.add_argument("--out", required=True, help="where everything is kept between calls")
    p.add_argument("--preset", choices=PRESETS, default="cpu")
    p.add_argument("--minutes", type=float, default=10)
    p.add_argument("--resume", action="store_true", help="go on from what --out holds")
    p.add_argument("--init", help="start from an exported model, such as weights/default")
    p.add_argument("--subjects", default=os.path.join(os.path.dirname(__file__), "subjects.txt"))
    p.add_argument("--lr", type=float)
    p.add_argument(
        "--level",
        action="store_true",
        help="transformer: the rate does not fall at the end,"
        " for a run whose end is not known; the averaged weights make up for it",
    )
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--scale", type=float, default=1.0, help="batches times this")
    p.add_argument("--frames", default="1", help="vae: lengths to draw from, such as 1,9")
    p.add_argument("--decoder-only", action="store_true", help="vae: the latents stay as they are")
    p.add_argument("--kl", type=float, default=3e-5)
    p.add_argument("--processes", type=int, default=1, help="of one thread each, on CPUs")
    p.add_argument(
        "--lengths", default="1", help="transformer: frames and their share, 1:0.4,29:0.6"
    )
    p.add_argument("--bank", type=int, default=8192, help="latents kept to draw batches from")
    p.add_argument(
        "--fresh",
        type=float,
        nargs=2,
        default=(0.15, 0.4),
        help="new pictures and clips for each one trained on",
    )
    p.add_argument("--guidance", type=float, default=4.0)
    p.add_argument("--few", type=int, default=4, help="distill: steps that the LoRA is for")
    p.add_argument("--sub", type=int, default=3, help="distill: smaller steps in each, guided")
    p.add_argument("--teach", type=float, default=0.25, help="distill: new for each trained on")
    p.add_argument("--rank", type=int, default=16, help="distill: of the LoRA")
    p.add_argument("--last", action="store_true", help="sheet, export: not the averaged weights")
    p.add_argument("--to", help="export: the directory to write")
    p.add_argument("--trial", action="store_true", help="write nothing")
    p.add_argument("--set", default="{}", help="changes to the preset, a Python dict")
    a = p.parse_args()
    c = dict(PRESETS[a.preset])
    for k, v in eval(a.set).items():
        c[k] = dict(c[k], **v) if isinstance(v, dict) else v
    os.makedirs(a.out, exist_ok=True)
    names = data.read_subjects(a.subjects)
    if a.what == "data":
        sample_data(a, c, names)
    elif a.what == "tokenizer":
        dit.make_tokenizer(a)
    elif a.what == "sheet":
        dit.sheet(a, c)
    elif a.what == "export":
        dit.export(a, c)
    else:
        if a.clips:
            data.decode(a.clips, a.out)  # once, before there are several processes
        of = {"vae": vae.train, "transformer": dit.train, "distill": distill.train}
        parallel.run(a.processes, of[a.what], a, c, names)


if __name__ == "__main__":
    main()
