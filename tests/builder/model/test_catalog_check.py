"""The checker of the catalogue finds every kind of difference, on a hub of the tests' own."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from mkllm.builder.model.catalog_check import main

ENTRY = """
[[model]]
alias = "small"
title = "Small"
family = "llama"
kind = "chat"
repository = "org/model"
billions = 1
default = "Q8_0"
license = "Apache-2.0"
context = 512
known_from = {{}}
[model.files]
Q8_0 = {{ name = "small-Q8_0.gguf", {facts}, known_from = ["x"] }}
"""


@pytest.fixture
def checked(hub: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """`checked(**changes)`: exit code and output of the checker for one entry with other facts."""
    data = hub.repositories["org/model"].files["small-Q8_0.gguf"]
    right = {"size": len(data), "sha256": f'"{hashlib.sha256(data).hexdigest()}"'}

    def run(change: dict[str, object] | None = None, text: str = ENTRY) -> tuple[int, str]:
        facts = ", ".join(f"{key} = {value}" for key, value in {**right, **(change or {})}.items() if value is not None)
        path = tmp_path / "catalog.toml"
        path.write_text(text.format(facts=facts))
        code = main([str(path)])
        told = capsys.readouterr()
        return code, told.out + told.err

    return run


def test_what_is_right(checked: Any, hub: Any) -> None:
    hub.repositories["org/model"].card = {"license": "apache-2.0"}
    hub.repositories["org/model"].gguf = {"context_length": 512, "total": 1_050_000_000}
    assert checked() == (0, "1 entries compared with the hub, 0 differ\n")
    size = len(hub.repositories["org/model"].files["small-Q8_0.gguf"])
    assert checked({"size": None, "about": round(size * 1.01)})[0] == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"size": 1}, "small: Q8_0: 'small-Q8_0.gguf' has "),
        ({"size": None, "about": 9_000}, "bytes, not 9000"),
        ({"sha256": '"' + "0" * 64 + '"'}, f"not {'0' * 64}"),
    ],
)
def test_wrong_files(checked: Any, change: dict[str, object], told: str) -> None:
    code, text = checked(change)
    assert code == 1 and told in text and text.endswith("1 entries compared with the hub, 1 differ\n")


def test_wrong_facts(checked: Any, hub: Any) -> None:
    hub.repositories["org/model"].card = {"license": "mit"}
    hub.repositories["org/model"].gguf = {"context_length": 1024, "total": 3_000_000_000}
    code, text = checked()
    assert code == 1 and "the card names the licence 'mit', not 'Apache-2.0'" in text
    assert "the context is 1024, not 512" in text and "it has 3.00 billion parameters, not 1\n" in text


def test_what_is_gone(checked: Any, hub: Any) -> None:
    code, text = checked(text=ENTRY.replace("small-Q8_0.gguf", "gone.gguf"))
    assert code == 1 and "small: Q8_0: the repository has no file 'gone.gguf'" in text
    del hub.repositories["org/model"]
    code, text = checked()
    assert code == 1 and "small: there is no repository 'org/model' on the hub" in text


def test_without_a_hub_nothing_is_said_to_be_right(checked: Any, hub: Any) -> None:
    hub.faults.unavailable = 10**6
    code, text = checked()
    assert code == 15 and "not checked: the hub at" in text and "compared" not in text


def test_an_entry_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nothing-like-this"]) == 2 and "no entry 'nothing-like-this'" in capsys.readouterr().err
