"""A model hub on this machine, and huggingface_hub pointed at it."""

import importlib.util
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import _http, close_session

from mkllm.builder.model import download


@pytest.fixture(scope="session")
def hub_server() -> ModuleType:
    """The module hub_server.py."""
    spec = importlib.util.spec_from_file_location("hub_server", Path(__file__).with_name("hub_server.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["hub_server"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def hub(hub_server: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_gguf: Path) -> Iterator[Any]:
    """A hub that has `org/model` with some files; tests change `hub.repositories` and `hub.faults`."""
    server = hub_server.Hub()
    files = {"small-Q8_0.gguf": small_gguf.read_bytes(), "sub/other.gguf": b"GGUF" + bytes(500_000), "README.md": b"#"}
    server.repositories["org/model"] = hub_server.Repository(files)
    server.start()
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": server.url}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "hf" / "token"))
    monkeypatch.setattr(download, "FIRST_PAUSE", 0.01)
    hurried = SimpleNamespace(**{**vars(time), "sleep": lambda _: None})
    monkeypatch.setattr(_http, "time", hurried)  # which waits half a minute for a hub that is not there
    yield server
    close_session()
    server.shutdown()
    server.server_close()
