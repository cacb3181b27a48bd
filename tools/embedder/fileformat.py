"""Writes and reads an embedder file (docs/formats/embedder.md)."""
import struct

import numpy as np

MAGIC = b"RVEMB\r\n\x1a"
HEADER = 128


def xxh64(data, seed=0):
    """XXH64 from its specification; vectorised over the four lanes it is fast enough for a few megabytes."""
    p1, p2, p3, p4, p5 = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63,
                          0x27D4EB2F165667C5)
    mask = (1 << 64) - 1

    def rotate(x, n):
        return ((x << n) | (x >> (64 - n))) & mask

    def mix(lane, word):
        return rotate((lane + word * p2) & mask, 31) * p1 & mask

    n, at = len(data), 0
    if n >= 32:
        lanes = [(seed + p1 + p2) & mask, (seed + p2) & mask, seed, (seed - p1) & mask]
        for words in struct.iter_unpack("<4Q", data[: n // 32 * 32]):
            lanes = [mix(lane, word) for lane, word in zip(lanes, words)]
        at = n // 32 * 32
        h = sum(rotate(lane, turn) for lane, turn in zip(lanes, (1, 7, 12, 18))) & mask
        for lane in lanes:
            h = ((h ^ mix(0, lane)) * p1 + p4) & mask
    else:
        h = (seed + p5) & mask
    h = (h + n) & mask
    while at + 8 <= n:
        h = (rotate(h ^ mix(0, struct.unpack_from("<Q", data, at)[0]), 27) * p1 + p4) & mask
        at += 8
    if at + 4 <= n:
        h = (rotate(h ^ struct.unpack_from("<I", data, at)[0] * p1 & mask, 23) * p2 + p3) & mask
        at += 4
    for byte in data[at:]:
        h = rotate(h ^ byte * p5 & mask, 11) * p1 & mask
    h = (h ^ h >> 33) * p2 & mask
    h = (h ^ h >> 29) * p3 & mask
    return h ^ h >> 32


def quantise(table):
    """[n][dim] floats to int8 rows and one scale a row."""
    largest = np.abs(table).max(axis=1)
    scales = (largest / 127).astype("<f4")
    rows = np.round(table / np.where(scales > 0, scales, 1)[:, None])
    return np.clip(rows, -127, 127).astype(np.int8), scales


def pack(name, vocabulary, rows, scales, unknown, licence):
    """The bytes of the file."""
    words = [token.encode() for token in vocabulary]
    starts = np.cumsum([0] + [len(w) for w in words]).astype("<u4")

    def aligned(data):
        return data + bytes(-len(data) % 64)

    body = aligned(bytes(HEADER) + starts.tobytes() + b"".join(words))
    body = aligned(body + scales.astype("<f4").tobytes())
    body += rows.astype(np.int8).tobytes()
    header = MAGIC + struct.pack("<IIIIQQQII", 1, HEADER, rows.shape[1], len(words), int(starts[-1]), len(body),
                                 len(licence), unknown, 0) + name.encode().ljust(48, b"\0")
    data = header.ljust(HEADER, b"\0") + body[HEADER:] + licence
    return data + struct.pack("<Q", xxh64(data))


def unpack(data):
    """name, vocabulary, rows, scales, unknown, licence of a file that is known to be whole."""
    assert data[:8] == MAGIC
    (version, header, dim, n, word_bytes, licence_at, licence_bytes, unknown, _) = struct.unpack_from("<IIIIQQQII", data, 8)
    assert version == 1 and header == HEADER
    name = data[56:104].rstrip(b"\0").decode()
    starts = np.frombuffer(data, "<u4", n + 1, HEADER)
    words_at = HEADER + 4 * (n + 1)
    vocabulary = [data[words_at + int(a) : words_at + int(b)].decode() for a, b in zip(starts, starts[1:])]
    scales_at = -(-(words_at + word_bytes) // 64) * 64
    rows_at = -(-(scales_at + 4 * n) // 64) * 64
    scales = np.frombuffer(data, "<f4", n, scales_at)
    rows = np.frombuffer(data, np.int8, n * dim, rows_at).reshape(n, dim)
    return name, vocabulary, rows, scales, unknown, data[licence_at : licence_at + licence_bytes]
