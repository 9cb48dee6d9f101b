"""The check of all ELF files of a kit, on files made for it."""

from pathlib import Path

import pytest

from mkllm.builder.errors import ToolFailed
from mkllm.builder.kit import promise
from mkllm.builder.kit.pkg import BINARY, DATA, Entry, Pkg, write_pkg
from mkllm.builder.kit.target import TARGETS
from mkllm.runtime.artifact import macho

from .test_elf import make
from .windows_samples import program

LINUX, ARM = TARGETS["linux-x86_64"], TARGETS["linux-aarch64"]
GOOD = make(["libc.so.6", "libm.so.6"], {"libc.so.6": ["GLIBC_2.2.5", "GLIBC_2.17"]})
NEWER = make(["libc.so.6"], {"libc.so.6": ["GLIBC_2.2.5", "GLIBC_2.18"]})


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    """Two parts of a kit: a module and its library, and a PKG with Python's library and a module of Python's."""
    native, runtime = tmp_path / "native-1", tmp_path / "runtime-1"
    (native / "native").mkdir(parents=True)
    runtime.mkdir()
    (native / "native" / "libggml.so").write_bytes(GOOD)
    (native / "native" / "libggml-cpu-x64.so").write_bytes(make(["libggml.so", "libc.so.6"], {}))
    put_pkg(runtime, make(["libpython3.11.so.1.0", "libpthread.so.0"], {}))
    return [native, runtime]


def put_pkg(folder: Path, module: bytes) -> None:
    entries = (
        Entry("libpython3.11.so.1.0", BINARY, GOOD),
        Entry("psutil/_x.so", BINARY, module),
        Entry("t", DATA, b"text"),
    )
    write_pkg(Pkg(entries, 311, "libpython3.11.so.1.0"), folder / "runtime.pkg", deflate=True)


def test_kept(parts: list[Path]) -> None:
    promise.check_files(LINUX, parts)


def test_a_newer_glibc(parts: list[Path]) -> None:
    (parts[0] / "native" / "libggml.so").write_bytes(NEWER)
    with pytest.raises(ToolFailed, match="'native/libggml.so' needs glibc 2.18, but 2.17 is promised"):
        promise.check_files(LINUX, parts)


def test_what_only_a_newer_loader_can_do(parts: list[Path]) -> None:
    relative = make(["libc.so.6"], {"libc.so.6": ["GLIBC_2.2.5", "GLIBC_ABI_DT_RELR"]})
    (parts[0] / "native" / "libggml.so").write_bytes(relative)
    with pytest.raises(ToolFailed, match="'native/libggml.so' needs GLIBC_ABI_DT_RELR, which glibc 2.17 does not have"):
        promise.check_files(LINUX, parts)


def test_a_newer_glibc_inside_the_frozen_runtime(parts: list[Path]) -> None:
    put_pkg(parts[1], NEWER)
    with pytest.raises(ToolFailed, match=r"'runtime.pkg/psutil/_x.so' needs glibc 2.18, but 2.17 is promised"):
        promise.check_files(LINUX, parts)


@pytest.mark.parametrize("library", ["libz.so.1", "libstdc++.so.6", "libgcc_s.so.1", "libutil.so.1", "libvulkan.so.1"])
def test_a_foreign_library(parts: list[Path], library: str) -> None:
    put_pkg(parts[1], make([library, "libc.so.6"], {}))
    with pytest.raises(
        ToolFailed, match=f"'runtime.pkg/psutil/_x.so' needs {library.replace('+', '.')}, which not every"
    ):
        promise.check_files(LINUX, parts)


def test_a_driver_that_a_module_alone_may_need(parts: list[Path]) -> None:
    (parts[0] / "native" / "libggml-vulkan.so").write_bytes(make(["libvulkan.so.1", "libggml.so"], {}))
    promise.check_files(LINUX, parts)


def test_a_file_for_another_processor_inside_the_frozen_runtime(parts: list[Path]) -> None:
    put_pkg(parts[1], make(["libc.so.6"], {}, machine=ARM.elf_machine, page=ARM.page))
    with pytest.raises(ToolFailed, match="'runtime.pkg/psutil/_x.so' is for another processor"):
        promise.check_files(LINUX, parts)


def test_each_system_has_a_loader_of_its_own(tmp_path: Path) -> None:
    library, loader = tmp_path / "libggml.so", "ld-linux-aarch64.so.1"
    library.write_bytes(make([loader], {loader: ["GLIBC_2.17"]}, machine=ARM.elf_machine, page=ARM.page))
    promise.require(ARM, library)
    library.write_bytes(make(["ld-linux-x86-64.so.2"], {}, machine=ARM.elf_machine, page=ARM.page))
    with pytest.raises(ToolFailed, match="'libggml.so' needs ld-linux-x86-64.so.2, which not every machine has"):
        promise.require(ARM, library)


