"""Fine-tunes the distilled table on the training questions of the retrieval sets: a question comes to lie near the documents that answer it.

    OMP_NUM_THREADS=1 python3 tools/embedder/tune.py --data ../shared/data --table models/embedder.rvemb --out tuned.rvemb

Each step shows 96 training questions of each set (scifact `train`, cosqa `dev`; no question of a `test` part is read) and the documents that
answer them among 256 others of the set. So that all other texts stay where they are, the neighbours among 256 texts of `texts.py` must
be those of the table begun with, and what is written lies half-way between that table and the tuned one. `--folds 4` measures instead: recall@10 on the quarter of the training questions left out, before and after.
"""
import argparse
import json
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

import fileformat
import texts as sources
from distil import summed

SETS = ("scifact", "cosqa")
STEPS, RATE, TEMPERATURE, QUESTIONS, OTHERS, TEXTS, LONGEST = 60, 0.02, 0.05, 96, 256, 256, 64
SHARE = 0.5  # of the tuned table in what is written: the whole of it loses more on texts unlike the sets than it adds on these


def tokenizer(vocabulary):
    made = Tokenizer(models.WordPiece({token: i for i, token in enumerate(vocabulary)}, unk_token="[UNK]", max_input_chars_per_word=100))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return lambda lines: [np.array(e.ids or [0]) for e in made.encode_batch(lines)]


def load(folder, name, tokens):
    """Documents, questions of the training part, and for each of these the documents that answer it."""
    docs = sources.lines_of(folder / f"{name}.docs.jsonl")
    place = {row["id"]: i for i, row in enumerate(docs)}
    asked = [row for row in sources.lines_of(folder / f"{name}.queries.jsonl") if row["part"] != "test"]
    answers = [[place[r] for r in row["rel"] if r in place] for row in asked]
    return tokens([row["text"] for row in docs]), tokens([row["q"] for row in asked]), answers


def found(table, data, asked):
    """Mean recall@10 of the questions numbered `asked`."""
    docs, questions, answers = data
    with torch.no_grad():
        all_docs = torch.cat([summed(docs[at : at + 1000], table) for at in range(0, len(docs), 1000)])
        top = (summed([questions[i] for i in asked], table) @ all_docs.T).topk(10, 1).indices.tolist()
    return float(np.mean([len(set(row) & set(answers[i])) / len(answers[i]) for row, i in zip(top, asked)]))


def tune(begin, data, asked, others):
    """`asked`: for each set the numbers of the questions that may be learned from."""
    dice = np.random.default_rng(0)
    table = torch.nn.Parameter(begin.clone())
    optimiser = torch.optim.SparseAdam([table], lr=RATE, betas=(0.9, 0.98))
    own = torch.eye(TEXTS).bool()

    def near(table, lists):
        at = summed(lists, table)
        return F.log_softmax((at @ at.T / TEMPERATURE).masked_fill(own, -1e4), 1)

    for step in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 10) * (1 - step / STEPS)
        loss = torch.zeros(())
        for name, (docs, questions, answers) in data.items():
            chosen = dice.choice(asked[name], min(QUESTIONS, len(asked[name])), replace=False)
            right = [answers[i][dice.integers(len(answers[i]))] for i in chosen]
            shown = list(dict.fromkeys(right + dice.integers(0, len(docs), OTHERS).tolist()))
            place = {doc: n for n, doc in enumerate(shown)}
            scores = summed([questions[i] for i in chosen], table) @ summed([docs[d] for d in shown], table).T / TEMPERATURE
            also = torch.zeros_like(scores, dtype=torch.bool)  # other right answers count for nothing
            for n, i in enumerate(chosen):
                also[n, [place[d] for d in answers[i] if d in place and d != right[n]]] = True
            loss = loss + F.cross_entropy(scores.masked_fill(also, -1e4), torch.tensor([place[d] for d in right]))
        lists = [others[i] for i in dice.integers(0, len(others), TEXTS)]
        loss = loss + F.kl_div(near(table, lists), near(begin, lists), log_target=True, reduction="batchmean")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 20 == 0:
            print(f"step {step}: loss {loss:.3f}", flush=True)
    return begin + SHARE * (table.detach() - begin)


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=pathlib.Path, default=root.parent / "shared" / "data")
    options.add_argument("--table", type=pathlib.Path, required=True, help="what distil.py wrote")
    options.add_argument("--out", type=pathlib.Path, required=True)
    options.add_argument("--name", default="static-minilm-256-3")
    options.add_argument("--folds", type=int, default=0)
    given = options.parse_args()
    torch.set_num_threads(1)
    _, vocabulary, rows, scales, unknown, licence = fileformat.unpack(given.table.read_bytes())
    begin = torch.from_numpy(rows * scales[:, None])
    tokens = tokenizer(vocabulary)
    data = {name: load(given.data / "retrieval", name, tokens) for name in SETS}
    others = [x[:LONGEST] for x in tokens(sources.collect(given.data))]
    order = {name: np.random.default_rng(1).permutation(len(d[1])) for name, d in data.items()}
    for fold in range(given.folds):
        table = tune(begin, data, {name: np.delete(o, np.s_[fold :: given.folds]) for name, o in order.items()}, others)
        for name, o in order.items():
            left_out = o[fold :: given.folds]
            print(f"{name}, fold {fold}: {found(begin, data[name], left_out):.3f} before, {found(table, data[name], left_out):.3f} after", flush=True)
    if given.folds == 0:
        table = tune(begin, data, order, others)
        given.out.write_bytes(fileformat.pack(given.name, vocabulary, *fileformat.quantise(table.numpy()), unknown, licence))
        print(f"{given.out}: {given.out.stat().st_size} bytes, {json.dumps(given.name)}")


if __name__ == "__main__":
    main()
