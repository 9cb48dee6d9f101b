"""A kit on the disk: kit.json, and whether the files are as it says; knows not how kits are made (spec/kit.md)."""

import contextlib
import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mkllm.builder import cache
from mkllm.builder.errors import NoKit, PermissionFailure
from mkllm.builder.kit.packed import loadable
from mkllm.builder.kit.target import host
from mkllm.builder.kit.variants import host_flags
from mkllm.builder.version import version
from mkllm.runtime.hardware.variants import VARIANTS

CHUNK = 1 << 20
MEMBERS = "members/"


@dataclass(frozen=True)
class File:
    """What kit.json says of one file; `size` in bytes."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Kit:
    """A kit as kit.json describes it; `backends` are (name, member), `files` are by path inside the kit.

    `elsewhere` are those files that do not lie in the kit's folder.
    """

    path: Path
    id: str
    target: str
    versions: Mapping[str, str]
    glibc: str
    engine_program: str
    engine_libraries: tuple[str, ...]
    backends: tuple[tuple[str, str], ...]
    files: Mapping[str, File]
    elsewhere: Mapping[str, Path] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "Kit":
        """The kit in that folder. Raises NoKit when kit.json is missing or not of the expected form."""
        try:
            return _parse(path, json.loads((path / "kit.json").read_bytes()))
        except OSError as error:
            raise NoKit(f"{str(path)!r} is no kit: kit.json cannot be read ({error.strerror}); {AGAIN}") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise NoKit(f"the kit {str(path)!r} is damaged: kit.json is not as it was written; {AGAIN}") from None

    @property
    def runs_here(self) -> bool:
        """Whether its engine and its bindings are for this machine's system."""
        here = host()
        return here is not None and self.target == here.name and (self.path / "bindings").is_dir()

    def kernels_here(self) -> list[str]:
        """Names of the CPU variants that this machine's CPU can run, best first; none of a kit for another one."""
        held, flags, machine = dict(self.backends), host_flags(), platform.machine()
        rows = [row for row in VARIANTS if row.name in held and row.machine == machine]
        return [row.name for row in rows if flags.issuperset(row.needs)]

    @property
    def engine(self) -> Path:
        """The engine's program."""
        return self.path / MEMBERS / self.engine_program

    def module(self, member: str) -> Path:
        """That module as a file that can be loaded. Raises OSError, or PermissionFailure when there is no cache."""
        return loadable(self.path / MEMBERS / member)

    def place(self, name: str) -> Path:
        """Where one of its files lies."""
        return self.elsewhere.get(name, self.path / name)

    def with_members(self, members: Mapping[str, Path]) -> "Kit":
        """The same kit with more members, such as the licences of a model. Raises OSError when one cannot be read."""
        files = {MEMBERS + name: File(path.stat().st_size, _sha256(path)) for name, path in members.items()}
        places = {MEMBERS + name: path for name, path in members.items()}
        return replace(self, files={**self.files, **files}, elsewhere={**self.elsewhere, **places})

    def members(self) -> list[str]:
        """Names of what becomes members of every artifact, sorted."""
        return sorted(name.removeprefix(MEMBERS) for name in self.files if name.startswith(MEMBERS))

    def verify(self) -> None:
        """Check every file's size, and its hash the first time this mkllm uses this kit here. Raises NoKit.

        Where the cache cannot be written, every time is the first.
        """
        for name, file in self.files.items():
            self._check_size(name, file)
        if not self._is_known():
            for name, file in self.files.items():
                if _sha256(self.path / name) != file.sha256:
                    raise self.damaged(name)
            self._remember()

    def _is_known(self) -> bool:
        with contextlib.suppress(PermissionFailure):
            return os.path.exists(cache.root() / "verified" / self._stamp())
        return False

    def _remember(self) -> None:
        with contextlib.suppress(OSError, PermissionFailure):
            (cache.folder("verified") / self._stamp()).touch()

    def _stamp(self) -> str:
        return f"{self.id}-{version()}-{hashlib.sha256(bytes(self.path)).hexdigest()[:16]}"

    def damaged(self, name: str) -> NoKit:
        """The failure to raise when a file is not what kit.json says."""
        return NoKit(f"the kit {self.id} is damaged: {name!r} in {str(self.path)!r} is not what was built; {AGAIN}")

    def _check_size(self, name: str, file: File) -> None:
        try:
            size = os.stat(self.path / name).st_size
        except OSError:
            raise self.damaged(name) from None
        if size != file.size:
            raise self.damaged(name)


def engine_environment(kit: Kit) -> dict[str, str]:
    """This process's environment without what would change the engine's answers, for an engine that runs here.

    It is to load its best CPU variant, and none of the drivers of this machine's GPUs, which have no say in a build.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LLAMA_", "MKLLM_"))}
    usable = kit.kernels_here()
    path = ""
    with contextlib.suppress(OSError, PermissionFailure):  # without a cache nothing is loaded, and estimates have to do
        path = str(kit.module(dict(kit.backends)[usable[0]])) if usable else ""
    # A colon would be taken for the end of a path: then the engine looks for modules by itself.
    return {**kept, "MKLLM_BACKENDS": path} if path.endswith(".so") and ":" not in path else kept


AGAIN = "remove that folder and run `mkllm kit build`, or install the kit's wheel again"


def _parse(path: Path, info: Any) -> Kit:
    versions = {_text(name): _text(value) for name, value in info["versions"].items()}
    if not {"llama_cpp", "python"} <= versions.keys():
        raise KeyError
    return Kit(
        path=path,
        id=_text(info["id"]),
        target=_text(info["target"]),
        versions=versions,
        glibc=_text(info["glibc"]),
        engine_program=_text(info["engine"]["program"]),
        engine_libraries=tuple(_text(name) for name in info["engine"]["libraries"]),
        backends=tuple((_text(item["name"]), _text(item["member"])) for item in info["backends"]),
        files={_relative(name): _file(entry) for name, entry in info["files"].items()},
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _relative(name: str) -> str:
    if name.startswith("/") or ".." in name.split("/"):
        raise ValueError
    return name


def _file(entry: Any) -> File:
    if type(entry["size"]) is not int:
        raise TypeError
    return File(entry["size"], _text(entry["sha256"]))


def _sha256(path: Path) -> str:
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            total.update(block)
    return total.hexdigest()
