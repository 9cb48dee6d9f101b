"""The runtime part: mkllm.runtime and its pinned packages, frozen by PyInstaller into one PKG (spec/kit.md).

The PKG is taken apart again and put together smaller: libraries shrunk, codecs of old code pages left out, with what
the entry must know: the glibc it needs and which libraries to load first (spec/launch.md, 1). For another system than
this machine's it is frozen here, and then everything compiled in it gives way to its counterpart (`counterparts.py`).
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from mkllm.builder.errors import ToolFailed
from mkllm.builder.kit import python, store
from mkllm.builder.kit import target as targets
from mkllm.builder.kit.counterparts import counterparts
from mkllm.builder.kit.elf import newest_glibc, read_elf
from mkllm.builder.kit.elf_shrink import shrink
from mkllm.builder.kit.part import Part, Report, digest
from mkllm.builder.kit.pins import frozen_versions, pins
from mkllm.builder.kit.pip import pip, requirement
from mkllm.builder.kit.pkg import BINARY, OPTION, Entry, Pkg, in_order, read_pkg, write_pkg
from mkllm.builder.kit.runtime_licenses import write_licenses
from mkllm.builder.kit.sdist import sha256
from mkllm.builder.kit.target import Target
from mkllm.builder.kit.zip_codecs import without_old_codecs
from mkllm.builder.process import run

HERE = Path(__file__).resolve().parent
SPECS = (HERE / "mkllm.spec", HERE.parents[1] / "spec" / "mkllm.spec")  # in the wheel, in the checkout
SECONDS = 60.0
BASE_LIBRARY = "base_library.zip"
GLIBC, PRELOAD = "pyi-mkllm-glibc", "pyi-mkllm-preload"

# The same inputs give the same bytes.
REPRODUCIBLE = {"PYTHONHASHSEED": "0", "SOURCE_DATE_EPOCH": "315532800"}


def part(target: Target, interpreter: Part) -> Part:
    """The part that is frozen with that Python, another part. One for another system needs this machine's (`needs`)."""
    recipe = [HERE / f"{name}.py" for name in RECIPE]
    inputs = {
        "runtime": digest(runtime_files(), runtime_folder()),
        "recipe": digest(recipe, HERE),
        "spec": sha256(spec_file()),
        "pins": json.dumps([frozen_versions(pins()), pins()["wheels"]], sort_keys=True),
        "python": interpreter.key,
        "target": repr(target),
    }
    here = targets.builder()
    freezers = {here: interpreter} if target == here else {here: interpreter.needs[0], target: interpreter}

    def build(work: Path, out: Path, report: Report) -> None:
        _build({system: store.place_of(part) for system, part in freezers.items()}, work, out, report)

    return Part("runtime", inputs, build, SECONDS, target.name, tuple(freezers.values()))


RECIPE = ("runtime_pkg", "runtime_licenses", "counterparts", "pkg", "elf_shrink", "zip_codecs")


def _build(interpreters: Mapping[Target, Path], work: Path, out: Path, report: Report) -> None:
    """Freeze into `out`, by the first of these and for the last; the environments in `work` are made anew, so that
    nothing stale is frozen."""
    report.step("fetching the runtime's packages")
    made = {}
    for target, interpreter in interpreters.items():
        made[target] = make_environment(target, interpreter, work / f"environment-{target.name}", report)
        copy_runtime(made[target])
    (here, ours), (there, theirs) = list(made.items())[0], list(made.items())[-1]
    report.progress(0.4)
    report.step("freezing the runtime")
    frozen = read_pkg(freeze(python.program(ours), spec_file(), work / "frozen", report))
    if there != here:
        frozen = counterparts(frozen, here, ours, there, theirs)
    report.progress(0.9)
    write_pkg(repack(frozen, work / "files"), out / "runtime.pkg", deflate=True)
    write_licenses(python.library_folder(theirs), site_packages(theirs), out / "licenses", pins()["runtime"])


def spec_file() -> Path:
    """What PyInstaller is told."""
    return next(path for path in SPECS if path.is_file())


def runtime_folder() -> Path:
    """Where mkllm.runtime lies; it is looked up, not imported."""
    found = find_spec("mkllm.runtime")
    assert found and found.submodule_search_locations
    return Path(found.submodule_search_locations[0])


def runtime_files() -> list[Path]:
    """Every file of it."""
    paths = (path for path in runtime_folder().rglob("*") if path.is_file())
    return [path for path in paths if "__pycache__" not in path.parts]


