"""Names for the open files of a model in several."""

import os
import sys
from pathlib import Path

import pytest

from mkllm.runtime.artifact.reader import Stretch
from mkllm.runtime.engine.parts import first_of
from mkllm.runtime.engine.placed import Weights
from mkllm.runtime.errors import PermissionFailure

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there they are opened by their own names")


@pytest.fixture
def parts(tmp_path):
    made = []
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
        descriptor = os.open(tmp_path / name, os.O_RDONLY)
        made.append(Stretch(str(tmp_path / name), descriptor, 0, 1))
    yield made
    for part in made:
        os.close(part.descriptor)


def test_they_lead_to_the_files_that_are_open(parts, tmp_path):
    for part in parts:
        os.unlink(part.path)
        (tmp_path / os.path.basename(part.path)).write_text("another")
    first = first_of(parts, tmp_path / "home")
    assert os.path.basename(first) == "model-00001-of-00002.gguf"
    names = [first, first.replace("00001-of", "00002-of")]
    assert [Path(name).read_text() for name in names] == ["a", "b"]
    assert first_of(parts, tmp_path / "home") == first and first_of(parts[::-1], tmp_path / "home") != first


def test_the_engine_inherits_all(parts):
    numbers = tuple(part.descriptor for part in parts)
    weights = Weights(numbers[0], 0, 2, first="/x-00001-of-00002.gguf", parts=numbers)
    assert weights.descriptors == numbers
    assert weights.variables("model.gguf") == {"MKLLM_SPLIT": "model.gguf=/x-00001-of-00002.gguf"}


def test_a_home_that_takes_no_links(parts, tmp_path):
    (tmp_path / "home").write_text("a file")
    with pytest.raises(PermissionFailure, match="no names for the weights can be made in '.*home/parts/.*Not a dir"):
        first_of(parts, tmp_path / "home")
