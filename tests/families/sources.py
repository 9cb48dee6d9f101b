"""Chat templates of models as their authors publish them, out of the pinned source of llama.cpp; keeps none itself."""

import ast
import functools
import re
import tarfile
from collections.abc import Iterator

from mkllm.builder.kit import sdist
from mkllm.builder.kit.pins import sdist as pinned

FILE = re.compile(r".*/vendor/llama\.cpp/models/templates/(?P<name>[^/]+)\.jinja")
CASES = "/vendor/llama.cpp/tests/test-chat-template.cpp"
BINDINGS = "/llama_cpp/llama_chat_format.py"
CASE = re.compile(
    r'/\* \.name= \*/ "(?P<name>(?:[^"\\]|\\.)*)",(?:\s*//[^\n]*)*\s*'
    r"/\* \.template_str= \*/ (?P<text>.*?),\n\s*/\* \.expected_output= \*/",
    re.DOTALL,
)
STRING = re.compile(r'R"(?P<mark>[^(]*)\((?P<raw>.*?)\)(?P=mark)"|"(?P<plain>(?:[^"\\\n]|\\.)*)"', re.DOTALL)
ESCAPE = re.compile(r"\\(.)", re.DOTALL)
ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
CONSTANT = re.compile(r"(?P<name>\w+)_CHAT_TEMPLATE = (?P<text>\".*\")")


@functools.cache
def templates() -> dict[str, str]:
    """By name: files of `models/templates`, cases of llama.cpp's own test, and `…_CHAT_TEMPLATE` of the bindings."""
    found: dict[str, str] = {}
    with tarfile.open(sdist.fetch(pinned("llama-cpp-python"))) as tar:
        for entry in tar:
            if match := FILE.fullmatch(entry.name):
                found[match["name"]] = _text(tar, entry)
            elif entry.name.endswith(CASES):
                found |= dict(_cases(_text(tar, entry)))
            elif entry.name.endswith(BINDINGS):
                matches = CONSTANT.finditer(_text(tar, entry))
                found |= {match["name"]: str(ast.literal_eval(match["text"])) for match in matches}
    return found


def _text(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> str:
    file = tar.extractfile(entry)
    assert file
    with file:
        return file.read().decode()


def _cases(source: str) -> Iterator[tuple[str, str]]:
    """The templates of a C++ test, by the names of their cases."""
    for match in CASE.finditer(source):
        yield match["name"], "".join(map(_string, STRING.finditer(match["text"])))


def _string(match: re.Match[str]) -> str:
    if match["raw"] is not None:
        return match["raw"]
    return ESCAPE.sub(lambda escape: ESCAPES.get(escape[1], escape[1]), match["plain"])
