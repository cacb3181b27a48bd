"""A judge that is somewhere else, over HTTPS: it is trusted with texts only when it proves its name, and with verdicts only when it was measured."""
import http.server
import json
import shutil
import ssl
import subprocess
import threading

import pytest

from conftest import MODEL, RUVLLM


@pytest.fixture
def judge(tmp_path):
    """Finds "good" answers good, and the others bad; its certificate is for localhost."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make a certificate with")
    heard = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            heard.append((self.path, self.headers["Authorization"], asked["model"]))
            digit = "5" if "Answer: good" in asked["messages"][-1]["content"] else "1"
            body = json.dumps(dict(choices=[dict(message=dict(role="assistant", content=digit))])).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words):
            pass

    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
                    "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"], check=True, capture_output=True)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1], tmp_path / "cert.pem", heard
    server.shutdown()
    server.server_close()


def measure(folder, url, *words, **variables):
    environment = dict(PATH="/usr/bin:/bin", HOME=str(folder), RUVLLM_DATA=str(folder / "data"), RUVLLM_INFERENCE_MODEL=str(MODEL), **variables)
    return subprocess.run([RUVLLM, "eval", "judge", folder, "--json", "--set", "learning.judge_url=" + url, "--set", "learning.judge_model=large", *words],
                          capture_output=True, text=True, env=environment)


def test_a_judge_that_proves_its_name_is_measured_and_trusted_as_far_as_it_is_right(judge, tmp_path):
    if MODEL is None:
        pytest.skip("no model")
    port, certificate, heard = judge
    rows = [dict(instruction=f"Question {i}?", a="good answer" if i % 2 else "bad one", b="bad one" if i % 2 else "good answer", label=1 if i % 2 else 2) for i in range(120)]
    (tmp_path / "pandalm.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "llmbar.jsonl").write_text(json.dumps(dict(rows[0], set="Natural")) + "\n")
    url = f"https://localhost:{port}/v1"
    done = measure(tmp_path, url, "--keep", RUVLLM_JUDGE_KEY="secret", SSL_CERT_FILE=str(certificate))
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    remote = [line for line in lines if line["judge"].startswith("remote ")]
    assert remote[0]["set"] == "PandaLM" and remote[0]["right"] == 1 and remote[0]["unjudged"] == 0
    assert remote[-1]["trusted"] and remote[-1]["kept"] and remote[-1]["weight"] == 0.7
    assert any(line["judge"] == "longer" for line in lines)
    assert set(heard) == {("/v1/chat/completions", "Bearer secret", "large")} and len(heard) == 242

    del heard[:]
    unknown = measure(tmp_path, url)
    assert unknown.returncode == 1 and "no trusted connection" in unknown.stderr, unknown.stderr
    other_name = measure(tmp_path, f"https://127.0.0.1:{port}/v1", SSL_CERT_FILE=str(certificate))
    assert other_name.returncode == 1 and "no trusted connection" in other_name.stderr, other_name.stderr
    assert not heard
    assert measure(tmp_path, "ftp://localhost/v1").returncode == 2
    assert measure(tmp_path, url, RUVLLM_JUDGE_KEY="two words").returncode == 2
