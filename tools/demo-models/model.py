"""LFM2 in plain PyTorch: gated short convolutions and grouped-query attention, tied embeddings, four small sizes."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-5
ROPE_BASE = 1e6
CONTEXT = 2048
TAPS = 3  # L_cache: the convolution sees this token and the two before it


@dataclass(frozen=True)
class Config:
    hidden: int
    feed_forward: int
    layers: int
    attention: tuple[int, ...]
    heads: int
    kv_heads: int
    vocabulary: int = 4096

    @property
    def head(self) -> int:
        return self.hidden // self.heads


TIERS = {
    "xs": Config(96, 256, 5, (1, 3, 4), 3, 3),
    "s": Config(128, 256, 8, (1, 3, 5, 7), 4, 2),
    "m": Config(192, 512, 8, (1, 3, 5, 7), 6, 3),
    "l": Config(256, 768, 10, (1, 3, 5, 7, 9), 8, 4),
}
TIER_NAMES = {"xs": "350m", "s": "700m", "m": "1.2b", "l": "2.6b"}  # what the configuration calls them


class _Normalise(torch.autograd.Function):
    """x / rms(x) without a gain; keeps only the result and one factor per row for the way back."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        inverse = torch.rsqrt(torch.linalg.vector_norm(x, dim=-1, keepdim=True).square() / x.shape[-1] + EPS)
        y = x * inverse
        ctx.save_for_backward(y, inverse)
        return y

    @staticmethod
    def backward(ctx, dy: Tensor) -> Tensor:
        y, inverse = ctx.saved_tensors
        along = (dy * y).sum(-1, keepdim=True) / y.shape[-1]
        return torch.addcmul(dy, y, along, value=-1).mul_(inverse)


