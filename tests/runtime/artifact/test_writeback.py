import os
import time
from pathlib import Path

from mkllm.runtime.artifact.writeback import EVERY, Writeback


def _asked(path: Path, monkeypatch, stretches: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """What the kernel is asked for when these stretches were written one after another."""
    asked: list[tuple[int, int]] = []
    with path.open("wb") as file:
        writeback = Writeback(file.fileno())

        def begin(descriptor, start, length, flags):
            assert (descriptor, flags) == (file.fileno(), 2)
            asked.append((start, length))

        monkeypatch.setattr(writeback, "_begin", begin)
        for at, size in stretches:
            writeback.written(at, size)
            while writeback._last and not writeback._last.done():
                time.sleep(0.001)
        writeback.close()
    return asked


def test_a_stretch_is_asked_for_when_it_is_long_enough(tmp_path, monkeypatch):
    half = EVERY // 2
    assert _asked(tmp_path / "x", monkeypatch, [(0, half), (half, half), (EVERY, 1)]) == [(0, EVERY)]


def test_a_gap_starts_a_new_stretch(tmp_path, monkeypatch):
    assert _asked(tmp_path / "x", monkeypatch, [(0, 10), (100, EVERY)]) == [(100, EVERY)]


def test_dirty_pages_reach_the_disk_before_the_sync(tmp_path):
    """The kernel itself is asked, and takes the call."""
    path = tmp_path / "x"
    with path.open("wb") as file:
        writeback = Writeback(file.fileno())
        os.write(file.fileno(), bytes(EVERY))
        writeback.written(0, EVERY)
        assert writeback._last is not None
        assert writeback._last.result() == 0
        writeback.close()


def test_a_closed_file_harms_nothing(tmp_path):
    writeback = Writeback(10**6)
    writeback.written(0, EVERY)
    assert writeback._last is not None
    assert writeback._last.result() == -1
    writeback.close()
