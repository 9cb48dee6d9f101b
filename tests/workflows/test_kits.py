"""The workflow: what the lint does not know, such as which kits there are."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from mkllm.builder.kit.target import TARGETS as KITS
from mkllm.builder.kit.variants import baseline

WORKFLOW = Path(__file__).parents[2] / ".github" / "workflows" / "kits.yml"
TARGETS = set(KITS)
PINNED = re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+")


@pytest.fixture(scope="module")
def jobs() -> dict[str, Any]:
    return dict(yaml.safe_load(WORKFLOW.read_text())["jobs"])


def test_every_kit_is_built_and_runs_on_its_own_system(jobs: dict[str, Any]) -> None:
    built = {row["target"] for row in jobs["kit"]["strategy"]["matrix"]["include"]}
    assert built | {"macos-arm64"} == TARGETS and jobs["kit-macos"]["runs-on"].startswith("macos")
    systems = {row["target"]: row["runner"].split("-")[0] for row in jobs["run"]["strategy"]["matrix"]["include"]}
    assert systems == {target: {"linux": "ubuntu"}.get(name := target.split("-")[0], name) for target in TARGETS}


def test_the_kernel_that_runs_everywhere_is_tried(jobs: dict[str, Any]) -> None:
    plainest = {row["target"]: row["plainest"] for row in jobs["run"]["strategy"]["matrix"]["include"]}
    assert plainest == {target.name: f"cpu-{baseline(target.machine)}" for target in KITS.values()}


def test_nothing_is_published_that_was_not_tested(jobs: dict[str, Any]) -> None:
    assert set(jobs["publish"]["needs"]) == {"tests", "run", "package"}
    assert set(jobs["run"]["needs"]) == {"kit", "kit-macos"}
    assert jobs["publish"]["if"] == "github.event_name == 'release'"


def test_only_publishing_may_do_more_than_read(jobs: dict[str, Any]) -> None:
    allowed = {name: job["permissions"] for name, job in jobs.items()}
    assert allowed.pop("publish") == {"id-token": "write"}
    assert all(set(permissions.items()) <= {("contents", "read")} for permissions in allowed.values())
    assert "secrets." not in WORKFLOW.read_text()


def test_every_action_is_pinned_by_commit() -> None:
    uses = [line.partition("uses: ")[2] for line in WORKFLOW.read_text().splitlines() if "uses: " in line]
    assert len(uses) > 5 and all(PINNED.fullmatch(action) for action in uses)
    tags = {tuple(action.split("  # ")) for action in uses}
    assert len({commit for commit, _ in tags}) == len({commit.split("@")[0] for commit, _ in tags})
