"""Models of the families, made and asked by their reference in the converter's environment; artifacts of them."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from families.table import Results
from served import mkllm as mkllm
from served import serve as serve

from mkllm.builder.convert.converter import ALONE
from mkllm.builder.convert.environment import Environment, environment
from mkllm.builder.progress import Output

HERE = Path(__file__).parent
LONG = 600  # seconds
Build = Callable[..., Path]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-table", action="store_true", help="Write what is seen into spec/families.md and README.md."
    )


@dataclass(frozen=True)
class Reference:
    """The process of reference.py, which imports what it needs once for all families."""

    process: subprocess.Popen[str]

    def make(self, family: str, folder: Path, **changes: Any) -> Path:
        """A folder with a model of that family, its configuration changed so."""
        self._ask("make", name=family, folder=str(folder), changes=changes)
        return folder

    def tokens(self, family: str, folder: Path, texts: list[str]) -> list[list[int]]:
        found: list[list[int]] = self._ask("tokens", name=family, folder=str(folder), texts=texts)
        return found

    def predict(
        self, family: str, folder: Path, prompts: list[list[int]], changes: dict[str, Any] | None = None
    ) -> list[list[float]]:
        """What comes after each prompt: log-probabilities, or whatever else the family's function gives."""
        words = {"name": family, "folder": str(folder), "prompts": prompts, "changes": changes or {}}
        found: list[list[float]] = self._ask("predict", **words)
        return found

    def _ask(self, do: str, **values: object) -> Any:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps({"do": do, **values}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the reference ended when it was asked to {do} {values.get('name')}: see above"
        return json.loads(line)


@pytest.fixture(scope="session")
def converter() -> Environment:
    return environment(Output(True))


@pytest.fixture(scope="session")
def reference(converter: Environment) -> Iterator[Reference]:
    words: list[str | Path] = [converter.python, "-s", "-E", HERE / "reference.py"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, **pipes, text=True, env={**os.environ, **ALONE}) as process:
        yield Reference(process)
        assert process.stdin
        process.stdin.close()
        process.wait(LONG)


@pytest.fixture(scope="session")
def results() -> Results:
    """Where the tests of families tell what they saw; the table is compared with it, or written from it, at the end."""
    return Results()


@pytest.fixture
def build(mkllm: Path, tmp_path: Path) -> Build:
    """`build(folder, *options)`: what `mkllm build` makes of it."""

    def building(folder: Path, *options: str | Path) -> Path:
        target = tmp_path / f"artifact{len(list(tmp_path.glob('artifact*')))}"
        words = [mkllm, "build", folder, "-o", target, *options]
        done = subprocess.run(words, capture_output=True, text=True, timeout=LONG, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr
        return target

    return building
