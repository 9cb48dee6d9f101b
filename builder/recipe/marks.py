"""Whether a Go template is the model's own chat template in another language, as the marks in it show."""

import re
from collections.abc import Iterator, Sequence

from mkllm.builder.recipe import go_parser as go
from mkllm.builder.recipe.jinja import fields_of

MARK = re.compile(r"<{1,2}/?[^<>\s]{1,40}>{1,2}|\[/?[A-Z_]+\]")
ROLE = re.compile(r"\b(system|user|assistant|model|tool|ipython|developer)\b")
# A model's own template has these as variables.
ENDS = {"bos_token": ("<s>", "<bos>", "<|begin_of_text|>", "<｜begin▁of▁sentence｜>"), "eos_token": ("</s>", "<eos>")}
TOOLS = ("Tools", "ToolCalls")


def marks(template: str) -> frozenset[str] | None:
    """The marks that a Go template is made of; None when it has other text, but what it says of tools.

    Raises TemplateMistake.
    """
    text = "".join(_texts(go.parse(template)))
    found = frozenset(MARK.findall(text))
    rest = ROLE.sub("", MARK.sub("", text))
    return found if found and not rest.strip() else None


def are_own(found: frozenset[str], own: str) -> bool:
    """Whether the model's own chat template has all of these marks."""
    variables = {mark for name, ends in ENDS.items() if name in own for mark in ends}
    return all(mark in own or mark in variables for mark in found)


def _texts(nodes: Sequence[go.Node]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, go.Text):
            yield node.text
        elif isinstance(node, go.Print) and isinstance(node.value, go.Literal):
            yield str(node.value.value)
        elif isinstance(node, go.Branch):
            if not _is_of_tools(node.value):
                yield from _texts(node.then)
            yield from _texts(node.otherwise)


def _is_of_tools(value: go.Expression) -> bool:
    if any(name in names for names in fields_of(value) for name in TOOLS):
        return True
    return isinstance(value, go.Call) and any(
        isinstance(argument, go.Literal) and argument.value == "tool" for argument in value.arguments
    )