def normalise(x: Tensor) -> Tensor:
    return _Normalise.apply(x)


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention as two products and a softmax: on a CPU in bfloat16 this takes half the time of `scaled_dot_product_attention`."""
    batch, heads, length, head = q.shape
    later = torch.full((length, length), -torch.inf, dtype=q.dtype).triu(1).expand(batch * heads, -1, -1)
    q, k, v = (t.reshape(batch * heads, length, head) for t in (q, k, v))
    scores = torch.baddbmm(later, q, k.transpose(1, 2), alpha=head**-0.5)
    return torch.bmm(scores.softmax(-1), v).view(batch, heads, length, head)


def _matrix(rows: int, columns: int, scale: float = 1.0) -> nn.Parameter:
    return nn.Parameter(torch.randn(rows, columns) * (scale / math.sqrt(columns)))


class Layer(nn.Module):
    """One operator (attention or convolution) and one feed-forward part, both on normalised input and added back."""

    def __init__(self, config: Config, index: int):
        super().__init__()
        self.config, self.attends = config, index in config.attention
        self.watched, self.seen = False, None  # keep queries and keys for the auxiliary losses
        hidden, head = config.hidden, config.head
        out = 1 / math.sqrt(2 * config.layers)  # keeps the sum of all layers at the size of one
        self.norm_op = nn.Parameter(torch.ones(hidden))
        self.norm_ff = nn.Parameter(torch.ones(hidden))
        if self.attends:
            self.q, self.k = _matrix(config.heads * head, hidden), _matrix(config.kv_heads * head, hidden)
            self.v, self.o = _matrix(config.kv_heads * head, hidden), _matrix(hidden, config.heads * head, out)
            # 1.5: with 1.0 attention cannot become sharp for a long time
            self.norm_q, self.norm_k = nn.Parameter(torch.full((head,), 1.5)), nn.Parameter(torch.full((head,), 1.5))
        else:
            self.conv_in, self.conv_out = _matrix(3 * hidden, hidden), _matrix(hidden, hidden, out)
            self.conv = nn.Parameter(torch.randn(hidden, TAPS) * 0.5)
        self.gate, self.up = _matrix(config.feed_forward, hidden), _matrix(config.feed_forward, hidden)
        self.down = _matrix(hidden, config.feed_forward, out)

    # The gain of each norm is folded into the matrix that follows: the same product, far less memory traffic.

    def _attention(self, h: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        c = self.config
        batch, length, _ = h.shape
        both = c.heads + c.kv_heads
        u = F.linear(h, (torch.cat((self.q, self.k, self.v)) * self.norm_op).to(h.dtype)).view(batch, length, both + c.kv_heads, c.head)
        u, v = u.split((both, c.kv_heads), 2)
        gain = torch.cat((self.norm_q.expand(c.heads, -1), self.norm_k.expand(c.kv_heads, -1))).to(h.dtype)
        a, b = (normalise(u) * gain).chunk(2, -1)
        q, k = torch.cat((a * cos - b * sin, b * cos + a * sin), -1).transpose(1, 2).split((c.heads, c.kv_heads), 1)
        v = v.transpose(1, 2)
        if c.heads != c.kv_heads:
            k, v = (t.repeat_interleave(c.heads // c.kv_heads, 1) for t in (k, v))
        if self.watched:
            self.seen = q, k
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True) if h.is_cuda else _attend(q, k, v)
        return F.linear(y.transpose(1, 2).reshape(batch, length, -1), self.o.to(h.dtype))

    def _convolution(self, h: Tensor) -> Tensor:
        b, gate, z = F.linear(h, (self.conv_in * self.norm_op).to(h.dtype)).chunk(3, -1)
        p = b * z
        taps, length = self.conv.to(h.dtype), p.shape[1]
        before = F.pad(p, (0, 0, TAPS - 1, 0))
        y = taps[:, TAPS - 1] * p
        for k in range(TAPS - 1):
            y = torch.addcmul(y, taps[:, k], before[:, k : k + length])
        return F.linear(gate * y, self.conv_out.to(h.dtype))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        h = normalise(x)
        x = x + (self._attention(h, cos, sin) if self.attends else self._convolution(h))
        n = normalise(x)
        gate, up = F.linear(n, (torch.cat((self.gate, self.up)) * self.norm_ff).to(x.dtype)).chunk(2, -1)
        return x + F.linear(F.silu(gate) * up, self.down.to(x.dtype))


class Lfm2(nn.Module):
    def __init__(self, config: Config, compute: torch.dtype = torch.float32):
        super().__init__()
        self.config, self.compute = config, compute
        self.embedding = nn.Parameter(torch.randn(config.vocabulary, config.hidden) * 0.08)
        self.layers = nn.ModuleList(Layer(config, n) for n in range(config.layers))
        self.norm = nn.Parameter(torch.ones(config.hidden))
        frequency = ROPE_BASE ** (-torch.arange(config.head // 2).float() * 2 / config.head)
        angle = torch.outer(torch.arange(CONTEXT).float(), frequency)[None, :, None, :]
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def hidden_states(self, ids: Tensor, taps: tuple[int, ...] = ()) -> tuple[Tensor, list[Tensor]]:
        """The last normalised states, and the residuals after the layers `taps` for the auxiliary heads."""
        x, tapped = F.embedding(ids, self.embedding).to(self.compute), []
        cos, sin = (t[:, : ids.shape[1]].to(self.compute) for t in (self.cos, self.sin))
        for n, layer in enumerate(self.layers):
            x = layer(x, cos, sin)
            if n in taps:
                tapped.append(x)
        return normalise(x) * self.norm.to(x.dtype), tapped

    def head(self, states: Tensor) -> Tensor:
        return F.linear(states, self.embedding.to(states.dtype)).float()

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.hidden_states(ids)[0])


def compute_type(device: str) -> torch.dtype:
    """bfloat16 where the machine multiplies it faster than float32: accelerators, CPUs with AMX, and those of AMD with AVX-512 for it (one of Intel without
    AMX takes 1.2 to 1.7 times as long as in float32)."""
    cpu = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    fast = re.search(r"\bamx_bf16\b", cpu) or ("AuthenticAMD" in cpu and re.search(r"\bavx512_bf16\b", cpu))
    return torch.bfloat16 if device != "cpu" or fast else torch.float32


def build(tier: str, compute: torch.dtype = torch.float32) -> Lfm2:
    return Lfm2(TIERS[tier], compute)


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
