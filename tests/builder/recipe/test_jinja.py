"""Go templates become Jinja templates that render what Ollama would; Jinja's own implementation renders them here."""

import json
from typing import Any

import jinja2
import pytest

from mkllm.builder.recipe.go_lexer import TemplateMistake
from mkllm.builder.recipe.jinja import chat_template
from mkllm.builder.recipe.marks import are_own, marks

SYSTEM = {"role": "system", "content": "Be brief."}
HELLO = {"role": "user", "content": "Hello"}
YES = {"role": "assistant", "content": "Yes?"}
BYE = {"role": "user", "content": "Bye"}
CALL = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Bern"}}}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather",
        "parameters": {
            "type": "object",
            "required": ["city"],
            "properties": {"city": {"type": "string", "description": "Which"}, "at": {"type": "string"}},
        },
    },
}


def to_json(value: Any, separators: Any = None) -> str:
    return json.dumps(value, ensure_ascii=False, separators=separators)


def render(template: str, *messages: dict[str, Any], **given: Any) -> str:
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = to_json
    return environment.from_string(chat_template(template)).render(messages=messages, **given)


TURNS = "{{ if .System }}<s>{{ .System }}\n{{ end }}{{ if .Prompt }}<u>{{ .Prompt }}\n{{ end }}<a>{{ .Response }}</a>\n"


def test_a_template_of_turns_ends_where_the_answer_begins() -> None:
    assert render(TURNS, HELLO) == "<u>Hello\n<a>"
    assert render(TURNS, SYSTEM, HELLO, YES, BYE) == "<s>Be brief.\n<u>Hello\n<a>Yes?</a>\n<u>Bye\n<a>"
    assert render(TURNS, HELLO, YES) == "<u>Hello\n<a>Yes?"  # an answer that is begun is gone on with
    assert render(TURNS, HELLO, SYSTEM, BYE) == "<u>Hello\n<a></a>\n<s>Be brief.\n<u>Bye\n<a>"


def test_a_template_without_a_place_for_the_answer() -> None:
    assert render("{{ .Prompt }}", HELLO, YES, BYE) == "HelloYes?Bye"
    assert render("{{ if .Response }}x{{ .Response }}y{{ end }}z", HELLO) == ""


def test_messages_of_the_same_role_in_a_row_are_one() -> None:
    assert render("{{ range .Messages }}{{ .Role }}:{{ .Content }};{{ end }}", HELLO, BYE, YES) == (
        "user:Hello\n\nBye;assistant:Yes?;"
    )
    assert render("{{ .System }}{{ range .Messages }}{{ end }}", SYSTEM, HELLO, SYSTEM) == "Be brief.\n\nBe brief."


