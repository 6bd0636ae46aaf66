#!/usr/bin/env python3
"""What a step of Wan should take on GPUs, on paper: counts of docs/measurements.md, "On paper".

For each part of an evaluation of the transformer (one guidance branch): the operations or bytes
that it has, divided by what the GPU does of them in a second. Nothing here was measured.
usage: python3 tools/gpu_bounds.py        prints the tables in Markdown"""

# name: bf16 FLOP/s of tensor cores with sums in f32, bytes/s of memory, GB of it; of these FLOP/s
# the share that mma.sync with 64 or 128 rows of queries can reach (the slowest unit alone), and the
# share expected; the share expected of cuBLASLt
GPUS = {
    "A100": (312e12, 2.04e12, 80, 1.00, 0.65, 0.80),
    "RTX 4090": (165e12, 1.01e12, 24, 1.00, 0.87, 0.85),
    "H100": (989e12, 3.35e12, 80, 0.63, 0.40, 0.70),
}
MEMORY_SHARE = 0.85  # of the bytes a second, expected
PCIE = 25e9          # bytes/s
# name: layers, tokens, width, width of the feed-forward
SHAPES = {
    "1.3B, 480x832x81": (30, 21 * 30 * 52, 1536, 8960),
    "14B, 720x1280x81": (40, 21 * 45 * 80, 5120, 13824),
}
TEXT, STEPS, BRANCHES, KEEP = 512, 50, 2, 0.2


def linear(n, c, ff):
    """q, k, v, o of the tokens, q and o of the text, up, down: multiply-adds count twice"""
    return 2 * n * (6 * c * c + 2 * c * ff)


def attention(n, c, share):
    """q k' and p v: 2 n n c each, of the blocks that are read"""
    return 4 * share * n * n * c


def text(n, c):
    return 4 * n * TEXT * c


def moved(n, c, ff):
    """Bytes that pass through memory besides what products and attention read: three norms (f32 to
    bf16), rms of q, k and the text's q, rope of q and k (bf16, in place), the check for NaN, and
    what products leave: q, k, v, the text's q and up as f32, read again and written as bf16; o and
    down as f32, read again and added to the stream, f32; the text's o straight into the stream"""
    norms, rms, rope, check = 3 * (4 + 2), 3 * (2 + 2), 2 * (2 + 2), 4
    epilogues = 4 * (8 + 2) + 2 * (8 + 8) + 8
    return n * c * (norms + rms + rope + check + epilogues) + n * ff * (8 + 2)


def weights(layers, c, ff):
    """bf16: q, k, v, o of the tokens and of the text, up, down"""
    return 2 * layers * (8 * c * c + 2 * c * ff)


def parts(gpu, shape, share, expected):
    """seconds of linear layers, self-attention, attention to text, what is moved"""
    flops, memory, _, most, attends, multiplies = GPUS[gpu]
    layers, n, c, ff = SHAPES[shape]
    a = flops * (attends if expected else most)
    m = flops * (multiplies if expected else 1)
    b = memory * (MEMORY_SHARE if expected else 1)
    return [layers * x for x in (linear(n, c, ff) / m, attention(n, c, share) / a,
                                 text(n, c) / a, moved(n, c, ff) / b)]


def evaluation(gpu, shape, share, expected):
    """seconds; where weights do not fit, they are copied beside it"""
    seconds = sum(parts(gpu, shape, share, expected))
    layers, _, c, ff = SHAPES[shape]
    bytes_ = weights(layers, c, ff)
    fits = bytes_ + 4e9 < GPUS[gpu][2] * 1e9
    return seconds if fits else max(seconds, bytes_ / PCIE)


def clip(gpu, shape, sparse):
    """adaspa of 50 steps: 9 dense, one with a search (1.05 of dense attention), one that searches
    again (half of dense attention more), the others sparse"""
    if not sparse:
        return BRANCHES * STEPS * evaluation(gpu, shape, 1, True)
    dense = 9 * evaluation(gpu, shape, 1, True) + evaluation(gpu, shape, 1.05, True)
    return BRANCHES * (dense + evaluation(gpu, shape, 0.5 + KEEP, True) +
                       39 * evaluation(gpu, shape, KEEP, True))


def time_text(s):
    return f"{s:.2f} s" if s < 10 else f"{s:.0f} s" if s < 120 else f"{s / 60:.1f} min"


def main():
    print("| shape, GPU | attention | linear, self-attention, text, moved (expected) | limited by |"
          " a step at best | expected | a clip of 50 steps, expected |")
    print("|---|---|---|---|---|---|---|")
    names = ("linear layers", "attention", "attention to text", "memory")
    for shape in SHAPES:
        for gpu in GPUS:
            for share, what in ((1, "dense"), (KEEP, "keep 0.2")):
                p = parts(gpu, shape, share, True)
                best = BRANCHES * evaluation(gpu, shape, share, False)
                expected = BRANCHES * evaluation(gpu, shape, share, True)
                limit = names[p.index(max(p))]
                if expected > BRANCHES * sum(p) * 1.001:
                    limit = "PCIe, which streams the weights"
                each = ", ".join(f"{x:.2f}" for x in p)
                print(f"| {shape}, {gpu} | {what} | {each} s | {limit} |"
                      f" {time_text(best)} | {time_text(expected)} |"
                      f" {time_text(clip(gpu, shape, share < 1))} |")


main()
