"""What the tests saw of each family, and the tables that say so: spec/families.md with figures, README.md in short.

Only what stands between two marks is written. A family of which nothing was seen keeps its row.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from families.family import FAMILIES, Family

ROOT = Path(__file__).parents[2]
SPEC, README = ROOT / "spec" / "families.md", ROOT / "README.md"
BEGIN, END = "<!-- families: written by `nox -s families -- --write-table` -->", "<!-- end of families -->"
COLUMNS = {
    "tokens": "tokens",
    "top": "top token",
    "f32": "KL F32",
    "q8_0": "KL Q8_0",
    "templates": "chat template",
}
OF_MODELS = ("tokens", "top", "f32", "q8_0")
UNSEEN, FAILED = "", "no: "


@dataclass(frozen=True)
class Cell:
    """`text` says how well it went, whether it `passed` or not."""

    passed: bool
    text: str

    def __str__(self) -> str:
        return self.text if self.passed else FAILED + self.text


@dataclass
class Results:
    """What was seen in this run, by family and column."""

    seen: dict[str, dict[str, Cell]] = field(default_factory=dict)

    def record(self, family: str, column: str, passed: bool, text: str) -> None:
        """`text` becomes the cell in the table: what was seen, and by which measure."""
        assert column in COLUMNS and any(known.name == family for known in FAMILIES), f"{family}, {column}"
        self.seen.setdefault(family, {})[column] = Cell(passed, text)


Rows = Mapping[str, Mapping[str, str]]


def written(text: str) -> Rows:
    """The cells of a table of families, by family and column."""
    lines = [line for line in _between(text).splitlines() if line.startswith("|")]
    head, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if not line.startswith("|-")]
    found = {}
    for row in rows:
        named = dict(zip(head, row, strict=True))
        found[named["family"]] = {column: named[title] for column, title in COLUMNS.items() if title in named}
    return found


def merged(before: Rows, results: Results) -> Rows:
    """What was written, with what was seen now; where a family has another's model, with what was seen of that."""
    found: dict[str, dict[str, str]] = {}
    for family in sorted(FAMILIES, key=lambda one: one.like is not None):
        cells = {column: str(cell) for column, cell in results.seen.get(family.name, {}).items()}
        found[family.title] = {**before.get(family.title, {}), **cells}
        if family.like:
            other = next(one.title for one in FAMILIES if one.name == family.like)
            found[family.title] |= {column: found[other].get(column, UNSEEN) for column in OF_MODELS}
    return found


def difference(rows: Rows, results: Results) -> list[str]:
    """Where a table says something else than was seen: what passed, not how well; of templates how many."""
    titles = {family.name: family.title for family in FAMILIES}
    found = [f"{title} is no family" for title in rows if title not in titles.values()]
    found += [f"{title} is not in the table" for title in titles.values() if title not in rows]
    for name, cells in results.seen.items():
        for column, cell in cells.items():
            said = rows.get(titles[name], {}).get(column, UNSEEN)
            is_other = said != str(cell) if column == "templates" else _is_pass(said) != cell.passed
            if is_other:
                found.append(f"{titles[name]}, {COLUMNS[column]}: the table says {said!r}, the run {str(cell)!r}")
    return found


def _is_pass(said: str) -> bool:
    return said != UNSEEN and not said.startswith(FAILED)


def full(rows: Rows) -> str:
    """The table of spec/families.md."""
    head = ["family", "models", "reference", *COLUMNS.values(), "note"]
    return _table(head, ([*_named(family), *_cells(rows, family, COLUMNS), _note(family)] for family in FAMILIES))


def brief(rows: Rows) -> str:
    """The table of README.md: which families passed what."""
    columns = ("f32", "q8_0", "tokens")
    head = ["family", "models", "F32", "Q8_0", "tokens", "chat template"]
    return _table(head, ([*_named(family)[:2], *_short_cells(rows, family, columns)] for family in FAMILIES))


def replaced(text: str, table: str) -> str:
    """A document with another table."""
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    return f"{before}{BEGIN}\n{table}{END}{after}"


def _short_cells(rows: Rows, family: Family, columns: Iterable[str]) -> list[str]:
    """Whether it passed; of chat templates how many conversations did."""
    return [*map(_short, _cells(rows, family, columns)), *_cells(rows, family, ["templates"])]


def _short(cell: str) -> str:
    return "no" if cell.startswith(FAILED) else "yes" if cell else ""


def _note(family: Family) -> str:
    """Its own, and with which options it was built."""
    options = f"built with `{' '.join(family.engine)}`" if family.engine else ""
    return "; ".join(filter(None, (family.note, options)))


def _named(family: Family) -> list[str]:
    return [family.title, family.models, family.reference]


def _cells(rows: Rows, family: Family, columns: Iterable[str]) -> list[str]:
    return [rows.get(family.title, {}).get(column, UNSEEN) for column in columns]


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("|" + "|".join(f" {cell} " if cell != "---" else cell for cell in line) + "|\n" for line in lines)


def _between(text: str) -> str:
    return text.split(BEGIN)[1].split(END)[0]
