"""Programs, and all that they start, on a processor that QEMU plays: of this machine's kind, or of another."""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

SECONDS = 600


def version(qemu: str) -> tuple[int, ...]:
    """That of an emulator, such as (7, 2)."""
    said = subprocess.run([qemu, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"version (\d+)\.(\d+)", said)
    assert found, said
    return tuple(int(number) for number in found.groups())


@dataclass(frozen=True)
class Emulator:
    """`qemu` runs them, with `preloaded` in each; `home` is theirs; `root` has the C library that they find, if that is
    not this machine's."""

    qemu: str
    preloaded: Path
    home: Path
    root: Path | None = None

    @property
    def words(self) -> list[str]:
        """What to write before the words of a program."""
        return [self.qemu, "-E", f"LD_PRELOAD={self.preloaded}"]

    def environment(self, cpu: str, **more: str) -> dict[str, str]:
        places = {"HOME": str(self.home), "XDG_CACHE_HOME": "", "XDG_RUNTIME_DIR": "", "TMPDIR": str(self.home)}
        root = {"QEMU_LD_PREFIX": str(self.root)} if self.root else {}
        return {**os.environ, **places, **root, "QEMU_CPU": cpu, "THROUGH_QEMU": self.qemu, **more}

    def run(self, cpu: str, *words: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.words, *words],
            env=self.environment(cpu, **more),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
