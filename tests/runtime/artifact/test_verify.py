"""Verify: every changed byte is found and named; 1000 random damages never cause anything but a sentence."""

import random
from pathlib import Path

import pytest

from mkllm.runtime.artifact import layout
from mkllm.runtime.artifact.manifest import MEMBER, WEIGHTS
from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.artifact.verify import Difference, verify
from mkllm.runtime.errors import NotAnArtifact

DAMAGES = 1000


def check(path: Path) -> list[Difference]:
    with open_artifact(path) as artifact:
        return verify(artifact)


def flipped(data: bytes, at: int, target: Path) -> Path:
    changed = bytearray(data)
    changed[at] ^= 0x40
    target.write_bytes(changed)
    return target


def test_an_untouched_artifact_has_no_differences(small_artifact: Path) -> None:
    told: list[int] = []
    with open_artifact(small_artifact) as artifact:
        assert verify(artifact, told.append) == []
        end = layout.END_SIZE + len(layout.directory(artifact.entries))
    assert sum(told) == small_artifact.stat().st_size - end


def test_each_part_is_named(small_artifact: Path, tmp_path: Path) -> None:
    data = small_artifact.read_bytes()
    with open_artifact(small_artifact) as artifact:
        places = {entry.place.name: entry.place for entry in artifact.entries}
        pkg = layout.pkg_offset(list(places.values()))
        boot = artifact.manifest.bootloader.size
    library, weights = places["native/libllama.so"], places[WEIGHTS]
    expected = {
        0: "bootloader: its",
        boot: f"padding behind the bootloader: the byte at offset {boot}",
        weights.start: f"header of model.gguf: the byte at offset {weights.start}",
        weights.data - 1: f"header of model.gguf: the byte at offset {weights.data - 1}",
        weights.end - 1: f"model.gguf: its {weights.size} bytes from offset {weights.data}",
        library.data: f"native/libllama.so: its {library.size} bytes from offset {library.data}",
        pkg - 1: f"padding before the PKG: the byte at offset {pkg - 1}",
        pkg: f"PKG: its 9001 bytes from offset {pkg}",
    }
    for at, text in expected.items():
        [difference] = check(flipped(data, at, tmp_path / "flipped"))
        assert str(difference).startswith(text)


def test_several_differences_come_in_file_order(small_artifact: Path, tmp_path: Path) -> None:
    data = bytearray(small_artifact.read_bytes())
    with open_artifact(small_artifact) as artifact:
        offsets = [artifact.member(name).offset for name in (WEIGHTS, "native/libllama.so", "web/index.html.gz")]
    for at in offsets:
        data[at] ^= 1
    (tmp_path / "changed").write_bytes(data)
    assert [difference.part for difference in check(tmp_path / "changed")] == [
        WEIGHTS,
        "native/libllama.so",
        "web/index.html.gz",
    ]


def test_members_can_be_left_out(small_artifact: Path, tmp_path: Path) -> None:
    with open_artifact(small_artifact) as artifact:
        at = artifact.member(WEIGHTS).offset
    with open_artifact(flipped(small_artifact.read_bytes(), at, tmp_path / "flipped")) as artifact:
        assert verify(artifact, without={WEIGHTS}) == []
        assert len(verify(artifact)) == 1


def test_a_damaged_manifest_is_named_when_opening(small_artifact: Path, tmp_path: Path) -> None:
    with open_artifact(small_artifact) as artifact:
        member = artifact.member(MEMBER)
    path = flipped(small_artifact.read_bytes(), member.offset + 5, tmp_path / "flipped")
    with pytest.raises(
        NotAnArtifact, match=rf"manifest \({member.size} bytes from offset {member.offset}\) is damaged"
    ):
        check(path)


def test_every_byte_counts(small_artifact: Path, tmp_path: Path) -> None:
    """A flip of any single byte outside members, and of a few inside, is found."""
    data = small_artifact.read_bytes()
    with open_artifact(small_artifact) as artifact:
        inside = [range(entry.place.data, entry.place.end) for entry in artifact.entries]
    headers = [at for at in range(len(data)) if not any(at in part for part in inside)]
    for at in random.Random(5).sample(headers, 400):
        path = flipped(data, at, tmp_path / "flipped")
        try:
            assert check(path), f"byte {at} is not found"
        except NotAnArtifact as error:
            assert str(path) in str(error)


def damaged(data: bytes, chance: random.Random) -> bytes:
    """One of the ways in which files go wrong."""
    at, length = chance.randrange(len(data)), chance.choice([1, 4, 100, 5000])
    match chance.randrange(8):
        case 0:
            return data[:at]
        case 1:
            return data[:at] + data[at + length :]
        case 2:
            return data[:at] + chance.randbytes(length) + data[at:]
        case 3:
            return data + chance.randbytes(length)
        case 4:  # the last bytes hold the directory and the end
            at = len(data) - 1 - chance.randrange(1500)
            return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
        case 5:
            return data[:at] + bytes(length) + data[at + length :]
        case 6:
            end = len(data) - layout.END_SIZE
            number = chance.choice([0, 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1]).to_bytes(8, "little")
            at = end + chance.choice([24, 32, 40, 48])
            return data[:at] + number + data[at + 8 :]
        case _:
            return data[:at] + chance.randbytes(length) + data[at + length :]


def test_random_damages_are_always_told_in_a_sentence(small_artifact: Path, tmp_path: Path) -> None:
    data = small_artifact.read_bytes()
    for seed in range(DAMAGES):
        wrong = damaged(data, random.Random(seed))
        (tmp_path / "damaged").write_bytes(wrong)
        try:
            found = check(tmp_path / "damaged")
        except NotAnArtifact as error:
            assert "\n" not in str(error), seed
        else:
            assert bool(found) == (wrong != data), seed


def test_random_manifests_are_always_told_in_a_sentence(small_artifact: Path) -> None:
    """Damages that hashes would catch first, given to the parser itself."""
    from mkllm.runtime.artifact.manifest import Manifest

    with open_artifact(small_artifact) as artifact:
        text = artifact.read(MEMBER)
    refused = 0
    for seed in range(DAMAGES):
        try:
            Manifest.from_bytes(damaged(text, random.Random(seed)) if seed % 2 else swapped(text, random.Random(seed)))
        except NotAnArtifact as error:
            refused += 1
            assert len(str(error)) < 500 and "\n" not in str(error), seed
    assert refused > DAMAGES // 2


def swapped(text: bytes, chance: random.Random) -> bytes:
    """Valid JSON, of which one line has another value."""
    lines = text.split(b"\n")
    at = chance.choice([number for number, line in enumerate(lines) if b'": ' in line and line[-1:] not in b"[{"])
    values = [b"null", b"-1", b'"x"', b"[]", b"{}", b"1e400", b"9" * 400, b"true", b'"\\ud800"', b"[" * 50 + b"]" * 50]
    comma = b"," if lines[at].endswith(b",") else b""
    lines[at] = lines[at].split(b": ")[0] + b": " + chance.choice(values) + comma
    return b"\n".join(lines)
