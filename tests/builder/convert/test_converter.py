"""The converter is run once for the same content; what it refuses is one sentence; nothing half-written stays."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import checkpoints
import pytest

from mkllm.builder import cache
from mkllm.builder.convert import model, recognise
from mkllm.builder.errors import BuilderFailure, NoSpace, UnusableModel
from mkllm.builder.model.reference import resolve
from mkllm.builder.progress import Lines, Output

QUIET = Output(True)


def playing(folder: Path, **play: object) -> Path:
    checkpoints.write(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "play": play}))
    return folder


def left() -> list[str]:
    """What a conversion left in the cache, but locks."""
    folder = cache.folder("converted")
    return [path.name for path in folder.iterdir() if path.suffix != ".lock"]


def test_converted_once(tmp_path: Path, converter: Path, small_gguf: Path) -> None:
    folder = checkpoints.write(tmp_path / "my-llama")
    (folder / "evil.py").write_text("")
    (folder / "LICENSE").write_text("Be kind.")
    source = resolve(str(folder), QUIET)
    assert source.path.read_bytes() == small_gguf.read_bytes()
    assert (source.name, source.origin.source, source.origin.file) == ("my-llama", "file", None)
    assert list(source.licences) == ["licenses/model/LICENSE.txt"]
    (call,) = map(json.loads, converter.read_text().splitlines())
    assert call["words"][:3] == ["-s", "-E", "-B"] and call["words"][3] == recognise.__file__
    assert call["words"][4].endswith("llama.cpp/convert_hf_to_gguf.py") and Path(call["words"][5]).name == "my-llama"
    assert call["words"][6:8] == ["--outtype", "f32"]
    assert call["files"] == ["config.json", "model.safetensors", "tokenizer.model"]  # no code
    shutil.copytree(folder, tmp_path / "other" / "my-llama")
    assert resolve(str(tmp_path / "other" / "my-llama"), QUIET).path == source.path
    assert len(converter.read_text().splitlines()) == 1
    assert [path for path in cache.folder("convert").iterdir() if path.name.startswith(".model-")] == []


def test_other_weights_are_another_file(tmp_path: Path, converter: Path) -> None:
    folder = checkpoints.write(tmp_path / "m")
    first = resolve(str(folder), QUIET).path
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    assert resolve(str(folder), QUIET).path != first


REFUSED = {
    "ERROR:hf-to-gguf:Model FooForCausalLM is not supported": (
        50,
        "architecture FooForCausalLM is none that llama.cpp",
    ),
    "ValueError: Failed to detect model architecture": (50, "its config.json names no architecture"),
    "ValueError: Can not map tensor 'model.odd.weight'": (50, "its tensor 'model.odd.weight' is none of its arch"),
    "NotImplementedError: Quant method is not yet supported: 'awq'": (50, "does not do this yet: Quant method is not"),
    "NotImplementedError: BPE pre-tokenizer was not recognized - update": (51, "splits text in a way that llama.cpp"),
    "FileNotFoundError: File not found: /tmp/x/tokenizer.model": (51, "files of its tokenizer are missing"),
    "OSError: Can't load tokenizer for '/tmp/x'. If you": (51, "files of its tokenizer are missing"),
    "NotImplementedError: BPE pre-tokenizer was not recognized: normalizer NFD": (
        51,
        r"its tokenizer has a rule that llama.cpp does not know \(normalizer NFD\): use a newer mkllm",
    ),
    "ValueError: Missing or incomplete model files: ['a.bin']": (52, r"files are missing \('a.bin'\)"),
    "RuntimeError: PytorchStreamReader failed reading file data/1": (53, "its weights cannot be read"),
    "_pickle.UnpicklingError: Weights only load failed. This file": (54, "PyTorch refuses to load its files"),
    "OSError: [Errno 28] No space left on device": (14, "no space left on the disk"),
    "KeyError: 'hidden_size'": (22, "llama.cpp's converter says \"KeyError: 'hidden_size'\""),
    "what nobody knows": (22, "llama.cpp's converter says 'what nobody knows'"),
}


@pytest.mark.parametrize(("said", "known"), REFUSED.items())
def test_what_it_refuses(tmp_path: Path, converter: Path, said: str, known: tuple[int, str]) -> None:
    folder = playing(tmp_path / "m", say=said, status=1)
    with pytest.raises(BuilderFailure, match=known[1]) as raised:
        resolve(str(folder), QUIET)
    assert raised.value.exit_code == known[0] and str(raised.value).startswith(f"{str(folder)!r} cannot be converted: ")
    assert "\n" not in str(raised.value) and left() == []


NOTES = {
    "gpt-2": ["'m' is unknown to llama.cpp, but it splits text by the rules of gpt-2"],
    "gpt-4o": [
        "rules of gpt-4o",
        "like other models with these rules it has other tokens in llama.cpp for combining m",
    ],
    "qwen2, not normalized": ["rules of qwen2", "llama.cpp for text that is not in Unicode's form NFC"],
    "nothing known": [],
    "qwen2, and so on": [],
}


@pytest.mark.parametrize(("said", "told"), NOTES.items())
def test_what_is_told_of_a_tokenizer(
    tmp_path: Path, converter: Path, capsys: pytest.CaptureFixture[str], said: str, told: list[str]
) -> None:
    playing(tmp_path / "m", say=recognise.TOLD + said)
    with contextlib.chdir(tmp_path):
        resolve("./m", Output())
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert len(notes) == len(told) and all(part in note for part, note in zip(told, notes, strict=True))


def test_other_rules_convert_anew(tmp_path: Path, converter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = checkpoints.write(tmp_path / "m")
    first = resolve(str(folder), QUIET).path
    monkeypatch.setattr(recognise, "TABLE", tmp_path / "splitting.toml")
    recognise.TABLE.write_text("rules = []\n")
    assert resolve(str(folder), QUIET).path != first


def test_killed_for_want_of_memory(tmp_path: Path, converter: Path) -> None:
    with pytest.raises(BuilderFailure, match="the system ended the converter, most likely for want of memory"):
        resolve(str(playing(tmp_path / "m", signal=9)), QUIET)
    assert left() == []


def test_half_a_file_is_none(tmp_path: Path, converter: Path) -> None:
    with pytest.raises(UnusableModel, match="is a damaged or truncated GGUF file"):
        resolve(str(playing(tmp_path / "m", bytes=200)), QUIET)
    assert left() == []


def test_no_room(tmp_path: Path, converter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=1, f_frsize=1))
    with pytest.raises(NoSpace, match=r"no space for '.*' as GGUF in '.*': .* kB needed, 1 B free") as raised:
        resolve(str(checkpoints.write(tmp_path / "m")), QUIET)
    assert raised.value.exit_code == 14 and converter.read_text() == ""


def test_progress(tmp_path: Path, converter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    monkeypatch.setattr(Lines, "advance", lambda self, count: steps.append(count) if "conv" in self._title else None)
    folder = checkpoints.write(tmp_path / "m")
    size = sum(entry.stat().st_size for entry in [folder / "model.safetensors"])
    resolve(str(folder), Output())
    assert steps[0] == 0 and 0.45 * size < sum(steps) <= 0.5 * size


def test_an_interrupt_leaves_nothing(tmp_path: Path, converter: Path) -> None:
    folder = playing(tmp_path / "m", seconds=60)
    code = (
        "import sys; from pathlib import Path; from mkllm.builder.convert import model\n"
        "from mkllm.builder.convert.environment import Environment\n"
        f"model.environment = lambda output: Environment(Path({str(tmp_path / 'environment')!r}))\n"
        "from mkllm.builder.cli import main; main(['build', sys.argv[1]])"
    )
    process = subprocess.Popen([sys.executable, "-c", code, folder], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not converter.read_text() and time.monotonic() < end:
        time.sleep(0.05)
    assert any(name.endswith(".partial") for name in left())
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130 and "interrupted" in said
    assert left() == [] and not list(cache.folder("convert").glob(".model-*"))


def test_the_environment_is_not_asked_for_what_is_there(
    tmp_path: Path, converter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkpoints.write(tmp_path / "m")
    first = resolve(str(folder), QUIET)
    monkeypatch.delattr(model, "environment")
    assert resolve(str(folder), QUIET).path == first.path
