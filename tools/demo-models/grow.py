"""Begin a larger tier with all that a smaller one knows: the grown model computes the same function and has room for more.

    grow.py WORK/s.pt m WORK/m-begin.pt      then: train.py --tier m --init WORK/m-begin.pt --from 0.45 ...

Both need the same head size, the same number of query heads on each key head, and attention at the same layers as far as
the smaller one goes. What the old part reads of the new part is random, what the new part writes is zero, so nothing changes at first;
but for two new heads, which begin as the way from a first passage to a second one (`hand_on`).
"""

import argparse
import math
from pathlib import Path

import torch
from torch import Tensor

import model as lfm2


def _put(new: Tensor, old: Tensor, parts: int = 1) -> None:
    """Copy `old` into the upper left corner of `new`, for each of `parts` equal groups of rows."""
    for group, source in zip(new.chunk(parts), old.chunk(parts)):
        group[tuple(slice(0, n) for n in source.shape)] = source


@torch.no_grad()
def grow(small: lfm2.Lfm2, tier: str) -> lfm2.Lfm2:
    large = lfm2.build(tier)
    a, b = small.config, large.config
    together = a.head == b.head and a.heads * b.kv_heads == b.heads * a.kv_heads and b.attention[: len(a.attention)] == a.attention
    if not together or b.layers < a.layers or any(n < a.layers for n in b.attention[len(a.attention) :]):
        raise SystemExit(f"{tier} cannot be grown from this one: other heads or other layers")
    gain = math.sqrt(a.hidden / b.hidden)  # the mean square is taken over more numbers, the new ones of which are zero
    large.embedding.zero_()
    _put(large.embedding, small.embedding)
    _put(large.norm, small.norm * gain)
    for n, layer in enumerate(large.layers):
        written = [layer.down, layer.o if layer.attends else layer.conv_out]
        for matrix in written:
            matrix.zero_()
        if n >= a.layers:
            continue
        old = small.layers[n]
        for name, parameter in layer.named_parameters():
            source = getattr(old, name)
            _put(parameter, source * gain if name in ("norm_op", "norm_ff") else source, 3 if name == "conv_in" else 1)
    return large


@torch.no_grad()
def hand_on(large: lfm2.Lfm2, bridge: int) -> None:
    """The last head of the second attention layer looks where its head `bridge` does, at the name that leads to the second passage, and writes a code of
    the token there to the end of the residual, which the smaller model does not have; the last head of the third looks for tokens of the same
    code, and tells what that layer's second head tells, which passage it is. Trained from random weights alone, no head learned to compare names
    two steps apart in ten million tokens."""
    c = large.config
    size, group = c.head, c.heads // c.kv_heads
    to, old = slice((c.kv_heads - 1) * size, c.kv_heads * size), slice(bridge // group * size, (bridge // group + 1) * size)
    last = slice((c.heads - 1) * size, c.heads * size)
    # the code: principal directions of the embedding but the first two, one for each half of a rotation that is slow (400 tokens and more)
    slow = [n for n in range(size // 2) if lfm2.ROPE_BASE ** (2 * n / size) > 64]
    rows = torch.tensor(slow + [n + size // 2 for n in slow])
    _, spread, directions = torch.linalg.svd(large.embedding - large.embedding.mean(0), full_matrices=False)
    code = torch.zeros(size, c.hidden)
    code[rows] = directions[2 : 2 + len(rows)] / spread[2 : 2 + len(rows), None]
    end = c.hidden - 2 * size + rows  # where it is written

    def reading(layer: lfm2.Layer) -> Tensor:
        seen = code / layer.norm_op.clamp(min=0.05)
        return seen / seen.norm(dim=1, keepdim=True).clamp(min=1e-6)

    first, second = (large.layers[n] for n in c.attention[1:3])
    first.q[last], first.k[to], first.v[to] = first.q[bridge * size : (bridge + 1) * size].clone(), first.k[old].clone(), reading(first)
    first.o[:, last.start - size : last.stop] = 0
    first.o[end, last.start + rows] = 1
    second.q[last], second.k[to], second.v[to] = 0, reading(second), second.v[:size].clone()
    second.q[last.start + rows, end] = 1 / second.norm_op[end].clamp(min=0.05)
    second.o[:, last] = 0.5 * second.o[:, size : 2 * size]


def grow_checkpoint(small: Path, tier: str, out: Path) -> None:
    """A checkpoint of `train.py`, grown: weights and their running mean, without an optimiser."""
    state = torch.load(small)
    for name in ("model", "mean"):
        torch.manual_seed(1)
        old = lfm2.build(state["plan"]["tier"])
        old.load_state_dict(state[name])
        large = grow(old, tier)
        hand_on(large, old.config.heads - 1)
        state[name] = large.state_dict()
    hidden = lfm2.TIERS[tier].hidden
    heads = {name: torch.nn.functional.pad(p, (0, hidden - p.shape[1])) for name, p in state["heads"].items()}
    plan = state["plan"] | dict(tier=tier)
    torch.save(dict(model=state["model"], mean=state["mean"], heads=heads, plan=plan, total=state["total"], found=state["found"]), out)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("small", type=Path)
    options.add_argument("tier", choices=lfm2.TIERS)
    options.add_argument("out", type=Path)
    chosen = options.parse_args()
    grow_checkpoint(chosen.small, chosen.tier, chosen.out)


if __name__ == "__main__":
    main()
