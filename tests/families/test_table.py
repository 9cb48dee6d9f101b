"""The tables in spec/families.md and README.md say what this run saw; `--write-table` writes them.

Named so that it comes last.
"""

import pytest
from families.table import README, SPEC, Results, brief, difference, full, merged, replaced, written


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