def test_white_space_is_trimmed_as_go_does() -> None:
    text = " a \n {{- range .Messages }} \n <{{ .Role -}} \n > {{ end -}} \n b\n"
    assert render(text, HELLO, YES) == " a \n <user>  \n <assistant> b\n"


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ range $i, $m := .Messages }}{{ $i }}{{ $m.Role }}{{ end }}", "0system1user2assistant3user"),
        ("{{ range $m := .Messages }}{{ .Content }}|{{ end }}", "Be brief.|Hello|Yes?|Bye|"),
        ("{{ (index .Messages 1).Content }}{{ len .Messages }}", "Hello4"),
        ("{{ range slice .Messages 2 }}{{ .Role }} {{ end }}", "assistant user "),
        ("{{ range $i, $_ := .Messages }}{{ if eq (len (slice $.Messages $i)) 1 }}{{ $i }}{{ end }}{{ end }}", "3"),
        ('{{ $x := "" }}{{ range .Messages }}{{ $x = .Role }}{{ end }}{{ $x }}', "user"),
        ('{{ range .Messages }}{{ if ne .Role "assistant" }}{{ continue }}{{ end }}{{ .Content }}{{ end }}', "Yes?"),
        ('{{ if eq (index .Messages 1).Role "tool" "user" }}y{{ end }}', "y"),
        ('{{ range .Messages }}{{ .Role }}{{ if eq .Role "user" }}!{{ break }}{{ end }},{{ end }}', "system,user!"),
        ("{{ with .System }}[{{ . }}]{{ else }}none{{ end }}{{ range .Messages }}{{ end }}", "[Be brief.]"),
        ("{{ with .Tools }}x{{ else }}none{{ end }}{{ range .Messages }}{{ end }}", "none"),
        ("{{ if and .System (not .Tools) (or .Tools .Messages) }}y{{ end }}", "y"),
        ('{{ if ne (index .Messages 0).Role "user" }}a{{ else if .System }}b{{ else }}c{{ end }}', "a"),
        ('{{ if lt (len .Messages) 2 }}a{{ else if ge (len .Messages) 4 }}b{{ else }}c{{ end }}', "b"),
        ('{{ range .Messages }}{{ .Role | printf "%s-%s " .Content }}{{ end }}', None),
        ("{{/* a comment */}}{{- /* and one */ -}} {{ `{{ raw }}` }}{{ range .Messages }}{{ end }}", "{{ raw }}"),
        ('{{ "quoted \\"text\\"\\n" }}{{ range .Messages }}{{ end }}%}}} {# {{ "{%" }}', 'quoted "text"\n%}}} {# {%'),
        ("{{ if .Messages }}{{ true }} {{ .Prompt }}{{ end }}", "true "),
    ],
)  # fmt: skip
def test_constructs(template: str, text: str | None) -> None:
    text = "Be brief.-system Hello-user Yes?-assistant Bye-user " if text is None else text
    assert render(template, SYSTEM, HELLO, YES, BYE) == text


def test_tools_and_calls() -> None:
    template = (
        "{{ range .Tools }}{{ . }}{{ .Function.Name }}:{{ range $name, $p := .Function.Parameters.Properties }}"
        "{{ $name }}={{ $p.Type }},{{ end }}{{ json .Function.Parameters.Required }}{{ end }}"
        "{{ range .Messages }}{{ range .ToolCalls }}<{{ .Function.Name }} {{ .Function.Arguments }}>{{ end }}{{ end }}"
    )
    asked = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    compact = to_json(TOOL, (",", ":"))
    wanted = f'{compact}weather:at=string,city=string,["city"]<weather {{"city":"Bern"}}>'
    assert render(template, HELLO, asked, tools=[TOOL]) == wanted
    text = {**asked, "tool_calls": [{**CALL, "function": {"name": "weather", "arguments": '{"city":"Bern"}'}}]}
    assert render(template, HELLO, text, tools=[TOOL]) == wanted
    assert render(template, HELLO) == ""


@pytest.mark.parametrize(
    ("template", "offset", "sentence"),
    [
        ("{{ if .System }}", 0, "'{{ if .System }}' has no {{ end }}"),
        ("a{{ end }}", 1, "this 'end' belongs to nothing"),
        ("{{ .Nothing }}", 3, "the template is given no .Nothing: it has .System, .Prompt, .Response"),
        ("{{ range .Messages }}{{ .Images }}{{ end }}", 24, "a message is given no .Images: it has .Role, .Content"),
        ("{{ range .Messages }}{{ . }}{{ end }}", 21, "a message is not printed as Go would print it"),
        ("{{ html .System }}", 3, "the function 'html' is not translated: and, or, not, eq"),
        ("{{ len .System }}", 3, "'len' is translated for lists, and this is a text: of a text Go counts bytes"),
        ("{{ $x }}", 3, "there is no variable $x here"),
        ("{{ if .System }}{{ $x := 1 }}{{ end }}{{ $x }}", 41, "there is no variable $x here"),
        ('{{ define "x" }}{{ end }}', 0, "'define' is not translated"),
        ("{{ break }}", 0, "'break' stands outside of a range"),
        ("{{ .System", 0, "it has no }}"),
        ("{{ .System ? }}", 11, "'?' is not part of a Go template"),
        ("{{}}", 0, "there is nothing between {{ and }}"),
        ("{{ eq .System 1 }}", 3, "a text and a number cannot be compared"),
        ('{{ printf "%d" .System }}', 10, "'%d' is not translated for what it is given"),
        ("{{ (.System }}", 3, "this ( has no )"),
        ("{{ range .System }}{{ end }}", 0, "a range goes over a list, and this is a text"),
    ],
)
def test_what_is_refused(template: str, offset: int, sentence: str) -> None:
    with pytest.raises(TemplateMistake) as failure:
        chat_template(template)
    assert failure.value.offset == offset and sentence in str(failure.value)


