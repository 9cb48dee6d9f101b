"""Artifacts for macOS: one file that is signed as a whole, and still a zip with its end at the end."""

import hashlib
import os
import shutil
import struct
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import lief
import pytest

from mkllm.builder import build as building
from mkllm.builder.build import Made, Request, build_all, make
from mkllm.builder.errors import NoKit
from mkllm.builder.kit.kit import Kit
from mkllm.builder.kit.pkg import COOKIE, MAGIC
from mkllm.builder.model.reference import resolve
from mkllm.builder.placing import Limits
from mkllm.builder.progress import Output
from mkllm.builder.report import report
from mkllm.builder.sign import Signing
from mkllm.builder.writer import Program, size_of, work_of
from mkllm.runtime.artifact import layout, macho
from mkllm.runtime.artifact.manifest import WEIGHTS, Defaults
from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.artifact.verify import verify
from mkllm.runtime.errors import NotAnArtifact

QUIET = Output(True)
Build = Callable[..., Path]


@dataclass(frozen=True)
class Signature:
    """What a system reads of a signature before it starts a program; offsets in the file, sizes in bytes."""

    blob: int
    code: int
    flags: int
    page: int
    text: int
    main: int
    identifier: str
    hashes: tuple[bytes, ...]


@pytest.fixture(scope="session")
def build(macos_kit: Kit, small_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Build:
    def building(name: str = "out", kit: Kit = macos_kit, limits: Limits = Limits()) -> Path:  # noqa: B008
        path = tmp_path_factory.mktemp("macos") / name
        request = Request(str(small_gguf), path, None, None, Defaults(), False, limits=limits)
        made: Made = make(path, kit, resolve(str(small_gguf), QUIET), request, QUIET)
        return made.path

    return building


@pytest.fixture(scope="session")
def signed(build: Build) -> Path:
    """An artifact that is signed; read-only for tests."""
    return build()


def signature_of(data: bytes, start: int, size: int) -> Signature:
    """Read as the kernel does: every offset and length inside what contains it."""
    magic, length, count, slot, offset = struct.unpack_from(">5I", data, start)
    assert (magic, count, slot) == (0xFADE0CC0, 1, 0) and length <= size
    at = start + offset
    (
        magic, directory, version, flags, hashes, name, special, slots, limit,
        hash_size, hash_type, platform, page, spare, scatter, team, spare3, limit64, text_start, text, main,
    ) = struct.unpack_from(">9I4B4I4Q", data, at)  # fmt: skip
    assert magic == 0xFADE0C02 and version == 0x20400 and offset + directory == length
    assert (hash_size, hash_type, special, text_start) == (32, 2, 0, 0)
    assert not any((platform, spare, scatter, team, spare3, limit64))
    assert hashes + 32 * slots == directory
    identifier = data[at + name : at + hashes]
    assert identifier.endswith(b"\0") and b"\0" not in identifier[:-1]
    table = data[at + hashes : at + directory]
    found = tuple(table[i : i + 32] for i in range(0, len(table), 32))
    return Signature(length, limit, flags, 1 << page, text, main, identifier[:-1].decode(), found)


def test_segments_and_signature_reach_to_the_end(signed: Path, macos_kit: Kit) -> None:
    size = signed.stat().st_size
    program = lief.MachO.parse(str(signed)).at(0)
    original = lief.MachO.parse(str(macos_kit.path / "bootloader")).at(0)
    linkedit, start = program.get_segment("__LINKEDIT"), program.code_signature.data_offset
    assert linkedit.file_offset + linkedit.file_size == start + program.code_signature.data_size == size
    assert linkedit.virtual_size % 16384 == 0 and 0 <= linkedit.virtual_size - linkedit.file_size < 16384
    assert program.symbol_command.strings_offset + program.symbol_command.strings_size == start
    assert start % 16 == 0
    for name in ("__PAGEZERO", "__TEXT", "__DATA_CONST", "__DATA"):
        one, other = program.get_segment(name), original.get_segment(name)
        assert bytes(one.content)[4096:] == bytes(other.content)[4096:]
        assert (one.virtual_address, one.virtual_size, one.file_offset, one.file_size, one.init_protection) == (
            other.virtual_address, other.virtual_size, other.file_offset, other.file_size, other.init_protection
        )  # fmt: skip
    assert [symbol.name for symbol in program.symbols] == [symbol.name for symbol in original.symbols]


def test_of_the_program_only_five_numbers_are_changed(signed: Path, macos_kit: Kit) -> None:
    old = (macos_kit.path / "bootloader").read_bytes()
    new = signed.read_bytes()[: len(old)]
    program = macho.parse(old)
    fields = {
        *range(program.linkedit_command + 32, program.linkedit_command + 40),  # its length in memory
        *range(program.linkedit_command + 48, program.linkedit_command + 56),  # its length in the file
        *range(program.symbols_command + 20, program.symbols_command + 24),  # of the strings
        *range(program.signature_command + 8, program.signature_command + 16),  # where, and how long
    }
    changed = {at for at, (a, b) in enumerate(zip(old, new, strict=True)) if a != b}
    assert changed and changed <= fields


def test_every_page_before_the_signature_is_in_it(signed: Path) -> None:
    data = signed.read_bytes()
    start, size = macho.parse(data).signature
    signature = signature_of(data, start, size)
    assert signature.code == start and signature.flags == 0x20002 and signature.identifier == "mkllm"
    assert (signature.page, signature.text, signature.main) == (16384, macho.parse(data).text, 1)
    pages = [data[at : min(at + 16384, start)] for at in range(0, start, 16384)]
    assert list(signature.hashes) == [hashlib.sha256(page).digest() for page in pages] and len(pages) > 20


def test_behind_the_signature_lie_zeros_and_the_end_of_the_zip(signed: Path) -> None:
    data = signed.read_bytes()
    start, size = macho.parse(data).signature
    with open_artifact(signed) as artifact:
        directory = layout.directory(artifact.entries)
        pkg = layout.pkg_offset([entry.place for entry in artifact.entries])
        pkg_end = pkg + artifact.manifest.pkg.size
        assert (
            artifact.manifest.bootloader.sha256 == hashlib.sha256(data[: artifact.manifest.bootloader.size]).hexdigest()
        )
    assert 0 <= start - pkg_end < 16 and data[pkg_end:start] == bytes(start - pkg_end)
    blob_end = start + signature_of(data, start, size).blob
    directory_at = len(data) - layout.END_SIZE - len(directory)
    assert data[directory_at : directory_at + len(directory)] == directory
    assert 0 <= directory_at - blob_end < 16 and data[blob_end:directory_at] == bytes(directory_at - blob_end)


def test_zip_tools_read_it(signed: Path, small_gguf: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(signed) as archive:
        assert archive.testzip() is None and archive.read(WEIGHTS) == small_gguf.read_bytes()
        assert archive.namelist()[-1] == "mkllm/manifest.json"
    if shutil.which("unzip"):
        done = subprocess.run(["unzip", "-t", signed], capture_output=True, text=True)
        assert done.returncode == 0 and "No errors detected" in done.stdout and "warning" not in done.stdout


def test_the_bootloader_finds_its_pkg(signed: Path, macos_kit: Kit) -> None:
    """It looks for the last magic number of a PKG in the file."""
    data, pkg = signed.read_bytes(), (macos_kit.path / "runtime.pkg").read_bytes()
    cookie = data.rindex(MAGIC)
    length = COOKIE.unpack_from(data, cookie)[1]
    assert data[cookie + COOKIE.size - length : cookie + COOKIE.size] == pkg


def test_the_same_inputs_give_the_same_bytes(build: Build, signed: Path) -> None:
    assert build("other").read_bytes() == signed.read_bytes()


def test_verify_finds_every_changed_byte(signed: Path, tmp_path: Path) -> None:
    data = signed.read_bytes()
    start, size = macho.parse(data).signature
    blob = signature_of(data, start, size).blob
    program, name = macho.parse(data), "code signature: the byte at offset"
    expected = {
        program.linkedit_command + 48: "bootloader: its",
        program.signature_command + 8: "bootloader: its",
        program.signature[0] - 1: "padding behind the PKG" if data[start - 1] == 0 else "PKG: its",
        start: f"{name} {start} is not what was built",
        start + 60: f"{name} {start + 60} is not what was built",
        start + blob - 1: f"{name} {start + blob - 1} is not what was built",
    }
    with open_artifact(signed) as artifact:
        told: list[int] = []
        assert verify(artifact, told.append) == []
        end = layout.END_SIZE + len(layout.directory(artifact.entries))
    assert sum(told) == len(data) - end
    for at, text in expected.items():
        changed = bytearray(data)
        changed[at] ^= 0x40
        (tmp_path / "changed").write_bytes(changed)
        with open_artifact(tmp_path / "changed") as artifact:
            [difference] = verify(artifact)
        assert str(difference).startswith(text)
    changed = bytearray(data)
    changed[start + size - 1] ^= 0x40
    (tmp_path / "changed").write_bytes(changed)
    with pytest.raises(NotAnArtifact):
        open_artifact(tmp_path / "changed")


def test_any_changed_byte_is_found(signed: Path, tmp_path: Path) -> None:
    """In strides through the whole file, and every byte of the signature's head."""
    data, path = signed.read_bytes(), tmp_path / "changed"
    start, size = macho.parse(data).signature
    path.write_bytes(data)
    for at in (*range(0, len(data), 7919), *range(start - 20, start + 130), *range(len(data) - 240, len(data))):
        with path.open("r+b") as file:
            os.pwrite(file.fileno(), bytes([data[at] ^ 1]), at)
            try:
                with open_artifact(path) as artifact:
                    assert verify(artifact), at
            except NotAnArtifact:
                pass
            os.pwrite(file.fileno(), data[at : at + 1], at)
    with open_artifact(path) as artifact:
        assert verify(artifact) == []


def test_what_is_too_long_keeps_the_linker_s_signature(
    build: Build, macos_kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything lies behind the program, of which no byte is changed, so its own signature stays right."""
    monkeypatch.setattr(macho, "LIMIT", 1 << 18)
    path = build("long")
    data, program = path.read_bytes(), (macos_kit.path / "bootloader").read_bytes()
    assert data[: len(program)] == program
    start, size = macho.parse(data).signature
    hashes = signature_of(data, start, size).hashes
    assert hashes[0] == hashlib.sha256(data[:4096]).digest()
    with open_artifact(path) as artifact, zipfile.ZipFile(path) as archive:
        assert verify(artifact) == [] and archive.testzip() is None
        assert artifact.manifest.bootloader.sha256 == hashlib.sha256(program).hexdigest()
    assert COOKIE.size + data.rindex(MAGIC) + len(layout.directory(artifact.entries)) + layout.END_SIZE == len(data)


def test_weights_beside_a_signed_program(build: Build, small_gguf: Path) -> None:
    path = build("small", limits=Limits("always"))
    start, size = macho.parse(path.read_bytes()).signature
    assert (
        path.with_name("small.weights").read_bytes() == small_gguf.read_bytes() and start + size == path.stat().st_size
    )
    with open_artifact(path) as artifact:
        assert verify(artifact) == [] and WEIGHTS not in [member.name for member in artifact.manifest.members]
    path.with_name("small.weights").write_bytes(b"other".ljust(small_gguf.stat().st_size))
    with open_artifact(path) as artifact:
        [difference] = verify(artifact)
    assert str(difference).startswith("small.weights: its")


def test_programs_of_several_systems_of_which_one_is_signed(
    small_kit: Kit, macos_kit: Kit, small_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kits = {"linux-x86_64": small_kit, "macos-arm64": macos_kit}
    monkeypatch.setattr("mkllm.builder.build.find_kit", kits.__getitem__)
    request = Request(str(small_gguf), tmp_path / "dir", None, None, Defaults(), False)
    linux, macos = build_all(request, list(kits), QUIET)
    assert [made.path.name for made in (linux, macos)] == ["small-linux-x86_64", "small-macos-arm64"]
    assert report(macos)["floor"] == "macOS 13.3" and report(linux)["floor"] == "glibc 2.17"
    for made in (linux, macos):
        with open_artifact(made.path) as artifact:
            assert verify(artifact) == []
    start, size = macho.parse(macos.path.read_bytes()).signature
    assert start + size == macos.size


def test_a_program_for_macos_needs_no_tool(small_gguf: Path, tmp_path: Path) -> None:
    signing = Signing(("codesign", "{file}"))
    request = Request(str(small_gguf), tmp_path / "out", "macos-arm64", None, Defaults(), False, signing=signing)
    with pytest.raises(click.BadParameter, match="this one is for macos-arm64; one for macOS is signed ad hoc anyway"):
        building.build(request, QUIET)


def test_all_that_is_signed_is_reckoned_twice(
    macos_kit: Kit, small_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Since it is read once more."""
    program = Program(Path("out"), macos_kit, lambda facts: pytest.fail("nothing is written"))
    weights = resolve(str(small_gguf), QUIET).weights
    size = size_of(macos_kit, weights.size)
    assert work_of([program], None, weights, None) == 2 * size
    monkeypatch.setattr(macho, "LIMIT", size)
    assert work_of([program], None, weights, None) == size


def test_only_artifacts_for_macos_are_signed(small_artifact: Path) -> None:
    with open_artifact(small_artifact) as artifact:
        assert layout.signed_range("macos-arm64", 1 << 20, artifact.entries)
        assert layout.signed_range(artifact.manifest.target, 1 << 20, artifact.entries) is None


def test_a_kit_whose_program_is_none_is_damaged(build: Build, macos_kit: Kit, tmp_path: Path) -> None:
    shutil.copytree(macos_kit.path, tmp_path / "kit")
    program = tmp_path / "kit" / "bootloader"
    data = program.read_bytes()
    broken = b"\0\0\0\0" + data[4:]
    program.write_bytes(broken)
    text = (tmp_path / "kit" / "kit.json").read_text()
    old, new = hashlib.sha256(data).hexdigest(), hashlib.sha256(broken).hexdigest()
    (tmp_path / "kit" / "kit.json").write_text(text.replace(old, new))
    with pytest.raises(NoKit, match=r"^the kit [0-9a-f]{16} is damaged: 'bootloader' in '.*' is not what was built"):
        build("broken", Kit.read(tmp_path / "kit"))
