"""Runs tasks of EleutherAI's lm-evaluation-harness, which is imported here, and gives their figures."""

import contextlib
import difflib
import importlib.util
import logging
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mkllm.builder.errors import BuilderFailure, HubFailure, MissingTool, TaskFailed
from mkllm.builder.harness.server import Server
from mkllm.builder.progress import Output

PACKAGE = "lm_eval"
NO_FILTER = "none"
STDERR = "_stderr"
NEAREST = 3
REASON = 300  # characters of another program's


@dataclass(frozen=True)
class Wanted:
    """What is to be run: names of tasks (with `*`), folders with task files, examples before each question (None: as
    the task has it), so many documents of each (None: all), and whether questions go in the chat template."""

    tasks: tuple[str, ...]
    folders: tuple[Path, ...] = ()
    shots: int | None = None
    limit: int | None = None
    chat: bool = False


@dataclass(frozen=True)
class Figure:
    """One metric of one task, or group of tasks; `error` is its standard error; both are None where they are no
    finite numbers, or there is none.

    `filter` is how the harness reads answers, None for its plain way; `documents` is how many were asked, None for a
    group."""

    task: str
    version: str
    metric: str
    filter: str | None
    value: float | None
    error: float | None
    higher_is_better: bool | None
    shots: int | None
    documents: int | None


def expect_harness() -> None:
    """Raise MissingTool when the harness is not installed."""
    if importlib.util.find_spec(PACKAGE) is None:
        raise MissingTool(
            "--tasks runs lm-evaluation-harness, which is not installed: install it with `pip install 'mkllm[eval]'`"
        )


def choose(wanted: Wanted) -> "Chosen":
    """Find the tasks. Raises TaskFailed for one that there is none of."""
    for folder in wanted.folders:
        if not folder.is_dir():
            raise TaskFailed(f"{str(folder)!r} is no folder of task files: give one with --include-path")
    with _quiet(), _translated("the tasks cannot be read"):
        from lm_eval.tasks import TaskManager

        manager = TaskManager(include_path=[str(folder.absolute()) for folder in wanted.folders] or None)
        found = {name: manager.match_tasks([name]) for name in wanted.tasks}
    for name, matches in found.items():
        if not matches:
            raise TaskFailed(_unknown(name, manager.all_tasks))
    return Chosen(manager, list(dict.fromkeys(name for matches in found.values() for name in matches)))


@dataclass(frozen=True)
class Chosen:
    """Tasks that there are, and the harness's register of them."""

    manager: Any
    names: Sequence[str]


def run(server: Server, chosen: Chosen, wanted: Wanted, output: Output) -> list[Figure]:
    """All figures, by task. Raises NoAnswer, TaskFailed, or HubFailure where data of a task cannot be fetched."""
    with _quiet(), _translated(f"{', '.join(chosen.names)} cannot be run"):
        from lm_eval import simple_evaluate

        from mkllm.builder.harness.model import Served

        found = simple_evaluate(
            model=Served(server, output),
            tasks=list(chosen.names),
            num_fewshot=wanted.shots,
            limit=wanted.limit,
            apply_chat_template=wanted.chat,
            task_manager=chosen.manager,
            log_samples=False,
        )
    return list(_figures(found))


def _figures(found: Any) -> Iterator[Figure]:
    for task, values in {**found["results"], **found.get("groups", {})}.items():
        for key, value in values.items():
            metric, comma, name = key.partition(",")
            if not comma or metric.endswith(STDERR) or not isinstance(value, (int, float)):
                continue
            error = values.get(f"{metric}{STDERR},{name}")
            counts = found.get("n-samples", {}).get(task, {})
            yield Figure(
                task=task,
                version=str(found.get("versions", {}).get(task, "")),
                metric=metric,
                filter=None if name == NO_FILTER else name,
                value=_finite(value),
                error=_finite(error),
                higher_is_better=found.get("higher_is_better", {}).get(task, {}).get(metric),
                shots=found.get("n-shot", {}).get(task),
                documents=counts.get("effective"),
            )


def _finite(value: Any) -> float | None:
    """What JSON can tell of a number."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The harness and what it uses say nothing: no bars, no advice, nothing to anybody's telemetry."""
    for name in ("TQDM_DISABLE", "HF_DATASETS_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_TELEMETRY"):
        os.environ[name] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    """What the harness raises, and the task files that it runs, as a sentence."""
    try:
        yield
    except BuilderFailure:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:REASON].rstrip(".") or type(error).__name__
        if isinstance(error, ConnectionError) or "Hub" in type(error).__name__:
            told = f"{what}: its data cannot be fetched ({reason})"
            raise HubFailure(f"{told}; try again with a network, or run tasks of your own") from error
        raise TaskFailed(f"{what} ({type(error).__name__}: {reason}): look into its task file") from error


def _unknown(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, NEAREST, 0.6)
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    return f"there is no task {name!r}: {hint}`lm-eval ls tasks` lists them, --include-path names a folder of your own"
