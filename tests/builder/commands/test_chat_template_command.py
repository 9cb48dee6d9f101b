"""`mkllm build --chat-template`: a format, a file or a template, on the command line and in recipes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mkllm.builder.model.formats import formats
from mkllm.runtime.artifact.reader import open_artifact

from .program import Run, refused

OWN = "{# mine #}\n{{ messages[0].content }}\n"


def template(path: Path) -> str | None:
    with open_artifact(path) as artifact:
        return artifact.manifest.defaults.chat_template


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("vicuna", formats()["vicuna"].template),
        ("Alpaca", formats()["alpaca"].template),
        ("own.jinja", OWN),
        ("@own.jinja", OWN),
        ("{{ x }}.jinja", "{{ x }}.jinja"),
        ("@@{{ x }}", "@{{ x }}"),
    ],
)
def test_it_is_in_the_manifest_and_in_the_recipe(mkllm: Run, folder: Path, value: str, wanted: str) -> None:
    (folder / "own.jinja").write_text(OWN)
    done = mkllm("build", "model.gguf", "-o", "out", "--chat-template", value)
    assert done.returncode == 0, done.stderr
    assert template(folder / "out") == wanted
    (folder / "again.toml").write_text(mkllm("inspect", "--recipe", "out").stdout)
    (folder / "own.jinja").unlink()
    (folder / "again").mkdir()
    assert mkllm("build", "-f", "again.toml", "-o", "again/out").returncode == 0
    assert (folder / "again/out").read_bytes() == (folder / "out").read_bytes()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("vicunna", "there is no format 'vicunna': did you mean 'vicuna'? else name a file that ends in .jinja"),
        ("xyzzy", "there is no format 'xyzzy': known are alpaca, chatml, "),
        ("", "there is no format ''"),
        ("none.jinja", "'none.jinja' cannot be read (no such file or directory): name a text file"),
        (".jinja", "'.jinja' cannot be read (is a directory)"),
        ("plain.jinja", "'plain.jinja' holds no chat template, which would be Jinja: name another file"),
        ("@empty", "'empty' holds no chat template"),
        ("binary.jinja", "'binary.jinja' is not UTF-8 text"),
        ("@@vicuna", "there is no format '@@vicuna'"),
    ],
)
def test_what_is_none(mkllm: Run, folder: Path, value: str, text: str) -> None:
    (folder / "plain.jinja").write_text("Hello\n")
    (folder / "empty").touch()
    (folder / ".jinja").mkdir()
    (folder / "binary.jinja").write_bytes(b"{{ \xff }}")
    refused(mkllm("build", "model.gguf", "-o", "out", "--chat-template", value), 2, text)
    assert not (folder / "out").exists()


def test_in_a_recipe(mkllm: Run, folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub/own.jinja").write_text(OWN)
    recipe = folder / "sub/mkllm.toml"
    recipe.write_text('model = "../model.gguf"\nchat-template = "own.jinja"\n')
    assert mkllm("build", "sub", "-o", "out").returncode == 0
    assert template(folder / "out") == OWN
    recipe.write_text('model = "../model.gguf"\nchat-template = "vicuna"\n')
    assert mkllm("build", "-f", "sub/mkllm.toml", "-o", "named").returncode == 0
    assert template(folder / "named") == formats()["vicuna"].template
    recipe.write_text('model = "../model.gguf"\n\nchat-template = "vicunna"\n')
    refused(mkllm("build", "-f", "sub/mkllm.toml", "-o", "x"), 25, "sub/mkllm.toml:3: there is no format 'vicunna'")
    (folder / "kept.jinja").write_text(OWN)
    recipe.write_text('model = "../model.gguf"\nchat-template = "../kept.jinja"\n')
    refused(mkllm("build", "sub", "-o", "x"), 25, "'sub/../kept.jinja' is outside of the folder")


def test_a_model_that_has_none(mkllm: Run, folder: Path, gguf_bytes: Callable[..., bytes]) -> None:
    (folder / "model.gguf").write_bytes(gguf_bytes(tokenizer__chat_template=None, general__name="Vicuna 7B"))
    done = mkllm("build", "model.gguf", "-o", "out")
    assert done.returncode == 0 and done.stderr.endswith("; its name suggests --chat-template vicuna\n")
    assert template(folder / "out") is None
    done = mkllm("build", "model.gguf", "-o", "other", "--chat-template", "vicuna")
    assert done.returncode == 0 and "template" not in done.stderr
