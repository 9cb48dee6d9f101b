"""Chat templates in artifacts render conversations as transformers does; spec/templates.md tells where not, and why.

The reference is transformers in the converter's environment. Templates of models come out of the pinned source of
llama.cpp, those of formats are this project's. Every artifact is asked through its front.
"""

import copy
import http.client
import importlib
import json
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import jinja2
import pytest
from families import family as rows
from families.chat_families import FAMILIES, FORMATS, OF
from families.conversations import CONVERSATIONS, merged
from families.table import Results
from served import Serve, Server

import mkllm as package
from mkllm.builder.convert.environment import Environment
from mkllm.builder.kit.pip import pip, requirement
from mkllm.builder.model.formats import formats

SECONDS = 600
FASTCHAT = ("fschat", "0.2.36", ["a66ecf1e90f6db1d015096f6aa8a305d20d0a13e067951285aecdb56a33e9cb1"])
ALL = {**FAMILIES, **FORMATS}
SCRIPT = Path(__file__).with_name("chat_reference.py")
DEMO = Path(package.__path__[0]) / "builder/demo/demo.gguf"
TABLE = Path(__file__).parents[2] / "spec/templates.md"
REFUSED = "refused"
JOINED = "merged"
MERGED, BARE = "merged: ", "bare: "


@dataclass(frozen=True)
class Rendered:
    """By family and conversation what transformers renders (None: refused), and the models with these templates."""

    texts: dict[str, dict[str, str | None]]
    models: Path


def variants() -> Iterator[tuple[str, dict[str, Any]]]:
    """The conversations; those with a system prompt also with what the engine makes of it, and without."""
    for name, conversation in CONVERSATIONS.items():
        yield name, conversation
        if conversation["messages"][0]["role"] == "system":
            yield MERGED + name, {**conversation, "messages": merged(conversation["messages"])}
            yield BARE + name, bare(conversation)


def bare(conversation: dict[str, Any]) -> dict[str, Any]:
    return {**conversation, "messages": conversation["messages"][1:]}


