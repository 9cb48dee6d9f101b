"""The families of families.toml, and what they are asked to go on with."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PROMPTS: list[str] = tomllib.loads((HERE / "prompts.toml").read_text("utf-8"))["prompts"]
DECODER, REFUSED = "decoder", "refused"


@dataclass(frozen=True)
class Family:
    """A row of the table. `kind`: what is compared, and so which module tests it; `like`: the family whose model it is,
    with another prompt format; `notices`: changes of the configuration that must change what the reference predicts;
    `compared`: changes with which it is asked, since llama.cpp computes so, as `note` says; `engine`: words for `mkllm
    build`. Other keys are for the reference."""

    name: str
    title: str
    models: str = ""
    kind: str = DECODER
    reference: str = "transformers"
    like: str | None = None
    notices: tuple[Mapping[str, Any], ...] = ()
    compared: Mapping[str, Any] = field(default_factory=dict)
    engine: tuple[str, ...] = ()
    note: str = ""
    rest: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


def _family(entry: dict[str, Any]) -> Family:
    own = {key: entry.pop(key) for key in list(entry) if key in Family.__dataclass_fields__}
    for key in ("notices", "engine"):
        own[key] = tuple(own.get(key, ()))
    return Family(**own, rest=entry)


FAMILIES = tuple(_family(entry) for entry in tomllib.loads((HERE / "families.toml").read_text("utf-8"))["family"])


def of_kind(kind: str) -> list[Family]:
    return [family for family in FAMILIES if family.kind == kind and family.like is None]
