"""Exact match per kind of question, on names (and, for the unseen cells, phrasings and relations) that training never uses.

Scoring with the right answer fed in gives the same figure as greedy decoding: an answer is right only if every one of
its tokens is the most probable one given the right ones before it.
"""

import random
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import tasks
import words
from batches import CITE, END, VALUE, Batch, Encoder
from facts import World


@dataclass(frozen=True)
class Cell:
    name: str
    task: str
    passages: int
    held_forms: bool = False
    notes: float = 0.0
    pairs: float = 0.0


CELLS = (
    Cell("one-hop 1", "one", 1), Cell("one-hop 3", "one", 3), Cell("one-hop 8", "one", 8), Cell("one-hop 5 notes", "one", 5, notes=0.9, pairs=0.15),
    Cell("two-hop 2", "two", 2), Cell("two-hop 4", "two", 4), Cell("two-hop 8", "two", 8), Cell("correction 4", "fix", 4), Cell("correction 8", "fix", 8),
    Cell("comparison 4", "cmp", 4), Cell("refusal 4", "no", 4), Cell("refusal 8", "no", 8), Cell("judge 4", "judge", 4), Cell("chat", "chat", 3),
    Cell("unseen one-hop 3", "one", 3, True), Cell("unseen two-hop 4", "two", 4, True), Cell("unseen correction 4", "fix", 4, True), Cell("unseen refusal 4", "no", 4, True),
)


def examples(cell: Cell, count: int, seed: int = 777) -> list[tasks.Example]:
    """The questions of one cell: one turn each, held-out names, a fixed seed."""
    r = random.Random(seed + words.crc(cell.name))
    made = []
    while len(made) < count:
        example = tasks.TASKS[cell.task](World(r, True, cell.held_forms), tasks.Shape(cell.passages, 1, cell.notes, cell.pairs))
        example.turns = example.turns[:1]
        made.append(example)
    return made


def batches(encoder: Encoder, rows: list[tuple[list[int], list[int]]], tokens: int = 8000) -> list[tuple[list[int], Batch]]:
    """Rows of like length together, each with its place in the list."""
    order = sorted(range(len(rows)), key=lambda n: len(rows[n][0]))
    out, current = [], []
    for n in order:
        if current and (len(current) + 1) * len(rows[n][0]) > tokens:
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
