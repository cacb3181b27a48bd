"""Measure the shipped files with the program itself and print the table of models/README.md.

    table.py --ruvllm build/release/ruvllm ../../models/demo-xs.gguf ../../models/demo-s.gguf

Runs `ruvllm eval qa` (greedy, whole answer with citations) over tests/data/qa/test.jsonl and reads its --out file.
"""

import argparse
import json
import re
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path

import questions
from tasks import REFUSAL


def bare(text: str) -> str:
    """The value alone: no citations, no article, lower case."""
    text = re.sub(r"\[\d+\]\s*", "", text).strip().lower()
    return re.sub(r"^(the|a|an) ", "", text)


def measure(ruvllm: Path, model: Path, data: Path) -> dict[str, list[tuple[str, str]]]:
    """Pairs of right and given answer for each cell."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "answers.jsonl"
        subprocess.run([ruvllm, "eval", "qa", model, data, "--out", out, "-t", "1"], check=True, stdout=subprocess.DEVNULL)
        cells: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for line in out.read_text().splitlines():
            row = json.loads(line)
            cells[row["cell"]].append((row["answer"], row["found"]))
    return cells


def per_cent(hits: list[bool]) -> float:
    return 100 * sum(hits) / max(1, len(hits))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("models", type=Path, nargs="+")
    options.add_argument("--ruvllm", type=Path, required=True)
    options.add_argument("--data", type=Path, default=questions.DATA / "test.jsonl")
    chosen = options.parse_args()
    columns = {path.stem: measure(chosen.ruvllm, path, chosen.data) for path in chosen.models}
    cells = list(next(iter(columns.values())))
    generated = [c for c in cells if not c.startswith("plain")]

    def row(name: str, figures: list[str], count: int | str = "") -> None:
        print(f"| {name} | {count} | " + " | ".join(figures) + " |")

    row("cell: whole answer right / value right, %", list(columns), "n")
    print("|---|---|" + "---|" * len(columns))
    whole = {name: {cell: per_cent([a == f for a, f in rows]) for cell, rows in found.items()} for name, found in columns.items()}
    for cell in cells:
        values = [per_cent([bare(a) == bare(f) for a, f in found[cell]]) for found in columns.values()]
        row(cell, [f"{whole[n][cell]:.0f} / {v:.0f}" for n, v in zip(columns, values)], len(next(iter(columns.values()))[cell]))
    row("**mean of the generated cells**", [f"**{sum(whole[n][c] for c in generated) / len(generated):.1f}**" for n in columns])
    plain = {n: [pair for c in cells if c not in generated for pair in found[c]] for n, found in columns.items()}
    row("**all hand-written questions**", [f"**{per_cent([a == f for a, f in rows]):.0f} / {per_cent([bare(a) == bare(f) for a, f in rows]):.0f}**" for rows in plain.values()],
        len(next(iter(plain.values()))))
    scores = {n: [abs(int(a) - int(f)) <= 1 if f.isdigit() else False for a, f in found["judge 4"]] for n, found in columns.items()}
    row("judge 4, within one point", [f"{per_cent(hits):.0f}" for hits in scores.values()], len(next(iter(scores.values()))))
    answerable = {n: [f == REFUSAL for c, rows in found.items() if c in ("one-hop 3", "notes 4") for _, f in rows] for n, found in columns.items()}
    row("false refusals, one-hop 3 and notes 4", [f"{per_cent(hits):.1f}" for hits in answerable.values()])


if __name__ == "__main__":
    main()
