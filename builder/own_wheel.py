"""mkllm's own wheel, put together again from what is installed here: the package is on no index."""

import base64
import csv
import hashlib
import io
import os
import zipfile
from importlib.metadata import Distribution, PackageNotFoundError, PackagePath, distribution
from pathlib import Path

from mkllm.builder.errors import ToolFailed

NAME = "mkllm"
EPOCH = (1980, 1, 1, 0, 0, 0)
NOT_OF_WHEEL = ("INSTALLER", "REQUESTED", "RECORD", "direct_url.json")


def write_own_wheel(folder: Path) -> Path:
    """Write the wheel into `folder`; its path. The same installation gives the same bytes. Raises ToolFailed."""
    try:
        installed = distribution(NAME)
    except PackageNotFoundError:
        raise _no_package() from None
    files = sorted((path for path in installed.files or () if _belongs(path)), key=str)
    if f"{NAME}/builder/__init__.py" not in map(str, files):
        raise _no_package()
    place = folder / f"{NAME}-{installed.version}-py3-none-any.whl"
    info = f"{NAME}-{installed.version}.dist-info"
    rows: list[tuple[str, str, str | int]] = []
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path in files:
            rows.append(_add(wheel, str(path), _read(installed, path)))
        lines = io.StringIO()
        csv.writer(lines, lineterminator="\n").writerows([*rows, (f"{info}/RECORD", "", "")])
        _add(wheel, f"{info}/RECORD", lines.getvalue().encode())
    return place


def _belongs(path: PackagePath) -> bool:
    if ".." in path.parts or "__pycache__" in path.parts:
        return False
    return not (path.parent.name.endswith(".dist-info") and path.name in NOT_OF_WHEEL)


def _read(installed: Distribution, path: PackagePath) -> bytes:
    try:
        data = Path(str(installed.locate_file(path))).read_bytes()
    except OSError as error:
        raise ToolFailed(f"the installed mkllm is damaged: {str(path)!r} cannot be read ({error.strerror})") from None
    if path.hash and path.hash.value != _hash(data):
        raise ToolFailed(f"the installed mkllm was changed: {str(path)!r} is not what was installed; install it again")
    return data


def _hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _add(wheel: zipfile.ZipFile, name: str, data: bytes) -> tuple[str, str, int]:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o100644 << 16
    wheel.writestr(entry, data)
    return name, f"sha256={_hash(data)}", len(data)


def _no_package() -> ToolFailed:
    where = os.path.dirname(__file__)
    return ToolFailed(
        f"mkllm runs from {where!r} and is not installed as a package, of which a wheel could be made: "
        "`pip install` it (not with -e)"
    )
