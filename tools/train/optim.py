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


class Muon:
    """Steps of `lr` in root mean square for matrices as AdamW's are for the rest.

    matrices: parameters that map features to features (convolutions are flattened); rest: biases,
    gains, embeddings, first and last layers.
    """

    def __init__(self, matrices, rest, betas=(0.9, 0.99), decay=0.01, momentum=0.95):
        self.matrices, self.decay, self.momentum = matrices, decay, momentum
        self.rest = torch.optim.AdamW(rest, lr=0.0, betas=betas, weight_decay=0.0) if rest else None
        self.memory = [torch.zeros_like(w) for w in matrices]

    def zero_grad(self):
        for w in self.matrices:
            w.grad = None
        if self.rest:
            self.rest.zero_grad(set_to_none=True)

    @torch.no_grad()
    def step(self, lr):
        groups = {}
        for w, m in zip(self.matrices, self.memory):
            if w.grad is None:
                continue
            m.lerp_(w.grad, 1 - self.momentum)
            g = torch.lerp(w.grad, m, self.momentum).flatten(1)
            groups.setdefault(g.shape, []).append((w, g))
        for (rows, cols), some in groups.items():
            size = lr * 0.2 * max(rows, cols) ** 0.5
            for (w, _), u in zip(some, orthogonalize(torch.stack([g for _, g in some]))):
                w.mul_(1 - lr * self.decay).sub_(u.view_as(w), alpha=size)
        if self.rest:
            for g in self.rest.param_groups:
                g["lr"] = lr
            self.rest.step()

    def state_dict(self):
        return dict(memory=self.memory, rest=self.rest.state_dict() if self.rest else None)

    def load_state_dict(self, s):
        for m, v in zip(self.memory, s["memory"]):
            m.copy_(v)
        if self.rest:
            self.rest.load_state_dict(s["rest"])
