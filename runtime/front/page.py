"""The chat page's files, out of the artifact: compressed as they lie there, with headers that keep and confine them."""

import zlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from aiohttp import web

from mkllm.runtime.artifact.reader import Artifact
from mkllm.runtime.front.answers import COMMON, error

FOLDER = "web/"
INDEX = "/index.html"
TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "json": "application/json; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
    "ico": "image/x-icon",
    "woff2": "font/woff2",
    "wasm": "application/wasm",
}
# The page talks to nobody but this server, whatever a model makes it show. Inline scripts are allowed because the page
# runs a model's code and previews its HTML in sandboxed frames, which inherit this policy.
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "worker-src 'self' blob:",
        "frame-src 'self' data: blob:",
        "connect-src 'self' data: blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
CONFINED = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    **COMMON,
}
PIECE = 1 << 14
FOREVER = "public, max-age=31536000, immutable"
ASK_AGAIN = "no-cache"
# Other servers on the same port may have left a service worker in the browser, which would go on showing their page.
WORKER = "/sw.js"
NO_WORKER = b"""self.addEventListener('install', () => self.skipWaiting());
self.addEventListener('activate', async () => {
	for (const name of await caches.keys()) await caches.delete(name);
	await self.registration.unregister();
	for (const client of await self.clients.matchAll({ type: 'window' })) client.navigate(client.url);
});
"""
# What browsers ask for unasked; the engine need not be waited for to say that it is not there.
ABSENT = ("/favicon.ico", "/apple-touch-icon", "/robots.txt", "/manifest.webmanifest", "/.well-known/", "/_app/")


@dataclass(frozen=True)
class File:
    """A file of the page: the member that holds it, whether that is compressed, and the member's SHA-256."""

    member: str
    compressed: bool
    sha256: str


class Page:
    """All files of the page of one artifact, by path."""

    def __init__(self, artifact: Artifact) -> None:
        self._artifact = artifact
        self._files = dict(_files(artifact))

    def has(self, path: str) -> bool:
        """Whether requests for this path are the page's to answer."""
        return path == "/" or path == WORKER or path in self._files or path.startswith(ABSENT)

    def answer(self, path: str, headers: Mapping[str, str]) -> web.Response:
        """The file, or 304 when the browser has it already."""
        if path == WORKER and path not in self._files:
            return web.Response(
                body=NO_WORKER, headers={**COMMON, "Content-Type": TYPES["js"], "Cache-Control": "no-store"}
            )
        file = self._files.get(INDEX if path == "/" else path)
        if file is None:
            return error(404, f"there is no {path!r:.80} in the chat page: open / instead")
        plain = file.compressed and not accepts_gzip(headers.get("Accept-Encoding", ""))
        common = {
            **CONFINED,
            "ETag": f'"{file.sha256[:32]}{"-plain" if plain else ""}"',
            "Cache-Control": FOREVER if "/immutable/" in path else ASK_AGAIN,
            "Vary": "Accept-Encoding",
        }
        if is_known(common["ETag"], headers.get("If-None-Match", "")):
            return web.Response(status=304, headers=common)
        data = self._artifact.read(file.member)
        if file.compressed and not plain:
            common["Content-Encoding"] = "gzip"
        kind = TYPES.get((INDEX if path == "/" else path).rpartition(".")[2], "application/octet-stream")
        return web.Response(body=unpacked(data) if plain else data, headers={**common, "Content-Type": kind})


def _files(artifact: Artifact) -> list[tuple[str, File]]:
    members = [member for member in artifact.manifest.members if member.name.startswith(FOLDER)]
    return [
        (f"/{name.removesuffix('.gz')}", File(member.name, name.endswith(".gz"), member.sha256))
        for member in members
        for name in [member.name.removeprefix(FOLDER)]
    ]


async def unpacked(data: bytes) -> AsyncIterator[bytes]:
    """What gzip compressed, in pieces: the page's script is nine megabytes long, and few ask for it like this."""
    unpacker = zlib.decompressobj(wbits=31)
    for start in range(0, len(data), PIECE):
        yield unpacker.decompress(data[start : start + PIECE])


def accepts_gzip(header: str) -> bool:
    """Whether an Accept-Encoding header takes gzip."""
    weights = {}
    for part in header.lower().split(","):
        name, _, parameter = part.partition(";")
        weights[name.strip()] = parameter.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return weights.get("gzip", weights.get("*", False))


def is_known(tag: str, header: str) -> bool:
    """Whether an If-None-Match header names this ETag."""
    return any(known.strip().removeprefix("W/") in (tag, "*") for known in header.split(","))
