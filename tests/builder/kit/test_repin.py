"""The hashes in pins.toml: there for everything that is frozen, and written anew from what pip finds."""

import tomllib
from collections.abc import Callable
from pathlib import Path

from mkllm.builder.kit.pins import pins, wheel_versions
from mkllm.builder.kit.repin import repin

TABLE = """# A comment stays.
[sdist.pyinstaller]
version = "1.0"

[runtime]
Tiny_Thing = "1.0"

[windows.runtime]
[freezer]

# Written by repin.
[wheels]
stale = ["0"]
"""


def test_every_frozen_package_has_hashes() -> None:
    hashes = pins()["wheels"]
    assert hashes.keys() == wheel_versions(pins()).keys()
    assert all(found and {len(value) for value in found} == {64} for found in hashes.values())


def test_the_table_is_written_anew(tmp_path: Path, put_wheel: Callable[[str], str]) -> None:
    hashes = {"Tiny_Thing": [put_wheel("tiny_thing")], "pyinstaller": [put_wheel("pyinstaller")]}
    path = tmp_path / "pins.toml"
    path.write_text(TABLE)
    repin(path)
    text = path.read_text()
    assert text.startswith(TABLE.partition("stale")[0]) and "# py3-none-any" in text
    assert tomllib.loads(text)["wheels"] == hashes
