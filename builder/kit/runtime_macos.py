"""The runtime part for macOS: frozen by the Python that runs mkllm there, with packages pinned for it (spec/kit.md).

PyInstaller signs every library that it takes, ad hoc; of its PKG only what differs from Mac to Mac is left out.
"""

import json
import platform
import shutil
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path

from mkllm.builder.errors import MissingTool
from mkllm.builder.kit import python
from mkllm.builder.kit.part import VERSION, Part, Report, digest
from mkllm.builder.kit.pins import frozen_versions, pins
from mkllm.builder.kit.pkg import in_order, read_pkg, write_pkg
from mkllm.builder.kit.runtime_licenses import write_licenses
from mkllm.builder.kit.runtime_pkg import (
    copy_runtime,
    freeze,
    install_packages,
    is_wanted,
    runtime_files,
    runtime_folder,
    site_packages,
    spec_file,
)
from mkllm.builder.kit.sdist import sha256
from mkllm.builder.kit.target import Target
from mkllm.builder.process import run

HERE = Path(__file__).resolve().parent
RECIPE = ("runtime_macos", "runtime_pkg", "runtime_licenses", "pkg")
SECONDS = 60.0


def part(target: Target) -> Part:
    """The part that is frozen with this Python. Raises MissingTool where packages are pinned for another."""
    wanted = python.short_version()
    if platform.python_version().rpartition(".")[0] != wanted:
        raise MissingTool(
            f"the kit for {target.name!r} is built with Python {wanted}, this is {platform.python_version()}: install "
            f"mkllm with Python {wanted} and run it there"
        )
    inputs = {
        "runtime": digest(runtime_files(), runtime_folder()),
        "recipe": digest([HERE / f"{name}.py" for name in RECIPE], HERE),
        "spec": sha256(spec_file()),
        "pins": json.dumps([frozen_versions(pins()), pins()["wheels"]], sort_keys=True),
        VERSION + "python": platform.python_version(),
        "build": sys.version,
        "target": repr(target),
    }

    def build(work: Path, out: Path, report: Report) -> None:
        _build(target, work, out, report)

    return Part("runtime", inputs, build, SECONDS, target.name)


def _build(target: Target, work: Path, out: Path, report: Report) -> None:
    report.step("fetching the runtime's packages")
    environment = work / "environment"
    shutil.rmtree(environment, ignore_errors=True)
    run([sys.executable, "-m", "venv", "--without-pip", environment], log=report.log)
    install_packages(target, environment, report)
    copy_runtime(environment)
    report.progress(0.4)
    report.step("freezing the runtime")
    frozen = read_pkg(freeze(python.program(environment), spec_file(), work / "frozen", report))
    report.progress(0.9)
    entries = [entry for entry in frozen.entries if is_wanted(entry)]
    write_pkg(replace(frozen, entries=in_order(entries)), out / "runtime.pkg", deflate=True)
    library = Path(sysconfig.get_path("stdlib"))
    write_licenses(library, site_packages(environment), out / "licenses", pins()["runtime"])  # zlib is the system's
