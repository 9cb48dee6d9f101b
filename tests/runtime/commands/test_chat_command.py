"""`chat`, with lines from a pipe and at a real terminal."""

import json
import os
import pty
import select
import subprocess
import sys
import time

import pytest


def chat(run, artifact, *lines, words=()):
    return run(artifact, "chat", *words, stdin="".join(line + "\n" for line in lines))


def test_it_answers_line_by_line(fake_artifact, run):
    done = chat(run, fake_artifact, "first one", "", "second")
    assert (done.returncode, done.stdout, done.stderr) == (0, "first one \nsecond \n", "")


def test_a_real_conversation(engine_artifact, run):
    done = chat(run, engine_artifact, "hello", "/tokens", "/quit", words=("--temp", "0", "-n", "8"))
    assert done.returncode == 0 and "tokens used; the last answer:" in done.stdout


def test_a_backslash_goes_on_in_the_next_line(fake_artifact, run):
    assert chat(run, fake_artifact, "one \\", "two").stdout == "one two \n"


def test_commands_are_obeyed(fake_artifact, run):
    done = chat(
        run, fake_artifact, "/system be kind", "hi", "/retry", "/undo", "/undo", "/set top_k 3", "/info", "/quit", "no"
    )
    assert done.stdout.splitlines()[:3] == ["system prompt: be kind", "hi [system: be kind]", "hi [system: be kind]"]
    assert done.stderr == "nothing has been asked yet\n"
    assert "  top_k 3" in done.stdout and "  kernel   cpu-" in done.stdout and "no" not in done.stdout.split()


def test_mistakes_do_not_end_it(fake_artifact, run):
    wrong = ("/dance", "/set colour 3", "/set top_k many", "/load", "/load /nowhere", "/save ~nobody-here/x", "refuse")
    done = chat(run, fake_artifact, *wrong, "on")
    assert done.returncode == 0 and done.stdout == "on \n"
    assert done.stderr.splitlines() == [
        "there is no command '/dance': /help lists them",
        "'colour' cannot be set: known are " + done.stderr.splitlines()[1].partition("known are ")[2],
        "'many' is no number, as in: /set top_k 0.2",
        "/load takes FILE",
        "'/nowhere' cannot be read (No such file or directory): check its name",
        "'~nobody-here/x' names a user without a home here: write the whole path",
        "the engine refused the request: told to refuse",
    ]


def test_bytes_that_are_no_text(fake_artifact, tmp_path):
    command = [sys.executable, "-m", "mkllm.runtime", "chat"]
    lines = b"caf\xe9\n/save " + os.fsencode(tmp_path / "talk") + b"\n"
    env = {**os.environ, "MKLLM_ARTIFACT": str(fake_artifact), "PYTHONUTF8": "1"}
    done = subprocess.run(command, input=lines, capture_output=True, env=env)
    assert (done.returncode, done.stderr, done.stdout) == (0, b"", "caf\ufffd \n".encode())
    assert json.loads((tmp_path / "talk").read_text("utf-8"))["turns"][0]["content"] == "caf\ufffd"


def test_a_history_that_cannot_be_kept(fake_artifact):
    terminal = Terminal(fake_artifact, "--history", "/nowhere/history")
    terminal.expect("fake: the history file '/nowhere/history' cannot be written (No such file or directory)")
    assert terminal.end() == 13


def test_an_engine_that_dies_is_waited_for(fake_artifact, run, played):
    done = chat(run, fake_artifact, "a segfault", "still there", "/info")
    assert done.stdout.startswith("a \nstill there \n")
    assert "cpu-haswell was ended by SIGSEGV while it served" in done.stderr
    assert "kernel   cpu-sse42" in done.stdout


def test_save_and_load(fake_artifact, run, tmp_path):
    file = tmp_path / "talk.json"
    chat(run, fake_artifact, "/system be kind", "/set temperature 0.5", "hi", f"/save {file}")
    assert json.loads(file.read_text()) == {
        "system": "be kind",
        "turns": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hi [system: be kind]"}],
        "sampling": {"temperature": 0.5},
    }
    done = chat(run, fake_artifact, f"/load {file}", "/retry")
    assert done.stdout.splitlines() == ["2 messages", "hi [system: be kind]"]


@pytest.mark.parametrize("text", ["{}", "[]", '{"system": 1, "turns": [], "sampling": {}}', "{"])
def test_what_is_no_conversation_is_not_loaded(fake_artifact, run, tmp_path, text):
    (tmp_path / "other").write_text(text)
    done = chat(run, fake_artifact, f"/load {tmp_path / 'other'}")
    assert done.stderr == f"{str(tmp_path / 'other')!r} is not a conversation that /save wrote\n"


PROMPT_SHOWN = "\x1b[?25h"  # the cursor comes back when the prompt is drawn


class Terminal:
    """A chat at a pseudo terminal."""

    def __init__(self, artifact, *words):
        self.main, other = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mkllm.runtime", "chat", *words],
            env={**os.environ, "MKLLM_ARTIFACT": str(artifact), "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"},
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
        )
        os.close(other)
        self.seen = b""

    def type(self, text):
        os.write(self.main, text.encode())

    def expect(self, text, seconds=30):
        end = time.monotonic() + seconds
        while text.encode() not in self.seen:
            assert time.monotonic() < end, self.seen
            if select.select([self.main], [], [], 0.1)[0]:
                self.seen += os.read(self.main, 65536)
        self.seen = self.seen.partition(text.encode())[2]

    def end(self):
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()
            self.process.wait()
            os.close(self.main)


def test_at_a_terminal(fake_artifact, tmp_path):
    terminal = Terminal(fake_artifact, "--history", str(tmp_path / "history"))
    terminal.expect("/help")
    terminal.expect(PROMPT_SHOWN)
    terminal.type("good day\r")
    terminal.expect("good day \r\n")
    terminal.expect(PROMPT_SHOWN)
    terminal.type("endless\r")
    terminal.expect("endless endless")
    terminal.process.send_signal(2)
    terminal.expect(PROMPT_SHOWN)
    terminal.type("and on\r")
    terminal.expect("and on \r\n")
    terminal.expect(PROMPT_SHOWN)
    terminal.type("\x04")
    assert terminal.end() == 0
    assert "+good day" in (tmp_path / "history").read_text()
