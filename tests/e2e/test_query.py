"""The loop over HTTP: ask, correct, ask again, restart; memories, sessions, health and metrics."""
import http.client
import json
import re
import signal
import threading
import time

import pytest

from http_json import call, get, metric, others_running, post

NOTE = "The bakery in Elm Street opens at seven."
QUESTION = "When does the bakery in Elm Street open?"
CORRECTION = "The bakery in Elm Street opens at nine."


def check_answer(answer):
    assert set(answer) >= {"request_id", "session_id", "text", "finish_reason", "confidence", "sources", "routing_info", "usage", "latency"}
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", answer["request_id"])
    assert isinstance(answer["text"], str) and 0 <= answer["confidence"] <= 1
    for source in answer["sources"]:
        assert set(source) == {"id", "type", "text", "score", "origin"}
    routing = answer["routing_info"]
    assert set(routing) == {"model", "context_size", "temperature", "top_p", "confidence", "model_probs", "fallback", "reason"}
    assert len(routing["model_probs"]) == 4
    assert set(answer["usage"]) == {"prompt_tokens", "completion_tokens", "cached_tokens"}
    assert set(answer["latency"]) == {"embedding_ms", "retrieval_ms", "routing_ms", "attention_ms", "generation_ms", "total_ms"}
    assert answer["latency"]["total_ms"] >= answer["latency"]["generation_ms"] > 0


def ask(server, **fields):
    answer = post(server, "/v1/query", {"query": QUESTION, **fields})
    assert answer.status == 200, answer.body
    check_answer(answer.json)
    return answer.json


def test_an_answer_is_corrected_and_stays_corrected(make_server):
    server = make_server()
    note = post(server, "/v1/memories", {"text": NOTE})
    assert note.status == 201 and note.json["added"]
    first = ask(server)
    assert [s["id"] for s in first["sources"]] == [note.json["id"]]

    stored = post(server, "/v1/feedback", {"request_id": first["request_id"], "rating": 1, "correction": CORRECTION})
    assert stored.status == 200 and stored.json["fact"] > note.json["id"]
    fact = get(server, f"/v1/memories/{stored.json['fact']}").json
    assert fact["type"] == "fact" and CORRECTION in fact["text"]
    assert {"from": fact["id"], "to": note.json["id"]}.items() <= fact["edges"][0].items()

    second = ask(server)
    assert second["sources"][0]["id"] == fact["id"] and note.json["id"] not in [s["id"] for s in second["sources"]]
    assert server.stop(signal.SIGTERM) == 0
    server.start()
    third = ask(server)
    assert [s["id"] for s in third["sources"]] == [s["id"] for s in second["sources"]]
    assert third["text"] == second["text"], "greedy answers to the same prompt"


def test_an_answer_that_was_cut_says_so(server):
    post(server, "/v1/memories", {"text": NOTE})
    cut = ask(server, constraints={"max_tokens": 2})
    assert cut["finish_reason"] == "length" and cut["usage"]["completion_tokens"] == 2
    assert ask(server)["finish_reason"] == "stop"


def test_what_was_acknowledged_survives_a_kill(make_server):
    server = make_server()
    ids = [post(server, "/v1/memories", {"text": f"Number {i} is written down."}).json["id"] for i in range(20)]
    first = ask(server)
    assert post(server, "/v1/feedback", {"request_id": first["request_id"], "correction": CORRECTION}).status == 200
    server.stop(signal.SIGKILL)
    server.start()
    assert {m["id"] for m in get(server, "/v1/memories").json["data"]} >= set(ids)
    assert CORRECTION in ask(server)["sources"][0]["text"]


def test_a_good_rating_makes_a_memory(make_server):
    server = make_server()
    post(server, "/v1/memories", {"text": NOTE})
    first = ask(server)
    stored = post(server, "/v1/feedback", {"request_id": first["request_id"], "rating": 5})
    assert stored.status == 200
    if "qa" in stored.json:  # a refusal is not worth keeping
        assert get(server, f"/v1/memories/{stored.json['qa']}").json["type"] == "qa"


def test_the_stream_has_all_that_the_answer_has(server):
    post(server, "/v1/memories", {"text": NOTE})
    whole = ask(server)
    events = post(server, "/v1/query", {"query": QUESTION, "stream": True}).events
    done = events.pop()
    assert done.pop("type") == "done"
    check_answer(done)
    assert all(e["type"] == "token" for e in events)
    assert "".join(e["text"] for e in events) == done["text"] == whole["text"]


