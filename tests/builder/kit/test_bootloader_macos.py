"""The bootloader part for macOS, and that our signatures are those that Apple's linker makes, byte by byte."""

import os
import struct
from pathlib import Path

import lief
import pytest

from mkllm.builder.errors import ToolFailed
from mkllm.builder.kit.bootloader_macos import thin
from mkllm.runtime.artifact import macho


def test_it_is_a_program_for_arm64_alone(macos_bootloader: Path) -> None:
    program = lief.MachO.parse(str(macos_bootloader / "bootloader")).at(0)
    assert program.header.cpu_type == lief.MachO.Header.CPU_TYPE.ARM64
    assert program.header.file_type == lief.MachO.Header.FILE_TYPE.EXECUTE
    assert [library.name for library in program.libraries] == ["/usr/lib/libSystem.B.dylib", "/usr/lib/libz.1.dylib"]
    assert program.has_code_signature and not program.has_rpath
    assert "Bootloader Exception" in (macos_bootloader / "licenses" / "pyinstaller.txt").read_text()


def test_what_is_read_of_it_is_what_lief_reads(macos_bootloader: Path) -> None:
    path = macos_bootloader / "bootloader"
    known, read = lief.MachO.parse(str(path)).at(0), macho.parse(path.read_bytes())
    assert read.text == known.get_segment("__TEXT").file_size
    assert read.linkedit == known.get_segment("__LINKEDIT").file_offset
    assert read.strings == known.symbol_command.strings_offset
    assert read.signature == (known.code_signature.data_offset, known.code_signature.data_size)
    assert sum(read.signature) == path.stat().st_size


def test_it_is_signed_as_its_linker_signed_it(macos_bootloader: Path) -> None:
    """The linker's identifier and pages; everything else is what a signature of ours always has."""
    path = macos_bootloader / "bootloader"
    data = path.read_bytes()
    program = macho.parse(data)
    start, size = program.signature
    with path.open("rb") as file:
        hashes = macho.page_hashes(file.fileno(), start, page=4096)
    assert macho.signature(hashes, start, program.text, b"run", 4096) == data[start:]
    assert macho.signature_size(start, b"run", 4096) == size


def test_what_is_no_program_of_several_architectures_is_refused(macos_bootloader: Path) -> None:
    data = (macos_bootloader / "bootloader").read_bytes()
    with pytest.raises(ToolFailed, match="is not as it should be: it is not of several architectures$"):
        thin(data)
    intel = struct.pack(">II5I", 0xCAFEBABE, 1, 0x01000007, 3, 4096, len(data), 12) + bytes(4068) + data
    with pytest.raises(ToolFailed, match="is not as it should be: it is too short$"):
        thin(intel)
    longer = struct.pack(">II5I", 0xCAFEBABE, 1, macho.ARM64, 0, 4096, len(data) + 1, 12) + bytes(4068) + data + b"\0"
    with pytest.raises(ToolFailed, match="it does not end with its signature$"):
        thin(longer)
    with pytest.raises(ToolFailed, match="is not as it should be"):
        thin(os.urandom(4))
