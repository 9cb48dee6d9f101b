"""The Python part: CPython out of Debian's source packages, compiled by zig for an old glibc (spec/kit.md).

The runtime is frozen with it, and its library goes into every artifact; nothing else of it does. It has only those
modules in C that python/Setup.local names, inside that library. What is compiled stays so when a build is interrupted.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mkllm.builder.errors import MissingTool
from mkllm.builder.kit import promise, python_source, store, toolchain
from mkllm.builder.kit import target as targets
from mkllm.builder.kit.debian import fetch, source_files
from mkllm.builder.kit.part import VERSION, Part, Report, assembling, digest
from mkllm.builder.kit.pins import pins
from mkllm.builder.kit.sdist import unpack
from mkllm.builder.kit.target import Target
from mkllm.builder.process import run

HERE = Path(__file__).parent
PROJECT = HERE / "python"
PROGRAMS = ("make", "patch")
SECONDS = 240.0
COMPILED = 190  # files in C, about: by them the progress is reckoned
CONFIGURED = 0.3  # of the whole, when configure has ended

OPTIONS = (
    *("--prefix=/python", "--enable-shared"),
    *("--without-ensurepip", "--disable-test-modules", "--without-doc-strings"),
)
# What configure is told: it would not find functions of ours (python/mkllm_system.c), and others in a library too many;
# for another system it cannot try anything.
ANSWERS = {
    **dict.fromkeys(["ac_cv_func_memfd_create", "ac_cv_func_copy_file_range"], "yes"),
    **dict.fromkeys(["ac_cv_file__dev_ptmx", "ac_cv_file__dev_ptc", "ac_cv_search_login_tty"], "no"),
    "ac_cv_buggy_getaddrinfo": "no",
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


def part(target: Target, folder: Path | None = None) -> Part:
    """The part out of Debian's files, which are fetched when it is built: out of `folder` if one is given.

    For another system than this machine's, it needs this machine's. Raises MissingTool without zig.
    """
    zig, here = toolchain.find_zig(), targets.builder()
    ours = None if target == here else part(here, folder)
    python, zlib = source_files("python"), source_files("zlib")

    def build(work: Path, out: Path, report: Report) -> None:
        need_programs()
        _forget_others(work, inputs)
        report.step("fetching Python's source")
        fetched = {file: fetch(file, folder, report.log) for file in (*python.values(), *zlib.values())}
        sources = {name: fetched[file] for name, file in {**python, **zlib}.items()}
        with assembling("Python"):
            _build(sources, _options(target, here, ours), target, zig, Places(work), out, report)

    inputs = {
        **{f"source {name}": file.sha256 for name, file in {**python, **zlib}.items()},
        VERSION + "python": version(),
        "first patch": str(pins()["debian"]["python"]["first_patch"]),
        "target": repr(target),
        "recipe": digest(_recipe(), HERE),
        "zig": run([zig, "version"]).strip(),
        **({"python": ours.key} if ours else {}),
    }
    return Part("python", inputs, build, SECONDS, target.name, (ours,) if ours else ())


def _options(target: Target, here: Target, ours: Part | None) -> tuple[str, ...]:
    """For configure. It runs a Python of the same version where it cannot run what it compiles."""
    systems = (f"--build={here.triplet}", f"--host={target.triplet}")
    return (*systems, *OPTIONS, *([f"--with-build-python={program(store.place_of(ours))}"] if ours else []))


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


def program(place: Path) -> Path:
    """The interpreter in a copy of the part, or in the part itself."""
    return place / "bin" / f"python{short_version()}"


def sysconfig_name(target: Target) -> str:
    """The module with its build's settings, which is all in its library that differs from system to system."""
    return f"_sysconfigdata__linux_{target.triplet}"


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


def _build(
    sources: dict[str, Path],
    options: tuple[str, ...],
    target: Target,
    zig: Path,
    places: Places,
    out: Path,
    report: Report,
) -> None:
    report.step("unpacking Python")
    python_source.prepare(sources["source"], sources["debian"], PROJECT, places.source, report)
    unpack(sources["zlib"], places.zlib)
    programs = toolchain.write_wrappers(zig, target, places.wrappers)
    environment = _environment(programs, places)
    _compile_zlib(programs, places, report)
    report.step("configuring Python")
    _configure(options, environment, places.source, report)
    report.progress(CONFIGURED)
    report.step("compiling Python")
    _compile(environment, places.source, report)
    _place(target, places, out)
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


def _configure(options: tuple[str, ...], environment: Mapping[str, str], source: Path, report: Report) -> None:
    """Once for the same settings: make would compile everything anew after it."""
    settings = json.dumps([options, sorted(environment.items())])
    mark, wanted = source / ".configured", hashlib.sha256(settings.encode()).hexdigest()
    if not (mark.exists() and mark.read_text() == wanted):
        run(["./configure", *options], cwd=source, env=environment, log=report.log)
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


def _place(target: Target, places: Places, out: Path) -> None:
    """A Python that runs from wherever it lies, with what its library was linked from checked."""
    source, library = places.source, library_folder(out)
    for name, goal in {"python": program(out), library_name(): out / "lib" / library_name()}.items():
        goal.parent.mkdir(exist_ok=True)
        shutil.copyfile(source / name, goal)
        goal.chmod(0o755)
        promise.require(target, goal, {library_name()})
    shutil.copytree(source / "Lib", library, ignore=shutil.ignore_patterns(*LEFT_OUT))
    (library / "lib-dynload").mkdir()
    (library / "ctypes").mkdir()
    for name, text in STAND_INS.items():
        (library / name).write_text(text)
    settings = {"INSTSONAME": library_name(), "LDLIBRARY": library_name(), "Py_ENABLE_SHARED": 1, "Py_DEBUG": 0}
    (library / f"{sysconfig_name(target)}.py").write_text(f"build_time_vars = {settings!r}\n")
    texts = [(source / name).read_text("utf-8") for name in LICENSES]
    (library / "LICENSE.txt").write_text("\n\n".join(texts), "utf-8")
    shutil.copyfile(places.zlib / "LICENSE", library / "LICENSE-zlib.txt")
