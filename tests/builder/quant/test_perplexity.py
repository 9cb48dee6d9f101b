"""What is made of the worker's answers; that they are right is for tests/end_to_end."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mkllm.builder.kit.kit import Kit
from mkllm.builder.quant import perplexity
from mkllm.builder.quant.perplexity import Course, Estimate, compared, estimate, original

COURSE = Course(Path("text.txt"), 1000, 256, 2, 2048)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What was asked of a worker that plays."""
    requests: list[dict[str, Any]] = []

    def ask(kit: Kit, command: str, what: str, **values: Any) -> Iterator[dict[str, Any]]:
        requests.append({"command": command, **values})
        for chunk in (1, 2):
            kld = [0.01 * chunk, 0.03 * chunk] if values["compare"] else []
            yield {"chunk": chunk, "nll": [1.0, 3.0], "kld": kld, "same": [True, chunk == 1] if kld else []}

    monkeypatch.setattr(perplexity, "ask", ask)
    return requests


def test_perplexity_and_its_error(told: list[dict[str, Any]], small_kit: Kit) -> None:
    steps: list[int] = []
    found = original(small_kit, Path("/m.gguf"), COURSE, Path("/logits"), steps.append)
    assert found.value == pytest.approx(math.exp(2))
    assert found.error == pytest.approx(math.exp(2) * math.sqrt(4 / 3 / 4))
    assert steps == [500, 500]
    (asked,) = told
    assert (asked["command"], asked["model"], asked["logits"]) == ("predict", Path("/m.gguf"), Path("/logits"))
    assert (asked["context"], asked["chunks"], asked["vocabulary"], asked["compare"]) == (256, 2, 2048, False)


def test_divergence(told: list[dict[str, Any]], small_kit: Kit) -> None:
    _, far = compared(small_kit, Path("/m.gguf"), COURSE, Path("/logits"), lambda count: None)
    assert far.mean.value == pytest.approx(0.03) and far.worst == pytest.approx(0.03)
    assert far.same_top.value == 0.75
    assert told[0]["compare"] is True


def test_one_value_has_no_spread() -> None:
    assert estimate([2.0]) == Estimate(2.0, 0.0)


def test_size_of_the_predictions() -> None:
    assert COURSE.positions == 2 * 127
    assert COURSE.predictions_size == 2 * 127 * 2048 * 4
