"""Asks llama.cpp itself, as compiled for the kit, whether it can load a model: its vocabulary, and every tensor that it
wants with the shape that it wants.

It runs as a program of its own, so that an abort in there becomes a sentence; the weights are not read.
"""

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from mkllm.builder import process
from mkllm.builder.errors import NoKit, UnusableModel
from mkllm.builder.kit.kit import Kit
from mkllm.builder.kit.variants import KERNEL

SECONDS = 120
ERROR_LEVEL = 4
REFUSED, UNUSABLE = 3, 4
FUNCTIONS = re.compile(r"^(\w+: )?(error loading model: )?(\w+: )?")


class Check:
    """llama.cpp reading a model in the background: raises UnusableModel if it refuses, NoKit if it cannot be asked."""

    def __init__(self, child: subprocess.Popen[str] | None, kit: Kit, path: Path) -> None:
        self._child = child
        self._kit = kit
        self._path = path

    def look(self) -> None:
        """Raise what there is to raise by now."""
        if self._child and self._child.poll() is not None:
            self.wait()

    def wait(self) -> None:
        """Return when it has read the model, or raise."""
        if not self._child:
            return
        code, output, errors = self._end(self._child)
        self._child = None
        if code not in (0, UNUSABLE) and not output and self._kit.kernels_here():
            # It died, or gave no reason: that may be the kernel's doing, so it is asked once more without one.
            with process.background(_command(self._kit, self._path)) as child:
                code, output, errors = self._end(child)
        if code == REFUSED:
            raise _refused(self._path, output or "it gives no reason")
        if code == UNUSABLE:
            raise NoKit(output)
        if code < 0:
            raise _refused(self._path, f"it dies of {signal.Signals(-code).name}")
        if code:
            raise _failed(self._kit, errors)

    def _end(self, child: subprocess.Popen[str]) -> tuple[int, str, str]:
        try:
            output, errors = child.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            raise _refused(self._path, f"it was still reading after {SECONDS} s") from None
        return child.returncode, output.strip(), errors


@contextlib.contextmanager
def checking(kit: Kit, path: Path) -> Iterator[Check]:
    """Start the check; leaving the block ends it. A kit without bindings refuses nothing."""
    if not kit.runs_here:
        yield Check(None, kit, path)
        return
    with process.background(_command(kit, path, *kit.kernels_here()[:1])) as child:
        yield Check(child, kit, path)


def _command(kit: Kit, path: Path, *kernel: str) -> list[str]:
    return [sys.executable, "-P", "-m", __name__, str(kit.path), str(path), *kernel]


def _refused(path: Path, why: str) -> UnusableModel:
    return UnusableModel(f"the engine cannot load {str(path)!r} ({why}): get another version of this model")


def _failed(kit: Kit, text: str) -> NoKit:
    last = text.strip().splitlines()[-1:] or ["no message"]
    return NoKit(f"the bindings of the kit {kit.id} do not work here ({last[0]}): run `mkllm kit build` again")


def main(kit: Path, path: Path, kernel: str | None = None) -> int:
    """Lay the model out; print the reason and return REFUSED, or UNUSABLE if it is the kit's, when that fails. Without
    a kernel of the kit's that can be loaded here only the vocabulary is loaded."""
    from mkllm.builder.kit.bindings import load

    try:
        library = load(kit)
    except NoKit as error:
        print(error)
        return UNUSABLE
    has_kernel = kernel is not None and _has_loaded(kit, kernel)
    messages: list[str] = []

    def note(level: int, text: bytes, data: object) -> None:
        if level == ERROR_LEVEL:
            messages.append(" ".join(text.decode(errors="replace").split()))

    callback = library.llama_log_callback(note)
    library.llama_log_set(callback, ctypes.c_void_p(0))
    parameters = library.llama_model_default_params()
    parameters.vocab_only, parameters.no_alloc = not has_kernel, has_kernel
    parameters.load_mode = library.LLAMA_LOAD_MODE_NONE
    model = library.llama_model_load_from_file(os.fsencode(path), parameters)
    if model:
        return 0
    print(_reason(messages))
    return REFUSED


def _has_loaded(kit: Path, kernel: str) -> bool:
    from mkllm.builder.kit.bindings import load_backend

    try:
        load_backend(kit, kernel.removeprefix(KERNEL))
    except NoKit:
        return False
    return True


def _reason(messages: list[str]) -> str:
    """The most telling of the library's messages: the first, without the names of functions."""
    return FUNCTIONS.sub("", next(filter(None, messages), ""))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]))
