"""Text from the command line: its words may hold bytes that are not UTF-8, which Python keeps as surrogates."""


def is_text(text: str) -> bool:
    """Whether it can be sent and stored as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
