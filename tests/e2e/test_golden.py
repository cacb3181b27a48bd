"""The measuring commands against exact outputs of a reference: `eval logits`, `dequant`, `tokenize`, `chat`, as a comparison from
outside would call them. Tolerances are those of ../shared/golden/lfm2/README.md."""
import array
import json
import math
import os
import pathlib
import struct
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT.parent / "shared" / "golden" / "lfm2"
RUVLLM = os.environ.get("RUVLLM", str(ROOT / "build" / "release" / "ruvllm"))

pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason="../shared/golden is absent")
MANIFEST = json.loads((GOLDEN / "manifest.json").read_text()) if GOLDEN.is_dir() else {"models": [], "dequant": []}
PROMPTS = [(m, name) for m in MANIFEST["models"] for name in m["prompts"]]


def floats(path):
    rows = array.array("f")
    rows.frombytes(pathlib.Path(path).read_bytes())
    return rows


def logits(tmp_path, model, prompt, *options, level=None):
    first, last = prompt["positions"]
    out = tmp_path / "logits.f32"
    ids = ",".join(str(i) for i in prompt["ids"][: last + 1])
    subprocess.run([RUVLLM, "eval", "logits", str(GOLDEN / model["file"]), "--ids", ids, "--from", str(first), "--out",
                    str(out), *options], check=True, env=os.environ | ({"RV_CPU": level} if level else {}))
    return floats(out)


def argmax_rows(rows, width):
    return [max(range(at, at + width), key=rows.__getitem__) - at for at in range(0, len(rows), width)]


@pytest.mark.parametrize("model,name", PROMPTS, ids=lambda v: v if isinstance(v, str) else v["file"])
def test_logits_are_those_of_the_reference(tmp_path, model, name):
    prompt = model["prompts"][name]
    reference = floats(GOLDEN / prompt["ref"])
    exact = logits(tmp_path, model, prompt, "--act", "f32", "--kv", "f32")
    assert len(exact) == len(reference)
    worst = max(abs(a - b) for a, b in zip(exact, reference))
    assert worst <= (1e-3 if model["type"] == "F32" else 2e-3)
    if model["type"] == "F32":
        assert argmax_rows(exact, prompt["vocab"]) == argmax_rows(reference, prompt["vocab"])
        return
    fast = logits(tmp_path, model, prompt, "--kv", "f32")
    errors = [a - b for a, b in zip(fast, reference)]
    bound = prompt["llama_vs_ref"]
    assert math.sqrt(sum(e * e for e in errors) / len(errors)) <= 1.5 * bound["rms"]
    assert max(abs(e) for e in errors) <= 2 * bound["max_abs"]


@pytest.mark.parametrize("level", ["scalar", "avx2", "avx512", "neon"])
@pytest.mark.parametrize("model,name", PROMPTS, ids=lambda v: v if isinstance(v, str) else v["file"])
def test_the_q8_cache_keeps_the_tolerances_at_every_level(tmp_path, model, name, level):
    """A level this machine cannot run is logged and the best one taken instead, which is then tested twice."""
    prompt = model["prompts"][name]
    reference, bound = floats(GOLDEN / prompt["ref"]), prompt["llama_vs_ref"]
    errors = [a - b for a, b in zip(logits(tmp_path, model, prompt, "--kv", "q8", level=level), reference)]
    exact = model["type"] in ("F32", "F16", "BF16")
    assert math.sqrt(sum(e * e for e in errors) / len(errors)) <= (1e-2 if exact else 1.5 * bound["rms"])
    assert max(abs(e) for e in errors) <= (6e-2 if exact else 2 * bound["max_abs"])


@pytest.mark.parametrize("model,name", PROMPTS, ids=lambda v: v if isinstance(v, str) else v["file"])
def test_chunks_and_threads_do_not_change_a_bit(tmp_path, model, name):
    prompt = model["prompts"][name]
    whole = logits(tmp_path, model, prompt, "--threads", "1")
    for options in (["--threads", "2"], ["--chunk", "1"], ["--chunk", "7", "--threads", "2"]):
        assert logits(tmp_path, model, prompt, *options) == whole, options


@pytest.mark.parametrize("case", MANIFEST["dequant"], ids=lambda c: c["values"])
def test_dequantised_rows_to_one_ulp(tmp_path, case):
    out = tmp_path / "rows.f32"
    subprocess.run([RUVLLM, "eval", "dequant", str(GOLDEN / case["file"]), case["tensor"], "--rows", str(case["rows"]), "--out",
                    str(out)], check=True)
    found, wanted = out.read_bytes(), (GOLDEN / case["values"]).read_bytes()
    assert len(found) == len(wanted)
    as_int = "<%di" % (len(found) // 4)
    assert max(abs(a - b) for a, b in zip(struct.unpack(as_int, found), struct.unpack(as_int, wanted))) <= 1


@pytest.mark.parametrize("vocabulary", ["small", "full"])
@pytest.mark.parametrize("key,options", [("ids", []), ("ids_bos", ["--bos"]), ("ids_no_special", ["--no-special"])])
def test_every_line_of_the_tokenizer_files(vocabulary, key, options):
    cases = [json.loads(line) for line in (GOLDEN / f"tokenizer-{vocabulary}.jsonl").read_text().splitlines()]
    lines = "".join(json.dumps({"text": c["text"]}) + "\n" for c in cases)
    done = subprocess.run([RUVLLM, "eval", "tokenize", str(GOLDEN / f"vocab-{vocabulary}.gguf"), "--jsonl", *options],
                          input=lines, capture_output=True, text=True, check=True)
    assert [json.loads(line)["ids"] for line in done.stdout.splitlines()] == [c[key] for c in cases]


def test_every_line_of_the_chat_file():
    cases = [json.loads(line) for line in (GOLDEN / "chat.jsonl").read_text().splitlines()]
    keys = ("messages", "tools", "add_generation_prompt")
    lines = "".join(json.dumps({k: c[k] for k in keys if k in c}) + "\n" for c in cases)
    done = subprocess.run([RUVLLM, "eval", "chat", str(GOLDEN / "vocab-full.gguf"), "--jsonl"], input=lines,
                          capture_output=True, text=True, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(f["prompt"], f["ids"]) for f in found] == [(c["prompt"], c["ids"]) for c in cases]


def test_hostile_model_files_are_refused_in_one_sentence(tmp_path):
    maker = ROOT.parent / "shared" / "hostile" / "make_hostile_gguf.py"
    subprocess.run(["python3", str(maker), "gen", str(tmp_path)], check=True, stdout=subprocess.DEVNULL)
    done = subprocess.run(["python3", str(maker), "check", str(tmp_path), RUVLLM, "show", "{}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
