"""The optimizer: Muon on matrices, AdamW on everything else, one learning rate for both."""

import torch


def orthogonalize(g, steps=5):
    """Newton-Schulz iteration toward the nearest matrix with equal singular values, batched."""
    x = g.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    return (x.mT if tall else x).to(g.dtype)


def clip(params, most=1.0):
    """Gradients to a norm of at most `most`. Whether it is finite, as a tensor of the device:
    nothing waits for it."""
    return torch.isfinite(torch.nn.utils.clip_grad_norm_(params, most))


def zeros_unless(finite, grads):
    """The gradients, or zeros; None stays."""
    there = [g for g in grads if g is not None]
    whole = torch.cat([g.flatten() for g in there]).masked_fill_(~finite, 0.0)
    parts = iter(whole.split([g.numel() for g in there]))
    return [None if g is None else next(parts).view(g.shape) for g in grads]


class Muon:
    """Steps of `lr` in root mean square for matrices as AdamW's are for the rest.

    matrices: parameters that map features to features (convolutions are flattened); rest: biases,
    gains, embeddings, first and last layers. On a GPU nothing in a step waits for it, and the rate
    is read there: a step can be recorded as a CUDA graph.
    """

    def __init__(self, matrices, rest, betas=(0.9, 0.99), decay=0.01, momentum=0.95):
        self.matrices, self.decay, self.momentum = matrices, decay, momentum
        self.rest = None
        if rest:
            self.rate = torch.zeros((), device=rest[0].device)
            self.rest = torch.optim.AdamW(
                rest, lr=self.rate, betas=betas, weight_decay=0.0, capturable=rest[0].is_cuda
            )
        self.memory = [torch.zeros_like(w) for w in matrices]

    def zero_grad(self):
        for w in self.matrices:
            w.grad = None
        if self.rest:
            self.rest.zero_grad(set_to_none=True)

    @torch.no_grad()
    def step(self, lr, finite):
        """lr: a number, or a tensor of it where the step is recorded. finite: what `clip` returned;
        gradients that are not count as zeros."""
        used = [i for i, w in enumerate(self.matrices) if w.grad is not None]
        ws, ms = [self.matrices[i] for i in used], [self.memory[i] for i in used]
        gs = zeros_unless(finite, [w.grad for w in ws])
        torch._foreach_lerp_(ms, gs, 1 - self.momentum)
        gs = torch._foreach_lerp(gs, ms, self.momentum)
        groups = {}
        for w, g in zip(ws, gs):
            groups.setdefault(g.flatten(1).shape, []).append((w, g.flatten(1)))
        for (rows, cols), some in groups.items():
            us = orthogonalize(torch.stack([g for _, g in some])).unbind()
            some = [w for w, _ in some]
            torch._foreach_mul_(some, 1 - lr * self.decay)
            us = torch._foreach_mul([u.view_as(w) for u, w in zip(us, some)], lr)
            torch._foreach_add_(some, us, alpha=-0.2 * max(rows, cols) ** 0.5)
        if self.rest:
            self.rate.fill_(lr)
            for g in self.rest.param_groups:
                for w, to in zip(g["params"], zeros_unless(finite, [w.grad for w in g["params"]])):
                    w.grad = to
            self.rest.step()

    def state_dict(self):
        return dict(memory=self.memory, rest=self.rest.state_dict() if self.rest else None)

    def load_state_dict(self, s):
        for m, v in zip(self.memory, s["memory"]):
            m.copy_(v)
        if self.rest:
            self.rest.load_state_dict(s["rest"])
            for g in self.rest.param_groups:
                g["lr"] = self.rate
