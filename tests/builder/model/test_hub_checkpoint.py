"""A repository without GGUF files: what is to be converted is fetched, of one commit, and checked."""

from pathlib import Path
from typing import Any

import checkpoints
import pytest

from mkllm.builder.convert import model
from mkllm.builder.errors import MissingPart, ModelNotFound, WrongHash
from mkllm.builder.model.reference import locate, resolve
from mkllm.builder.progress import Output

QUIET = Output(True)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def files(hub: Any, hub_server: Any, tmp_path: Path) -> dict[str, bytes]:
    """Those of `org/raw`."""
    folder = checkpoints.write(tmp_path / "m", files=2)
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    found |= {"modeling.py": b"raise", "LICENSE": b"Be kind.", "consolidated.safetensors": b"x", "README.md": b"#"}
    hub.repositories["org/raw"] = hub_server.Repository(found)
    return found


def test_what_converting_takes_is_fetched(hub: Any, files: dict[str, bytes]) -> None:
    place = locate("hf:org/raw", QUIET)
    assert place.checkpoint and (place.name, place.origin.revision, place.origin.file) == ("raw", COMMIT, None)
    wanted = {"config.json", "tokenizer.model", "model.safetensors.index.json", "README.md"}
    wanted |= {f"model-{number:05}-of-00002.safetensors" for number in (1, 2)}
    assert {name: path.read_bytes() for name, path in place.checkpoint.files.items()} == {
        name: files[name] for name in wanted
    }
    assert list(place.licences) == ["LICENSE"] and "modeling.py" not in hub.sent
    assert len(place.origin.promised) == len(wanted)
    sent = dict(hub.sent)
    assert locate(f"hf:org/raw@{COMMIT}", QUIET).checkpoint and dict(hub.sent) == sent


def test_it_is_converted(
    hub: Any, files: dict[str, bytes], small_gguf: Path, kit_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def convert(environment: object, script: str, words: object, told: str, total: int, place: Path, _: object) -> None:
        place.write_bytes(small_gguf.read_bytes())

    monkeypatch.setattr(model, "environment", lambda output: None)
    monkeypatch.setattr(model, "convert", convert)
    source = resolve("hf:org/raw", QUIET)
    assert source.path.parent.name == "converted" and source.origin.promised == {}
    assert (source.origin.source, source.origin.repository, source.name) == ("hf", "org/raw", "raw")


def test_what_was_changed_in_the_cache_is_not_converted(
    hub: Any, files: dict[str, bytes], kit_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = locate("hf:org/raw", QUIET)
    assert place.checkpoint
    file = place.checkpoint.files["model-00001-of-00002.safetensors"]
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.resolve().write_bytes(data)
    with pytest.raises(WrongHash, match="the hub promised"):
        resolve("hf:org/raw", QUIET)


def test_offline(hub: Any, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    first = locate("hf:org/raw", QUIET)
    hub.faults.unavailable = 10**6
    assert first.checkpoint
    again = locate("hf:org/raw", QUIET)
    assert again.checkpoint and again.checkpoint.files == first.checkpoint.files


def test_a_quantization_is_made_after_converting(hub: Any, files: dict[str, bytes]) -> None:
    with pytest.raises(ModelNotFound, match="no GGUF files.*converted: name 'hf:org/raw' and give --quant Q4_K_M"):
        locate("hf:org/raw:q4_k_m", QUIET)


def test_what_the_repository_lacks(hub: Any, files: dict[str, bytes]) -> None:
    del files["model-00002-of-00002.safetensors"]
    with pytest.raises(MissingPart, match="'hf:org/raw' lacks 'model-00002-of-00002.safetensors'"):
        locate("hf:org/raw", QUIET)
    del files["config.json"]
    with pytest.raises(MissingPart, match="'hf:org/raw' has no config.json"):
        locate("hf:org/raw", QUIET)


def test_a_repository_without_a_model(hub: Any, hub_server: Any) -> None:
    hub.repositories["org/none"] = hub_server.Repository({"README.md": b"#"})
    with pytest.raises(ModelNotFound, match="has no GGUF files: name another repository"):
        locate("hf:org/none", QUIET)
