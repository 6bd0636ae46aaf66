"""A sheet of prompts drawn by tessera itself, to look at and to count on.

    python3 judge.py --tessera ../../tessera --model ../../weights/default --out DIR

Every prompt of prompts.txt is a clip; of each clip the sheet shows four frames, first to last.
"""

import argparse
import os
import subprocess

from PIL import Image, ImageDraw

SHOWN, COLUMNS, TEXT = 4, 5, 12


def cell(folder, prompt):
    names = sorted(f for f in os.listdir(folder) if f.endswith(".png"))
    shown = [
        Image.open(os.path.join(folder, names[round(i * (len(names) - 1) / (SHOWN - 1))])).convert(
            "RGB"
        )
        for i in range(SHOWN)
    ]
    w, h = shown[0].size
    img = Image.new("RGB", (SHOWN * w + 4, h + TEXT), "white")
    for i, f in enumerate(shown):
        img.paste(f, (i * w, TEXT))
    ImageDraw.Draw(img).text((1, 0), prompt, fill="black")
    return img


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--tessera", default=os.path.join(here, "../../tessera"))
    p.add_argument("--model", default=os.path.join(here, "../../weights/default"))
    p.add_argument("--prompts", default=os.path.join(here, "prompts.txt"))
    p.add_argument("--out", required=True, help="a folder; the sheet is sheet.png in it")
    p.add_argument("flags", nargs="*", help="for tessera batch, after --")
    a = p.parse_args()
    subprocess.run(
        [
            a.tessera,
            "batch",
            a.prompts,
            "--out",
            a.out,
            "--format",
            "frames",
            "--model",
            a.model,
            "--name",
            "{index:03}",
            "--quiet",
        ]
        + a.flags,
        check=True,
    )
    with open(a.prompts, encoding="utf-8") as f:
        prompts = [line.strip() for line in f if line.strip()]
    folders = sorted(d for d in os.listdir(a.out) if d.isdigit())
    cells = [
        cell(os.path.join(a.out, d), f"{i + 1} {t}")
        for i, (d, t) in enumerate(zip(folders, prompts))
    ]
    w, h = cells[0].size
    sheet = Image.new("RGB", (COLUMNS * w, -(-len(cells) // COLUMNS) * h), "white")
    for i, c in enumerate(cells):
        sheet.paste(c, (i % COLUMNS * w, i // COLUMNS * h))
    sheet.save(os.path.join(a.out, "sheet.png"), optimize=True)


if __name__ == "__main__":
    main()
