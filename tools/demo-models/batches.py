"""From exercises to padded token batches, with a mark on every token that says what it teaches."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

import tasks
from tokenizer import IM_END, IM_START, PAD, START

OTHER, VALUE, CITE, END = 0, 1, 2, 3  # marks: prompt, answer text, citation, end of the answer
MAX_TOKENS = 640
POOL = 1200  # exercises that are sorted by length together


@dataclass
class Batch:
    ids: np.ndarray  # [rows][length]
    marks: np.ndarray  # [rows][length]
    passage: np.ndarray  # number of the passage a context token stands in, 0 outside
    target: np.ndarray  # on the last tokens before an answer: the passage it cites first, 0 for a refusal, -1 elsewhere
    asked: np.ndarray  # the same number, on all tokens of the question


class Encoder:
    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self.newline = tokenizer.encode("\n").ids
        self.open, self.close = tokenizer.token_to_id("["), tokenizer.token_to_id("]")
        self.question = tokenizer.token_to_id("Question")
        self.digits = {tokenizer.token_to_id(str(n)): n for n in range(10)}

    def prompt(self, text: str) -> list[int]:
        """A single user turn, up to the point where the answer begins."""
        user, assistant = (e.ids for e in self.tokenizer.encode_batch(["user\n" + text, "assistant\n"], add_special_tokens=False))
        return [START, IM_START, *user, IM_END, *self.newline, IM_START, *assistant]

    def encode(self, examples: list[tasks.Example]) -> list[tuple[list[int], list[int]]]:
        """Token ids and marks of whole conversations; passages are in the first user turn only."""
        texts: list[str] = []
        for example in examples:
            for n, (text, reply) in enumerate(example.turns):
                texts += ["user\n" + tasks.user_text([] if n else example.passages, text, example.bare), "assistant\n", reply]
        parts = iter([e.ids for e in self.tokenizer.encode_batch(texts, add_special_tokens=False)])
        rows = []
        for example in examples:
            ids, marks = [START], [OTHER]
            for _ in example.turns:
                asked = [IM_START, *next(parts), IM_END, *self.newline, IM_START, *next(parts)]
                reply = next(parts)
                ids += [*asked, *reply, IM_END, *self.newline]
                marks += [OTHER] * len(asked) + self._cites(reply) + [END] + [OTHER] * len(self.newline)
            rows.append((ids, marks))
        return rows

    def _cites(self, reply: list[int]) -> list[int]:
        marks, inside = [VALUE] * len(reply), False
        for n, token in enumerate(reply):
            inside = inside or self.tokenizer.id_to_token(token) in ("[", "Ġ[")
            if inside:
                marks[n] = CITE
            inside = inside and token != self.close
        return marks

    def pad(self, rows: list[tuple[list[int], list[int]]]) -> Batch:
        length = (max(len(ids) for ids, _ in rows) + 7) // 8 * 8
        shape = (len(rows), length)
        batch = Batch(np.full(shape, PAD, np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.full(shape, -1, np.int64), np.full(shape, -1, np.int64))
        for n, (ids, marks) in enumerate(rows):
            batch.ids[n, : len(ids)], batch.marks[n, : len(marks)] = ids, marks
            self._label(ids, marks, batch.passage[n], batch.target[n], batch.asked[n])
        return batch

    def _label(self, ids: list[int], marks: list[int], passage: np.ndarray, target: np.ndarray, asked: np.ndarray) -> None:
        """Labels of the auxiliary heads."""
        current = 0
        for n, token in enumerate(ids):
            if token in (self.question, IM_END):
                break
            if token == self.close and n > 1 and ids[n - 2] == self.open and ids[n - 1] in self.digits:
                current = self.digits[ids[n - 1]]
            passage[n] = current
        n = begin = 0
        while n < len(ids):
            if marks[n] == OTHER:
                begin = n if ids[n] == self.question else begin
                n += 1
                continue
            end = n
            while marks[end] != END:
                end += 1
            cited = next((self.digits[ids[k]] for k in range(n, end) if marks[k] == CITE and ids[k] in self.digits), 0)
            target[max(0, n - 6) : n] = cited
            asked[begin or n : n] = cited
            n, begin = end + 1, 0


def stream(encoder: Encoder, seed: int, progress, tokens: int) -> Iterator[Batch]:
    """Batches of about `tokens` tokens without end; `progress()` says where the curriculum stands."""
    r = random.Random(seed)
    while True:
        rows = [row for row in encoder.encode([tasks.sample(r, progress()) for _ in range(POOL)]) if len(row[0]) <= MAX_TOKENS]
        rows.sort(key=lambda row: len(row[0]) + 8 * r.random())
        batches, current = [], []
        for row in rows:
            if current and (len(current) + 1) * len(row[0]) > tokens:
                batches.append(current)
                current = []
            current.append(row)
        r.shuffle(batches)
        yield from (encoder.pad(b) for b in batches)
