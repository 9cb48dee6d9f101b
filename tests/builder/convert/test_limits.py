"""What llama.cpp passes over in a configuration is refused, or said, with the words of limits.toml."""

import json
from pathlib import Path
from typing import Any

import checkpoints
import pytest

from mkllm.builder.convert.checkpoint import Checkpoint, checkpoint, in_folder
from mkllm.builder.convert.limits import completed, limits, window
from mkllm.builder.convert.staging import staged
from mkllm.builder.errors import UnsupportedArchitecture
from mkllm.builder.model.reference import resolve
from mkllm.builder.progress import Output

LIMITS = [(limit, architecture) for limit in limits() for architecture in limit.architectures]


def look(folder: Path, **changes: Any) -> Checkpoint:
    checkpoints.write(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return checkpoint(in_folder(folder), folder.name, str(folder))


@pytest.mark.parametrize(("limit", "architecture"), LIMITS, ids=str)
def test_a_model_that_would_become_another_is_refused(limit: Any, architecture: str, tmp_path: Path) -> None:
    other = not limit.values[0] if limit.values and isinstance(limit.values[0], bool) else "other"
    with pytest.raises(UnsupportedArchitecture) as raised:
        look(tmp_path / "m", architectures=[architecture], **{limit.key: other})
    assert raised.value.exit_code == 50 and str(tmp_path / "m") in str(raised.value)
    assert f"{limit.why} ({limit.key} = {other!r} in its config.json); use another model" in str(raised.value)
    for value in limit.values:
        assert look(tmp_path / "m", architectures=[architecture], **{limit.key: value})
    assert look(tmp_path / "m", architectures=["Other"], **{limit.key: other})


def test_what_matters_not_is_not_looked_at(tmp_path: Path) -> None:
    falcon = {"architectures": ["FalconForCausalLM"], "parallel_attn": False}
    assert look(tmp_path / "m", new_decoder_architecture=True, **falcon)
    with pytest.raises(UnsupportedArchitecture):
        look(tmp_path / "m", new_decoder_architecture=False, **falcon)


IMPLIED = [
    ({"architectures": ["GPT2LMHeadModel"], "n_positions": 512}, {"n_ctx": 512}),
    ({"architectures": ["GPT2LMHeadModel"], "n_positions": 512, "n_ctx": 256}, {}),
    ({"architectures": ["GPT2LMHeadModel"]}, {}),
    ({"architectures": ["Cohere2ForCausalLM"]}, {"rotary_pct": 1.0}),
    ({"architectures": ["DeepseekV3ForCausalLM"]}, {"scoring_func": "sigmoid"}),
    ({"architectures": ["DeepseekV3ForCausalLM"], "scoring_func": "softmax"}, {}),
    ({"architectures": ["LlamaForCausalLM"], "n_positions": 512}, {}),
    ({}, {}),
]


@pytest.mark.parametrize(("config", "more"), IMPLIED)
def test_what_the_converter_misses_is_there(config: dict[str, Any], more: dict[str, Any], tmp_path: Path) -> None:
    assert completed(config) == {**config, **more}
    for name in ("config.json", "tokenizer_config.json"):
        (tmp_path / name).write_text(json.dumps(config))
    with staged({name: tmp_path / name for name in ("config.json", "tokenizer_config.json")}, "m") as folder:
        assert json.loads((folder / "config.json").read_text()) == {**config, **more}
        assert json.loads((folder / "tokenizer_config.json").read_text()) == config


@pytest.mark.parametrize(
    ("config", "size"),
    [
        ({"sliding_window": 4096, "max_position_embeddings": 32768}, 4096),
        ({"sliding_window": 4096}, 4096),
        ({"sliding_window": 4096, "max_position_embeddings": 4096}, None),
        ({"sliding_window": None, "max_position_embeddings": 32768}, None),
        ({"sliding_window": 0}, None),
        ({"sliding_window": "4096"}, None),
        ({"max_position_embeddings": 32768}, None),
        ({"sliding_window": 4096, "use_sliding_window": False}, None),
        ({"sliding_window": 4096, "use_sliding_window": True}, 4096),
    ],
)
def test_windows(config: dict[str, Any], size: int | None) -> None:
    assert window({"architectures": ["MistralForCausalLM"], **config}) == size
    assert window({"architectures": ["Gemma2ForCausalLM"], **config}) is None
    assert window(config) is None


def test_a_window_is_said(tmp_path: Path, converter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    look(tmp_path / "m", architectures=["MistralForCausalLM"], sliding_window=64)
    for _ in range(2):  # it is converted once, and said each time
        resolve(str(tmp_path / "m"), Output())
        assert "was made to see the last 64 tokens only, llama.cpp shows it all" in capsys.readouterr().err
    look(tmp_path / "m")
    resolve(str(tmp_path / "m"), Output())
    assert "was made to see" not in capsys.readouterr().err
