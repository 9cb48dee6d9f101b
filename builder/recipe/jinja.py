"""A Go template of Ollama's, translated into a Jinja chat template that renders the same text (spec/recipe.md).

All white space of the result stands in strings, so that nothing depends on how an engine trims blocks.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from mkllm.builder.recipe import go_parser as go
from mkllm.builder.recipe.go_lexer import TemplateMistake
from mkllm.builder.recipe.go_values import (
    BOOL,
    FIELDS,
    JSON,
    NONE,
    NUMBER,
    PRINTED_AS_JSON,
    ROOT,
    TEXT,
    Kind,
)

# As Ollama does it: messages of the same role in a row are one, and `.System` is all system prompts.
BEGIN = """\
{%- set ns = namespace(system="", prompt="", response="", messages=[], tools=(TOOLS), \
think=(enable_thinking is defined and enable_thinking), think_set=(enable_thinking is defined)) -%}
{%- for message in messages -%}
{%- if message.role == "system" -%}
{%- set ns.system = (ns.system ~ "\\n\\n" if ns.system else "") ~ message.content -%}
{%- endif -%}
{%- if ns.messages and message.role != "tool" and ns.messages[-1].role == message.role -%}
{%- set ns.messages = ns.messages[:-1] + [dict(ns.messages[-1], \
content=(ns.messages[-1].content or "") ~ "\\n\\n" ~ (message.content or ""))] -%}
{%- else -%}
{%- set ns.messages = ns.messages + [message] -%}
{%- endif -%}
{%- endfor -%}
"""
# A template without `.Messages` is rendered once for each turn, the last time up to `.Response`.
TURNS = """\
{%- set ns.system = "" -%}
{%- for message in ns.messages -%}
{%- if (message.role == "system" and (ns.prompt or ns.response)) or (message.role == "user" and ns.response) -%}
TURN
{%- set ns.system = "" -%}
{%- set ns.prompt = "" -%}
{%- set ns.response = "" -%}
{%- endif -%}
{%- if message.role == "system" -%}
{%- set ns.system = message.content or "" -%}
{%- elif message.role == "user" -%}
{%- set ns.prompt = message.content or "" -%}
{%- elif message.role == "assistant" -%}
{%- set ns.response = message.content or "" -%}
{%- endif -%}
{%- endfor -%}
LAST
"""
COMPARISONS = {"ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
COMPACT = 'tojson(separators=[",", ":"])'
ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r", "\b": "\\b", "\f": "\\f", "\v": "\\v"}
MIXED = Kind("mixed")
VERB = re.compile(r"(%.?)")
FORMATTED = {"%s": (TEXT,), "%v": (TEXT, NUMBER), "%d": (NUMBER,)}

Value = tuple[str, Kind]


def chat_template(template: str) -> str:
    """The Jinja chat template. Raises TemplateMistake for what cannot be rendered faithfully."""
    nodes = go.parse(template)
    if mentions(nodes, "Messages"):
        return BEGIN.replace("TOOLS", "tools or []") + "\n".join(_Writer().lines(nodes)) + "\n"
    if not mentions(nodes, "Response"):
        end = len(template)
        nodes = (*nodes, go.Print(go.Field(None, ("Response",), end), end))
    writer = _Writer()
    turn = "\n".join(writer.lines(nodes))
    last = "\n".join(writer.lines(_cut(nodes)[0]))
    rounds = TURNS.replace("TURN\n", turn + "\n").replace("LAST\n", last + "\n") if turn else ""
    return BEGIN.replace("TOOLS", "[]") + rounds


def mentions(nodes: Sequence[go.Node], name: str) -> bool:
    """Whether a field of that name is used anywhere."""
    return any(name in names for node in nodes for names in _fields(node))


def _fields(node: go.Node) -> Iterator[tuple[str, ...]]:
    if isinstance(node, go.Print | go.Assign):
        yield from fields_of(node.value)
    elif isinstance(node, go.Branch):
        yield from fields_of(node.value)
        for inner in (*node.then, *node.otherwise):
            yield from _fields(inner)


def fields_of(value: go.Expression) -> Iterator[tuple[str, ...]]:
    """The names of fields in an expression."""
    if isinstance(value, go.Field):
        yield value.names
        if value.of:
            yield from fields_of(value.of)
    elif isinstance(value, go.Call):
        for argument in value.arguments:
            yield from fields_of(argument)


def _cut(nodes: Sequence[go.Node]) -> tuple[tuple[go.Node, ...], bool]:
    """The nodes up to the first that prints `.Response`, and whether there is one."""
    kept: list[go.Node] = []
    for node in nodes:
        done = False
        if isinstance(node, go.Branch):
            then, done = _cut(node.then)
            otherwise, done = ((), True) if done else _cut(node.otherwise)
            node = replace(node, then=then, otherwise=otherwise)
        elif isinstance(node, go.Print | go.Assign):
            done = any(_is_response(field) for field in _plain_fields(node.value))
        kept.append(node)
        if done:
            return tuple(kept), True
    return tuple(kept), False


def _plain_fields(value: go.Expression) -> Iterator[go.Field]:
    if isinstance(value, go.Field):
        yield value
    elif isinstance(value, go.Call):
        for argument in value.arguments:
            yield from _plain_fields(argument)


def _is_response(field: go.Field) -> bool:
    return field.of is None and "Response" in field.names


def _has_jump(nodes: Sequence[go.Node]) -> bool:
    """Whether one of them may leave the iteration that they stand in."""
    return any(
        isinstance(node, go.Jump)
        or (isinstance(node, go.Branch) and node.kind != "range" and _has_jump([*node.then, *node.otherwise]))
        for node in nodes
    )


class _Writer:
    """Writes nodes as Jinja. Go's variables become attributes of a namespace, which loops do not hide."""

    def __init__(self) -> None:
        self._count = 0
        self._scopes: list[dict[str, Value]] = [{"$": ("", ROOT)}]
        self._jumps: list[tuple[str, str]] = []  # of each loop around: what is true after a `continue`, and a `break`

    def lines(self, nodes: Sequence[go.Node], dot: Value = ("", ROOT)) -> list[str]:
        """Jinja for the nodes. What follows a jump is left out by a condition: llama.cpp forgets what an iteration has
        written when it is left by `continue`."""
        found: list[str] = []
        for number, node in enumerate(nodes, 1):
            found += self._node(node, dot)
            if isinstance(node, go.Jump):
                break
            if _has_jump([node]) and nodes[number:]:
                rest = self.lines(nodes[number:], dot)
                return [*found, f"{{%- if not {self._jumps[-1][0]} -%}}", *rest, "{%- endif -%}"]
        return found

    def _node(self, node: go.Node, dot: Value) -> list[str]:
        match node:
            case go.Text(text):
                return [f"{{{{- {_string(text)} -}}}}"]
            case go.Print(value, offset):
                return [f"{{{{- {_printed(self._value(value, dot), offset)} -}}}}"]
            case go.Assign():
                return [self._assign(node, dot)]
            case go.Jump(kind, offset):
                return self._jump(kind, offset)
            case go.Branch(kind="range"):
                return self._range(node, dot)
        return self._branch(node, dot)

    def _assign(self, node: go.Assign, dot: Value) -> str:
        code, kind = self._value(node.value, dot)
        if node.declares:
            place = self._declare(node.name, kind)
        else:
            place, known = self._variable(node.name, node.offset)
            if known.name != kind.name:
                raise TemplateMistake(node.offset, f"{node.name} is a {known.name}, and cannot become a {kind.name}")
        return f"{{%- set {place} = {code} -%}}"

    def _declare(self, name: str, kind: Kind) -> str:
        """A new place for a variable, in the scope of now."""
        place = self._new("ns.v")
        self._scopes[-1][name] = (place, kind)
        return place

    def _new(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}{self._count}"

    def _variable(self, name: str, offset: int) -> Value:
        for scope in reversed(self._scopes):
            if name in scope:
                return scope[name]
        raise TemplateMistake(offset, f"there is no variable {name} here")

    def _inside(self, nodes: Sequence[go.Node], dot: Value, names: dict[str, Value]) -> list[str]:
        self._scopes.append(names)
        try:
            return self.lines(nodes, dot)
        finally:
            self._scopes.pop()

    def _branch(self, node: go.Branch, dot: Value) -> list[str]:
        """`if` or `with`."""
        value = self._value(node.value, dot)
        if len(node.names) > 1:
            raise TemplateMistake(node.offset, f"{node.kind!r} has one variable, not two")
        lines, inner = [], dot
        names: dict[str, Value] = {}
        if node.kind == "with" or node.names:
            place = self._new("ns.v")
            lines.append(f"{{%- set {place} = {value[0]} -%}}")
            value = (place, value[1])
            names = {name: value for name in node.names}
            inner = value if node.kind == "with" else dot
        lines += [f"{{%- if {value[0]} -%}}", *self._inside(node.then, inner, dict(names))]
        if node.otherwise:
            lines += ["{%- else -%}", *self._inside(node.otherwise, dot, dict(names))]
        return [*lines, "{%- endif -%}"]

    def _jump(self, kind: str, offset: int) -> list[str]:
        if not self._jumps:
            raise TemplateMistake(offset, f"{kind!r} stands outside of a range")
        skipped, ended = self._jumps[-1]
        names = [skipped, ended] if kind == "break" else [skipped]
        return [f"{{%- set {name} = true -%}}" for name in names]

    def _range(self, node: go.Branch, dot: Value) -> list[str]:
        code, kind = self._value(node.value, dot)
        if not kind.of and kind is not JSON:
            raise TemplateMistake(node.offset, f"a range goes over a list, and this is a {kind.name}")
        is_map = kind.name == "map" or kind is JSON
        element = (self._new("e"), kind.of or JSON)
        key = self._new("k")
        lines = [f"{{%- for {key}, {element[0]} in {code} | dictsort -%}}"]
        index: Value = (key, TEXT)
        names = {node.names[-1]: element} if node.names else {}
        if not is_map:
            lines = [f"{{%- for {element[0]} in {code} -%}}"]
        if len(node.names) > 1 and not is_map:
            index = (self._new("ns.v"), NUMBER)
            lines.append(f"{{%- set {index[0]} = loop.index0 -%}}")
        if len(node.names) > 1:
            names = {node.names[0]: index, **names}
        skipped, ended = self._new("ns.j"), self._new("ns.j")
        self._jumps.append((skipped, ended))
        body = self._inside(node.then, element, names)
        self._jumps.pop()
        if _has_jump(node.then):
            lines.insert(0, f"{{%- set {ended} = false -%}}")
            begin = [f"{{%- set {skipped} = {ended} -%}}", f"{{%- if not {skipped} -%}}"]
            body = [*begin, *body, "{%- endif -%}"]
        lines += body
        if node.otherwise:
            lines += ["{%- else -%}", *self._inside(node.otherwise, dot, {})]
        return [*lines, "{%- endfor -%}"]

    def _value(self, value: go.Expression, dot: Value) -> Value:
        match value:
            case go.Literal(None):
                return "none", NONE
            case go.Literal(bool() as known):
                return str(known).lower(), BOOL
            case go.Literal(str() as text):
                return _string(text), TEXT
            case go.Literal(number):
                return repr(number), NUMBER
            case go.Variable(name, offset):
                return self._variable(name, offset)
            case go.Field(of, names, offset):
                base = dot if of is None else self._value(of, dot)
                for name in names:
                    base = _field(base, name, offset)
                return base
        return self._call(value, [self._value(argument, dot) for argument in value.arguments])

    def _call(self, call: go.Call, given: list[Value]) -> Value:
        codes, kinds = [code for code, _ in given], [kind for _, kind in given]
        name, offset = call.function, call.offset
        match name, len(given):
            case (("and" | "or"), count) if count:
                same = kinds[0] if all(kind == kinds[0] for kind in kinds) else MIXED
                return "(" + f" {name} ".join(codes) + ")", same
            case "not", 1:
                return f"(not {codes[0]})", BOOL
            case "eq", count if count > 1:
                _expect_alike(kinds, offset)
                return "(" + " or ".join(f"{codes[0]} == {code}" for code in codes[1:]) + ")", BOOL
            case (("ne" | "lt" | "le" | "gt" | "ge"), 2):
                _expect_alike(kinds, offset)
                return f"({codes[0]} {COMPARISONS[name]} {codes[1]})", BOOL
            case "len", 1:
                _expect_elements(name, kinds[0], offset)
                return f"({codes[0]} | length)", NUMBER
            case "index", 2:
                _expect_elements(name, kinds[0], offset)
                return f"{codes[0]}[{codes[1]}]", kinds[0].of or JSON
            case "slice", (1 | 2 | 3):
                _expect_elements(name, kinds[0], offset)
                return f"{codes[0]}[{':'.join([*codes[1:], '', ''][:2])}]", kinds[0]
            case "json", 1:
                return _json(codes[0], kinds[0]), TEXT
            case "printf", count if count:
                return _formatted(call, given)
            case "currentDate", 0:
                return 'strftime_now("%Y-%m-%d")', TEXT
        known = "and, or, not, eq, ne, lt, le, gt, ge, len, index, slice, json, printf, currentDate"
        if name in known.split(", "):
            raise TemplateMistake(offset, f"{name!r} does not take {len(given)} values")
        raise TemplateMistake(offset, f"the function {name!r} is not translated: {known} are")


