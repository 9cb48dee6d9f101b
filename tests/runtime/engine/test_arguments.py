"""The engine's command line."""

import dataclasses

import pytest

from mkllm.runtime.artifact.manifest import Defaults, Device, Member, Projector
from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.engine.arguments import (
    EngineOptions,
    WrongArgument,
    arguments,
    asked,
    has_projector_beside,
    longest_context,
    open_questions,
    projector_bytes,
)
from mkllm.runtime.hardware.fit import PROMPTS, Asked, Fit
from mkllm.runtime.hardware.settings import Settings, Settled

FOUR = Settings("cpu-x64", 4, 4)
FIT = Fit(512, "f16", "f16", 512, 0, 0, PROMPTS)


@pytest.fixture
def manifest(fake_artifact):
    with open_artifact(fake_artifact) as artifact:
        return artifact.manifest


def with_defaults(manifest, **defaults):
    return dataclasses.replace(manifest, defaults=Defaults(**defaults))


def after(words, name):
    return words[words.index(name) + 1]


def test_the_model_of_the_file_is_served_under_its_name(manifest):
    words = arguments(manifest, EngineOptions(), FIT, FOUR)
    assert words[:5] == ("serve", "-m", "embedded:model.gguf", "--alias", "fake")
    assert (after(words, "--ctx-size"), after(words, "--threads")) == ("512", "4")
    assert "--parallel" not in words


def test_the_user_comes_after_the_maker(manifest):
    made = with_defaults(manifest, sampling={"temperature": 0.5, "top_k": 3}, engine_args=("--metrics",))
    words = arguments(made, EngineOptions(sampling={"temperature": 0.0}, extra=("--slots",)), FIT, FOUR)
    assert (after(words, "--temp"), after(words, "--top-k")) == ("0.0", "3")
    assert words[-2:] == ("--metrics", "--slots")


def test_the_makers_chat_template_gives_way_to_the_users(manifest):
    words = arguments(with_defaults(manifest, chat_template="{{ x }}"), EngineOptions(extra=("--jinja",)), FIT, FOUR)
    assert after(words, "--chat-template") == "{{ x }}" and words[-1] == "--jinja"
    assert words.index("--chat-template") < words.index("--jinja")  # the engine takes the last one
    assert "--chat-template" not in arguments(manifest, EngineOptions(), FIT, FOUR)


def test_adapters_of_the_file_are_applied_before_the_user_s(manifest):
    members = [Member(f"adapters/{number:02}-a.gguf", 0, 1000, "") for number in range(2)]
    made = dataclasses.replace(manifest, members=(*manifest.members, *members))
    words = arguments(made, EngineOptions(extra=("--slots",)), FIT, FOUR)
    assert words[-3:] == ("--lora", "embedded:adapters/00-a.gguf,embedded:adapters/01-a.gguf", "--slots")
    assert asked(made, EngineOptions()).beside == asked(manifest, EngineOptions()).beside + 2000
    assert "--lora" not in arguments(manifest, EngineOptions(), FIT, FOUR)


def test_the_file_s_projector_gives_way_to_another_one(manifest, tmp_path):
    eyes = Projector("mmproj.gguf", True, False, 5000)
    made = dataclasses.replace(manifest, projector=eyes)
    words = arguments(made, EngineOptions(extra=("--slots",)), FIT, FOUR)
    assert words[-3:] == ("--mmproj", "embedded:mmproj.gguf", "--slots")
    assert asked(made, EngineOptions()).beside == asked(manifest, EngineOptions()).beside + 5000
    assert asked(made, EngineOptions()).whole and not asked(manifest, EngineOptions()).whole
    assert projector_bytes(made, EngineOptions()) == 5000 and projector_bytes(manifest, EngineOptions()) == 0
    assert projector_bytes(made, EngineOptions(extra=("--no-mmproj-offload",))) == 0
    (tmp_path / "own").write_bytes(b"x" * 70)
    for name in ("--mmproj", "-mm"):
        other = EngineOptions(extra=(name, str(tmp_path / "own")))
        assert "embedded:mmproj.gguf" not in arguments(made, other, FIT, FOUR)
        assert asked(made, other).beside == projector_bytes(made, other) == 70 and has_projector_beside(made, other)
    none = EngineOptions(extra=("--no-mmproj",))
    assert "--mmproj" not in arguments(made, none, FIT, FOUR) and not has_projector_beside(made, none)
    assert asked(made, none).beside == 0


