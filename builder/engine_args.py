"""Asks the kit's own engine whether it knows the words that are baked in for it; knows no word itself."""

import re
import subprocess
from collections.abc import Sequence

import click

from mkllm.builder import template_line
from mkllm.builder.kit.kit import Kit, engine_environment

SECONDS = 30
MISTAKE = re.compile(
    r'error(?:: invalid argument: (?P<unknown>.*)| while handling argument "(?P<name>.*?)": (?P<why>.*))'
)
UNSUPPORTED = "error: the supplied chat template is not supported"
TEMPLATE_MISTAKES = (
    re.compile(r"^Error: (.*)$", re.MULTILINE),
    re.compile(r"common_chat_templates_init: error: (.*)$", re.MULTILINE),
    re.compile(r"failed to apply template: (.*)$", re.MULTILINE),
)
TEMPLATE_LINE = re.compile(r"at line (\d+), column \d+ in source")
PREFIXES = re.compile("^(?:lexer: |parser: |Parser Error: )+")
TRIES = 3  # the engine may end before it has written its reason
HERE_ONLY = ("file", "device")  # they are to be found where the artifact runs, not here


def check(kit: Kit, words: Sequence[str]) -> None:
    """Raise click.BadParameter for words that every launch would end with; nothing where the engine does not run."""
    if not words or not kit.runs_here:
        return
    found = MISTAKE.search(_complaint(kit, words))
    if found and found["unknown"]:
        raise _wrong(
            f"the engine does not know {found['unknown']!r}: correct it, and give each word its own --engine-arg"
        )
    if found and not any(word in found["why"] for word in HERE_ONLY):
        raise _wrong(f"the engine does not take what follows {found['name']!r} ({found['why']}): correct it")


def check_template(kit: Kit, template: str | None) -> None:
    """Raise click.BadParameter for a chat template that the engine cannot use."""
    if template is None or not kit.runs_here:
        return
    complaint, why = _refusal(kit, template), None
    for _ in range(TRIES):
        if not complaint or (why := _reason(complaint)):
            break
        complaint = _refusal(kit, template)
    if complaint:
        told = TEMPLATE_LINE.search(complaint)
        line = int(told[1]) if told else template_line.line(template, lambda begin: bool(_refusal(kit, begin)))
        where = f"line {line}: " if line else ""
        raise click.BadParameter(
            f"the engine cannot use this chat template ({where}{why or 'it says no more'}): correct it",
            param_hint="--chat-template",
        )


def _refusal(kit: Kit, template: str) -> str:
    """What the engine says of a template that it does not take; nothing of one that it takes."""
    complaint = _complaint(kit, ["--chat-template", template])
    return complaint if UNSUPPORTED in complaint else ""


def _reason(complaint: str) -> str | None:
    found = next((match for form in TEMPLATE_MISTAKES if (match := form.search(complaint))), None)
    return PREFIXES.sub("", found[1]) if found else None


def _complaint(kit: Kit, words: Sequence[str]) -> str:
    """What the engine says when it ends because of these words; nothing when it takes them, or does not run."""
    try:
        done = subprocess.run(
            [str(kit.engine), "serve", *words, "--help"],
            env=engine_environment(kit),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr if done.returncode else ""


def _wrong(text: str) -> click.BadParameter:
    return click.BadParameter(text, param_hint="--engine-arg")
