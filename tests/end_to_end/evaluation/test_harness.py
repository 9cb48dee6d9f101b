"""`mkllm eval --tasks` on built artifacts: its figures, its failures, and its scores beside those of transformers.

transformers reads the same GGUF, tokenizer and chat template included, and computes in F32. So does the engine with
weights in F32; with the demo's own, in Q8_0, it rounds what is multiplied with them to 8 bits too.
"""

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

import mkllm.builder.demo
from mkllm.builder.harness.model import Served
from mkllm.builder.harness.server import Server
from mkllm.builder.progress import Output

TASKS = Path(__file__).parent / "tasks"
ALL = "mkllm_choice,mkllm_sums,mkllm_text"
GGUF = Path(mkllm.builder.demo.__file__).parent / "demo.gguf"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(mkllm: Path) -> Run:
    """`run(*words)`: `mkllm eval` in the folder of the tasks, to which the paths in them are relative."""

    def running(*words: Any, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [mkllm, "eval", *map(str, words)],
            capture_output=True,
            text=True,
            cwd=TASKS,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
        )

    return running


@pytest.fixture(scope="module")
def exact(mkllm: Path, serve: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server of the demo with its weights in F32."""
    artifact = tmp_path_factory.mktemp("exact") / "exact"
    subprocess.run([mkllm, "build", GGUF, "--quant", "F32", "-o", artifact], check=True, capture_output=True)
    with serve(artifact) as server:
        yield server


@pytest.fixture(scope="module")
def reference() -> Any:
    """The demo in transformers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"pretrained_model_name_or_path": str(GGUF.parent), "gguf_file": GGUF.name}
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32).eval()
    return HFLM(pretrained=model, tokenizer=AutoTokenizer.from_pretrained(**where), max_length=1023, device="cpu")


@pytest.fixture(scope="module")
def evaluate() -> Callable[..., Any]:
    """`evaluate(model, tasks, chat=False)`: what the harness finds, all its questions and answers included."""

    def evaluated(model: Any, tasks: str, chat: bool = False) -> Any:
        with contextlib.chdir(TASKS):
            manager = TaskManager(include_path=[str(TASKS)], include_defaults=False)
            return simple_evaluate(model, tasks=tasks.split(","), task_manager=manager, apply_chat_template=chat)

    return evaluated


@pytest.fixture(scope="module")
def expected(reference: Any, evaluate: Callable[..., Any]) -> Any:
    """Choices and texts by transformers."""
    return evaluate(reference, "mkllm_choice,mkllm_text")


def served(server: Any) -> Served:
    return Served(Server(server.url), Output(quiet=True))


def answers(found: Any, task: str) -> list[Any]:
    """All that was answered, in the order of the documents."""
    samples = sorted(found["samples"][task], key=lambda sample: sample["doc_id"])
    return [answer for sample in samples for answer in sample["resps"]]


def figures(done: "subprocess.CompletedProcess[str]") -> dict[tuple[str, str], Any]:
    assert done.returncode == 0, done.stderr
    return {(each["task"], each["metric"]): each for each in json.loads(done.stdout)["figures"]}


def test_likelihoods_are_those_of_transformers(exact: Any, evaluate: Callable[..., Any], expected: Any) -> None:
    found = evaluate(served(exact), "mkllm_choice,mkllm_text")
    pairs = list(zip(answers(found, "mkllm_choice"), answers(expected, "mkllm_choice"), strict=True))
    assert len(pairs) == 59
    for [(mine, greedy)], [(theirs, as_greedy)] in pairs:
        assert mine == pytest.approx(theirs, abs=0.03) and greedy == as_greedy
    texts = [
        (mine, theirs)
        for [mine], [theirs] in zip(answers(found, "mkllm_text"), answers(expected, "mkllm_text"), strict=True)
    ]
    assert len(texts) == 3
    for mine, theirs in texts:
        assert mine == pytest.approx(theirs, rel=1e-3)
    for metric in ("acc,none", "acc_norm,none"):
        assert found["results"]["mkllm_choice"][metric] == expected["results"]["mkllm_choice"][metric]
    byte = "byte_perplexity,none"
    assert found["results"]["mkllm_text"][byte] == pytest.approx(expected["results"]["mkllm_text"][byte], rel=2e-3)


