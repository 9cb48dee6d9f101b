"""What the converter gets of a model: a folder of its own in which nothing names code.

transformers imports what `auto_map` names (another repository in its cache, any folder of this machine), and the
converter has it trust that. So JSON is not linked but written anew, as it was read here, without such entries.
"""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mkllm.builder import cache
from mkllm.builder.convert import limits
from mkllm.builder.convert.checkpoint import CONFIG, LARGEST_BESIDE, TOKENIZER
from mkllm.builder.errors import DamagedCheckpoint

CODE = frozenset({"auto_map", "attribute_map"})  # the second gives attributes of a configuration other names
NEEDED = "config.json"  # how names end of what is read if it is there


@contextmanager
def staged(files: Mapping[str, Path], name: str) -> Iterator[Path]:
    """A folder called `name` with links to these files, copies of those in JSON, and nothing else.

    JSON that nobody can read is left out; raises DamagedCheckpoint if it would be a configuration or a tokenizer.
    """
    with tempfile.TemporaryDirectory(dir=cache.folder("convert"), prefix=".model-") as made:
        folder = Path(made) / name
        for file, path in files.items():
            place = folder / file
            place.parent.mkdir(parents=True, exist_ok=True)
            if not file.endswith(".json"):
                place.symlink_to(os.path.realpath(path))
            elif (text := _without_code(path, file)) is not None:
                place.write_text(text, encoding="utf-8")
        yield folder


def _without_code(path: Path, name: str) -> str | None:
    """The JSON of a file without what names code, a configuration with what the converter misses; None if it is left
    out."""
    try:
        if path.stat().st_size > LARGEST_BESIDE:
            raise ValueError
        found = json.loads(path.read_bytes(), object_hook=_plain)
        return json.dumps(limits.completed(found) if name == CONFIG and isinstance(found, dict) else found)
    except (ValueError, RecursionError):
        if not name.endswith(NEEDED) and not TOKENIZER.fullmatch(name):
            return None
    raise DamagedCheckpoint(f"{str(path)!r} cannot be read (it is not JSON, or too large): copy or download it again")


def _plain(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key not in CODE}
