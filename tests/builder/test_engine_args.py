"""Words for the engine are shown to the engine before they are baked in."""

from pathlib import Path

import click
import pytest

from mkllm.builder import engine_args
from mkllm.builder.kit.kit import Kit

ENGINE = """#!/bin/sh
case "$*" in
*--wrong*) echo "error: invalid argument: --wrong" >&2; exit 1;;
*many*) printf 'error while handling argument "-np": stoi: no conversion\\n\\nusage:\\n' >&2; exit 1;;
*/nowhere*) echo 'error while handling argument "--grammar-file": error: failed to open file' >&2; exit 1;;
*Vulkan0*) echo 'error while handling argument "--device": invalid device: Vulkan0' >&2; exit 1;;
*"{% bad"*) printf 'error: the supplied chat template is not supported: {%% bad\n\n' >&2
  printf '0.1 E common_chat_templates_init: error: Unexpected token\nfailed to apply template: std::exception\n' >&2
  exit 1;;
*"{{ worse"*) printf 'error: the supplied chat template is not supported: x\n0.1 E x: failed to apply template: y\n' >&2
  printf 'While executing\nError: Unknown filter\n' >&2; exit 1;;
*"{% told"*) printf 'error: the supplied chat template is not supported: x\n' >&2
  printf 'While executing F at line 7, column 2 in source:\nError: parser: Parser Error: Expected }}\n' >&2; exit 1;;
*"{% silent"*) printf 'error: the supplied chat template is not supported: x\n' >&2; exit 1;;
*--crash*) kill -SEGV $$;;
"serve "*" --help") exit 0;;
esac
exit 3
"""


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    engine = tmp_path / "members/native/engine"
    engine.parent.mkdir(parents=True)
    engine.write_text(ENGINE)
    engine.chmod(0o755)
    (tmp_path / "bindings").mkdir()
    return Kit(tmp_path, "id", "linux-x86_64", {}, "2.17", "native/engine", (), (), {})


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--wrong"], "the engine does not know '--wrong': correct it, and give each word its own --engine-arg"),
        (["-np", "many"], "the engine does not take what follows '-np' (stoi: no conversion): correct it"),
    ],
)
def test_a_word_that_every_launch_would_end_with_is_refused(kit: Kit, words: list[str], sentence: str) -> None:
    with pytest.raises(click.BadParameter) as failure:
        engine_args.check(kit, words)
    assert failure.value.message == sentence


@pytest.mark.parametrize(
    "words", [["-np", "2"], ["--grammar-file", "/nowhere"], ["--device", "Vulkan0"], ["--crash"], []]
)
def test_the_rest_is_for_the_machine_where_it_runs(kit: Kit, words: list[str]) -> None:
    engine_args.check(kit, words)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{ x }}\n{% if y %}\n{% bad", "line 3: Unexpected token"),
        ("\n{{ worse", "line 2: Unknown filter"),
        ("{% told", "line 7: Expected }}"),
        ("{% silent", "line 1: it says no more"),
    ],
)
def test_a_chat_template_that_the_engine_cannot_use(kit: Kit, template: str, why: str) -> None:
    with pytest.raises(click.BadParameter) as failure:
        engine_args.check_template(kit, template)
    assert failure.value.message == f"the engine cannot use this chat template ({why}): correct it"
    assert failure.value.param_hint == "--chat-template"


def test_chat_templates_that_it_takes(kit: Kit) -> None:
    engine_args.check_template(kit, "{{ good }}")
    engine_args.check_template(kit, None)


def test_an_engine_for_another_machine_is_not_asked(kit: Kit) -> None:
    (kit.path / "bindings").rmdir()
    engine_args.check(kit, ["--wrong"])
    engine_args.check_template(kit, "{% bad")
