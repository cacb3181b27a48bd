"""Forgetting: of a user, or of a memory, nothing is left in any answer or in any byte of the data folder; what others have stays."""
import subprocess
import time

from conftest import RUVLLM
from http_json import call, get, post

SECRET = "zyxomirquandt"  # in no dictionary, and not changed by stemming
KEPT = "plovdivarium"


def folder_bytes(folder):
    """Every file but the server's log, in lower case: an index keeps words that way."""
    return {p: p.read_bytes().lower() for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "server.log"}


def holding(folder, word):
    return [str(p) for p, data in folder_bytes(folder).items() if word.encode() in data]


def converse(server, user, word):
    """A memory, a conversation about it, a rating and a correction, until a conversation was written to the disk."""
    note = post(server, "/v1/memories", {"text": f"The password of the {user} vault is {word}.", "user": user}).json["id"]
    for turn in range(3):
        asked = post(server, "/v1/query", {"query": f"What is the password of the {user} vault, part {turn}?", "user": user, "session_id": f"s-{user}"})
        assert asked.status == 200, asked.body
        body = {"request_id": asked.json["request_id"], "rating": 4}
        if turn == 1:
            body = {"request_id": asked.json["request_id"], "rating": 1, "correction": f"it is {word} indeed"}
        assert post(server, "/v1/feedback", body).status == 200
    return note


def test_of_a_forgotten_user_nothing_is_left(make_server):
    server = make_server()
    converse(server, "anna", SECRET)
    converse(server, "bert", KEPT)
    deadline = time.monotonic() + 30
    while not list((server.folder / "kv").glob("*")) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert list((server.folder / "kv").glob("*")), "no conversation was written to the disk"
    assert holding(server.folder, SECRET) and holding(server.folder, KEPT)

    done = post(server, "/v1/forget", {"user": "anna"})
    assert done.status == 200, done.body
    assert done.json["memories"] >= 2 and done.json["requests"] == 3 and done.json["vectors"] >= 2
    assert done.json["conversations"] >= 1 and not list((server.folder / "kv").glob("*"))
    assert not holding(server.folder, SECRET)
    assert not holding(server.folder, "anna")
    assert holding(server.folder, KEPT)
    again = post(server, "/v1/query", {"query": "What is the password of the anna vault, part 1?", "user": "anna"})
    assert SECRET not in again.body.decode().lower()
    kept = post(server, "/v1/query", {"query": "What is the password of the bert vault, part 1?", "user": "bert"})
    assert KEPT in kept.body.decode()
    assert get(server, "/v1/sessions?user=bert").json["data"] and not get(server, "/v1/sessions?user=carla").json["data"]
    assert post(server, "/v1/forget", {"user": "nobody"}).status == 404
    assert post(server, "/v1/forget", {}).status == 400
    assert post(server, "/v1/forget", {"ids": [0]}).status == 400
    assert server.stop() == 0

    assert not holding(server.folder, SECRET)
    for command in (["witness", "verify"], ["memory", "check"]):
        subprocess.run([RUVLLM, *command, "--data", server.folder], check=True, capture_output=True, env=server.environment())


def test_a_forgotten_memory_takes_its_requests_along(make_server):
    server = make_server()
    note = converse(server, "anna", SECRET)
    other = post(server, "/v1/memories", {"text": f"The {KEPT} is in Elm Street.", "user": "anna"}).json["id"]
    assert server.stop() == 0
    done = subprocess.run([RUVLLM, "forget", str(note), "--data", server.folder], capture_output=True, text=True, env=server.environment())
    assert done.returncode == 0, done.stderr
    assert "3 questions" in done.stdout
    assert not holding(server.folder, SECRET)
    assert holding(server.folder, KEPT)
    shown = subprocess.run([RUVLLM, "memory", "get", str(other), "--data", server.folder], capture_output=True, text=True, env=server.environment())
    assert KEPT in shown.stdout
    missing = subprocess.run([RUVLLM, "forget", str(note), "--data", server.folder], capture_output=True, text=True, env=server.environment())
    assert missing.returncode == 1 and "no memory has the id" in missing.stderr
    for wrong in (["forget"], ["forget", "x"]):
        assert subprocess.run([RUVLLM, *wrong, "--data", server.folder], capture_output=True, env=server.environment()).returncode == 2
