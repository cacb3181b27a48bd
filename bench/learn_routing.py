#!/usr/bin/env python3
"""Does the router get better while it is used? Mixed questions in one order, one at a time, through /v1/query; after each answer a
rating that follows from the known answer alone, through /v1/feedback. Controls: the same questions answered by each tier alone.

    bench/learn_routing.py RUVLLM [--questions N] [--seed S] [--data F.jsonl] [--controls DIR [--record]]

The data are those of `ruvllm eval qa`: tests/data/qa/test.jsonl has 2,219 questions that stand alone with their passages;
`tools/demo-models/make_test.py --count 160 --out F.jsonl` writes 3,419. Each question's passages are notes of a user of its own, so that
questions do not help each other through memory. The cost of a request is the bytes of its model's weights per token, times the tokens
it read and wrote; drafts that were thrown away are paid too, and what other tiers were asked beside to learn from. The controls do not learn, so their order does not matter: DIR keeps
their answers for the next run with the same models. One JSON line per control and half, and the comparison at the end."""

import argparse
import http.client
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

# Cells whose question stands alone with its passages.
LEFT_OUT = ("chat", "judge", "session")


def load(path, n, seed):
    rows = []
    for line in open(path, encoding="utf-8"):
        row = json.loads(line)
        if row["cell"].startswith(LEFT_OUT) or len(row["messages"]) != 1:
            continue
        *passages, question = row["messages"][0]["content"].split("\n")
        if not passages or not question.startswith("Question: "):
            continue
        passages = [re.sub(r"^\[\d+\] ", "", p) for p in passages]
        rows.append((row["cell"], passages, question[len("Question: ") :], value(row["answer"])))
    random.Random(seed).shuffle(rows)
    return rows[:n]


def value(text):
    """An answer without its citations, case and final stop: they may be numbered otherwise here."""
    return re.sub(r"\s+", " ", re.sub(r"\[\d+\]", "", text)).strip().rstrip(".").lower()


class Server:
    def __init__(self, program, *settings):
        self.folder = tempfile.mkdtemp(prefix="ruvllm-bench-")
        self.log = open(os.path.join(self.folder, "log"), "w+", encoding="utf-8")
        command = [program, "serve", "--data", self.folder, "--port", "0"]
        for setting in settings:
            command += ["--set", setting]
        self.process = subprocess.Popen(command, stderr=self.log)
        self.connection = None
        for _ in range(600):
            found = re.search(r"http://127\.0\.0\.1:(\d+)/v1", open(self.log.name, encoding="utf-8").read())
            if found:
                self.connection = http.client.HTTPConnection("127.0.0.1", int(found.group(1)), timeout=300)
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        sys.exit("the server did not start:\n" + open(self.log.name, encoding="utf-8").read())

    def post(self, path, body):
        self.connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status not in (200, 201):
            sys.exit(f"{path}: {answer.status} {text[:300]}")
        return json.loads(text)

    def get(self, path):
        self.connection.request("GET", path)
        return json.loads(self.connection.getresponse().read())

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder)


def ask(server, user, passages, question):
    for passage in passages:
        server.post("/v1/memories", {"text": passage, "user": user})
    return server.post("/v1/query", {"query": question, "user": user, "constraints": {"max_tokens": 32}})


def tokens_of(usage):
    return usage["prompt_tokens"] + usage["completion_tokens"]


def sizes_of(server):
    return {m["id"]: m["ruvllm"]["file_bytes"] for m in server.get("/v1/models")["data"] if m["ruvllm"].get("tier")}


def control(program, rows, tier, size, folder):
    """[(right, cost)]: every question answered by this tier, without learning."""
    path = os.path.join(folder, f"{tier}-{size}.jsonl") if folder else None
    known = {}
    if path and os.path.exists(path):
        known = {json.dumps(r["asked"]): r for r in map(json.loads, open(path, encoding="utf-8"))}
    missing = [(i, r) for i, r in enumerate(rows) if json.dumps([r[1], r[2]]) not in known]
    if missing:
        server = Server(program, "learning.enabled=false", f"inference.model={tier}")
        for i, (_, passages, question, answer) in missing:
            got = ask(server, f"u{i}", passages, question)
            row = {"asked": [passages, question], "right": value(got["text"]) == answer, "tokens": tokens_of(got["usage"]), "confidence": got["confidence"],
                   "text": got["text"], "sources": [s["text"] for s in got["sources"]]}
            known[json.dumps(row["asked"])] = row
            if path:
                with open(path, "a", encoding="utf-8") as out:
                    out.write(json.dumps(row) + "\n")
        server.close()
    found = [known[json.dumps([r[1], r[2]])] for r in rows]
    return [(r["right"], r["tokens"] * size) for r in found]


