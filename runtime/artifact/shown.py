"""Strings out of a manifest, for a terminal: they may come from a stranger's model, and must not steer it."""

STRANGE = "\N{REPLACEMENT CHARACTER}"


def shown(text: str) -> str:
    """`text` on one line, without control characters: white space is a space, what else cannot be printed `STRANGE`."""
    return text if text.isprintable() else "".join(map(_letter, text))


def _letter(letter: str) -> str:
    if letter.isprintable():
        return letter
    return " " if letter.isspace() else STRANGE