def make_environment(target: Target, interpreter: Path, folder: Path, report: Report) -> Path:
    """A copy of that Python, with the pinned wheels for a target and nothing else; returns its folder."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(interpreter, folder)
    install_packages(target, folder, report)
    return folder


def install_packages(target: Target, folder: Path, report: Report) -> None:
    """The pinned wheels for a target into an environment."""
    table = pins()
    wanted = [
        requirement(name, version, table["wheels"].get(name, ()))
        for name, version in sorted(frozen_versions(table).items())
    ]
    command: list[str | Path] = [
        "install",
        "--quiet",
        "--no-compile",
        "--only-binary",
        ":all:",
        *for_python(target.platforms),
    ]
    try:
        pip([*command, "--target", site_packages(folder)], wanted, report.log)
    except ToolFailed as failure:
        raise ToolFailed(
            "the runtime's packages could not be installed: check the network or the index that pip is set up with\n"
            f"{failure}"
        ) from None


def for_python(platforms: Sequence[str]) -> list[str]:
    """Words that tell pip to choose wheels for the kit's Python, not for the one that runs this."""
    system = [word for platform in platforms for word in ("--platform", platform)]
    return ["--python-version", python.short_version(), "--implementation", "cp", *system]


def site_packages(environment: Path) -> Path:
    """Where an environment keeps its packages."""
    return python.library_folder(environment) / "site-packages"


def copy_runtime(environment: Path) -> None:
    """mkllm.runtime into the environment, alone: what it does not find there, it must not need."""
    copy_runtime_to(site_packages(environment))


def copy_runtime_to(packages: Path) -> None:
    """mkllm.runtime into a folder of packages."""
    shutil.copytree(runtime_folder(), packages / "mkllm" / "runtime", ignore=shutil.ignore_patterns("__pycache__"))


def freeze(python: Path, spec: Path, work: Path, report: Report) -> Path:
    """Run PyInstaller; returns the PKG as it made it, beside what else the spec wrote."""
    shutil.rmtree(work, ignore_errors=True)
    folders: list[str | Path] = ["--distpath", work / "dist", "--workpath", work / "build"]
    args: list[str | Path] = [python, "-m", "PyInstaller", "--noconfirm", *folders, spec]
    clean = {"PYINSTALLER_CONFIG_DIR": str(work / "config"), "PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": "1"}
    run(args, env={**REPRODUCIBLE, **clean}, log=report.log)
    return work / "build" / spec.stem / "runtime.pkg"


def repack(pkg: Pkg, folder: Path) -> Pkg:
    """The same PKG with smaller files and with what the entry must know; `folder` holds its libraries on return."""
    shutil.rmtree(folder, ignore_errors=True)
    entries = [_smaller(entry) for entry in pkg.entries if is_wanted(entry)]
    for entry in entries:
        if entry.kind == BINARY:
            path = folder / entry.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(entry.data)
    libraries = libraries_of(pkg)
    needed = {name: read_elf(folder / name).needed for name in libraries}
    words = [f"{GLIBC} {newest_glibc(folder)}"] + [f"{PRELOAD} {name}" for name in loading_order(needed)]
    options = [Entry(word, OPTION, b"") for word in words]
    return replace(pkg, entries=in_order([*options, *entries]))


def libraries_of(pkg: Pkg) -> list[str]:
    """Shared libraries beside Python's own. All lie at the top of the home; extension modules lie below."""
    binaries = [entry.name for entry in pkg.entries if entry.kind == BINARY and "/" not in entry.name]
    return sorted(name for name in binaries if name != pkg.library and ".so" in name and name.startswith("lib"))


def loading_order(needed: dict[str, tuple[str, ...]]) -> list[str]:
    """Names such that each comes after those that it needs."""
    ordered: list[str] = []
    while len(ordered) < len(needed):
        ready = [
            name
            for name in sorted(needed)
            if name not in ordered and all(other in ordered or other not in needed for other in needed[name])
        ]
        if not ready:
            raise ToolFailed(f"the runtime's libraries need one another in a circle: {', '.join(sorted(needed))}")
        ordered += ready
    return ordered


def glibc_of(path: Path) -> str:
    """The newest glibc that the libraries inside a runtime.pkg need, such as `2.35`."""
    return read_pkg(path).option(GLIBC) or "0"


def is_wanted(entry: Entry) -> bool:
    """Of what pip wrote about a package, its version is asked for; the rest differs from machine to machine."""
    return ".dist-info/" not in entry.name or entry.name.endswith("/METADATA")


def _smaller(entry: Entry) -> Entry:
    if entry.kind == BINARY:
        return replace(entry, data=shrink(entry.data))
    if entry.name == BASE_LIBRARY:
        return replace(entry, data=without_old_codecs(entry.data))
    return entry
