"""A command whose options may come from a recipe or a Modelfile (`-f FILE`); its command line overrides them."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from mkllm.builder.recipe.recipe import Recipe

RECIPE = "mkllm.recipe"
NATIVE = "mkllm.toml"


class FromFile(click.Command):
    """A command with the parameters `file`, which names a recipe, and `model`, which may name one too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        typed, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        given = {name for name, value in typed.items() if isinstance(value, str | list | tuple | bool)}
        if not ctx.resilient_parsing and (path := _recipe(typed, given)):
            recipe = _read(path, self.params)
            if "file" not in given and Path(str(typed["model"])).is_dir():
                from mkllm.builder.recipe.found import expect_harmless

                recipe = expect_harmless(recipe, self.params, given)
            ctx.meta[RECIPE] = recipe
            ctx.default_map = dict(recipe.values)
            if "file" not in given:
                ctx.meta[RECIPE + ".model"] = True
        with _told(ctx, given):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        given = {
            param.name or ""
            for param in self.params
            if ctx.get_parameter_source(param.name or "") == click.core.ParameterSource.COMMANDLINE
        }
        with _told(ctx, given):
            return super().invoke(ctx)


def model_of(ctx: click.Context, _: click.Parameter, value: str) -> str:
    """MODEL, or what the recipe that it names says."""
    if RECIPE + ".model" not in ctx.meta:
        return value
    recipe: Recipe = ctx.meta[RECIPE]
    if "model" not in recipe.values:
        raise recipe.wrong("model", 'it names no model: add model = "…"')
    return str(recipe.values["model"])


def recipe_of(ctx: click.Context) -> "Recipe | None":
    """The recipe that the command took its options from."""
    return ctx.meta.get(RECIPE)


def marks_of(ctx: click.Context) -> frozenset[str] | None:
    """Those of the chat template that the recipe has, if it is the one in use."""
    recipe = recipe_of(ctx)
    used = ctx.get_parameter_source("chat_template") == click.core.ParameterSource.DEFAULT_MAP
    return recipe.marks if recipe and used else None


def _recipe(typed: Mapping[str, Any], given: set[str]) -> Path | None:
    """The recipe that is named, if one is."""
    of_model = _named(str(typed["model"])) if "model" in given else None
    if "file" not in given:
        return of_model
    if of_model:
        names = f"-f {str(typed['file'])!r} and {str(typed['model'])!r}"
        raise click.UsageError(f"{names} are two recipes: give one of them")
    return Path(str(typed["file"]))


def _named(text: str) -> Path | None:
    """The recipe that MODEL is, or that the folder MODEL holds."""
    path = Path(text)
    try:
        if path.is_dir():
            return next((path / name for name in (NATIVE, "Modelfile") if (path / name).is_file()), None)
        if not path.is_file():
            return None
    except OSError:
        return None
    if path.suffix == ".toml":
        return path
    from mkllm.builder.model.folder import is_modelfile

    return path if os.access(path, os.R_OK) and is_modelfile(path) else None


def _read(path: Path, params: list[click.Parameter]) -> "Recipe":
    from mkllm.builder.recipe import modelfile, toml

    return toml.read(path, params) if path.suffix == ".toml" else modelfile.read(path)


@contextlib.contextmanager
def _told(ctx: click.Context, given: set[str]) -> Iterator[None]:
    """What is wrong with a value of the recipe's is told with the place where it stands there."""
    try:
        yield
    except click.UsageError as error:
        recipe, name = recipe_of(ctx), _name(ctx, error)
        if recipe and name in recipe.values and name not in given:
            raise recipe.wrong(name, error.message.rstrip(".")) from None
        if recipe and isinstance(error, click.MissingParameter) and name == "model":
            raise recipe.wrong(name, "it names no model: add one, or name it on the command line") from None
        raise


def _name(ctx: click.Context, error: click.UsageError) -> str:
    """Of the parameter that is wrong."""
    param, hint = getattr(error, "param", None), getattr(error, "param_hint", None)
    if param is None and isinstance(hint, str):
        param = next((param for param in ctx.command.params if hint in param.opts), None)
    return (param.name or "") if param else ""
