"""A model hub of the tests' own: speaks enough of the real one's protocol, and fails in the ways that it is told to."""

import hashlib
import json
import re
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER_COMMIT = "89abcdef0123456789abcdef0123456789abcdef"
TOKEN = "hf_right"


@dataclass
class Repository:
    """Files by name; `gated` and `private` ones want TOKEN. Revisions are names of commits."""

    files: dict[str, bytes]
    gated: bool = False
    private: bool = False
    revisions: dict[str, str] = field(default_factory=lambda: {"main": COMMIT, "v1.0": OTHER_COMMIT})
    card: dict[str, object] = field(default_factory=dict)
    gguf: dict[str, object] = field(default_factory=dict)


@dataclass
class Faults:
    """What goes wrong: how many requests are answered 503, cut after how many bytes (each once), which hash is told.

    `more` bytes are sent behind the end of every file."""

    unavailable: int = 0
    cuts: list[int] = field(default_factory=list)
    told_hash: str | None = None
    told_hashes: dict[str, str] = field(default_factory=dict)
    no_ranges: bool = False
    plain: bool = False
    more: int = 0
    status: int = 0


class Hub(ThreadingHTTPServer):
    """The server; `log` holds every request as (method, path, Range)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, Repository] = {}
        self.faults = Faults()
        self.log: list[tuple[str, str, str | None]] = []
        self.tokens: list[str | None] = []
        self.sent: Counter[str] = Counter()
        self.etag = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def cdn(self) -> str:
        """Where the content is: another host, as with the real hub, so that no token may be sent there."""
        return f"http://localhost:{self.server_address[1]}"

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        path, faults = unquote(urlsplit(self.path).path), self.server.faults
        self.server.log.append((self.command, path, self.headers.get("Range")))
        self.server.tokens.append(self.headers.get("Authorization"))
        if faults.unavailable > 0:
            faults.unavailable -= 1
            return self._empty(503)
        if faults.status:
            return self._empty(faults.status)
        if path.startswith("/cdn/"):
            return self._content(path.removeprefix("/cdn/"))
        if path == "/api/models":
            owner = parse_qs(urlsplit(self.path).query).get("author", [""])[0]
            return self._json([{"id": name} for name in self.server.repositories if name.startswith(f"{owner}/")])
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+?)(/refs|/revision/([^/]+)|/tree/([^/]+))?", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if api:
            self._api(api[1], (api[2] or "").split("/")[1:2], api[3] or api[4] or "main")
        elif file:
            self._resolve(file[1], file[2], file[3])
        else:
            self._empty(404)

    def _api(self, name: str, kind: list[str], revision: str) -> None:
        repository = self._repository(name)
        if not repository:
            return
        if kind == ["refs"]:
            refs = [
                {"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit}
                for name, commit in repository.revisions.items()
            ]
            return self._json({"branches": refs, "tags": [], "converts": []})
        commit = self._commit(repository, revision)
        if not commit:
            return
        if kind == ["tree"]:
            return self._json(
                [
                    {"type": "file", "path": path, "size": len(data), "oid": "0"}
                    for path, data in repository.files.items()
                ]
            )
        siblings = [
            {
                "rfilename": path,
                "size": len(data),
                "lfs": {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130},
            }
            for path, data in repository.files.items()
        ]
        told = {"cardData": repository.card, "gguf": repository.gguf}
        self._json({"id": name, "sha": commit, "siblings": siblings, **told})

    def _resolve(self, name: str, revision: str, path: str) -> None:
        repository = self._repository(name, gate=True)
        if not repository:
            return
        commit = self._commit(repository, revision)
        if not commit:
            return
        if path not in repository.files:
            return self._empty(404, {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"})
        data = repository.files[path]
        digest = (
            self.server.faults.told_hashes.get(path) or self.server.faults.told_hash or hashlib.sha256(data).hexdigest()
        )
        head = {"X-Repo-Commit": commit, "X-Linked-Size": str(len(data)), "X-Linked-Etag": f'"{digest}"'}
        if self.server.faults.plain:
            head = {}
        self._empty(302, head | {"Location": f"{self.server.cdn}/cdn/{name}/{path}"})

    def _content(self, path: str) -> None:
        owner, name, file = path.split("/", 2)
        data = self.server.repositories[f"{owner}/{name}"].files[file]
        start, end, wanted = 0, len(data), self.headers.get("Range")
        parts = bool(wanted) and not self.server.faults.no_ranges
        if wanted and parts:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), min(len(data), int(last) + 1) if last else len(data)
        self.send_response(206 if parts else 200)
        self.send_header("Content-Length", str(end - start + self.server.faults.more))
        if self.server.etag:
            self.send_header("ETag", self.server.etag)
        if parts:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        body = data[start:end] + bytes(self.server.faults.more)
        if self.server.faults.cuts:
            body = body[: self.server.faults.cuts.pop(0)]
            self.close_connection = True
        self.server.sent[file] += len(body)
        self.wfile.write(body)

    def _repository(self, name: str, gate: bool = False) -> Repository | None:
        repository = self.server.repositories.get(name)
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if not repository or (repository.private and not known):
            message = "Repository not found" if known else "Invalid username or password."
            self._empty(404 if known else 401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": message})
        elif repository.gated and gate and not known:
            status = 403 if self.headers.get("Authorization") else 401
            self._empty(status, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to this model is restricted."})
        else:
            return repository
        return None

    def _commit(self, repository: Repository, revision: str) -> str | None:
        commit = repository.revisions.get(revision) or (revision if revision in repository.revisions.values() else None)
        if not commit:
            self._empty(404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": f"Invalid rev id: {revision}"})
        return commit

    def _json(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _empty(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()


if __name__ == "__main__":  # serve a folder of org/repo/file, for trying things by hand
    hub = Hub()
    for found in Path(sys.argv[1]).rglob("*"):
        if found.is_file():
            owner, name, rest = found.relative_to(sys.argv[1]).as_posix().split("/", 2)
            hub.repositories.setdefault(f"{owner}/{name}", Repository({})).files[rest] = found.read_bytes()
    print(hub.url, flush=True)
    hub.serve_forever()
