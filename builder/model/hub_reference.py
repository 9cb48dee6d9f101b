"""What `hf:organisation/repository/file@revision` means; asks nobody."""

from dataclasses import dataclass

from mkllm.builder.errors import ModelNotFound

PREFIX = "hf:"
FORM = "write hf:organisation/repository/file.gguf, with @revision behind it if you like"
MAIN = "main"


@dataclass(frozen=True)
class Reference:
    """A file on the hub, in folders perhaps; `file` is None when it was left out."""

    repository: str
    file: str | None
    revision: str = MAIN

    @property
    def text(self) -> str:
        """As the user would write it, without the revision."""
        return PREFIX + self.repository + (f"/{self.file}" if self.file else "")


def parse(text: str) -> Reference:
    """The reference that `text` is. Raises ModelNotFound when it has another form."""
    name, at, revision = text.removeprefix(PREFIX).partition("@")
    parts = name.split("/")
    if len(parts) < 2 or not all(parts) or ".." in parts or (at and not revision):
        raise ModelNotFound(f"{text!r} does not name a file on the hub: {FORM}")
    return Reference("/".join(parts[:2]), "/".join(parts[2:]) or None, revision or MAIN)
