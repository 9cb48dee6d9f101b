"""glibc 2.17 itself, of CentOS 7's age, which a toolchain on PyPI has in its sysroot, for each processor its own."""

import tarfile
from pathlib import Path

from mkllm.builder.kit.pip import pip, requirement
from mkllm.builder.kit.target import Target

HASHES = (
    "cdc534b53f052ff32812ea7167afd3393068b1dab92c63546b38353c286aac73",  # x86_64
    "e5447e55f6a51811481dcd41b580fd2f58450dcfd17a5871f8b7051d710f51c0",  # aarch64
)
PPBT = requirement("ppbt", "0.1.8", HASHES)


def old_glibc(root: Path, target: Target) -> None:
    """Its libraries into `root`, where the target's loader is looked for; nothing else is there."""
    folder, triplet = root.with_name("ppbt"), target.triplet
    words: list[str | Path] = ["install", "--quiet", "--only-binary", ":all:", "--target", folder]
    pip([*words, "--platform", f"manylinux_2_17_{target.machine}"], [PPBT])
    prefix = f"{triplet}/{triplet}/sysroot/lib/"
    with tarfile.open(folder / "ppbt" / "_toolchain" / f"{triplet}.tar.xz") as archive:
        wanted = [member for member in archive if member.name.startswith(prefix)]
        for member in wanted:
            member.name = member.name.removeprefix(prefix)
        archive.extractall(root / Path(target.loader).parent.relative_to("/"), wanted, filter="data")
