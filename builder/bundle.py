"""`mkllm bundle`: a folder with a model, a kit and mkllm itself, from which a machine without a network builds."""

import hashlib
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from mkllm.builder.errors import PermissionFailure, TargetExists, ToolFailed, UnusableProjector
from mkllm.builder.kit.kit import Kit
from mkllm.builder.kit.store import find_kit
from mkllm.builder.kit.wheel import write_wheel
from mkllm.builder.model import promise
from mkllm.builder.model.projectors import is_projector
from mkllm.builder.model.reference import DEMO, Source, resolve
from mkllm.builder.own_wheel import write_own_wheel
from mkllm.builder.process import run
from mkllm.builder.progress import Output
from mkllm.builder.space import check_free
from mkllm.builder.target import check_system
from mkllm.builder.version import version
from mkllm.runtime.artifact.draft import failure

WHEELS, MODELS, SUMS, README = "wheels", "models", "SHA256SUMS", "README.txt"
CHUNK = 1 << 20
MARGIN = 200_000_000  # bytes for wheels beside the kit's

TEXT = """This folder builds {name} on a machine without a network.

It was made by mkllm {version} for Python {python} on {system}; `sha256sum -c {sums}` checks it.

    python3 -m venv mkllm-venv
    mkllm-venv/bin/pip install --no-index --find-links {wheels} mkllm {kit}
    {command}

What is built runs on {target}.
"""


@dataclass(frozen=True)
class Bundle:
    """What was collected: its folder, bytes, and the command that builds on the other machine."""

    folder: Path
    size: int
    command: str


def bundle(model: str, system: str | None, folder: Path, output: Output) -> Bundle:
    """Collect everything into `folder`, which is empty or not there.

    Raises a BuilderFailure; what is not whole has no list of hashes.
    """
    target = check_system(system, None)
    _check_folder(folder)
    kit = find_kit(target)
    kit.verify()
    try:
        source = resolve(model, output, projector=True)
    except UnusableProjector as error:
        output.note(f"warning: without pictures and sound: {error}")
        source = resolve(model, output)
    promise.check(source.promised, output)
    projector = source.projector.path.stat().st_size if source.projector else 0
    needed = source.weights.size + projector + sum(file.size for file in kit.files.values()) + MARGIN
    check_free(folder, needed, f"a bundle in {str(folder)!r}", "choose another disk with -o")
    try:
        (folder / WHEELS).mkdir(parents=True)
        write_wheel(kit, version(), folder / WHEELS)
        _wheels(folder / WHEELS, output)
        command = _model(model, source, folder, output)
        (folder / README).write_text(_readme(source, kit, command), encoding="utf-8")
        _sums(folder, output)
    except OSError as error:
        raise failure(error, folder) from error
    return Bundle(folder, sum(path.stat().st_size for path in _files(folder)), command)


def _check_folder(folder: Path) -> None:
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise TargetExists(f"{str(folder)!r} exists already and is not empty: choose another folder with -o")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or "?").lower()
        raise PermissionFailure(f"{str(folder)!r} cannot be made ({reason}): choose another folder with -o") from None


def _wheels(folder: Path, output: Output) -> None:
    """mkllm's own wheel, and by pip those of all that it needs, for this Python and this system."""
    own = write_own_wheel(folder)
    output.note("collecting the wheels that mkllm needs")
    command = [sys.executable, "-m", "pip", "download", "--only-binary=:all:", "--disable-pip-version-check", "--quiet"]
    try:
        run([*command, "--dest", folder, own])
    except ToolFailed as error:
        text = str(error)
        if "No module named pip" in text:
            raise ToolFailed("pip is missing in this Python: run `python -m ensurepip`") from None
        raise ToolFailed(f"the wheels that mkllm needs could not be collected: {text}") from None


