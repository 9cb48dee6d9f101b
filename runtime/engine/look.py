"""Looks at the GPUs of each backend in a child of its own, the engine itself, so that a driver can do no harm here.

A driver that crashes, hangs or is not there costs a sentence and at most `SECONDS` (Metal: more); nothing here
raises because of one.
"""

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mkllm.runtime.artifact.manifest import Backend
from mkllm.runtime.artifact.shown import shown
from mkllm.runtime.engine import nvidia
from mkllm.runtime.engine.device_list import read_devices
from mkllm.runtime.engine.environment import for_placed
from mkllm.runtime.engine.placed import Placed
from mkllm.runtime.errors import RuntimeFailure
from mkllm.runtime.hardware.devices import GPU_BACKENDS, GpuBackend, Look
from mkllm.runtime.platform import children

SECONDS = 5.0
KILLED_SECONDS = 1.0
NOT_STARTED = 126  # as a shell says it
# Of the engine's programs the one that says all that it hears from a driver, and says it before it ends.
WORDS = ("bench", "--list-devices")
MISSING = re.compile(r"(\S+): cannot open shared object file")
NOT_LOADED = re.compile(r"failed to load [^:]+: (.+)")
OLD = "Vulkan 1.2 required"
NO_DRIVER = "ggml_backend_init returned NULL"  # with its loader, but without a driver, the backend does not even begin


@dataclass(frozen=True)
class _Answer:
    """What a child said, and how it ended; `code` None: it had to be killed."""

    words: str
    code: int | None


def look(backends: Sequence[Backend], place: Callable[[Backend], Placed], frozen_home: str | None) -> tuple[Look, ...]:
    """One look for each of these backends, which `place` puts where they can be loaded from; all at the same time."""
    known = {gpu.name: gpu for gpu in GPU_BACKENDS}
    with contextlib.ExitStack() as stack:
        asked: dict[str, _Child] = {}
        looks: list[Look] = []
        for backend in backends:
            try:
                child = _Child(place(backend), {}, frozen_home)
                asked[backend.name] = stack.enter_context(child)
            except RuntimeFailure as failure:
                looks.append(Look(backend.name, trouble=f"{failure}"))
        begun = time.monotonic()
        answers = {name: child.answer(begun + _seconds(known[name])) for name, child in asked.items()}
        return (*looks, *(_look(known[name], answers[name], child) for name, child in asked.items()))


def _seconds(gpu: GpuBackend) -> float:
    return SECONDS + gpu.more_seconds


def _look(gpu: GpuBackend, answer: _Answer, asked: "_Child") -> Look:
    """Where no GPU is listed, whatever is there is asked for: there may be a software renderer."""
    devices = read_devices(answer.words)
    if answer.code != 0 or devices is None:
        return Look(gpu.name, trouble=_trouble(gpu, answer))
    if not devices and (refused := nvidia.refusal(answer.words)):
        return Look(gpu.name, (), *refused)
    if not devices and gpu.all_devices and not gpu.all_devices.keys() & os.environ.keys():
        with asked.again(gpu.all_devices) as child:
            again = child.answer(time.monotonic() + SECONDS)
        devices = read_devices(again.words, gpu.all_devices) if again.code == 0 else ()
    return Look(gpu.name, nvidia.with_driver(devices or ()))


def _trouble(gpu: GpuBackend, answer: _Answer) -> str:
    if answer.code is None:
        return f"its driver did not answer within {_seconds(gpu):.0f} s"
    if crash := children.crash(answer.code):
        return f"its driver crashed ({children.crash_name(crash)})"
    if answer.code == NOT_STARTED:
        return answer.words
    if missing := MISSING.search(answer.words):
        return f"{shown(missing[1])} is not installed"
    if OLD in answer.words:
        return "its driver is older than Vulkan 1.2"
    if refused := NOT_LOADED.search(answer.words):
        return f"its module cannot be loaded: {shown(refused[1])!r:.300}"
    if NO_DRIVER in answer.words:
        return "no driver that works is there"
    lines = [line.strip() for line in answer.words.splitlines() if line.strip()]
    said = shown(lines[-1])[:200] if lines else "nothing"
    how = "what it said is no list of devices" if answer.code == 0 else f"it ended with status {answer.code}"
    return f"{how}: {said!r}"


class _Child:
    """The engine with one module, listing devices. Leaving the block ends it and all that it started.

    It ends with this process too (the lifeline of spec/launch.md, 3).
    """

    def __init__(self, placed: Placed, more: Mapping[str, str], frozen_home: str | None) -> None:
        self._given = (placed, frozen_home)
        self._words = [str(placed.program), *WORDS]
        self._environment = {**for_placed(os.environ, placed, frozen_home), **more}
        self._descriptors = placed.descriptors
        self._process: subprocess.Popen[bytes] | None = None
        self._failure = ""

    def __enter__(self) -> "_Child":
        far, self._lifeline = os.pipe()
        try:
            self._process = children.start(
                self._words,
                (far, *self._descriptors),
                {**self._environment, "MKLLM_LIFELINE_FD": str(children.number(far))},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            self._failure = f"the engine cannot be executed: {error.strerror}"
        finally:
            os.close(far)
        return self

    def again(self, more: Mapping[str, str]) -> "_Child":
        """The same once more, with `more` in its environment."""
        placed, frozen_home = self._given
        return _Child(placed, more, frozen_home)

    def answer(self, deadline: float) -> _Answer:
        """What it says until it ends; killed at the deadline (seconds of the monotonic clock)."""
        if self._process is None:
            return _Answer(self._failure, NOT_STARTED)
        try:
            output, _ = self._process.communicate(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return _Answer("", None)
        return _Answer(output.decode("utf-8", "replace"), self._process.returncode)

    def __exit__(self, *_: object) -> None:
        """A process that hangs in the kernel cannot be killed, and is not waited for."""
        os.close(self._lifeline)
        if self._process is None:
            return
        if self._process.poll() is None:
            children.kill(self._process)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(KILLED_SECONDS)
        assert self._process.stdout is not None
        self._process.stdout.close()
