"""Which projector accompanies a model: by names in a folder, and on the hub of the same commit."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from huggingface_hub import constants

from mkllm.builder import bundle
from mkllm.builder.commands.pull import pull
from mkllm.builder.model import hub_cache
from mkllm.builder.model.projectors import best, in_folder, is_one
from mkllm.builder.model.reference import resolve
from mkllm.builder.progress import Output

QUIET = Output(True)
FILE, EYES = "small-Q8_0.gguf", "mmproj-model-f16.gguf"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["a/mmproj-BF16.gguf", "a/mmproj-F32.gguf", "a/mmproj-F16.gguf"], "a/mmproj-F16.gguf"),
        (["mmproj-F32.gguf", "mmproj-BF16.gguf"], "mmproj-BF16.gguf"),
        (["model.mmproj-Q8_0.gguf", "mmproj-F32.gguf"], "model.mmproj-Q8_0.gguf"),
        (["mmproj-b.gguf", "mmproj-a.gguf"], "mmproj-a.gguf"),
        (["model-F16.gguf", "mmproj.txt", "imatrix.gguf"], None),
    ],
)
def test_the_best_is_chosen(names: list[str], wanted: str | None) -> None:
    assert best(names) == wanted


def test_only_the_folder_s_own_model_s(tmp_path: Path) -> None:
    for name in ("m-Q4_K_M.gguf", "m-Q8_0.gguf", EYES):
        (tmp_path / name).write_bytes(b"GGUF")
    found = in_folder(tmp_path / "m-Q8_0.gguf")
    assert found and found.path == tmp_path / EYES and found.by_itself
    (tmp_path / "another.gguf").write_bytes(b"GGUF")
    assert in_folder(tmp_path / "m-Q8_0.gguf") is None
    assert in_folder(tmp_path / "nowhere" / "m.gguf") is None


def test_one_is_known_by_its_header(tmp_path: Path, gguf_bytes: Any, small_gguf: Path) -> None:
    (tmp_path / "x").write_bytes(gguf_bytes({"general.architecture": "clip"}, {"mm.0.weight": ((64, 8), 0)}))
    assert is_one(tmp_path / "x") and not is_one(small_gguf) and not is_one(tmp_path / "nothing")


def test_it_is_fetched_with_its_model(hub: Any) -> None:
    files = hub.repositories["org/model"].files
    files |= {EYES: b"GGUF eyes", "mmproj-model-f32.gguf": b"GGUF large", "sub/mmproj-F16.gguf": b"GGUF others"}
    assert resolve(f"hf:org/model/{FILE}", QUIET).projector is None and EYES not in hub.sent
    found = resolve(f"hf:org/model/{FILE}", QUIET, projector=True).projector
    assert found and found.file == found.told == EYES and found.path.read_bytes() == b"GGUF eyes"
    assert found.path.parent == hub_cache.folder("org/model") / "snapshots" / COMMIT
    assert hub.sent["mmproj-model-f32.gguf"] == 0
    hub.log.clear()
    again = resolve(f"hf:org/model/{FILE}@{COMMIT}", QUIET, projector=True).projector
    assert again and again.path == found.path and hub.log == []


def test_it_is_pulled_and_carried_along(hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repositories["org/model"].files[EYES] = b"GGUF eyes"
    reference = f"hf:org/model/{FILE}"
    done = CliRunner().invoke(pull, [reference, "--json"])
    assert done.exit_code == 0 and json.loads(done.stdout)["projector"].endswith(f"/{EYES}")
    source = resolve(reference, QUIET, projector=True)
    command = bundle._model(reference, source, tmp_path / "bundle", QUIET)
    assert command.startswith(f"HF_HUB_CACHE=models mkllm-venv/bin/mkllm build hf:org/model/{FILE}@{COMMIT}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "bundle" / "models"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.log.clear()
    found = resolve(f"{reference}@{COMMIT}", QUIET, projector=True).projector
    assert found and tmp_path / "bundle" in found.path.parents and found.path.read_bytes() == b"GGUF eyes"
    assert hub.log == []


def test_that_of_a_file_is_carried_under_its_name(tmp_path: Path, small_gguf: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "m.gguf").write_bytes(small_gguf.read_bytes())
    (tmp_path / "here" / EYES).write_bytes(b"GGUF eyes")
    source = resolve(str(tmp_path / "here" / "m.gguf"), QUIET, projector=True)
    (tmp_path / "bundle").mkdir()
    assert bundle._model("m", source, tmp_path / "bundle", QUIET).endswith("mkllm build models/m.gguf --offline")
    found = in_folder(tmp_path / "bundle" / "models" / "m.gguf")
    assert found and found.path.read_bytes() == b"GGUF eyes"


def test_that_there_is_none_is_remembered(hub: Any, capsys: pytest.CaptureFixture[str]) -> None:
    reference = f"hf:org/model/{FILE}@{COMMIT}"
    assert resolve(reference, QUIET, projector=True).projector is None
    hub.log.clear()
    assert resolve(reference, QUIET, projector=True).projector is None and hub.log == []


def test_where_nobody_can_be_asked(hub: Any, capsys: pytest.CaptureFixture[str]) -> None:
    reference = f"hf:org/model/{FILE}@{COMMIT}"
    resolve(reference, QUIET)
    hub.faults.unavailable = 10**6
    assert resolve(reference, Output(), projector=True).projector is None
    assert "note: whether 'org/model' has a projector could not be looked up: the hub at" in capsys.readouterr().err
