"""The sentences the table is fitted on: openly licensed, and none of the questions retrieval is measured with.

  MMLU, GSM8K, MATH and CRUX questions of the training split (MIT, Apache-2.0), CLINC150 (CC BY 3.0) and Banking77
  (CC BY 4.0) training phrases, PandaLM and LLMBar instructions and answers (Apache-2.0, MIT), SciFact training claims
  (CC BY 4.0), the one-line descriptions of Debian's packages, functions of Python's own library (PSF-2.0).
  For the second fit definitions and examples of WordNet 3.0 (WordNet licence), from Debian's wordnet-base.
"""
import ast
import json
import pathlib
import random
import re
import subprocess
import sysconfig

LONGEST = 64  # tokens; a code sample and a long answer is cut there


def lines_of(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def functions(limit_bytes=1200):
    """Source of documented functions of the standard library: the documentation is inside."""
    found = []
    for path in sorted(pathlib.Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3"} & set(path.parts):
            continue
        try:
            source = path.read_text("utf-8")
            tree = ast.parse(source)
        except (SyntaxError, UnicodeDecodeError, ValueError):
            continue
        lines = source.splitlines()
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and ast.get_docstring(node):
                text = "\n".join(lines[node.lineno - 1 : node.end_lineno])
                found.append(text[:limit_bytes])
                found.append(ast.get_docstring(node).split("\n\n")[0])
    return found


def synopses():
    dump = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True, check=False).stdout
    begin = "Description: "
    return [line[len(begin):] for line in dump.splitlines() if line.startswith(begin)]


def definitions(folder=pathlib.Path("/usr/share/wordnet"), seed=5):
    """WordNet's definitions, each with one of its words before it or all of them, and the examples of five words and more; shuffled."""
    dice = random.Random(seed)
    found = []
    for part in ("noun", "verb", "adj", "adv"):
        for line in (folder / f"data.{part}").read_text("latin-1").splitlines():
            if line.startswith("  "):  # the licence
                continue
            head, _, gloss = line.partition(" | ")
            fields = head.split()
            words = [re.sub(r"\(.*\)", "", word).replace("_", " ") for word in fields[4 : 4 + 2 * int(fields[3], 16) : 2]]
            definition = gloss.strip().split('; "')[0].strip()
            found.append((f"{words[0]}: " if dice.random() < 0.5 else ", ".join(words) + " is ") + definition)
            found += [example for example in re.findall(r'"([^"]+)"', gloss) if len(example.split()) >= 5]
    dice.shuffle(found)
    print(f"wordnet: {len(found)} texts", flush=True)
    return found


def collect(data, seed=0):
    """Every text once, shuffled; data is the folder with routing/, intent/, judge/ and retrieval/."""
    data = pathlib.Path(data)
    dice = random.Random(seed)
    parts = {"routing": [], "intent": [], "judge": [], "claims": [], "debian": synopses(), "python": functions()}
    for name in ("routellm_mmlu", "zeroeval_gsm_crux_math"):
        for row in lines_of(data / "routing" / f"{name}.jsonl"):
            if row["split"] == "train":
                parts["routing"].append(row["prompt"].split("\nA. ")[0])
    for name in ("clinc150", "banking77"):
        for line in (data / "intent" / f"{name}.tsv").read_text("utf-8").splitlines():
            split, _, text = line.split("\t", 2)
            if split.endswith("train"):
                parts["intent"].append(text)
    for name in ("pandalm", "llmbar"):
        for row in lines_of(data / "judge" / f"{name}.jsonl"):
            for key, value in row.items():
                if key not in ("id", "set") and isinstance(value, str) and len(value) > 20:
                    parts["judge"].append(value)
    for row in lines_of(data / "retrieval" / "scifact.queries.jsonl"):
        if row["part"] == "train":
            parts["claims"].append(row["q"])
    most = {"routing": 9000, "intent": 9000, "judge": 5000, "claims": 1000, "debian": 30000, "python": 8000}
    texts = []
    for name, part in parts.items():
        part = sorted(set(part))
        dice.shuffle(part)
        print(f"{name}: {len(part)} texts, {min(len(part), most[name])} used", flush=True)
        texts += part[: most[name]]
    dice.shuffle(texts)
    return texts
