"""The part `web`: upstream's own chat page (llama.cpp's tools/ui), built by npm and vite for machines off line."""

import gzip
import json
import os
import re
import shutil
import tarfile
import zlib
from importlib import resources
from pathlib import Path

from mkllm.builder.errors import ToolFailed, WrongHash
from mkllm.builder.kit import node, web_licenses
from mkllm.builder.kit.part import Part, Report, digest
from mkllm.builder.kit.pins import sdist as pinned
from mkllm.builder.process import run

UPSTREAM = "vendor/llama.cpp"
PAGE = f"{UPSTREAM}/tools/ui"
LICENSE = f"{UPSTREAM}/LICENSE"
CODE = ("web.py", "web_licenses.py", "web/svelte.config.js", "web/vite.config.ts")
# Icons for home screens, which the page is not put on, and a second favicon.
NEVER_SHOWN = re.compile(r'[ \t]*<link rel="(?:apple-touch-icon|manifest|icon)" href="(?!favicon\.svg)[^>]*>\n\n?')
UNREACHABLE = re.compile(r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ERR_SOCKET|E40[134]|E50[0-4]")


def part(sdist: Path) -> Part:
    """The part made from the llama-cpp-python sdist at `sdist`."""
    here = Path(str(resources.files("mkllm.builder.kit")))
    source = pinned("llama-cpp-python")
    inputs = {"sdist": source.sha256, "code": digest([here / name for name in CODE], here)}

    def build(work: Path, out: Path, report: Report) -> None:
        page = _sources(sdist, work, here / "web", report)
        report.progress(0.02)
        tools = node.find(work, report)
        report.progress(0.05)
        _install(tools, page, report)
        report.progress(0.25)
        built = _build(tools, page, report)
        report.step("compressing the chat page")
        _finish(built, out / "web", source.version)
        web_licenses.write(page, work / "bundled.json", work / LICENSE, out / "licenses" / "web.txt")
        shutil.rmtree(page / "node_modules")

    return Part("web", inputs, build, weight=230.0)


def _sources(sdist: Path, work: Path, configuration: Path, report: Report) -> Path:
    """Unpack the page's sources, with our configuration in place of upstream's; installed packages stay."""
    report.step("unpacking the chat page")
    page = work / PAGE
    for old in page.iterdir() if page.exists() else ():
        if old.name != "node_modules":
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    try:
        with tarfile.open(sdist) as archive:
            archive.extraction_filter = getattr(tarfile, "data_filter", None)
            archive.extractall(work, [_moved(member) for member in archive if _wanted(member.name)])
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise WrongHash(f"{str(sdist)!r} is damaged ({error}): delete it and run the command again") from None
    shutil.rmtree(page / "static")
    for file in configuration.iterdir():
        shutil.copyfile(file, page / file.name)
    return page


def _wanted(name: str) -> bool:
    inner = name.partition("/")[2]
    return inner == LICENSE or inner.startswith(f"{PAGE}/")


def _moved(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.name = member.name.partition("/")[2]
    return member


def _install(tools: node.Node, page: Path, report: Report) -> None:
    """Get the packages that package-lock.json pins by hash; none of their install scripts is run."""
    report.step("fetching the chat page's packages")
    stamp, lock = page / "node_modules" / ".mkllm", (page / "package-lock.json").read_bytes()
    if stamp.exists() and stamp.read_bytes() == lock:
        return
    words = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
    try:
        run([*tools.npm, *words], cwd=page, env=_environment(tools), log=report.log)
    except ToolFailed as failure:
        if UNREACHABLE.search(str(failure)):
            raise ToolFailed(
                "the chat page's packages could not be downloaded: check the network, or the registry of npm"
                f"\n{failure}"
            ) from None
        raise
    stamp.write_bytes(lock)


def _build(tools: node.Node, page: Path, report: Report) -> Path:
    """Run vite; returns the folder with the finished page."""
    report.step("building the chat page")
    out, bundled = page / "dist", page.parents[3] / "bundled.json"
    ahead = [("modules transformed", 0.3), ("building client", 0.35), ("modules transformed", 0.7), ("built in", 0.9)]

    def advance(line: str) -> None:
        if ahead and ahead[0][0] in line:
            report.progress(ahead.pop(0)[1])

    vite: list[str | Path] = [tools.program, page / "node_modules" / "vite" / "bin" / "vite.js", "build"]
    env = {**_environment(tools), "MKLLM_WEB_OUT": str(out), "MKLLM_WEB_BUNDLED": str(bundled)}
    run(vite, cwd=page, env=env, log=report.log, on_line=advance)
    if not (out / "index.html").exists():
        raise ToolFailed("vite ended well but wrote no index.html: the build log says more")
    return out


def _environment(tools: node.Node) -> dict[str, str]:
    """Quiet, in the C locale, nothing downloaded beside the packages, and the same Node for what npm and vite start."""
    path = f"{tools.program.parent}:{os.environ.get('PATH', os.defpath)}"
    return {"PATH": path, "CI": "1", "NO_COLOR": "1", "LC_ALL": "C", "PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD": "1"}


def _finish(built: Path, web: Path, version: str) -> None:
    """Copy the page to `web` without what is never shown, compressed where that is smaller."""
    index = (built / "index.html").read_text("utf-8")
    index = NEVER_SHOWN.sub("", index).replace('"/_app/', '"./_app/')
    (built / "index.html").write_text(index, "utf-8")
    (built / "build.json").write_text(json.dumps({"version": f"llama-cpp-python {version}"}))
    for file in sorted(path for path in built.rglob("*") if path.is_file()):
        _put(file.read_bytes(), web / file.relative_to(built))


def _put(data: bytes, target: Path) -> None:
    small = gzip.compress(data, 9, mtime=0)
    target.parent.mkdir(parents=True, exist_ok=True)
    if len(small) < len(data):
        target.with_name(f"{target.name}.gz").write_bytes(small)
    else:
        target.write_bytes(data)
