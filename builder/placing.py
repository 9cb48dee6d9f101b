"""Whether weights go into the program or beside it, by how large files may be; writes nothing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mkllm.builder.errors import TooLarge
from mkllm.builder.kit.target import TARGETS
from mkllm.builder.model.divide import Division, divide, header_of, undivided
from mkllm.builder.model.weights import Weights
from mkllm.builder.progress import size

Split = Literal["auto", "always", "never"]
SPLITS: tuple[Split, ...] = ("auto", "always", "never")

# For what is not known before it is written: the manifest, the directory, a signature.
MARGIN = 1 << 20


@dataclass(frozen=True)
class Limits:
    """How large the files of a build may be, in bytes; None: as large as the system takes them."""

    split: Split = "auto"
    file: int | None = None

    def of(self, target: str) -> int | None:
        """The largest program for that target."""
        return min((most for most in (TARGETS[target].largest_program, self.file) if most), default=None)

    def why(self, target: str) -> str:
        """The reason for that, as a clause."""
        system = TARGETS[target].largest_program
        if self.file and (not system or self.file < system):
            return f"--max-file-size allows {size(self.file)}"
        return f"{target} starts no program of {size(system or 0)} or more"


def room_in(target: str, program: int, limits: Limits) -> int | None:
    """How many bytes of weights a program may hold that has `program` without them; None: any number."""
    most = limits.of(target)
    return None if most is None else max(0, most - program - MARGIN)


def is_beside(target: str, program: int, weights: int, limits: Limits) -> bool:
    """Whether weights of that many bytes have to lie beside a program that has `program` without them.

    Raises TooLarge when neither will do.
    """
    most = limits.of(target)
    if most is not None and program + MARGIN > most:
        raise TooLarge(
            f"the program for {target} takes {size(program + MARGIN)} without a model, but {limits.why(target)}: "
            "allow larger files"
        )
    if limits.split != "auto":
        fits = most is None or program + weights + MARGIN <= most
        if limits.split == "never" and not fits:
            raise TooLarge(
                f"one file for {target} would take {size(program + weights)}, but {limits.why(target)}: "
                "leave out --split never, and the weights lie beside it, or take a smaller quantization"
            )
        return limits.split == "always"
    return most is not None and program + weights + MARGIN > most


def growth(weights: Weights, path: Path) -> int:
    """By how many bytes weights may grow when they are prepacked: what is no layer's may be needed plain too."""
    tensors = header_of(weights, path).tensors
    return sum(tensor.size for tensor in tensors if not tensor.name.startswith(b"blk.")) + MARGIN


def division(weights: Weights, path: Path, limits: Limits, prepacked: bool) -> Division:
    """The files beside the program. Raises TooLarge."""
    if limits.file is None or weights.size + (MARGIN if prepacked else 0) <= limits.file:
        return undivided(weights)
    if prepacked:
        raise TooLarge(
            f"prepacked weights have to lie in one file, these take more than {size(limits.file)}: "
            "build without --prepack, or allow larger files with --max-file-size"
        )
    return divide(weights, path, limits.file)
