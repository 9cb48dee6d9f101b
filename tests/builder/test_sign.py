"""Signed programs: the tool is called at the right moment, and what it makes is still an artifact."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from mkllm.builder.build import Made, Request, make
from mkllm.builder.errors import BuilderFailure, MissingTool, ToolFailed
from mkllm.builder.kit.kit import Kit
from mkllm.builder.model.reference import resolve
from mkllm.builder.placing import Limits
from mkllm.builder.progress import Output
from mkllm.builder.sign import Signing
from mkllm.runtime.artifact.extract import extract
from mkllm.runtime.artifact.manifest import WEIGHTS, Defaults
from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.artifact.verify import verify
from mkllm.runtime.errors import NotAnArtifact

from .kit.windows_samples import program

QUIET = Output(True)
SIGNER = f"{sys.executable} {Path(__file__).with_name('signer.py')}"
START = 128
CHECKSUM, ENTRY = START + 24 + 64, START + 24 + 112 + 32


def portable_executable() -> bytes:
    """A program for Windows with a checksum."""
    data = bytearray(program(["kernel32.dll"]))
    data[CHECKSUM : CHECKSUM + 4] = b"\x01\x02\x03\x04"
    return bytes(data)


Build = Callable[..., Made]


@pytest.fixture
def build(small_kit_with: Callable[[Mapping[str, bytes]], Kit], small_gguf: Path, tmp_path: Path) -> Build:
    def building(command: str | None = None, bootloader: bytes = b"", pkg: bytes = b"PKG", split: str = "auto") -> Made:
        others = {"bootloader": bootloader or portable_executable(), "runtime.pkg": pkg}
        kit = replace(small_kit_with(others), target="windows-x86_64")
        signing = Signing.parse(command) if command else None
        limits = Limits(split)  # type: ignore[arg-type]
        request = Request(
            str(small_gguf), tmp_path / "out.exe", None, None, Defaults(), True, limits=limits, signing=signing
        )
        return make(tmp_path / "out.exe", kit, resolve(str(small_gguf), QUIET), request, QUIET)

    return building


def files(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name != "kit")


@pytest.mark.parametrize("more", range(8))
def test_signed_in_place(build: Build, tmp_path: Path, small_gguf: Path, more: int) -> None:
    """Whatever the length of the file is before, which is padded to a multiple of 8."""
    made = build(f"{SIGNER} {{file}}", pkg=bytes(9000 + more))
    assert files(tmp_path) == ["out.exe"] and made.size == made.path.stat().st_size and made.size % 8 == 0
    with open_artifact(made.path) as artifact:
        assert artifact.is_signed and verify(artifact) == []
        assert extract(artifact, out=tmp_path / "kit" / "x", force=True).read_bytes() == small_gguf.read_bytes()
    with zipfile.ZipFile(made.path) as archive:
        assert archive.testzip() is None and archive.namelist()[0] == WEIGHTS


def test_signed_into_another_file(build: Build, tmp_path: Path) -> None:
    made = build(f"{SIGNER} {{file}} {{signed}}", split="always")
    assert files(tmp_path) == ["out.exe", "out.weights"]
    with open_artifact(made.path) as artifact:
        assert artifact.is_signed and verify(artifact) == []
    assert os.access(made.path, os.X_OK)


def test_unsigned_there_is_nothing_to_count_out(build: Build, tmp_path: Path) -> None:
    made = build()
    data = made.path.read_bytes()
    assert data[CHECKSUM : CHECKSUM + 4] == bytes(4)
    with open_artifact(made.path) as artifact:
        assert not artifact.is_signed and verify(artifact) == []
    made.path.write_bytes(data[:CHECKSUM] + b"\x01" + data[CHECKSUM + 1 :])
    with open_artifact(made.path) as artifact:
        [difference] = verify(artifact)
        assert str(difference) == f"bootloader: the byte at offset {CHECKSUM} is not what was built"


def test_damage_of_a_signed_program_is_found(build: Build, tmp_path: Path) -> None:
    made = build(f"{SIGNER} {{file}}")
    data = made.path.read_bytes()
    for at, part in ((500, "bootloader"), (CHECKSUM - 1, "bootloader"), (len(data) // 2, "")):
        made.path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        with open_artifact(made.path) as artifact:
            [difference] = verify(artifact)
            assert str(difference).startswith(part)


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"x", lambda data: data[:-24]])
def test_a_truncated_signature(build: Build, change: Callable[[bytes], bytes]) -> None:
    made = build(f"{SIGNER} {{file}}")
    made.path.write_bytes(change(made.path.read_bytes()))
    with pytest.raises(NotAnArtifact, match="its signature does not lie at its end: it is truncated, or bytes were"):
        open_artifact(made.path)


@pytest.mark.parametrize(
    ("command", "kind", "text"),
    [
        ("/none/signtool sign {file}", MissingTool, "the program '/none/signtool' is missing"),
        (f"{SIGNER} --do fail {{file}}", ToolFailed, "the token is locked"),
        (f"{SIGNER} --do nothing {{file}}", ToolFailed, "is not signed: check the command of --sign"),
        (f"{SIGNER} --do damage {{file}}", ToolFailed, "changed more of '.*out.exe' than a signature does"),
        (f"{SIGNER} --do no-output {{file}} {{signed}}", ToolFailed, "but wrote no {signed}"),
    ],
)
def test_a_tool_that_fails(build: Build, tmp_path: Path, command: str, kind: type[BuilderFailure], text: str) -> None:
    with pytest.raises(kind, match=text):
        build(command)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("signtool sign", "it does not say {file}"),
        ("", "it does not say {file}"),
        ("{file}", "it does not say {file}"),
        ("signtool 'x {file}", "No closing quotation"),
    ],
)
def test_no_command_line(command: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Signing.parse(command)


@pytest.fixture(scope="session")
def run_exe(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """PyInstaller's own bootloader for Windows."""
    folder = tmp_path_factory.mktemp("wheel")
    words = "download -q --no-deps --only-binary :all: --platform win_amd64 pyinstaller==6.22.3 -d".split()
    done = subprocess.run([sys.executable, "-m", "pip", *words, folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip("PyInstaller's wheel for Windows cannot be downloaded")
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return archive.read("PyInstaller/bootloader/Windows-64bit-intel/run.exe")


@pytest.mark.skipif(
    not shutil.which("osslsigncode") or not shutil.which("openssl"), reason="osslsigncode or openssl is not installed"
)
def test_a_real_signature(build: Build, run_exe: bytes, tmp_path: Path) -> None:
    keys = tmp_path / "kit"
    keys.mkdir()
    subject = ["-subj", "/CN=mkllm test", "-addext", "extendedKeyUsage=codeSigning"]
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*words, "-keyout", keys / "key.pem", "-out", keys / "cert.pem"], check=True, capture_output=True)
    sign = f"osslsigncode sign -certs '{keys}/cert.pem' -key '{keys}/key.pem' -in {{file}} -out {{signed}}"
    made = build(sign, run_exe)
    with open_artifact(made.path) as artifact:
        assert artifact.is_signed and verify(artifact) == []
    check = ["osslsigncode", "verify", "-CAfile", keys / "cert.pem"]
    done = subprocess.run([*check, made.path], capture_output=True, text=True)
    assert done.returncode == 0 and "Signature verification: ok" in done.stdout, done.stdout
    data = bytearray(made.path.read_bytes())
    data[len(run_exe) + 70_000] ^= 1  # of the weights
    made.path.write_bytes(data)
    assert subprocess.run([*check, made.path], capture_output=True).returncode != 0
