"""The loops as a user sees them: learn run, learn status, learn rollback."""
import json
import random
import subprocess
import time

import pytest

from conftest import RUVLLM
from http_json import post


def run(server, *words, code=0):
    done = subprocess.run([RUVLLM, *words, "--data", server.folder], capture_output=True, text=True, env=server.environment())
    assert done.returncode == code, done.stderr
    return done.stdout


def test_each_stage_says_what_it_did_and_why(make_server):
    server = make_server()
    post(server, "/v1/memories", {"text": "The bakery in Elm Street opens at seven."})
    for i in range(3):
        asked = post(server, "/v1/query", {"query": f"When does the bakery in Elm Street open, {i}?"}).json
        if i:
            post(server, "/v1/feedback", {"request_id": asked["request_id"], "rating": 5})
    assert server.stop() == 0
    status = run(server, "learn", "status")
    assert "background nothing yet" in status and "deep       nothing yet" in status and "instant " in status
    done = json.loads(run(server, "learn", "run", "--json"))
    assert [stage["stage"] for stage in done["stages"]] == ["judge", "router", "attention", "adapters", "patterns"]
    assert done["ran"] == 5 and done["failed"] == 0 and not done["resumed"]
    assert all(stage["state"] == "done" and stage["why"] for stage in done["stages"])
    assert "1 answers that nobody rated were judged" in done["stages"][0]["why"] and "weighs 0.3 of a rating" in done["stages"][0]["why"]
    assert not done["stages"][0]["accepted"], "nobody measured that judge"
    again = json.loads(run(server, "learn", "run", "--json"))
    assert "0 answers" in again["stages"][0]["why"]
    deep = json.loads(run(server, "learn", "run", "--deep", "--json"))
    assert [stage["stage"] for stage in deep["stages"]] == ["adapters", "concepts", "dreams", "edges", "sides", "patterns", "versions", "archive", "compact"]
    assert deep["failed"] == 0 and all(stage["why"] for stage in deep["stages"])
    status = json.loads(run(server, "learn", "status", "--json"))
    assert {row["loop"] for row in status["loops"]} >= {"background", "deep"}
    assert all(row["ended"] for row in status["loops"])
    for kind in ("router", "retrieval", "attention", "patterns", "concepts", "dreams"):
        run(server, "learn", "rollback", kind, code=1)  # nothing is in use, and that is said
    run(server, "memory", "check")
    run(server, "learn", "run", "--deep", "--user", "x", code=2)


def test_old_records_go_to_the_archive_and_are_shown_from_there(make_server):
    server = make_server()
    asked = [post(server, "/v1/query", {"query": f"What does plovdivarium mean, {user}?", "user": user}).json for user in ("anna", "bert")]
    assert server.stop() == 0
    run(server, "learn", "run", "--deep")  # nothing is a week old
    assert not list((server.folder / "archive").glob("*"))
    before = [run(server, "witness", "show", a["request_id"]) for a in asked]
    deep = json.loads(run(server, "learn", "run", "--deep", "--json", "--set", "learning.archive_days=0"))
    assert "records and 0 answers older than 0 days moved to 1 files" in next(s["why"] for s in deep["stages"] if s["stage"] == "archive"), deep
    assert not any(b"plovdivarium" in p.read_bytes() for p in (server.folder / "archive").iterdir())  # it is compressed
    assert [run(server, "witness", "show", a["request_id"]) for a in asked] == before
    run(server, "witness", "verify")
    run(server, "forget", "--user", "anna")
    assert not list((server.folder / "archive").glob("*"))  # what stays came back, and waits for the next deep loop
    assert "plovdivarium mean, bert" in run(server, "witness", "show", asked[1]["request_id"])
    assert json.loads(run(server, "witness", "show", asked[0]["request_id"], "--json"))["body"] is None
    run(server, "witness", "verify")


def test_a_server_runs_the_background_loop_by_itself(make_server):
    server = make_server(sona_background_interval_ms=1000, learning_training_interval_ms=200)
    post(server, "/v1/query", {"query": "What is there?"})
    deadline = time.monotonic() + 60
    while "event=learn.loop" not in server.log.read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert "event=learn.loop loop=background state=done" in server.log.read_text()
    assert server.stop() == 0
    assert "background judge" in run(server, "learn", "status")


@pytest.mark.parametrize("loop", [[], ["--deep"]], ids=["background", "deep"])
def test_killed_while_learning_it_goes_on_and_no_half_version_is_left(make_server, loop):
    server = make_server(learning_adapters="true", learning_training_interval_ms=3600000)
    for i in range(64):
        post(server, "/v1/memories", {"text": f"Shop {i % 16} in street {i} opens at {i % 12}."}) if i % 4 == 0 else None
        asked = post(server, "/v1/query", {"query": f"When does shop {i % 16} in street {i} open?"}).json
        post(server, "/v1/feedback", {"request_id": asked["request_id"], "rating": 5 if i % 2 else 1})
    assert server.stop() == 0
    delays = random.Random(7)
    for _ in range(10):
        process = subprocess.Popen([RUVLLM, "learn", "run", *loop, "--data", server.folder], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=server.environment())
        time.sleep(delays.uniform(0, 0.6))
        process.kill()
        process.wait()
    done = json.loads(run(server, "learn", "run", *loop, "--json"))
    assert done["failed"] == 0 and all(stage["state"] == "done" for stage in done["stages"])
    run(server, "witness", "verify")
    run(server, "memory", "check")
    for version in json.loads(run(server, "learn", "status", "--json"))["versions"]:
        assert version["bytes"] > 0 or not version["in_use"]