def _field(value: Value, name: str, offset: int) -> Value:
    code, kind = value
    if kind is JSON:
        return f"{code}[{_string(name)}]", JSON
    fields = FIELDS.get(kind.name, {})
    if name not in fields:
        has = f"it has .{', .'.join(fields)}" if fields else "it has no fields"
        what = "the template" if kind is ROOT else f"a {kind.name}"
        raise TemplateMistake(offset, f"{what} is given no .{name}: {has}")
    form, found = fields[name]
    return (form if kind is ROOT and "{}" not in form else form.format(code)), found


def _printed(value: Value, offset: int) -> str:
    """As Go prints it."""
    code, kind = value
    if kind in (TEXT, NUMBER):
        return code
    if kind is BOOL:
        return f'("true" if {code} else "false")'
    if kind.name in PRINTED_AS_JSON:
        return _json(code, kind)
    hint = "print a field of it, or {{ json … }}" if kind is not ROOT and kind is not MIXED else "print a field of it"
    raise TemplateMistake(offset, f"a {kind.name} is not printed as Go would print it: {hint}")


def _json(code: str, kind: Kind) -> str:
    """Arguments of calls are JSON already where a client gave them so."""
    return f"({code} if {code} is string else {code} | {COMPACT})" if kind is JSON else f"({code} | {COMPACT})"


