"""1000 random damages to a real artifact: each is refused or found, none crashes, hangs or shows a traceback."""

import random
import subprocess
import zipfile
from pathlib import Path

import pytest

from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.artifact.verify import verify
from mkllm.runtime.errors import NotAnArtifact

SEED = 20260701
BLOCK = 1 << 20


def damage(data: bytearray, at: random.Random) -> str:
    """Change `data` in place in one of the ways files are damaged; returns what was done."""
    kind = at.choice(["flip", "flip", "flip", "zero", "truncate", "insert", "manifest"])
    place = at.randrange(len(data))
    if kind == "truncate":
        del data[place:]
    elif kind == "insert":
        data[place:place] = at.randbytes(at.randrange(1, 64))
    elif kind == "zero":
        length = min(at.randrange(1, 4096), len(data) - place)
        data[place : place + length] = bytes(byte ^ 0xFF for byte in data[place : place + length])
    else:
        if kind == "manifest":
            place = data.rindex(b'"created_by"') + at.randrange(4000)
        data[place] ^= 1 << at.randrange(8)
    return f"{kind} at {place}"


def put(copy: Path, held: bytes | bytearray, data: bytearray) -> None:
    """Make a file that held `held` hold `data`, writing only what differs."""
    with copy.open("r+b") as file:
        file.truncate(len(data))
        for start in range(0, len(data), BLOCK):
            block = data[start : start + BLOCK]
            if block != held[start : start + BLOCK]:
                file.seek(start)
                file.write(block)


def test_a_thousand_damages_are_all_found(demo: Path, tmp_path: Path) -> None:
    whole = demo.read_bytes()
    at = random.Random(SEED)
    copy = tmp_path / "damaged"
    copy.write_bytes(whole)
    before = bytearray(whole)
    for number in range(1000):
        data = bytearray(whole)
        done = damage(data, at)
        put(copy, before, data)
        before = data
        try:
            with open_artifact(copy) as artifact:
                found = verify(artifact)
        except NotAnArtifact as refusal:
            assert "\n" not in str(refusal)
        else:
            assert found, f"damage {number} was not found: {done}"


@pytest.mark.parametrize("number", range(40))
def test_a_damaged_artifact_runs_or_says_why(demo: Path, tmp_path: Path, number: int) -> None:
    """Beyond the bootloader, whose damage the operating system meets, any damage ends in an answer or a sentence."""
    at = random.Random(SEED + number)
    data = bytearray(demo.read_bytes())
    with zipfile.ZipFile(demo) as archive:
        start = archive.infolist()[0].header_offset
    tail = data[start:]
    done = damage(tail, at)
    copy = tmp_path / "damaged"
    copy.write_bytes(data[:start] + tail)
    copy.chmod(0o755)
    words = [copy, "-p", "hello", "-n", "4"]
    ran = subprocess.run(words, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, timeout=60)
    assert ran.returncode >= 0, (done, ran)
    assert "Traceback" not in ran.stderr and "terminate called" not in ran.stderr, (done, ran.stderr)
    if ran.returncode:
        assert len(ran.stderr.strip().splitlines()) == 1, (done, ran.stderr)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.9999])
def test_a_truncated_artifact_says_so_at_once(demo: Path, tmp_path: Path, share: float) -> None:
    data = demo.read_bytes()
    with zipfile.ZipFile(demo) as archive:
        start = archive.infolist()[0].header_offset
    copy = tmp_path / "cut"
    copy.write_bytes(data[: start + int((len(data) - start - 1) * share)])
    copy.chmod(0o755)
    ran = subprocess.run([copy, "-p", "hello"], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=1)
    assert ran.returncode == 70 and "truncated" in ran.stderr and len(ran.stderr.splitlines()) == 1
