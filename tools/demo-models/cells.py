"""The kinds of question that are measured, each with the builder in tasks.py and its sizes: names, phrasings and relations that training never uses.

Nothing but the standard library, so that make_test.py runs anywhere; evaluate.py scores models on the same questions.
"""

import random
from dataclasses import dataclass

import tasks
import words
from facts import World


@dataclass(frozen=True)
class Cell:
    name: str
    task: str
    passages: int
    held_forms: bool = False
    notes: float = 0.0
    pairs: float = 0.0
    single: bool = False  # one fact in each passage


CELLS = (
    Cell("one-hop 1", "one", 1), Cell("one-hop 3", "one", 3), Cell("one-hop 3, one fact each", "one", 3, single=True), Cell("one-hop 8", "one", 8), Cell("notes 4", "notes", 4), Cell("notes 6", "notes", 6),
    Cell("two-hop notes 5", "chain", 5), Cell("refusal notes 5", "none", 5), Cell("session 4", "session", 4),
    Cell("two-hop 2", "two", 2), Cell("two-hop 4", "two", 4), Cell("two-hop 8", "two", 8), Cell("correction 4", "fix", 4), Cell("correction 8", "fix", 8),
    Cell("comparison 4", "cmp", 4), Cell("refusal 4", "no", 4), Cell("refusal 8", "no", 8), Cell("judge 4", "judge", 4), Cell("chat", "chat", 3), Cell("own notes 4", "own", 4),
    Cell("unseen one-hop 3", "one", 3, True), Cell("unseen two-hop 4", "two", 4, True), Cell("unseen correction 4", "fix", 4, True), Cell("unseen refusal 4", "no", 4, True),
)


def examples(cell: Cell, count: int, seed: int = 777) -> list[tasks.Example]:
    """The questions of one cell: one turn each, held-out names, a fixed seed."""
    r = random.Random(seed + words.crc(cell.name))
    made = []
    while len(made) < count:
        example = tasks.TASKS[cell.task](World(r, True, cell.held_forms), tasks.Shape(cell.passages, 1, cell.notes, cell.pairs, cell.single))
        example.turns = example.turns[:1]
        made.append(example)
    return made
