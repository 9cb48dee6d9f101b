"""Installs, removes and asks for the service of an artifact; what a unit says is decided in unit.py."""

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mkllm.runtime.errors import NoService, PermissionFailure, ServiceFailed, TargetExists
from mkllm.runtime.service.systemd import Manager
from mkllm.runtime.service.unit import HIDDEN, MARK, TEMPORARY

UNSAFE = "\"'\\"
OTHERS = stat.S_IROTH | stat.S_IXOTH


@dataclass(frozen=True)
class Installation:
    """The files of the service `unit`."""

    manager: Manager
    unit: str

    @property
    def service(self) -> str:
        """Its name for systemctl."""
        return f"{self.unit}.service"

    @property
    def file(self) -> Path:
        """The unit file."""
        return self.manager.units / self.service

    @property
    def keys(self) -> Path:
        """The file of the keys that it demands."""
        return self.manager.keys / f"{self.unit}.keys"


def expect_free(place: Installation, force: bool) -> None:
    """Raise TargetExists if there is a service of that name: always when it was not made by this program."""
    if place.file.exists() and _is_ours(place.file):
        if force:
            return
        raise TargetExists(
            f"the service {place.unit!r} is there already ({str(place.file)!r}): replace it with --force, or choose "
            "another name with --name"
        )
    if place.file.exists() or place.manager.show(place.service, ["LoadState"])["LoadState"] != "not-found":
        raise TargetExists(f"this system has a service {place.unit!r} of its own: choose another name with --name")


def expect_usable(program: str, user: bool) -> None:
    """Raise PermissionFailure where the file lies in a place from which no service can run it."""
    if any(letter in UNSAFE or not letter.isprintable() for letter in program):
        raise PermissionFailure(
            f"{program!r} has quotes, a backslash or control characters in its name, and systemd runs no such program: "
            "rename it"
        )
    if program.startswith(TEMPORARY):
        raise PermissionFailure(f"{program!r} is gone after the next boot: move it, to /usr/local/lib for example")
    if user:
        return
    path = Path(program)
    if path.stat().st_mode & OTHERS != OTHERS:
        raise PermissionFailure(
            f"{program!r} may not be read and run by other users, and a service is one: `chmod a+rx` it"
        )
    closed = [folder for folder in path.parents if not folder.stat().st_mode & stat.S_IXOTH]
    if closed and not program.startswith(HIDDEN):  # from there systemd brings the file into the service's view
        raise PermissionFailure(
            f"{program!r} cannot be reached by other users, and a service is one: move it, or `chmod a+x` "
            f"{str(closed[-1])!r}"
        )


def install(place: Installation, text: str, keys: tuple[str, ...], now: bool) -> None:
    """Write the unit, and its keys for nobody else to read; start it now and at every boot.

    What was begun is undone when systemd does not take it: one that is replaced is as it was, also when the new one
    does not become ready. Raises ServiceFailed then.
    """
    before = _Contents.of(place)
    try:
        _Contents(_bytes(text), _bytes("".join(f"{key}\n" for key in keys)) if keys else None).write(place)
        place.manager.tell("daemon-reload")
        place.manager.tell("enable", place.service)
    except BaseException:
        _put_back(place, before)
        raise
    if not now or _is_ready(place, before):
        return
    said = f"`journalctl {'--user ' if place.manager.user else ''}-u {place.unit} -n 20` says why"
    if before.unit is None:
        raise ServiceFailed(f"the service {place.unit!r} is installed, but did not become ready: {said}")
    _put_back(place, before)
    place.manager.does("restart", place.service)
    raise ServiceFailed(f"the new service {place.unit!r} did not become ready, and the one before is back: {said}")


def _is_ready(place: Installation, before: "_Contents") -> bool:
    """Start it anew; one that was replaced comes back when somebody does not want to wait for that."""
    try:
        return place.manager.does("restart", place.service)
    except BaseException:
        if before.unit is not None:
            _put_back(place, before)
            place.manager.does("restart", place.service)
        raise


def remove(place: Installation) -> None:
    """Stop it and remove its unit, its keys and what it kept. Raises NoService."""
    if not place.file.exists():
        raise NoService(f"there is no service {place.unit!r} of this program's: `service install` makes one")
    if not _is_ours(place.file):
        raise NoService(f"{str(place.file)!r} was not made by this program, and stays: remove it by hand")
    with _explained(place):
        place.manager.does("stop", place.service)
        place.manager.tell("disable", place.service)
        place.manager.does("clean", "--what=all", place.service)
        _forget(place)
    place.manager.tell("daemon-reload")
    place.manager.does("reset-failed", place.service)


@dataclass(frozen=True)
class _Contents:
    """What is in the files of a service; None: there is none."""

    unit: bytes | None
    keys: bytes | None

    @classmethod
    def of(cls, place: Installation) -> "_Contents":
        with _explained(place):
            return cls(_read(place.file), _read(place.keys))

    def write(self, place: Installation) -> None:
        with _explained(place):
            if self.keys is not None:
                place.keys.parent.mkdir(parents=True, exist_ok=True)
                place.keys.parent.chmod(0o700)
            for path, data, mode in ((place.keys, self.keys, 0o600), (place.file, self.unit, 0o644)):
                if data is None:
                    path.unlink(missing_ok=True)
                elif data != _read(path):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    _write(path, data, mode)


def _put_back(place: Installation, before: _Contents) -> None:
    """As far as it can be: what went wrong is what is told."""
    with contextlib.suppress(PermissionFailure, ServiceFailed):
        before.write(place)
    place.manager.does("daemon-reload")


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _forget(place: Installation) -> None:
    place.file.unlink(missing_ok=True)
    place.keys.unlink(missing_ok=True)


def _is_ours(file: Path) -> bool:
    with contextlib.suppress(OSError):
        return file.read_text("utf-8", "replace").startswith(MARK)
    return False


def _write(path: Path, data: bytes, mode: int) -> None:
    """Under another name first, with its mode from the first moment on."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            os.chmod(draft, mode)
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _explained(place: Installation) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        hint = "check its permissions" if place.manager.user else "run it as root (`sudo`), or install it with --user"
        raise PermissionFailure(f"{str(error.filename)!r} may not be written: {hint}") from None
    except OSError as error:
        raise ServiceFailed(f"{str(error.filename)!r} cannot be written ({error.strerror}): check its disk") from None
