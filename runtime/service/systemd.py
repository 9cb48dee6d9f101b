"""systemd of this machine: whether it runs, where its units lie, and what `systemctl` says; decides nothing."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mkllm.runtime.errors import NoSystemd, ServiceFailed

BOOTED = Path("/run/systemd/system")
SYSTEM_UNITS = Path("/etc/systemd/system")
SYSTEM_KEYS = Path("/etc/mkllm")


@dataclass(frozen=True)
class Manager:
    """The system's own manager, or (`user`) that of the user who runs this."""

    user: bool = False

    @property
    def units(self) -> Path:
        """The folder of units that an administrator, or the user, made."""
        return _config() / "systemd" / "user" if self.user else SYSTEM_UNITS

    @property
    def keys(self) -> Path:
        """The folder of what only the manager may read."""
        return _config() / "mkllm" if self.user else SYSTEM_KEYS

    def expect(self) -> None:
        """Raise NoSystemd unless this system was booted by systemd."""
        if not BOOTED.is_dir():
            raise NoSystemd(
                "this system does not run systemd, so there is nothing to install a service into: start the file by "
                "what starts programs here, or print the unit with --print"
            )

    def tell(self, *words: str) -> None:
        """Run `systemctl`. Raises ServiceFailed with what it says."""
        done = self._run(words)
        if done.returncode:
            said = " ".join(done.stderr.split()) or f"it ended with {done.returncode}"
            raise ServiceFailed(f"systemctl {' '.join(words)} failed: {said}")

    def does(self, *words: str) -> bool:
        """Run `systemctl`; whether it succeeded."""
        return not self._run(words).returncode

    def show(self, unit: str, names: Sequence[str]) -> dict[str, str]:
        """Properties of a unit."""
        done = self._run(["show", unit, "--property", ",".join(names)])
        if done.returncode:
            raise ServiceFailed(f"systemd does not say how {unit!r} is: {' '.join(done.stderr.split())}")
        return {name: value for name, _, value in (line.partition("=") for line in done.stdout.splitlines())}

    def _run(self, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        command = ["systemctl", *(["--user"] if self.user else []), *words]
        try:
            return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        except OSError as error:
            raise NoSystemd(
                f"systemctl cannot be run ({error.strerror}): install it, or print the unit with --print"
            ) from None


def _config() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
