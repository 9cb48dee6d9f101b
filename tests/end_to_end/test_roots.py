"""One file on systems old, bare and strange, each a root made for it and entered by chroot, as root and as anybody.

What is slow to make is kept in mkllm's cache, in `roots`; it may be deleted at any time.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mkllm.builder import cache
from mkllm.builder.kit import toolchain
from mkllm.builder.kit.target import TARGETS
from mkllm.builder.process import run

from .sysroot import old_glibc

ASK = ("-p", "What is mkllm?", "--temperature", "0")
LINUX = TARGETS["linux-x86_64"]
LOADER = "lib64/ld-linux-x86-64.so.2"
MUSL = Path("/lib/ld-musl-x86_64.so.1")
# A C library as of 2006: what a program asks it first is whether it has the versions of symbols that the program needs.
OLD_LIBC = "int gnu_get_libc_version(void) { return 0; }\n"
OLD_VERSIONS = (
    "GLIBC_2.2.5 { global: gnu_get_libc_version; local: *; };\nGLIBC_2.4 { } GLIBC_2.2.5;\nGLIBC_2.5 { } GLIBC_2.4;\n"
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make other roots and enter them")


def centos_7(root: Path) -> None:
    """Its glibc, 2.17, and nothing else."""
    old_glibc(root, LINUX)


def libc_alone(root: Path) -> None:
    """This machine's C library: no shell, no other library, no files of configuration."""
    for line in run(["dpkg", "--listfiles", "libc6"]).splitlines():
        source = Path(line)
        if ".so" in source.name and not source.is_dir():
            target = root / source.parent.resolve().relative_to("/") / source.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target, follow_symlinks=False)
    target = Path("/", LOADER).resolve()
    (root / "lib64").mkdir(exist_ok=True)
    (root / LOADER).unlink(missing_ok=True)
    (root / LOADER).symlink_to(target)
    (root / "lib").exists() or (root / "lib").symlink_to("usr/lib")


def debian(suite: str) -> Callable[[Path], None]:
    """What debootstrap calls minimal, from where apt gets its packages."""

    def make(root: Path) -> None:
        if not shutil.which("debootstrap"):
            pytest.skip("debootstrap is not installed")
        lines = run(["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)"]).splitlines()
        archives = sorted({uri for label, _, uri in (line.partition(" ") for line in lines) if label == "Debian"})
        if not archives:
            pytest.skip("apt knows no archive of Debian: `apt-get update` was not run, or this is another system")
        run(["debootstrap", "--variant=minbase", suite, root, archives[0]])

    return make


def musl(root: Path) -> None:
    """As Alpine is: musl, and a shell."""
    if not (MUSL.exists() and Path("/bin/busybox").exists()):
        pytest.skip("musl and busybox-static are not installed")
    for source in (MUSL, Path("/bin/busybox")):
        target = root / source.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    (root / "bin" / "sh").symlink_to("busybox")


def too_old(root: Path) -> None:
    """A loader, and beside it a C library with the symbol versions of glibc 2.5."""
    (root / "lib64").mkdir(parents=True)
    shutil.copy(Path("/", LOADER), root / LOADER)
    code, versions = root / "libc.c", root / "libc.map"
    code.write_text(OLD_LIBC)
    versions.write_text(OLD_VERSIONS)
    words = [toolchain.find_zig(), "cc", "-target", LINUX.zig, "-shared", "-nostdlib"]
    link = [f"-Wl,--version-script={versions}", "-Wl,-soname,libc.so.6", "-o", root / "lib64" / "libc.so.6"]
    run([*words, code, *link], env=toolchain.environment())


def short_loader(root: Path) -> None:
    """A loader of which the end is missing."""
    (root / "lib64").mkdir(parents=True)
    (root / LOADER).write_bytes(Path("/", LOADER).read_bytes()[:100_000])


def another_loader(root: Path) -> None:
    """A program at the loader's place that is none."""
    if not Path("/bin/busybox").exists():
        pytest.skip("busybox-static is not installed")
    (root / "lib64").mkdir(parents=True)
    shutil.copy("/bin/busybox", root / LOADER)


