"""Questions that people asked about real sentences: which of some passages answers one. Only where the text is there: it is no part of the repository.

    natural.py DIR ../../models/demo-*.gguf     per cent of 500 held-out questions for which the right one of three passages is cited first: the questions as they
                                                are, and asked which passage answers them, among its neighbours half of the time or among any

`train.py --natural DIR --more which=15` trains the task `which`: the number of that passage, asked for in so many words.

The text: sentences of SQuAD 1.1 as Du et al. 2017 cut them, lower-cased, and questions with the one sentence that answers each; `squadsent.docs.jsonl` (id, text)
and `squadsent.queries.jsonl` (q, rel) in one folder. SQuAD is CC BY-SA 4.0.
Sentences lie in the order of their articles; of those that have questions the last fifth is held out, and what is measured is from there alone.
"""

import argparse
import json
import random
from functools import cache
from pathlib import Path

import tasks
from facts import World
from words import capital, crc

HELD = 0.2
ASK = ("Which passage answers this question: {q}", "Which passage answers the question: {q}", "Where is this answered: {q}", "Which passage: {q}", "In which passage is the answer? {q}",
       "Name the passage that answers: {q}", "{q} Which passage says it?", "{q} Answer with the number of the passage.")
_folder: Path | None = None


def use(folder: Path) -> None:
    """From now on the text is that of `folder`, and `which` is one of the tasks."""
    global _folder
    _folder = folder
    tasks.TASKS["which"] = which


@cache
def _text() -> tuple[list[str], dict[bool, dict[int, list[str]]]]:
    """All sentences; held out or not -> place of a sentence -> the questions that it answers."""
    assert _folder, "no natural text: --natural names its folder"
    docs = [json.loads(line) for line in (_folder / "squadsent.docs.jsonl").open()]
    place = {doc["id"]: n for n, doc in enumerate(docs)}
    asked: dict[int, list[str]] = {}
    for row in map(json.loads, (_folder / "squadsent.queries.jsonl").open()):
        if len(row["rel"]) == 1:
            asked.setdefault(place[row["rel"][0]], []).append(row["q"])
    places = sorted(asked)
    border = places[round(len(places) * (1 - HELD))]
    # neighbours of what is held out are not trained on either
    return [doc["text"] for doc in docs], {False: {n: asked[n] for n in places if n < border - 10}, True: {n: asked[n] for n in places if n >= border}}


def which(w: World, shape: tasks.Shape, ask: tuple[str, ...] = ASK, near: float = 0.5) -> tasks.Example:
    """The passage that answers a question about real sentences: among its neighbours (a share `near` of the exercises), or among any."""
    texts, questions = _text()
    asked, count = questions[w.held_names], max(2, shape.passages)
    first, last = min(asked), max(asked)
    at = w.r.choice(list(asked))
    start = min(max(at - w.r.randrange(count), first), last + 1 - count)
    shown = list(range(start, start + count)) if w.chance(near) else [at, *w.r.sample([n for n in range(first, last + 1) if abs(n - at) > 8], count - 1)]
    w.r.shuffle(shown)
    example = tasks.Example([capital(texts[n]) for n in shown])
    for n in [at, *(n for n in shown if n != at and n in asked)][: shape.turns]:
        example.turns.append((w.r.choice(ask).replace("{q}", w.r.choice(asked[n])), f"[{shown.index(n) + 1}]"))
    return example


def main() -> None:
    import torch

    import check_gguf
    import tokenizer as bpe
    from batches import Encoder

    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("files", type=Path, nargs="+")
    options.add_argument("--count", type=int, default=500)
    chosen = options.parse_args()
    use(chosen.folder)
    torch.set_num_threads(1)
    encoder = Encoder(bpe.load(str(Path(__file__).resolve().parent / "tokenizer.json")))
    for path in chosen.files:
        model, shares = check_gguf.load(path), []
        for ask, near in ((("{q}",), 0.5), (ASK, 0.5), (("{q}",), 0), (ASK, 0)):
            r, right = random.Random(20260 + crc("which 3")), 0
            for _ in range(chosen.count):
                example = which(World(r, True), tasks.Shape(3, 1), ask, near)
                text, reply = example.turns[0]
                ids = encoder.prompt(tasks.user_text(example.passages, text))
                begin = len(ids)
                while len(ids) < begin + 3:
                    with torch.no_grad():
                        states, _ = model.hidden_states(torch.tensor([ids]))
                        ids.append(int(model.head(states[0, -1:]).argmax()))
                right += encoder.tokenizer.decode(ids[begin:]).strip().startswith(reply)
            shares.append(100 * right / chosen.count)
        print("{}: as they are {:.1f}, asked which passage {:.1f}; among any three as they are {:.1f}, asked {:.1f}".format(path.stem, *shares), flush=True)


if __name__ == "__main__":
    main()
