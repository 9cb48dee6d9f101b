"""The converter is given nothing that names code, in whatever file and at whatever level it is."""

import json
from pathlib import Path

import pytest

from mkllm.builder.convert.staging import staged
from mkllm.builder.errors import DamagedCheckpoint

EVIL = {"AutoTokenizer": ["/tmp/evil--evil.Tok", None], "AutoConfig": "org/repo--evil.Config"}
FILES = (
    "config.json",
    "tokenizer_config.json",
    "processor_config.json",
    "preprocessor_config.json",
    "generation_config.json",
    "adapter_config.json",
    "tokenizer.json",
    "1_Pooling/config.json",
)


def texts(folder: Path, files: dict[str, bytes]) -> dict[str, str]:
    """What the converter gets of these files."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    with staged({name: folder / name for name in files}, "m") as place:
        assert place.name == "m"
        return {path.relative_to(place).as_posix(): path.read_text() for path in place.rglob("*") if path.is_file()}


def test_nothing_names_code(tmp_path: Path, kit_cache: Path) -> None:
    settings = {"auto_map": EVIL, "a": 1.5, "vocab": {"\ud800 ü": 2}, "deep": [{"text_config": {"auto_map": EVIL}}]}
    found = texts(tmp_path, dict.fromkeys(FILES, json.dumps(settings).encode()))
    assert set(found) == set(FILES)
    for text in found.values():
        assert json.loads(text) == {"a": 1.5, "vocab": {"\ud800 ü": 2}, "deep": [{"text_config": {}}]}


@pytest.mark.parametrize(
    "text",
    [
        b'{"auto\\u005fmap": {"AutoTokenizer": ["/tmp--evil.Tok", null]}}',
        b'{"attribute_map": {"x": "auto_map"}, "attribute_map": {"y": "auto_map"}}',
        '{"auto_map": {"AutoTokenizer": ["/tmp--evil.Tok", null]}}'.encode("utf-16"),
    ],
)
def test_whatever_way_it_is_written(tmp_path: Path, kit_cache: Path, text: bytes) -> None:
    assert texts(tmp_path, {"tokenizer_config.json": text}) == {"tokenizer_config.json": "{}"}


def test_what_is_no_json(tmp_path: Path, kit_cache: Path) -> None:
    for data in (b"{", b"[" * 100_000, b"\xff"):
        assert texts(tmp_path, {"trainer_log.json": data, "merges.txt": b"a b"}) == {"merges.txt": "a b"}
        for name in ("config.json", "generation_config.json", "tokenizer.json", "vocab.json"):
            with pytest.raises(DamagedCheckpoint, match=f"{name}' cannot be read .it is not JSON, or too large"):
                texts(tmp_path, {name: data})


def test_weights_are_not_copied(tmp_path: Path, kit_cache: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"x")
    with staged({file.name: file}, "m") as place:
        assert (place / file.name).readlink() == file
