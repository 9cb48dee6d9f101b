"""Compiles modules into what PyInstaller's loader reads. Run by the kit's own Python, whose byte code is that of the
Python in the artifact; it needs nothing but the standard library, and decides nothing.

The file that it is given says in JSON what to compile: `modules` (name to file, null for a folder without
`__init__.py`) become PYZ.pyz, `base` (name in the zip to file) base_library.zip, `boot` (name to file) one
`<name>.code` each; all in `out`.
"""

import json
import marshal
import struct
import sys
import zipfile
import zlib
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from types import CodeType

MODULE, PACKAGE, NAMESPACE = 0, 1, 3  # as the loader (pyimod01_archive) calls them
HEADER = struct.Struct("!4s4si5x")
LEVEL = 9


def code_of(path: Path, shown: str) -> CodeType:
    """The file compiled; `shown` is how tracebacks name it."""
    return compile(path.read_bytes(), shown, "exec", dont_inherit=True, optimize=0)


def write_pyz(modules: dict[str, str | None], path: Path) -> None:
    """An archive of modules, each compressed, found by a table at its end."""
    table, blob = [], bytearray(HEADER.size)
    for name, source in sorted(modules.items()):
        if source is None:
            table.append((name, (NAMESPACE, len(blob), 0)))
            continue
        is_package = Path(source).name == "__init__.py"
        shown = name.replace(".", "/") + ("/__init__.py" if is_package else ".py")
        data = zlib.compress(marshal.dumps(code_of(Path(source), shown)), LEVEL)
        table.append((name, (PACKAGE if is_package else MODULE, len(blob), len(data))))
        blob += data
    HEADER.pack_into(blob, 0, b"PYZ\0", MAGIC_NUMBER, len(blob))
    path.write_bytes(bytes(blob) + marshal.dumps(table))


def write_base(modules: dict[str, str], path: Path) -> None:
    """The zip file that Python starts from, stored, with fixed times."""
    with zipfile.ZipFile(path, "w") as result:
        for name, source in sorted(modules.items()):
            header = MAGIC_NUMBER + bytes(12)
            result.writestr(zipfile.ZipInfo(name), header + marshal.dumps(code_of(Path(source), name[:-1])))


def main() -> None:
    """Compile what the given file says."""
    wanted = json.loads(Path(sys.argv[1]).read_bytes())
    out = Path(wanted["out"])
    write_pyz(wanted["modules"], out / "PYZ.pyz")
    write_base(wanted["base"], out / "base_library.zip")
    for name, source in wanted["boot"].items():
        (out / f"{name}.code").write_bytes(marshal.dumps(code_of(Path(source), f"{name}.py")))


if __name__ == "__main__":
    main()
