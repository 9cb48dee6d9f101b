"""Checks where an artifact is to be written, before anything slow is done."""

import os
from pathlib import Path

from mkllm.builder.errors import NoKit, PermissionFailure, TargetExists
from mkllm.builder.kit.target import TARGETS, alternatives, default, of_program
from mkllm.builder.model.weights import Weights
from mkllm.builder.space import check_free
from mkllm.runtime.artifact.draft import bring_back, failure


def check_system(system: str | None, path: Path | None) -> str:
    """The system to build for: `system`, or what the name `path` implies. Raises NoKit for an unknown one."""
    usual = default().name
    chosen = system or implied_system(path) or usual
    if chosen in TARGETS:
        return chosen
    why = "" if system else f", which the name {str(path)!r} asks for"
    hint = f"choose --target {alternatives()}" if system else f"choose another name, or --target {usual}"
    raise NoKit(f"this version cannot build for {chosen!r}{why}: {hint}")


def implied_system(path: Path | None) -> str | None:
    """The system that a file's name alone asks for, None when it asks for none."""
    asked = of_program(path.name) if path else None
    return asked.name if asked else None


def check_path(path: Path, force: bool) -> None:
    """Raise TargetExists or PermissionFailure when a file cannot be made at `path`.

    What a build that was killed has set aside there is what is there.
    """
    try:
        _check_path(path, force)
    except OSError as error:
        raise failure(error, path) from None


def _check_path(path: Path, force: bool) -> None:
    if path.is_dir():
        raise TargetExists(f"{str(path)!r} is a folder: name a file with -o, such as {str(path / 'model')!r}")
    if path.parent.is_dir() and not os.path.lexists(path):
        bring_back(path)
    if os.path.lexists(path) and not force:
        raise TargetExists(f"{str(path)!r} exists already: choose another name with -o, or overwrite it with --force")
    if path.exists() and not path.is_file():
        raise TargetExists(f"{str(path)!r} is not a file: choose another name with -o")
    _check_parent(path, path.parent)


def _check_parent(path: Path, folder: Path) -> None:
    """Raise PermissionFailure when `path` cannot be made, as nothing can in `folder`."""
    if not folder.is_dir():
        raise PermissionFailure(f"{str(path)!r} cannot be written: there is no folder {str(folder)!r}; create it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionFailure(
            f"{str(path)!r} cannot be written: {str(folder)!r} is not writable; choose another folder"
        )


def check_folder(folder: Path) -> None:
    """Raise TargetExists or PermissionFailure when files cannot be made in `folder`, which may not exist yet."""
    try:
        if os.path.lexists(folder) and not folder.is_dir():
            raise TargetExists(
                f"{str(folder)!r} is not a folder, and several files are to be made: name one with -o, or a new one"
            )
        _check_parent(folder, folder if folder.is_dir() else folder.parent)
    except OSError as error:
        raise failure(error, folder) from None


def check_source(path: Path, weights: Weights) -> None:
    """Raise TargetExists when the target is one of the model's own files, under whatever name."""
    if os.path.exists(path) and any(os.path.samefile(path, file) for file in weights.files):
        raise TargetExists(f"{str(path)!r} is the model itself: choose another name with -o")


def check_space(path: Path, needed: int) -> None:
    """Raise NoSpace when less than `needed` bytes are free where `path` is to be."""
    check_free(path.parent, needed, repr(str(path)), "choose another disk with -o")
