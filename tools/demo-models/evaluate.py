"""Exact match per kind of question, on names (and, for the unseen cells, phrasings and relations) that training never uses.

Scoring with the right answer fed in gives the same figure as greedy decoding: an answer is right only if every one of
its tokens is the most probable one given the right ones before it.

    evaluate.py FILE.gguf --count 100         the table of one shipped file, as Markdown or (--json) one JSON object
"""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor, nn

import tasks
from batches import CITE, END, VALUE, Batch, Encoder, Row
from cells import CELLS, examples


def batches(encoder: Encoder, rows: list[Row], tokens: int = 8000) -> list[tuple[list[int], Batch]]:
    """Rows of like length together, each with its place in the list."""
    order = sorted(range(len(rows)), key=lambda n: len(rows[n].ids))
    out, current = [], []
    for n in order:
        if current and (len(current) + 1) * len(rows[n].ids) > tokens:
            out.append((current, encoder.pad([rows[k] for k in current])))
            current = []
        current.append(n)
    out.append((current, encoder.pad([rows[k] for k in current])))
    return out


@torch.no_grad()
def right(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Per row: whole answer right, value right, citations right."""
    device = next(model.parameters()).device
    ids, marks = torch.from_numpy(batch.ids).to(device), torch.from_numpy(batch.marks).to(device)
    rows, at = (marks[:, 1:] > 0).nonzero(as_tuple=True)
    states, _ = model.hidden_states(ids)
    wrong = model.head(states[rows, at]).argmax(-1) != ids[rows, at + 1]
    mark = marks[rows, at + 1]

    def clean(select: Tensor) -> Tensor:
        return torch.zeros(len(ids), device=device).index_add_(0, rows[select], wrong[select].float()) == 0

    return clean(mark > 0), clean((mark == VALUE) | (mark == END)), clean(mark == CITE)


def score(model: nn.Module, encoder: Encoder, found: list[tasks.Example]) -> tuple[float, float, float]:
    """Per cent of examples with the whole answer, the value, the citations right."""
    totals = torch.zeros(3)
    for _, batch in batches(encoder, encoder.encode(found)):
        totals += torch.stack([x.float().sum().cpu() for x in right(model, batch)])
    return tuple((100 * totals / len(found)).tolist())


def table(model: nn.Module, encoder: Encoder, count: int, seed: int = 777) -> dict[str, tuple[float, float, float]]:
    return {cell.name: score(model, encoder, examples(cell, count, seed)) for cell in CELLS}


def main() -> None:
    import check_gguf
    import questions
    import tokenizer as bpe

    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("files", type=Path, nargs="+")
    options.add_argument("--count", type=int, default=100)
    options.add_argument("--json", action="store_true")
    options.add_argument("--tokenizer", default=str(Path(__file__).resolve().parent / "tokenizer.json"))
    chosen = options.parse_args()
    torch.set_num_threads(1)
    encoder = Encoder(bpe.load(chosen.tokenizer))
    cells = {cell.name: examples(cell, chosen.count, 20260) for cell in CELLS} | questions.plain()
    columns = {}
    for path in chosen.files:
        model = check_gguf.load(path)
        columns[path.stem] = {name: score(model, encoder, found) for name, found in cells.items()}
        columns[path.stem]["false refusals, one-hop 3"] = (false_refusals(model, encoder, cells["one-hop 3"]),) * 3
    if chosen.json:
        print(json.dumps(columns))
        return
    print("| cell (whole answer right / value right given the citations), % | n | " + " | ".join(columns) + " |")
    print("|---|---|" + "---|" * len(columns))
    for name in list(cells) + ["false refusals, one-hop 3"]:
        figures = [f"{c[name][0]:.0f} / {c[name][1]:.0f}" if name in cells else f"{c[name][0]:.0f}" for c in columns.values()]
        print(f"| {name} | {len(cells.get(name, cells['one-hop 3']))} | " + " | ".join(figures) + " |")
    generated = [cell.name for cell in CELLS]
    print("| **mean of the generated cells** | | " + " | ".join(f"**{sum(c[n][0] for n in generated) / len(generated):.1f}**" for c in columns.values()) + " |")


@torch.no_grad()
def false_refusals(model: nn.Module, encoder: Encoder, found: list[tasks.Example]) -> float:
    """Per cent of answerable questions whose answer would begin like a refusal."""
    first = encoder.tokenizer.encode(tasks.REFUSAL).ids[0]
    refused = 0
    for example in found:
        ids = encoder.prompt(tasks.user_text(example.passages, example.turns[0][0]))
        states, _ = model.hidden_states(torch.tensor([ids]))
        refused += int(model.head(states[0, -1:]).argmax()) == first
    return 100 * refused / len(found)


if __name__ == "__main__":
    main()
