from mkllm.runtime.commands.paragraphs import Line, columns, page, wrapped


def test_lines_are_no_wider_than_the_terminal_and_lose_no_word():
    text = "one sentence with a dozen words that has to go into several narrow lines"
    rows = list(wrapped(text, 20))
    assert " ".join(rows) == text and len(rows) > 3 and max(map(columns, rows)) <= 20


def test_a_word_that_is_too_long_stays_whole():
    assert list(wrapped("a " + "x" * 30 + " b", 10)) == ["a", "x" * 30, "b"]


def test_wide_letters_take_two_columns_and_accents_none():
    assert columns("モデル") == 6 and columns("e\u0301") == 1
    assert list(wrapped("モデル モデル", 10)) == ["モデル", "モデル"]


def test_names_do_not_steer_the_terminal():
    assert list(wrapped("a\x1b[2J\nb", 80)) == ["a\ufffd[2J b"]


def test_a_section_without_lines_is_left_out():
    sections = [("one", [Line("label", "a b"), Line("", "c")]), ("none", []), ("two", [Line("", "d")])]
    assert list(page(sections, 17)) == ["one", "  label       a b", " " * 14 + "c", "", "two", " " * 14 + "d"]
