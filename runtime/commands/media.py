"""Pictures and sound beside a prompt: read from files, and written as parts of a message; asks nobody."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mkllm.runtime.commands.prompt import WrongPrompt

LARGEST = 72 << 20  # bytes of all files; the engine takes requests of 100 MiB, and base64 is a third longer


@dataclass(frozen=True)
class Media:
    """Files that are shown to the model with a prompt: `images` first, then `sounds`."""

    images: tuple[Path, ...] = ()
    sounds: tuple[Path, ...] = ()

    def content(self, text: str) -> str | list[dict[str, Any]]:
        """What the user's message holds. Raises WrongPrompt for a file that cannot be read."""
        if not self.images and not self.sounds:
            return text
        if (total := sum(_size(path) for path in (*self.images, *self.sounds))) > LARGEST:
            raise WrongPrompt(
                f"the files to show have {total / 1e6:.0f} MB together, at most {LARGEST / 1e6:.0f} MB can be shown: "
                "give fewer or smaller ones"
            )
        parts = [_image(path) for path in self.images] + [_sound(path) for path in self.sounds]
        return [*parts, {"type": "text", "text": text}]


def _image(path: Path) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"data:image/*;base64,{_encoded(path)}"}}


def _sound(path: Path) -> dict[str, Any]:
    kind = path.suffix.lstrip(".").lower() or "wav"  # the engine finds out by itself
    return {"type": "input_audio", "input_audio": {"data": _encoded(path), "format": kind}}


def _encoded(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST)
    except OSError as error:
        raise _unreadable(path, error) from None
    if not data:
        raise WrongPrompt(f"the file {str(path)!r} is empty: give another one")
    return base64.b64encode(data).decode()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> WrongPrompt:
    return WrongPrompt(f"the file {str(path)!r} cannot be read ({error.strerror}): check its name")


def expect_taken(images: Sequence[Path], sounds: Sequence[Path], vision: bool, audio: bool) -> None:
    """Raise WrongPrompt for what the model does not take: `vision` and `audio` say what it does."""
    for files, taken, what, other in ((images, vision, "pictures", audio), (sounds, audio, "sound", vision)):
        if files and not taken:
            instead = f" but {'sound' if what == 'pictures' else 'pictures'}" if other else ""
            raise WrongPrompt(
                f"the model of this file takes no {what}{instead}, so {str(files[0])!r} cannot be shown to it: leave "
                "it out, or give its projector with -- --mmproj FILE"
            )
