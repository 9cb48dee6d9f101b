"""Whether anybody is still connected to an engine's socket; knows no process."""

from pathlib import Path

CONNECTED = "03"  # proc(5), /proc/net/unix: the state of a socket with somebody at its other end


def is_connected(address: str, table: Path = Path("/proc/net/unix")) -> bool:
    """True while a client holds a connection to the abstract socket `address`; True where that cannot be known."""
    name = "@" + address.removeprefix("\0")
    try:
        lines = table.read_text(errors="replace").splitlines()
    except OSError:
        return True
    return any(words[7:] == [name] and words[5] == CONNECTED for words in map(str.split, lines))
