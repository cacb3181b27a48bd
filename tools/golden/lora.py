#!/usr/bin/env python3
"""Writes the golden adapter of tests/golden/model_lora.c: random factors for every matrix of a small model, by the layout that
llama.cpp documents (gguf-py, convert_lora_to_gguf), with nothing but the standard library.

    lora.py MODEL.gguf OUT.gguf
    lora_logits MODEL.gguf OUT.gguf OUT.f32 1 83 362 427 309 380 916 658     # llama.cpp's own logits, in Debian sid
"""
import random
import struct
import sys

RANK, ALPHA, WIDTH = 2, 6.0, 0.1
MATRICES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down", "shortconv.in_proj",
            "shortconv.out_proj")


def tensors_of(path):
    """Names and sizes of the tensors of a GGUF file."""
    data, at = open(path, "rb").read(), 8

    def take(form):
        nonlocal at
        value = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize("<" + form)
        return value[0]

    def text():
        nonlocal at
        n = take("Q")
        at += n
        return data[at - n:at].decode()

    def value(kind):
        if kind == 8:
            text()
        elif kind == 9:
            element, count = take("I"), take("Q")
            for _ in range(count):
                value(element)
        else:
            take({0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}[kind])

    n_tensors, n_keys = take("Q"), take("Q")
    for _ in range(n_keys):
        text()
        value(take("I"))
    for _ in range(n_tensors):
        name = text()
        dims = [take("Q") for _ in range(take("I"))]
        take("I"), take("Q")
        yield name, dims


def string(s):
    return struct.pack("<Q", len(s)) + s.encode()


def main():
    rng = random.Random(3)
    keys = (("general.architecture", "lfm2"), ("general.type", "adapter"), ("general.name", "golden"),
            ("adapter.type", "lora"))
    head = b"".join(string(k) + struct.pack("<I", 8) + string(v) for k, v in keys)
    head += string("adapter.lora.alpha") + struct.pack("<If", 6, ALPHA)
    infos, data, n = b"", b"", 0
    for name, dims in tensors_of(sys.argv[1]):
        if not any(name.endswith(m + ".weight") for m in MATRICES):
            continue
        for half, d in ((".lora_a", (dims[0], RANK)), (".lora_b", (RANK, dims[1]))):
            infos += string(name + half) + struct.pack("<IQQIQ", 2, d[0], d[1], 0, len(data))
            floats = [rng.gauss(0, WIDTH) for _ in range(d[0] * d[1])]
            data += struct.pack("<%df" % len(floats), *floats)
            data += bytes(-len(data) % 32)
            n += 1
    out = b"GGUF" + struct.pack("<IQQ", 3, n, len(keys) + 1) + head + infos
    open(sys.argv[2], "wb").write(out + bytes(-len(out) % 32) + data)


main()
