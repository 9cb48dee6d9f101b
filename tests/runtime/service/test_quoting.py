"""systemd's rules of quoting; that systemd reads them so is tried end to end."""

import pytest

from mkllm.runtime.service.quoting import argument, path_in_list, plain, word


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("/usr/local/lib/demo", "/usr/local/lib/demo"),
        ("/home/u/My Files/x", '"/home/u/My Files/x"'),
        ("100%", '"100%%"'),
        ('say "hi"', '"say \\"hi\\""'),
        ("back\\slash", '"back\\\\slash"'),
        ("two\nlines\tand", '"two\\nlines\\tand"'),
        ("a;b", '"a;b"'),
        ("it's", '"it\'s"'),
        ("", '""'),
        ("ü", '"ü"'),
        ("\udcff", '"\\xff"'),
        ("\x1b[1m", '"\\x1b[1m"'),
    ],
)
def test_words(text, quoted):
    assert word(text) == quoted


def test_variables_of_commands():
    assert argument("$HOME") == '"$$HOME"' and word("/a$1") == '"/a$1"'


def test_colons_of_paths_in_lists():
    assert path_in_list("/home/a:b") == '"/home/a\\\\:b"' and path_in_list("/home/a") == "/home/a"


def test_plain_values():
    assert plain("100 % of it") == "100 %% of it"