def test_the_user_s_threads_come_after_the_maker_s(manifest):
    made = with_defaults(manifest, engine_args=("--threads", "8"))
    words = arguments(made, EngineOptions(threads=2, threads_batch=3), FIT, FOUR)
    assert words[-4:] == ("--threads", "2", "--threads-batch", "3")
    assert open_questions(made, EngineOptions(threads=2), FIT, 4).threads == 2


def test_the_maker_comes_after_the_device(manifest):
    made = with_defaults(manifest, engine_args=("-ub", "64"))
    device = Device("pi", "aarch64", 4, 1 << 30, None, "q8_0", 4, 128)
    words = arguments(made, EngineOptions(device=device), FIT, FOUR)
    assert words[-8:] == ("--cache-type-k", "q8_0", "--cache-type-v", "q8_0", "--ubatch-size", "128", "-ub", "64")
    settled = open_questions(made, EngineOptions(device=device), FIT, 4)
    assert not settled.threads_settled and settled.batch_settled


def test_asked_values_replace_defaults(manifest):
    asked = EngineOptions(parallel=2, alias="me", brief=True)
    words = arguments(manifest, asked, FIT, Settings("cpu-x64", 7, 8))
    assert [after(words, name) for name in ("--threads", "--threads-batch", "--parallel", "--alias")] == list("782") + [
        "me"
    ]


@pytest.mark.parametrize(
    ("brief", "proven", "warm"), [(False, False, True), (False, True, False), (True, False, False)]
)
def test_what_has_not_computed_here_yet_does_so_before_it_is_ready(manifest, brief, proven, warm):
    words = arguments(manifest, EngineOptions(brief=brief), FIT, FOUR, proven)
    assert ("--no-warmup" not in words) is warm


def test_what_was_fitted_into_the_memory(manifest):
    words = arguments(manifest, EngineOptions(), FIT, FOUR)
    assert not {"--cache-type-k", "--cache-type-v", "--ubatch-size", "--cache-ram"} & set(words)
    tight = Fit(512, "q8_0", "f16", 128, 0, 0, 300 << 20)
    words = arguments(manifest, EngineOptions(), tight, FOUR)
    assert after(words, "--cache-type-k") == "q8_0" and "--cache-type-v" not in words
    assert (after(words, "--ubatch-size"), after(words, "--cache-ram")) == ("128", "300")


def test_the_chat_page_finds_the_system_prompt(manifest):
    words = arguments(with_defaults(manifest, system_prompt='Say "hi"'), EngineOptions(), FIT, FOUR)
    assert after(words, "--ui-config") == '{"systemMessage": "Say \\"hi\\""}'


def test_the_chat_page_s_prompt_is_not_made_longer(manifest):
    words = arguments(with_defaults(manifest, system_prompt="Ы" * 60_000), EngineOptions(), FIT, FOUR)
    assert len(after(words, "--ui-config").encode()) < 120_100


def test_all_requests_share_the_context(manifest):
    assert "--kv-unified" in arguments(manifest, EngineOptions(), FIT, FOUR)
    assert "--kv-unified" in arguments(manifest, EngineOptions(parallel=4), FIT, FOUR)
    assert "--kv-unified" not in arguments(manifest, EngineOptions(parallel=1), FIT, FOUR)


def test_a_text_to_stop_at_may_look_like_an_option(manifest):
    for stop in ("--reverse-prompt", "--reverse_prompt", "-r"):
        made = ("--keep", "-1", stop, "--api-key", stop, "--reverse-prompt")
        words = arguments(with_defaults(manifest, engine_args=made), EngineOptions(), FIT, FOUR)
        at = words.index("--keep")
        assert tuple(words[at : at + 6]) == made