CHATML = (
    "{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}{{ if .Tools }}You have tools.{{ end }}"
    "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
)


def test_templates_of_nothing_but_the_models_own_marks() -> None:
    found = marks(CHATML)
    assert found == {"<|im_start|>", "<|im_end|>"}
    assert are_own(found, "{{ '<|im_start|>' + m.role }}{{ '<|im_end|>' }}") and not are_own(found, "<|im_start|>")
    assert marks("[INST] {{ .Prompt }} [/INST]{{ .Response }}</s>") == {"[INST]", "[/INST]", "</s>"}
    assert are_own(frozenset({"[INST]", "</s>"}), "[INST] eos_token")
    assert marks(CHATML.replace("assistant", "Answer: ")) is None and marks("{{ .Prompt }}") is None


@pytest.mark.parametrize(
    "words",
    [
        '{{ or .System "You are a pirate" }}',
        '{{ printf "Answer as a pirate, %s" .System }}',
        '{{ $p := "You are a pirate" }}{{ $p }}',
        '{{ $p := "" }}{{ $p = or .System "You are a pirate" }}{{ $p }}',
        "{{ if not .Tools }}You are a pirate{{ end }}",
        "{{ if or .System .Tools }}You are a pirate{{ end }}",
        "{{ if eq (len .Tools) 0 }}You are a pirate{{ end }}",
        "{{ if .Tools }}{{ else }}You are a pirate{{ end }}",
        '{{ with "You are a pirate" }}{{ . }}{{ end }}',
        '{{ if $p := "You are a pirate" }}{{ $p }}{{ end }}',
        '{{ range .Messages }}{{ if ne .Role "tool" }}You are a pirate{{ end }}{{ end }}',
        '{{ range .Messages }}{{ if eq .Role "user" "tool" }}You are a pirate{{ end }}{{ end }}',
        '{{ json (or .System "You are a pirate") }}',
        "{{ currentDate }}",
        '{{ printf "%s" currentDate }}',
        "{{ 42 }}",
    ],
)
def test_text_of_the_makers_own_is_seen_wherever_it_stands(words: str) -> None:
    chat_template(CHATML + words)  # it is translated, so it has to be seen
    assert marks(CHATML) and marks(CHATML + words) is None


@pytest.mark.parametrize(
    "words",
    [
        "{{ if and .Tools .System }}You have tools{{ end }}",
        "{{ if gt (len .Tools) 0 }}You have tools{{ end }}",
        "{{ range .Tools }}You have {{ .Function.Name }}{{ end }}",
        '{{ range .Messages }}{{ if or .ToolCalls (eq .Role "tool") }}A call{{ end }}{{ end }}',
        "{{ range $i, $m := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}{{ end }}",
        "{{ $user := -1 }}{{ $first := true }}{{ range $i, $m := .Messages }}{{ $user = $i }}{{ end }}",
        '{{ range .Messages }}{{ if eq .Role "critic" }}\n{{ end }}{{ end }}',
        '{{ printf "<|im_start|>" }}{{ (index .Messages 0).Content }}',
    ],
)
def test_what_is_of_tools_or_only_compared_is_no_text_of_the_makers(words: str) -> None:
    chat_template(CHATML + words)
    assert marks(CHATML + words) == {"<|im_start|>", "<|im_end|>"}
