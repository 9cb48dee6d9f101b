"""Whether a Go template is the model's own chat template in another language, as the marks in it show."""

import re
from collections.abc import Iterator, Sequence

from mkllm.builder.recipe import go_parser as go

MARK = re.compile(r"<{1,2}/?[^<>\s]{1,40}>{1,2}|\[/?[A-Z_]+\]")
ROLE = re.compile(r"\b(system|user|assistant|model|tool|ipython|developer)\b")
# A model's own template has these as variables.
ENDS = {"bos_token": ("<s>", "<bos>", "<|begin_of_text|>", "<｜begin▁of▁sentence｜>"), "eos_token": ("</s>", "<eos>")}
TOOLS = ("Tools", "ToolCalls")
# What these are given does not come to be printed.
JUDGING = ("eq", "ne", "lt", "le", "gt", "ge", "not", "len", "index", "slice")


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
    """All that can come to be printed and is no value of a conversation's."""
    for node in nodes:
        if isinstance(node, go.Text):
            yield node.text
        elif isinstance(node, go.Print) and isinstance(node.value, go.Literal):
            yield str(node.value.value)
        elif isinstance(node, go.Print | go.Assign):
            yield from _literals(node.value)
        elif isinstance(node, go.Branch):
            if node.kind != "if" or node.names:
                yield from _literals(node.value)
            if not _is_of_tools(node.value):
                yield from _texts(node.then)
            yield from _texts(node.otherwise)


def _literals(value: go.Expression) -> Iterator[str]:
    """The texts that the expression may become or contain; numbers are there to count with."""
    if isinstance(value, go.Literal) and isinstance(value.value, str):
        yield value.value
    elif isinstance(value, go.Field) and value.of:
        yield from _literals(value.of)
    elif isinstance(value, go.Call) and value.function == "currentDate":
        yield value.function
    elif isinstance(value, go.Call) and value.function not in JUDGING:
        for argument in value.arguments:
            yield from _literals(argument)


def _is_of_tools(value: go.Expression) -> bool:
    """Whether it can only be true where there are tools, or for what one of them answers."""
    if isinstance(value, go.Field):
        return any(name in value.names for name in TOOLS) or (value.of is not None and _is_of_tools(value.of))
    if not isinstance(value, go.Call) or not value.arguments:
        return False
    first, *rest = value.arguments
    match value.function:
        case "and":
            return any(map(_is_of_tools, value.arguments))
        case "or":
            return all(map(_is_of_tools, value.arguments))
        case "len" | "index" | "slice" | "json":
            return _is_of_tools(first)
        case "gt":
            return _is_of_tools(first) and _is(rest, 0)
        case "eq":
            return _is(rest, "tool") or (_is([first], "tool") and len(rest) == 1)
    return False


def _is(values: Sequence[go.Expression], wanted: str | int) -> bool:
    return bool(values) and all(isinstance(value, go.Literal) and value.value == wanted for value in values)
