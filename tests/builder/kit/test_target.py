"""The table of targets: what its rows must have, and which of them this machine is."""

import platform
from dataclasses import replace

import pytest

from mkllm.builder.errors import NoKit
from mkllm.builder.kit import target as targets
from mkllm.builder.kit.target import TARGETS
from mkllm.runtime.hardware.variants import VARIANTS


def on(system: str, machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_every_target_has_a_variant_that_runs_everywhere(target: targets.Target) -> None:
    assert [row.name for row in VARIANTS if row.machine == target.machine and not row.needs]


def test_no_two_are_alike() -> None:
    rows = list(TARGETS.values())
    for name in ("name", "zig"):
        assert len({getattr(row, name) for row in rows}) == len(rows)


@pytest.mark.parametrize(
    ("system", "machine", "name"),
    [
        ("Linux", "x86_64", "linux-x86_64"),
        ("Linux", "aarch64", "linux-aarch64"),
        ("Darwin", "arm64", "macos-arm64"),
    ],
)
def test_this_machine(system: str, machine: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    on(system, machine, monkeypatch)
    assert targets.builder() == targets.default() == targets.host() == TARGETS[name]


def test_a_machine_without_a_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    on("Linux", "riscv64", monkeypatch)
    assert targets.host() is None and targets.default().name == "linux-x86_64"
    with pytest.raises(NoKit, match="^kits are not built on Linux riscv64: build one on linux-x86_64 or "):
        targets.builder()


def test_parts_do_not_depend_on_what_programs_are_like() -> None:
    """What is in `repr` goes into the keys of compiled parts."""
    windows = TARGETS["windows-x86_64"]
    assert repr(replace(windows, windows=None, largest_program=1, suffix="")) == repr(windows)
    assert repr(replace(windows, zig="other")) != repr(windows)


def test_what_programs_are_like() -> None:
    windows, linux = TARGETS["windows-x86_64"], TARGETS["linux-x86_64"]
    assert (windows.program("a"), windows.floor(""), windows.is_signable) == ("a.exe", "Windows 10", True)
    assert (linux.program("a"), linux.floor("2.17"), linux.is_signable) == ("a", "glibc 2.17", False)
    assert windows.largest_program == 4 * 1024**3 - 1 and linux.largest_program is None
    assert targets.of_program("a.EXE") is windows and targets.of_program("a.exe.gguf") is None


def test_unknown() -> None:
    with pytest.raises(NoKit, match="there is no recipe for the target 'amiga': choose linux-x86_64 or "):
        targets.named("amiga")


def test_the_kit_for_macos_is_built_on_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    macos, linux = TARGETS["macos-arm64"], TARGETS["linux-x86_64"]
    for system, machine in (("Linux", "x86_64"), ("Darwin", "x86_64")):
        on(system, machine, monkeypatch)
        with pytest.raises(NoKit, match="^the kit for 'macos-arm64' is built on a Mac with a processor of Apple's,"):
            targets.check_place(macos)
        targets.check_place(linux)


def test_on_a_mac_no_other_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    on("Darwin", "arm64", monkeypatch)
    targets.check_place(TARGETS["macos-arm64"])
    with pytest.raises(NoKit, match="^on a Mac no kit for 'linux-aarch64' is built: build it on Linux, "):
        targets.check_place(TARGETS["linux-aarch64"])
