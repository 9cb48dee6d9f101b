"""The Python part: CPython out of Debian's source packages, compiled by zig for an old glibc (spec/kit.md).

The runtime is frozen with it, and its library goes into every artifact; nothing else of it does. It has only those
modules in C that python/Setup.local names, inside that library. What is compiled stays so when a build is interrupted.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mkllm.builder.errors import MissingTool, NoSpace, ToolFailed
from mkllm.builder.kit import python_source, toolchain
from mkllm.builder.kit.debian import fetch, source_files
from mkllm.builder.kit.elf import SYSTEM_LIBRARIES, require
from mkllm.builder.kit.part import VERSION, Part, Report, digest
from mkllm.builder.kit.pins import pins
from mkllm.builder.kit.sdist import unpack
from mkllm.builder.process import run

HERE = Path(__file__).parent
PROJECT = HERE / "python"
TARGET = "linux-x86_64"
PROGRAMS = ("make", "patch")
SECONDS = 240.0
COMPILED = 190  # files in C, about: by them the progress is reckoned
CONFIGURED = 0.3  # of the whole, when configure has ended

OPTIONS = (
    *("--build=x86_64-linux-gnu", "--host=x86_64-linux-gnu", "--prefix=/python", "--enable-shared"),
    *("--without-ensurepip", "--disable-test-modules", "--without-doc-strings"),
)
# What configure is told: it would not find functions of ours (python/mkllm_system.c), and others in a library too many.
ANSWERS = {
    **dict.fromkeys(["ac_cv_func_memfd_create", "ac_cv_func_copy_file_range"], "yes"),
    **dict.fromkeys(["ac_cv_file__dev_ptmx", "ac_cv_file__dev_ptc", "ac_cv_search_login_tty"], "no"),
    **{
        f"ac_cv_{place}_{name}": "no"
        for place in ("func", "lib_util", "lib_bsd")
        for name in ("openpty", "forkpty", "login_tty")
    },
}
CFLAGS = "-g0 -Wno-date-time -fno-semantic-interposition"
LDFLAGS = "-s -Wl,-Bsymbolic"
# For make: our header before everything, no library of the stable interface, and a program that finds its library.
SETTINGS = {
    "CPPFLAGS": "-include Modules/mkllm_system.h",
    "PY3LIBRARY": "",
    "LINKFORSHARED": "-Xlinker -export-dynamic -Wl,-rpath,'$$ORIGIN/../lib'",
}
ZLIB = ("adler32", "compress", "crc32", "deflate", "inffast", "inflate", "inftrees", "trees", "uncompr", "zutil")
ZLIB_FLAGS = ("-O2", "-fPIC", "-fvisibility=hidden", "-w", "-DHAVE_UNISTD_H", "-D_LARGEFILE64_SOURCE=1")
# Folders of the library that no frozen program has a use for.
LEFT_OUT = ("test", "idlelib", "turtledemo", "tkinter", "ensurepip", "lib2to3", "ctypes", "sqlite3", "__pycache__")
# What PyInstaller imports for other programs and systems than these; the true ones are in C, one of them on libffi.
STAND_INS = {
    "ctypes/__init__.py": "",
    "ctypes/util.py": "def find_library(name):\n    return None\n",
    "pyexpat.py": "ParserCreate = model = errors = None\n",
}
LICENSES = ("LICENSE", "Doc/license.rst")  # the second has what came from others, such as dtoa.c and SipHash
SYSCONFIG = "_sysconfigdata__linux_x86_64-linux-gnu.py"


@dataclass(frozen=True)
class Places:
    """Folders inside `work`; all of it may be deleted at any time, at the price of compiling again."""

    work: Path

    @property
    def source(self) -> Path:
        return self.work / "source"

    @property
    def zlib(self) -> Path:
        return self.work / "zlib"

    @property
    def wrappers(self) -> Path:
        return self.work / "toolchain"


def part(folder: Path | None = None) -> Part:
    """The part out of Debian's files, which are fetched when it is built: out of `folder` if one is given.

    Raises MissingTool without zig.
    """
    zig = toolchain.find_zig()
    python, zlib = source_files("python"), source_files("zlib")

    def build(work: Path, out: Path, report: Report) -> None:
        need_programs()
        _forget_others(work, inputs)
        report.step("fetching Python's source")
        fetched = {file: fetch(file, folder, report.log) for file in (*python.values(), *zlib.values())}
        try:
            _build({name: fetched[file] for name, file in {**python, **zlib}.items()}, zig, Places(work), out, report)
        except OSError as error:
            raise _translated(error) from None

    inputs = {
        **{f"source {name}": file.sha256 for name, file in {**python, **zlib}.items()},
        VERSION + "python": version(),
        "first patch": str(pins()["debian"]["python"]["first_patch"]),
        "target": toolchain.TARGETS[TARGET],
        "recipe": digest(_recipe(), HERE),
        "zig": run([zig, "version"]).strip(),
    }
    return Part("python", inputs, build, SECONDS)


def _forget_others(work: Path, inputs: Mapping[str, str]) -> None:
    """What was compiled of other inputs is not gone on with: neither configure nor make would see all that changed."""
    mark, wanted = work / ".inputs", json.dumps(dict(inputs), sort_keys=True)
    if not (mark.exists() and mark.read_text() == wanted):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        mark.write_text(wanted)


def version() -> str:
    """The pinned version, such as `3.11.2`."""
    return str(pins()["debian"]["python"]["version"])


def short_version() -> str:
    """That of the language alone, such as `3.11`."""
    return version().rpartition(".")[0]


def library_name() -> str:
    """The file name of its shared library."""
    return f"libpython{short_version()}.so.1.0"


def library_folder(place: Path) -> Path:
    """Where a copy of the part, or the part itself, keeps what is written in Python."""
    return place / "lib" / f"python{short_version()}"


def need_programs() -> None:
    """Raises MissingTool for what CPython's own build runs, beside what every system has."""
    if missing := [program for program in PROGRAMS if not shutil.which(program)]:
        raise MissingTool(
            f"the program {missing[0]!r}, which Python is compiled with, is missing: install it (Debian: "
            f"`apt-get install {' '.join(PROGRAMS)}`)"
        )


