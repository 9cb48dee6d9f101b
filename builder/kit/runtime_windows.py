"""The runtime part for Windows: mkllm.runtime, its pinned packages and Python's library in one PKG (spec/kit.md).

PyInstaller looks for what a program imports by running on the system that it freezes for. Here nothing is looked for:
all modules of the pinned packages and of Python's library are taken but those that are left out by name, so that none
can be missing. They are compiled by the kit's own Python for this machine, whose byte code is the same; the archives
are written as PyInstaller's loader, which is taken as it is, reads them.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from mkllm.builder.errors import ToolFailed
from mkllm.builder.kit import python, store
from mkllm.builder.kit.part import Part, Report, digest
from mkllm.builder.kit.pins import frozen_versions, pins
from mkllm.builder.kit.pip import pip, requirement
from mkllm.builder.kit.pkg import BINARY, BOOT, DATA, MODULES, OPTION, SCRIPT, Entry, Pkg, write_pkg
from mkllm.builder.kit.runtime_licenses import write_licenses
from mkllm.builder.kit.runtime_pkg import copy_runtime_to, for_python, runtime_files, runtime_folder
from mkllm.builder.kit.target import TARGETS
from mkllm.builder.process import run

HERE = Path(__file__).resolve().parent
RECIPE = ("runtime_windows", "compile_frozen", "runtime_licenses", "pkg")
COMPILER = HERE / "compile_frozen.py"
SECONDS = 40.0
LIBRARY = "python311.dll"
LOADER = "PyInstaller/loader"
BOOTSTRAP = ("pyimod01_archive", "pyimod02_importers", "pyimod03_ctypes", "pyimod04_pywin32")  # in this order
BOOT_SCRIPT, START_SCRIPT = "pyiboot01_bootstrap", "mkllm_start"
# What Python imports before the loader is there: these, and what belongs to them, lie in a zip file.
BASE = frozenset(
    "_collections_abc _weakrefset abc codecs collections copyreg encodings enum functools genericpath heapq io keyword "
    "linecache locale ntpath operator os posixpath re reprlib sre_compile sre_constants sre_parse stat traceback types "
    "warnings weakref".split()
)
# Of the packages: what freezes, what is for other systems, what tests them, what is quicker than its Python but large.
PACKAGES_LEFT_OUT = frozenset(
    ("PyInstaller", "bin", "prompt_toolkit.contrib", "multidict._testcapi", "wcwidth._wcwidth_c")
)
METADATA = ("attrs", "click", "prompt_toolkit")  # of which the version is asked for

# The program's first lines.
START = """
import os
import sys

sys.executable = os.environ.pop("MKLLM_FILE", sys.executable)

from mkllm.runtime.cli import main

sys.exit(main(sys.argv[1:]))
"""


def part(interpreter: Part, compiler: Part) -> Part:
    """The part of Python for Windows, `interpreter`; `compiler` is this machine's own Python part."""
    inputs = {
        "runtime": digest(runtime_files(), runtime_folder()),
        "recipe": digest([HERE / f"{name}.py" for name in RECIPE], HERE),
        "pins": json.dumps([wanted_versions(), pins()["wheels"]], sort_keys=True),
        "python": interpreter.key,
        "compiler": compiler.key,
    }

    def build(work: Path, out: Path, report: Report) -> None:
        _build(store.place_of(interpreter), store.place_of(compiler), work, out, report)

    return Part("runtime", inputs, build, SECONDS, "windows-x86_64", (interpreter, compiler))


def wanted_versions() -> dict[str, str]:
    """Packages of the runtime, what they need on Windows alone, and PyInstaller for its loader."""
    table = pins()
    installer = {"pyinstaller": frozen_versions(table)["pyinstaller"]}
    return {**table["runtime"], **table["windows"]["runtime"], **installer}


def _build(interpreter: Path, compiler: Path, work: Path, out: Path, report: Report) -> None:
    report.step("fetching the runtime's packages for Windows")
    packages = install(work / "packages", report)
    report.progress(0.5)
    report.step("freezing the runtime for Windows")
    copy_runtime_to(packages)
    compiled = work / "compiled"
    _compile(compiler, interpreter, packages, compiled, report)
    pkg = Pkg(tuple(_entries(interpreter, packages, compiled)), int(python.short_version().replace(".", "")), LIBRARY)
    write_pkg(pkg, out / "runtime.pkg", deflate=True)
    write_licenses(interpreter, packages, out / "licenses", wanted_versions())
    report.progress(1.0)


