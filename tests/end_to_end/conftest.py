"""The real thing, made once a run: the demo model built with the real kit, and a server of it."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from served import Serve, Server
from served import mkllm as mkllm
from served import serve as serve

from mkllm.builder.kit import toolchain
from mkllm.builder.kit.target import TARGETS
from mkllm.builder.process import run

Compile = Callable[..., Path]


@pytest.fixture(scope="session")
def demo(mkllm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo artifact, built with `mkllm build demo`."""
    target = tmp_path_factory.mktemp("artifact") / "demo"
    done = subprocess.run(
        [mkllm, "build", "demo", "-o", target], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="session")
def demo_server(demo: Path, serve: Serve) -> Iterator[Server]:
    """One server of the demo artifact for all tests that only ask it things."""
    with serve(demo) as server:
        yield server


@pytest.fixture(scope="session")
def embedding_server(demo: Path, serve: Serve) -> Iterator[Server]:
    """One server of the demo artifact's embeddings, the mean of what the model makes of a text's tokens."""
    with serve(demo, "--embeddings", "--pooling", "mean") as server:
        yield server


@pytest.fixture(scope="session")
def compile_c(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """`compile_c(source, name, *flags)`: what the kit's own compiler makes of a C file, for the oldest x86-64, or the
    oldest processor of another `system`."""

    def compiled(source: Path, name: str, *flags: str | Path, system: str = "linux-x86_64") -> Path:
        target = tmp_path_factory.mktemp("compiled") / name
        words = [toolchain.find_zig(), "cc", "-target", TARGETS[system].zig, "-O1", "-Wall", "-Werror"]
        run([*words, *flags, source, "-o", target], env=toolchain.environment())
        return target

    return compiled
