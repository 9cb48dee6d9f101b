"""systemd's rules of quoting in unit files (systemd.syntax, systemd.service, systemd.unit); pure."""

SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:=@+,-{}")
SHORT = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"}


def plain(text: str) -> str:
    """A value that systemd takes as a whole; only its specifiers (`%n`) would be replaced."""
    return text.replace("%", "%%")


def word(text: str) -> str:
    """One word of a list."""
    if text and SAFE.issuperset(text):
        return text
    return '"' + "".join(map(_escaped, plain(text))) + '"'


def argument(text: str) -> str:
    """One argument of a command, in which `$` begins a variable."""
    return word(text.replace("$", "$$"))


def path_in_list(path: str) -> str:
    """One path of a list whose words a colon would split."""
    return word(path.replace("\\", "\\\\").replace(":", "\\:"))


def _escaped(letter: str) -> str:
    return SHORT.get(letter) or (letter if letter.isprintable() else _bytes(letter))


def _bytes(letter: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in letter.encode("utf-8", "surrogateescape"))