@pytest.mark.parametrize(
    "made",
    [
        ("--alias", "--reverse-prompt", "--model", "x"),  # here it is the alias
        ("--reverse-prompt", "x", "--model", "y"),
        ("--reverse-prompt", "--reverse-prompt", "--model", "y"),
        ("--reverse-prompt=x", "--model", "y"),
    ],
)
def test_what_only_seems_to_be_a_text_to_stop_at_is_refused(manifest, made):
    with pytest.raises(WrongArgument, match="'--model' is not for the engine of this file"):
        arguments(with_defaults(manifest, engine_args=made), EngineOptions(), FIT, FOUR)


WORDS = "--host --port=1 -m --model --api-key -hf -c --ctx_size --api-prefix -mu --model-url --hf-file --docker-repo"


@pytest.mark.parametrize("word", [*WORDS.split(), "--ssl-key-file", "--help", "-h", "--version", "-mmu", "-hfd"])
def test_what_the_launch_decides_is_refused(manifest, word):
    with pytest.raises(WrongArgument, match="is not for the engine of this file"):
        arguments(manifest, EngineOptions(extra=(word, "x")), FIT, FOUR)
    with pytest.raises(WrongArgument, match="is not for the engine of this file"):
        arguments(with_defaults(manifest, engine_args=(word, "x")), EngineOptions(), FIT, FOUR)


@pytest.mark.parametrize(
    "words",
    [
        ("--lora", "{0}/here,{0}/none"),
        ("--lora-scaled", "{0}/here:1,{0}/none:0.5"),
        ("-mm", "{0}/none"),
        ("--control_vector", "{0}/none"),
        ("--chat-template-file", "{0}/none"),
    ],
)
def test_files_that_are_not_there_are_named(manifest, tmp_path, words):
    (tmp_path / "here").touch()
    words = tuple(word.format(tmp_path) for word in words)
    missing = (
        rf"the file '{tmp_path}/none' of {words[0].replace('_', '.')} cannot be read \(No such file or directory\)"
    )
    with pytest.raises(WrongArgument, match=missing):
        arguments(manifest, EngineOptions(extra=words), FIT, FOUR)
    with pytest.raises(WrongArgument, match=missing):
        arguments(manifest, EngineOptions(plain=(words,)), FIT, FOUR)
    (tmp_path / "none").touch()
    assert arguments(manifest, EngineOptions(extra=words), FIT, FOUR)[-2:] == words


def test_a_folder_is_no_file(manifest, tmp_path):
    with pytest.raises(WrongArgument, match="Is a directory"):
        arguments(manifest, EngineOptions(plain=(("--lora", str(tmp_path)),)), FIT, FOUR)


@pytest.mark.parametrize(
    ("words", "longest"),
    [
        ("", 1024),
        ("--rope-scale 4", 1024),
        ("--rope-scaling linear --rope-scale 4", 1024),
        ("--rope-scaling yarn --rope-scale 4", 4096),
        ("--rope_scaling yarn --rope-freq-scale 0.25", 4096),
        ("--rope-scaling yarn --rope-scale 4 --yarn-orig-ctx 512", 2048),
        ("--rope-scaling yarn --rope-scale four", 1024),
        ("--rope-scaling yarn", 1024),
        ("--override-kv x=bool:true,llama.context_length=int:8192", 8192),
    ],
)
def test_words_that_stretch_the_context(words, longest):
    assert longest_context(words.split(), 1024) == longest


def test_an_unknown_sampling_default_is_named(manifest):
    with pytest.raises(WrongArgument, match="'warmth'"):
        arguments(with_defaults(manifest, sampling={"warmth": 1}), EngineOptions(), FIT, FOUR)


def test_what_is_asked_of_the_memory(manifest, tmp_path):
    assert asked(manifest, EngineOptions()) == Asked(slots=4, longest=4096)
    (tmp_path / "adapter").write_bytes(bytes(1000))
    (tmp_path / "eyes").write_bytes(bytes(300))
    made = with_defaults(manifest, context=512, engine_args=("-ctk", "q8_0", "--flash-attn", "off", "-ub", "64"))
    plain = (("--cache-type-k", "f16"), ("--lora", str(tmp_path / "adapter")))
    found = asked(made, EngineOptions(plain=plain, parallel=1, extra=("--mmproj", str(tmp_path / "eyes")), fit=False))
    assert (found.made, found.type_k, found.type_v, found.batch, found.slots) == (512, "f16", None, 64, 1)
    assert (found.beside, found.whole, found.fused, found.checked) == (1300, True, False, False)


