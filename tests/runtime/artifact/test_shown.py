"""What a terminal is given of a manifest's strings."""

from mkllm.runtime.artifact.shown import shown


def test_what_can_be_printed_stays() -> None:
    assert shown("Mistral 7B, größer, 模型 🙂") == "Mistral 7B, größer, 模型 🙂"


def test_a_terminal_is_not_steered() -> None:
    assert shown("a\x1b]0;PWND\x07b") == "a\ufffd]0;PWND\ufffdb"
    assert shown("one\ntwo\tthree\r") == "one two three "
    assert shown("\x9b31m\u202eabc\x7f\udcff") == "\ufffd31m\ufffdabc\ufffd\ufffd"
