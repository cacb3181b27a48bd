"""Versions of adapters as a user sees them."""
import json
import os
import subprocess

import pytest

from conftest import ROOT, RUVLLM

MODELS = ROOT / "models"


@pytest.fixture
def run(tmp_path):
    if not (MODELS / "demo-xs.gguf").is_file() or not (MODELS / "demo-l.gguf").is_file():
        pytest.skip("models/ is empty")
    env = {k: v for k, v in os.environ.items() if not k.startswith("RUVLLM")}
    env |= {"RUVLLM_DATA": str(tmp_path / "data"), "RUVLLM_MODELS": str(MODELS)}

    def one(*words, code=0):
        done = subprocess.run([RUVLLM, *map(str, words)], capture_output=True, text=True, env=env, cwd=tmp_path)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    return one


def test_a_version_is_exported_for_the_model_it_was_made_for(run, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"what is {i}?", "answer": "so"}) + "\n" for i in range(4)))
    style = tmp_path / "style.gguf"
    run("adapter", "train", "--data", rows, "--out", style, "--model", "350m", "--steps", 1, "--rank", 2, "--held-out", 0)
    run("adapter", "load", style, "--model", "350m")
    run("adapter", "export", 1, "--out", tmp_path / "by_number")  # the default model is another one
    run("adapter", "export", style, "--model", "350m", "--out", tmp_path / "by_name")
    weights = [(tmp_path / by / "adapter_model.safetensors").read_bytes() for by in ("by_number", "by_name")]
    assert weights[0] == weights[1]
    assert "there is no adapter 99" in run("adapter", "export", 99, "--out", tmp_path / "none", code=1)
    said = run("adapter", "export", 1, "--out", tmp_path / "none", "--set", f"tiers.350m={MODELS / 'demo-s.gguf'}", code=1)
    assert "is for the model" in said and "--model" in said
    assert not (tmp_path / "none").exists()


def test_a_name_of_a_user_is_shown_and_not_obeyed(run):
    golden = ROOT / "tests" / "data" / "golden"
    odd = "anna\x1b[2J"
    run("adapter", "load", golden / "a-lora.gguf", "--model", "350m", "--user", odd, "--set", f"tiers.350m={golden / 'a-q8_0.gguf'}")
    said = run("adapter", "list")
    assert "user anna\\x1b[2J" in said and "\x1b" not in said
