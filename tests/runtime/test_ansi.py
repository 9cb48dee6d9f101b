"""The last line of a terminal, with and without escapes."""

import io

import pytest

from mkllm.runtime import ansi


@pytest.fixture(params=[True, False], ids=["escapes", "none"])
def escapes(request, monkeypatch):
    monkeypatch.setattr("mkllm.runtime.ansi.escapes", lambda stream: request.param)
    return request.param


def screen(text):
    """What a line of 80 columns shows once `text` was written over a full one."""
    line, at = ["x"] * 80, 0
    for part in text.replace(ansi.ERASE, "\0"):
        if part == "\r":
            at = 0
        elif part == "\0":
            line[at:] = " " * (80 - at)
        else:
            line[at], at = part, at + 1
    return "".join(line[:79]).rstrip(), at


@pytest.mark.parametrize("text", ["", "verifying 42 %", "long " * 30])
def test_a_line_is_written_over(escapes, text):
    written = ansi.rewritten(text, io.StringIO())
    assert screen(written) == (text[:79].rstrip(), len(text[:79]))
    assert (ansi.ERASE in written) == escapes


def test_a_line_of_strange_letters_stays_one(escapes):
    assert screen(ansi.rewritten("a\nb\x1bc", io.StringIO()))[0] == "a b\N{REPLACEMENT CHARACTER}c"


def test_thoughts(escapes):
    assert ansi.dimmed("hm", io.StringIO()) == ("\x1b[2mhm\x1b[0m" if escapes else "hm")
