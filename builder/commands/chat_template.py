"""What `--chat-template` takes: the name of a format, a file, or a template itself; asks no engine what it is worth."""

from typing import Any

import click

from mkllm.builder.commands.text import AT, Text
from mkllm.builder.model.formats import formats, near

SUFFIX = ".jinja"
MARK = "{"  # all that Jinja knows begins with it


class ChatTemplate(Text):
    """A text of Jinja: as it is, read from `FILE.jinja` or `@FILE`, or that of a format that is named."""

    name = "name|file.jinja|text"

    def file(self, value: str) -> str | None:
        """A name that ends in `.jinja` is a file's, too."""
        is_name = value.endswith(SUFFIX) and MARK not in value and not value.startswith(AT)
        return value if is_name else super().file(value)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if found := formats().get(text.lower()):
            return found.template
        file = self.file(text)
        if file is None and MARK not in text:
            self.fail(_unknown(text), param, ctx)
        template = super().convert(value, param, ctx)
        if MARK not in template:
            self.fail(f"{file!r} holds no chat template, which would be Jinja: name another file", param, ctx)
        return template


def _unknown(text: str) -> str:
    known = f"known are {', '.join(formats())};"
    hint = f"did you mean {' or '.join(map(repr, found))}?" if (found := near(text)) else known
    return f"there is no format {text!r}: {hint} else name a file that ends in {SUFFIX}, or give the template itself"