def routed(program, rows, settings, sizes):
    """What became of each question, in order, and what the log says of rounds of learning."""
    server = Server(program, *settings)
    out = []
    for i, (cell, passages, question, answer) in enumerate(rows):
        got = ask(server, f"u{i}", passages, question)
        right, how, drafts = value(got["text"]) == answer, got["routing_info"], got["routing_info"].get("drafts", [])
        cost = tokens_of(got["usage"]) * sizes[how["model"]] + sum(draft["tokens"] * sizes[draft["model"]] for draft in drafts)
        out.append({"cell": cell, "right": right, "model": how["model"], "cost": cost, "fallback": how["fallback"],
                    "drafts": [draft["model"] for draft in drafts], "tried": False, "p": how["model_probs"], "request": got["request_id"]})
        server.post("/v1/feedback", {"request_id": got["request_id"], "rating": 5 if right else 1})
        if i % 500 == 499 or i == len(rows) - 1:  # what other tiers were asked beside, to learn from it, is paid too
            time.sleep(2)
            asked = {d["request_id"]: d["routing"] for d in server.get("/v1/router/decisions?limit=1000")["data"]}
            for row in out[i // 500 * 500 :]:
                tries = (asked[row["request"]] or {}).get("tries", [])
                row["cost"] += sum(t["tokens"] * sizes[t["model"]] for t in tries)
                row["tried"] = len(tries) > 0
    rounds = [line.strip() for line in open(server.log.name, encoding="utf-8") if "router.learned" in line or "router.not_learned" in line]
    server.close()
    return out, rounds


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("ruvllm")
    options.add_argument("--questions", type=int, default=3000)
    options.add_argument("--seed", type=int, default=1, help="of the order of the questions")
    options.add_argument("--data", default=os.path.join(os.path.dirname(__file__), "../tests/data/qa/test.jsonl"))
    options.add_argument("--controls", help="folder that keeps the controls' answers")
    options.add_argument("--record", action="store_true", help="only the controls, of all questions that --questions and --seed choose")
    options.add_argument("--set", action="append", default=[], help="a setting of the routed run, as serve takes it")
    options.add_argument("--log", help="file for one line per question of the routed run and the rounds of learning")
    chosen = options.parse_args()
    rows = load(chosen.data, chosen.questions, chosen.seed)
    if chosen.controls:
        os.makedirs(chosen.controls, exist_ok=True)

    server = Server(chosen.ruvllm, "learning.enabled=false")
    sizes = sizes_of(server)
    server.close()
    tiers = sorted(sizes, key=sizes.get)
    alone = {tier: control(chosen.ruvllm, rows, tier, sizes[tier], chosen.controls) for tier in tiers}
    big = tiers[-1]
    best = [next((t for t in tiers if alone[t][i][0]), tiers[0]) for i in range(len(rows))]
    for tier in tiers:
        print(json.dumps({"test": "alone", "tier": tier, "questions": len(rows), "quality": mean(r[0] for r in alone[tier]),
                          "cost": sum(r[1] for r in alone[tier]) / sum(r[1] for r in alone[big]), "cheapest_right_tier": mean(b == tier for b in best)}), flush=True)
    if chosen.record:
        return
    # A question takes a twentieth of a second here, not a minute; all tiers stay in memory.
    learning = ["learning.training_interval_ms=1000", f"inference.max_loaded_models={len(tiers)}"]
    done, rounds = routed(chosen.ruvllm, rows, learning + chosen.set, sizes)
    if chosen.log:
        with open(chosen.log, "w", encoding="utf-8") as out:
            out.writelines(json.dumps(r) + "\n" for r in done)
            out.writelines(r + "\n" for r in rounds)

    def part(name, of):
        big_cost = sum(alone[big][i][1] for i in of)
        line = {"test": name, "questions": len(of), "quality": mean(done[i]["right"] for i in of), "always_largest_quality": mean(alone[big][i][0] for i in of),
                "cost": sum(done[i]["cost"] for i in of) / big_cost, "cheapest_right_tier": mean(done[i]["model"] == best[i] for i in of),
                "shares": {t: mean(done[i]["model"] == t for i in of) for t in tiers}, "default": mean(done[i]["fallback"] for i in of),
                "tried": mean(done[i]["tried"] for i in of), "answers": mean(1 + len(done[i]["drafts"]) for i in of)}
        print(json.dumps(line), flush=True)
        return line

    middle = len(rows) // 2
    first = part("first half", range(middle))
    second = part("second half", range(middle, len(rows)))
    print(json.dumps({"test": "routing", "seed": chosen.seed, "rounds": len(rounds), "used": sum('"used: ' in r for r in rounds),
                      "quality_to_largest": second["quality"] - second["always_largest_quality"], "cost_second_half": second["cost"],
                      "share_gain": second["cheapest_right_tier"] - first["cheapest_right_tier"],
                      "share_always_largest": mean(best[i] == big for i in range(middle, len(rows)))}), flush=True)


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else 0


if __name__ == "__main__":
    main()
