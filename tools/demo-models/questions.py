"""The hand-written questions: plain English about examples/notes and other small documents, never seen in training.

tests/data/qa/plain.txt names, for every question, the section that holds the answer. The prompt shows that section among
the others of the same collection that share most words with the question, as a retriever would hand them over.
"""

import re
from pathlib import Path

from tasks import REFUSAL, Example, answer
from words import crc

ROOT = Path(__file__).resolve().parent.parent.parent
NOTES, DATA = ROOT / "examples" / "notes", ROOT / "tests" / "data" / "qa"
SHOWN = 5  # passages in a prompt
_COMMON = frozenset("a an the of is are was were do does did in on at to for by with and or what which who when where how much many long i can it its be we you from".split())


def sections(path: Path) -> dict[str, str]:
    """Section name to passage text: `Title. Heading. Sentences`, as the product cuts a page; the paragraphs of a plain text file are numbered."""
    found: dict[str, str] = {}
    if path.suffix == ".txt":
        paragraphs = path.read_text().strip().split("\n\n")[1:]
        return {f"{path.stem}#{n}": " ".join(p.split()) for n, p in enumerate(paragraphs, 1)}
    head, *blocks = re.split(r"^## ", path.read_text(), flags=re.M)
    title = head.splitlines()[0].strip("# ")
    for block in blocks:
        heading, body = block.split("\n", 1)
        found[f"{path.stem}#{heading.strip()}"] = f"{title}. {heading.strip()}. {' '.join(body.split())}"
    return found


def collections() -> list[dict[str, str]]:
    """Documents that would lie in one store: the example notes, and the others."""
    notes: dict[str, str] = {}
    for path in sorted(NOTES.glob("*.*")):
        notes |= sections(path)
    return [notes, sections(DATA / "other-notes.md")]


def words_of(text: str) -> set[str]:
    return {re.sub(r"s$", "", w) for w in re.findall(r"[a-z0-9]+", text.lower())} - _COMMON


def _example(store: dict[str, str], places: list[str], text: str, value: str, fix: str) -> Example:
    asked = words_of(text)
    needed = [store[p] for p in places]
    others = sorted((p for p in store.values() if p not in needed), key=lambda p: (-len(asked & words_of(p)), crc(p + text)))
    shown = needed + ([f"Correction: {fix}"] if fix else [])
    shown += others[: SHOWN - len(shown)]
    shown.sort(key=lambda p: crc(text + p))
    cited = [f"Correction: {fix}"] if fix else needed
    reply = REFUSAL if value == "-" else answer(value, [shown.index(p) + 1 for p in cited])
    return Example(shown, [(text, reply)])


def plain() -> dict[str, list[Example]]:
    """Kind of question to exercises: one section, two sections, corrected, not there."""
    found: dict[str, list[Example]] = {"plain one-hop": [], "plain two-hop": [], "plain correction": [], "plain refusal": []}
    stores = collections()
    for line in (DATA / "plain.txt").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        parts = [p.strip() for p in line.split(" | ")]
        fix = ""
        if line.startswith("fix "):
            fix, text, value, place = parts[0].removeprefix("fix "), parts[1], parts[2], parts[3]
        else:
            place, text, value = parts
        places = place.split(" + ")
        store = next(s for s in stores if places[0] in s)
        kind = "correction" if fix else "refusal" if value == "-" else "two-hop" if len(places) > 1 else "one-hop"
        found[f"plain {kind}"].append(_example(store, places, text, value, fix))
    return found
