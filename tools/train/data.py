"""Captioned clips: subjects composed over plain backgrounds, still or moving, and their captions.

Source: a directory with clips.mp4 and clips.json (see README.md). Pixels are float32 in [-1, 1],
laid out [B, 3, T, size, size]. Everything drawn is decided by the given NumPy generator.
"""

import json
import os
import shutil
import subprocess

import numpy as np
import torch
import torch.nn.functional as F

COLORS = {
    "white": (255, 255, 255),
    "black": (18, 18, 22),
    "grey": (150, 150, 155),
    "red": (214, 48, 49),
    "orange": (245, 140, 40),
    "yellow": (252, 205, 60),
    "green": (64, 170, 90),
    "teal": (30, 150, 150),
    "blue": (55, 120, 225),
    "navy": (28, 42, 94),
    "purple": (125, 80, 190),
    "pink": (245, 150, 185),
    "brown": (125, 85, 55),
    "beige": (232, 214, 184),
    "sky blue": (150, 205, 245),
    "mint": (170, 232, 205),
}


def still(p):
    return 0 * p


MOTIONS = {  # name -> (dx, dy, scale, degrees) at phase p in [0, 1], arrays over time
    "moving left": lambda p: (0.35 - 0.7 * p, still(p), 1 + still(p), still(p)),
    "moving right": lambda p: (-0.35 + 0.7 * p, still(p), 1 + still(p), still(p)),
    "rising": lambda p: (still(p), 0.35 - 0.7 * p, 1 + still(p), still(p)),
    "falling": lambda p: (still(p), -0.35 + 0.7 * p, 1 + still(p), still(p)),
    "bouncing": lambda p: (
        still(p),
        0.2 - 0.45 * abs(np.sin(2 * np.pi * p)),
        1 + still(p),
        still(p),
    ),
    "spinning": lambda p: (still(p), still(p), 1 + still(p), 360 * p),
    "swinging": lambda p: (still(p), still(p), 1 + still(p), 25 * np.sin(2 * np.pi * p)),
    "growing": lambda p: (still(p), still(p), 0.45 + 0.7 * p, still(p)),
    "shrinking": lambda p: (still(p), still(p), 1.15 - 0.7 * p, still(p)),
}


def read_video(path):
    """Its frames, bytes in RGB."""
    if shutil.which("ffmpeg"):
        to = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
        run = ["ffmpeg", "-loglevel", "error", "-i", path] + to
        return np.frombuffer(subprocess.run(run, capture_output=True, check=True).stdout, np.uint8)
    import cv2

    video, frames = cv2.VideoCapture(path), []
    while True:
        there, frame = video.read()
        if not there:
            return np.stack(frames)
        frames.append(frame[..., ::-1])


def decode(root, cache):
    """Rows of clips.json and all frames, uint8 [frames, 4, 128, 128], RGB premultiplied by alpha.

    The stream is decoded once into cache/clips.npy, by ffmpeg or else by OpenCV.
    """
    with open(os.path.join(root, "clips.json"), encoding="utf-8") as f:
        rows = json.load(f)
    path = os.path.join(cache, "clips.npy")
    if not os.path.exists(path):
        os.makedirs(cache, exist_ok=True)
        mp4 = os.path.join(root, "clips.mp4")
        a = read_video(mp4).reshape(-1, 256, 128, 3)
        a = np.concatenate(
            [a[:, :128].transpose(0, 3, 1, 2), a[:, 128:, :, :1].transpose(0, 3, 1, 2)], 1
        )
        np.save(path, np.ascontiguousarray(a))
    frames = np.load(path, mmap_mode="r")
    assert frames.shape[0] == rows[-1]["first"] + rows[-1]["frames"], frames.shape
    return rows, frames


def read_subjects(path):
    """{label in clips.json: the name captions use} from lines `name` or `name = label`."""
    out = {}
    with open(path, encoding="utf-8") as f:
        for line in f:
            name, _, label = (s.strip() for s in line.partition("="))
            if name:
                out[label or name] = name
    return out


def article(name):
    return ("an " if name[:1].lower() in "aeiou" else "a ") + name


