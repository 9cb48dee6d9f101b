"""The ad-hoc signature that a program for macOS gets while it is written (spec/artifact.md): no tool takes part."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from mkllm.runtime.artifact import layout, macho
from mkllm.runtime.artifact.layout import Entry, Place
from mkllm.runtime.artifact.manifest import MEMBER, Blob, Manifest


@dataclass(frozen=True)
class AdHoc:
    """The program that a signed file begins with, and where its signature begins and ends."""

    program: bytes
    place: tuple[int, int]

    @property
    def blob(self) -> Blob:
        """What the manifest says of the program."""
        return Blob(len(self.program), hashlib.sha256(self.program).hexdigest())


def is_signed(target: str, size: int) -> bool:
    """Whether an artifact of about that many bytes is signed."""
    return target == layout.MACOS and size < macho.LIMIT


def adhoc(program: bytes, manifest: Manifest, places: Sequence[Place]) -> AdHoc | None:
    """How the file that `manifest` describes is signed, of which `program` is the bootloader and `places` are those of
    all members but the manifest; None where it is not. Raises NotMachO."""
    sizes = [(place.name, place.size) for place in places]
    # Hashes are all of one length, so the manifest has this one with any.
    placed = layout.place(manifest.bootloader.size, [*sizes, (MEMBER, len(manifest.to_bytes()))])
    entries = [Entry(place, 0) for place in placed]
    signed = layout.signed_range(manifest.target, layout.pkg_offset(placed) + manifest.pkg.size, entries)
    if not signed:
        return None
    end = signed[1] + len(layout.directory(entries)) + layout.END_SIZE
    return AdHoc(macho.grown(program, signed[0], end), signed)
