"""Which options of `mkllm build` the manifest has to remember, since nothing else in it tells them (spec/recipe.md)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from mkllm.builder.recipe.toml import keys
from mkllm.runtime.artifact.manifest import Choice
from mkllm.runtime.artifact.recipe import TOLD

# The bytes do not depend on these.
WITHOUT_EFFECT = frozenset({"force", "json", "offline", "quiet", "debug"})
# It may hold a password, and no two signatures are the same.
NEVER_TOLD = frozenset({"sign"})


def options_of(ctx: click.Context) -> dict[str, Choice]:
    """Those options of the command that the artifact's recipe takes from the manifest's `options`."""
    return dict(_recorded(ctx))


def _recorded(ctx: click.Context) -> Iterator[tuple[str, Choice]]:
    for key, param in keys(ctx.command.params).items():
        if key in TOLD or key in WITHOUT_EFFECT or key in NEVER_TOLD:
            continue
        value = ctx.params[param.name or ""]
        if value is not None and value is not False and value != () and value != param.default:
            yield key, _plain(value)


def _plain(value: Any) -> Choice:
    """As the manifest has it; of files their names, without folders of the maker's machine."""
    if isinstance(value, tuple):
        return tuple(str(_plain(one)) for one in value)
    if isinstance(value, Path):
        return value.name
    return value if type(value) in (bool, int, float) else str(value)
