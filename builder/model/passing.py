"""The failure that is worth trying again."""


class Passing(Exception):
    """A failure that may pass when the request is made again; the text says what happened, as a whole clause."""
