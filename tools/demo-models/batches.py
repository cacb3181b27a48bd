"""From exercises to padded token batches, with a mark on every token that says what it teaches."""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from tokenizers import Tokenizer

import tasks
import words
from tokenizer import IM_END, IM_START, PAD, START

OTHER, VALUE, CITE, END = 0, 1, 2, 3  # marks: prompt, answer text, citation, end of the answer
MAX_TOKENS = 700
POOL = 1200  # exercises that are sorted by length together


@dataclass
class Batch:
    ids: np.ndarray  # [rows][length]
    marks: np.ndarray  # [rows][length]
    passage: np.ndarray  # number of the passage a context token stands in, 0 outside
    sentence: np.ndarray  # and which sentence of that passage it is, at most 9
    target: np.ndarray  # on the last tokens before an answer: the passage it cites first, 0 for a refusal, -1 elsewhere
    asked: np.ndarray  # the same number, on all tokens of the question
    clause: np.ndarray  # there too: which sentence of the passage that is cited last has the value, -1 elsewhere
    spots: list[tuple[int, int, int, int]]  # row, token before the first of a copied value, the passage and the sentence it is copied from
    looks: list[tuple[int, int, list[int]]]  # row, token before a copied one, the places in the passage it is copied from
    cites: list[tuple[int, int, int]]  # row, token before the first cited number, that number
    bridges: list[tuple[int, int, list[int]]]  # row, token after the first cited number and the one before the second, the places in the first passage of the name that leads on
    named: list[tuple[int, int, list[int]]]  # row, that token, the places of the same name in the second passage, which may be the first
    weighed: tuple[list[tuple[int, int, list[int]]], ...]  # row, token before an answer that compares, where the first and the second value end
    words: list[tuple[int, int, list[int]]]  # row, that token, the places of the word in the question that says which of the two wins
    duels: list[tuple[int, int, int, int, int]]  # row, that token, is the first value the larger one, does the question ask for more, is the first the answer (1 or 0)
    sizes: list[tuple[int, int, float, int]]  # row, last digit of a number in the passages, the decimal logarithm of that number, its first digit
    truths: list[tuple[int, int, list[int]]]  # row, last token of a value that is to be judged, where the right one stands
    matches: list[tuple[int, int, list[int]]]  # row, a token of such a value, where the same value stands in the passages
    verdicts: list[tuple[int, int, int, int, int]]  # row, last token of such a value, does it stand in the passages, is it the right one, is its citation right (1 or 0)


@dataclass
class Turn:
    """What the labels of one turn need to know beside its tokens."""

    value: list[list[int]]  # what the answer copies, as tokens: inside a sentence and, with a capital, where it opens one
    via: list[list[int]]  # the name between its two hops in the same two ways, if it has two
    about: int  # the passage that must be read, where the answer cites none
    compared: list[list[int]]  # the tokens of the two values that are compared, if any are
    word: list[int] = field(default_factory=list)  # how the question asks for one of them, `cheaper`
    more: bool = False  # whether that is the larger one
    first_larger: bool = False
    judged: list[list[int]] = field(default_factory=list)  # the tokens of the right value and of the one that is to be judged
    cited_right: bool = False


@dataclass
class Row:
    """One conversation in tokens."""

    ids: list[int]
    marks: list[int]
    turns: list[Turn]


def _digits(value: str) -> int:
    """The whole number in `340 grams`."""
    return int("".join(c for c in value if c.isdigit()))


