#!/usr/bin/env python3
"""Correct it once: does a corrected answer stay right, also when the question is put in other words and after a restart?

    bench/learn_corrections.py --count 200 --models models [--model 700m] [--seed 1]

Facts that no model has seen are written into notes and asked, one phrasing each, through /v1/query, until --count answers were wrong. Each of
those is corrected once through /v1/feedback, with the value that stands in the notes. Then the same questions are asked again, the other
phrasings of the same facts, and as a control the questions that had been right; the server is stopped and started, and everything is asked
once more. No tier is drawn meanwhile, so what changes comes of the corrections. Prints one JSON line a row: how many of how many answers hold the right value. Questions about a fact whose other phrasings had been wrong
without a correction too are the comparison of the paraphrases: row `paraphrases before`.
"""

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools" / "demo-models"))
import facts  # noqa: E402
import words  # noqa: E402


@dataclass
class Asked:
    value: str
    questions: list[str]
    request: str = ""
    right: bool = False


class Server:
    def __init__(self, program: str, data: Path, models: str, extra: list[str]):
        self.command = [program, "serve", "--port", "0", "--data", str(data), *extra]
        self.environment = dict(os.environ, RUVLLM_MODELS=models)
        self.log = data / "server.log"
        self.start()

    def start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(self.command, stderr=subprocess.PIPE, text=True, env=self.environment)
        for line in self.process.stderr:
            found = re.search(r"API\s+(http://\S+)/v1", line)
            if found:
                self.url = found.group(1)
                break
        else:
            raise SystemExit("the server did not start")
        subprocess.Popen(["cat"], stdin=self.process.stderr, stdout=subprocess.DEVNULL)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    def post(self, path: str, body: dict) -> dict:
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)


def world(count: int, seed: int) -> tuple[list[str], list[Asked]]:
    """Notes of three facts each, and for every fact its value and at least three ways to ask for it."""
    w = facts.World(random.Random(seed), held_names=True)
    notes, asked, claims = [], [], set()
    while len(asked) < count:
        sentences = []
        for _ in range(3):
            fact = facts.new_fact(w)
            forms = list(dict.fromkeys(words.capital(facts._fill(q, fact.subject, "", fact.attribute, w.r)) for q in fact.questions))
            if len(forms) < 3 or claims & fact.claims:
                continue
            claims |= fact.claims
            w.r.shuffle(forms)
            sentences.append(facts.statement(w, fact))
            asked.append(Asked(fact.value, forms[:3]))
        if sentences:
            notes.append(" ".join(sentences))
    return notes, asked


def bare(text: str) -> str:
    return re.sub(r"[^\w]+", " ", re.sub(r"\[\d+\]", " ", text)).casefold().strip()


def ask(server: Server, question: str, value: str) -> tuple[str, bool]:
    answer = server.post("/v1/query", {"query": question})
    return answer["request_id"], bare(value) == bare(answer["text"])


def rate(server: Server, rows: list[tuple[str, str]], wrong_to: Path | None) -> dict:
    right = 0
    for question, value in rows:
        answer = server.post("/v1/query", {"query": question})
        good = bare(value) == bare(answer["text"])
        right += good
        if wrong_to and not good:
            with wrong_to.open("a") as out:
                sources = [source["text"] for source in answer["sources"]]
                out.write(json.dumps(dict(question=question, value=value, answer=answer["text"], sources=sources), ensure_ascii=False) + "\n")
    return dict(right=right, of=len(rows), percent=round(100 * right / max(1, len(rows)), 1))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--ruvllm", default=str(ROOT / "build" / "release" / "ruvllm"))
    options.add_argument("--models", default=str(ROOT / "models"))
    options.add_argument("--model", help="this tier only, as inference.model")
    options.add_argument("--count", type=int, default=200, help="wrong answers to correct")
    options.add_argument("--facts", type=int, help="at least so many, of which questions are asked until --count answers were wrong; default 6 times --count")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--wrong", type=Path, help="append every wrong answer after the corrections to this file, with its sources")
    chosen = options.parse_args()
    extra = ["--set", "router.explore=0"] + (["--model", chosen.model] if chosen.model else [])  # one model answers, before and after

    def show(row: str, found: dict) -> None:
        print(json.dumps(dict(row=row, **found)), flush=True)

    with tempfile.TemporaryDirectory() as folder:
        server = Server(chosen.ruvllm, Path(folder) / "data", chosen.models, extra)
        try:
            notes, asked = world(chosen.facts or 6 * chosen.count, chosen.seed)
            for i, text in enumerate(notes):
                server.post("/v1/memories", {"text": text, "source": f"note-{i}"})
            wrong, right = [], []
            for a in asked:
                if len(wrong) == chosen.count:
                    break
                a.request, a.right = ask(server, a.questions[0], a.value)
                (right if a.right else wrong).append(a)
            show("first answers", dict(right=len(right), of=len(right) + len(wrong), notes=len(notes)))
            right = right[: chosen.count]
            others = [(q, a.value) for a in wrong for q in a.questions[1:]]
            control = [(q, a.value) for a in right for q in a.questions[:1]]
            show("paraphrases before", rate(server, others, None))
            show("control before", rate(server, control, None))
            for a in wrong:
                server.post("/v1/feedback", {"request_id": a.request, "rating": 1, "correction": a.value})
            same = [(a.questions[0], a.value) for a in wrong]
            for when in ("", " after restart"):
                show("same question" + when, rate(server, same, None if when else chosen.wrong))
                show("paraphrases" + when, rate(server, others, None if when else chosen.wrong))
                show("control" + when, rate(server, control, None if when else chosen.wrong))
                if not when:
                    server.stop()
                    server.start()
        finally:
            server.stop()


if __name__ == "__main__":
    main()
