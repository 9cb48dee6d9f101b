"""The layout: what is written is what other zip readers understand, at the places that the format promises."""

import io
import zipfile
import zlib

import pytest

from mkllm.runtime.artifact import layout
from mkllm.runtime.artifact.layout import Comment, Entry
from mkllm.runtime.artifact.manifest import PREPACKED, WEIGHTS
from mkllm.runtime.errors import NotAnArtifact

MEMBERS = {
    "model.gguf": b"w" * 1000,
    "licenses/ü.txt": b"text",
    "native/liba.so": b"so",
    "native/mkllm-engine": b"",
    "mkllm/manifest.json": b"{}",
}
COMMENT = Comment("0123456789abcdef", 0xDEADBEEF, "ab" * 32, 7)


def whole(boot: bytes = b"b" * 77, pkg: bytes = b"PKG") -> tuple[bytes, list[Entry]]:
    places = layout.place(len(boot), [(name, len(data)) for name, data in MEMBERS.items()])
    entries = [Entry(place, zlib.crc32(MEMBERS[place.name])) for place in places]
    file = bytearray(boot)
    for entry in entries:
        file += bytes(entry.place.start - len(file)) + layout.local_header(entry) + MEMBERS[entry.place.name]
    file += bytes(layout.pkg_offset(places) - len(file)) + pkg
    directory = layout.directory(entries)
    return bytes(file + directory + layout.end(len(entries), len(file), len(directory), COMMENT.to_bytes())), entries


def test_zipfile_reads_every_member() -> None:
    data, _ = whole()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == MEMBERS
        assert archive.comment == COMMENT.to_bytes()
        modes = {info.filename: info.external_attr >> 16 for info in archive.infolist()}
    assert modes.pop("native/mkllm-engine") == 0o100755 and set(modes.values()) == {0o100644}


@pytest.mark.parametrize("boot", [1, 63, 64, 65446, 65447, 65470, 65535, 65536, 127312])
def test_members_lie_where_the_format_promises(boot: int) -> None:
    data, entries = whole(b"b" * boot)
    for entry in entries:
        place = entry.place
        step = 65536 if place.name == "model.gguf" else 4096 if place.name.startswith("native/") else 64
        assert place.data % step == 0
        assert data[place.data : place.end] == MEMBERS[place.name]
        assert place.start + len(layout.local_header(entry)) == place.data
    assert data.index(b"PKG") % 4096 == 0 and data.index(b"PKG") + 3 == data.index(b"PK\x01\x02")


@pytest.mark.parametrize("name", [WEIGHTS, PREPACKED])
def test_the_first_header_fits_behind_every_bootloader(name: str) -> None:
    for boot in range(1, 65536 * 2, 7):
        [place] = layout.place(boot, [(name, 1)])
        assert place.data - place.start - 64 <= 65535 - 24


def test_the_directory_is_read_back() -> None:
    _, entries = whole()
    directory = layout.directory(entries)
    assert layout.parse_directory(directory, len(entries), zlib.crc32(directory)) == entries


def test_sizes_beyond_32_bits_are_kept() -> None:
    entries = [Entry(place, 1) for place in layout.place(100, [("model.gguf", 5 << 40), ("mkllm/manifest.json", 3)])]
    directory = layout.directory(entries)
    assert layout.parse_directory(directory, 2, zlib.crc32(directory)) == entries
    assert layout.parse_directory(directory, 2, zlib.crc32(directory))[1].place.start > 5 << 40


def test_the_end_is_read_back() -> None:
    tail = layout.end(5, 1000, 300, COMMENT.to_bytes())
    assert len(tail) == layout.END_SIZE and tail[-1:] == b"\n"
    assert layout.parse_end(tail, 1300 + layout.END_SIZE) == (5, 1000, 300, COMMENT)


def test_a_file_that_grew_is_refused() -> None:
    with pytest.raises(NotAnArtifact, match="does not fit its length"):
        layout.parse_end(layout.end(5, 1000, 300, COMMENT.to_bytes()), 1301 + layout.END_SIZE)


def test_a_newer_format_is_named() -> None:
    comment = COMMENT.to_bytes().replace(b"mkllm/1", b"mkllm/2")
    with pytest.raises(NotAnArtifact, match="format 2, this program reads up to 1: use a newer mkllm"):
        Comment.from_bytes(comment)


@pytest.mark.parametrize(
    "damage", [b"", b"mkllm/1 kit=", b"\xff" * 128, COMMENT.to_bytes()[:-1] + b"x", COMMENT.to_bytes().upper()]
)
def test_other_comments_are_refused(damage: bytes) -> None:
    with pytest.raises(NotAnArtifact, match="does not end as an artifact does"):
        Comment.from_bytes(damage)


def test_a_damaged_directory_is_refused() -> None:
    directory = layout.directory(whole()[1])
    with pytest.raises(NotAnArtifact, match="directory is damaged"):
        layout.parse_directory(directory, 5, 0)
    for wrong in (directory[:-1], directory + b"\0", b"", directory.replace(b"PK\x01\x02", b"PK\x01\x03")):
        with pytest.raises(NotAnArtifact, match="not of the form"):
            layout.parse_directory(wrong, 5, zlib.crc32(wrong))
