"""Which chat template an artifact gets: the maker's, the model's own, the catalogue's, or none."""

from dataclasses import replace
from pathlib import Path

import jinja2
import pytest

from mkllm.builder.chat_template import chosen
from mkllm.builder.model.formats import formats
from mkllm.builder.model.reference import Source, resolve
from mkllm.builder.progress import Output


@pytest.fixture
def source(small_gguf: Path) -> Source:
    """One with a template of its own."""
    return resolve(str(small_gguf), Output(True))


def without(source: Source, repository: str | None = None, title: str = "x", pooling: str | None = None) -> Source:
    model = replace(source.model, chat_template=None, title=title, pooling=pooling)
    return replace(source, model=model, origin=replace(source.origin, repository=repository))


def test_the_makers_comes_first(source: Source, capsys: pytest.CaptureFixture[str]) -> None:
    assert chosen("{{ x }}", None, source, Output()) == "{{ x }}"
    assert chosen("{{ x }}", None, without(source, "TheBloke/vicuna-7B-v1.5-GGUF"), Output()) == "{{ x }}"
    assert chosen(None, None, source, Output()) is None  # the model's own
    assert capsys.readouterr().err == ""


def test_one_of_a_modelfile_gives_way_to_the_models_own(source: Source, capsys: pytest.CaptureFixture[str]) -> None:
    own = replace(source, model=replace(source.model, chat_template="<|a|>{{ messages }}<|b|>"))
    assert chosen("{{ x }}", frozenset({"<|a|>"}), own, Output()) is None
    assert "TEMPLATE is made of the marks of the model's own" in capsys.readouterr().err
    assert chosen("{{ x }}", frozenset({"<|c|>"}), own, Output()) == "{{ x }}"


@pytest.mark.parametrize(
    ("repository", "name"),
    [
        ("TheBloke/vicuna-7B-v1.5-GGUF", "vicuna"),
        ("thebloke/claude2-alpaca-7b-gguf", "alpaca"),
        ("TheBloke/Llama-2-7B-Chat-GGUF", "llama2"),
        ("TheBloke/Mistral-7B-Instruct-v0.1-GGUF", "mistral"),
    ],
)
def test_the_catalogue_knows_the_format(
    source: Source, repository: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chosen(None, None, without(source, repository), Output()) == formats()[name].template
    assert f"that of {name!r} is used, its format by the catalogue" in capsys.readouterr().err
    own = replace(source, origin=replace(source.origin, repository=repository))
    assert chosen(None, None, own, Output()) is None


def test_one_of_ollamas_is_translated(source: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    go = tmp_path / "template"
    go.write_text("{{ range .Messages }}[{{ .Role }}] {{ .Content }}{{ end }}")
    with_one = replace(without(source), template=go)
    found = chosen(None, None, with_one, Output())
    assert jinja2.Template(found or "").render(messages=[{"role": "user", "content": "Hi"}]) == "[user] Hi"
    assert "that in Ollama's store is used, translated" in capsys.readouterr().err
    assert chosen("{{ x }}", None, with_one, Output()) == "{{ x }}"
    assert chosen(None, None, replace(source, template=go), Output()) is None  # the model's own
    for text, why in (("{{ nothing .Prompt }}", "'nothing' is not translated"), ("{{ .Prompt }}" * 40_000, "too long")):
        go.write_text(text)
        assert chosen(None, None, with_one, Output()) is None
        said = capsys.readouterr().err
        assert "the model's template in Ollama's store cannot be used (" in said and why in said
        assert "the chat page and the API will use 'chatml'" in said


@pytest.mark.parametrize(
    ("title", "hint"),
    [
        ("lmsys_vicuna-13b", "its name suggests --chat-template vicuna"),
        ("x", "--chat-template takes a format's name or a file"),
    ],
)
def test_what_will_be_used_is_said(source: Source, title: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert chosen(None, None, without(source, "some/one", title), Output()) is None
    said = capsys.readouterr().err
    assert "has no chat template: the chat page and the API will use 'chatml'" in said and said.endswith(f"; {hint}\n")


def test_no_chat_is_expected_of_encoders(source: Source, capsys: pytest.CaptureFixture[str]) -> None:
    assert chosen(None, None, without(source, pooling="mean"), Output()) is None
    assert capsys.readouterr().err == ""
