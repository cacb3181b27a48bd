#!/usr/bin/env python3
"""Start to first token, and memory: engine_start.py RUVLLM MODEL THREADS. One JSON line, medians of five.

The first start packs and writes the file that the others map. Memory is what the process holds at its peak that is not a
mapping of a file (RssAnon), and with packing in memory the file's own pages are given back as they are packed."""
import json, os, statistics, subprocess, sys, time

ours, model, threads = sys.argv[1:4]


def start(*how):
    began = time.monotonic()
    subprocess.run([ours, "run", model, "--raw", "--json", "-n", "1", "-t", threads, *how, "Hello"], check=True,
                   stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def anonymous_bytes(*how):
    """The largest RssAnon seen while an answer of some tokens is made."""
    process = subprocess.Popen([ours, "run", model, "--raw", "--json", "-n", "8", "-t", threads, *how, "Hello"],
                               stdout=subprocess.DEVNULL)
    most = 0
    while process.poll() is None:
        try:
            with open(f"/proc/{process.pid}/status") as status:
                for line in status:
                    if line.startswith("RssAnon:"):
                        most = max(most, int(line.split()[1]) * 1024)
        except OSError:
            pass
        time.sleep(0.002)
    return most


start("--packing", "memory")  # the page cache
first = start()
size = os.path.getsize(model)
print(json.dumps({
    "test": "start", "model": os.path.basename(model), "threads": int(threads), "first_start_s": round(first, 3),
    "second_start_s": round(statistics.median(start() for _ in range(5)), 3),
    "memory_start_s": round(statistics.median(start("--packing", "memory") for _ in range(5)), 3),
    "beyond_file": round(anonymous_bytes("--packing", "memory") / size, 3),
    "beyond_file_mapped": round(anonymous_bytes() / size, 3),
    "beyond_file_unpacked": round(anonymous_bytes("--packing", "off") / size, 3)}))
