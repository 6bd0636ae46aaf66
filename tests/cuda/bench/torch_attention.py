"""Seconds of PyTorch's scaled_dot_product_attention for the sizes of bench_attention.c: lines
"D N seconds", medians of five. usage: python3 torch_attention.py [--tiny]"""
import statistics
import sys

import torch
import torch.nn.functional as F

TINY = "--tiny" in sys.argv
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZES = [150] if TINY else [8192, 32760, 75600, 118800]
if DEVICE == "cpu" and not TINY:
    sys.exit("torch has no GPU here")


def seconds(tokens, heads, width):
    # heads beside each other in a token's row, as in bench_attention.c
    q, k, v = (torch.randn(1, tokens, heads, width, device=DEVICE, dtype=torch.bfloat16)
               .transpose(1, 2) for _ in range(3))
    F.scaled_dot_product_attention(q, k, v)
    if DEVICE == "cpu":
        return 0.0
    times = []
    for _ in range(5):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        F.scaled_dot_product_attention(q, k, v)
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) / 1e3)
    return statistics.median(times)


for D in (64, 128):
    for N in SIZES:
        print(D, N, f"{seconds(N, 1 if TINY else 1536 // D, D):.6f}", flush=True)
