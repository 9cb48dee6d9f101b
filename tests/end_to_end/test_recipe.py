"""Recipes and Modelfiles with the real kit and the real demo: what they say has effect in the artifact, and the recipe
that an artifact prints makes the same bytes again."""

import http.client
import json
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

MODELFILE = '''\
# The demo in another guise.
FROM demo
PARAMETER temperature 0
PARAMETER num_ctx 512
PARAMETER num_predict 5
PARAMETER stop "never said"
SYSTEM """You are
a parrot."""
TEMPLATE """{{- if .System }}SYSTEM {{ .System }}
{{ end }}
{{- range $i, $_ := .Messages }}
{{- if eq .Role "user" }}USER {{ .Content }}
{{ else if eq .Role "assistant" }}PARROT {{ if .ToolCalls }}{{ json (index .ToolCalls 0).Function.Arguments }}
{{- else }}{{ .Content }}{{ end }}
{{ end }}{{ end }}PARROT """
MESSAGE user Hello
MESSAGE assistant Hello hello
LICENSE """
Parrots are free.
"""
'''


def build(mkllm: Path, *words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([mkllm, "build", *words], cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return done


def ask(server: Any, path: str, body: dict[str, Any], **headers: str) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    with closing(connection):
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        return json.load(answer)


@pytest.fixture(scope="module")
def parrot(mkllm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    (folder / "Modelfile").write_text(MODELFILE)
    build(mkllm, "-f", "Modelfile", "-o", "parrot", cwd=folder)
    return folder / "parrot"


def test_a_modelfile_has_effect(parrot: Path, serve: Any) -> None:
    question = {"messages": [{"role": "user", "content": "What is mkllm?"}]}
    before = "SYSTEM You are\na parrot.\nUSER Hello\nPARROT Hello hello\n"
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    calling = [
        {"role": "system", "content": "Own."},
        {"role": "user", "content": "Call."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "user", "content": "And?"},
    ]
    with serve(parrot) as server:
        assert ask(server, "/apply-template", question)["prompt"] == f"{before}USER What is mkllm?\nPARROT "
        told = ask(server, "/apply-template", {"messages": calling})["prompt"]
        assert told.startswith("SYSTEM Own.\nUSER Hello\nPARROT Hello hello\nUSER Call.\nPARROT ")
        assert told.endswith('{"x":1}\nUSER And?\nPARROT ') or told.endswith('{"x": 1}\nUSER And?\nPARROT ')
        answer = ask(server, "/v1/chat/completions", question)
        assert answer["usage"]["completion_tokens"] <= 5
        tokens = len(ask(server, "/tokenize", {"content": f"{before}USER What is mkllm?\nPARROT "})["tokens"])
        assert tokens <= answer["usage"]["prompt_tokens"] <= tokens + 1
        from_page = {"Origin": server.url, "Host": server.url.removeprefix("http://")}
        seen = ask(server, "/apply-template", question, **from_page)["prompt"]
        assert seen == "USER Hello\nPARROT Hello hello\nUSER What is mkllm?\nPARROT "
        for path, body in (
            ("/v1/messages/count_tokens", question),
            ("/v1/responses/input_tokens", {"input": "What is mkllm?"}),
        ):
            assert ask(server, path, {"model": "demo", **body})["input_tokens"] in (tokens, tokens + 1)
    told = subprocess.run([parrot, "inspect", "--json"], capture_output=True, check=True).stdout
    defaults = json.loads(told)["manifest"]["defaults"]
    assert defaults["context"] == 512 and defaults["sampling"] == {"temperature": 0.0, "n_predict": 5}
    assert defaults["engine_args"] == ["--reverse-prompt", "never said"]
    licences = subprocess.run([parrot, "licenses"], capture_output=True, text=True, check=True).stdout
    assert "# maker/LICENSE-001\n\nParrots are free.\n" in licences


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--split", "always"],
        ["--quant", "Q4_0", "--prepack", "haswell"],
        ["--fit", "107MB"],
        ["--for", "generic-2gb"],
    ],
)
def test_the_recipe_makes_the_same_bytes(parrot: Path, mkllm: Path, tmp_path: Path, words: list[str]) -> None:
    build(mkllm, parrot.parent / "Modelfile", "-o", "one", *words, cwd=tmp_path)
    told = [
        subprocess.run([*program, "--recipe"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        for program in ([mkllm, "inspect", "one"], [tmp_path / "one", "inspect"])
    ]
    assert told[0] == told[1]
    (tmp_path / "mkllm.toml").write_text(told[0])
    (tmp_path / "again").mkdir()
    build(mkllm, "./mkllm.toml", "-o", "again/one", cwd=tmp_path)
    for path in (tmp_path / "again").iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()


def test_a_template_that_the_engine_cannot_use(mkllm: Path, tmp_path: Path) -> None:
    (tmp_path / "mkllm.toml").write_text("model = 'demo'\nchat-template = '{{ messages | nothing }}'\n")
    done = subprocess.run([mkllm, "build", "-f", "mkllm.toml", "-o", "x"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 25 and done.stderr.startswith(
        "mkllm: mkllm.toml:2: the engine cannot use this chat template ("
    )
    assert "nothing" in done.stderr and not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{% for m in messages %}\n{{ m.content }\n{% endfor %}\n", 2),
        ("{{ 1 }}\n\n{% if messages %}\ntext\n", 3),
        ("\n\n{% wrong %}\n", 3),
        ("{% for m in messages %}\n{{ m.content | nothing }}{% endfor %}", 2),
    ],
)
def test_the_line_of_a_mistake_in_a_template(mkllm: Path, tmp_path: Path, text: str, line: int) -> None:
    (tmp_path / "my.jinja").write_text(text)
    words = [mkllm, "build", "demo", "-o", "x", "--chat-template", "my.jinja"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert f"the engine cannot use this chat template (line {line}: " in done.stderr
    assert not (tmp_path / "x").exists()
