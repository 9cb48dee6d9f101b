"""Models that other programs keep on this machine: Ollama, LM Studio, GPT4All, llama.cpp, and huggingface_hub's cache.

Only looks: writes nothing there, starts nothing, asks nobody.
"""

import contextlib
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mkllm.builder.model import digests, quant
from mkllm.builder.model.split import part_names
from mkllm.builder.model.weights import Span, Stamp, Weights
from mkllm.builder.progress import Output

CHUNK = 1 << 20


@dataclass(frozen=True)
class Held:
    """A model that a program holds: `reference` builds it, `size` is in bytes, of all parts."""

    program: str
    reference: str
    path: Path
    size: int
    quantization: str | None


def held() -> list[Held]:
    """All models on this machine, program by program; what cannot be read is left out."""
    found: list[Held] = []
    for look in (_hub, _ollama, _lm_studio, _gpt4all, _llama_cpp):
        found += sorted(look(), key=lambda item: item.reference)
    return found


def copy_of(name: str, size: int | None, digest: str, output: Output) -> Path | None:
    """A file that has this SHA-256 (`digest`), in the store of another program; None where there is none.

    Ollama's are called by it. Others are compared, when they have that size, or this name where no size is known.
    """
    if len(digest) != 64:
        return None
    for path in _candidates(name, size, digest):
        if _sha256(path, output) == digest:
            output.note(f"using {str(path)!r}, which is the same file: nothing is downloaded")
            return path
    return None


def _candidates(name: str, size: int | None, digest: str) -> Iterator[Path]:
    from mkllm.builder.model import ollama

    yield from (path for path in [ollama.blob(digest)] if path)
    for root in (*lm_studio_folders(), *gpt4all_folders(), *llama_cpp_folders()):
        for path in _ggufs(root):
            with contextlib.suppress(OSError):
                length = path.stat().st_size
                if length == size or (size is None and path.name.endswith(name)):
                    yield path


def _sha256(path: Path, output: Output) -> str | None:
    """The file's hash, remembered between runs; None where it cannot be read."""
    try:
        status = path.stat()
        weights = Weights((Span(path, 0, status.st_size, Stamp.of(status)),))
        if known := digests.known(weights):
            return known[0]
        total, crc = hashlib.sha256(), 0
        with path.open("rb", buffering=0) as file, output.task(f"comparing {path.name}", status.st_size) as advance:
            while block := file.read(CHUNK):
                total.update(block)
                crc = zlib.crc32(block, crc)
                advance(len(block))
    except OSError:
        return None
    digests.remember(weights, total.hexdigest(), crc)
    return total.hexdigest()


def lm_studio_folders() -> list[Path]:
    """Where LM Studio keeps models, as `publisher/repository/file`."""
    home = _home()
    folders = [home / ".lmstudio" / "models", home / ".cache" / "lm-studio" / "models"]
    with contextlib.suppress(OSError):
        folders.insert(0, Path((home / ".lmstudio-home-pointer").read_text().strip()) / "models")
    return _existing(folders)


def gpt4all_folders() -> list[Path]:
    """Where GPT4All's program and its Python package keep models, each a file."""
    home = _home()
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    mac = home / "Library" / "Application Support"
    return _existing([data / "nomic.ai" / "GPT4All", home / ".cache" / "gpt4all", mac / "nomic.ai" / "GPT4All"])


def llama_cpp_folders() -> list[Path]:
    """Where llama.cpp keeps what `-hf` downloaded: newer ones use huggingface_hub's cache, or LLAMA_CACHE as one."""
    home = _home()
    usual = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "llama.cpp"
    chosen = os.environ.get("LLAMA_CACHE")
    return _existing([*([Path(chosen)] if chosen else []), usual, home / "Library" / "Caches" / "llama.cpp"])


def _hub() -> Iterator[Held]:
    from mkllm.builder.model import hub_cache

    for kept in hub_cache.kept():
        if found := _held("hub cache", f"hf:{kept.repository}/{kept.file}", kept.path, kept.file):
            yield found


def _ollama() -> Iterator[Held]:
    from mkllm.builder.model import ollama

    for model in ollama.models():
        if found := _held("Ollama", f"ollama:{model.name}", model.path, model.name):
            yield found


def _lm_studio() -> Iterator[Held]:
    for root in lm_studio_folders():
        yield from _files("LM Studio", root)


def _gpt4all() -> Iterator[Held]:
    for root in gpt4all_folders():
        yield from _files("GPT4All", root)


def _llama_cpp() -> Iterator[Held]:
    from mkllm.builder.model import hub_cache

    for root in llama_cpp_folders():
        names = _told(root)
        yield from _files("llama.cpp", root, lambda path, names=names: names.get(path.name))  # type: ignore[misc]
        for kept in hub_cache.kept(root):
            if found := _held("llama.cpp", f"{kept.path}", kept.path, kept.file):
                yield found


def _told(root: Path) -> dict[str, str]:
    """What the files of llama.cpp's older cache are on the hub, by its manifests `manifest=org=repository=tag.json`."""
    names: dict[str, str] = {}
    for manifest in root.glob("manifest=*=*=*.json"):
        _, owner, repository, _ = manifest.stem.split("=", 3)
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            file = json.loads(manifest.read_bytes())["ggufFile"]["rfilename"]
            names[f"{owner}_{repository}_{file.replace('/', '_')}"] = f"hf:{owner}/{repository}/{file}"
    return names


def _files(program: str, root: Path, told: Callable[[Path], str | None] = lambda path: None) -> Iterator[Held]:
    names = [path.relative_to(root).as_posix() for path in _ggufs(root) if not path.is_symlink()]
    for name in quant.models(names):
        path = root / name
        if found := _held(program, told(path) or str(path), path, name):
            yield found


def _held(program: str, reference: str, path: Path, name: str) -> Held | None:
    parts = [path.with_name(part) for part in part_names(path.name)]
    try:
        size = sum(part.stat().st_size for part in parts)
    except OSError:
        return None
    return Held(program, reference, path, size, quant.quantization(PurePosixPath(name).name))


def _ggufs(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root):
        for name in sorted(names):
            if name.lower().endswith(".gguf"):
                yield Path(folder) / name


def _existing(folders: list[Path]) -> list[Path]:
    found: list[Path] = []
    for folder in folders:
        with contextlib.suppress(OSError):
            if folder.is_dir() and folder not in found:
                found.append(folder)
    return found


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        return Path("/nonexistent")
