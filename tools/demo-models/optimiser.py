"""Muon for the matrices, AdamW for embedding, taps and gains."""

import torch
from torch import Tensor, nn


def orthogonalise(g: Tensor) -> Tensor:
    """Five Newton-Schulz steps: the nearest thing to an orthogonal matrix, for a stack of equal shapes."""
    wide = g.size(-2) <= g.size(-1)
    x = g if wide else g.transpose(-1, -2)
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.transpose(-1, -2)
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x if wide else x.transpose(-1, -2)


class Optimiser:
    DECAY = 0.01

    def __init__(self, model: nn.Module, muon_rate: float, adam_rate: float, compute: torch.dtype = torch.float32):
        self.compute, self.muon_rate, self.adam_rate, self.steps = compute, muon_rate, adam_rate, 0
        self.groups: dict[tuple[int, ...], list[Tensor]] = {}
        self.rest: list[Tensor] = []
        for name, p in model.named_parameters():
            if p.ndim == 2 and not name.endswith((".conv", "embedding")):
                self.groups.setdefault(tuple(p.shape), []).append(p)
            else:
                self.rest.append(p)
        self.momentum = {shape: torch.zeros(len(ps), *shape, device=ps[0].device) for shape, ps in self.groups.items()}
        self.first = [torch.zeros_like(p) for p in self.rest]
        self.second = [torch.zeros_like(p) for p in self.rest]

    @torch.no_grad()
    def step(self, scale: float) -> None:
        self.steps += 1
        keep = min(0.95, 0.85 + self.steps * 0.001)
        rate = self.muon_rate * scale
        for shape, ps in self.groups.items():
            g, m = torch.stack([p.grad for p in ps]), self.momentum[shape]
            m.mul_(keep).add_(g, alpha=1 - keep)
            for p, u in zip(ps, orthogonalise(g.lerp(m, keep).to(self.compute)) * max(1.0, shape[0] / shape[1]) ** 0.5):
                p.mul_(1 - rate * self.DECAY).add_(u, alpha=-rate)
        norm = torch.sqrt(sum(p.grad.square().sum() for p in self.rest)).item()
        clip = min(1.0, 1.0 / (norm + 1e-6))
        for p, m, v in zip(self.rest, self.first, self.second):
            g = p.grad * clip
            m.lerp_(g, 0.1)
            v.mul_(0.98).addcmul_(g, g, value=0.02)
            rate = self.adam_rate * scale * (1 if p.ndim == 2 else 2)
            if p.ndim == 2:
                p.mul_(1 - rate * 0.02)
            p.addcdiv_(m / (1 - 0.9**self.steps), (v / (1 - 0.98**self.steps)).sqrt_().add_(1e-9), value=-rate)

    def state(self) -> dict:
        return dict(steps=self.steps, momentum=self.momentum, first=self.first, second=self.second)

    def load(self, state: dict) -> None:
        self.steps, self.momentum = state["steps"], state["momentum"]
        self.first, self.second = state["first"], state["second"]
