"""Licences of what vite bundled into the chat page; knows no bundler, only the list of files that went in."""

import json
import re
from pathlib import Path
from typing import Any

from mkllm.builder.errors import ToolFailed

PACKAGE = re.compile(r"(?P<folder>.*/node_modules/(?:@[^/]+/)?[^/]+)/")
LICENSE_FILE = re.compile(r"(licen[cs]e|copying|notice)([.-].*)?$", re.IGNORECASE)
RULE = "=" * 80


def write(page: Path, bundled: Path, upstream: Path, target: Path) -> None:
    """Write one text: the licences of the page itself (the file `upstream`), of the sources that it carries, and of
    every npm package that a file of the list in `bundled` belongs to."""
    files: list[str] = json.loads(bundled.read_text("utf-8"))
    folders = {Path(found["folder"]) for name in files if (found := PACKAGE.match(name))}
    carried = [path for path in (page / "src" / "lib" / "vendors").iterdir() if path.is_dir()]
    sections = {"llama.cpp, its chat page": upstream.read_text("utf-8")}
    sections |= {path.name: _texts(path) for path in sorted(carried)}
    sections |= dict(sorted(_package(folder) for folder in folders))
    target.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(f"{RULE}\n{name}\n{RULE}\n{text.strip()}\n" for name, text in sections.items())
    target.write_text(text, "utf-8")


def _package(folder: Path) -> tuple[str, str]:
    """Title and licence text of an npm package; where it has no such file, what its package.json says."""
    facts: dict[str, Any] = json.loads((folder / "package.json").read_text("utf-8"))
    licence = facts.get("license") or facts.get("licenses") or ""
    title = f"{facts['name']} {facts['version']}" + (f": {licence}" if licence else "")
    return title, _texts(folder) or _said(facts, licence)


def _texts(folder: Path) -> str:
    paths = sorted(path for path in folder.iterdir() if LICENSE_FILE.match(path.name) and path.is_file())
    return "\n".join(path.read_text("utf-8", errors="replace").replace("\r\n", "\n").strip() for path in paths)


def _said(facts: dict[str, Any], licence: Any) -> str:
    author = facts.get("author") or "its authors"
    if not licence:
        raise ToolFailed(f"the npm package {facts['name']!r} states no licence: it may not go into a kit")
    name = author.get("name", "its authors") if isinstance(author, dict) else author
    return f"Licence: {licence}, as its package.json says. By {name}."
