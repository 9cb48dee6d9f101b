"""CPython's source as it is compiled: Debian's, with the fixes that Debian added, and a few lines of ours.

Of Debian's series of patches those from the pinned one on are fixes; those before it arrange Python for Debian.
"""

import shutil
from pathlib import Path

from mkllm.builder.errors import ToolFailed
from mkllm.builder.kit.part import Report
from mkllm.builder.kit.pins import pins
from mkllm.builder.kit.sdist import sha256, unpack
from mkllm.builder.process import run

# SHA-256 by the processor, before CPython's own loop; and other threads run while much is hashed, as with OpenSSL's.
# Unlike that it has no lock: with one hash only one thread at a time may do anything, which is so in the runtime.
EDITS = {
    "Modules/sha256module.c": (
        ('#include "hashlib.h"', '#include "hashlib.h"\n#include "mkllm_sha256.h"'),
        (
            "    while (count >= SHA_BLOCKSIZE) {",
            "    mkllm_sha256(sha_info->digest, &buffer, &count);\n    while (count >= SHA_BLOCKSIZE) {",
        ),
        (
            "    sha_update(self, buf.buf, buf.len);\n\n",
            "    Py_BEGIN_ALLOW_THREADS\n    sha_update(self, buf.buf, buf.len);\n    Py_END_ALLOW_THREADS\n\n",
        ),
    ),
    # By the name that lld knows the option by, too.
    "Makefile.pre.in": (("-Wl,-h$(INSTSONAME)", "-Wl,-soname,$(INSTSONAME)"),),
}


def prepare(source: Path, debian: Path, project: Path, folder: Path, report: Report) -> None:
    """CPython in `folder`, out of its source and Debian's additions, with the files of `project` among its modules.

    Nothing is done when it is there already, so that what is compiled stays so.
    """
    mark, wanted = folder / ".prepared", f"{sha256(source)} {sha256(debian)}"
    if not (mark.exists() and mark.read_text() == wanted):
        shutil.rmtree(folder, ignore_errors=True)
        unpack(source, folder)
        unpack(debian, folder / "debian")
        _patch(folder, report)
        for name, edits in EDITS.items():
            _edit(folder / name, edits)
        mark.write_text(wanted)
    for path in project.iterdir():
        target = folder / "Modules" / path.name
        if not target.exists() or target.read_bytes() != path.read_bytes():
            shutil.copyfile(path, target)


def _patch(folder: Path, report: Report) -> None:
    patches = folder / "debian" / "patches"
    series = (patches / "series").read_text().split()
    for name in series[series.index(pins()["debian"]["python"]["first_patch"]) :]:
        words: list[str | Path] = ["patch", "--batch", "--forward", "--no-backup-if-mismatch", "--strip=1"]
        run([*words, "--directory", folder, "--input", patches / name], log=report.log)


def _edit(path: Path, edits: tuple[tuple[str, str], ...]) -> None:
    text = path.read_text("utf-8")
    for old, new in edits:
        if text.count(old) != 1:
            raise ToolFailed(
                f"{path.name!r} of Python's source is another than expected: {old.strip()!r} is not in it once"
            )
        text = text.replace(old, new)
    path.write_text(text, "utf-8")
