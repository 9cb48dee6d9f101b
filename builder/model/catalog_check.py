"""Compares the catalogue with the hub, entry by entry; run by `nox -s catalog`, which needs a network.

Usage: python -m mkllm.builder.model.catalog_check [FILE.toml] [ALIAS …]
"""

import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import HfApi

from mkllm.builder.errors import BuilderFailure, HubFailure
from mkllm.builder.model.catalog import PATH, Entry, File, read
from mkllm.builder.model.download import attempt
from mkllm.builder.model.hub_errors import ask
from mkllm.builder.model.hub_reference import MAIN, Reference, check_endpoint
from mkllm.builder.model.split import part_names
from mkllm.builder.progress import Output

ROUNDED = 0.02  # by how much a size may be off that was only found rounded
NAMED = 0.35  # and the parameters that a model's name says
DONE, DIFFERENT, UNKNOWN = 0, 1, 2

Held = dict[str, tuple[int | None, str | None]]


def differences(entry: Entry) -> list[str]:
    """What the hub says otherwise, each as a sentence. Raises HubFailure when it cannot be asked."""
    reference = Reference(entry.repository, None, entry.revision or MAIN)
    try:
        info = attempt(lambda: ask(reference, lambda: _info(reference)), Output(quiet=True))
    except HubFailure:
        raise
    except BuilderFailure as error:
        return [str(error)]
    held = _held(info)
    found = [text for name, file in entry.files.items() for text in _of_file(name, file, held)]
    return found + _of_model(entry, info)


def _info(reference: Reference) -> Any:
    return HfApi().model_info(reference.repository, revision=reference.revision, files_metadata=True)


def _held(info: Any) -> Held:
    """Size and SHA-256 of every file of the repository."""
    found: Held = {}
    for file in info.siblings or ():
        lfs = file.lfs or {}
        found[file.rfilename] = (file.size, lfs.get("sha256") if isinstance(lfs, dict) else lfs.sha256)
    return found


def _of_file(name: str, file: File, held: Held) -> list[str]:
    path = PurePosixPath(file.name)
    parts = [str(path.with_name(part)) for part in part_names(path.name)]
    missing = [part for part in parts if part not in held]
    if missing:
        return [f"{name}: the repository has no file {missing[0]!r}"]
    found = []
    sizes = [held[part][0] or 0 for part in parts]
    allowed = 0.0 if file.exact else ROUNDED * sum(sizes)
    if file.size is not None and abs(sum(sizes) - file.size) > allowed:
        found.append(f"{name}: {file.name!r} has {sum(sizes)} bytes, not {file.size}")
    if file.sha256 and held[file.name][1] != file.sha256:
        found.append(f"{name}: {file.name!r} has the SHA-256 {held[file.name][1]}, not {file.sha256}")
    return found


def _of_model(entry: Entry, info: Any) -> list[str]:
    found = []
    license = str((info.card_data or {}).get("license") or "") if info.card_data else ""
    if license and entry.license and not _same_license(license, entry.license):
        found.append(f"the card names the licence {license!r}, not {entry.license!r}")
    gguf = getattr(info, "gguf", None) or {}
    context, parameters = gguf.get("context_length"), gguf.get("total")
    if context and entry.context and context != entry.context:
        found.append(f"the context is {context}, not {entry.context}")
    if parameters and entry.billions and abs(parameters / 1e9 - entry.billions) > NAMED * entry.billions:
        found.append(f"it has {parameters / 1e9:.2f} billion parameters, not {entry.billions}")
    return found


def _same_license(told: str, ours: str) -> bool:
    """A card's `llama3.1` is our `LicenseRef-Llama-3.1-Community`; `other` says nothing."""
    plain = ours.removeprefix("LicenseRef-").lower()
    return told == "other" or _letters(told) in _letters(plain) or _letters(plain) in _letters(told)


def _letters(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalnum())


def main(args: Sequence[str]) -> int:
    """Check the entries named (all, if none is) and print what differs; the exit code."""
    files = [Path(arg) for arg in args if arg.endswith(".toml")]
    names = [arg for arg in args if not arg.endswith(".toml")]
    known = read(files[0] if files else PATH)
    unknown = sorted(set(names) - {entry.alias for entry in known})
    if unknown:
        print(f"the catalogue has no entry {unknown[0]!r}", file=sys.stderr)
        return UNKNOWN
    wrong = 0
    try:
        check_endpoint()
        chosen = [entry for entry in known if not names or entry.alias in names]
        for entry in chosen:
            found = differences(entry)
            wrong += bool(found)
            for text in found:
                print(f"{entry.alias}: {text}")
    except HubFailure as error:
        print(f"not checked: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{len(chosen)} entries compared with the hub, {wrong} differ")
    return DIFFERENT if wrong else DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
