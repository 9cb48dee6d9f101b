"""The tables in spec/families.md and README.md say what this run saw; `--write-table` writes them.

Its last test comes last of all, when the tests of families have told what they saw.
"""

import pytest
from families.family import FAMILIES
from families.table import (
    BEGIN,
    END,
    README,
    SPEC,
    Results,
    brief,
    difference,
    full,
    merged,
    replaced,
    written,
)


@pytest.fixture
def made_up() -> Results:
    results = Results()
    results.record("llama-1", "f32", True, "3.4e-06")
    results.record("llama-1", "tokens", False, "19 of 20")
    results.record("alpaca", "templates", True, "10 of 10")
    return results


def test_what_is_written_is_read_again(made_up: Results) -> None:
    rows = merged({}, made_up)
    text = replaced(f"before\n{BEGIN}\n{END}\nbehind\n", full(rows))
    assert "| LLaMA 1 |" in text and text.startswith("before\n") and text.endswith("\nbehind\n")
    assert {title: dict(cells) for title, cells in written(text).items()} == {
        family.title: {"tokens": "", "top": "", "f32": "", "q8_0": "", "templates": "", **rows[family.title]}
        for family in FAMILIES
    }
    assert merged(written(text), Results()) == written(text) and difference(written(text), made_up) == []
    assert "| Alpaca | Alpaca 7B, 13B | yes |  | no | 10 of 10 |\n" in brief(written(text))


def test_another_outcome_is_a_difference_another_figure_is_none(made_up: Results) -> None:
    rows = merged({}, made_up)
    better = Results()
    better.record("llama-1", "f32", True, "1.0e-06")
    assert difference(rows, better) == []
    better.record("llama-1", "tokens", True, "20 of 20")
    assert difference(rows, better) == ["LLaMA 1, tokens: the table says 'no: 19 of 20', the run '20 of 20'"]
    worse = Results()
    worse.record("llama-1", "f32", False, "1.0e-04")
    assert difference(rows, worse) == ["LLaMA 1, KL F32: the table says '3.4e-06', the run 'no: 1.0e-04'"]
    worse = Results()
    worse.record("gpt2", "f32", True, "1.0e-06")  # nothing is said of it
    assert difference(rows, worse) == ["GPT-2, KL F32: the table says '', the run '1.0e-06'"]


def test_rows_are_those_of_the_families() -> None:
    rows = dict(merged({}, Results()))
    rows["GPT-9"] = rows.pop("GPT-2")
    assert difference(rows, Results()) == ["GPT-9 is no family", "GPT-2 is not in the table"]


def test_tables_say_what_was_seen(results: Results, request: pytest.FixtureRequest) -> None:
    spec, readme = SPEC.read_text("utf-8"), README.read_text("utf-8")
    if request.config.getoption("--write-table"):
        rows = merged(written(spec), results)
        spec, readme = replaced(spec, full(rows)), replaced(readme, brief(rows))
        SPEC.write_text(spec, "utf-8")
        README.write_text(readme, "utf-8")
    rows = written(spec)
    assert not difference(rows, results)
    assert readme == replaced(readme, brief(rows))
    assert spec == replaced(spec, full(rows))
