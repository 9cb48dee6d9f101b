"""What an artifact may call itself, and what it is called after a model's file when nobody says."""

from mkllm.builder.kit.target import TARGETS

MAX = 100
FALLBACK = "model"
IN_NO_FILE = frozenset('/\\:*?"<>|')  # of a name that any system takes


def is_name(text: str) -> bool:
    """Whether an artifact may have this name: short, printable, not blank."""
    return bool(text.strip()) and text.isprintable() and len(text) <= MAX


def name_after(stem: str) -> str:
    """`stem` if it may be a name, else a name like it."""
    cleaned = "".join(letter if letter.isprintable() else "_" for letter in stem)[:MAX]
    return cleaned if is_name(cleaned) else FALLBACK


def file_name(name: str) -> str:
    """A name as that of a file."""
    cleaned = "".join("_" if letter in IN_NO_FILE else letter for letter in name).strip(" .")
    return cleaned or FALLBACK


def default_name(name: str, target: str) -> str:
    """What the file of a program is called when nobody says."""
    return TARGETS[target].program(file_name(name) if TARGETS[target].windows else name)


def program_name(base: str, target: str) -> str:
    """What one of several programs of a model is called."""
    return TARGETS[target].program(f"{base}-{target}")
