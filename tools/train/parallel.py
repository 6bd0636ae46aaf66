"""Data parallel training in several processes of one thread each, for CPUs.

On cores that others use too, two processes of one thread are several times faster than two
threads, which wait for each other after every operation.
"""

import os
import signal
import sys
import tempfile

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def rank():
    return dist.get_rank() if dist.is_initialized() else 0


def say(*text):
    if rank() == 0:
        print(*text, flush=True)


def average(params, *numbers):
    """Gradients of params and the numbers become their means over processes; the numbers."""
    if not dist.is_initialized():
        return numbers
    grads = [w.grad for w in params if w.grad is not None]
    flat = torch.cat([g.flatten() for g in grads] + [torch.tensor(numbers)])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for g, v in zip(grads, flat[: -len(numbers)].split([g.numel() for g in grads])):
        g.copy_(v.view_as(g))
    return flat[-len(numbers) :].tolist()


def _one(r, n, path, f, args):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method="file://" + path, rank=r, world_size=n)
    f(*args)
    dist.destroy_process_group()


def run(n, f, *args):
    """f(*args) in n processes; in this one when n is 1. In a process that torchrun started (or
    whoever sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT), it is one of theirs."""
    if "RANK" in os.environ:
        torch.set_num_threads(1)
        dist.init_process_group("gloo")
        return f(*args)
    if n == 1:
        return f(*args)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and the processes with this one
    with tempfile.TemporaryDirectory() as d:
        mp.spawn(_one, (n, os.path.join(d, "rendezvous"), f, args), nprocs=n, daemon=True)
