"""Small stand-ins for slow things: a kit without an engine, GGUF files of a few kilobytes, an artifact of both."""

import hashlib
import json
import os
import random
import signal
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest
from wine import wine as wine

from mkllm.builder.build import Request, make
from mkllm.builder.kit import bootloader_macos
from mkllm.builder.kit.kit import Kit
from mkllm.builder.kit.pkg import Entry, Pkg, write_pkg
from mkllm.builder.kit.store import build_part
from mkllm.builder.model.reference import resolve
from mkllm.builder.progress import Output
from mkllm.runtime.artifact.manifest import Defaults

# A test run in the background ignores Ctrl-C, one under nohup the end of its terminal.
# What it starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """A command line that a test runs in this process sets what signals do."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


GgufBytes = Callable[..., bytes]

# A program that prints what it was given. What follows its last line is never read by the shell.
BOOTLOADER = b'#!/bin/sh\nprintf "%s\\n" "ran: $*"\nexit 0\n'
MODULE = "members/native/libggml-"
FILES = {
    "bootloader": BOOTLOADER,
    "runtime.pkg": random.Random(1).randbytes(9001),
    "members/native/mkllm-engine": b"#!/bin/sh\nexit 0\n",
    "members/native/libllama.so": random.Random(2).randbytes(70001),
    "members/native/libggml-cpu-x64.so": random.Random(3).randbytes(4096),
    "members/web/index.html.gz": random.Random(4).randbytes(333),
    "members/licenses/llama.cpp.txt": b"MIT\n",
    "members/licenses/empty.txt": b"",
}

SCALARS = {bool: (7, "<?"), int: (4, "<I"), float: (6, "<f")}
KEYS: dict[str, Any] = {
    "general.architecture": "llama",
    "general.name": "Small Test",
    "general.license": "apache-2.0",
    "general.file_type": 7,
    "llama.context_length": 512,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.tokens": ["a", "b", "ä"],
    "tokenizer.ggml.scores": [0.5, 1.5, 2.5],
    "tokenizer.chat_template": "{{ messages }}",
}
TENSORS: dict[str, tuple[tuple[int, ...], int]] = {
    "token_embd.weight": ((64, 30), 8),  # Q8_0
    "blk.0.attn_norm.weight": ((65,), 0),  # F32, of a length that needs padding
    "output.weight": ((64, 30), 8),
}
SIZES = {0: (1, 4), 8: (32, 34)}


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Any) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    if isinstance(value, list):
        kind = 8 if isinstance(value[0], str) else SCALARS[type(value[0])][0]
        items = [_text(item) if kind == 8 else struct.pack(SCALARS[type(item)][1], item) for item in value]
        return struct.pack("<IIQ", 9, kind, len(value)) + b"".join(items)
    kind, form = SCALARS[type(value)]
    return struct.pack("<I", kind) + struct.pack(form, value)


def _bytes_of(shape: tuple[int, ...], kind: int) -> int:
    elements = 1
    for length in shape:
        elements *= length
    return elements // SIZES[kind][0] * SIZES[kind][1]


def make_gguf(
    keys: dict[str, Any] | None = None,
    tensors: dict[str, tuple[tuple[int, ...], int]] | None = None,
    version: int = 3,
    seed: int = 0,
    **changes: Any,
) -> bytes:
    """A GGUF file. `changes` are keys with `__` for a dot; None removes a key."""
    keys = dict(KEYS if keys is None else keys)
    tensors = TENSORS if tensors is None else tensors
    keys |= {name.replace("__", "."): value for name, value in changes.items()}
    kept = {name: value for name, value in keys.items() if value is not None}
    alignment = kept.get("general.alignment", 32)
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(kept))
    head += b"".join(_text(name) + _value(value) for name, value in kept.items())
    data = b""
    for name, (shape, kind) in tensors.items():
        head += _text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape) + struct.pack("<IQ", kind, len(data))
        content = random.Random(f"{seed} {name}").randbytes(_bytes_of(shape, kind))
        data += content + bytes(-len(content) % alignment)
    return head + (bytes(-len(head) % alignment) + data if tensors else b"")


