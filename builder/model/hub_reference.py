"""What `hf:organisation/repository:quantization@revision`, `…/file@revision` and HF_ENDPOINT mean; asks nobody."""

import os
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from mkllm.builder.errors import HubFailure, ModelNotFound
from mkllm.builder.text import is_text

PREFIX = "hf:"
FORM = "write hf:organisation/repository/file.gguf or hf:organisation/repository:Q4_K_M, with @revision if you like"
MAIN = "main"
ENDPOINT = "HF_ENDPOINT"


@dataclass(frozen=True)
class Reference:
    """A file on the hub, in folders perhaps; `file` is None when it was left out, or named by its quantization."""

    repository: str
    file: str | None
    revision: str = MAIN
    quantization: str | None = None

    @property
    def text(self) -> str:
        """As the user would write it, without the revision."""
        wanted = f":{self.quantization}" if self.quantization else ""
        return PREFIX + self.repository + (f"/{self.file}" if self.file else wanted)


def parse(text: str) -> Reference:
    """The reference that `text` is. Raises ModelNotFound when it has another form."""
    name, at, revision = text.removeprefix(PREFIX).partition("@")
    parts = name.split("/")
    colon, wanted = "", ""
    if len(parts) == 2:
        parts[1], colon, wanted = parts[1].partition(":")
    wrong = len(parts) < 2 or not all(parts) or ".." in parts
    if wrong or (at and not revision) or (colon and not wanted) or not is_text(text):
        raise ModelNotFound(f"{text!r} does not name a file on the hub: {FORM}")
    return Reference("/".join(parts[:2]), "/".join(parts[2:]) or None, revision or MAIN, wanted or None)


def check_endpoint() -> None:
    """Raise HubFailure when HF_ENDPOINT is set and is no address; huggingface_hub cannot even be imported with some."""
    address = os.environ.get(ENDPOINT)
    if address is not None and not address_parts(address):
        raise HubFailure(f"{ENDPOINT} is {address!r}, which is no address: unset it, or set it to https://…")


def address_parts(text: str) -> SplitResult | None:
    """The parts of an address of the web; None for what is none."""
    try:
        parts = urlsplit(text)
        (parts.hostname or "").encode("idna")
        is_one = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        return None
    return parts if is_one and text.isprintable() else None
