"""What is said of a kit's build where there is no terminal."""

import io

import pytest

from mkllm.builder.kit import report
from mkllm.builder.kit.report import PlainReport


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(report.time, "monotonic", lambda: now[0])
    return now


def test_time_left_is_reckoned_from_the_first_progress(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """Five minutes of preparation do not count, nor does what was built by an earlier run."""
    plain = PlainReport(io.StringIO())
    plain.step("configuring")
    clock[0] += 300
    for fraction in (0.50, 0.51, 0.60, 1.0):
        plain.progress(fraction)
        clock[0] += 60
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["configuring", "  50%", "  51%", "  60%, about 8 min left", "  100%, about 0 min left"]


def test_lines_are_few(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    plain = PlainReport(io.StringIO())
    for _ in range(100):
        clock[0] += 1
        plain.progress(0.5)
    assert len(capsys.readouterr().err.splitlines()) == 5
