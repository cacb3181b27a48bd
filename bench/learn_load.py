#!/usr/bin/env python3
"""What does learning cost whoever asks? Two servers of one build, learning on and off, are asked the same questions in turns, by one client and by several.

    bench/learn_load.py FOLDER [--warm 3000] [--seconds 5] [--rounds 5] [--clients 1,4] [--every 3600]

Both hold the same notes, in FOLDER, which is made the first time: then --warm questions are asked and rated, so that what is measured is a server that has been in
use, not one that asks all tiers because it knows nothing. With learning on every second answer is rated (beside the clock of the request, but on the same machine)
and the background loop runs every --every seconds. Prints one JSON line for each load level: requests and
median and p99 in milliseconds with learning off and on, of all rounds together, the ratio of the two p99, and the smallest and largest ratio of a round.
"""
import argparse
import json
import random
import statistics
import threading
import time
from pathlib import Path

import learn_corrections as corrections

ROOT = Path(__file__).resolve().parent.parent


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


class Side:
    def __init__(self, name, program, folder, models, extra):
        self.learns = name == "on"
        self.server = corrections.Server(program, Path(folder) / name, models, extra)

    def load(self, questions, clients, seconds, seed, most=1 << 60):
        """Latencies in milliseconds of clients that ask one question after the other, for so long or so many."""
        latencies, until = [], time.monotonic() + seconds

        def client(number):
            draw, asked = random.Random(seed * 100 + number), 0
            while time.monotonic() < until and len(latencies) < most:
                question, value = draw.choice(questions)
                began = time.perf_counter()
                answer = self.server.post("/v1/query", {"query": question})
                latencies.append(1000 * (time.perf_counter() - began))
                asked += 1
                if asked % 2:
                    good = corrections.bare(answer["text"]) == corrections.bare(value)
                    body = {"request_id": answer["request_id"], "rating": 5 if good else 1}
                    if self.learns:
                        self.server.post("/v1/feedback", body)

        threads = [threading.Thread(target=client, args=(n,)) for n in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return latencies


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("--warm", type=int, default=3000, help="questions that are asked when FOLDER is made, every second of them rated")
    options.add_argument("--ruvllm", default=str(ROOT / "build" / "release" / "ruvllm"))
    options.add_argument("--models", default=str(ROOT / "models"))
    options.add_argument("--notes", type=int, default=300)
    options.add_argument("--seconds", type=float, default=5, help="of one round of one side")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--clients", default="1,4")
    options.add_argument("--every", type=float, default=3600, help="seconds between two background loops")
    options.add_argument("--set", action="append", default=[], help="of both servers, as --set of ruvllm")
    chosen = options.parse_args()
    both = [word for one in chosen.set for word in ("--set", one)]
    notes, asked = corrections.world(chosen.notes, 1)
    questions = [(q, a.value) for a in asked for q in a.questions]
    fresh = not chosen.folder.exists()
    sides = {
        "off": Side("off", chosen.ruvllm, chosen.folder, chosen.models, ["--set", "learning.enabled=false", *both]),
        "on": Side("on", chosen.ruvllm, chosen.folder, chosen.models, ["--set", f"sona.background_interval_ms={int(1000 * chosen.every)}", *both]),
    }
    try:
        for side in sides.values():
            for i, text in enumerate(notes if fresh else []):
                side.server.post("/v1/memories", {"text": text, "source": f"note-{i}"})
            side.load(questions, 2, 1e9, 0, chosen.warm if fresh and side.learns else 100)
        for clients in map(int, chosen.clients.split(",")):
            rounds = {name: [] for name in sides}
            for r in range(chosen.rounds):
                for name in list(sides) if r % 2 else list(sides)[::-1]:
                    rounds[name].append(sides[name].load(questions, clients, chosen.seconds, r + 1))
            all_of = {name: [x for one in rounds[name] for x in one] for name in sides}
            ratios = [percentile(on, 0.99) / percentile(off, 0.99) for on, off in zip(rounds["on"], rounds["off"])]
            row = {"clients": clients}
            for name in sides:
                row[name] = dict(requests=len(all_of[name]), p50_ms=round(statistics.median(all_of[name]), 2), p99_ms=round(percentile(all_of[name], 0.99), 2))
            row["p99_ratio"] = round(row["on"]["p99_ms"] / row["off"]["p99_ms"], 3)
            row["p99_ratio_of_rounds"] = [round(min(ratios), 3), round(max(ratios), 3)]
            print(json.dumps(row), flush=True)
    finally:
        for side in sides.values():
            side.server.stop()


if __name__ == "__main__":
    main()
