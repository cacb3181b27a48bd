#!/usr/bin/env python3
"""What does an adapter alone know, with memory out of the way, and what does it cost? It learns 200 invented facts by heart from one wording each.

    bench/learn_alone.py FOLDER [--model models/demo-xs.gguf] [--adapter FILE] [--seed 1] [--ruvllm build/release/ruvllm]

Rows and answers go to FOLDER. Asked are the same question, two other phrasings of each, and as a control questions about 400 other facts with their
passages. Each is answered with the adapter, and without; printed is what a user gets: the adapter is used where a question is like one that it
learned from (RV_ADAPTER_LIKE, as the loop does), and beside it what using it everywhere would give. --adapter takes one that was trained before.
"""
import argparse
import json
import random
import subprocess
from pathlib import Path

import learn_corrections as corrections

LIKE = 0.65
ROOT = Path(__file__).resolve().parent.parent


def chat(text, answer, cell):
    return dict(messages=[dict(role="user", content=text)], answer=answer, cell=cell)


def worded(question, draw):
    """The question without some of its words, as src/learn/adapter_learn.c makes them."""
    drop = 0.1 + 0.4 * draw.random()
    return " ".join(word for word in question.split(" ") if draw.random() >= drop) or question


def rows(seed):
    notes, asked = corrections.world(800, seed)
    random.Random(seed + 1).shuffle(asked)
    draw, sets = random.Random(seed + 4), dict(train=[], same=[], phrasings=[], control=[])
    for fact in asked[:200]:
        first = fact.questions[0]
        for question in [first] + [worded(first, draw) for _ in range(8)]:
            sets["train"].append((first, chat("Question: " + question, fact.value, "train")))
        sets["same"].append((first, chat("Question: " + first, fact.value, "same")))
        sets["phrasings"] += [(q, chat("Question: " + q, fact.value, "phrasings")) for q in fact.questions[1:3]]
    for fact in asked[200:600]:
        holding = [note for note in notes if fact.value in note]
        if holding:
            passages = holding[:1] + draw.sample([note for note in notes if note not in holding], 3)
            draw.shuffle(passages)
            text = "".join(f"[{n}] {p}\n" for n, p in enumerate(passages, 1)) + "Question: " + fact.questions[0]
            sets["control"].append((fact.questions[0], chat(text, fact.value, "control")))
    return sets


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("--model", default=str(ROOT / "models" / "demo-xs.gguf"))
    options.add_argument("--adapter")
    options.add_argument("--seed", type=int, default=1, help="of the invented world, the wordings and the training")
    options.add_argument("--ruvllm", default=str(ROOT / "build" / "release" / "ruvllm"))
    chosen = options.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    sets = rows(chosen.seed)
    for name, list_of in sets.items():
        keys = ("messages", "answer") if name == "train" else ("messages", "answer", "cell")
        (chosen.folder / f"{name}.jsonl").write_text("".join(json.dumps({k: row[k] for k in keys}) + "\n" for _, row in list_of))

    def run(*words):
        return subprocess.run([chosen.ruvllm, *map(str, words)], check=True, capture_output=True, text=True).stdout

    adapter = chosen.adapter or chosen.folder / "alone.gguf"
    if not chosen.adapter:
        run("adapter", "train", "--data", chosen.folder / "train.jsonl", "--model", chosen.model, "--out", adapter, "--rank", 32, "--steps", 1200,
            "--batch", 24, "--rate", 0.006, "--held-out", 0.02, "--seed", chosen.seed)

    def vector(question):
        return json.loads(run("embed", "--json", question))["vector"]

    def right(name, *lora):
        out = chosen.folder / "answers.jsonl"
        run("eval", "qa", chosen.model, chosen.folder / f"{name}.jsonl", "--jsonl", "--max-tokens", 24, "--out", out, *lora)
        return [corrections.bare(a["found"]) == corrections.bare(a["answer"]) for a in map(json.loads, out.read_text().splitlines())]

    keys = [vector(question) for question, _ in sets["same"]]
    for name in ("same", "phrasings", "control"):
        plain, learned = right(name), right(name, "--lora", adapter)
        like = [max(sum(a * b for a, b in zip(key, v)) for key in keys) >= LIKE for v in (vector(q) for q, _ in sets[name])]
        n = len(plain)
        print(json.dumps(dict(questions=name, of=n, without=sum(plain) / n, like_what_was_learned=sum(like) / n,
                              right=sum(b if yes else a for a, b, yes in zip(plain, learned, like)) / n, adapter_everywhere=sum(learned) / n)), flush=True)


if __name__ == "__main__":
    main()
