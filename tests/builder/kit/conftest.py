"""A real bootloader, a small program frozen by the real PyInstaller, artifacts of both by a zip writer of our own."""

import hashlib
import io
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from mkllm.builder.kit import bootloader as bootloader_part
from mkllm.builder.kit import runtime_pkg
from mkllm.builder.kit.pins import sdist
from mkllm.builder.kit.pkg import read_pkg, write_pkg
from mkllm.builder.kit.sdist import fetch
from mkllm.builder.kit.store import build_part
from mkllm.builder.kit.target import builder

KIT = "0123456789abcdef"
HOME_NAME = "_MEI0123456789abcd"
MEMBERS = {
    "model.gguf": b"GGUF" + bytes(70000),
    "native/libggml-cpu-x64.so": bytes(3000),
    "native/libggml.so": bytes(2000),
    "native/mkllm-engine": bytes(1000),
    "mkllm/manifest.json": b"{}\n",
}

# What the runtime does that matters to the entry, and what tests ask of it.
PROGRAM = """
import json, os, shutil, signal, sys, threading, time

def outlive(pipe):
    while os.read(pipe, 64):
        pass
    shutil.rmtree(os.path.dirname(os.environ["MKLLM_HOME"]))
    os._exit(143)

def facts(*_):
    import _hashlib, zlib
    maps = [line.split()[-1] for line in open("/proc/self/maps") if ".so" in line]
    names = ("MKLLM_", "_PYI_", "LD_", "PYINSTALLER_")
    print(json.dumps({
        "argv": sys.argv, "home": sys._MEIPASS, "libraries": sorted(set(maps)), "utf8": sys.flags.utf8_mode,
        "ignored": [int(number) for number in signal.Signals if signal.getsignal(number) == signal.SIG_IGN],
        "env": {name: value for name, value in os.environ.items() if name.startswith(names)},
    }))

def wait(seconds):
    got = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: got.append(number))
    print(os.getpid(), os.environ["MKLLM_HOME"], flush=True)
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        time.sleep(0.02)
        if got:
            end = min(end, time.monotonic() + 0.5)
            seconds = end
    print(json.dumps(got))

def late():
    print("ready", flush=True)
    sys.stdin.readline()
    import tomllib, _csv
    print(tomllib.loads("a = 1")["a"])

if "MKLLM_GUARDIAN_FD" in os.environ:
    threading.Thread(target=outlive, args=(int(os.environ["MKLLM_GUARDIAN_FD"]),), daemon=True).start()
command, *rest = sys.argv[1:] or ["facts"]
if command == "exit":
    sys.exit(int(rest[0]))
if command == "die":
    os.kill(os.getpid(), int(rest[0]))
{"facts": facts, "wait": wait, "late": late}[command](*rest)
"""
SPEC = """
analysis = Analysis([{program!r}], hiddenimports=["tomllib"], excludes={without!r})
scripts = [entry for entry in analysis.scripts if entry[0] == "program"]
EXE(PYZ(analysis.pure), scripts, analysis.binaries, analysis.datas, [("X utf8", None, "OPTION")], name="runtime")
"""
WITHOUT = ["ssl", "ctypes", "bz2", "lzma", "decimal", "unittest", "pydoc", "email", "http", "xml", "multiprocessing"]


class SilentReport:
    """Tells nobody."""

    def __init__(self) -> None:
        self.log = io.StringIO()
        self.log.name = "kit-build.log"  # type: ignore[attr-defined]

    def step(self, text: str) -> None:
        self.log.write(text)

    def progress(self, fraction: float) -> None:
        assert 0 <= fraction <= 1


@pytest.fixture(scope="session")
def silent_report() -> SilentReport:
    return SilentReport()


@pytest.fixture(scope="session")
def bootloader_folder(silent_report: SilentReport) -> Path:
    """The built part, from the cache if it is there."""
    return build_part(bootloader_part.part(builder(), fetch(sdist("pyinstaller"))), silent_report)


@pytest.fixture(scope="session")
def frozen(tmp_path_factory: pytest.TempPathFactory, silent_report: SilentReport) -> Path:
    """PROGRAM, frozen as the runtime is. Not deflated."""
    folder = tmp_path_factory.mktemp("frozen")
    program, spec, pkg = folder / "program.py", folder / "small.spec", folder / "runtime.pkg"
    program.write_text(PROGRAM)
    spec.write_text(SPEC.format(program=str(program), without=WITHOUT))
    made = runtime_pkg.freeze(Path(sys.executable), spec, folder / "work", silent_report)
    write_pkg(runtime_pkg.repack(read_pkg(made), folder / "files"), pkg, deflate=False)
    return pkg


@pytest.fixture
def put_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Puts the wheel of a package, version 1.0 and empty, into a folder that pip is told to look in, and in nothing
    else; returns its SHA-256."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))

    def put(name: str) -> str:
        path, info = folder / f"{name}-1.0-py3-none-any.whl", f"{name}-1.0.dist-info"
        with zipfile.ZipFile(path, "w") as wheel:
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
        return hashlib.sha256(path.read_bytes()).hexdigest()

    return put


