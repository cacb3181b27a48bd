"""A second opinion on an exported file: read it with numpy alone, in float64, and compare with PyTorch on the same prompts.

    check_gguf.py FILE CHECKPOINT

Reports the largest difference of a logit against PyTorch with the weights as stored in the file (must be rounding only),
and how often the stored and the unrounded weights choose the same next token.
"""

import argparse
import struct
from pathlib import Path

import numpy as np
import torch

import cells
import model as lfm2
import tokenizer as bpe
from batches import Encoder
from export_gguf import from_checkpoint

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


class Gguf:
    """Keys and dequantised tensors of a file."""

    def __init__(self, path: Path):
        self.raw, self.at = path.read_bytes(), 4
        assert self.raw[:4] == b"GGUF" and self.take("I") == 3
        count, keys = self.take("Q"), self.take("Q")
        self.keys = {self.text(): self.value(self.take("I")) for _ in range(keys)}
        infos = []
        for _ in range(count):
            name = self.text()
            shape = [self.take("Q") for _ in range(self.take("I"))]
            infos.append((name, shape[::-1], self.take("I"), self.take("Q")))
        start = -(-self.at // 32) * 32
        self.tensors = {name: self.tensor(shape, kind, start + offset) for name, shape, kind, offset in infos}

    def take(self, code: str):
        value = struct.unpack_from("<" + code, self.raw, self.at)[0]
        self.at += struct.calcsize("<" + code)
        return value

    def text(self) -> str:
        length = self.take("Q")
        self.at += length
        return self.raw[self.at - length : self.at].decode()

    def value(self, kind: int):
        if kind == 8:
            return self.text()
        if kind == 9:
            inner, count = self.take("I"), self.take("Q")
            return [self.value(inner) for _ in range(count)]
        return self.take(SCALARS[kind])

    def tensor(self, shape: list[int], kind: int, start: int) -> np.ndarray:
        count = int(np.prod(shape))
        if kind == 0:
            return np.frombuffer(self.raw, "<f4", count, start).astype(np.float64).reshape(shape)
        assert kind == 8
        blocks = np.frombuffer(self.raw, [("d", "<f2"), ("q", "i1", 32)], count // 32, start)
        return (blocks["d"].astype(np.float64)[:, None] * blocks["q"]).reshape(shape)


def logits(file: Gguf, ids: list[int]) -> np.ndarray:
    """The forward pass, written from the page and not from the training code."""
    key, w, length = (lambda name: file.keys["lfm2." + name]), file.tensors, len(ids)
    heads, eps = key("attention.head_count"), key("attention.layer_norm_rms_epsilon")
    head = key("embedding_length") // heads
    angle = np.outer(np.arange(length), key("rope.freq_base") ** (-2.0 * np.arange(head // 2) / head))[:, None]

    def norm(x, gain):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * gain

    def rope(x):
        a, b = np.split(x, 2, -1)
        return np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], -1)

    x = w["token_embd.weight"][ids]
    for n, kv in enumerate(key("attention.head_count_kv")):
        layer = {name.removeprefix(f"blk.{n}.").removesuffix(".weight"): t for name, t in w.items() if name.startswith(f"blk.{n}.")}
        h = norm(x, layer["attn_norm"])
        if kv == 0:
            b, c, z = np.split(h @ layer["shortconv.in_proj"].T, 3, -1)
            taps = layer["shortconv.conv"]
            p = np.concatenate([np.zeros((taps.shape[1] - 1, x.shape[1])), b * z])
            x = x + (c * sum(p[k : k + length] * taps[:, k] for k in range(taps.shape[1]))) @ layer["shortconv.out_proj"].T
        else:
            q = rope(norm((h @ layer["attn_q"].T).reshape(length, heads, head), layer["attn_q_norm"]))
            k = rope(norm((h @ layer["attn_k"].T).reshape(length, kv, head), layer["attn_k_norm"]))
            v = (h @ layer["attn_v"].T).reshape(length, kv, head)
            out = np.empty_like(q)
            for j in range(heads):
                g = j * kv // heads
                s = q[:, j] @ k[:, g].T / np.sqrt(head) + np.triu(np.full((length, length), -np.inf), 1)
                s = np.exp(s - s.max(-1, keepdims=True))
                out[:, j] = s / s.sum(-1, keepdims=True) @ v[:, g]
            x = x + out.reshape(length, -1) @ layer["attn_output"].T
        m = norm(x, layer["ffn_norm"])
        gate = m @ layer["ffn_gate"].T
        x = x + (gate / (1 + np.exp(-gate)) * (m @ layer["ffn_up"].T)) @ layer["ffn_down"].T
    return norm(x, w["token_embd_norm.weight"]) @ w["token_embd.weight"].T


def stored(config: lfm2.Config, file: Gguf) -> lfm2.Lfm2:
    """The PyTorch model with the rounded weights of the file; both lists are in the order of export_gguf.tensors()."""
    copy = lfm2.Lfm2(config)
    order = [copy.embedding, copy.norm] + [p for layer in copy.layers for p in layer.parameters()]
    with torch.no_grad():
        for p, array in zip(order, file.tensors.values(), strict=True):
            p.copy_(torch.from_numpy(array))
    return copy


def load(path: Path) -> lfm2.Lfm2:
    """A model from one of our own files."""
    file = Gguf(path)

    def key(name: str):
        return file.keys["lfm2." + name]

    kv = key("attention.head_count_kv")
    config = lfm2.Config(key("embedding_length"), key("feed_forward_length"), key("block_count"), tuple(n for n, heads in enumerate(kv) if heads),
                         key("attention.head_count"), max(kv), key("vocab_size"))
    return stored(config, file)


def check(path: Path, checkpoint: Path, tokenizer: str, prompts: int = 40) -> None:
    file = Gguf(path)
    model, _ = from_checkpoint(checkpoint)
    rounded, encoder = stored(model.config, file), Encoder(bpe.load(tokenizer))
    worst, same, total = 0.0, 0, 0
    for example in cells.examples(cells.CELLS[1], prompts):
        ids = encoder.encode([example])[0].ids
        ours = logits(file, ids)
        with torch.no_grad():
            theirs, plain = (m(torch.tensor([ids]))[0].numpy() for m in (rounded, model))
        worst = max(worst, float(np.abs(ours - theirs).max()))
        same, total = same + int((plain.argmax(-1) == theirs.argmax(-1)).sum()), total + len(ids)
    print(f"{path.name}: largest logit difference numpy - torch {worst:.1e}; rounding to Q8_0 keeps {100 * same / total:.2f} % of {total} next tokens")
    if worst > 1e-3:
        raise SystemExit("the file and the model disagree")


if __name__ == "__main__":
    options = argparse.ArgumentParser(description="Compare an exported file with its checkpoint.")
    options.add_argument("file", type=Path)
    options.add_argument("checkpoint", type=Path)
    options.add_argument("--tokenizer", default=str(Path(__file__).resolve().parent / "tokenizer.json"))
    chosen = options.parse_args()
    check(chosen.file, chosen.checkpoint, chosen.tokenizer)
