"""Remembers what was measured on this machine, and what crashed on it; knows nothing of how either is found out.

One small file each in a folder beside the runtime's home, named by everything that the result depends on, so that
what was found out elsewhere, or of something else, is never taken. What cannot be read or written is not remembered.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mkllm.runtime.hardware.probe import Facts
from mkllm.runtime.hardware.settings import Settings, Settled, Trial, Tuning
from mkllm.runtime.platform.own import release

FORMAT = 1
MOST = 64
MOST_BUSY = 3  # on a machine that is always busy, what was measured then has to do
PASSING = {"memory_total", "memory_available", "notes", "huge_pages", "gpus"}


@dataclass(frozen=True)
class Plans:
    """The memory of one machine for one model: `folder` None remembers nothing.

    `subject` is all that a plan depends on; `hardware` is what a crash depends on: the system's release too.
    """

    folder: Path | None
    subject: str
    hardware: str

    def recall(self) -> Tuning | None:
        """What was measured with as much effort or more, if it is still good."""
        found = self._read(f"plan-{self.subject}")
        if found is None or not isinstance(found.get("busy"), int) or 0 < found["busy"] < MOST_BUSY:
            return None
        try:
            return _tuning(found["tuning"])
        except (KeyError, TypeError, ValueError):
            return None

    def measured(self) -> float | None:
        """When what is recalled was measured, in seconds since 1970."""
        try:
            return (self.folder / f"plan-{self.subject}.json").stat().st_mtime if self.folder else None
        except OSError:
            return None

    def remember(self, tuning: Tuning) -> None:
        """Keep it for the next launch; what was measured on a busy machine only for want of something better."""
        before = self._read(f"plan-{self.subject}") or {}
        times = before.get("busy", 0)
        busy = 0 if tuning.lasting else (times if isinstance(times, int) else 0) + 1
        self._write(f"plan-{self.subject}", {"busy": busy, "tuning": dataclasses.asdict(tuning)})
        for kernel, sentence in tuning.crashed if tuning.trials else ():  # where all crash, it may be the model
            self.remember_crash(kernel, sentence)
        self._forget(self._mark)  # it was of other settings

    def is_proven(self, kernel: str) -> bool:
        """Whether this kernel has computed this model, as it is recalled, with this system and its drivers."""
        found = self._read(self._mark) or {}
        return (found.get("kernel"), found.get("hardware")) == (kernel, self.hardware)

    def remember_proven(self, kernel: str) -> None:
        """It has computed this model as it is recalled: what its next start need not try before it is ready."""
        if self.measured():
            self._write(self._mark, {"kernel": kernel, "hardware": self.hardware})

    def doubt(self, kernel: str) -> None:
        """It ended by itself after all: its next start tries it again."""
        if self.is_proven(kernel):
            self._forget(self._mark)

    def crashes(self) -> dict[str, str]:
        """Kernels that crashed on this machine, with how."""
        found = self._read(f"crashes-{self.hardware}") or {}
        kernels = found.get("kernels", {})
        return {str(name): str(sentence) for name, sentence in kernels.items()} if isinstance(kernels, dict) else {}

    def remember_crash(self, kernel: str, sentence: str) -> None:
        """Leave this kernel out on this machine, until its hardware, system or kit changes."""
        day = time.strftime("%Y-%m-%d")
        kernels = {**self.crashes(), kernel: f"it crashed here on {day}: {sentence}"}
        self._write(f"crashes-{self.hardware}", {"kernels": kernels})

    def forget(self) -> None:
        """Measure anew at the next launch, and try everything again."""
        for name in (f"plan-{self.subject}", f"crashes-{self.hardware}", self._mark):
            self._forget(name)

    @property
    def _mark(self) -> str:
        return f"proven-{self.subject}"

    def _forget(self, name: str) -> None:
        if self.folder:
            with contextlib.suppress(OSError):
                (self.folder / f"{name}.json").unlink()

    def _read(self, name: str) -> dict[str, Any] | None:
        if self.folder is None:
            return None
        try:
            found = json.loads((self.folder / f"{name}.json").read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) and found.get("format") == FORMAT else None

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        """Under a temporary name, then renamed: another launch may do the same at the same time."""
        if self.folder is None:
            return
        temporary = self.folder / f".{name}.{os.urandom(6).hex()}"
        with contextlib.suppress(OSError):
            self.folder.mkdir(mode=0o700, exist_ok=True)
            try:
                temporary.write_text(json.dumps({"format": FORMAT, **content}), "utf-8")
                temporary.replace(self.folder / f"{name}.json")
            finally:
                temporary.unlink(missing_ok=True)
            _bound(self.folder)


def plans(folder: Path | None, facts: Facts, kit: str, model: str, settled: Settled, kernels: Sequence[str]) -> Plans:
    """The memory in `folder` for this machine, the kit and the weights of these ids, and what was settled before."""
    machine = {name: value for name, value in facts.as_object().items() if name not in PASSING}
    if facts.gpus:  # a driver that is gone, or another one, changes what crashes; memory that is free does not
        seen = [device for look in facts.gpus for device in look.devices]
        machine["gpus"] = [[device.description, device.driver, device.memory_total] for device in seen]
    hardware = [machine, kit, release()]
    subject = [machine, kit, model, dataclasses.asdict(settled), list(kernels)]
    return Plans(folder, _fingerprint(subject), _fingerprint(hardware))


def _fingerprint(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:24]


def _tuning(found: Mapping[str, Any]) -> Tuning:
    trials = tuple(Trial(**{**trial, "settings": Settings(**trial["settings"])}) for trial in found["trials"])
    crashed = tuple((str(name), str(sentence)) for name, sentence in found["crashed"])
    values = {**found, "settings": Settings(**found["settings"]), "trials": trials, "crashed": crashed}
    return Tuning(**{**values, "notes": tuple(found["notes"])})


def _bound(folder: Path) -> None:
    """Only so many: those that were written longest ago go."""
    files = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
    for path in files[:-MOST]:
        path.unlink()
    for path in folder.glob(".*"):
        if time.time() - path.stat().st_mtime > 3600:
            path.unlink()