@pytest.mark.parametrize("body, status, param", [
    ({}, 400, "request_id"),
    ({"request_id": 7, "rating": 3}, 400, "request_id"),
    ({"request_id": "00000000-0000-4000-8000-000000000000", "rating": 3}, 404, "request_id"),
    ({"request_id": "x"}, 400, None),
    ({"request_id": "x", "rating": 0}, 400, "rating"),
    ({"request_id": "x", "rating": 6}, 400, "rating"),
    ({"request_id": "x", "rating": True}, 400, "rating"),
    ({"request_id": "x", "rating": "5"}, 400, "rating"),
    ({"request_id": "x", "correction": "  "}, 400, "correction"),
    ({"request_id": "x", "rating": 3, "quality": 1}, 400, "quality"),
])
def test_feedback_that_makes_no_sense_is_refused(server, body, status, param):
    answer = post(server, "/v1/feedback", body)
    assert (answer.status, answer.error["param"]) == (status, param), answer.body


@pytest.mark.parametrize("body, status, param", [
    ({}, 400, "query"),
    ({"query": " \n"}, 400, "query"),
    ({"query": ["a"]}, 400, "query"),
    ({"query": "a", "stream": 1}, 400, "stream"),
    ({"query": "a", "user": ""}, 400, "user"),
    ({"query": "a", "session_id": "../x"}, 400, None),
    ({"query": "a", "constraints": {"max_tokens": 0}}, 400, "max_tokens"),
    ({"query": "a", "constraints": {"temperature": "0.5"}}, 400, "temperature"),
    ({"query": "a", "constraints": {"force_model": "x"}}, 400, "force_model"),
    ({"query": "a", "constraints": {"privacy": "secret"}}, 400, "constraints.privacy"),
    ({"query": "a", "tenant": "b"}, 400, "tenant"),
    ({"query": "a" * 300000}, 413, "query"),
])
def test_queries_that_make_no_sense_are_refused(server, body, status, param):
    answer = post(server, "/v1/query", body)
    assert answer.status == status, answer.body
    assert param is None or answer.error["param"] == param, answer.body


def test_what_is_confidential_is_not_written_down(server):
    sessions = len(get(server, "/v1/sessions").json["data"])
    answer = ask(server, constraints={"privacy": "confidential"})
    assert post(server, "/v1/feedback", {"request_id": answer["request_id"], "rating": 5}).status == 404
    assert len(get(server, "/v1/sessions").json["data"]) == sessions


def test_sessions_are_listed_read_and_removed(server):
    for _ in range(2):
        ask(server, session_id="talk-1")
    assert [s["turns"] for s in get(server, "/v1/sessions").json["data"] if s["id"] == "talk-1"] == [2]
    turns = get(server, "/v1/sessions/talk-1").json["turns"]
    assert [t["question"] for t in turns] == [QUESTION] * 2
    assert call(server, "DELETE", "/v1/sessions/talk-1").json == {"removed": 1}
    assert get(server, "/v1/sessions/talk-1").status == 404
    assert call(server, "DELETE", "/v1/sessions/talk-1").status == 404


def test_memories_are_added_found_listed_and_removed_in_their_scope(server):
    def add(text, **fields):
        answer = post(server, "/v1/memories", {"text": text, **fields})
        assert answer.status == 201, answer.body
        return answer.json["id"]

    mine = add("The spare key lies under the blue pot.", user="ann", tags=["home"], metadata={"room": 7}, confidence=0.5)
    theirs = add("The spare key lies with the neighbour.", user="bob")
    same = post(server, "/v1/memories", {"text": "The spare key lies under the blue pot.", "user": "ann"})
    assert same.status == 200 and same.json == {"id": mine, "added": False, "memory": "durable"}

    node = get(server, f"/v1/memories/{mine}").json
    assert (node["user"], node["tags"], node["metadata"], node["confidence"], node["type"]) == ("ann", ["home"], {"room": 7}, 0.5, "note")
    for mode in ("hybrid", "vector", "words"):
        found = post(server, "/v1/memories/search", {"query": "spare key", "user": "ann", "mode": mode}).json["data"]
        ids = [m["id"] for m in found]
        assert mine in ids and theirs not in ids, mode
    by_url = get(server, "/v1/memories/search?query=spare%20key&user=ann&k=1").json["data"]
    assert [m["id"] for m in by_url] == [mine]
    for explain in ("true", "1", "false", "0"):
        answer = get(server, f"/v1/memories/search?query=spare%20key&explain={explain}")
        assert answer.status == 200 and ("plan" in answer.json) == (explain in ("true", "1")), answer.body
    for wrong in ("explain=yes", "explain=2"):
        answer = get(server, f"/v1/memories/search?query=key&{wrong}")
        assert (answer.status, answer.error["param"]) == (400, wrong.split("=")[0]), answer.body
    plan = post(server, "/v1/memories/search", {"query": "spare key", "recall": 1, "explain": True}).json["plan"]
    assert plan["path"] == "flat" and plan["recall_asked"] == 1 and "exactly" in plan["why"]
    assert [m["id"] for m in get(server, "/v1/memories?user=ann&tag=home").json["data"]] == [mine]

    for no_scope in ("", "?user=", "?tag=", "?usr=ann", "?user=ann&tagg=home"):
        assert call(server, "DELETE", "/v1/memories" + no_scope).status == 400, "no scope is not everything"
    assert call(server, "DELETE", "/v1/memories?user=ann").json == {"removed": 1}
    assert get(server, f"/v1/memories/{mine}").status == 404 and get(server, f"/v1/memories/{theirs}").status == 200
    assert call(server, "DELETE", f"/v1/memories/{theirs}").json == {"removed": 1}
    assert call(server, "DELETE", f"/v1/memories/{theirs}").status == 404


