"""The kit's own llama-cpp-python bindings, each time in a fresh Python."""

import subprocess
import sys
from pathlib import Path

import pytest
from bench import random_gguf

from mkllm.builder.kit.store import find_kit

PROLOGUE = """
import sys
sys.modules["numpy"] = None  # an import of numpy fails
from pathlib import Path
from mkllm.builder.kit import bindings
kit, model = Path(sys.argv[1]), sys.argv[2].encode()
llama = bindings.load(kit)
"""

DECODE = """
bindings.load_backend(kit, "x64")
params = llama.llama_model_default_params()
loaded = llama.llama_model_load_from_file(model, params)
vocab = llama.llama_model_get_vocab(loaded)
tokens = (llama.llama_token * 64)()
count = llama.llama_tokenize(vocab, b"hello there", 11, tokens, 64, True, False)
context = llama.llama_init_from_model(loaded, llama.llama_context_default_params())
print(count, llama.llama_decode(context, llama.llama_batch_get_one(tokens, count)))
"""


@pytest.fixture(scope="module")
def kit() -> Path:
    return find_kit("linux-x86_64").path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model") / "tiny.gguf"
    random_gguf.write(out, random_gguf.SHAPES["tiny"], "Q8_0")
    return out


def python(code: str, *args: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", PROLOGUE + code, *args], capture_output=True, text=True, timeout=120)


def test_model_computes_without_numpy(kit: Path, model: Path) -> None:
    done = python(DECODE, kit, model)
    assert done.returncode == 0, done.stderr
    count, result = map(int, done.stdout.split())
    assert count > 2 and result == 0


def test_quantizes(kit: Path, model: Path, tmp_path: Path) -> None:
    code = """
params = llama.llama_model_quantize_default_params()
params.ftype, params.allow_requantize = llama.LLAMA_FTYPE_MOSTLY_Q4_0, True
print(llama.llama_model_quantize(model, sys.argv[3].encode(), params))
"""
    done = python("bindings.load_backend(kit, 'x64')" + code, kit, model, tmp_path / "small.gguf")
    assert done.stdout.split() == ["0"], done.stderr
    assert (tmp_path / "small.gguf").stat().st_size < model.stat().st_size


def test_nothing_of_it_stays_behind(kit: Path, model: Path) -> None:
    done = python(
        "import os; print('llama_cpp' in sys.modules, 'LLAMA_CPP_LIB_PATH' in os.environ, sys.path[0])", kit, model
    )
    assert done.stdout.split()[:2] == ["False", "False"], done.stderr
    assert "bindings" not in done.stdout


def test_kit_without_libraries(tmp_path: Path, model: Path) -> None:
    done = python("", tmp_path, model)
    assert done.returncode == 1
    assert "NoKit: the bindings of the kit" in done.stderr and "build the kit again" in done.stderr
