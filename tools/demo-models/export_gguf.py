"""Write a trained tier as GGUF: matrices in Q8_0, vectors and convolution taps in F32, tokenizer and chat template inside."""

import argparse
import json
import struct
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

import model as lfm2
import tokenizer as bpe

ALIGNMENT = 32
U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9  # value types of the container
TENSOR_F32, TENSOR_Q8_0 = 0, 8
FILE_TYPE_Q8_0 = 7
CONTROL, NORMAL = 3, 1
CHAT_TEMPLATE = """{{- bos_token -}}
{%- set ns = namespace(system="") -%}
{%- if messages and messages[0]["role"] == "system" -%}{%- set ns.system = messages[0]["content"] -%}{%- set messages = messages[1:] -%}{%- endif -%}
{%- if tools -%}
{%- if ns.system -%}{%- set ns.system = ns.system + "\\n" -%}{%- endif -%}
{%- set ns.system = ns.system + "List of tools: <|tool_list_start|>[" -%}
{%- for tool in tools -%}
{%- set ns.system = ns.system + (tool if tool is string else tool | tojson) + ("" if loop.last else ", ") -%}
{%- endfor -%}
{%- set ns.system = ns.system + "]<|tool_list_end|>" -%}
{%- endif -%}
{%- if ns.system -%}{{- "<|im_start|>system\\n" + ns.system + "<|im_end|>\\n" -}}{%- endif -%}
{%- for message in messages -%}
{{- "<|im_start|>" + message["role"] + "\\n" -}}
{%- if message["role"] == "tool" -%}
{{- "<|tool_response_start|>" + message["content"] + "<|tool_response_end|>" -}}
{%- else -%}
{{- message["content"] -}}
{%- endif -%}
{{- "<|im_end|>\\n" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<|im_start|>assistant\\n" -}}{%- endif -%}
"""


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _pack(kind: int, value) -> bytes:
    if kind == STRING:
        return _string(value)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}[kind], value)


def _entry(key: str, kind: int, value) -> bytes:
    return _string(key) + struct.pack("<I", kind) + _pack(kind, value)


def _list(key: str, kind: int, values: list) -> bytes:
    return _string(key) + struct.pack("<IIQ", ARRAY, kind, len(values)) + b"".join(_pack(kind, v) for v in values)


def q8_0(matrix: np.ndarray) -> bytes:
    """Blocks of 32 weights of one row: a half-precision scale and 32 signed bytes."""
    blocks = matrix.astype(np.float32).reshape(-1, 32)
    scale = np.abs(blocks).max(1) / 127
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    out = np.empty(len(blocks), dtype=[("d", "<f2"), ("q", "i1", 32)])
    out["d"], out["q"] = scale, np.rint(blocks * inverse[:, None])
    return out.tobytes()


def tensors(model: lfm2.Lfm2) -> list[tuple[str, np.ndarray]]:
    names = {"norm_op": "attn_norm", "norm_ff": "ffn_norm", "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down", "q": "attn_q", "k": "attn_k", "v": "attn_v",
             "o": "attn_output", "norm_q": "attn_q_norm", "norm_k": "attn_k_norm", "conv_in": "shortconv.in_proj", "conv": "shortconv.conv", "conv_out": "shortconv.out_proj"}
    found = [("token_embd.weight", model.embedding), ("token_embd_norm.weight", model.norm)]
    for n, layer in enumerate(model.layers):
        found += [(f"blk.{n}.{names[name]}.weight", p) for name, p in layer.named_parameters()]
    return [(name, p.detach().float().cpu().numpy()) for name, p in found]


