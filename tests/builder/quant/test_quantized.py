"""What a quantized model keeps of the one that it was made of."""

from dataclasses import replace
from pathlib import Path

import pytest

from mkllm.builder.kit.kit import Kit
from mkllm.builder.model.reference import resolve
from mkllm.builder.progress import Output
from mkllm.builder.quant import quantize
from mkllm.builder.quant.quantize import Plan, quantized
from mkllm.builder.quant.types import parse_type

QUIET = Output(quiet=True)


def test_the_licence_stays(small_kit: Kit, small_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, licence = parse_type("Q4_0"), tmp_path / "LICENSE"
    monkeypatch.setattr(quantize, "plans", lambda *_: [Plan(kind, small_gguf.stat().st_size, False)])
    monkeypatch.setattr(quantize, "make", lambda *_: small_gguf)
    source = replace(resolve(str(small_gguf), QUIET), licences={"licenses/model/LICENSE.txt": licence})
    made = quantized(small_kit, source, kind, None, QUIET)
    assert made.licences == source.licences and made.name == "small-Q4_0"