def _formatted(call: go.Call, given: Sequence[Value]) -> Value:
    """Go's printf for texts and whole numbers."""
    form = call.arguments[0]
    if not isinstance(form, go.Literal) or not isinstance(form.value, str):
        raise TemplateMistake(call.offset, "the first value of 'printf' has to be a text")
    parts, rest = [], list(given[1:])
    for text in VERB.split(form.value):
        if text == "%%" or not text.startswith("%"):
            parts.append(_string("%" if text == "%%" else text))
            continue
        if not rest or rest[0][1] not in FORMATTED.get(text, ()):
            raise TemplateMistake(
                form.offset, f"{text!r} is not translated for what it is given: %s of a text is, and %d"
            )
        parts.append(rest.pop(0)[0])
    if rest:
        raise TemplateMistake(form.offset, "'printf' is given more values than it prints")
    return "(" + " ~ ".join(parts) + ")", TEXT


def _expect_elements(name: str, kind: Kind, offset: int) -> None:
    if kind.of is None and kind is not JSON:
        why = ": of a text Go counts bytes" if kind is TEXT else ""
        raise TemplateMistake(offset, f"{name!r} is translated for lists, and this is a {kind.name}{why}")


def _expect_alike(kinds: Sequence[Kind], offset: int) -> None:
    if kinds[0] is not JSON and any(kind != kinds[0] and kind is not JSON for kind in kinds):
        names = " and ".join(f"a {kind.name}" for kind in kinds)
        raise TemplateMistake(offset, f"{names} cannot be compared")


def _string(text: str) -> str:
    return '"' + re.sub(r'[\\"\n\t\r\b\f\v]'.replace(r"\b", "\b"), lambda match: ESCAPES[match[0]], text) + '"'
