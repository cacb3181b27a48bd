"""Recall@10 by vectors alone, all compared exactly: tables beside the encoder that they were distilled from, on the test questions of the retrieval sets.

    OMP_NUM_THREADS=1 python3 tools/embedder/compare.py --data ../shared/data/retrieval models/embedder.rvemb      (half an hour of one core: the encoder reads 5 million tokens)

--sets names some of the sets, --no-encoder leaves the encoder out. One JSON line a set.
"""
import argparse
import json
import pathlib

import numpy as np
import torch

import fileformat
import minilm
import texts as sources
from distil import summed

SETS = ("xquad", "squadsent", "scifact", "covidqa", "locomo", "cosqa")


def recall(docs, questions, answers, allowed):
    """docs [n][dim], questions [q][dim] of length 1; answers: numbers of the right documents; allowed: those that may be found, or None for all."""
    found = []
    for vector, right, among in zip(questions, answers, allowed):
        scores = docs @ vector if among is None else docs[among] @ vector
        top = scores.topk(min(10, len(scores))).indices
        top = set((top if among is None else among[top]).tolist())
        found.append(len(top & set(right)) / len(right))
    return float(np.mean(found))


def load(folder, name):
    docs = sources.lines_of(folder / f"{name}.docs.jsonl")
    place = {row["id"]: i for i, row in enumerate(docs)}
    scopes = {}
    for i, row in enumerate(docs):
        scopes.setdefault(row["id"].rpartition("/")[0], []).append(i)
    scopes = {scope: torch.tensor(rows) for scope, rows in scopes.items()}
    asked = [row for row in sources.lines_of(folder / f"{name}.queries.jsonl") if row["part"] == "test"]
    return ([row["text"] for row in docs], [row["q"] for row in asked], [[place[r] for r in row["rel"]] for row in asked],
            [scopes[row["scope"]] if "scope" in row else None for row in asked])


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("tables", nargs="*", type=pathlib.Path)
    options.add_argument("--data", type=pathlib.Path, default=root.parent / "shared" / "data" / "retrieval")
    options.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    options.add_argument("--no-encoder", action="store_true")
    given = options.parse_args()
    torch.set_num_threads(1)
    model = minilm.MiniLM()
    tables = {}
    for path in given.tables:
        _, _, rows, scales, _, _ = fileformat.unpack(path.read_bytes())
        tables[path.name] = torch.from_numpy(rows * scales[:, None])
    for name in given.sets:
        docs, questions, answers, allowed = load(given.data, name)
        line = {"set": name, "documents": len(docs), "questions": len(questions)}
        if not given.no_encoder:
            line["encoder"] = recall(model.encode(model.ids(docs)), model.encode(model.ids(questions)), answers, allowed)
        lists = [[np.array(x[1:-1] or [0]) for x in model.ids(part, 1 << 20)] for part in (docs, questions)]
        for file, table in tables.items():
            doc_rows, question_rows = (torch.cat([summed(part[at : at + 1000], table) for at in range(0, len(part), 1000)]) for part in lists)
            line[file] = recall(doc_rows, question_rows, answers, allowed)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