def install(folder: Path, report: Report) -> Path:
    """The pinned wheels for Windows and nothing else, made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    hashes = pins()["wheels"]
    wanted = [requirement(name, version, hashes.get(name, ())) for name, version in sorted(wanted_versions().items())]
    words: list[str | Path] = [
        "install",
        "--quiet",
        "--no-compile",
        "--only-binary",
        ":all:",
        *for_python(TARGETS["windows-x86_64"].platforms),
    ]
    try:
        pip([*words, "--target", folder], wanted, report.log)
    except ToolFailed as failure:
        raise ToolFailed(
            "the runtime's packages for Windows could not be installed: check the network or the index that pip is set "
            f"up with\n{failure}"
        ) from None
    return folder


def modules(root: Path) -> dict[str, Path | None]:
    """Every module below a folder, by name; None for a folder of modules without `__init__.py`."""
    found: dict[str, Path | None] = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        found[".".join(parts)] = path
    for name in list(found):
        for end in (index for index, letter in enumerate(name) if letter == "."):
            found.setdefault(name[:end], None)
    return {name: path for name, path in found.items() if not _is_left_out(name)}


def _is_left_out(name: str) -> bool:
    return any(name == other or name.startswith(f"{other}.") for other in PACKAGES_LEFT_OUT)


def _compile(compiler: Path, interpreter: Path, packages: Path, folder: Path, report: Report) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    start = folder / f"{START_SCRIPT}.py"
    start.write_text(START)
    library = interpreter / "Lib"
    ours = modules(library)
    base = {name: path for name, path in ours.items() if name.partition(".")[0] in BASE}
    rest = {name: path for name, path in {**ours, **modules(packages)}.items() if name not in base}
    loader = {name: packages / LOADER / f"{name}.py" for name in (*BOOTSTRAP, BOOT_SCRIPT)}
    wanted = {
        "modules": {name: path and str(path) for name, path in rest.items()},
        "base": {f"{path.relative_to(library).as_posix()}c": str(path) for path in base.values() if path},
        "boot": {
            name: str(path) for name, path in {"struct": library / "struct.py", **loader, START_SCRIPT: start}.items()
        },
        "out": str(folder),
    }
    (folder / "wanted.json").write_text(json.dumps(wanted))
    words: list[str | Path] = [python.program(compiler), "-IB", COMPILER, folder / "wanted.json"]
    run(words, env={"PYTHONHASHSEED": "0"}, log=report.log)


def _entries(interpreter: Path, packages: Path, compiled: Path) -> Iterator[Entry]:
    """In the order that the entry and the loader want: options, the bootstrap, files, modules."""
    yield Entry("X utf8", OPTION, b"")
    for name in ("struct", *BOOTSTRAP):
        yield Entry(name, BOOT, (compiled / f"{name}.code").read_bytes())
    for name in (BOOT_SCRIPT, START_SCRIPT):
        yield Entry(name, SCRIPT, (compiled / f"{name}.code").read_bytes())
    for path in sorted([*interpreter.glob("*.dll"), *interpreter.glob("DLLs/*")]):
        yield Entry(path.name, BINARY, path.read_bytes())
    for path in sorted(packages.rglob("*.pyd")):
        relative = path.relative_to(packages)
        if not _is_left_out(".".join(relative.parts).partition(".cp")[0].removesuffix(".pyd")):
            yield Entry("\\".join(relative.parts), BINARY, path.read_bytes())
    for path in sorted(packages.glob("*.dist-info/METADATA")):
        if path.parent.name.partition("-")[0] in METADATA:
            yield Entry("\\".join(path.relative_to(packages).parts), DATA, path.read_bytes())
    yield Entry("base_library.zip", DATA, (compiled / "base_library.zip").read_bytes())
    yield Entry("PYZ.pyz", MODULES, (compiled / "PYZ.pyz").read_bytes())
