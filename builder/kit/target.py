"""The systems that kits are made for: one table; knows no part of a kit.

A new system is a new row. What a part does for each of them is said in the part.
"""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath

from mkllm.builder.errors import NoKit

X86_64, AARCH64 = 62, 183  # e_machine of ELF files
GLIBC = "2.17"
MACOS = (13, 3)  # the oldest that ggml's Metal backend is compiled for
MANYLINUX = ("_2_17", "2014")  # wheels for systems as old as that; x86-64 has older ones, too
# Of Windows 10: its C library, in parts, and what is asked of the system.
UCRT = (
    "conio convert environment filesystem heap locale math multibyte private process runtime stdio string time utility"
)
SYSTEM = (
    "advapi32 bcrypt crypt32 iphlpapi kernel32 ntdll ole32 oleaut32 pdh powrprof psapi shell32 user32 version ws2_32"
)
WINDOWS_LIBRARIES = frozenset(
    {f"api-ms-win-crt-{part}-l1-1-0.dll" for part in UCRT.split()}
    | {f"{name}.dll" for name in (*SYSTEM.split(), "api-ms-win-core-path-l1-1-0", "api-ms-win-core-synch-l1-2-0")}
)


@dataclass(frozen=True)
class Target:
    """One system. `name` is what users call it, `system` and `machine` what CMake and Linux do, `zig` and `triplet`
    what zig and the GNU tools do; `platforms` are tags of the wheels that it can use. For Linux: the `glibc` that is
    promised, the path of its `loader`, the `elf_machine` of its files, and the largest `page`, in bytes, that its
    kernels have. For Windows and macOS: the oldest version that is promised, `windows` or `macos`; and what the system
    takes of programs: `largest_program`, in bytes (None: any), and the end of their names, `suffix`."""

    name: str
    system: str
    machine: str
    zig: str
    triplet: str
    platforms: tuple[str, ...]
    glibc: str = ""
    loader: str = ""
    elf_machine: int = 0
    page: int = 4096
    # Parts of other systems do not depend on these: `repr` goes into the keys of compiled parts.
    windows: tuple[int, int] | None = field(default=None, repr=False)
    macos: tuple[int, int] | None = field(default=None, repr=False)
    largest_program: int | None = field(default=None, repr=False)
    suffix: str = field(default="", repr=False)

    @property
    def is_signable(self) -> bool:
        """Whether programs for it are signed where they are made, by a tool of the maker's."""
        return self.windows is not None

    def floor(self, glibc: str) -> str:
        """The oldest system that an artifact runs on, in words; `glibc` is what its kit promises."""
        if self.macos:
            return "macOS {}.{}".format(*self.macos)
        return f"Windows {self.windows[0]}" if self.windows else f"glibc {glibc}"

    def program(self, name: str) -> str:
        """The file name of a program."""
        return name + self.suffix

    def library(self, name: str) -> str:
        """The file name of a shared library or of a module: `libggml.so`, `ggml.dll`."""
        return f"{name}.dll" if self.windows else f"lib{name}.so"

    @property
    def system_libraries(self) -> frozenset[str]:
        """What every such system has, on Windows in lower case: nothing else may be needed."""
        if self.windows:
            return WINDOWS_LIBRARIES
        if self.macos:
            return frozenset()  # there they have paths (`macho.py`)
        common = ("libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1")
        return frozenset({*common, self.loader.rpartition("/")[2]})


_ROWS = (
    Target(
        name="linux-x86_64",
        system="Linux",
        machine="x86_64",
        zig=f"x86_64-linux-gnu.{GLIBC}",
        triplet="x86_64-linux-gnu",
        platforms=tuple(f"manylinux{version}_x86_64" for version in (*MANYLINUX, "_2_12", "2010", "_2_5", "1")),
        glibc=GLIBC,
        loader="/lib64/ld-linux-x86-64.so.2",
        elf_machine=X86_64,
    ),
    Target(
        name="linux-aarch64",
        system="Linux",
        machine="aarch64",
        zig=f"aarch64-linux-gnu.{GLIBC}",
        triplet="aarch64-linux-gnu",
        platforms=tuple(f"manylinux{version}_aarch64" for version in MANYLINUX),
        glibc=GLIBC,
        loader="/lib/ld-linux-aarch64.so.1",
        elf_machine=AARCH64,
        page=65536,  # 16 KiB on a Raspberry Pi 5, 64 KiB on some servers
    ),
    Target(
        name="windows-x86_64",
        system="Windows",
        machine="x86_64",
        zig="x86_64-windows.win10-gnu",
        triplet="x86_64-w64-mingw32",
        platforms=("win_amd64",),
        windows=(10, 0),
        largest_program=(4 << 30) - 1,
        suffix=".exe",
    ),
    Target(
        name="macos-arm64",
        system="Darwin",
        machine="arm64",
        zig="aarch64-macos.{}.{}".format(*MACOS),
        triplet="arm64-apple-darwin",
        platforms=("macosx_13_0_arm64",),  # pip adds older ones, and those for several processors
        page=16384,
        macos=MACOS,
    ),
)
TARGETS: Mapping[str, Target] = {row.name: row for row in _ROWS}


def alternatives() -> str:
    """The names of all, for a sentence: `a, b or c`."""
    *first, last = TARGETS
    return f"{', '.join(first)} or {last}"


def named(name: str) -> Target:
    """The target of that name. Raises NoKit when there is none."""
    if name not in TARGETS:
        raise NoKit(f"there is no recipe for the target {name!r}: choose {' or '.join(TARGETS)}")
    return TARGETS[name]


def of_program(name: str) -> Target | None:
    """The target whose programs alone have names that end so; None when the name says nothing."""
    ending = PurePath(name).suffix.lower()
    return next((row for row in _ROWS if row.suffix and ending == row.suffix), None)


def host() -> Target | None:
    """The target whose programs this machine runs; None when no kit is made for it."""
    names = (row for row in _ROWS if row.system == platform.system() and row.machine == platform.machine())
    return next(names, None)


def default() -> Target:
    """What is built for when nothing is said: this machine's own, if there is a recipe for it."""
    return host() or _ROWS[0]


def is_built_here(target: Target) -> bool:
    """Whether kits for that target are built on this system: those for a Mac on Macs alone, and on those no others."""
    here = host()
    return bool(target.macos) == bool(here and here.macos)


def check_place(target: Target) -> None:
    """Raise NoKit where kits for that target are not built."""
    if is_built_here(target):
        return
    if target.macos:
        raise NoKit(
            f"the kit for {target.name!r} is built on a Mac with a processor of Apple's, whose compilers and Python it "
            f"takes: run `mkllm kit build --wheel DIR` there and install that wheel here, or `mkllm kit fetch "
            f"{target.name}`"
        )
    raise NoKit(
        f"on a Mac no kit for {target.name!r} is built: build it on Linux, by `mkllm kit build --wheel DIR`, and "
        f"install that wheel here, or run `mkllm kit fetch {target.name}`"
    )


def _builders() -> list[str]:
    return [row.name for row in _ROWS if not row.windows]


def builder() -> Target:
    """This machine's own target, by whose programs those of others are made. Raises NoKit where there is none."""
    here = host()
    if here is None:
        raise NoKit(
            f"kits are not built on {platform.system()} {platform.machine()}: build one on {' or '.join(_builders())}, "
            "and install its wheel here"
        )
    return here
