"""Who may ask: Host, Origin, Sec-Fetch-Site and the API key of a request (spec/http.md); pure, answers nothing itself.

A web page elsewhere must not use a model on this machine. Its script can send requests to localhost: their Origin gives
them away, and where browsers send none, Sec-Fetch-Site. Or its own host name comes to point here: then that is in Host.
"""

import hmac
import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

DEFAULT_PORTS = {"http": 80, "https": 443}
READING = frozenset({"GET", "HEAD"})
HOST = re.compile(r"(?:\[(?P<address>[^\[\]]+)\]|(?P<name>[^\[\]:@/]*))(?::(?P<port>[0-9]{1,5}))?")


@dataclass(frozen=True)
class Refusal:
    """Why a request is not served: an HTTP status and a sentence."""

    status: int
    message: str


@dataclass(frozen=True)
class Guard:
    """`hosts` are names that requests may be addressed to, `origins` those of other pages that may ask; `*` is all."""

    hosts: frozenset[str]
    origins: frozenset[str]
    keys: tuple[str, ...]

    def refusal(self, method: str, page: bool, headers: Mapping[str, str]) -> Refusal | None:
        """Why this request is refused, None when it may be served. `page`: it asks for the chat page itself."""
        return self._by_host(headers.get("Host")) or self._by_origin(method, page, headers)

    def wrong_key(self, headers: Mapping[str, str]) -> Refusal | None:
        """401 when a key is needed and none of the right ones is given."""
        if not self.keys:
            return None
        given = headers.get("Authorization") or headers.get("X-Api-Key") or ""
        given = given.removeprefix("Bearer ").strip()
        if any([hmac.compare_digest(os.fsencode(given), os.fsencode(key)) for key in self.keys]):
            return None
        if not given:
            return Refusal(401, "an API key is needed: send it as 'Authorization: Bearer KEY' or 'X-Api-Key: KEY'")
        return Refusal(401, "the API key is wrong: send the one that the program was started with (--api-key)")

    def foreign_origin(self, headers: Mapping[str, str]) -> str | None:
        """The Origin of a page elsewhere that is allowed to ask, and must be told so; else None."""
        origin = headers.get("Origin")
        if origin is None or same_origin(origin, headers.get("Host", "")) or not self._allowed(origin):
            return None
        return origin

    def _by_host(self, host: str | None) -> Refusal | None:
        if host is None:
            return None
        name = split_host(host)[0]
        if is_local(name) or name in self.hosts or "*" in self.hosts:
            return None
        return Refusal(403, f"the host name {name!r:.80} is not this program's: start it with --allow-host {name:.80}")

    def _by_origin(self, method: str, page: bool, headers: Mapping[str, str]) -> Refusal | None:
        origin, site = headers.get("Origin"), headers.get("Sec-Fetch-Site")
        if origin is not None:
            if same_origin(origin, headers.get("Host", "")) or self._allowed(origin):
                return None
            return Refusal(403, f"pages of {origin!r:.80} may not ask: use --allow-origin {origin:.80} to allow it")
        if site not in ("cross-site", "same-site"):
            return None
        navigates = headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest") == "document"
        if page and method in READING and navigates:
            return None
        return Refusal(403, "a page of another site may not ask: open the chat page, or use --allow-origin")

    def _allowed(self, origin: str) -> bool:
        return "*" in self.origins or origin.lower().rstrip("/") in self.origins


def guard(host: str, keys: Sequence[str], allow_hosts: Sequence[str], allow_origins: Sequence[str]) -> Guard:
    """The guard of a front that listens on `host`: this machine's own names are allowed, and those that are given."""
    own = socket.gethostname().lower()
    short = own.partition(".")[0]
    names = {own, short, f"{short}.local", host.lower(), *(split_host(name)[0] for name in allow_hosts)} - {""}
    return Guard(frozenset(names), frozenset(origin.lower().rstrip("/") for origin in allow_origins), tuple(keys))


def split_host(value: str) -> tuple[str, int | None]:
    """Name (lower case, no brackets, no final dot) and port of a Host header; what is none is a name as it stands."""
    value = value.strip().lower()
    parts = HOST.fullmatch(value)
    if parts is None:
        return value, None
    port = parts["port"]
    return parts["address"] or parts["name"].removesuffix("."), int(port) if port else None


def is_local(name: str) -> bool:
    """An address, or a name that every machine gives to itself: no name server can make these mean somebody else."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def same_origin(origin: str, host: str) -> bool:
    """Whether a page of `origin` was served under this Host (by a proxy with TLS, perhaps)."""
    scheme, separator, rest = origin.lower().partition("://")
    if not separator or scheme not in DEFAULT_PORTS or not host:
        return False
    (name, port), (own_name, own_port) = split_host(rest), split_host(host)
    default = DEFAULT_PORTS[scheme]
    return (name, port or default) == (own_name, own_port or default)
