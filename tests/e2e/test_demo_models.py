"""How the demo models are made: what the generator writes holds, and (where torch is installed) the whole recipe runs once."""
import json
import os
import pathlib
import random
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tools" / "demo-models"
RUVLLM = os.environ.get("RUVLLM", str(ROOT / "build" / "release" / "ruvllm"))
sys.path.insert(0, str(TOOLS))

import facts  # noqa: E402
import relations  # noqa: E402
import tasks  # noqa: E402
import words  # noqa: E402


def drawn(count=300):
    """Exercises from all of the curriculum."""
    for p in (0.05, 0.3, 0.6, 0.95):
        r = random.Random(int(p * 1000))
        for _ in range(count):
            yield p, tasks.sample(r, p)


def parts(reply):
    cited = [int(n) for n in re.findall(r"\[(\d+)\]", reply)]
    return cited, re.sub(r"^(\[\d+\] ?)+", "", reply)


def test_answers_can_be_read_from_what_they_cite():
    checked = 0
    for _, example in drawn():
        for question, reply in example.turns:
            cited, value = parts(reply)
            if not cited:
                continue
            checked += 1
            assert all(1 <= n <= len(example.passages) for n in cited), (example, question, reply)
            assert len(set(cited)) == len(cited)
            text = " ".join(example.passages[n - 1] for n in cited).lower()
            assert value.lower() in text, (example, question, reply)
    assert checked > 1000


def test_refused_questions_ask_for_what_no_passage_says():
    """The same question must not be answered elsewhere on the same passages."""
    refused = 0
    for _, example in drawn():
        answered = {question for question, reply in example.turns if reply != tasks.REFUSAL}
        for question, reply in example.turns:
            if reply == tasks.REFUSAL:
                refused += 1
                assert question not in answered, (example, question)
    assert refused > 50


def test_training_never_uses_what_is_held_out():
    held_values = {words.proper(random.Random(n), True) for n in range(300)}
    held_starts = {t.split("{")[0] for n in relations.NAMED for t in n.held_questions if len(t.split("{")[0]) > 20}
    held_starts -= {t.split("{")[0] for n in relations.NAMED for t in n.questions}
    for _, example in drawn():
        text = " ".join(example.passages + [t for turn in example.turns for t in turn])
        assert not held_values & set(re.findall(r"[A-Z][a-z]+", text))
        for question, _ in example.turns:
            assert not any(question.startswith(start) for start in held_starts), question


def test_tests_draw_only_held_out_names():
    r = random.Random(3)
    for _ in range(300):
        fact = facts.new_fact(facts.World(r, held_names=True))
        for name in re.findall(r"[A-Z][a-z]{3,}", fact.subject):
            known = set(words.WOMEN) | set(words.MEN) | {"Port", "Lake", "Mount", "East", "Saint", "North", "Upper"}
            if fact.subject_kind == "person" and name not in known:
                assert words.is_held(name.lower()), fact


def test_a_session_keeps_the_turns_before_the_passages():
    r = random.Random(1)
    seen = 0
    for _ in range(200):
        example = tasks.session(facts.World(r), tasks.Shape(4, 2, 0.5, 0.1))
        assert 1 <= len(example.history) <= 4
        seen += any("[" in reply for _, reply in example.history)
    assert seen > 50


def torch_python():
    """A Python with torch and tokenizers: DEMO_MODELS_PYTHON, this one, or the system's."""
    for python in (os.environ.get("DEMO_MODELS_PYTHON"), sys.executable, "python3"):
        if python and subprocess.run([python, "-c", "import torch, tokenizers, numpy"], capture_output=True).returncode == 0:
            return python
    return None


def test_the_whole_recipe_runs_small(tmp_path):
    python = torch_python()
    if python is None:
        pytest.skip("torch, tokenizers and numpy are not installed (DEMO_MODELS_PYTHON names a Python that has them)")
    done = subprocess.run([python, str(TOOLS / "train.py"), "--smoke", "--work", str(tmp_path)], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines[-1]["loss"]["answer"] < 6  # untrained: 8.3
    assert "largest logit difference" in done.stdout
    grown = tmp_path / "grown.pt"
    done = subprocess.run([python, str(TOOLS / "grow.py"), str(tmp_path / "xs.pt"), "m", str(grown)], capture_output=True, text=True)
    assert done.returncode != 0 and "cannot be grown" in done.stderr
    question = {"cell": "one", "messages": [{"role": "user", "content": "[1] Ada is tall.\nQuestion: How is Ada?"}], "answer": "[1] tall"}
    asked = tmp_path / "asked.jsonl"
    asked.write_text(json.dumps(question) + "\n")
    done = subprocess.run([RUVLLM, "eval", "qa", str(tmp_path / "smoke.gguf"), str(asked), "--json", "-t", "1"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
