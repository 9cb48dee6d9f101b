"""`mkllm doctor` becomes an artifact in the cache; the small kit's says how it was called."""

import subprocess
import sys

import pytest

from mkllm.builder.commands.doctor import named


@pytest.mark.parametrize(
    "words,model,rest",
    [
        ((), "demo", ()),
        (("--json",), "demo", ("--json",)),
        (("hf:a/b", "--tune", "full"), "hf:a/b", ("--tune", "full")),
    ],
)
def test_the_model_may_be_left_out(words, model, rest):
    assert named(words) == (model, rest)


def test_it_becomes_the_artifact(kit_cache, small_gguf):
    words = ["doctor", str(small_gguf), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "mkllm.builder", "-q", *words], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "ran: doctor --json\n"), done.stderr
