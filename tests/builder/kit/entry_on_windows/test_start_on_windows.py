"""How the program starts on Windows: from where, with which streams, with which libraries; and on damaged files."""

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from mkllm.builder.kit.pkg import BINARY, Entry, Pkg, write_pkg

DAMAGED = 70
A_DEVICE = 2
COMMENT, TAIL = 128, 226
TABLE_OF_CERTIFICATES = 24 + 112 + 4 * 8  # in the header


def assert_refused(done: "CompletedProcess[str]", where: object) -> None:
    assert done.returncode == DAMAGED, (where, done)
    said = r"mistral\.exe: this file is (truncated or )?damaged \(.+\): copy it again\n"
    assert re.fullmatch(said, done.stderr), (where, done)
    assert not done.stdout


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def signed(data: bytes, certificate: bytes = bytes(64)) -> bytes:
    """With a table of certificates behind it, as a signing tool puts it."""
    padded = data + bytes(-len(data) % 8)
    header = int.from_bytes(data[60:64], "little")
    entry = struct.pack("<II", len(padded), len(certificate))
    at = header + TABLE_OF_CERTIFICATES
    return padded[:at] + entry + padded[at + 8 :] + certificate


@pytest.mark.parametrize("letters", [100, 300])
def test_paths(sandbox: Any, artifact: bytes, letters: int) -> None:
    """Of any length, with spaces and letters that are not ASCII; modules are imported from the file at any time."""
    folder = sandbox.folder / "Grüße aus 東京"
    while len(str(folder)) < letters:
        folder /= "a folder with a long name"
    folder.mkdir(parents=True)
    (folder / "mistral.exe").write_bytes(artifact)
    env = {"MKLLM_RUNTIME_DIR": sandbox.wine.path(sandbox.cache)}
    done = sandbox.wine.run(folder / "mistral.exe", "wait", env=env)
    assert done.returncode == 0 and done.stderr == "", done
    told, last = done.stdout.splitlines()
    assert json.loads(told)["env"]["MKLLM_FILE"] == sandbox.wine.path(folder / "mistral.exe") and last == "imported"


def test_without_standard_streams(sandbox: Any) -> None:
    """As a program that was started without a console has none."""
    code = (
        "import ctypes, subprocess, sys\n"
        "process = subprocess.Popen(sys.argv[1:], creationflags=subprocess.DETACHED_PROCESS, close_fds=True)\n"
        "sys.exit(process.wait())\n"
    )
    seen = sandbox.folder / "seen.json"
    words = (sandbox.wine.path(sandbox.program), "write", sandbox.wine.path(seen))
    env = {"MKLLM_RUNTIME_DIR": sandbox.wine.path(sandbox.folder / "home")}
    done = sandbox.wine.run(sandbox.wine.python, "-c", code, *words, env=env)
    assert done.returncode == 0, done
    assert json.loads(seen.read_text())["handles"] == [A_DEVICE] * 3


def test_libraries_come_from_the_home_alone(sandbox: Any) -> None:
    """Not from the file's folder, the current one, nor PATH."""
    for folder in (sandbox.folder, sandbox.folder / "elsewhere"):
        folder.mkdir(exist_ok=True)
        for name in ("python311.dll", "vcruntime140.dll", "python3.dll"):
            (folder / name).write_bytes(b"no library")
    seen = sandbox.facts(PATH=sandbox.wine.path(sandbox.folder / "elsewhere"))
    assert all(name.lower().startswith(seen["home"].lower()) for name in seen["libraries"])


def test_a_library_that_cannot_be_loaded(sandbox: Any, assemble: Callable[..., bytes], bootloader: bytes) -> None:
    pkg = Pkg((Entry("python311.dll", BINARY, b"none"),), 311, "python311.dll")
    write_pkg(pkg, sandbox.folder / "pkg", deflate=True)
    sandbox.program.write_bytes(assemble(bootloader, (sandbox.folder / "pkg").read_bytes()))
    done = sandbox.run("facts")
    assert done.returncode == 72 and done.stderr.count("\n") == 1, done
    assert done.stderr.startswith("mistral.exe: the library python311.dll in '") and "_MEI" in done.stderr
    assert "cannot be loaded (error 193 of Windows): remove that folder, or set MKLLM_RUNTIME_DIR" in done.stderr


def test_truncated(sandbox: Any, artifact: bytes) -> None:
    for lost in (1, 128, 226, 5000):
        sandbox.program.write_bytes(artifact[:-lost])
        assert_refused(sandbox.run("facts"), lost)
    assert not sandbox.leftovers() and not sandbox.cache.exists()


def test_something_appended(sandbox: Any, artifact: bytes) -> None:
    sandbox.program.write_bytes(artifact + b"\n")
    assert_refused(sandbox.run("facts"), "appended")


def test_changed(sandbox: Any, artifact: bytes, pkg: bytes) -> None:
    """In the comment, in the records, in the directory, in the PKG when nothing is extracted yet."""
    (directory,) = struct.unpack_from("<Q", artifact, len(artifact) - TAIL + 48)
    places = [len(artifact) - 1, len(artifact) - COMMENT, len(artifact) - TAIL, directory]
    for position in (*places, artifact.index(pkg), artifact.index(pkg) + len(pkg) // 2):
        sandbox.program.write_bytes(flipped(artifact, position))
        assert_refused(sandbox.run("facts"), position)
    assert not sandbox.leftovers() and not list(sandbox.cache.glob("*"))


def test_code_that_changed_when_the_files_are_in_place(sandbox: Any, artifact: bytes, pkg: bytes) -> None:
    sandbox.facts()
    sandbox.program.write_bytes(flipped(artifact, artifact.index(pkg) + len(pkg) - 200))
    assert_refused(sandbox.run("facts"), "table")


def test_signed(sandbox: Any, pkg: bytes, assemble: Callable[..., bytes], bootloader: bytes) -> None:
    """However many zeros stand between the end and the certificates."""
    seen = set()
    for more in range(8):
        whole = assemble(bootloader, pkg, {"model.gguf": b"GGUF", "x" * (more + 1): b""})
        if (zeros := -len(whole) % 8) in (0, 1, 7):
            seen.add(zeros)
            sandbox.program.write_bytes(signed(whole))
            assert sandbox.run("exit", "3").returncode == 3
    assert seen == {0, 1, 7}
    sandbox.program.write_bytes(signed(whole)[:-8])
    assert_refused(sandbox.run("exit", "3"), "truncated")


def test_several_files_of_one_kit_share_a_home(sandbox: Any, artifact: bytes) -> None:
    other = Path(sandbox.folder / "other.exe")
    other.write_bytes(artifact)
    assert sandbox.facts()["home"] == sandbox.facts("facts", program=other)["home"]
