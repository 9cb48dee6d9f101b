"""Licence texts of what the native part is compiled from, out of its sources; the list is native/licenses.toml."""

import re
import tomllib
from pathlib import Path

from mkllm.builder.errors import ToolFailed

LIST = Path(__file__).parent / "native" / "licenses.toml"
COMMENT = re.compile(r"/\*.*?\*/|(?:^//[^\n]*\n)+", re.DOTALL | re.MULTILINE)


def write_licenses(sdist: Path, tools: dict[str, Path], out: Path) -> None:
    """One `<name>.txt` in `out` for each component of the unpacked sdist and of the compiler's own libraries.

    Raises ToolFailed when a text is not where the list says.
    """
    out.mkdir(parents=True, exist_ok=True)
    for entry in tomllib.loads(LIST.read_text("utf-8"))["license"]:
        text = license_text(sdist / entry["path"], entry.get("marker"))
        (out / f"{entry['name']}.txt").write_text(text, "utf-8")
    for name, path in tools.items():
        (out / f"{name}.txt").write_text(license_text(path, None), "utf-8")


def license_text(path: Path, marker: str | None) -> str:
    """The whole file, or without its comment signs the comment that holds `marker`."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ToolFailed(f"the licence text {str(path)!r} cannot be read ({error}): the source has changed") from None
    if marker is None:
        return text
    comment = next((match[0] for match in COMMENT.finditer(text) if marker in match[0]), None)
    if comment is None:
        raise ToolFailed(f"{path.name!r} holds no comment with {marker!r}: the source has changed")
    return _without_signs(comment)


def _without_signs(comment: str) -> str:
    lines = comment.removeprefix("/*").removesuffix("*/").splitlines()
    return "\n".join(line.removeprefix("//").rstrip() for line in lines).strip("\n") + "\n"