def test_a_damaged_file(parts: list[Path]) -> None:
    (parts[0] / "native" / "libggml.so").write_bytes(GOOD[:70])
    with pytest.raises(ToolFailed, match="'native/libggml.so' is not a whole 64-bit ELF file"):
        promise.check_files(LINUX, parts)


def test_windows(tmp_path: Path) -> None:
    windows = TARGETS["windows-x86_64"]
    native, runtime = tmp_path / "native-1", tmp_path / "runtime-1"
    (native / "native").mkdir(parents=True)
    runtime.mkdir()
    (native / "native" / "ggml.dll").write_bytes(program(["KERNEL32.dll", "api-ms-win-crt-heap-l1-1-0.dll"]))
    (native / "native" / "ggml-cpu-x64.dll").write_bytes(program(["GGML.dll", "ws2_32.dll"]))
    entries = (
        Entry("python311.dll", BINARY, program(["version.dll"], system=(6, 0))),
        Entry("a\\_b.pyd", BINARY, program(["Python311.dll"])),
    )
    write_pkg(Pkg(entries, 311, "python311.dll"), runtime / "runtime.pkg", deflate=True)
    promise.check_files(windows, [native, runtime])
    for path, data, why in (
        ("native/more.dll", program(["msvcp140.dll"]), "'native/more.dll' needs the library 'msvcp140.dll'"),
        ("native/more.dll", program([], system=(10, 1)), "needs Windows 10.1, promised is 10.0"),
        ("native/more.dll", GOOD, "is no whole 64-bit program for Windows"),
    ):
        (native / path).write_bytes(data)
        with pytest.raises(ToolFailed, match=why):
            promise.check_files(windows, [native, runtime])


def test_files_of_macos_are_signed_and_for_arm64(macos_bootloader: Path, tmp_path: Path) -> None:
    macos, program = TARGETS["macos-arm64"], (macos_bootloader / "bootloader").read_bytes()
    promise.check_files(macos, [macos_bootloader])
    kind = program[:12] + (6).to_bytes(4, "little") + program[16:]  # as a library
    signature = macho.parse(program).signature_command
    unsigned = program[:signature] + (0x26).to_bytes(4, "little") + program[signature + 4 :]
    intel = program[:4] + (0x01000007).to_bytes(4, "little") + program[8:]
    file = tmp_path / "libggml.so"
    file.write_bytes(kind)
    promise.check_files(macos, [tmp_path])
    for data, why in {unsigned: "it has no signature", intel: "it is no 64-bit program for arm64"}.items():
        file.write_bytes(data)
        with pytest.raises(ToolFailed, match=f"^'libggml.so' would not run on macOS: {why}$"):
            promise.check_files(macos, [tmp_path])


def test_what_no_mac_of_the_promised_version_has(macos_bootloader: Path, tmp_path: Path) -> None:
    macos, program = TARGETS["macos-arm64"], (macos_bootloader / "bootloader").read_bytes()
    library, own = b"/usr/lib/libSystem.B.dylib", b"@loader_path/../libown.so\0"
    version = (0x32).to_bytes(4, "little") + (32).to_bytes(4, "little") + (1).to_bytes(4, "little")
    assert program.count(library) == 1 and program.count(version) == 1 and len(library) == len(own)
    place = program.index(version) + len(version)
    newer = program[:place] + (14 << 16 | 1 << 8).to_bytes(4, "little") + program[place + 4 :]
    phone = program[: place - 4] + (2).to_bytes(4, "little") + program[place:]
    unsaid = program[: place - 12] + (0x1B).to_bytes(4, "little") + program[place - 8 :]
    more = program.replace(library, own)
    folder = tmp_path / "native-1"
    folder.mkdir()
    for data, why in {
        newer: "'runtime.pkg/a.so' needs macOS 14.1, promised is 13.3",
        phone: "'runtime.pkg/a.so' would not run on macOS: it is for platform 2",
        unsaid: "'runtime.pkg/a.so' would not run on macOS: it does not say which version it is for",
        more: "'runtime.pkg/a.so' needs the library 'libown.so', which not every Mac has",
    }.items():
        write_pkg(Pkg((Entry("a.so", BINARY, data),), 311, "Python"), folder / "runtime.pkg", deflate=True)
        with pytest.raises(ToolFailed, match=f"^{why}$"):
            promise.check_files(macos, [folder])
    (folder / "libown.so").write_bytes(program)
    promise.check_files(macos, [folder])