def local_header(name: bytes, body: bytes, offset: int) -> bytes:
    align = {b"model.gguf": 65536}.get(name, 4096 if name.startswith(b"native/") else 64)
    sizes = struct.pack("<HHQQ", 1, 16, len(body), len(body))
    padding = -(offset + 30 + len(name) + len(sizes) + 4) % align
    extra = sizes + struct.pack("<HH", 0x6D6B, padding) + bytes(padding)
    fields = (0x04034B50, 45, 0x800, 0, 0, 0x21, zlib.crc32(body), 2**32 - 1, 2**32 - 1, len(name), len(extra))
    return struct.pack("<IHHHHHIIIHH", *fields) + name + extra


def central_record(name: bytes, body: bytes, offset: int) -> bytes:
    extra = struct.pack("<HHQQQ", 1, 24, len(body), len(body), offset)
    sizes = (zlib.crc32(body), 2**32 - 1, 2**32 - 1, len(name), len(extra))
    fields = (0x02014B50, 0x32D, 45, 0x800, 0, 0, 0x21, *sizes, 0, 0, 0, 0o100644 << 16, 2**32 - 1)
    return struct.pack("<IHHHHHHIIIHHHHHII", *fields) + name + extra


def assemble_artifact(loader: bytes, pkg: bytes, members: Mapping[str, bytes] = MEMBERS, kit: str = KIT) -> bytes:
    """An artifact by spec/artifact.md, with a manifest that is none."""
    data, directory = bytearray(loader), bytearray()
    for name, body in members.items():
        directory += central_record(name.encode(), body, len(data))
        data += local_header(name.encode(), body, len(data)) + body
    data += bytes(-len(data) % 4096) + pkg
    start, count = len(data), len(members)
    end64 = start + len(directory)
    data += directory
    data += struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 0x32D, 45, 0, 0, count, count, len(directory), start)
    data += struct.pack("<IIQI", 0x07064B50, 0, end64, 1)
    data += struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 2**16 - 1, 2**16 - 1, 2**32 - 1, 2**32 - 1, 128)
    checks = f"pkg={zlib.crc32(pkg):08x} manifest={'0' * 64} cd={zlib.crc32(directory):08x}"
    return bytes(data) + f"mkllm/1 kit={kit} {checks}\n".encode()


@pytest.fixture(scope="session")
def assemble() -> Callable[..., bytes]:
    return assemble_artifact


@pytest.fixture(scope="session")
def artifact_bytes(bootloader_folder: Path, frozen: Path) -> bytes:
    return assemble_artifact((bootloader_folder / "bootloader").read_bytes(), frozen.read_bytes())


@dataclass(frozen=True)
class Sandbox:
    """A folder with an artifact `mistral`, and folders `home` and `tmp` that are all the artifact knows."""

    folder: Path

    @property
    def program(self) -> Path:
        return self.folder / "mistral"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    @property
    def cache(self) -> Path:
        return self.home / ".cache" / "mkllm" / "runtime"

    def environment(self, **changes: str | None) -> dict[str, str]:
        """Of a login, with changes; None removes a variable."""
        plain = {"PATH": os.environ["PATH"], "HOME": str(self.home), "TMPDIR": str(self.temporary)}
        return {name: value for name, value in {**plain, **changes}.items() if value is not None}

    def run(self, *args: str, words: Sequence[str] = (), **changes: str | None) -> subprocess.CompletedProcess[str]:
        """Run the artifact, or the given words, to its end."""
        return subprocess.run(
            [*(words or [str(self.program)]), *args],
            env=self.environment(**changes),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=self.folder,
        )

    def start(self, *args: str, **changes: str | None) -> subprocess.Popen[str]:
        """Start the artifact in a process group of its own."""
        return subprocess.Popen(
            [str(self.program), *args],
            env=self.environment(**changes),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def leftovers(self) -> list[str]:
        """What lies in the temporary folder, and in the cache beside the one home."""
        kept = [path.name for path in self.cache.iterdir() if path.name != HOME_NAME] if self.cache.is_dir() else []
        return sorted([path.name for path in self.temporary.iterdir()] + kept)


@pytest.fixture
def sandbox(tmp_path: Path, artifact_bytes: bytes) -> Sandbox:
    box = Sandbox(tmp_path)
    box.home.mkdir()
    box.temporary.mkdir(mode=0o700)
    box.program.write_bytes(artifact_bytes)
    box.program.chmod(0o755)
    return box


@pytest.fixture(scope="session")
def in_namespace() -> Callable[[str], list[str]]:
    """Words that run a shell script in a mount namespace where it may mount; skips where that is refused."""
    words = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    tried = subprocess.run([*words, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"no mount namespaces here: {tried.stderr.strip()}")
    return lambda script: [*words, "bash", "-ec", script]
