#!/usr/bin/env python3
"""What a quantised cache costs in words: engine_kv.py RUVLLM MODEL [THREADS [COUNT]].

Perplexity over whole contexts of 4,096 tokens, or as many as the model holds, with keys and values in half precision, as q8
and as q4. The text is the first COUNT (499) questions and answers of tests/data/qa, one behind the other. One JSON
line a type: by how much of itself perplexity is off, in percent, and what is wanted (`bar`)."""
import json, os, subprocess, sys, tempfile

ours, model = sys.argv[1:3]
threads, count = (sys.argv[3:] + ["2", "499"][len(sys.argv) - 3:])[:2]
root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")


def perplexity(text, kv):
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(text)
        file.flush()
        out = subprocess.run([ours, "eval", "perplexity", model, file.name, "--kv", kv, "-t", threads, "--json"], check=True,
                             stdout=subprocess.PIPE).stdout
    return json.loads(out)


with open(os.path.join(root, "tests/data/qa/test.jsonl")) as rows:
    asked = [json.loads(next(rows)) for _ in range(int(count))]
text = "".join(row["messages"][-1]["content"] + "\n" + row["answer"] + "\n\n" for row in asked)

exact = perplexity(text, "f16")
for kv, bar in (("q8", 0.1), ("q4", 1.0)):
    got = perplexity(text, kv)
    off = abs(got["perplexity"] / exact["perplexity"] - 1) * 100
    print(json.dumps({
        "bench": "engine_kv", "model": os.path.basename(model), "kv": kv, "tokens": got["tokens"], "context": got["window"],
        "perplexity": round(got["perplexity"], 4), "perplexity_f16": round(exact["perplexity"], 4),
        "figure": round(off, 4), "unit": "percent", "bar": bar, "met": off <= bar}))
