"""Members that lie compressed in an artifact, in gzip's format: of the CPU variants one is used, so they all are."""

SUFFIX = ".gz"  # what such a member's name ends with


def unpacked_size(end: bytes) -> int:
    """Of what is compressed, as the last four bytes say (RFC 1952); -1 where there are fewer."""
    return int.from_bytes(end, "little") if len(end) == 4 else -1
