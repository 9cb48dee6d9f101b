"""What is refused of `--quant`, `--fit`, `--imatrix` and `mkllm eval` before anything is computed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mkllm.builder.cli import main

Refuse = Callable[..., str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], kit_cache: Path, tmp_path: Path, small_gguf: Path) -> Refuse:
    """The sentence that the command ends with, with that exit code."""

    def refusing(code: int, command: str, *words: str | Path) -> str:
        target = ["-o", str(tmp_path / "out")] if command == "build" else []
        with pytest.raises(SystemExit) as ended:
            main([command, str(small_gguf), *target, *map(str, words)])
        told = capsys.readouterr()
        assert ended.value.code == code, told.err
        assert told.err.startswith("mkllm: ") and told.err.count("\n") == 1 and told.out == ""
        assert not (tmp_path / "out").exists()
        return told.err

    return refusing


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["--quant", "Q4"],
            "'Q4' is no type that llama.cpp quantizes to: did you mean Q4_K?",
        ),
        (["--quant", "Q4_0", "--fit", "6GB"], "--quant names a type and --fit chooses one: give one of them"),
        (["--imatrix", "text.txt"], "--imatrix is for quantizing: give --quant or --fit too"),
        (
            ["--quant", "Q4_0", "--fit-one-file"],
            "it takes a quantization that there is, and --quant and --fit make one",
        ),
        (["--fit", "6"], "Invalid value for --fit: '6' is neither a size such as 6GB nor a device"),
        (["--fit", "pi5", "--for", "pi4"], "--for names pi4-4gb and --fit pi5-4gb: name one device, or a size"),
        (["--fit", "9" * 400 + ".5GB"], "is neither a size such as 6GB nor a device"),
        (["--fit", "pi6"], "there is no device 'pi6': did you mean 'pi5'?"),
    ],
)
def test_wrong_usage_of_build(refused: Refuse, words: list[str], sentence: str) -> None:
    assert sentence in refused(2, "build", *words)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "give either --text FILE, for perplexity, or --tasks NAMES, for scores"),
        (["--text", "t.txt", "--quant", "Q4_0,Q9"], "Invalid value for --quant: 'Q9' is no type"),
        (["--text", "t.txt", "--imatrix", "t.txt"], "--imatrix is for quantizing: give --quant too"),
        (["--text", "t.txt", "--plot", "t.svg"], "--plot draws versions of MODEL: give --quant, or other models"),
        (["--text", "t.txt", "--ctx-size", "64"], "64 is not in the range 128<=x<="),
    ],
)
def test_wrong_usage_of_eval(refused: Refuse, words: list[str], sentence: str) -> None:
    assert sentence in refused(2, "eval", *words)


def test_a_kit_of_another_system_quantizes_nothing(refused: Refuse) -> None:
    """The small kit has no bindings, as kits for other systems."""
    assert "no kit on this machine runs here" in refused(20, "build", "--quant", "Q4_0")
    assert "no kit on this machine runs here" in refused(20, "eval", "--text", "t.txt")
