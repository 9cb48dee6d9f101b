"""What is kept of the engine's words."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from mkllm.runtime.engine.log import KEPT_LINES, LONGEST_LINE, Log, Logging
from mkllm.runtime.errors import PermissionFailure


def fed(*pieces: bytes) -> Log:
    log = Log()
    for piece in pieces:
        log.feed(piece)
    return log


def test_lines_may_be_cut_anywhere():
    assert fed(b"on", b"e\ntw", b"o\r\nthr", b"ee").tail(9) == ["one", "two", "three"]


def test_only_the_last_lines_are_kept():
    log = fed(b"".join(b"%d\n" % number for number in range(KEPT_LINES + 50)))
    assert log.tail(10_000)[0] == "50"


def test_a_line_without_an_end_does_not_grow():
    log = fed(*[b"x" * 1000] * 100)
    assert all(len(line) <= LONGEST_LINE + 1000 for line in log.tail(1000))


START = b"""0.01 I srv  loading
0.02 E adapter_init: failed to open '/x'
0.03 E srv  load_model:  failed to create
0.04 I srv  cleaning up
"""


def test_what_was_said():
    log = Log()
    log.begin("engine")
    log.feed(b"error: first\nsrv init: couldn't bind HTTP server socket\nlast")
    assert log.has("couldn't bind") and log.has("last") and not log.has("engine")
    log.begin("another")
    assert not log.has("couldn't bind")


def test_at_the_start_the_first_error_is_the_cause():
    assert fed(START).trouble(starting=True) == "adapter_init: failed to open '/x'"
    assert fed(b"loading\nerror: no such thing\nfailed\nbye\n").trouble(starting=True) == "error: no such thing"


def test_later_it_is_the_last_one_if_it_is_recent():
    assert fed(START).trouble(starting=False) == "srv load_model: failed to create"
    assert fed(START, b"all well\n" * 30).trouble(starting=False) == "all well"


def test_without_trouble_it_is_the_last_line():
    assert fed(b"loading\nbye\n").trouble(starting=True) == "bye"
    assert fed().trouble(starting=True) == ""


def test_bytes_that_are_no_text():
    assert fed(b"\xff\xfe\n").tail(1) == ["\ufffd\ufffd"]


def test_file_has_all_and_is_appended_to(tmp_path):
    for word in (b"one\n", b"two\n"):
        log = Log(Logging(tmp_path / "log"))
        log.begin("start")
        log.feed(word)
        log.close()
    assert (tmp_path / "log").read_text() == "# start\none\n# start\ntwo\n"


def test_verbose_goes_to_standard_error(capsys):
    Log(Logging(verbose=True)).feed(b"seen\n")
    assert capsys.readouterr().err == "seen\n"


def test_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(PermissionFailure, match="'.*nowhere/log' cannot be written"):
        Log(Logging(tmp_path / "nowhere/log"))


def test_a_full_disk_ends_the_file_and_is_said_once(capsys):
    log = Log(Logging(Path("/dev/full")))
    log.begin("start")
    log.feed(b"one\ntwo\n")
    log.close()
    assert capsys.readouterr().err == (
        "note: the log file '/dev/full' can no longer be written (No space left on device): it is not continued\n"
    )
    assert log.tail(2) == ["one", "two"]


def test_a_reader_of_standard_error_that_went_away(tmp_path, monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    log = Log(Logging(tmp_path / "log", verbose=True))
    with suppress(BrokenPipeError), open(writing, "w") as broken:
        monkeypatch.setattr("sys.stderr", broken)
        log.feed(b"one\ntwo\n")
    log.close()
    said = "one\n# standard error can no longer be written (Broken pipe)\ntwo\n"
    assert (tmp_path / "log").read_text() == said


def test_our_own_sentence_comes_first():
    said = b"0.1 E load: no\nmkllm-engine: the index is damaged\n0.2 E srv: failed\n"
    assert fed(said).trouble(starting=True) == "mkllm-engine: the index is damaged"