@pytest.fixture(scope="module")
def rendered(converter: Environment, tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    folder = tmp_path_factory.mktemp("templates")
    job = {
        "families": {name: family.told() for name, family in ALL.items()},
        # What the engine tells every template.
        "given": {"enable_thinking": True, "date_string": date.today().strftime("%d %b %Y")},
        "conversations": dict(variants()),
        "model": str(DEMO),
        "folder": str(folder),
    }
    (folder / "job.json").write_text(json.dumps(job))
    elsewhere = [converter.source / "gguf-py", Path(jinja2.__file__).parents[1]]
    words = [converter.python, "-s", "-E", "-B", SCRIPT, folder / "job.json", folder / "answer.json", *elsewhere]
    done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return Rendered(json.loads((folder / "answer.json").read_text()), folder)


@pytest.fixture(scope="module")
def tell(results: Results) -> Callable[[str, int], None]:
    """`tell(template, count)`: all conversations were the same but for so many that were merged."""
    merged: Counter[str] = Counter()
    whole: Counter[str] = Counter()

    def telling(name: str, count: int) -> None:
        for row in (one.name for one in rows.FAMILIES if name in OF.get(one.name, ())):
            merged[row] += count
            whole[row] += len(CONVERSATIONS)
            told = f", {merged[row]} merged" if merged[row] else ""
            results.record(row, "templates", True, f"{whole[row]}{told}")

    return telling


def ask(server: Server, path: str, body: dict[str, Any]) -> Any:
    """The answer, None for a refusal of the template's."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    with closing(connection):
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        told = json.load(answer)
        assert answer.status == 200 or "Jinja Exception" in told["error"]["message"], told
        return told if answer.status == 200 else None


def as_openai(conversation: dict[str, Any]) -> dict[str, Any]:
    """The body of a request: arguments of calls are JSON text there."""
    body = {name: copy.deepcopy(conversation[name]) for name in ("messages", "tools") if name in conversation}
    for message in body["messages"]:
        for call in message.get("tool_calls", ()):
            call["function"]["arguments"] = json.dumps(call["function"]["arguments"], ensure_ascii=False)
    return body


def difference(name: str, ours: str | None, texts: dict[str, str | None]) -> str:
    """What makes the engine's text another one than transformers': nothing, or a word of spec/templates.md."""
    if ours == texts[name]:
        return "" if ours is not None else REFUSED
    if ours is not None and ours == texts.get(MERGED + name):
        return JOINED
    raise AssertionError(f"{name!r}\nthe engine:   {ours!r}\ntransformers: {texts[name]!r}")


def build(mkllm: Path, model: Path, target: Path, *words: str) -> None:
    command = [mkllm, "build", model, "-o", target, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ALL)
def test_conversations_are_rendered_as_transformers_does(
    name: str,
    rendered: Rendered,
    mkllm: Path,
    serve: Serve,
    tell: Callable[[str, int], None],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    family, texts = ALL[name], rendered.texts[name]
    model = rendered.models / family.file
    build(mkllm, model, tmp_path / "chat", *(() if family.own else ("--chat-template", family.source)))
    writes_bos = family.add_bos and any(text and text.startswith(family.bos or "\0") for text in texts.values())
    found = []

    def difference_of(server: Server, key: str, conversation: dict[str, Any]) -> str:
        answer = ask(server, "/apply-template", as_openai(conversation))
        text = answer and answer["prompt"]
        if text is not None and writes_bos:
            text = f"{family.bos}{text}"  # the engine leaves to the tokenizer what that adds
        return difference(key, text, texts)

    with serve(tmp_path / "chat", "--no-tune") as server:
        for key, conversation in CONVERSATIONS.items():
            found.append(difference_of(server, key, conversation))
            if found[-1] == JOINED:
                assert difference_of(server, BARE + key, bare(conversation)) in ("", REFUSED), key
        prompt = ask(server, "/apply-template", as_openai(CONVERSATIONS["no system"]))["prompt"]
        words = {"content": prompt, "add_special": True, "parse_special": True, "with_pieces": True}
        first = [token["piece"] for token in ask(server, "/tokenize", words)["tokens"][:2]]
        assert first.count(family.bos) == (1 if family.add_bos or prompt.startswith(family.bos or "\0") else 0), first
    (tmp_path / "chat").unlink()
    row = table_row(name, family.source, found)
    if request.config.getoption("--write-table", False):
        write_row(row)
    assert row in TABLE.read_text().splitlines(), f"spec/templates.md has another row than:\n{row}"
    tell(name, found.count(JOINED))


def table_row(name: str, source: str, found: list[str]) -> str:
    """As in spec/templates.md."""
    several = Counter(one for one in found if one)
    told = "; ".join(f"{one} ({count})" if count > 1 else one for one, count in several.items())
    return f"| {name} | {'this project' if source in formats() else source} | {told} |"


def write_row(row: str) -> None:
    """In the place of the row that the family has, else at the end of the table, which ends the file."""
    begin = row.split(" | ")[0] + " | "
    lines = TABLE.read_text().splitlines()
    found = [number for number, line in enumerate(lines) if line.startswith(begin)]
    place = found[-1] if found else len(lines)
    TABLE.write_text("\n".join([*lines[:place], row, *lines[place + 1 :]]) + "\n")


def test_templates_are_of_families_that_there_are() -> None:
    assert OF.keys() <= {family.name for family in rows.FAMILIES}
    assert {name for names in OF.values() for name in names} <= set(ALL)


def test_the_table_has_no_other_rows() -> None:
    rows = [line.split(" | ") for line in TABLE.read_text().splitlines() if line.startswith("| ")]
    assert [row[0].removeprefix("| ") for row in rows if len(row) == 3][1:] == list(ALL)


# Formats and templates of models that were trained with them, as far as those take a system prompt.
SAME = {
    "`chatml`": "OpenHermes 2.5",
    "`command-r`": "Command-R+",
    "`deepseek-llm`": "DeepSeek V2",
    "`gemma`": "Gemma 2",
    "`llama2`": "LLaMA 2",
    "`llama3`": "LLaMA 3",
    "`openchat`": "OpenChat 3.5",
    "`phi3`": "Phi 3.5",
}


@pytest.mark.parametrize("name", SAME)
def test_formats_are_what_the_models_were_trained_with(name: str, rendered: Rendered) -> None:
    ours, theirs = rendered.texts[name], rendered.texts[SAME[name]]
    for key in ("system", "several turns", "long", "marks"):
        key = MERGED + key if theirs[key] is None else key
        bos = ALL[name].bos or ""
        assert (ours[key] or "").removeprefix(bos) == (theirs[key] or "?").removeprefix(bos), key


@pytest.fixture
def fastchat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The program that Vicuna's makers trained and served it with: its prompts."""
    pip(["download", "--quiet", "--no-deps", "--dest", tmp_path], [requirement(*FASTCHAT)])
    (wheel,) = tmp_path.glob("*.whl")
    monkeypatch.syspath_prepend(str(wheel))
    return importlib.import_module("fastchat.conversation")


def test_vicuna_is_as_its_makers_have_it(rendered: Rendered, fastchat: Any) -> None:
    for key in ("no system", "system", "several turns", "long", "marks"):
        conversation = fastchat.get_conv_template("vicuna_v1.1")
        for message in CONVERSATIONS[key]["messages"]:
            if message["role"] == "system":
                conversation.set_system_message(message["content"])
            else:
                conversation.append_message(conversation.roles[message["role"] == "assistant"], message["content"])
        conversation.append_message(conversation.roles[1], None)
        assert rendered.texts["`vicuna`"][key] == "<s>" + conversation.get_prompt()