class Clips:
    """Draws batches of compositions of the named subjects (a dict as read_subjects gives), with
    the pixels on `dev`."""

    def __init__(self, rows, frames, names, size, dev="cpu"):
        self.rows = [dict(r, name=names[r["label"]]) for r in rows if r["label"] in names]
        assert len(self.rows) == len(names), set(names) - {r["label"] for r in self.rows}
        self.size, self.dev = size, dev
        parts = []
        for r in self.rows:
            r["at"] = sum(len(p) for p in parts)
            x = torch.from_numpy(frames[r["first"] : r["first"] + r["frames"]].copy()).float()
            if size < 128:
                x = F.interpolate(x, size=(size, size), mode="area")
            parts.append(x.round().byte())
        self.frames = torch.cat(parts).to(dev)
        self.moving = [i for i, r in enumerate(self.rows) if r["frames"] > 1]

    def place(self, index, dx, dy, scale, deg):
        """Frames `index` [N] placed by arrays [N]: offsets in canvas widths. [N, 4, size, size]."""
        c, s = np.cos(np.deg2rad(deg)) / scale, np.sin(np.deg2rad(deg)) / scale
        m = np.stack([c, s, -2 * (c * dx + s * dy), -s, c, -2 * (c * dy - s * dx)], -1)
        n = len(index)
        g = F.affine_grid(
            torch.from_numpy(m.astype(np.float32)).view(n, 2, 3).to(self.dev),
            (n, 4, self.size, self.size),
            align_corners=False,
        )
        src = self.frames[torch.from_numpy(index).to(self.dev)].float() / 255
        return F.grid_sample(src, g, mode="bilinear", padding_mode="zeros", align_corners=False)

    def times(self, i, T, rng):
        """Frames of subject i in a row from any on; single ones from every ninth on."""
        r = self.rows[i]
        begin = rng.integers(r["frames"]) if T > 1 else rng.integers(max(1, r["frames"] // 9)) * 9
        return r["at"] + (np.arange(T) + begin) % r["frames"]

    def draw(self, rng, T, n, only=None):
        """n samples of T frames: pixels [n, 3, T, size, size] in [-1, 1] and their captions."""
        p = np.arange(T) / max(T - 1, 1)
        index, twin = np.zeros((2, n, T), np.int64)
        place = np.zeros((4, n, T))
        bg = np.ones((n, 3), np.float32)
        pairs, caps = [], []
        for b in range(n):
            i = (
                self.moving[rng.integers(len(self.moving))]
                if T > 1 and rng.random() < 0.75
                else int(rng.integers(len(self.rows)))
            )
            i = i if only is None else only[b % len(only)]
            index[b] = self.times(i, T, rng)
            what, motion = self.rows[i]["name"], None
            dx, dy, deg = np.zeros((3, T))
            scale = np.full(T, 0.95)
            u = rng.random()
            if u < 0.04:
                j = int(rng.integers(len(self.rows)))
                scale, dx = scale * 0.5, dx - 0.25
                twin[b] = self.times(j, T, rng)
                pairs.append(b)
                what = f"{article(what)} and {article(self.rows[j]['name'])}"
            elif u < (0.1 if T > 1 else 0.25):
                scale = scale * 0.6
                what = article("small " + what)
            elif u < 0.55 and T > 1:
                motion = list(MOTIONS)[rng.integers(len(MOTIONS))]
                dx, dy, scale, deg = MOTIONS[motion](p)
                scale = scale * (0.75 if motion in ("spinning", "swinging") else 0.6)
                what = f"{article(what)} {motion}"
            elif rng.random() < 0.8:
                what = article(what)
            place[:, b] = dx, dy, scale, deg
            if rng.random() < 0.1:
                what = ("a clip of " if T > 1 else "a picture of ") + what
            if rng.random() < 0.8:
                color = list(COLORS)[rng.integers(len(COLORS))]
                bg[b] = np.array(COLORS[color], np.float32) / 255
                what += f" on {article(color)} background"
            caps.append(what)
        x = torch.from_numpy(bg).to(self.dev).view(n, 1, 3, 1, 1)
        x = x.expand(n, T, 3, self.size, self.size)
        s = self.place(index.ravel(), *place.reshape(4, -1)).view(n, T, 4, self.size, self.size)
        x = s[:, :, :3] + (1 - s[:, :, 3:]) * x
        if pairs:
            q = place[:, pairs]
            s = self.place(twin[pairs].ravel(), -q[0].ravel(), *q[1:].reshape(3, -1))
            s = s.view(len(pairs), T, 4, self.size, self.size)
            x[pairs] = s[:, :, :3] + (1 - s[:, :, 3:]) * x[pairs]
        return (x * 2 - 1).clamp_(-1, 1).transpose(1, 2), caps