class Encoder:
    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self.newline = tokenizer.encode("\n").ids
        self.open, self.close = tokenizer.token_to_id("["), tokenizer.token_to_id("]")
        self.question = tokenizer.token_to_id("Question")
        self.stops = {tokenizer.token_to_id(stop) for stop in ".?!"}
        self.digits = {tokenizer.token_to_id(str(n)): n for n in range(10)}

    def prompt(self, text: str) -> list[int]:
        """A single user turn, up to the point where the answer begins."""
        user, assistant = (e.ids for e in self.tokenizer.encode_batch(["user\n" + text, "assistant\n"], add_special_tokens=False))
        return [START, IM_START, *user, IM_END, *self.newline, IM_START, *assistant]

    def encode(self, examples: list[tasks.Example]) -> list[Row]:
        """Token ids and marks of whole conversations; passages are in the first user turn only."""
        texts: list[str] = []
        for example in examples:
            for text, reply in example.history:
                texts += ["user\n" + tasks.user_text([], text), "assistant\n" + reply]
            for n, (text, reply) in enumerate(example.turns):
                texts += ["user\n" + tasks.user_text([] if n else example.passages, text, example.bare), "assistant\n", reply]
                value, via = reply.split("] ")[-1], example.via.get(text, "")
                texts += [" " + t for t in [value, words.capital(value)] + [via, words.capital(via)] * bool(via) + list(example.compared.get(text, ())[:3]) + list(example.judged.get(text, ())[:2])]
        parts = iter([e.ids for e in self.tokenizer.encode_batch(texts, add_special_tokens=False)])
        rows = []
        for example in examples:
            ids = [START]
            for _ in example.history:
                ids += [IM_START, *next(parts), IM_END, *self.newline, IM_START, *next(parts), IM_END, *self.newline]
            marks = [OTHER] * len(ids)
            turns: list[Turn] = []
            for text, _ in example.turns:
                asked = [IM_START, *next(parts), IM_END, *self.newline, IM_START, *next(parts)]
                reply = next(parts)
                value = [next(parts), next(parts)]
                turn = Turn(value, [next(parts), next(parts)] if text in example.via else [], example.about.get(text, 0), [])
                if text in example.compared:
                    left, right, _, turn.more = example.compared[text]
                    turn.compared, turn.word, turn.first_larger = [next(parts), next(parts)], next(parts), _digits(left) > _digits(right)
                if text in example.judged:
                    turn.judged, turn.cited_right = [next(parts), next(parts)], example.judged[text][2]
                turns.append(turn)
                ids += [*asked, *reply, IM_END, *self.newline]
                marks += [OTHER] * len(asked) + self._cites(reply) + [END] + [OTHER] * len(self.newline)
            rows.append(Row(ids, marks, turns))
        return rows

    def _cites(self, reply: list[int]) -> list[int]:
        marks, inside = [VALUE] * len(reply), False
        for n, token in enumerate(reply):
            inside = inside or self.tokenizer.id_to_token(token) in ("[", "Ġ[")
            if inside:
                marks[n] = CITE
            inside = inside and token != self.close
        return marks

    def pad(self, rows: list[Row]) -> Batch:
        length = (max(len(row.ids) for row in rows) + 7) // 8 * 8
        shape = (len(rows), length)
        batch = Batch(np.full(shape, PAD, np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.int64), *(np.full(shape, -1, np.int64) for _ in range(3)), [], [], [], [], [], ([], []), [], [], [], [], [], [])
        for n, row in enumerate(rows):
            batch.ids[n, : len(row.ids)], batch.marks[n, : len(row.marks)] = row.ids, row.marks
            self._label(n, row, batch)
        return batch

    def _first_passage(self, ids: list[int], marks: list[int]) -> int:
        """Where the turn with the passages begins: earlier turns of a session come before it and are answered by nobody here."""
        answered = next((n for n, mark in enumerate(marks) if mark != OTHER), len(ids))
        starts = [n for n in range(answered) if ids[n] == IM_START]
        return starts[-2] if len(starts) > 1 else 0

    def _label(self, row: int, of: Row, batch: Batch) -> None:
        """Labels of the auxiliary heads."""
        ids, marks, turns = of.ids, of.marks, iter(of.turns)
        passage, sentence, target, asked = batch.passage[row], batch.sentence[row], batch.target[row], batch.asked[row]
        current, count, first = 0, 0, self._first_passage(ids, marks)
        for n in range(first, len(ids)):
            token = ids[n]
            if token in (self.question, IM_END):
                break
            if token == self.close and n > 1 and ids[n - 2] == self.open and ids[n - 1] in self.digits:
                current, count = self.digits[ids[n - 1]], 1
            passage[n], sentence[n] = current, min(count, 9)
            count += token in self.stops
        if any(turn.compared for turn in of.turns):
            self._numbers(row, ids, passage, batch.sizes)
        n = begin = 0
        while n < len(ids):
            if marks[n] == OTHER:
                begin = n if ids[n] == self.question else begin
                n += 1
                continue
            end = n
            while marks[end] != END:
                end += 1
            digits = [k for k in range(n, end) if marks[k] == CITE and ids[k] in self.digits]
            turn = next(turns)
            cited = self.digits[ids[digits[0]]] if digits else turn.about
            target[max(0, n - 6) : n] = cited
            asked[begin or n : n] = -1 if turn.compared else cited
            for place, k in enumerate(digits):
                target[k - 1] = self.digits[ids[k]]
                if not place:
                    batch.cites.append((row, k - 1, self.digits[ids[k]]))
            for k, looks in zip((digits[0], digits[-1]), (batch.bridges, batch.named)) if turn.via and digits else ():
                inside = np.flatnonzero(passage == self.digits[ids[k]])
                places = [p + k for p, length in self._forms(ids, turn.via, inside) for k in range(length)]
                for at in (digits[0] + 1, *(digit - 1 for digit in digits[1:])) if places else ():
                    looks.append((row, at, places))
            for k, value, looks in zip((digits[0], digits[-1]), turn.compared, batch.weighed) if digits else ():
                places = self._places(ids, value, np.flatnonzero(passage == self.digits[ids[k]]))
                ends = max(i for i, token in enumerate(value) if token in self.digits) if places else 0
                if places:
                    looks.append((row, digits[-1] + 1, [p + ends for p in places]))
            if turn.compared and digits:
                batch.words.append((row, digits[-1] + 1, [p + i for p in self._places(ids, turn.word, range(begin, n)) for i in range(len(turn.word))]))
                batch.duels.append((row, digits[-1] + 1, int(turn.first_larger), int(turn.more), int(turn.first_larger == turn.more)))
            if turn.judged:
                self._judged(row, ids, turn, passage, range(begin, n), batch)
            if digits and not turn.compared:
                homes = {sentence[p] for p, _ in self._forms(ids, turn.value, np.flatnonzero(passage == self.digits[ids[digits[-1]]]))}
                if len(homes) == 1:
                    home = int(homes.pop())
                    batch.clause[row, begin or n : n] = home
                    batch.spots.append((row, digits[-1] + 1, self.digits[ids[digits[-1]]], home))
            if digits:
                self._sources(row, ids, turn.value, digits if turn.compared else digits[-1:], end, passage, batch.looks, range(begin, n) if turn.compared else range(0))
            n, begin = end + 1, 0

    def _numbers(self, row: int, ids: list[int], passage: np.ndarray, sizes: list[tuple[int, int, float, int]]) -> None:
        """The whole numbers of up to five digits in the passages, and how large they are."""
        run = ""
        for n, token in enumerate(ids[:-1]):
            run = run + str(self.digits[token]) if token in self.digits and passage[n] else ""
            if run and ids[n + 1] not in self.digits and 0 < int(run) < 100000 and ids[n - len(run)] != self.open:
                sizes.append((row, n, math.log10(int(run)), int(run[0])))

    def _judged(self, row: int, ids: list[int], turn: Turn, passage: np.ndarray, question: range, batch: Batch) -> None:
        """Where the right value and the one to be judged stand in the passages."""
        true, given = turn.judged
        asked = self._places(ids, given, question)
        truths = self._places(ids, true, np.flatnonzero(passage == turn.about))
        if not asked or not truths:
            return
        end = asked[-1] + len(given) - 1
        same = self._places(ids, given, np.flatnonzero(passage > 0))
        batch.truths.append((row, end, [p + k for p in truths for k in range(len(true))]))
        batch.matches += [(row, asked[-1] + k, [p + k for p in same]) for k in range(len(given) if same else 0)]
        batch.verdicts.append((row, end, int(bool(same)), int(true == given), int(turn.cited_right)))

    @staticmethod
    def _places(ids: list[int], wanted: list[int], inside: np.ndarray | range) -> list[int]:
        if not wanted or not len(inside):
            return []
        return [n for n in range(inside[0], inside[-1] + 2 - len(wanted)) if ids[n : n + len(wanted)] == wanted]

    def _forms(self, ids: list[int], forms: list[list[int]], inside: np.ndarray | range) -> list[tuple[int, int]]:
        """Where a value or name stands, written in any of these ways, and how many tokens it has there."""
        return list(dict.fromkeys((place, len(form)) for form in forms for place in self._places(ids, form, inside)))

    def _sources(self, row: int, ids: list[int], value: list[list[int]], cites: list[int], end: int, passage: np.ndarray, looks: list[tuple[int, int, list[int]]], question: range) -> None:
        """Where each token of an answer stands in the passages that it comes from, or in the question where one of two is chosen. With a capital the value may be cut
        into more tokens (` white` and ` W|h|ite`) or fewer; then its last ones are the same, and what is left belongs to the first."""
        first, count = cites[-1] + 2, end - cites[-1] - 2
        places = [place for digit in cites for place in self._forms(ids, value, np.flatnonzero(passage == self.digits[ids[digit]]))] + self._forms(ids, value, question)
        for k in range(count if places else 0):
            looks.append((row, first - 1 + k, [p + i for p, length in places[:4] for i in range(max(0, length - count + k) if k else 0, max(0, length - count + k) + 1)]))


def stream(encoder: Encoder, seed: int, progress, tokens: int, more: dict[str, int] | None = None) -> Iterator[Batch]:
    """Batches of about `tokens` tokens without end; `progress()` says where the curriculum stands, `more` which tasks are set more often."""
    r = random.Random(seed)
    while True:
        rows = [row for row in encoder.encode([tasks.sample(r, progress(), more) for _ in range(POOL)]) if len(row.ids) <= MAX_TOKENS]
        rows.sort(key=lambda row: len(row.ids) + 8 * r.random())
        batches, current = [], []
        for row in rows:
            if current and (len(current) + 1) * len(row.ids) > tokens:
                batches.append(current)
                current = []
            current.append(row)
        r.shuffle(batches)
        yield from (encoder.pad(b) for b in batches)
