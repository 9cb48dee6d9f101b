"""Which chat template an artifact gets: the maker's, the model's own, or that of a format; renders none."""

import json
from pathlib import Path

from mkllm.builder.commands.defaults import LONGEST
from mkllm.builder.model import catalog
from mkllm.builder.model.formats import FALLBACK, formats, suggested
from mkllm.builder.model.reference import Source
from mkllm.builder.progress import Output
from mkllm.builder.recipe.go_lexer import TemplateMistake
from mkllm.builder.recipe.jinja import chat_template as translated
from mkllm.builder.recipe.marks import are_own

OWN = "note: TEMPLATE is made of the marks of the model's own chat template, which is used, tools and all"


def chosen(asked: str | None, marks: frozenset[str] | None, source: Source, output: Output) -> str | None:
    """The template that takes the place of the model's own, None where that holds; what is not plain is noted.

    `asked` is the maker's; it is not needed where it is made of `marks` and the model's own template has them all.
    """
    own = source.model.chat_template
    if asked and own and marks is not None and are_own(marks, own):
        output.note(OWN)
        return None
    if asked or own:
        return asked
    if source.template and (template := _of_ollama(source.template, output)):
        return template
    if name := _of_catalogue(source):
        output.note(
            f"note: the model has no chat template: that of {name!r} is used, its format by the catalogue; "
            "--chat-template takes another"
        )
        return formats()[name].template
    if not source.model.pooling:
        output.note(
            f"note: the model has no chat template: the chat page and the API will use {FALLBACK!r}, which it may not "
            f"know, -p and chat will continue texts; {_hint(source)}"
        )
    return None


def _of_ollama(path: Path, output: Output) -> str | None:
    """The template in Ollama's store, translated; None, with a note, of one that cannot be."""
    try:
        template = translated(path.read_text("utf-8"))
        if len(json.dumps(template, ensure_ascii=False).encode()) > LONGEST:
            raise ValueError("it is too long")
    except (OSError, ValueError, RecursionError, TemplateMistake) as error:
        output.note(f"note: the model's template in Ollama's store cannot be used ({error})")
        return None
    output.note("note: the model has no chat template of its own: that in Ollama's store is used, translated")
    return template


def _of_catalogue(source: Source) -> str | None:
    """The name of the format that the catalogue tells for the repository that the model is from."""
    repository = (source.origin.repository or "").lower()
    found = next((entry for entry in catalog.entries() if entry.repository.lower() == repository), None)
    return found.template if found and found.template in formats() else None


def _hint(source: Source) -> str:
    name = suggested(f"{source.model.title or ''} {source.name}")
    return f"its name suggests --chat-template {name}" if name else "--chat-template takes a format's name or a file"