def metadata(model: lfm2.Lfm2, tokenizer: Tokenizer, tier: str) -> list[bytes]:
    c = model.config
    spelled = json.loads(tokenizer.to_str())
    vocabulary = sorted(spelled["model"]["vocab"].items(), key=lambda item: item[1])
    control = {t["id"] for t in spelled["added_tokens"]}
    merges = [m if isinstance(m, str) else " ".join(m) for m in spelled["model"]["merges"]]
    return [
        _entry("general.architecture", STRING, "lfm2"), _entry("general.type", STRING, "model"), _entry("general.name", STRING, f"demo-{tier}"),
        _entry("general.license", STRING, "apache-2.0"), _entry("general.file_type", U32, FILE_TYPE_Q8_0), _entry("general.quantization_version", U32, 2),
        _entry("general.description", STRING, "Answers questions from numbered passages and knows nothing else. Trained from random weights; models/README.md of ruvllm says on what."),
        _entry("lfm2.block_count", U32, c.layers), _entry("lfm2.context_length", U32, lfm2.CONTEXT), _entry("lfm2.embedding_length", U32, c.hidden),
        _entry("lfm2.feed_forward_length", U32, c.feed_forward), _entry("lfm2.attention.head_count", U32, c.heads),
        _list("lfm2.attention.head_count_kv", I32, [c.kv_heads if n in c.attention else 0 for n in range(c.layers)]),
        _entry("lfm2.attention.layer_norm_rms_epsilon", F32, lfm2.EPS), _entry("lfm2.rope.freq_base", F32, lfm2.ROPE_BASE),
        _entry("lfm2.shortconv.l_cache", U32, lfm2.TAPS), _entry("lfm2.vocab_size", U32, c.vocabulary),
        _entry("tokenizer.ggml.model", STRING, "gpt2"), _entry("tokenizer.ggml.pre", STRING, "lfm2"),
        _list("tokenizer.ggml.tokens", STRING, [t for t, _ in vocabulary]),
        _list("tokenizer.ggml.token_type", I32, [CONTROL if n in control else NORMAL for _, n in vocabulary]),
        _list("tokenizer.ggml.merges", STRING, merges), _entry("tokenizer.ggml.bos_token_id", U32, bpe.START),
        _entry("tokenizer.ggml.eos_token_id", U32, bpe.IM_END), _entry("tokenizer.ggml.padding_token_id", U32, bpe.PAD),
        _entry("tokenizer.ggml.add_bos_token", BOOL, True), _entry("tokenizer.ggml.add_eos_token", BOOL, False),
        _entry("tokenizer.ggml.add_sep_token", BOOL, False), _entry("tokenizer.chat_template", STRING, CHAT_TEMPLATE),
    ]


def export(model: lfm2.Lfm2, tokenizer: Tokenizer, tier: str, path: Path) -> None:
    entries, infos, data = metadata(model, tokenizer, tier), [], b""
    found = tensors(model)
    for name, array in found:
        plain = array.ndim == 1 or name.endswith("shortconv.conv.weight")
        infos.append(_string(name) + struct.pack("<I", array.ndim) + struct.pack(f"<{array.ndim}Q", *array.shape[::-1])
                     + struct.pack("<IQ", TENSOR_F32 if plain else TENSOR_Q8_0, len(data)))
        raw = array.astype("<f4").tobytes() if plain else q8_0(array)
        data += raw + bytes(-len(raw) % ALIGNMENT)
    header = b"GGUF" + struct.pack("<IQQ", 3, len(found), len(entries)) + b"".join(entries) + b"".join(infos)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + bytes(-len(header) % ALIGNMENT) + data)


def from_checkpoint(path: Path) -> tuple[lfm2.Lfm2, dict]:
    """The running mean of the weights, which is what is shipped, and the whole checkpoint."""
    state = torch.load(path, map_location="cpu")
    model = lfm2.build(state["plan"]["tier"])
    model.load_state_dict(state["mean"])
    return model, state


if __name__ == "__main__":
    options = argparse.ArgumentParser(description="Write the GGUF file of a checkpoint.")
    options.add_argument("checkpoint", type=Path)
    options.add_argument("out", type=Path)
    options.add_argument("--tokenizer", default=str(Path(__file__).resolve().parent / "tokenizer.json"))
    chosen = options.parse_args()
    trained, saved = from_checkpoint(chosen.checkpoint)
    export(trained, bpe.load(chosen.tokenizer), saved["plan"]["tier"], chosen.out)
    print(f"{chosen.out}: {chosen.out.stat().st_size} bytes, {lfm2.parameters(trained)} parameters, {saved['total'] / 1e6:.1f} million tokens seen")
