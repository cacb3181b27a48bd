"""Write the test split as JSON lines for `ruvllm eval qa`: {"cell", "messages", "answer"}.

    make_test.py --count 100 --out tests/data/qa/test.jsonl

The seed is fixed: the same command writes the same file. The hand-written questions are always all there.
"""

import argparse
import json
from pathlib import Path

import cells
import questions
import tasks

SEED = 20260


def line(cell: str, example: tasks.Example) -> str:
    text, reply = example.turns[0]
    content = tasks.user_text(example.passages, text, example.bare)
    messages = [dict(role=role, content=said) for asked, given in example.history for role, said in (("user", f"Question: {asked}"), ("assistant", given))]
    return json.dumps(dict(cell=cell, messages=messages + [dict(role="user", content=content)], answer=reply), ensure_ascii=False)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--count", type=int, default=100, help="questions in each generated cell")
    options.add_argument("--out", type=Path, default=questions.DATA / "test.jsonl")
    chosen = options.parse_args()
    lines = [line(cell.name, e) for cell in cells.CELLS for e in cells.examples(cell, chosen.count, SEED)]
    lines += [line(cell, e) for cell, found in questions.plain().items() for e in found]
    chosen.out.write_text("\n".join(lines) + "\n")
    print(f"{chosen.out}: {len(lines)} questions, {chosen.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
