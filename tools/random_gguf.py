"""A Wan transformer of a published shape as a GGUF with random weights, for measuring what decoding
costs. Needs nothing but Python.

  python3 tools/random_gguf.py OUT.gguf [--shape 1.3b|14b|5b] [--type q4_k|q6_k|q8_0]

Matrices of the blocks are of that type, all others F16, vectors F32, as converters have it; names
are diffusers'. Weights repeat one run of random blocks of the right scale. 14b in q4_k: 8 GB. It
goes with the other parts of a model: --model DIR --transformer OUT.gguf
"""

import argparse
import os
import random
import struct

from random_model import DIT, transformer

F32, F16 = (0, 1, 4), (1, 1, 2)
TYPES = {"q8_0": (8, 32, 34), "q4_k": (12, 256, 144), "q6_k": (14, 256, 210)}
RUN = 1 << 16  # numbers


def half(x):
    return struct.pack("<e", x)


def run_of(kind, scale, base=0.0):
    """RUN numbers of deviation `scale` about `base` (blocks: about 0)."""
    rng = random.Random(1)
    number, n, _ = kind
    if n == 1:
        values = [base + scale * rng.uniform(-1.7, 1.7) for _ in range(RUN)]
        return struct.pack("<%d%s" % (RUN, "f" if kind == F32 else "e"), *values)
    blocks = []
    for _ in range(RUN // n):
        if number == 8:  # d q, q of deviation 73
            blocks.append(half(scale / 73) + rng.randbytes(32))
        elif number == 12:  # 32 d x - 32 m, x of 0 to 15; 12 bytes hold eight times 32 and 32
            d = scale / (32 * 4.6)
            blocks.append(half(d) + half(7.5 * d) + bytes([160] * 8 + [0] * 4) + rng.randbytes(128))
        else:  # d c (x - 32), c 32, x of deviation 18.5
            blocks.append(rng.randbytes(192) + bytes([32] * 16) + half(scale / (32 * 18.5)))
    return b"".join(blocks)


def choose(name, shape, kind):
    """The type, deviation and mean of a tensor."""
    fan = 1
    for d in shape[1:]:
        fan *= d
    if name.endswith("scale_shift_table"):
        return F32, 0.3, 0.0
    if len(shape) == 1:
        return F32, 0.1, 0.0 if name.endswith("bias") else 1.0
    whole = name.startswith("blocks.") and shape[-1] % kind[1] == 0
    return kind if whole else F16, round(fan**-0.5, 6), 0.0


def text(s):
    return struct.pack("<Q", len(s)) + s.encode()


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("out")
    p.add_argument("--shape", default="14b", choices=[s for s in DIT if s != "a14b"])
    p.add_argument("--type", default="q4_k", choices=sorted(TYPES))
    a = p.parse_args()
    kind, at, header, parts, runs = TYPES[a.type], 0, b"", [], {}
    tensors = transformer(*DIT[a.shape])[0]
    for name, shape in tensors.items():
        key = choose(name, shape, kind)
        number, n, size = key[0]
        count = 1
        for d in shape:
            count *= d
        stored = count // n * size
        header += text(name) + struct.pack("<I", len(shape))
        header += struct.pack("<%dQ" % len(shape), *reversed(shape))
        header += struct.pack("<IQ", number, at)
        parts.append((key, stored))
        at += -(-stored // 32) * 32
    keys = text("general.architecture") + struct.pack("<I", 8) + text("wan")
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), 1) + keys + header
    os.makedirs(os.path.dirname(os.path.abspath(a.out)), exist_ok=True)
    with open(a.out, "wb") as f:
        f.write(head + bytes(-len(head) % 32))
        for key, left in parts:
            block = runs.setdefault(key, run_of(*key))
            pad = -left % 32
            while left > 0:
                f.write(block[:left])
                left -= min(left, len(block))
            f.write(bytes(pad))


if __name__ == "__main__":
    main()
