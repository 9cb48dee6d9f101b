"""Weights as a CPU kernel wants them (`--prepack`): ordered and undone by the kit's engine; knows no layout."""

import contextlib
import errno
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from mkllm.builder import process
from mkllm.builder.errors import BuilderFailure, ToolFailed, UnusableModel
from mkllm.builder.kit.kit import Kit, engine_environment
from mkllm.builder.kit.variants import KERNEL
from mkllm.runtime.errors import Different

CHUNK = 1 << 20
ORDER, UNDO = "prepack", "restore"
REFUSED = 1
SPEAKER = "mkllm-engine: "


@dataclass(frozen=True)
class Prepacking:
    """One kernel of one kit, whose order the weights are to have."""

    kit: Kit
    kernel: str

    def order(self, target: int, offset: int, size: int, progress: Callable[[int], None]) -> int:
        """Order the GGUF in the open file `target`, and return its size now; what lies behind it is overwritten.

        Raises UnusableModel when the kernel takes these weights as they are, ToolFailed, or OSError for a full disk.
        """
        done, last = 0, {"tensors": 0}
        with self._engine(ORDER, target, offset, size) as engine:
            for line in engine.stdout or ():
                last = json.loads(line)
                progress(last.get("done", done) - done)
                done = last.get("done", done)
        if not last["tensors"]:
            raise UnusableModel(f"{self.kernel} takes these weights as they are: build without --prepack")
        return int(last["size"])

    def plain(self, target: int, offset: int, size: int) -> Iterator[bytes]:
        """The GGUF again, in pieces."""
        with self._engine(UNDO, target, offset, size) as engine:
            assert engine.stdout is not None
            while piece := os.read(engine.stdout.fileno(), CHUNK):
                yield piece

    def check(self, target: int, offset: int, size: int) -> None:
        """Raise ToolFailed unless the kernel uses the weights where they lie."""
        with self._engine("in-place", target, offset, size) as engine:
            told = json.loads(engine.stdout.read() if engine.stdout else "")
        if not told["in_place"]:
            raise ToolFailed(
                f"{self.kernel} does not use the weights that were prepacked for it: build without --prepack"
            )

    @contextlib.contextmanager
    def _engine(self, command: str, target: int, offset: int, size: int) -> Iterator[subprocess.Popen[str]]:
        module = self.kit.module(dict(self.kit.backends)[self.kernel])
        environment = {
            **engine_environment(self.kit),
            "MKLLM_EMBEDDED": f"model.gguf={target}@{offset}:{size}{'' if command == ORDER else 'p'}",
            "MKLLM_BACKENDS": f"./{module.name}",  # without its folder, which may have a colon in its name
        }
        with contextlib.ExitStack() as stack:
            words: list[str | Path] = [self.kit.engine, command]
            try:
                engine = stack.enter_context(process.background(words, environment, module.parent, (target,)))
            except OSError as error:
                raise ToolFailed(f"the engine {str(words[0])!r} cannot be executed ({error.strerror})") from None
            nonsense = False
            try:
                yield engine
            except ValueError:
                nonsense = True
            _, errors = engine.communicate()
        if engine.returncode or nonsense:
            raise _failure(command, self.kernel, engine.returncode, errors)


def prepacking(kit: Kit, wanted: str) -> Prepacking:
    """The kernel of that name. Raises click.BadParameter when the kit has none, or it does not run here."""
    kernels = {name for name, _ in kit.backends if name.startswith(KERNEL)}
    kernel = KERNEL + wanted.removeprefix(KERNEL)
    here = kit.kernels_here() if kit.runs_here else []
    choices = ", ".join(here) or "none: build without --prepack"
    if kernel not in kernels:
        raise _wrong(f"the kit has no kernel {wanted!r}; those that run on this machine: {choices}")
    if kernel not in here:
        raise _wrong(f"{kernel} does not run on this machine, which is to order the weights; those that do: {choices}")
    return Prepacking(kit, kernel)


def undoing(kit: Kit) -> Prepacking:
    """For weights that were prepacked on any machine. Raises ToolFailed when the kit's engine does not run here."""
    if not kit.runs_here:
        raise ToolFailed(
            f"the weights are prepacked, and the kit {kit.id} does not run here: extract them where it does"
        )
    return Prepacking(kit, kit.backends[0][0])


def _failure(command: str, kernel: str, status: int, errors: str) -> Exception:
    lines = [line for line in errors.splitlines() if line.strip()]
    why = lines[-1].removeprefix(SPEAKER) if lines else "it says no JSON"
    if "No space left on device" in why:
        return OSError(errno.ENOSPC, "no space left")
    if status < 0:
        why = f"the engine dies of {signal.Signals(-status).name}"
    if command == UNDO:
        text = f"the weights cannot be restored ({why}): copy the file again"
        return Different(text) if status == REFUSED else ToolFailed(text)
    return ToolFailed(f"the weights cannot be prepacked for {kernel} ({why}): build without --prepack")


def _wrong(text: str) -> click.BadParameter:
    return click.BadParameter(text, param_hint="--prepack")


def damaged() -> BuilderFailure:
    """The failure to raise when ordered weights are not the plain ones again when that is undone."""
    return BuilderFailure("the prepacked weights are not the model's again when undone: check the disk and the memory")
