"""Plain progress: a line now and then with rate and time left, and nothing for what is quick."""

import pytest

from mkllm.builder import progress
from mkllm.builder.progress import Lines, Output, size


def test_sizes_are_for_people() -> None:
    assert [size(n) for n in (0, 999, 1000, 4_113_000_000, 5e12)] == [
        "0 B",
        "999 B",
        "1.00 kB",
        "4.11 GB",
        "5000.00 GB",
    ]


def test_lines_tell_rate_and_time_left(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    lines = Lines("writing x", 4_000_000, 1_000_000, size)
    for seconds in (1, 2, 5, 6, 12):
        now[0] = 100.0 + seconds
        lines.advance(200_000)
    assert capsys.readouterr().err == (
        "writing x: 40% of 4.00 MB, 120.00 kB/s, 20 s left\nwriting x: 50% of 4.00 MB, 83.33 kB/s, 24 s left\n"
    )


def test_no_rate_before_anything_is_done(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    lines = Lines("converting x", 4_000_000, 1_000_000, size)
    for seconds, count in ((6, 0), (20, 1_000_000)):
        now[0] = 100.0 + seconds
        lines.advance(count)
    assert capsys.readouterr().err == (
        "converting x: 25% of 4.00 MB\nconverting x: 50% of 4.00 MB, 50.00 kB/s, 40 s left\n"
    )


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(quiet=True)
    with output.task("x", 10) as advance:
        advance(10)
    output.note("x")
    assert capsys.readouterr().err == ""
    Output().note("x")
    assert capsys.readouterr().err == "x\n"