def _model(model: str, source: Source, folder: Path, output: Output) -> str:
    """Copy the model; the command that builds it from the copy."""
    build = "mkllm-venv/bin/mkllm build"
    if model == DEMO:
        return f"{build} {DEMO} --offline"
    if source.origin.file is None:  # it was converted, which the other machine need not do
        (folder / MODELS).mkdir()
        _copy(source.path, folder / MODELS / f"{source.name}.gguf", output)
        _copy_projector(source, folder / MODELS, output)
        return f"{build} {MODELS}/{source.name}.gguf --offline"
    if source.origin.source == "hf":
        _hub_copy(source, folder / MODELS, output)
        return f"HF_HUB_CACHE={MODELS} {build} {_pinned(source)} --offline --name {source.name}"
    (folder / MODELS).mkdir()
    for path in sorted(source.weights.files):
        name = path.name if path.suffix else f"{source.name}.gguf"
        _copy(path, folder / MODELS / name, output)
    _copy_projector(source, folder / MODELS, output)
    first = source.path.name if source.path.suffix else f"{source.name}.gguf"
    return f"{build} {MODELS}/{first} --offline"


def _copy_projector(source: Source, folder: Path, output: Output) -> None:
    """Beside the model, under a name by which it is found there."""
    if found := source.projector:
        name = found.file if found.file and is_projector(found.file) else f"mmproj-{source.name}.gguf"
        _copy(found.path, folder / name, output)


def _pinned(source: Source) -> str:
    origin = source.origin
    return f"hf:{origin.repository}/{origin.file}@{origin.revision}"


def _hub_copy(source: Source, cache: Path, output: Output) -> None:
    """The model's files as a cache of huggingface_hub's: by the name of a repository and a commit."""
    origin = source.origin
    place = cache / f"models--{(origin.repository or '').replace('/', '--')}"
    snapshot = place / "snapshots" / (origin.revision or "")
    inner = Path(origin.file or "").parent
    digests = source.promised
    links = {
        path: snapshot / inner / path.name if path.suffix == ".gguf" else snapshot / (origin.file or "")
        for path in sorted(source.weights.files)
    }
    if (found := source.projector) and found.file:
        links[found.path] = snapshot / found.file
    for path, link in links.items():
        link.parent.mkdir(parents=True, exist_ok=True)
        digest = digests.get(path)
        if not digest:
            _copy(path, link, output)
            continue
        blob = place / "blobs" / digest
        blob.parent.mkdir(parents=True, exist_ok=True)
        _copy(path, blob, output)
        try:
            link.symlink_to(os.path.relpath(blob, link.parent))
        except OSError:  # a file system without links, such as that of a memory stick
            os.replace(blob, link)
    for path in source.licences.values():
        shutil.copyfile(path, snapshot / path.name)


def _copy(path: Path, target: Path, output: Output) -> None:
    with path.open("rb") as source, target.open("wb") as copy:
        with output.task(f"copying {path.name}", path.stat().st_size) as advance:
            while block := source.read(CHUNK):
                copy.write(block)
                advance(len(block))


def _readme(source: Source, kit: Kit, command: str) -> str:
    return TEXT.format(
        name=source.name,
        version=version(),
        python=".".join(map(str, sys.version_info[:2])),
        system=f"{os.uname().sysname} {os.uname().machine}",
        sums=SUMS,
        wheels=WHEELS,
        kit=f"mkllm-kit-{kit.target.replace('_', '-')}",
        command=command,
        target=kit.target,
    )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _sums(folder: Path, output: Output) -> None:
    """Hashes of all files, as sha256sum reads them; written last."""
    lines = []
    for path in _files(folder):
        total = hashlib.sha256()
        with path.open("rb") as file, output.task(f"hashing {path.name}", path.stat().st_size) as advance:
            while block := file.read(CHUNK):
                total.update(block)
                advance(len(block))
        lines.append(f"{total.hexdigest()}  {path.relative_to(folder).as_posix()}\n")
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")
