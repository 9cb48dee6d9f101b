"""A kit as a wheel: once pip-installed, mkllm finds it and compiles nothing; knows no part of a kit (spec/kit.md)."""

import base64
import csv
import hashlib
import io
import os
import tempfile
import zipfile
from pathlib import Path

from mkllm.builder.errors import PermissionFailure
from mkllm.builder.kit.kit import Kit
from mkllm.builder.kit.store import ENTRY_POINTS

EPOCH = (1980, 1, 1, 0, 0, 0)
CHUNK = 1 << 20

PACKAGE = '''"""The kit {id} for {target}, as data; `mkllm` finds it through the entry point group {group!r}."""

from pathlib import Path


def path() -> Path:
    """The folder of the kit."""
    return Path(__file__).parent / "kit"
'''

METADATA = """Metadata-Version: 2.1
Name: {name}
Version: {version}
Summary: The mkllm kit {id} for {target}: builds artifacts without compiling anything
License: Apache-2.0 AND MIT AND PSF-2.0
Requires-Python: >=3.11
Requires-Dist: mkllm
"""

WHEEL = """Wheel-Version: 1.0
Generator: mkllm {version}
Root-Is-Purelib: true
Tag: py3-none-any
"""


def check_folder(folder: Path) -> None:
    """Create the folder for a wheel and see that it can be written, before a kit is built. Raises PermissionFailure."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise PermissionFailure(
            f"no wheel can be written into {str(folder)!r} ({error.strerror}): choose another folder"
        ) from None


def write_wheel(kit: Kit, version: str, folder: Path) -> Path:
    """Write the wheel of a kit into `folder` and return its path. The same kit gives the same bytes."""
    package = f"mkllm_kit_{kit.target.replace('-', '_')}"
    check_folder(folder)
    place = folder / f"{package}-{version}-py3-none-any.whl"
    handle, draft = tempfile.mkstemp(dir=folder, prefix=f".{package}-")
    try:
        with open(handle, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as wheel:
            _fill(wheel, kit, package, version)
        os.chmod(draft, 0o644)
        os.replace(draft, place)
    except BaseException:
        os.unlink(draft)
        raise
    return place


def _fill(wheel: zipfile.ZipFile, kit: Kit, package: str, version: str) -> None:
    info = f"{package}-{version}.dist-info"
    facts = {"id": kit.id, "target": kit.target, "version": version, "name": package.replace("_", "-")}
    texts = {
        f"{package}/__init__.py": PACKAGE.format(**facts, group=ENTRY_POINTS),
        f"{info}/METADATA": METADATA.format(**facts),
        f"{info}/WHEEL": WHEEL.format(**facts),
        f"{info}/entry_points.txt": f"[{ENTRY_POINTS}]\n{kit.target} = {package}:path\n",
    }
    record = [_add_file(wheel, path, f"{package}/kit/{path.relative_to(kit.path).as_posix()}") for path in _files(kit)]
    record += [_add_text(wheel, name, text) for name, text in texts.items()]
    lines = io.StringIO()
    csv.writer(lines, lineterminator="\n").writerows([*record, (f"{info}/RECORD", "", "")])
    _add_text(wheel, f"{info}/RECORD", lines.getvalue())


def _files(kit: Kit) -> list[Path]:
    return sorted(path for path in kit.path.rglob("*") if path.is_file())


def _entry(name: str, mode: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = (0o100000 | mode) << 16
    return entry


def _add_file(wheel: zipfile.ZipFile, path: Path, name: str) -> tuple[str, str, int]:
    entry = _entry(name, 0o755 if os.access(path, os.X_OK) else 0o644)
    total = hashlib.sha256()
    with path.open("rb") as source, wheel.open(entry, "w") as target:
        while block := source.read(CHUNK):
            total.update(block)
            target.write(block)
    return _row(name, total.digest(), path.stat().st_size)


def _add_text(wheel: zipfile.ZipFile, name: str, text: str) -> tuple[str, str, int]:
    data = text.encode()
    wheel.writestr(_entry(name, 0o644), data)
    return _row(name, hashlib.sha256(data).digest(), len(data))


def _row(name: str, digest: bytes, size: int) -> tuple[str, str, int]:
    return name, "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode(), size