@pytest.mark.parametrize("path", ["/v1/memories/0", "/v1/memories/-1", "/v1/memories/x", "/v1/memories/99999999999999999999",
                                  "/v1/memories/1/2"])
def test_ids_that_cannot_be_are_not_found(server, path):
    assert get(server, path).status == 404


def test_a_file_of_rows_is_imported_whole_or_not_at_all(server):
    rows = '{"text": "One fine line about a kettle."}\n{"text": }\n'
    answer = post(server, "/v1/memories/import", {"name": "rows.jsonl", "text": rows, "user": "rows"})
    error = answer.json["error"]
    assert answer.status == 400 and error["param"] == "text" and error["message"].startswith("rows.jsonl: line 2 column "), error
    assert get(server, "/v1/memories?user=rows&source=rows.jsonl").json["data"] == []
    assert post(server, "/v1/memories/import", {"name": "../rows.jsonl", "text": rows}).json["error"]["param"] == "name"
    answer = post(server, "/v1/memories/import", {"name": "rows.jsonl", "text": rows.splitlines()[0], "user": "rows"})
    assert answer.json["notes_added"] == 1


def test_what_was_corrected_is_shown_when_asked_for(server):
    old = post(server, "/v1/memories", {"text": "The kiln is fired on Monday.", "user": "kiln"}).json["id"]
    new = post(server, "/v1/memories", {"text": "The kiln is fired on Friday.", "user": "kiln", "corrects": old}).json["id"]
    url, body = "/v1/memories/search?query=kiln&user=kiln", {"query": "kiln", "user": "kiln"}
    ids = lambda answer: [m["id"] for m in answer.json["data"] if m["id"] in (old, new)]
    assert ids(get(server, url)) == ids(post(server, "/v1/memories/search", body)) == [new]
    assert ids(get(server, url + "&with_corrected=true")) == [new, old]
    assert ids(post(server, "/v1/memories/search", {**body, "with_corrected": True})) == [new, old]


@pytest.mark.parametrize("path", ["/v1/memories?limit=0", "/v1/memories?usr=ann", "/v1/sessions?usr=ann", "/v1/memories?limit=x", "/v1/memories/search", "/v1/memories/search?query=a&k=1001",
                                  "/v1/memories/search?query=a&mode=x", "/v1/memories/search?query=a&recall=0.2",
                                  "/v1/memories/search?query=a&recall=x", "/v1/memories/search?query=a&explain=2", "/v1/memories/search?query=a&with_corrected=yes", "/v1/sessions?limit=-1"])
def test_parameters_are_checked(server, path):
    assert get(server, path).status == 400


def test_lists_go_on_where_they_stopped(server):
    added = [post(server, "/v1/memories", {"text": f"Page test {i}.", "user": "pages"}).json["id"] for i in range(5)]
    seen, path = [], "/v1/memories?user=pages&source=user&limit=2"
    answer = get(server, path).json
    while answer["next"]:
        seen += [m["id"] for m in answer["data"] if m.get("user") == "pages"]
        answer = get(server, f"{path}&after={answer['next']}").json
    seen += [m["id"] for m in answer["data"] if m.get("user") == "pages"]
    assert seen == added[::-1]


def test_health_names_every_part(server):
    answer = get(server, "/v1/health")
    assert answer.status == 200 and answer.json["status"] == "ok"
    for part in ("database", "memory", "models"):
        assert answer.json["components"][part]["status"] == "ok"
        assert answer.json["components"][part]["latency_ms"] >= 0
        assert isinstance(answer.json["components"][part]["details"], dict)
    assert get(server, "/health").status == 200