def write_kit(folder: Path, others: Mapping[str, bytes] = {}, target: str = "linux-x86_64") -> Kit:
    """A kit of a few kilobytes in `folder`; `others` are files that it has more or other ones of."""
    contents = {**FILES, **others}
    for name, data in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o755 if data.startswith(b"#!") else 0o644)
    files = {name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in contents.items()}
    lines = "".join(f"{name}\0{entry['size']}\0{entry['sha256']}\n" for name, entry in sorted(files.items()))
    info = {
        "id": hashlib.sha256(lines.encode()).hexdigest()[:16],
        "target": target,
        "versions": {"llama_cpp": "0.0.0", "python": "3.11.7"},
        "glibc": "2.17",
        "engine": {"program": "native/mkllm-engine", "libraries": ["native/libllama.so"]},
        "backends": [
            {"name": name.removeprefix(MODULE).removesuffix(".so"), "member": name.removeprefix("members/")}
            for name in sorted(contents)
            if name.startswith(MODULE)
        ],
        "files": files,
    }
    (folder / "kit.json").write_text(json.dumps(info))
    return Kit.read(folder)


@pytest.fixture(scope="session")
def gguf_bytes() -> GgufBytes:
    """`make_gguf`: bytes of a GGUF file with changes."""
    return make_gguf


@pytest.fixture(scope="session")
def small_kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """A kit without an engine; read-only for tests."""
    return write_kit(tmp_path_factory.mktemp("kit"))


@dataclass(frozen=True)
class Unheard:
    """A report of a part that nobody follows."""

    log: IO[str]

    def step(self, text: str) -> None: ...

    def progress(self, fraction: float) -> None: ...


@pytest.fixture(scope="session")
def macos_bootloader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built part `bootloader` for macOS: PyInstaller's program, out of its wheel on the index."""
    with (tmp_path_factory.mktemp("log") / "log").open("w") as log:
        return build_part(bootloader_macos.part(), Unheard(log))


@pytest.fixture(scope="session")
def macos_kit(tmp_path_factory: pytest.TempPathFactory, macos_bootloader: Path) -> Kit:
    """A small kit with that bootloader and with a PKG that it would find; read-only for tests."""
    folder = tmp_path_factory.mktemp("kit")
    pkg = Pkg((Entry("start", "s", random.Random(5).randbytes(30001)),), 311, "Python")
    write_pkg(pkg, folder / "pkg", deflate=False)
    files = {
        "bootloader": (macos_bootloader / "bootloader").read_bytes(),
        "runtime.pkg": (folder / "pkg").read_bytes(),
        "members/native/mkllm-engine": random.Random(6).randbytes(300_001),
    }
    return write_kit(folder / "kit", files, "macos-arm64")


@pytest.fixture
def small_kit_with(tmp_path: Path) -> Callable[[Mapping[str, bytes]], Kit]:
    """`small_kit_with(files)`: a small kit with other files."""
    return lambda others: write_kit(tmp_path / "kit", others)


@pytest.fixture(scope="session")
def small_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF file that passes every check of the builder; read-only for tests."""
    path = tmp_path_factory.mktemp("model") / "small.gguf"
    path.write_bytes(make_gguf())
    return path


@pytest.fixture(scope="session")
def small_artifact(tmp_path_factory: pytest.TempPathFactory, small_kit: Kit, small_gguf: Path) -> Path:
    """An artifact of both; read-only for tests."""
    path = tmp_path_factory.mktemp("artifact") / "small"
    request = Request(str(small_gguf), path, None, None, Defaults(), False)
    return make(path, small_kit, resolve(str(small_gguf), Output(True)), request, Output(True)).path


@pytest.fixture
def kit_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own MKLLM_CACHE that holds the small kit as the kit in use; for this process and those that it starts."""
    cache = tmp_path / "own-cache"
    kit = write_kit(cache / "kits" / "draft")
    place = cache / "kits" / f"linux-x86_64-{kit.id}"
    os.rename(kit.path, place)
    (cache / "kits" / "linux-x86_64.current").write_text(place.name + "\n")
    monkeypatch.setenv("MKLLM_CACHE", str(cache))
    return cache
