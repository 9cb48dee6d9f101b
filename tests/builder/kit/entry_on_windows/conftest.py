"""The real bootloader for Windows with a small program, under wine."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PyInstaller
import pytest
from wine import Wine

from mkllm.builder.kit import bootloader_windows, compile_frozen
from mkllm.builder.kit.pins import sdist
from mkllm.builder.kit.pkg import BINARY, BOOT, DATA, MODULES, OPTION, SCRIPT, Entry, Pkg, write_pkg
from mkllm.builder.kit.runtime_windows import BASE, BOOT_SCRIPT, BOOTSTRAP
from mkllm.builder.kit.sdist import fetch
from mkllm.builder.kit.store import build_part

LIBRARIES = ("python311.dll", "vcruntime140.dll", "DLLs/_ctypes.pyd", "DLLs/libffi-8.dll")
MODULE_FOLDERS = ("json", "ctypes")  # what the program imports, beside what Python itself starts with

# What the runtime does that matters to the entry, and what tests ask of it.
PROGRAM = """
import ctypes, json, os, sys

def facts():
    names = [ctypes.create_unicode_buffer(4096) for _ in range(2)]
    kernel32 = ctypes.WinDLL("kernel32")
    kernel32.GetModuleHandleW.restype = ctypes.c_void_p
    kernel32.GetModuleHandleW.argtypes = [ctypes.c_wchar_p]
    kernel32.GetStdHandle.restype = ctypes.c_void_p
    kernel32.GetFileType.argtypes = [ctypes.c_void_p]
    kernel32.GetModuleFileNameW.argtypes = [ctypes.c_void_p, ctypes.c_wchar_p, ctypes.c_ulong]
    for name, library in zip(names, ("python311.dll", "vcruntime140.dll")):
        kernel32.GetModuleFileNameW(kernel32.GetModuleHandleW(library), name, 4096)
    print(json.dumps({
        "argv": sys.argv, "home": sys._MEIPASS, "libraries": [name.value for name in names],
        "utf8": sys.flags.utf8_mode, "pid": os.getpid(),
        "handles": [kernel32.GetFileType(kernel32.GetStdHandle(-10 - fd)) for fd in range(3)],
        "env": {name: value for name, value in os.environ.items() if name.startswith(("MKLLM_", "_PYI_"))},
    }), flush=True)

command, *rest = sys.argv[1:] or ["facts"]
if command == "exit":
    sys.exit(int(rest[0]))
if command == "write":
    with open(rest[0], "w") as file:
        sys.stdout = file
        facts()
    sys.exit()
facts()
if command == "wait":
    sys.stdin.readline()
    import ctypes.wintypes
    print("imported")
"""


class SilentReport:
    """Tells nobody."""

    log = None

    def step(self, text: str) -> None: ...

    def progress(self, fraction: float) -> None: ...


@pytest.fixture(scope="session")
def bootloader() -> bytes:
    """The built part's program, from the cache if it is there."""
    folder = build_part(bootloader_windows.part(fetch(sdist("pyinstaller"))), SilentReport())
    return (folder / "bootloader").read_bytes()


