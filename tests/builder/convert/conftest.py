"""A converter that plays: it does what the model's config.json says under `play`."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mkllm.builder.convert import model
from mkllm.builder.convert.environment import Environment

PLAYER = """#!{python}
import json, os, pathlib, shutil, sys, time
words = sys.argv[1:]
folder = pathlib.Path(next(word for word in words[5:] if not word.startswith("-")))
play = json.loads((folder / "config.json").read_text()).get("play", {{}})
with open({log!r}, "a") as log:
    print(json.dumps({{"words": words, "files": sorted(p.name for p in folder.iterdir())}}), file=log)
out = pathlib.Path(words[words.index("--outfile") + 1])
sys.stderr.write("\\rWriting:   0%|  | 0.00/1.00k\\rWriting:  50%|##| 500/1.00k [00:00<00:00]")
sys.stderr.flush()
out.write_bytes(pathlib.Path({gguf!r}).read_bytes()[: play.get("bytes")])
time.sleep(play.get("seconds", 0))
print(play.get("say", ""), file=sys.stderr)
if play.get("signal"):
    os.kill(os.getpid(), play["signal"])
sys.exit(play.get("status", 0))
"""


@pytest.fixture
def converter(tmp_path: Path, small_gguf: Path, kit_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file in which each call of it is a line of JSON; what it makes is the small GGUF file."""
    made, log = Environment(tmp_path / "environment"), tmp_path / "calls.txt"
    made.python.parent.mkdir(parents=True)
    made.python.write_text(PLAYER.format(python=sys.executable, log=str(log), gguf=str(small_gguf)))
    os.chmod(made.python, 0o755)
    log.touch()
    monkeypatch.setattr(model, "environment", lambda output: made)
    yield log
