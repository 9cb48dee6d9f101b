"""The server that is evaluated: the one at an address, or one that is started for it; asks it nothing but /health."""

import contextlib
import os
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from mkllm.builder.cached import cached_artifact
from mkllm.builder.errors import NoAnswer, PermissionFailure
from mkllm.builder.harness.server import Server, is_address
from mkllm.builder.progress import Output
from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.errors import NotAnArtifact

HOST = "127.0.0.1"
STOP_SECONDS = 15.0
WAIT_SECONDS = 0.05


@contextlib.contextmanager
def serving(model: str, context: int | None, key: str | None, output: Output) -> Iterator[Server]:
    """The server that `model` is, or one of the artifact that it is, or is built into.

    `context` is in tokens, None: as the artifact was made. Raises NoAnswer, or what building raises.
    """
    if is_address(model):
        with contextlib.closing(Server(model, key)) as server:
            yield server
        return
    artifact = Path(model) if _is_artifact(Path(model)) else cached_artifact(model, output)
    with _launched(artifact, context, output) as url, contextlib.closing(Server(url, key)) as server:
        yield server


def _is_artifact(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        open_artifact(path).close()
    except NotAnArtifact:
        return False
    return True


@contextlib.contextmanager
def _launched(artifact: Path, context: int | None, output: Output) -> Iterator[str]:
    port = _free_port()
    words = [str(artifact.absolute()), "serve", "--no-browser", "--host", HOST, "--port", str(port), "--only-port"]
    words += ["--ctx-size", str(context)] if context else []
    output.note(f"starting {artifact.name}")
    with tempfile.TemporaryFile() as said:
        with _started(words, said.fileno()) as process:
            url = f"http://{HOST}:{port}"
            while not _is_ready(url):
                if process.poll() is not None:
                    said.seek(0)
                    raise _ended(artifact, said.read().decode(errors="replace"), process.returncode)
                time.sleep(WAIT_SECONDS)
            yield url


@contextlib.contextmanager
def _started(words: list[str], output: int) -> Iterator[subprocess.Popen[bytes]]:
    """The program, which ends with the block. It is in a session of its own: Ctrl-C comes to this process only."""
    try:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=os.environ, start_new_session=True
        )
    except OSError as error:
        reason = (error.strerror or "?").lower()
        raise PermissionFailure(f"{words[0]!r} cannot be executed ({reason}): check its permissions") from None
    with process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


def _is_ready(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/health", timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:  # no connection yet, or 503
        return False


def _ended(artifact: Path, said: str, status: int) -> NoAnswer:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    why = lines[-1] if lines else "it says nothing"
    return NoAnswer(
        f"{str(artifact)!r} ended with status {status} before it served ({why.rstrip('.')}): run it by itself"
    )