@pytest.mark.parametrize(
    "words,batch",
    [
        (("-ub", "8192"), 2048),
        (("-ub", "8192", "-b", "4096"), 4096),
        (("--batch-size", "128"), 128),
        (("--batch-size", "1024"), None),
        (("--ubatch-size", "many"), None),
    ],
)
def test_the_batch_that_the_engine_will_have(manifest, words, batch):
    assert asked(manifest, EngineOptions(extra=words)).batch == batch


def test_the_user_s_own_options_come_after_the_maker_s(manifest):
    made = with_defaults(manifest, engine_args=("--batch-size", "64"))
    words = arguments(made, EngineOptions(plain=(("--batch-size", "128"),)), FIT, FOUR)
    assert words[-4:] == ("--batch-size", "64", "--batch-size", "128")


def test_the_last_word_on_how_many_are_served_counts(manifest):
    made = with_defaults(manifest, engine_args=("-np", "8"))
    assert asked(made, EngineOptions()).slots == 8
    assert asked(made, EngineOptions(parallel=2)).slots == 2
    one = arguments(made, EngineOptions(parallel=1), FIT, FOUR)
    assert one[-4:] == ("-np", "8", "--parallel", "1") and "--kv-unified" not in one
    assert "--kv-unified" in arguments(manifest, EngineOptions(parallel=1, extra=("-np", "8")), FIT, FOUR)


def test_how_the_kernel_is_started(manifest):
    words = arguments(manifest, EngineOptions(), FIT, FOUR)
    assert "--no-repack" in words and "--flash-attn" not in words and "--ubatch-size" not in words
    words = arguments(manifest, EngineOptions(), FIT, Settings("cpu-x64", 4, 4, True, False, 1024))
    assert "--repack" in words and after(words, "--flash-attn") == "off"
    assert (after(words, "--ubatch-size"), after(words, "--batch-size")) == ("1024", "2048")
    tight = Fit(512, "f16", "f16", 128, 0, 0, PROMPTS)
    words = arguments(manifest, EngineOptions(), tight, Settings("cpu-x64", 4, 4, True, False, 1024))
    assert after(words, "--ubatch-size") == "128"


def test_what_is_left_open_to_be_measured(manifest):
    assert open_questions(manifest, EngineOptions(), FIT, 4) == Settled(4)
    options = EngineOptions(threads=3, threads_batch=5, plain=[("--flash-attn", "on")], extra=["-nr", "-ub", "64"])
    assert open_questions(manifest, options, FIT, 4) == Settled(3, 512, True, 5, False, True, True)
    options = EngineOptions(extra=["-t", "2", "--repack", "-fa", "off", "--embeddings"])
    assert open_questions(manifest, options, FIT, 4) == Settled(2, 512, True, None, True, False, True)
    made = with_defaults(manifest, engine_args=("--no-repack",))
    assert open_questions(made, EngineOptions(), FIT, 4).repack is False
    assert open_questions(made, EngineOptions(), Fit(512, "f16", "f16", 128, 0, 0, 0), 4).batch_settled


def test_quantized_values_keep_flash_attention(manifest):
    assert open_questions(manifest, EngineOptions(plain=[("--cache-type-v", "q8_0")]), FIT, 4).flash is True
    small = Fit(512, "q8_0", "q8_0", 512, 0, 0, PROMPTS)
    assert open_questions(manifest, EngineOptions(), small, 4).flash is True
    assert "--flash-attn" not in arguments(manifest, EngineOptions(), small, Settings("cpu-x64", 4, 4, False, False))


def test_buffers_that_grow_without_flash_attention_keep_it(manifest):
    memory = dataclasses.replace(manifest.model.memory, compute_token=0, compute_token_unfused=1 << 20)
    large = dataclasses.replace(manifest, model=dataclasses.replace(manifest.model, memory=memory))
    assert open_questions(large, EngineOptions(), FIT, 4).flash is True
