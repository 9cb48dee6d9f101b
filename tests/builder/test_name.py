"""Names of artifacts: short, printable, and made out of whatever a model's file is called."""

import pytest

from mkllm.builder.name import MAX, default_name, is_name, name_after


@pytest.mark.parametrize("text", ["", " ", "a\nb", "\x1b]0;x\x07", "x\udcff", "x" * (MAX + 1)])
def test_no_names(text: str) -> None:
    assert not is_name(text) and is_name(name_after(text))


def test_names_after_files() -> None:
    assert [name_after(stem) for stem in ("mistral 7b", "new\nline", "x\udcff", "", "ü" * 150)] == [
        "mistral 7b",
        "new_line",
        "x_",
        "model",
        "ü" * MAX,
    ]


def test_names_of_files() -> None:
    assert default_name("llama 3.1: 8b", "linux-x86_64") == "llama 3.1: 8b"
    assert default_name("llama 3.1: 8b", "windows-x86_64") == "llama 3.1_ 8b.exe"