def test_metrics_are_prometheus_text(server):
    ask(server)
    text = get(server, "/v1/metrics").body.decode()
    line = re.compile(r'(# (HELP|TYPE) \w+ .+|\w+(\{\w+="[^"]*"(,\w+="[^"]*")*\})? -?[0-9.e+-]+)')
    assert all(line.fullmatch(x) for x in text.splitlines()) and text.endswith("\n")
    for name in ("ruvllm_request_latency_seconds_count", 'ruvllm_stage_latency_seconds_count{stage="backend"}',
                 "ruvllm_memory_usage_bytes", 'ruvllm_tokens_total{kind="completion"}'):
        assert metric(server, name) > 0, name
    before = metric(server, 'ruvllm_requests_total{route="POST /v1/query",status="200"}')
    ask(server)
    assert metric(server, 'ruvllm_requests_total{route="POST /v1/query",status="200"}') == before + 1


def long_generation(server):
    """A completion that runs to the end of the context: it may not choose to end."""
    ends = {}
    for token in range(0, 64):  # control tokens stand at the front of the vocabulary
        ends[str(token)] = -100
    return {"prompt": "one two three", "max_tokens": 1000000, "logit_bias": ends, "temperature": 1, "repeat_penalty": 1}


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_place(make_server, stream):
    server = make_server()
    body = json.dumps({**long_generation(server), "stream": stream})
    whole = post(server, "/v1/completions", long_generation(server)).json
    assert whole["choices"][0]["finish_reason"] == "length"
    made, left = 'ruvllm_tokens_total{kind="completion"}', 'ruvllm_requests_total{route="POST /v1/completions",status="499"}'
    before = metric(server, made)
    for _ in range(3):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        if stream:
            connection.getresponse().read(10)
        else:
            time.sleep(0.02)
        connection.close()
    deadline = time.monotonic() + 60
    while metric(server, left) < 3 or others_running(server) > 0:
        assert time.monotonic() < deadline, (metric(server, left), others_running(server))
    assert metric(server, left) == 3
    assert metric(server, made) - before < 3 * whole["usage"]["completion_tokens"], "they went on to the end"


def test_stopping_lets_answers_finish(make_server):
    server = make_server()
    answers = []
    thread = threading.Thread(target=lambda: answers.append(post(server, "/v1/completions", {**long_generation(server), "n": 2, "stream": True})))
    thread.start()
    while others_running(server) < 1:
        pass
    assert server.stop() == 0
    thread.join()
    assert [e["choices"][0]["finish_reason"] for e in answers[0].events if e["choices"][0]["finish_reason"]] == ["length"] * 2


def test_stopping_twice_ends_at_once(make_server):
    server = make_server()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("POST", "/v1/completions", json.dumps({**long_generation(server), "n": 8}), {"Content-Type": "application/json"})
    while others_running(server) < 1:
        pass
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    assert server.stop() == 0
    connection.close()
    assert re.search(r"path=/v1/completions status=499", server.log.read_text()), "it was not cancelled"


def test_what_a_stopped_server_waits_for_is_ended_by_one_more_signal(make_server):
    server = make_server(server_drain_ms=0)
    body = json.dumps({"name": "long.txt", "text": "word " * 1_600_000})
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("POST", "/v1/memories/import", body, {"Content-Type": "application/json"})
    deadline = time.monotonic() + 30
    while others_running(server) < 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    server.process.send_signal(signal.SIGTERM)
    while "server.stopped" not in server.log.read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.process.poll() is None, "the import was over: it has to be longer for this test"
    began = time.monotonic()
    assert server.stop() == -signal.SIGTERM
    assert time.monotonic() - began < 1
    connection.close()


def test_a_full_queue_says_so_at_once(make_server):
    server = make_server(system_max_concurrent_requests=1, server_max_queue=1)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(post(server, "/v1/completions", long_generation(server))))
               for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    full = [a for a in answers if a.status == 503]
    assert full and all(a.headers["Retry-After"] == "1" and a.error["code"] == "overloaded" for a in full)
    assert [a for a in answers if a.status == 200] and len(answers) == 6


def test_health_answers_while_every_worker_generates(make_server):
    server = make_server(system_max_concurrent_requests=1)
    thread = threading.Thread(target=lambda: post(server, "/v1/completions", {**long_generation(server), "n": 8}))
    thread.start()
    while others_running(server) < 1:
        assert thread.is_alive()
    assert get(server, "/health").status == 200
    assert thread.is_alive(), "health had to wait for the answer"
    thread.join()
