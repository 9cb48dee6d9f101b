"""A Go template as a tree: texts, actions, branches and loops, with the expressions in them; decides nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

from mkllm.builder.recipe.go_lexer import Piece, TemplateMistake, Word, pieces, unquoted

UNKNOWN = ("define", "template", "block")


@dataclass(frozen=True)
class Literal:
    value: str | int | float | bool | None
    offset: int


@dataclass(frozen=True)
class Field:
    """`.A.B` of a value: of dot (None), of a variable, or of an expression in parentheses."""

    of: "Variable | Call | Field | Literal | None"
    names: tuple[str, ...]
    offset: int


@dataclass(frozen=True)
class Variable:
    name: str
    offset: int


@dataclass(frozen=True)
class Call:
    function: str
    arguments: tuple["Expression", ...]
    offset: int


Expression = Literal | Field | Variable | Call


@dataclass(frozen=True)
class Text:
    text: str
    offset: int


@dataclass(frozen=True)
class Print:
    value: Expression
    offset: int


@dataclass(frozen=True)
class Assign:
    """`$x := value`, or `=` for one that is there."""

    name: str
    value: Expression
    declares: bool
    offset: int


@dataclass(frozen=True)
class Branch:
    """`kind` is if, with or range. `names` are the variables that it declares; of a range index and element, if two."""

    kind: str
    names: tuple[str, ...]
    value: Expression
    then: tuple["Node", ...]
    otherwise: tuple["Node", ...]
    offset: int


@dataclass(frozen=True)
class Jump:
    """`break` or `continue`."""

    kind: str
    offset: int


Node = Text | Print | Assign | Branch | Jump


def parse(template: str) -> tuple[Node, ...]:
    """The nodes of a template. Raises TemplateMistake."""
    reader = _Nodes(pieces(template))
    nodes, end = reader.until(())
    assert end is None
    return nodes


class _Nodes:
    def __init__(self, found: Sequence[Piece]) -> None:
        self._pieces = found
        self._at = 0

    def until(self, ends: tuple[str, ...], opened: Piece | None = None) -> tuple[tuple[Node, ...], Piece | None]:
        """Nodes up to an action that begins with one of `ends`; that action, None at the end of the template."""
        nodes: list[Node] = []
        while self._at < len(self._pieces):
            piece = self._pieces[self._at]
            self._at += 1
            if piece.words is None:
                nodes.append(Text(piece.text, piece.offset))
                continue
            first = piece.words[0].text if piece.words else ""
            if first in ends:
                return tuple(nodes), piece
            nodes += self._node(piece, first)
        if opened:
            raise TemplateMistake(opened.offset, f"{opened.text!r:.60} has no {{{{ end }}}}")
        return tuple(nodes), None

    def _node(self, piece: Piece, first: str) -> list[Node]:
        words = piece.words or ()
        if not words:
            raise TemplateMistake(piece.offset, "there is nothing between {{ and }}")
        if first in ("if", "with", "range"):
            return [self._branch(piece, first, words[1:])]
        if first in ("end", "else"):
            raise TemplateMistake(piece.offset, f"this {first!r} belongs to nothing")
        if first in UNKNOWN:
            raise TemplateMistake(piece.offset, f"{first!r} is not translated: write what it stands for in its place")
        if first in ("break", "continue") and len(words) == 1:
            return [Jump(first, piece.offset)]
        if len(words) > 2 and words[0].kind == "variable" and words[1].text in (":=", "="):
            value = _Words(words[2:], piece).whole()
            return [Assign(words[0].text, value, words[1].text == ":=", piece.offset)]
        return [Print(_Words(words, piece).whole(), piece.offset)]

    def _branch(self, piece: Piece, kind: str, words: Sequence[Word]) -> Branch:
        names, words = _declared(words)
        if not words:
            raise TemplateMistake(piece.offset, f"{kind!r} has no value")
        value = _Words(words, piece).whole()
        then, end = self.until(("else", "end"), piece)
        otherwise: tuple[Node, ...] = ()
        if end and end.words and end.words[0].text == "else":
            if rest := end.words[1:]:
                if rest[0].text not in ("if", "with"):
                    raise TemplateMistake(rest[0].offset, f"{rest[0].text!r} cannot follow 'else'")
                otherwise = (self._branch(end, rest[0].text, rest[1:]),)
            else:
                otherwise, _ = self.until(("end",), end)
        return Branch(kind, names, value, then, otherwise, piece.offset)


def _declared(words: Sequence[Word]) -> tuple[tuple[str, ...], Sequence[Word]]:
    """`$x :=` or `$i, $x :=` in front, and the rest."""
    kinds = [word.text if word.kind == "sign" else word.kind for word in words[:4]]
    if kinds[:2] == ["variable", ":="]:
        return (words[0].text,), words[2:]
    if kinds == ["variable", ",", "variable", ":="]:
        return (words[0].text, words[2].text), words[4:]
    return (), words


class _Words:
    """The expression that the words of an action are."""

    def __init__(self, words: Sequence[Word], piece: Piece) -> None:
        self._words = words
        self._piece = piece
        self._at = 0

    def whole(self) -> Expression:
        value = self._pipeline()
        if word := self._peek():
            raise TemplateMistake(word.offset, f"{word.text!r} is not expected here")
        return value

    def _peek(self) -> Word | None:
        return self._words[self._at] if self._at < len(self._words) else None

    def _pipeline(self) -> Expression:
        """Commands with `|` between: each is the last argument of the next."""
        value = self._command(None)
        while (word := self._peek()) and word.text == "|":
            self._at += 1
            value = self._command(value)
        return value

    def _command(self, last: Expression | None) -> Expression:
        word = self._peek()
        if word and word.kind == "name" and word.text not in ("true", "false", "nil"):
            self._at += 1
            arguments = []
            while (more := self._peek()) and more.text not in ("|", ")"):
                arguments.append(self._operand())
            return Call(word.text, (*arguments, *((last,) if last else ())), word.offset)
        value = self._operand()
        if last:
            raise TemplateMistake(value.offset, "what follows a | has to be a function")
        return value

    def _operand(self) -> Expression:
        word = self._peek()
        if word is None:
            raise TemplateMistake(self._piece.offset, f"{self._piece.text!r:.60} lacks a value")
        self._at += 1
        match word.kind:
            case "string":
                return Literal(unquoted(word), word.offset)
            case "number":
                return Literal(_number(word), word.offset)
            case "dot":
                return Field(None, (), word.offset)
            case "field":
                return Field(None, _names(word), word.offset)
            case "variable":
                return self._fields(Variable(word.text, word.offset), word)
            case "name" if word.text in ("true", "false", "nil"):
                return Literal({"true": True, "false": False, "nil": None}[word.text], word.offset)
            case "name":
                return Call(word.text, (), word.offset)
        if word.text != "(":
            raise TemplateMistake(word.offset, f"{word.text!r} is not expected here")
        value = self._pipeline()
        closing = self._peek()
        if closing is None or closing.text != ")":
            raise TemplateMistake(word.offset, "this ( has no )")
        self._at += 1
        return self._fields(value, closing)

    def _fields(self, value: Expression, before: Word) -> Expression:
        """The value, or a field of it that follows without a space."""
        word = self._peek()
        if word and word.kind == "field" and word.offset == before.offset + len(before.text):
            self._at += 1
            return Field(value, _names(word), word.offset)
        return value


def _names(word: Word) -> tuple[str, ...]:
    return tuple(word.text[1:].split("."))


def _number(word: Word) -> int | float:
    try:
        return int(word.text, 0)
    except ValueError:
        pass
    try:
        return float(word.text)
    except ValueError:
        raise TemplateMistake(word.offset, f"{word.text!r} is no number") from None
