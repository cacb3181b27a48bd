"""Requests with nothing but the standard library, so that what goes over the wire is what the test says."""
import http.client
import json
import time


class Answer:
    def __init__(self, response, body):
        self.status, self.headers, self.body = response.status, response.headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        error = self.json["error"]
        assert {"message", "type", "param", "code"} <= set(error), error
        return error

    @property
    def events(self):
        """The data of every event; the last one has to be [DONE], and is left out."""
        assert self.headers["Content-Type"] == "text/event-stream"
        lines = self.body.decode().split("\n\n")
        assert lines[-1] == "" and lines[-2] == "data: [DONE]" and all(x.startswith("data: ") for x in lines[:-1]), lines
        return [json.loads(x[len("data: "):]) for x in lines[:-2]]


def call(server, method, path, body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    data = None if body is None else json.dumps(body)
    if data is not None:
        headers.setdefault("Content-Type", "application/json")
    connection.request(method, path, data, headers)
    response = connection.getresponse()
    answer = Answer(response, response.read())
    connection.close()
    return answer


def get(server, path):
    return call(server, "GET", path)


def post(server, path, body):
    return call(server, "POST", path, body)


def metric(server, name):
    """Value of one line of /metrics, labels included in name; 0 when it is not there."""
    for line in get(server, "/metrics").body.decode().splitlines():
        if line.startswith(name + " "):
            return float(line.split()[-1])
    return 0.0


def others_running(server):
    """Requests that run beside the one for the metrics. That of the reading before may still be counted for a moment: the least of
    three readings counts."""
    readings = []
    for _ in range(3):
        readings.append(metric(server, "ruvllm_requests_running") - 1)
        time.sleep(0.01)
    return min(readings)
