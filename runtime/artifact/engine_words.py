"""The words for the engine that a manifest's `engine_args` must not have, nor a user give after `--`; knows no engine.

The builder refuses them when an artifact is made, the runtime when it starts.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import chain

MODEL = "the model is the one of this file, leave it out"
PROXY = "a proxy before this program can do that"
NO_START = "the engine would end instead of serving, leave it out"
# Options of this program that are to be used instead.
OWN = {
    "--host": "--host",
    "--port": "--port",
    "--api-key": "--api-key",
    "--api-key-file": "--api-key-file",
    "-c": "--ctx-size",
    "--ctx-size": "--ctx-size",
    "-fit": "--fit",
    "--fit": "--fit",
}
_MODELS = (
    "-m --model -mu --model-url -dr --docker-repo -hf -hfr --hf-repo -hff --hf-file -hft --hf-token "
    "--models-dir --models-preset --models-max --models-autoload --no-models-autoload "
    "--embd-gemma-default --fim-qwen-1.5b-default --fim-qwen-3b-default --fim-qwen-7b-default --fim-qwen-7b-spec "
    "--fim-qwen-14b-spec --fim-qwen-30b-default --gpt-oss-20b-default --gpt-oss-120b-default "
    "--vision-gemma-4b-default --vision-gemma-12b-default"
).split()
_ADDRESSES = "--api-prefix --ssl-key-file --ssl-cert-file --reuse-port".split()
_ENDING = "-h --help --usage --version -cl --cache-list --completion-bash --list-devices".split()
# What follows these is a text, even one that looks like an option.
_BEFORE_TEXT = ("-r", "--reverse-prompt")
_OPTION = re.compile("--?[A-Za-z]")
# Why each of the others is refused, and what to do.
REASONS = dict(
    chain(
        ((name, MODEL) for name in _MODELS),
        ((name, PROXY) for name in _ADDRESSES),
        ((name, NO_START) for name in _ENDING),
        ((name, "nothing is downloaded, name a file with --mmproj") for name in ("-mmu", "--mmproj-url")),
        (
            (name, "nothing is downloaded, name a file with --model-draft")
            for name in ("-hfd", "-hfrd", "--hf-repo-draft", "--spec-draft-hf")
        ),
    )
)


def option_name(word: str) -> str:
    """The option that the engine would take `word` for: it has `-` where that has `_`, and no `=` behind it."""
    name = word.partition("=")[0]
    return name.replace("_", "-") if name.startswith("--") else name


def may_be_options(words: Sequence[str]) -> Iterator[str]:
    """The words, without those that are surely texts: what follows `--reverse-prompt`, unless that may be the value of
    an option itself."""
    is_text, is_free = False, True
    for word in words:
        if is_text:
            is_text, is_free = False, True
            continue
        yield word
        is_text = is_free and word.replace("_", "-") in _BEFORE_TEXT
        is_free = not _OPTION.match(word)
