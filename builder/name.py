"""What an artifact may call itself, and what it is called after a model's file when nobody says."""

MAX = 100
FALLBACK = "model"


def is_name(text: str) -> bool:
    """Whether an artifact may have this name: short, printable, not blank."""
    return bool(text.strip()) and text.isprintable() and len(text) <= MAX


def name_after(stem: str) -> str:
    """`stem` if it may be a name, else a name like it."""
    cleaned = "".join(letter if letter.isprintable() else "_" for letter in stem)[:MAX]
    return cleaned if is_name(cleaned) else FALLBACK
