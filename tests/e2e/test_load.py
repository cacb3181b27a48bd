"""Many clients at once, of every kind, some of which leave in the middle. LOAD_SECONDS says how long; under a sanitizer's build this is
also where a race would show, since the server's exit code is looked at."""
import http.client
import json
import os
import random
import threading
import time

from http_json import call, get, metric, others_running, post

CLIENTS = 32
SECONDS = float(os.environ.get("LOAD_SECONDS", "4"))
CHAT = {"model": "default", "messages": [{"role": "user", "content": "Question: Where is the harbour?"}], "max_tokens": 16}


def leave_early(server, dice):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    path, body = dice.choice([("/v1/chat/completions", {**CHAT, "stream": True, "n": 4}), ("/v1/query", {"query": "Where?", "stream": True}),
                              ("/v1/completions", {"prompt": "a", "max_tokens": 200})])
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    if dice.random() < 0.5:
        connection.getresponse().read(dice.randrange(1, 200))
    connection.close()
    return 200


def one_request(server, dice, name):
    n = dice.randrange(10)
    if n == 0:
        return leave_early(server, dice)
    if n == 1:
        return post(server, "/v1/chat/completions", CHAT).status
    if n == 2:
        answer = post(server, "/v1/chat/completions", {**CHAT, "stream": True})
        assert answer.status != 200 or answer.events
        return answer.status
    if n == 3:
        return post(server, "/v1/embeddings", {"model": "hash", "input": ["some", "words"] * dice.randrange(1, 20)}).status
    if n == 4:
        return post(server, "/v1/memories", {"text": f"{name} saw {dice.random()}.", "user": name}).status
    if n == 5:
        return post(server, "/v1/memories/search", {"query": f"what did {name} see", "user": name}).status
    if n == 6:
        answer = post(server, "/v1/query", {"query": f"What did {name} see?", "user": name, "session_id": name})
        if answer.status == 200:
            return post(server, "/v1/feedback", {"request_id": answer.json["request_id"], "rating": dice.randrange(1, 6)}).status
        return answer.status
    if n == 7:
        return call(server, "DELETE", f"/v1/memories?user={name}").status
    return get(server, dice.choice(["/health", "/metrics", "/v1/models", "/v1/sessions", "/v1/memories?limit=5"])).status


def test_thirty_two_clients_of_every_kind(make_server):
    server = make_server()
    until = time.monotonic() + SECONDS
    statuses, failures = {}, []

    def client(i):
        dice = random.Random(i)
        try:
            while time.monotonic() < until:
                status = one_request(server, dice, f"client{i}")
                statuses[status] = statuses.get(status, 0) + 1
        except Exception as e:  # told after all threads have ended
            failures.append(repr(e))

    threads = [threading.Thread(target=client, args=(i,)) for i in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[:5]
    assert set(statuses) <= {200, 201, 503}, statuses
    assert statuses.get(200, 0) > CLIENTS
    deadline = time.monotonic() + 60
    while others_running(server) > 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert others_running(server) == 0 and metric(server, "ruvllm_requests_waiting") == 0
    assert get(server, "/health").json["status"] == "ok"
    print(statuses)
    assert server.stop() == 0, server.log.read_text()[-4000:]
