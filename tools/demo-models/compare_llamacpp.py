"""Do llama.cpp and ruvllm give the same answers from the shipped files, token for token?

    compare_llamacpp.py models/demo-*.gguf --ruvllm build/release/ruvllm

Takes 20 questions of tests/data/qa/test.jsonl, of every kind in turn, and lets both decode greedily. llama.cpp is Debian sid's
llama-server in the chroot that bench/llm_vs_llamacpp.sh makes; it gets our token ids. Two programs that add in another order may part
where two tokens are nearly equally probable: at the first difference the reference's own margin, ln p(first) - ln p(second), is
printed, and only a difference at more than --margin is an error. Standard library only; as root because of the chroot.
"""

import argparse
import http.client
import json
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
END = "<|im_end|>"


def questions(data: Path, count: int) -> list[dict]:
    """The first question of every cell, then the second of every cell, and so on."""
    cells: dict[str, list[dict]] = {}
    for line in data.read_text().splitlines():
        row = json.loads(line)
        cells.setdefault(row["cell"], []).append(row)
    turns = [row for turn in zip(*cells.values()) for row in turn]
    return turns[:count]


def ours(ruvllm: Path, model: Path, asked: list[dict], work: Path) -> tuple[list[list[int]], list[str]]:
    """Prompt ids and greedy answers."""
    lines = "\n".join(json.dumps(dict(messages=row["messages"])) for row in asked) + "\n"
    chat = subprocess.run([ruvllm, "eval", "chat", model], input=lines, capture_output=True, text=True, check=True).stdout
    source, out = work / "asked.jsonl", work / "answers.jsonl"
    source.write_text("\n".join(json.dumps(row) for row in asked) + "\n")
    subprocess.run([ruvllm, "eval", "qa", model, source, "--out", out, "-t", "1"], check=True, stdout=subprocess.DEVNULL)
    return [json.loads(line)["ids"] for line in chat.splitlines()], [json.loads(line)["found"] for line in out.read_text().splitlines()]


class Reference:
    """llama-server on one model, for as long as the `with` block lasts."""

    def __init__(self, chroot: Path, model: Path):
        self.chroot, self.model = chroot, model

    def __enter__(self):
        if not (self.chroot / "proc" / "self").exists():
            subprocess.run(["mount", "-t", "proc", "proc", self.chroot / "proc"], check=True)
        self.file = self.chroot / "compare.gguf"
        shutil.copyfile(self.model, self.file)
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.process = subprocess.Popen(["chroot", self.chroot, "llama-server", "-m", "/compare.gguf", "--host", "127.0.0.1", "--port", str(self.port), "-t", "1", "-np", "1",
                                         "-c", "2048", "--no-webui"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            try:
                if self.call("GET", "/health").get("status") == "ok":
                    return self
            except OSError:
                pass
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        self.__exit__()
        raise SystemExit(f"llama-server does not load {self.model}")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.file.unlink()

    def call(self, method: str, path: str, body: dict | None = None) -> dict:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
        return json.loads(connection.getresponse().read())

    def answer(self, ids: list[int]) -> list[tuple[bytes | None, float]]:
        """The bytes of each token and the margin to the second best one; the end of the turn comes last, as None."""
        body = dict(prompt=ids, temperature=0, n_predict=64, n_probs=2, cache_prompt=False)
        steps = []
        for step in self.call("POST", "/completion", body)["completion_probabilities"]:
            first, second = step["top_logprobs"][:2]
            margin = first["logprob"] - second["logprob"]
            if first["token"] == END:
                steps.append((None, margin))
                break
            steps.append((bytes(first["bytes"]), margin))
        return steps


def first_difference(text: bytes, steps: list[tuple[bytes | None, float]]) -> float | None:
    """The reference's margin where our text leaves its tokens; None if it never does."""
    at = 0
    for piece, margin in steps:
        if (piece is None and at < len(text)) or (piece is not None and text[at : at + len(piece)] != piece):
            return margin
        at += len(piece or b"")
    return None


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("models", type=Path, nargs="+")
    options.add_argument("--ruvllm", type=Path, default=ROOT / "build" / "release" / "ruvllm")
    options.add_argument("--data", type=Path, default=ROOT / "tests" / "data" / "qa" / "test.jsonl")
    options.add_argument("--chroot", type=Path, default=Path("/var/tmp/llama-sid"))
    options.add_argument("--count", type=int, default=20)
    options.add_argument("--margin", type=float, default=0.5, help="how near two tokens may be for the order of sums to decide, in ln p")
    chosen = options.parse_args()
    if not (chosen.chroot / "usr" / "bin" / "llama-server").exists():
        raise SystemExit(f"no llama-server in {chosen.chroot}: run bench/llm_vs_llamacpp.sh once")
    asked, wrong = questions(chosen.data, chosen.count), 0
    for model in chosen.models:
        with tempfile.TemporaryDirectory() as work, Reference(chosen.chroot, model) as reference:
            prompts, texts = ours(chosen.ruvllm, model, asked, Path(work))
            same, near = 0, []
            for row, ids, text in zip(asked, prompts, texts):
                steps = reference.answer(ids)
                margin = first_difference(text.encode(), steps)
                if margin is None:
                    same += 1
                    continue
                near.append(margin)
                theirs = b"".join(piece or b"" for piece, _ in steps).decode(errors="replace")
                print(f"{model.name}: {row['cell']}: ours {text!r}, llama.cpp {theirs!r}, its margin there {margin:.3f}")
            print(f"{model.name}: {same} of {len(asked)} answers the same token for token" + (f"; margins where not: up to {max(near):.3f}" if near else ""))
            wrong += sum(m > chosen.margin for m in near)
    if wrong:
        raise SystemExit(f"{wrong} answers differ where the reference is sure")


if __name__ == "__main__":
    main()
