"""Prepacked weights: the same answers as of repacked ones, used where they lie, and the plain model again."""

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mkllm.builder.kit.kit import Kit
from mkllm.builder.kit.store import find_kit
from mkllm.builder.kit.variants import host_flags
from mkllm.runtime.artifact.reader import open_artifact

QUESTIONS = ("How do I build an executable from a GGUF?", "What is 7 plus 5?", "hello")
TYPES = ("Q4_0", "IQ4_NL", "Q4_K")
RANDOM = Path(__file__).parents[1] / "bench" / "random_gguf.py"
TRAILER = 28

pytestmark = pytest.mark.skipif("avx2" not in host_flags(), reason="only kernels for AVX2 and newer order weights")


@pytest.fixture(scope="module", params=TYPES)
def model(request: pytest.FixtureRequest, mkllm: Path, demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model in a type that kernels order; for one whose blocks are longer than its rows, random weights."""
    folder = tmp_path_factory.mktemp("model")
    if request.param == "Q4_K":
        words = [sys.executable, RANDOM, "--shape", "tiny", "--type", request.param, folder / "random.gguf"]
        subprocess.run(words, check=True, capture_output=True)
        return folder / "random.gguf"
    subprocess.run([mkllm, "extract", demo, "-o", folder / "demo.gguf"], check=True, capture_output=True)
    made = folder / f"demo-{request.param}.gguf"
    words = [
        find_kit("linux-x86_64").engine,
        "quantize",
        "--allow-requantize",
        folder / "demo.gguf",
        made,
        request.param,
    ]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture(scope="module")
def plain(model: Path, mkllm: Path) -> Path:
    return build(mkllm, model, model.with_suffix(".plain"))


@pytest.fixture(scope="module")
def packed(model: Path, mkllm: Path) -> Path:
    return build(mkllm, model, model.with_suffix(".packed"), "--prepack", "haswell")


def build(mkllm: Path, model: Path, target: Path, *words: str) -> Path:
    done = subprocess.run([mkllm, "build", model, "-o", target, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def answer(artifact: Path, question: str, *words: str) -> dict[str, object]:
    command = [artifact, "-p", question, "--json", "--temperature", "0", "-n", "48", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_answers_are_those_of_repacked_weights(plain: Path, packed: Path) -> None:
    for question in QUESTIONS:
        expected = answer(plain, question, "--kernel", "cpu-haswell", "--", "--repack")
        found = answer(packed, question, "--kernel", "cpu-haswell")
        assert found["text"] == expected["text"] and "restored" not in str(found["reason"])


def test_answers_of_other_kernels_are_those_of_plain_weights(plain: Path, packed: Path) -> None:
    for words in (("--kernel", "cpu-x64"), ("--kernel", "cpu-haswell", "--", "--no-repack")):
        expected, found = answer(plain, QUESTIONS[0], *words), answer(packed, QUESTIONS[0], *words)
        assert found["text"] == expected["text"] and "weights restored in memory" in str(found["reason"])


def test_weights_lie_in_the_file_and_nowhere_else(plain: Path, packed: Path, serve: Any) -> None:
    own = {}
    for artifact, words in ((plain, ("--", "--repack")), (packed, ())):
        with serve(artifact, "--kernel", "cpu-haswell", "--no-tune", *words) as server:
            server.ask("Hello")  # what is in the page cache is mapped as it is used
            text = Path(f"/proc/{server.engine.pid}/smaps").read_text()
            own[artifact] = anonymous(server.engine.pid)
    maps = re.findall(rf"{re.escape(str(packed))}\nSize: +\d+ kB\n(?:.*\n)*?Rss: +(\d+) kB", text)
    with open_artifact(packed) as opened:
        size = opened.weights.size
    assert sum(int(kib) for kib in maps) * 1024 > 0.5 * size and "memfd:model" not in text
    if "demo" in plain.name:  # of the random one hardly anything is ordered
        assert own[plain] - own[packed] > 0.4 * size, own


def anonymous(pid: int) -> int:
    """Bytes of memory that are no file's."""
    text = Path(f"/proc/{pid}/status").read_text()
    return sum(int(kib) for kib in re.findall(r"Rss(?:Anon|Shmem):\s+(\d+) kB", text)) * 1024


@pytest.mark.parametrize("by", ["artifact", "mkllm"])
def test_the_plain_model_comes_back(model: Path, packed: Path, mkllm: Path, tmp_path: Path, by: str) -> None:
    words = [packed, "extract"] if by == "artifact" else [mkllm, "extract", packed]
    done = subprocess.run([*words, "-o", tmp_path / "back.gguf"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "back.gguf").read_bytes() == model.read_bytes()
    assert os.listdir(tmp_path) == ["back.gguf"]


def test_built_again_it_is_the_same(model: Path, packed: Path, mkllm: Path, tmp_path: Path) -> None:
    again = build(mkllm, model, tmp_path / "again", "--prepack", "cpu-haswell")
    assert again.read_bytes() == packed.read_bytes()
    assert subprocess.run([again, "verify"], capture_output=True).returncode == 0


def test_a_model_that_no_kernel_orders(mkllm: Path, tmp_path: Path) -> None:
    words = [mkllm, "build", "demo", "-o", tmp_path / "x", "--prepack", "haswell"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (
        done.returncode == 11 and "cpu-haswell takes these weights as they are: build without --prepack" in done.stderr
    )
    assert not os.listdir(tmp_path)


def test_damaged_indexes_are_refused(packed: Path, tmp_path: Path) -> None:
    """Whatever is changed in index or trailer, the engine says so."""
    kit = find_kit("linux-x86_64")
    with open_artifact(packed) as artifact:
        data = artifact.read("model.pack")
    index = int.from_bytes(data[-16:-12], "little") + TRAILER
    source = random.Random(1)
    for number in range(150):
        damaged = bytearray(data)
        for _ in range(source.randint(1, 4)):
            damaged[len(data) - 1 - source.randrange(TRAILER if number % 2 else index)] ^= source.randrange(1, 256)
        if number % 10 == 9:
            del damaged[len(data) - source.randrange(1, index) :]
        file = tmp_path / "damaged"
        file.write_bytes(damaged)
        for command in ("restore", "in-place"):
            done = engine(kit, file, command)
            same = bytes(damaged) == data  # two changes may undo each other
            assert done.returncode == (0 if same else 1), (number, command, done.stderr)
            assert same or done.stderr.startswith(b"mkllm-engine: the "), done.stderr


def engine(kit: Kit, file: Path, command: str) -> subprocess.CompletedProcess[bytes]:
    with file.open("rb") as opened:
        environment = {
            **os.environ,
            "MKLLM_BACKENDS": str(kit.module(dict(kit.backends)["cpu-haswell"])),
            "MKLLM_EMBEDDED": f"model.gguf={opened.fileno()}@0:{file.stat().st_size}p",
        }
        words = [kit.engine, command]
        return subprocess.run(words, env=environment, pass_fds=(opened.fileno(),), capture_output=True, timeout=60)


def test_a_launch_with_a_damaged_index_says_so(packed: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    data = bytearray(packed.read_bytes())
    with open_artifact(packed) as artifact:
        member = artifact.weights
    at = member.offset + member.size - TRAILER - 1
    data[at - 3 : at + 1] = b"\xff\xff\xff\x7f"  # the last tensor's layout
    copy.write_bytes(data)
    copy.chmod(0o755)
    done = subprocess.run([copy, "-p", "hello"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 40 and "the index of the prepacked weights is damaged" in done.stderr
    assert "Traceback" not in done.stderr
