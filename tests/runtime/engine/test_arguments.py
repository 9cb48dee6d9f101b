"""The engine's command line."""

import dataclasses

import pytest

from mkllm.runtime.artifact.manifest import Defaults
from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.engine.arguments import EngineOptions, WrongArgument, arguments


@pytest.fixture
def manifest(fake_artifact):
    with open_artifact(fake_artifact) as artifact:
        return artifact.manifest


def with_defaults(manifest, **defaults):
    return dataclasses.replace(manifest, defaults=Defaults(**defaults))


def after(words, name):
    return words[words.index(name) + 1]


def test_the_model_of_the_file_is_served_under_its_name(manifest):
    words = arguments(manifest, EngineOptions(), 512, 4)
    assert words[:5] == ("serve", "-m", "embedded:model.gguf", "--alias", "fake")
    assert (after(words, "--ctx-size"), after(words, "--threads")) == ("512", "4")
    assert "--parallel" not in words and "--no-warmup" not in words


def test_the_user_comes_after_the_maker(manifest):
    made = with_defaults(manifest, sampling={"temperature": 0.5, "top_k": 3}, engine_args=("--metrics",))
    words = arguments(made, EngineOptions(sampling={"temperature": 0.0}, extra=("--slots",)), 512, 4)
    assert (after(words, "--temp"), after(words, "--top-k")) == ("0.0", "3")
    assert words[-2:] == ("--metrics", "--slots")


def test_asked_values_replace_defaults(manifest):
    asked = EngineOptions(threads=7, threads_batch=8, parallel=2, alias="me", cache_type_k="q8_0", warm_up=False)
    words = arguments(manifest, asked, 512, 4)
    assert [after(words, name) for name in ("--threads", "--threads-batch", "--parallel", "--alias")] == list("782") + [
        "me"
    ]
    assert after(words, "--cache-type-k") == "q8_0" and "--cache-type-v" not in words and "--no-warmup" in words


def test_the_chat_page_finds_the_system_prompt(manifest):
    words = arguments(with_defaults(manifest, system_prompt='Say "hi"'), EngineOptions(), 512, 4)
    assert after(words, "--ui-config") == '{"systemMessage": "Say \\"hi\\""}'


@pytest.mark.parametrize("word", ["--host", "--port=1", "-m", "--model", "--api-key", "-hf"])
def test_what_the_launch_decides_is_refused(manifest, word):
    with pytest.raises(WrongArgument, match="is not for the engine of this file"):
        arguments(manifest, EngineOptions(extra=(word, "x")), 512, 4)


def test_an_unknown_sampling_default_is_named(manifest):
    with pytest.raises(WrongArgument, match="'warmth'"):
        arguments(with_defaults(manifest, sampling={"warmth": 1}), EngineOptions(), 512, 4)