def test_scores_in_8_bits_are_those_of_transformers_within_noise(run: Run, demo_server: Any, expected: Any) -> None:
    found = figures(run(demo_server.url, "--tasks", ALL, "--include-path", ".", "--json"))
    choice, text = expected["results"]["mkllm_choice"], expected["results"]["mkllm_text"]
    for metric in ("acc", "acc_norm"):
        mine = found["mkllm_choice", metric]
        assert mine["value"] == pytest.approx(choice[f"{metric},none"], abs=0.1) and mine["error"] > 0
        assert (mine["documents"], mine["shots"], mine["higher_is_better"]) == (20, 0, True)
    mine = found["mkllm_text", "byte_perplexity"]
    assert mine["value"] == pytest.approx(text["byte_perplexity,none"], rel=0.01)


def test_answers_in_the_chat_template_are_those_of_transformers(
    exact: Any, reference: Any, evaluate: Callable[..., Any]
) -> None:
    found, expected = (evaluate(model, "mkllm_sums", chat=True) for model in (served(exact), reference))
    assert answers(found, "mkllm_sums") == answers(expected, "mkllm_sums")
    assert found["results"]["mkllm_sums"]["exact_match,last-number"] > 0.8


def running(artifact: Path) -> set[int]:
    return {each.pid for each in psutil.process_iter(["exe"]) if each.info["exe"] == str(artifact)}


def test_an_artifact_is_started_and_ended(run: Run, demo: Path) -> None:
    before = running(demo)
    found = figures(
        run(demo, "--tasks", "mkllm_sums", "--include-path", ".", "--apply-chat-template", "--limit", 6, "--json")
    )
    mine = found["mkllm_sums", "exact_match"]
    assert mine["filter"] == "last-number" and mine["documents"] == 6 and mine["value"] > 0.5
    assert running(demo) == before


def test_a_model_is_built_for_it(run: Run, tmp_path: Path) -> None:
    done = run("demo", "--tasks", "mkllm_choice", "--include-path", ".", "--limit", 2, "--csv", tmp_path / "x.csv")
    assert done.returncode == 0, done.stderr
    assert "acc_norm" in done.stdout
    assert (tmp_path / "x.csv").read_text().splitlines()[1].startswith("mkllm_choice,1,acc,")


@pytest.mark.parametrize(
    "words,code,sentence",
    [
        (["--tasks", "arc_eazy"], 28, "there is no task 'arc_eazy': did you mean 'arc_easy'"),
        (["--tasks", "mkllm_broken", "--include-path", "."], 28, "mkllm_broken cannot be run ("),
        (["--tasks", "arc_easy", "--offline"], 15, "arc_easy cannot be run: its data cannot be fetched ("),
        (["--tasks", "mkllm_sums", "--include-path", "nowhere"], 28, "'nowhere' is no folder of task files"),
    ],
)
def test_what_is_wrong_with_a_task_is_one_sentence(
    run: Run, demo_server: Any, tmp_path: Path, words: list[str], code: int, sentence: str
) -> None:
    done = run("-q", demo_server.url, *words, HF_HOME=str(tmp_path))
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(f"mkllm: {sentence}") and done.stderr.count("\n") == 1, done.stderr


def test_a_key_is_needed_where_one_is_demanded(run: Run, demo: Path, serve: Any) -> None:
    words = ("--tasks", "mkllm_choice", "--include-path", ".", "--limit", 1)
    with serve(demo, "--api-key", "sesame") as server:
        refused = run("-q", server.url, *words)
        assert refused.returncode == 29 and "demands a key" in refused.stderr
        assert figures(run(server.url, *words, "--api-key", "sesame", "--json"))
        assert figures(run(server.url, *words, "--json", MKLLM_API_KEY="sesame"))


def test_nobody_answers(run: Run) -> None:
    done = run("-q", "http://127.0.0.1:9", "--tasks", "mkllm_choice", "--include-path", ".")
    assert (done.returncode, done.stderr.count("\n")) == (29, 1)
    assert "'http://127.0.0.1:9' does not answer (connection refused): start the artifact there" in done.stderr
