"""The recipe from which an artifact is built again, as TOML (spec/recipe.md): the same bytes come of the same kit."""

import json
from collections.abc import Iterator
from typing import Any

from mkllm.runtime.artifact.manifest import Defaults, Manifest
from mkllm.runtime.artifact.reader import Artifact
from mkllm.runtime.artifact.shown import shown

LICENCES = "licenses/maker/"
SAMPLING = frozenset(
    "temperature top-p top-k min-p repeat-penalty typical-p n-predict repeat-last-n presence-penalty frequency-penalty "
    "mirostat mirostat-lr mirostat-ent seed".split()
)
# The options that are told here by what the manifest says of the artifact.
TOLD = SAMPLING | frozenset(
    "model sha256 revision output name target for prepack system chat-template message license ctx-size host port "
    "engine-arg".split()
)
# Those that are told by its `options`. No others are taken from there: a stranger's may name a program to run.
RECORDED = frozenset(
    "quant fit imatrix mmproj lora merge-lora lora-scale split max-file-size fit-one-file icon".split()
)


def recipe(artifact: Artifact, file: str) -> str:
    """The recipe of an artifact that is called `file` now."""
    manifest = artifact.manifest
    told = {
        **dict(_told(artifact, file)),
        **{name: manifest.options[name] for name in manifest.options if name in RECORDED},
    }
    lines = [f"# {_line(remark)}" for remark in _remarks(artifact)]
    return "\n".join([*lines, *(f"{name} = {_value(value)}" for name, value in told.items())]) + "\n"


def _remarks(artifact: Artifact) -> Iterator[str]:
    manifest = artifact.manifest
    yield f"{manifest.name}, made by {manifest.created_by} with the kit {manifest.kit.id}"
    if manifest.provenance.source == "file":
        yield "The model is looked for beside this recipe."
    if artifact.is_signed:
        yield "It is signed; `sign` is not told, and no two signatures are the same."
    if unknown := sorted(manifest.options.keys() - RECORDED):
        yield f"Options that are not known, and not told: {', '.join(unknown)}."


def _told(artifact: Artifact, file: str) -> Iterator[tuple[str, Any]]:
    manifest, origin = artifact.manifest, artifact.manifest.provenance
    yield "model", origin.reference
    if origin.revision:
        yield "revision", origin.revision
    yield "sha256", origin.sha256
    yield "output", _program(manifest, file)
    yield "name", manifest.name
    yield "target", manifest.target
    if manifest.defaults.device:
        yield "for", manifest.defaults.device.name
    if manifest.prepacked:
        yield "prepack", manifest.prepacked.kernel
    texts = [member.name for member in manifest.members if member.name.startswith(LICENCES)]
    texts.sort(key=lambda name: (len(name), name))
    if texts:
        yield "license", [_literal(artifact.read(name).decode("utf-8", "replace")) for name in texts]
    yield from _defaults(manifest.defaults)


def _defaults(chosen: Defaults) -> Iterator[tuple[str, Any]]:
    if chosen.system_prompt is not None:
        yield "system", _literal(chosen.system_prompt)
    if chosen.chat_template is not None:
        yield "chat-template", _literal(chosen.chat_template)
    if chosen.messages:
        yield "message", [[message.role, _literal(message.content)] for message in chosen.messages]
    if chosen.context is not None:
        yield "ctx-size", chosen.context
    for name, number in chosen.sampling.items():
        if (key := name.replace("_", "-")) in SAMPLING:
            yield key, number
    if chosen.host != Defaults.host:
        yield "host", chosen.host
    if chosen.port != Defaults.port:
        yield "port", chosen.port
    if chosen.engine_args:
        yield "engine-arg", list(chosen.engine_args)


def _program(manifest: Manifest, file: str) -> str:
    """What the program was called if the names of its weights depend on it, else what it is called now."""
    if not manifest.beside:
        return file
    stem = manifest.beside[0].file.rpartition(".weights")[0]
    return stem + (".exe" if manifest.target.startswith("windows-") else "")


def _literal(text: str) -> str:
    """A text that begins with `@` would be the name of a file."""
    return "@" + text if text.startswith("@") else text


def _line(text: str) -> str:
    return shown(" ".join(text.split()))


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return repr(value)


def _text(text: str) -> str:
    """A string; one of several lines stands on several, as it is if it can."""
    if "\n" in text and _is_literal(text):
        return f"'''\n{text}'''"
    lines = [json.dumps(line, ensure_ascii=False)[1:-1].replace("\x7f", "\\u007f") for line in text.split("\n")]
    return '"""\n' + "\n".join(lines) + '"""' if len(lines) > 1 else f'"{lines[0]}"'


def _is_literal(text: str) -> bool:
    """Whether it can stand between three quotes without escapes."""
    plain = text.replace("\n", "").replace("\t", "")
    return "'''" not in text and not text.endswith("'") and plain.isprintable()
