"""Headers of GGUFs, whole and broken."""

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mkllm.runtime.engine.header import HeaderError, read_header


def key(name: str, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", kind) + value


def gguf(*keys: bytes, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, 0, len(keys)) + b"".join(keys)


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


WHOLE = gguf(
    key("a", 4, struct.pack("<I", 7)),
    key("words", 9, struct.pack("<IQ", 8, 2) + text("one") + text("two")),
    key("reals", 9, struct.pack("<IQff", 6, 2, 1.0, 2.0)),
    key("heads", 9, struct.pack("<IQII", 4, 2, 3, 5)),
    key("name", 8, text("llama")),
    key("ratio", 6, struct.pack("<f", 0.5)),
    key("late", 11, struct.pack("<q", -3)),
)


def test_wanted_keys_are_found_behind_anything():
    wanted = {"a", "heads", "name", "ratio", "late", "words", "absent"}
    assert read_header(io.BytesIO(WHOLE), wanted) == {
        "a": 7,
        "heads": [3, 5],
        "name": "llama",
        "ratio": 0.5,
        "late": -3,
    }


def test_it_stops_when_it_has_all():
    file = io.BytesIO(WHOLE[:60])
    assert read_header(file, {"a"}) == {"a": 7}


@pytest.mark.parametrize(
    "data", [b"", b"GGUF", b"GGML" + bytes(20), gguf(version=1), gguf(key("x", 99, b"")), WHOLE[:-1]]
)
def test_anything_else_is_refused(data):
    with pytest.raises(HeaderError):
        read_header(io.BytesIO(data), {"late"})


@given(st.binary(max_size=400), st.integers(0, len(WHOLE)))
def test_damage_never_does_worse(noise, at):
    damaged = WHOLE[:at] + noise + WHOLE[at + len(noise) :]
    try:
        read_header(io.BytesIO(damaged), {"a", "heads", "name"})
    except HeaderError:
        pass
