"""LoRA adapters: converted once, members of the file, refused when they are none or another model's."""

import json
from pathlib import Path
from typing import Any

import checkpoints
import pytest

from mkllm.builder import adapter
from mkllm.builder.adapter import adapters
from mkllm.builder.build import Request, build
from mkllm.builder.errors import DamagedCheckpoint, ModelNotFound, UnusableAdapter
from mkllm.builder.progress import Output
from mkllm.runtime.artifact.manifest import Defaults
from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.artifact.verify import verify

QUIET = Output(True)
KEYS = {"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora"}
TENSORS = {"blk.0.attn_q.weight.lora_a": ((64, 4), 0), "blk.0.attn_q.weight.lora_b": ((4, 64), 0)}


@pytest.fixture
def gguf(tmp_path: Path, gguf_bytes: Any) -> Path:
    path = tmp_path / "my adapter.gguf"
    path.write_bytes(gguf_bytes(KEYS, TENSORS))
    return path


@pytest.fixture
def calls(kit_cache: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What the converter, which plays, was called with: the names of files in the folders, and other words."""
    found: list[list[str]] = []

    def convert(environment: object, script: str, words: Any, told: str, total: int, place: Path, _: object) -> None:
        files = [",".join(sorted(f.name for f in word.iterdir())) if isinstance(word, Path) else word for word in words]
        found.append([script, *files])
        place.write_bytes(gguf.read_bytes())

    monkeypatch.setattr(adapter, "environment", lambda output: None)
    monkeypatch.setattr(adapter, "convert", convert)
    return found


def test_a_gguf_is_taken_as_it_is(gguf: Path) -> None:
    assert adapters([gguf, gguf], "m", "llama", QUIET) == {
        "adapters/00-my_adapter.gguf": gguf, "adapters/01-my_adapter.gguf": gguf,
    }  # fmt: skip


def test_a_folder_is_converted_once(tmp_path: Path, gguf: Path, calls: list[list[str]]) -> None:
    model, folder = checkpoints.write(tmp_path / "model"), checkpoints.write_adapter(tmp_path / "tuned")
    (name, file), *rest = adapters([folder], str(model), "llama", QUIET).items()
    assert not rest and name == "adapters/00-tuned.gguf" and file.read_bytes() == gguf.read_bytes()
    adapters([folder], str(model), "llama", QUIET)
    files = "adapter_config.json,adapter_model.safetensors"
    assert calls == [["convert_lora_to_gguf.py", files, "--base", "config.json"]]


def test_the_model_that_an_adapter_names(tmp_path: Path, calls: list[list[str]]) -> None:
    model, folder = checkpoints.write(tmp_path / "model"), checkpoints.write_adapter(tmp_path / "tuned")
    with pytest.raises(UnusableAdapter, match="converted by the config.json of its model, 'org/base': name as MODEL"):
        adapters([folder], "demo", "llama", QUIET)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(model)}))
    assert adapters([folder], "demo", "llama", QUIET) and len(calls) == 1


def test_what_is_no_adapter(tmp_path: Path, gguf: Path, gguf_bytes: Any, small_gguf: Path) -> None:
    with pytest.raises(UnusableAdapter, match="is no LoRA adapter") as raised:
        adapters([small_gguf], "m", "llama", QUIET)
    assert raised.value.exit_code == 55
    with pytest.raises(UnusableAdapter, match="is an adapter for the architecture 'llama', the model has 'qwen2'"):
        adapters([gguf], "m", "qwen2", QUIET)
    with pytest.raises(ModelNotFound, match="there is no file"):
        adapters([tmp_path / "none"], "m", "llama", QUIET)


def test_folders_that_are_none(tmp_path: Path) -> None:
    folder = checkpoints.write_adapter(tmp_path / "tuned")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "IA3"}))
    with pytest.raises(UnusableAdapter, match="is an adapter of the kind 'IA3': name one of LORA"):
        adapters([folder], str(tmp_path), "llama", QUIET)
    for name, value in {"use_rslora": True, "alpha_pattern": {"q_proj": 8}, "use_dora": True}.items():
        (folder / "adapter_config.json").write_text(json.dumps({name: value}))
        with pytest.raises(UnusableAdapter, match=f"was trained with {name}, which llama.cpp's converter passes over"):
            adapters([folder], str(tmp_path), "llama", QUIET)
    (folder / "adapter_config.json").write_text("{")
    with pytest.raises(DamagedCheckpoint, match="it is not JSON"):
        adapters([folder], str(tmp_path), "llama", QUIET)
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(UnusableAdapter, match="has no adapter_model.safetensors: name a folder as PEFT saves it"):
        adapters([folder], str(tmp_path), "llama", QUIET)


def test_it_is_in_the_artifact(tmp_path: Path, gguf: Path, small_gguf: Path, kit_cache: Path) -> None:
    request = Request(str(small_gguf), tmp_path / "out", None, None, Defaults(), False, adapters=(gguf,))
    build(request, QUIET)
    with open_artifact(tmp_path / "out") as artifact:
        (member,) = artifact.manifest.adapters
        assert artifact.read(member.name) == gguf.read_bytes() and list(verify(artifact)) == []
