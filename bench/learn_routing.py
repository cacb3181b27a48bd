#!/usr/bin/env python3
"""Does the router get better while it is used? Mixed questions in one order, one at a time, through /v1/query; after each answer a
rating that follows from the known answer alone, through /v1/feedback. Controls: the same questions answered by each tier alone.

    bench/learn_routing.py RUVLLM [--questions N] [--seed S] [--data tests/data/qa/test.jsonl]

Each question's passages are notes of a user of its own, so that questions do not help each other through memory. The cost of a
request is the bytes of its model's weights per token, times the tokens it read and wrote; a draft that was thrown away is paid too.
One JSON line per control and half, and the comparison at the end."""

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


def run(program, rows, settings, rate):
    """[(right, model, tokens, draft model)] in order."""
    server = Server(program, *settings)
    sizes = {m["id"]: m["ruvllm"]["file_bytes"] for m in server.get("/v1/models")["data"] if m["ruvllm"].get("tier")}
    out = []
    for i, (_, passages, question, answer) in enumerate(rows):
        user = f"u{i}"
        for passage in passages:
            server.post("/v1/memories", {"text": passage, "user": user})
        got = server.post("/v1/query", {"query": question, "user": user, "constraints": {"max_tokens": 32}})
        right = value(got["text"]) == answer
        usage = got["usage"]
        draft = got["routing_info"]["reason"].startswith("the smaller model")
        out.append((right, got["routing_info"]["model"], usage["prompt_tokens"] + usage["completion_tokens"], draft, got["routing_info"]["fallback"]))
        if rate:
            server.post("/v1/feedback", {"request_id": got["request_id"], "rating": 5 if right else 1})
    rounds = [line for line in open(server.log.name, encoding="utf-8") if "router.learned" in line or "router.not_learned" in line]
    server.close()
    return out, sizes, rounds


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("ruvllm")
    options.add_argument("--questions", type=int, default=3000)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--data", default=os.path.join(os.path.dirname(__file__), "../tests/data/qa/test.jsonl"))
    options.add_argument("--explore", default="0.1")
    options.add_argument("--threshold", default="0.5")
    chosen = options.parse_args()
    rows = load(chosen.data, chosen.questions, chosen.seed)

    alone, sizes = {}, {}
    _, sizes, _ = run(chosen.ruvllm, [], ["learning.enabled=false"], False)
    tiers = sorted(sizes, key=sizes.get)
    for tier in tiers:
        alone[tier], _, _ = run(chosen.ruvllm, rows, ["learning.enabled=false", f"inference.model={tier}"], False)
        print(json.dumps({"test": "alone", "tier": tier, "questions": len(rows), "quality": mean(r[0] for r in alone[tier])}), flush=True)
    big = tiers[-1]
    routed, _, rounds = run(
        chosen.ruvllm,
        rows,
        [f"router.explore={chosen.explore}", f"router.confidence_threshold={chosen.threshold}", "learning.min_samples=150", "learning.training_interval_ms=1000"],
        True,
    )

    def half(name, of):
        cost = big_cost = right = cheapest = 0
        for i in of:
            ok, model, tokens, draft, _ = routed[i]
            cost += tokens * sizes[model] + (tokens * sizes[tiers[max(0, tiers.index(model) - 1)]] if draft else 0)
            big_cost += alone[big][i][2] * sizes[big]
            right += ok
            best = next((t for t in tiers if alone[t][i][0]), tiers[0])
            cheapest += model == best
        n = len(of)
        line = {
            "test": name, "questions": n, "quality": right / n, "always_largest_quality": mean(alone[big][i][0] for i in of), "cost": cost / big_cost,
            "cheapest_right_tier": cheapest / n, "small_share": mean(routed[i][1] == tiers[0] for i in of), "fallback": mean(routed[i][4] for i in of),
            "went_on": mean(routed[i][3] for i in of),
        }
        print(json.dumps(line), flush=True)
        return line

    middle = len(rows) // 2
    first = half("first half", range(middle))
    second = half("second half", range(middle, len(rows)))
    print(json.dumps({"test": "routing", "rounds": len(rounds), "last_round": rounds[-1].strip()[-300:] if rounds else "",
                      "least_cost_there_is": sizes[tiers[0]] / sizes[big], "quality_to_largest": second["quality"] - second["always_largest_quality"],
                      "cost_second_half": second["cost"], "share_gain": second["cheapest_right_tier"] - first["cheapest_right_tier"]}), flush=True)


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else 0


if __name__ == "__main__":
    main()
