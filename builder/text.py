"""Text from the command line: its words may hold bytes that are not UTF-8, which Python keeps as surrogates."""

from pathlib import Path

from mkllm.builder.errors import ModelNotFound, UnusableModel


def is_text(text: str) -> bool:
    """Whether it can be sent and stored as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_text(path: Path) -> str:
    """A text file's content. Raises ModelNotFound when it cannot be read, UnusableModel when it is no UTF-8 text."""
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError:
        raise UnusableModel(f"{str(path)!r} is not UTF-8 text: name a text file") from None
    except OSError as error:
        reason = (error.strerror or "?").lower()
        raise ModelNotFound(f"{str(path)!r} cannot be read ({reason}): name a text file") from None
