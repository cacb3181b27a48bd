"""`ruvllm chat` on a terminal, as a person types."""
import os
import pty
import select
import subprocess

import pytest

from conftest import MODEL, RUVLLM


class Terminal:
    def __init__(self, folder):
        env = {k: v for k, v in os.environ.items() if not k.startswith("RUVLLM")}
        env |= {"RUVLLM_DATA": str(folder), "RUVLLM_INFERENCE_MODEL": str(MODEL), "TERM": "xterm", "HOME": str(folder)}
        self.screen, far = pty.openpty()
        self.process = subprocess.Popen([RUVLLM, "chat"], stdin=far, stdout=far, stderr=far, env=env, start_new_session=True)
        os.close(far)
        self.unread = b""
        self.read_until("you> ")

    def read_until(self, text):
        """What came up to and with text; all there is when the program ended."""
        while text.encode() not in self.unread:
            ready, _, _ = select.select([self.screen], [], [], 120)
            assert ready, self.unread
            try:
                more = os.read(self.screen, 4096)
            except OSError:
                more = b""
            if not more:
                break
            self.unread += more
        got, found, self.unread = self.unread.partition(text.encode())
        return (got + found).decode(errors="replace")

    def type(self, line):
        """What the program says to it."""
        os.write(self.screen, line.encode() + b"\n")
        self.read_until("\n")
        return self.read_until("you> ")

    def close(self):
        os.write(self.screen, b"/bye\n")
        self.read_until("no such text")
        code = self.process.wait(timeout=60)
        os.close(self.screen)
        return code


@pytest.mark.skipif(MODEL is None, reason="no model")
def test_what_is_told_is_kept_and_what_is_asked_is_answered(tmp_path):
    terminal = Terminal(tmp_path)
    assert "Remembered as 1." in terminal.type("My bike is in the shed.")
    assert "Was remembered already as 1." in terminal.type("My bike is in the shed.")
    assert "Remembered" not in terminal.type("Where is my bike?")
    terminal.type("/sources")
    said = terminal.type("/ask My bike is in the shed.")
    assert "Remembered" not in said and "My bike is in the shed." in said  # as its source
    assert "Remembered as" in terminal.type("/remember The ladder")
    assert terminal.close() == 0


@pytest.mark.skipif(MODEL is None, reason="no model")
def test_an_empty_memory_says_how_to_fill_it(tmp_path):
    terminal = Terminal(tmp_path)
    terminal.type("/sources")
    assert "nothing is remembered yet: ruvllm memory import FOLDER" in terminal.type("Where is my bike?")
    assert terminal.close() == 0
