"""A kit's wheel out of the index that pip is set up with, into the cache of kits; compiles and installs nothing."""

import hashlib
import json
import re
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import IO

from mkllm.builder import cache
from mkllm.builder.errors import MissingTool, NoKit, NoSource, ToolFailed, WrongHash
from mkllm.builder.kit.kit import File, Kit
from mkllm.builder.kit.store import keep
from mkllm.builder.kit.target import TARGETS, alternatives
from mkllm.builder.process import run

CHUNK = 1 << 20
RETRIES = "2"  # pip tells of an index that it cannot reach only when it tries again
# Words of pip's, in all versions since 22, and what they mean.
UNREACHED = ("Retrying (", "Could not fetch URL", "HTTP error 4", "HTTP error 5")
VERSIONS = re.compile(r"\(from versions: (?P<found>[^)]*)\)")


def fetch_kit(target: str, version: str, links: str | None = None) -> Kit:
    """The kit for `target` of this mkllm's `version`, in the cache from now on, in use unless one is installed.

    `links`: the folder or page with the wheel, which no index is asked for then. Raises NoKit (unknown target, no such
    wheel, or a damaged one), NoSource (no index can be reached), WrongHash (not the file that the index promises).
    """
    if target not in TARGETS:
        raise NoKit(f"there is no target {target!r}: choose one of {alternatives()}")
    with tempfile.TemporaryDirectory(dir=cache.folder("downloads"), prefix=".kit-") as made:
        _download(f"mkllm-kit-{target.replace('_', '-')}", version, Path(made), links)
        wheels = sorted(Path(made).glob("*.whl"))
        if len(wheels) != 1:
            raise NoKit(f"pip gave {len(wheels)} wheels for {target!r} instead of one: check the index")
        return _unpacked(wheels[0], target)


def _download(name: str, version: str, folder: Path, links: str | None) -> None:
    where = ["--no-index", "--find-links", links] if links else []
    words = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-input", "--no-deps"]
    lines: list[str] = []
    try:
        run(
            [*words, "--retries", RETRIES, "--only-binary", ":all:", "--dest", folder, *where, f"{name}=={version}"],
            on_line=lines.append,
        )
    except ToolFailed as failure:
        raise _translated("\n".join(lines), name, version, links) or failure from None


def _translated(text: str, name: str, version: str, links: str | None) -> Exception | None:
    wanted = f"{name} {version}"
    if "No module named pip" in text:
        return MissingTool("pip is missing in this Python: run `python -m ensurepip`")
    if "DO NOT MATCH THE HASHES" in text:
        return WrongHash(
            f"the wheel of {wanted} is not the file that the index promises: it or a proxy gave another one; try "
            "another index (PIP_INDEX_URL)"
        )
    if any(words in text for words in UNREACHED):
        return NoSource(
            f"no index that pip is set up with could be asked for {wanted}: check the network and `pip config list`, "
            "or give a folder of wheels with --find-links"
        )
    if found := VERSIONS.search(text):
        others = "" if found["found"] in ("", "none") else f", but {found['found']}"
        place = repr(links) if links else "the index that pip is set up with"
        return NoKit(f"{place} has no {wanted}{others}: build it with `mkllm kit build`, or give another place")
    return None


def _unpacked(wheel: Path, target: str) -> Kit:
    """The kit in the wheel, every file compared with kit.json while it is written."""
    package = f"mkllm_kit_{target.replace('-', '_')}/kit/"
    kits = cache.folder("kits")
    with cache.locked(kits / ".fetch.lock"), cache.draft(kits, "fetched") as folder:
        try:
            with zipfile.ZipFile(wheel) as archive:
                told = archive.read(f"{package}kit.json")
                draft = folder / "kit"
                draft.mkdir()
                (draft / "kit.json").write_bytes(told)
                kit = Kit.read(draft)
                for name, file in kit.files.items():
                    entry = archive.getinfo(package + name)
                    with archive.open(entry) as source:
                        _write(source, draft / name, file, executable=bool(entry.external_attr >> 16 & 0o100))
        except (zipfile.BadZipFile, KeyError, EOFError, NotImplementedError, json.JSONDecodeError) as error:
            raise _damaged(wheel, f"it cannot be read ({error})") from None
        except _Differs as error:
            raise _damaged(wheel, f"{str(error)!r} is not what kit.json says") from None
        if kit.target != target:
            raise _damaged(wheel, f"it holds a kit for {kit.target!r}")
        return keep(kit, draft)


class _Differs(Exception):
    """A file of the wheel is not the one that kit.json describes."""


def _write(source: IO[bytes], path: Path, file: File, executable: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    total, size = hashlib.sha256(), 0
    with path.open("wb") as target:
        while (block := source.read(CHUNK)) and size <= file.size:
            total.update(block)
            size += target.write(block)
    if size != file.size or total.hexdigest() != file.sha256:
        raise _Differs(path.name)
    path.chmod(0o755 if executable else 0o644)


def _damaged(wheel: Path, why: str) -> NoKit:
    return NoKit(f"the wheel {wheel.name!r} is not a whole kit, {why}: fetch it again, or from another place")
