"""Where the instructions of a Modelfile begin and end."""

import pytest

from mkllm.builder.recipe.instructions import Mistake, instructions

TEXT = '''# a comment
FROM ./model.gguf

  parameter temperature 0.5
PARAMETER stop "a # b"
System """one
# no comment
  two """
MESSAGE user  Is it "so"?
LICENSE "two
lines"
TEMPLATE """"""
'''


def test_names_values_and_places() -> None:
    found = list(instructions(TEXT))
    assert [(one.name, one.second, one.value) for one in found] == [
        ("FROM", "", "./model.gguf"),
        ("PARAMETER", "temperature", "0.5"),
        ("PARAMETER", "stop", "a # b"),
        ("SYSTEM", "", "one\n# no comment\n  two "),
        ("MESSAGE", "user", 'Is it "so"?'),
        ("LICENSE", "", "two\nlines"),
        ("TEMPLATE", "", ""),
    ]
    assert all(TEXT.startswith(one.value, one.begin) for one in found)
    assert [TEXT.count("\n", 0, one.offset) + 1 for one in found] == [2, 4, 5, 6, 9, 10, 12]


@pytest.mark.parametrize(
    ("text", "offset", "sentence"),
    [
        ("FROM", 0, "FROM has no value"),
        ("FROM demo\nSYSTEM \n", 10, "SYSTEM has no value"),
        ('FROM demo\nSYSTEM """never\nends', 17, "the quotes that begin here do not end"),
        ('SYSTEM "never', 7, "the quotes that begin here do not end"),
        ("PARAMETER", 0, "PARAMETER is followed by the name of a parameter and a value"),
        ("PARAMETER stop", 0, "PARAMETER stop has no value"),
        ("MESSAGE ", 0, "MESSAGE is followed by a role and a value"),
        ("= 3", 0, "an instruction begins with a word, not with '='"),
    ],
)
def test_mistakes(text: str, offset: int, sentence: str) -> None:
    with pytest.raises(Mistake) as failure:
        list(instructions(text))
    assert (failure.value.offset, str(failure.value)) == (offset, sentence)
