"""What other programs hold is found, listed, and used in place of a download."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from mkllm.builder.model import catalog, ollama, promise, stores
from mkllm.builder.model.hub import fetch
from mkllm.builder.model.hub_reference import parse
from mkllm.builder.model.reference import locate, resolve
from mkllm.builder.progress import Output

QUIET = Output(True)
FILE = "small-Q8_0.gguf"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: Any) -> Path:
    """An empty home, and nothing that points elsewhere."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("MKLLM_CACHE", str(tmp_path / "cache"))
    for name in ("OLLAMA_MODELS", "LLAMA_CACHE", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ollama, "SERVICE", ())
    return home


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


PLACES = [
    (".lmstudio/models/org/model/m-Q8_0.gguf", "LM Studio"),
    (".cache/lm-studio/models/org/model/m-Q8_0.gguf", "LM Studio"),
    (".local/share/nomic.ai/GPT4All/m-Q8_0.gguf", "GPT4All"),
    (".cache/gpt4all/m-Q8_0.gguf", "GPT4All"),
    (".cache/llama.cpp/org_model_m-Q8_0.gguf", "llama.cpp"),
]


@pytest.mark.parametrize(("place", "program"), PLACES)
def test_what_a_program_holds_is_listed_and_can_be_built(
    place: str, program: str, home: Path, small_gguf: Path
) -> None:
    path = put(home / place, small_gguf.read_bytes())
    put(path.with_name("mmproj-F16.gguf"), b"GGUF")
    (found,) = stores.held()
    assert (found.program, found.size, found.quantization) == (program, path.stat().st_size, "Q8_0")
    assert locate(found.reference, QUIET).path == path


@pytest.mark.parametrize(("place", "program"), PLACES)
def test_what_is_here_is_not_downloaded(
    place: str, program: str, home: Path, hub: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    data = hub.repositories["org/model"].files[FILE]
    other = put(home / place, bytes(len(data)))  # as long, but another file
    fetched = fetch(parse(f"hf:org/model/{FILE}@v1.0"), QUIET)
    assert fetched.path != other and hub.sent[FILE] == len(data)
    path = put(other.with_name("same.gguf"), data)
    hub.sent.clear()
    fetched = fetch(parse(f"hf:org/model/{FILE}"), Output())
    assert fetched.path == path and hub.sent[FILE] == 0
    assert f"using {str(path)!r}, which is the same file: nothing is downloaded" in capsys.readouterr().err
    assert (
        fetched.sha256 == hashlib.sha256(data).hexdigest() and fetched.revision == "0123456789abcdef" * 2 + "01234567"
    )


@pytest.mark.parametrize(("place", "program"), PLACES)
@pytest.mark.parametrize("number", [1, 2])
def test_parts_may_lie_in_several_stores(
    place: str, program: str, number: int, home: Path, hub: Any, gguf_bytes: Any
) -> None:
    files = hub.repositories["org/model"].files
    for part, name in enumerate(("one", "two")):
        keys = {"split__no": part, "split__count": 2, "split__tensors__count": 2} | ({"keys": {}} if part else {})
        files[f"q/big-{part + 1:05}-of-00002.gguf"] = gguf_bytes(tensors={name: ((64, 3), 8)}, **keys)
    names = sorted(name for name in files if name.startswith("q/big"))
    there = put((home / place).with_name("called otherwise.gguf"), files[names[number - 1]])
    for wanted in names * 2:
        source = resolve(f"hf:org/model/{wanted}", QUIET)
        assert source.model.parameters == 384 and source.name == "big" and len(source.weights.files) == 2
        assert there.samefile(sorted(source.weights.files)[number - 1])
        assert len(source.origin.promised) == 2 and hub.sent[there.name] == 0
        promise.check(source.origin.promised, QUIET)
    assert hub.sent[names[number - 1]] == 0
    there.unlink()  # is downloaded then
    assert resolve(f"hf:org/model/{names[0]}", QUIET).model.parameters == 384
    assert hub.sent[names[number - 1]] == len(files[names[number - 1]])


def test_a_blob_of_ollama_is_found_by_its_hash(home: Path, hub: Any) -> None:
    data = hub.repositories["org/model"].files[FILE]
    root = home / ".ollama" / "models"
    (root / "manifests").mkdir(parents=True)
    path = put(root / "blobs" / f"sha256-{hashlib.sha256(data).hexdigest()}", data)
    assert fetch(parse(f"hf:org/model/{FILE}"), QUIET).path == path and hub.sent[FILE] == 0
    path.write_bytes(data[:-1])
    assert fetch(parse(f"hf:org/model/{FILE}"), QUIET).path != path and hub.sent[FILE] == len(data)


def test_the_hub_cache_is_listed(home: Path, hub: Any) -> None:
    fetch(parse(f"hf:org/model/{FILE}"), QUIET)
    (found,) = stores.held()
    assert (found.program, found.reference) == ("hub cache", f"hf:org/model/{FILE}")


def test_lm_studio_may_live_elsewhere(home: Path, tmp_path: Path, small_gguf: Path) -> None:
    put(home / ".lmstudio-home-pointer", str(tmp_path / "elsewhere").encode())
    put(tmp_path / "elsewhere/models/o/r/a.Q4_0.gguf", small_gguf.read_bytes())
    assert [(found.program, found.quantization) for found in stores.held()] == [("LM Studio", "Q4_0")]


def test_llama_cpp_says_where_a_file_is_from(home: Path, tmp_path: Path, monkeypatch: Any, small_gguf: Path) -> None:
    monkeypatch.setenv("LLAMA_CACHE", str(tmp_path / "llama"))
    put(tmp_path / "llama/org_model_sub_m-Q8_0.gguf", small_gguf.read_bytes())
    manifest = {"ggufFile": {"rfilename": "sub/m-Q8_0.gguf", "size": 1}}
    put(tmp_path / "llama/manifest=org=model=latest.json", json.dumps(manifest).encode())
    put(tmp_path / "llama/manifest=bad=one=x.json", b"{")
    assert [found.reference for found in stores.held()] == ["hf:org/model/sub/m-Q8_0.gguf"]


def test_newer_llama_cpp_keeps_files_as_the_hub_does(
    home: Path, hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "llama"))
    path = fetch(parse(f"hf:org/model/{FILE}"), QUIET).path
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "other"))
    monkeypatch.setenv("LLAMA_CACHE", str(tmp_path / "llama"))
    (found,) = stores.held()
    assert (found.program, found.path) == ("llama.cpp", path)
    hub.sent.clear()
    assert fetch(parse(f"hf:org/model/{FILE}"), QUIET).path.samefile(path) and hub.sent[FILE] == 0


def test_offline_a_short_name_is_found_by_its_hash(
    home: Path, hub: Any, monkeypatch: pytest.MonkeyPatch, small_gguf: Path
) -> None:
    data = small_gguf.read_bytes()
    path = put(home / ".lmstudio/models/o/r/small.Q8_0.gguf", data)
    file = catalog.File("small.Q8_0.gguf", len(data), True, hashlib.sha256(data).hexdigest(), ("x",))
    entry = catalog.Entry(
        "small", (), "Small", "x", "chat", "o/r", None, 1, "Q8_0", None, None, None, None, {"Q8_0": file}
    )
    monkeypatch.setattr(catalog, "entries", lambda: (entry,))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    place = locate("small", QUIET)
    assert (place.path, place.name, place.origin.repository) == (path, "small", "o/r")
