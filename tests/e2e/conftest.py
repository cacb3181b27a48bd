"""A real server per test or per file, started as a user would start it, on a port of its own and a folder of its own."""
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
RUVLLM = os.environ.get("RUVLLM", str(ROOT / "build" / "release" / "ruvllm"))


def find_model():
    """The smallest model of the repository; while there is none, the trial one beside it."""
    shipped = sorted((ROOT / "models").glob("*.gguf"), key=lambda p: p.stat().st_size)
    trial = ROOT.parent / "shared" / "trial" / "demo-tiers" / "trial-s2.gguf"
    return shipped[0] if shipped else trial if trial.is_file() else None


MODEL = find_model()


class Server:
    """`ruvllm serve` with its data in folder; keys are configuration, "server.max_queue"."""

    def __init__(self, folder, model=MODEL, **keys):
        self.folder = pathlib.Path(folder)
        self.model = model
        self.keys = keys
        self.process = None

    def environment(self):
        env = {k: v for k, v in os.environ.items() if not k.startswith("RUVLLM")}
        env["RUVLLM_DATA"] = str(self.folder)
        if self.model:
            env["RUVLLM_INFERENCE_MODEL"] = str(self.model)
        for key, value in self.keys.items():
            env["RUVLLM_" + key.upper()] = str(value)
        return env

    def start(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = self.folder / "server.log"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([RUVLLM, "serve", "--port", "0"], stderr=log, env=self.environment())
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            found = re.search(r"API\s+(http://\S+)/v1", self.log.read_text())
            if found:
                self.url = found.group(1)
                return self
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise RuntimeError("the server did not start: " + self.log.read_text())

    def stop(self, how=signal.SIGTERM):
        """Its exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(timeout=60)
        self.process = None
        return code

    @property
    def port(self):
        return int(self.url.rsplit(":", 1)[1])


@pytest.fixture
def make_server(tmp_path):
    if MODEL is None:
        pytest.skip("no model: models/ is empty and ../shared/trial is absent")
    servers = []

    def make(**keys):
        servers.append(Server(tmp_path / f"data{len(servers)}", **keys))
        return servers[-1].start()

    yield make
    for server in servers:
        server.stop(signal.SIGKILL)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if MODEL is None:
        pytest.skip("no model: models/ is empty and ../shared/trial is absent")
    one = Server(tmp_path_factory.mktemp("server")).start()
    yield one
    assert one.stop() == 0, one.log.read_text()
