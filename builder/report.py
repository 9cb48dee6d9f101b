"""What `mkllm build --json` says of what was made."""

import hashlib
import json
from pathlib import Path
from typing import Any

from mkllm.builder.build import Made
from mkllm.builder.kit.target import TARGETS


def report(made: Made) -> dict[str, Any]:
    """One artifact; `files` are all that were written, the program first. It is read for its hash."""
    manifest = made.manifest
    beside = [
        {"path": str(path.absolute()), "size": fact.size, "sha256": fact.sha256}
        for path, fact in zip(made.beside, manifest.beside, strict=True)
    ]
    return {
        "path": str(made.path.absolute()),
        "size": made.size,
        "target": manifest.target,
        "floor": TARGETS[manifest.target].floor(manifest.kit.glibc),
        "files": [{"path": str(made.path.absolute()), "size": made.size, "sha256": _sha256(made.path)}, *beside],
        "members": [{"name": m.name, "size": m.size, "sha256": m.sha256} for m in manifest.members],
        "manifest": json.loads(manifest.to_bytes()),
        **({"outlook": made.outlook.as_object()} if made.outlook else {}),
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