def nothing(root: Path) -> None:
    """No C library at all."""
    root.mkdir()


ROOTS: dict[str, Callable[[Path], None]] = {
    "glibc-2.17": centos_7,
    "debian-11": debian("bullseye"),
    "debian-12": debian("bookworm"),
    "libc-alone": libc_alone,
    "musl": musl,
    "too-old": too_old,
    "short-loader": short_loader,
    "another-loader": another_loader,
    "nothing": nothing,
}
KEPT = ("glibc-2.17", "debian-11", "debian-12")
Enter = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def root_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`root_of(name)`: the folder of that root, made now or earlier."""

    passing = tmp_path_factory.mktemp("roots")

    def root(name: str) -> Path:
        base = cache.folder("roots") if name in KEPT else passing
        place = base / name
        with cache.locked(base / f"{name}.lock"):
            if not place.exists():
                with cache.draft(base, name) as draft:
                    ROOTS[name](draft / "root")
                    for folder in ("proc", "dev", "tmp", "mnt"):
                        (draft / "root" / folder).mkdir(parents=True, exist_ok=True)
                    os.rename(draft / "root", place)
        return place

    return root


@pytest.fixture(scope="module")
def enter(demo: Path, root_of: Callable[[str], Path]) -> Enter:
    """`enter(name, *words, user=…)`: what the demo answers in that root, of which it can change nothing but /tmp."""

    def entered(name: str, *words: str, user: int = 0, program: str = "/mnt/demo") -> subprocess.CompletedProcess[str]:
        root = root_of(name)
        script = (
            f"cd '{root}'; mount --bind . .; cd '{root}'\n"
            f"mount -t tmpfs none mnt; touch mnt/demo; mount --bind '{demo}' mnt/demo\n"
            "mount -t proc none proc; mount --rbind /dev dev; mount -t tmpfs -o mode=1777 none tmp\n"
            "mount -o remount,bind,ro .\n"
            f'exec chroot --userspec={user}:{user} . {program} "$@"\n'
        )
        command = ["unshare", "--mount", "bash", "-ec", script, "-", *words]
        env = {"PATH": os.environ["PATH"]}
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)

    return entered


@pytest.fixture(scope="module")
def answer(demo: Path) -> str:
    """What the demo says on this machine as it is."""
    return subprocess.run([demo, *ASK], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("user", [0, 1000])
@pytest.mark.parametrize("name", ["glibc-2.17", "debian-11", "debian-12", "libc-alone"])
def test_answers_all_the_same(enter: Enter, answer: str, name: str, user: int) -> None:
    done = enter(name, *ASK, user=user)
    assert (done.returncode, done.stdout, done.stderr) == (0, answer, "")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("musl", "this system's C library is musl, and this file needs glibc 2.17 or newer: run it on a system with"),
        ("too-old", "this system's C library is glibc 2.5, and this file needs glibc 2.17 or newer: run it on a newer"),
        (
            "nothing",
            "this system has no C library for it: there is no /lib64/ld-linux-x86-64.so.2, and this file needs",
        ),
        ("short-loader", "the loader of this system's C library, /lib64/ld-linux-x86-64.so.2, cannot be used: mend"),
        ("another-loader", "the loader of this system's C library, /lib64/ld-linux-x86-64.so.2, cannot be used: mend"),
    ],
)
@pytest.mark.parametrize("user", [0, 1000])
def test_says_in_one_sentence_what_it_needs(enter: Enter, name: str, reason: str, user: int) -> None:
    done = enter(name, *ASK, user=user)
    assert (done.returncode, done.stdout) == (72, "")
    assert done.stderr.startswith(f"demo: {reason}") and done.stderr.count("\n") == 1


def test_a_shell_on_musl_shows_the_sentence(enter: Enter) -> None:
    done = enter("musl", "-c", "/mnt/demo --version; echo $?", program="/bin/sh")
    assert done.stdout == "72\n" and "C library is musl" in done.stderr
