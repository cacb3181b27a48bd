#!/usr/bin/env python3
"""The router on questions whose outcome is known, goal by goal, each beside its controls: the hull (best mixture of two fixed tiers),
always the largest, length alone, and a table of mean outcomes per task.

    bench/router_goals.py RUVLLM DATA [--seed 1]

DATA holds routellm_mmlu.jsonl, routerbench_arc_mbpp_wino.jsonl and zeroeval_gsm_crux_math.jsonl. Each set is learned from its rows
`train` and measured on `test`. One JSON line per goal: what was found, what is asked for, whether it is met, and the controls."""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile

SETS = {
    "MMLU": ("routellm_mmlu.jsonl", "mixtral-8x7b,gpt-4-1106"),
    "RouterBench": ("routerbench_arc_mbpp_wino.jsonl", "mistral-7b,mixtral-8x7b,gpt-3.5-1106,gpt-4-1106"),
    "gemma-2 and Llama-3.1": ("zeroeval_gsm_crux_math.jsonl", "gemma-2-2b-it,gemma-2-9b-it,gemma-2-27b-it,Meta-Llama-3.1-70B-Instruct"),
    "Qwen2.5": ("zeroeval_gsm_crux_math.jsonl", "Qwen2.5-3B-Instruct,Qwen2.5-7B-Instruct,Qwen2.5-32B-Instruct,Qwen2.5-72B-Instruct"),
}
EDITS = {
    "exact": lambda text, r: text,
    "case and marks": lambda text, r: re.sub(r"[^\w\s]", "", text.lower()),
    "a tenth dropped": lambda text, r: drop(text, r, 0.1),
    "three tenths dropped": lambda text, r: drop(text, r, 0.3),
}
CONTROLS = ("router", "cell", "task-prior", "length-only")


def drop(text, r, share):
    return " ".join(w for w in text.split() if r.random() >= share) or text


def program(options, *arguments, feed=None):
    done = subprocess.run([options.ruvllm, *arguments], input=feed, capture_output=True, text=True, env=dict(os.environ, RUVLLM_DATA=options.folder))
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


def seen(options, weights, path):
    """Share of training questions said again, edited, that get the tier of the unedited ones."""
    prompts = [row["prompt"] for row in map(json.loads, open(path, encoding="utf-8")) if row["split"] == "train"]
    r = random.Random(options.seed)
    prompts = r.sample(prompts, 500)
    tiers = {}
    for name, edit in EDITS.items():
        lines = "".join(json.dumps({"prompt": edit(p, r)}) + "\n" for p in prompts)
        tiers[name] = [json.loads(line)["tier"] for line in program(options, "router", "score", "--jsonl", "--weights", weights, feed=lines).splitlines()]
    return {name: sum(a == b for a, b in zip(tiers["exact"], found)) / len(prompts) for name, found in tiers.items()}


def say(goal, asked, found, met, **controls):
    print(json.dumps({"goal": goal, "asked": asked, "found": found, "met": met, **controls}), flush=True)


def beside(report, key):
    return {name: report["test"].get(name, {}).get(key) for name in CONTROLS[1:]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ruvllm")
    parser.add_argument("data")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as options.folder:
        reports = {}
        for name, (file, tiers) in SETS.items():
            weights = os.path.join(options.folder, name + ".bin")
            data = os.path.join(options.data, file)
            reports[name] = json.loads(program(options, "router", "train", "--data", data, "--tiers", tiers, "--out", weights, "--seed", str(options.seed), "--json"))
        mmlu, router = reports["MMLU"], reports["MMLU"]["test"]["router"]
        say("R1", "MMLU APGR .67, CPT50 28 %", [router["apgr"], router["cpt50"]], router["apgr"] >= 0.67 and router["cpt50"] <= 28,
            interval=[router["apgr_low"], router["apgr_high"]], apgr=beside(mmlu, "apgr"), cpt50=beside(mmlu, "cpt50"), random=0.5)
        say("R2", "MMLU AUC of 'weak is wrong' .72", router["auc_weak_wrong"], router["auc_weak_wrong"] >= 0.72, auc=beside(mmlu, "auc_weak_wrong"))
        bench = reports["RouterBench"]
        best = bench["test"]["router"]
        say("R3", "RouterBench at half the cost: 96 % of the largest, 2 points above the hull", [best["share_of_big"], best["above_hull"]],
            best["share_of_big"] >= 0.96 and best["above_hull"] >= 0.02, hull=bench["bounds"]["hull_at_half_cost"], always_largest=bench["bounds"]["big"],
            above_hull=beside(bench, "above_hull"))
        ladders = ("gemma-2 and Llama-3.1", "Qwen2.5")
        above = {name: reports[name]["test"]["router"]["above_hull"] for name in ladders}
        say("R4", "ladders at half the cost: 1 point above the hull", above, min(above.values()) >= 0.01,
            above_hull={name: beside(reports[name], "above_hull") for name in ladders})
        costs = {name: reports[name]["test"]["router"]["cost_at_regret_0.05"] for name in ("RouterBench", *ladders)}
        say("R5", "regret to the largest of .05 at a cost of .45", costs, max(costs.values()) <= 0.45,
            hull={name: reports[name]["bounds"]["hull_cost_at_regret_0.05"] for name in costs},
            cost={name: beside(reports[name], "cost_at_regret_0.05") for name in costs})
        same = seen(options, os.path.join(options.folder, "MMLU.bin"), os.path.join(options.data, SETS["MMLU"][0]))
        floors = {"exact": 0.99, "case and marks": 0.98, "a tenth dropped": 0.98, "three tenths dropped": 0.95}
        say("R6", floors, same, all(same[k] >= floors[k] for k in floors))
        cell = mmlu["test"]["cell"]["apgr"]
        say("R7", "the cell alone: 3,000 numbers, APGR within .02 of boosted trees on 128 inputs (.674), above .629", [mmlu["cell_parameters"], cell],
            mmlu["cell_parameters"] <= 3000 and cell >= 0.654)
        say("R8", "MMLU calibration error .05", router["ece"], router["ece"] <= 0.05, ece=beside(mmlu, "ece"))


if __name__ == "__main__":
    main()
