"""Parts of a split model that lie in several stores, brought under one roof: a folder of links to them."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from mkllm.builder import cache
from mkllm.runtime.artifact.draft import failure


def together(where: str, paths: Mapping[str, Path]) -> dict[str, Path]:
    """The parts, which are by their names in `where`, beside each other and called so: as they are, or as links.

    Raises PermissionFailure where there can be no links.
    """
    names = {name: PurePosixPath(name).name for name in paths}
    if len({path.parent for path in paths.values()}) == 1 and all(paths[name].name == names[name] for name in paths):
        return dict(paths)
    key = hashlib.sha256("\n".join([where, *paths]).encode()).hexdigest()[:16]
    folder = cache.folder(f"split/{key}")
    links = {name: folder / names[name] for name in paths}
    for name, path in paths.items():
        _link(links[name], path)
    return links


def _link(link: Path, path: Path) -> None:
    new = link.with_name(f".{os.getpid()}")
    try:
        new.unlink(missing_ok=True)
        new.symlink_to(path.absolute())
        os.replace(new, link)
    except OSError as error:
        raise failure(error, link) from error