def _recipe() -> list[Path]:
    return [HERE / name for name in ("python.py", "python_source.py", "toolchain.py")] + list(PROJECT.iterdir())


def _translated(error: OSError) -> Exception:
    if error.errno == errno.ENOSPC:
        return NoSpace(f"no space left while writing {error.filename!r}: free some and run the command again")
    return ToolFailed(f"Python cannot be put together: {error}")


def _build(sources: dict[str, Path], zig: Path, places: Places, out: Path, report: Report) -> None:
    report.step("unpacking Python")
    python_source.prepare(sources["source"], sources["debian"], PROJECT, places.source, report)
    unpack(sources["zlib"], places.zlib)
    programs = toolchain.write_wrappers(zig, TARGET, places.wrappers)
    environment = _environment(programs, places)
    _compile_zlib(programs, places, report)
    report.step("configuring Python")
    _configure(environment, places.source, report)
    report.progress(CONFIGURED)
    report.step("compiling Python")
    _compile(environment, places.source, report)
    _place(places, out)
    report.progress(1.0)


def _environment(programs: Mapping[str, Path], places: Places) -> dict[str, str]:
    """For configure and make: zig for everything, nothing of this machine's libraries, the same bytes always."""
    return {
        **toolchain.environment(),
        **ANSWERS,
        "CC": str(programs["cc"]),
        "AR": str(programs["ar"]),
        "RANLIB": str(programs["ranlib"]),
        "READELF": "true",
        "PKG_CONFIG": "false",
        "OPT": "-DNDEBUG -O2 -fwrapv",
        "CFLAGS": CFLAGS,
        "LDFLAGS": LDFLAGS,
        "ZLIB_CFLAGS": f"-I{places.zlib}",
        "ZLIB_LIBS": str(places.zlib / "libz.a"),
        "SOURCE_DATE_EPOCH": "315532800",
        "LC_ALL": "C",
    }


def _compile_zlib(programs: Mapping[str, Path], places: Places, report: Report) -> None:
    if (places.zlib / "libz.a").exists():
        return
    objects = [f"{name}.o" for name in ZLIB]
    commands: list[list[str | Path]] = [[programs["cc"], *ZLIB_FLAGS, "-c", f"{name}.c"] for name in ZLIB]
    commands.append([programs["ar"], "rcs", "new.a", *objects])
    (places.zlib / "new.a").unlink(missing_ok=True)
    for words in commands:
        run(words, cwd=places.zlib, env=toolchain.environment(), log=report.log)
    os.replace(places.zlib / "new.a", places.zlib / "libz.a")


def _configure(environment: Mapping[str, str], source: Path, report: Report) -> None:
    """Once for the same settings: make would compile everything anew after it."""
    settings = json.dumps([OPTIONS, sorted(environment.items())])
    mark, wanted = source / ".configured", hashlib.sha256(settings.encode()).hexdigest()
    if not (mark.exists() and mark.read_text() == wanted):
        run(["./configure", *OPTIONS], cwd=source, env=environment, log=report.log)
        mark.write_text(wanted)


def _compile(environment: Mapping[str, str], source: Path, report: Report) -> None:
    """Only the library and the program that PyInstaller is run by."""
    done = sum(1 for _ in source.rglob("*.o"))

    def on_line(line: str) -> None:
        nonlocal done
        if " -c " in line:
            done += 1
            report.progress(CONFIGURED + (1 - CONFIGURED) * min(done / COMPILED, 1.0))

    words = ["make", f"--jobs={os.cpu_count() or 1}", *(f"{name}={value}" for name, value in SETTINGS.items())]
    run([*words, "python"], cwd=source, env=environment, log=report.log, on_line=on_line)


def _place(places: Places, out: Path) -> None:
    """A Python that runs from wherever it lies, with what its library was linked from checked."""
    source, library = places.source, library_folder(out)
    (out / "bin").mkdir()
    for name, target in {"python": f"bin/python{short_version()}", library_name(): f"lib/{library_name()}"}.items():
        (out / target).parent.mkdir(exist_ok=True)
        shutil.copyfile(source / name, out / target)
        (out / target).chmod(0o755)
        require(out / target, toolchain.GLIBC, SYSTEM_LIBRARIES | {library_name()})
    shutil.copytree(source / "Lib", library, ignore=shutil.ignore_patterns(*LEFT_OUT))
    (library / "lib-dynload").mkdir()
    (library / "ctypes").mkdir()
    for name, text in STAND_INS.items():
        (library / name).write_text(text)
    settings = {"INSTSONAME": library_name(), "LDLIBRARY": library_name(), "Py_ENABLE_SHARED": 1, "Py_DEBUG": 0}
    (library / SYSCONFIG).write_text(f"build_time_vars = {settings!r}\n")
    texts = [(source / name).read_text("utf-8") for name in LICENSES]
    (library / "LICENSE.txt").write_text("\n\n".join(texts), "utf-8")
    shutil.copyfile(places.zlib / "LICENSE", library / "LICENSE-zlib.txt")
