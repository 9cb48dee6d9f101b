"""mkllm.toml: its keys are the options, its files lie beside it, its mistakes are told with their line."""

from pathlib import Path

import pytest

from mkllm.builder.commands.build import build
from mkllm.builder.commands.defaults import SAMPLING
from mkllm.builder.commands.recorded import NEVER_TOLD, WITHOUT_EFFECT
from mkllm.builder.errors import UnusableRecipe
from mkllm.builder.recipe.recipe import Recipe
from mkllm.builder.recipe.toml import keys, read
from mkllm.runtime.artifact import recipe


def reading(folder: Path, text: str) -> Recipe:
    path = folder / "mkllm.toml"
    path.write_text(text)
    return read(path, build.params)


def test_every_option_is_a_key_that_is_told_or_has_no_effect() -> None:
    """A new option is told by the manifest's `options`, unless it is in one of these lists."""
    known = keys(build.params)
    assert len(known) == len(build.params) - 1  # all but -f itself
    assert set(known) >= recipe.TOLD | WITHOUT_EFFECT | NEVER_TOLD
    assert recipe.SAMPLING == {name.replace("_", "-") for name in SAMPLING}
    listed = [recipe.TOLD, WITHOUT_EFFECT, NEVER_TOLD]
    assert sum(map(len, listed)) == len(frozenset().union(*listed))
    recorded = set(known) - frozenset().union(*listed)
    assert recorded == recipe.RECORDED


def test_a_word_in_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "mkllm.toml").write_text('model = "demo"\nmmproj = "none"\n')
    assert read(tmp_path / "mkllm.toml", build.params).values["projector"] == "none"
    (tmp_path / "mkllm.toml").write_text('model = "demo"\nmmproj = "eyes.gguf"\n')
    assert read(tmp_path / "mkllm.toml", build.params).values["projector"] == str(tmp_path / "eyes.gguf")


def test_values_and_files_beside(tmp_path: Path) -> None:
    (tmp_path / "model").touch()
    found = reading(
        tmp_path,
        'model = "model"\nsystem = "@prompt.txt"\ntarget = "linux-x86_64"\nengine-arg = ["--keep", "3"]\n'
        'message = ["user", "@m.txt"]\nlicense = "@@MIT"\nicon = "a.ico"\noutput = "out/x"\nforce = true\n'
        'max-file-size = "4GB"\nctx-size = 512\ntemperature = 1\n',
    )
    assert found.values == {
        "model": str(tmp_path / "model"),
        "system": f"@{tmp_path / 'prompt.txt'}",
        "targets": ["linux-x86_64"],
        "engine_arg": ["--keep", "3"],
        "message": [["user", f"@{tmp_path / 'm.txt'}"]],
        "licences": ["@@MIT"],
        "icon": str(tmp_path / "a.ico"),
        "path": str(tmp_path / "out/x"),
        "force": True,
        "max_file_size": "4GB",
        "ctx_size": 512,
        "temperature": 1,
    }


def test_a_folder_that_begins_with_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "@mine").mkdir()
    (tmp_path / "@mine/mkllm.toml").write_text("system = '@prompt.txt'")
    assert read(Path("@mine/mkllm.toml"), build.params).values == {"system": "@./@mine/prompt.txt"}
    (tmp_path / "mkllm.toml").write_text("system = '@./@prompt.txt'")
    assert read(Path("mkllm.toml"), build.params).values == {"system": "@./@prompt.txt"}


def test_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "mkllm.toml").write_bytes(b"\xef\xbb\xbfmodel = 'demo'\r\n")
    assert read(tmp_path / "mkllm.toml", build.params).values == {"model": "demo"}


@pytest.mark.parametrize("name", ["demo", "mistral-7b", "hf:org/repo", "ollama:x", "https://x/y.gguf"])
def test_models_that_are_no_files(tmp_path: Path, name: str) -> None:
    assert reading(tmp_path, f'model = "{name}"').values == {"model": name}


@pytest.mark.parametrize(
    ("text", "place", "sentence"),
    [
        ("model = 'demo'\n\ntemprature = 1", ":3", "there is no option 'temprature': did you mean 'temperature'?"),
        ("ctx_size = 1", ":1", "there is no option 'ctx_size': did you mean 'ctx-size'?"),
        ('system = """\nqqq = 1\n"""\nqqq = 2', ":4", "there is no option 'qqq': `mkllm build --help` lists them"),
        ("[build]\nmodel = 'demo'", ":1", "there is no option 'build'"),
        ("model = 'demo'\nfile = 'x'", ":2", "there is no option 'file'"),
        ("model = 'demo'\nmodel = 'x'", ":2:", "it is not TOML (cannot overwrite a value): correct it"),
        ("model = ", ":1", "it is not TOML (invalid value"),
        ('system = "', ":1", "it is not TOML"),
        ("ctx-size = '512'", ":1", "'ctx-size' takes a number, not '512'"),
        ("ctx-size = true", ":1", "'ctx-size' takes a number, not True"),
        ("force = 1", ":1", "'force' takes true or false, not 1"),
        ("model = 'demo'\noutput = \"a\\u0000b\"", ":2", "'output': a character 0 is no part of a text or of a file's"),
        ('model = "a\\u0000b"', ":1", "'model': a character 0"),
        ('imatrix = "a\\u0000b"', ":1", "'imatrix': a character 0"),
        ('system = "@a\\u0000b"', ":1", "'system': a character 0"),
        ('chat-template = "a\\u0000b"', ":1", "'chat-template': a character 0"),
        ('engine-arg = ["--keep", "a\\u0000b"]', ":1", "'engine-arg': a character 0"),
        ('message = ["user", "a\\u0000b"]', ":1", "'message': a character 0"),
        ("engine-arg = " + "[" * 5000 + "]" * 5000, "", "it is nested too deeply: make it flatter"),
        ("ctx-size = " + "1" * 5000, ":1", "it is not TOML (exceeds the limit"),
        ("system = 1", ":1", "'system' takes a string, not 1"),
        ("engine-arg = [1]", ":1", "'engine-arg' takes a string, not 1"),
        ("max-file-size = 1.5", ":1", "'max-file-size' takes a string or a number, not 1.5"),
        ("message = ['user']", ":1", '\'message\' takes lists of 2 strings each, such as ["user", "Hello"]'),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, place: str, sentence: str) -> None:
    with pytest.raises(UnusableRecipe) as failure:
        reading(tmp_path, text)
    assert str(failure.value).startswith(f"{tmp_path / 'mkllm.toml'}{place}") and sentence in str(failure.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UnusableRecipe, match="cannot be read \\(no such file or directory\\)"):
        read(tmp_path / "mkllm.toml", build.params)
    (tmp_path / "mkllm.toml").write_bytes(b"GGUF\3\0\0\0")
    with pytest.raises(UnusableRecipe, match="is no recipe but a model: name it without -f"):
        read(tmp_path / "mkllm.toml", build.params)
    (tmp_path / "mkllm.toml").write_bytes(b"\xff")
    with pytest.raises(UnusableRecipe, match="it is not UTF-8 text: a recipe is TOML"):
        read(tmp_path / "mkllm.toml", build.params)
