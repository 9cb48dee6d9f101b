"""Asks the program that runs llama.cpp (worker.py), and makes one sentence of whatever happens to it."""

import json
import signal
import sys
from collections.abc import Generator, Iterator, Mapping
from typing import Any

from mkllm.builder import process
from mkllm.builder.errors import NoKit, NoSpace, ToolFailed
from mkllm.builder.kit.kit import Kit
from mkllm.builder.kit.variants import KERNEL

NO_SPACE = ("No space left on device", "basic_ios::clear: iostream error", "iostream stream error")


Answers = Generator[dict[str, Any], None, None]


def ask(kit: Kit, command: str, what: str, **values: Any) -> Answers:
    """The answers of `command` as they come; the program ends with the generator.

    Raises NoKit when the kit does not run here, NoSpace, or ToolFailed; `what` names the work in its sentence.
    """
    return _ask(what, {"kit": str(kit.path), "kernel": kernels(kit)[0], "command": command, **values})


def ask_alike(kit: Kit, command: str, what: str, **values: Any) -> Answers:
    """The same of the kernel that every machine runs, so that they all get the same answers."""
    return _ask(what, {"kit": str(kit.path), "kernel": kernels(kit)[-1], "command": command, **values})


def _ask(what: str, request: Mapping[str, Any]) -> Answers:
    words = [sys.executable, "-P", "-m", "mkllm.builder.quant.worker", json.dumps(request, default=str)]
    told: dict[str, Any] = {}
    with process.background(words) as child:
        for line in child.stdout or ():
            if not line.startswith("{"):  # what native code prints by itself
                continue
            answer = json.loads(line)
            if "error" in answer:
                told = answer
            else:
                yield answer
        _, errors = child.communicate()
    if child.returncode or told:
        raise _failure(what, told, child.returncode, errors)


def kernels(kit: Kit) -> list[str]:
    """The CPU variants of the kit that run on this machine, the best first. Raises NoKit when there are none."""
    if not kit.runs_here:
        raise NoKit(f"the kit {kit.id} is for {kit.target}, and models are quantized here: run `mkllm kit build` too")
    here = kit.kernels_here()
    if not here:
        raise NoKit(f"the kit {kit.id} has no kernel that runs on this machine: run `mkllm kit build` here")
    return [name.removeprefix(KERNEL) for name in here]


def _failure(what: str, told: dict[str, Any], status: int, errors: str) -> Exception:
    why = told.get("error", "")
    if told.get("kit"):
        return NoKit(why)
    if not why:
        lines = [line for line in errors.splitlines() if line.strip()]
        why = f"it dies of {signal.Signals(-status).name}" if status < 0 else (lines or ["it says nothing"])[-1]
    if any(words in why for words in NO_SPACE):
        return NoSpace(f"{what}: no space left on the disk: free some, or set MKLLM_CACHE to a folder on another one")
    return ToolFailed(f"{what}: llama.cpp refuses ({why.rstrip('.')})")


def only(answers: Iterator[dict[str, Any]]) -> dict[str, Any]:
    """The one answer of a command that has one."""
    (answer,) = answers
    return answer
