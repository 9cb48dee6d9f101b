"""What Windows is asked for and what comes of it (checks.py), under wine."""

import json
from pathlib import Path

import pytest

CHECKS = Path(__file__).with_name("checks.py")
EXPECTED = {
    "reading_and_writing_at_a_place": [4, "ello" + "\0" * 6, 0],
    "beyond_four_gigabytes": [2, "ar"],
    "a_folder_is_no_file": "refused",
    "renamed_and_removed_while_open": [],
    "a_temporary_file_is_gone_with_its_last_user": [1, []],
    "locks": ["held", ""],
    "a_folder_in_use_is_not_renamed": ["old"],
    "a_draft_at_a_long_path": [True, "other", ["model.gguf"]],
    "weights_that_are_open_stay": "weights",
    "a_new_name_is_nobodys": ["b", "c"],
    "processes_that_run": [True, False],
    "what_is_inherited": ["inherited", "not inherited"],
    "what_is_heard": [True, ["one", "two"], 5],
    "how_programs_end": ["an access violation (0xC0000005)", "an abort", 1, "another program", True],
    "a_lifeline_asks_to_end": 7,
    "the_way_to_the_engine": [True, "line\n", "rest"],
    "ctrl_break_and_the_end_of_the_console_are_a_signal": [15, 15, 15, 15],
    "whose_the_console_is": [True, False],
    "escapes_are_for_consoles": False,
    "the_machine": [True, "x86_64", True, True, True, 6],
    "what_is_remembered_is_told_anew": [["cpu-haswell", "cpu-sse42"], ["crashes-hardware.json"]],
    "this_process": [None, 2, True],
}


@pytest.fixture(scope="module")
def results(wine, packages, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checks")
    environment = {
        "PYTHONPATH": ";".join((wine.path(packages), wine.path(wine.packages))),
        "PYTHONPYCACHEPREFIX": wine.path(wine.prefix.parent / "compiled"),
        "PYTHONDONTWRITEBYTECODE": "",
    }
    done = wine.run(wine.python, "-X", "utf8", wine.path(CHECKS), wine.path(folder), env=environment)
    assert done.returncode == 0, done
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", EXPECTED)
def test_platform(results, name):
    assert results[f"check_{name}"] == EXPECTED[name]


def test_all_checks_are_compared(results):
    assert {name.removeprefix("check_") for name in results} == set(EXPECTED)