@pytest.fixture(scope="session")
def pkg(wine: Wine, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """PROGRAM, frozen as the runtime is, by this machine's Python: its byte code is the same."""
    folder = tmp_path_factory.mktemp("frozen")
    library, loader = wine.python.parent / "Lib", Path(PyInstaller.__file__).parent / "loader"
    (folder / "program.py").write_text(PROGRAM)
    base = [path for path in library.rglob("*.py") if path.relative_to(library).parts[0].removesuffix(".py") in BASE]
    base += [library / "contextlib.py", library / "tokenize.py", library / "token.py"]
    modules = [path for name in MODULE_FOLDERS for path in library.glob(f"{name}/*.py")]
    boot = {name: loader / f"{name}.py" for name in (*BOOTSTRAP, BOOT_SCRIPT)}
    boot |= {"struct": library / "struct.py", "program": folder / "program.py"}
    wanted = {
        "modules": {
            ".".join(path.relative_to(library).with_suffix("").parts).removesuffix(".__init__"): str(path)
            for path in [*modules, library / "struct.py"]
        },
        "base": {f"{path.relative_to(library).as_posix()}c": str(path) for path in base},
        "boot": {name: str(path) for name, path in boot.items()},
        "out": str(folder),
    }
    (folder / "wanted.json").write_text(json.dumps(wanted))
    subprocess.run([sys.executable, "-I", compile_frozen.__file__, folder / "wanted.json"], check=True)
    entries = [Entry("X utf8", OPTION, b"")]
    entries += [Entry(name, BOOT, (folder / f"{name}.code").read_bytes()) for name in ("struct", *BOOTSTRAP)]
    entries += [Entry(name, SCRIPT, (folder / f"{name}.code").read_bytes()) for name in (BOOT_SCRIPT, "program")]
    files = {Path(name).name: wine.python.parent / name for name in LIBRARIES}
    entries += [Entry(name, BINARY, path.read_bytes()) for name, path in files.items()]
    entries += [
        Entry("base_library.zip", DATA, (folder / "base_library.zip").read_bytes()),
        Entry("a folder\\Grüße.txt", DATA, "Grüße".encode()),
        Entry("PYZ.pyz", MODULES, (folder / "PYZ.pyz").read_bytes()),
    ]
    write_pkg(Pkg(tuple(entries), 311, "python311.dll"), folder / "runtime.pkg", deflate=True)
    return (folder / "runtime.pkg").read_bytes()


@pytest.fixture(scope="session")
def artifact(assemble: Callable[..., bytes], bootloader: bytes, pkg: bytes) -> bytes:
    return assemble(bootloader, pkg)


@dataclass(frozen=True)
class Sandbox:
    """A folder with an artifact `mistral.exe`, and folders `local` and `temp` that are all the artifact knows."""

    wine: Wine
    folder: Path

    @property
    def program(self) -> Path:
        return self.folder / "mistral.exe"

    @property
    def temporary(self) -> Path:
        return self.folder / "temp"

    @property
    def cache(self) -> Path:
        return self.folder / "local" / "mkllm" / "runtime"

    @property
    def home(self) -> Path:
        return self.cache / "_MEI0123456789abcd"

    def variables(self, changes: Mapping[str, str]) -> dict[str, str]:
        """Set in Windows itself: wine has values of its own for those that it knows."""
        path = self.wine.path
        plain = {"LOCALAPPDATA": path(self.folder / "local"), "TEMP": path(self.temporary), "TMP": path(self.temporary)}
        return {**plain, **changes}

    def words(self, program: Path | None, args: tuple[str, ...], changes: Mapping[str, str]) -> list[str]:
        """By way of a little Python program, which sets the variables and gives its streams on."""
        given = json.dumps([self.wine.path(program or self.program), args, self.variables(changes)])
        return [str(self.wine.python), "-c", START, given]

    def run(self, *args: str, program: Path | None = None, **changes: str) -> "subprocess.CompletedProcess[str]":
        """The artifact, to its end; an empty variable is removed."""
        return self.wine.run(*self.words(program, args, changes), timeout=120, cwd=self.folder)

    def start(self, *args: str, **changes: str) -> "subprocess.Popen[bytes]":
        return self.wine.popen(*self.words(None, args, changes), cwd=self.folder)

    def facts(self, *args: str, program: Path | None = None, **changes: str) -> dict[str, Any]:
        done = self.run(*args, program=program, **changes)
        assert (done.returncode, done.stderr) == (0, ""), done
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def leftovers(self) -> list[str]:
        """What lies in the temporary folder, and in the cache beside the one home."""
        kept = [path.name for path in self.cache.iterdir() if path != self.home] if self.cache.is_dir() else []
        return sorted([path.name for path in self.temporary.iterdir()] + kept)


START = """
import json, os, subprocess, sys
program, words, variables = json.loads(sys.argv[1])
os.environ.update({name: value for name, value in variables.items() if value})
for name in [name for name, value in variables.items() if not value]:
    os.environ.pop(name, None)
process = subprocess.Popen([program, *words])
print(process.pid, file=open("pid", "w"))
sys.exit(process.wait())
"""


@pytest.fixture
def sandbox(wine: Wine, tmp_path: Path, artifact: bytes) -> Sandbox:
    box = Sandbox(wine, tmp_path)
    (tmp_path / "local").mkdir()
    box.temporary.mkdir()
    box.program.write_bytes(artifact)
    return box
