"""`-p` from the outside, with whichever engine there is."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from mkllm.runtime.artifact.manifest import Message
from mkllm.runtime.commands.media import Media, expect_taken
from mkllm.runtime.commands.prompt import WrongPrompt


def test_the_answer_goes_to_standard_output(engine_artifact, run):
    done = run(engine_artifact, "-p", "hello there", "--temp", "0", "-n", "8")
    assert done.returncode == 0
    assert done.stdout.strip() and done.stdout.endswith("\n")


def test_json_has_text_tokens_and_timings(engine_artifact, run):
    answer = json.loads(run(engine_artifact, "-p", "hello there", "--temp", "0", "-n", "8", "--json").stdout)
    assert answer["text"] and answer["finish_reason"] in ("stop", "length")
    assert answer["tokens"]["prompt"] > 0 and answer["tokens"]["generated"] > 0
    assert 0 < answer["timings"]["ready_seconds"] <= answer["timings"]["first_token_seconds"] < 60
    assert answer["kernel"].startswith("cpu-") and answer["model"] and answer["context"] > 0


def test_dash_reads_standard_input(fake_artifact, run):
    assert run(fake_artifact, "-p", "-", stdin="from a pipe").stdout == "from a pipe \n"


def test_bytes_that_are_no_text(fake_artifact, run):
    assert run(fake_artifact, "-p", os.fsdecode(b"caf\xe9"), env={"PYTHONUTF8": "1"}).stdout == "caf\ufffd \n"


def test_what_is_shown_to_a_model_that_takes_none(fake_artifact, build_fake, run, tmp_path):
    (tmp_path / "cat.png").write_bytes(b"meow")
    done = run(fake_artifact, "-p", "what is this?", "--image", str(tmp_path / "cat.png"))
    assert done.returncode == 2 and "the model of this file takes no pictures, so " in done.stderr
    done = run(fake_artifact, "--image", str(tmp_path / "cat.png"))
    assert done.returncode == 2 and "--image and --audio belong to -p TEXT" in done.stderr
    bare = build_fake(tmp_path / "bare", model={"chat_template": None})
    done = run(bare, "-p", "x", "--audio", str(tmp_path / "cat.png"), "--", "--mmproj", str(tmp_path / "cat.png"))
    assert done.returncode == 2 and "no chat template, so --audio has no place in its prompt" in done.stderr


def test_pictures_and_sound_are_parts_of_the_message(tmp_path):
    (tmp_path / "cat.png").write_bytes(b"cat")
    (tmp_path / "meow.MP3").write_bytes(b"meow")
    shown = Media((tmp_path / "cat.png",), (tmp_path / "meow.MP3",)).content("what is this?")
    assert shown == [
        {"type": "image_url", "image_url": {"url": "data:image/*;base64,Y2F0"}},
        {"type": "input_audio", "input_audio": {"data": "bWVvdw==", "format": "mp3"}},
        {"type": "text", "text": "what is this?"},
    ]
    assert Media().content("hi") == "hi"
    (tmp_path / "empty").touch()
    for name, why in (("none.png", "cannot be read"), ("empty", "is empty: give another one")):
        with pytest.raises(WrongPrompt, match=why):
            Media((tmp_path / name,)).content("x")
    with pytest.raises(WrongPrompt, match="takes no sound but pictures, so 'a.wav' cannot be shown to it"):
        expect_taken([], [Path("a.wav")], vision=True, audio=False)
    expect_taken([Path("a.png")], [Path("a.wav")], vision=True, audio=True)


def test_what_is_piped_in_follows_the_prompt(fake_artifact, run):
    assert run(fake_artifact, "-p", "sum this up:", stdin="a text").stdout == "sum this up: a text \n"


def test_system_prompts(fake_artifact, build_fake, run, tmp_path):
    assert run(fake_artifact, "-p", "hi", "--system", "be kind").stdout == "hi [system: be kind]\n"
    made = build_fake(tmp_path / "made", defaults={"system_prompt": "be brief"})
    assert run(made, "-p", "hi").stdout == "hi [system: be brief]\n"
    assert run(made, "-p", "hi", "--system", "").stdout == "hi \n"


def test_the_makers_messages_come_before_the_prompt(build_fake, run, tmp_path):
    shown = (Message("user", "2+2?"), Message("assistant", "4"))
    own = {"messages": shown, "chat_template": "{{x}}"}
    made = build_fake(tmp_path / "made", defaults=own, model={"chat_template": None})
    done = run(made, "-p", "what was before")
    assert (done.stdout, done.stderr) == ("what was before [2+2?, 4]\n", "")
    assert "example   user: 2+2?" in run(made, "info").stdout
    lines = run(made, "inspect").stdout.splitlines()
    assert "chat template     the maker's" in lines and "example           assistant: 4" in lines
    assert run(made, "chat", stdin="one\nbefore\n").stdout.splitlines()[-1] == "before [2+2?, 4, one, one ]"


def test_thoughts_are_not_part_of_the_answer(fake_artifact, run):
    done = run(fake_artifact, "-p", "hmm yes")
    assert (done.stdout, done.stderr) == ("yes \n", "")
    answer = json.loads(run(fake_artifact, "-p", "hmm yes", "--json").stdout)
    assert (answer["text"], answer["thoughts"]) == ("yes ", "hmm ")


def test_a_model_without_a_template_continues(build_fake, run, tmp_path):
    plain = build_fake(tmp_path / "plain", model={"chat_template": None})
    done = run(plain, "-p", "once upon a time")
    assert done.stdout == "once upon a time \n"
    assert "no chat template: it continues the text" in done.stderr and "was cut after 4 tokens" in done.stderr
    assert run(plain, "-p", "once", "--system", "x").returncode == 2


@pytest.mark.parametrize(
    "words,code,sentence",
    [
        (["-p", "too long"], 43, "the prompt has 999 tokens, the context only 512: shorten it"),
        (["-p", "refuse"], 44, "the engine refused the request: told to refuse"),
        (["-p", "a segfault"], 41, "the engine with cpu-haswell was ended by SIGSEGV while it served"),
        (["-p", " "], 2, "the prompt is empty"),
        (["-p", "hi", "--kernel", "cpu-zen4"], 40, "the kernel 'cpu-zen4' does not run here (skipped, no avx512f"),
        (["-p", "hi", "--kernel", "gpu"], 40, "this file has no kernel 'gpu'"),
        (["-p", "hi", "--", "--wrong"], 40, "invalid argument: --wrong"),
        (["-p", "hi", "--", "--port", "1"], 2, "'--port' is not for the engine of this file"),
        (["-p", "hi", "--log-file", "/nowhere/log"], 13, "the log file '/nowhere/log' cannot be written"),
    ],
)
def test_failures_are_one_sentence_and_a_code(fake_artifact, run, played, words, code, sentence):
    done = run(fake_artifact, *words)
    assert done.returncode == code
    assert done.stderr.startswith("fake: ") and sentence in done.stderr
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr


def test_an_engine_that_dies_before_its_answer_is_followed_by_the_next(fake_artifact, run, played):
    done = run(fake_artifact, "-p", "segfault")
    *notes, last = done.stderr.splitlines()
    assert done.returncode == 41 and done.stdout == "" and len(notes) == 2
    assert notes[0].startswith("note: the engine with cpu-haswell was ended by SIGSEGV while it served")
    assert notes[0].endswith("; asked again with cpu-sse42")
    assert "cpu-x64 was ended by SIGSEGV" in last and "no other kernel is left" in last


def test_the_kernel_can_be_named(fake_artifact, run, played):
    answer = json.loads(run(fake_artifact, "-p", "hi", "--kernel", "cpu-sse42", "--json").stdout)
    assert answer["kernel"] == "cpu-sse42"


def test_all_the_engine_says_can_be_kept(fake_artifact, run, tmp_path):
    done = run(fake_artifact, "-p", "hi", "--verbose", "--log-file", str(tmp_path / "log"))
    assert "POST /v1/chat/completions HTTP/1.1 200" in (tmp_path / "log").read_text()
    assert "POST /v1/chat/completions HTTP/1.1 200" in done.stderr and done.stdout == "hi \n"


@pytest.fixture
def endless(fake_artifact, misbehaviour, tmp_path, monkeypatch):
    """A `-p` whose answer does not end, with its first word printed."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    journal = misbehaviour()
    words = [sys.executable, "-m", "mkllm.runtime", "-p", "endless"]
    environment = {**os.environ, "MKLLM_ARTIFACT": str(fake_artifact)}
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=-3) as process:
        assert process.stdout.read(8) == b"endless "
        engine = psutil.Process(process.pid).children()[0]
        yield process, engine, journal
        process.kill()
    assert not engine.is_running()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("mkllm-")] == []


@pytest.mark.parametrize("number,code", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_stop_everything_quietly(endless, number, code):
    process, engine, journal = endless
    process.send_signal(number)
    assert process.wait(10) == code
    assert process.stderr.read() == b""
    assert not engine.is_running()


def test_a_reader_that_goes_away_is_no_error(endless):
    process, engine, journal = endless
    process.stdout.close()
    assert process.wait(10) == 141
    assert process.stderr.read() == b""


def test_kill_9_leaves_no_engine(fake_artifact, misbehaviour, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    journal = misbehaviour()
    words = [sys.executable, "-m", "mkllm.runtime", "-p", "endless"]
    environment = {**os.environ, "MKLLM_ARTIFACT": str(fake_artifact)}
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stdin=-3) as process:
        process.stdout.read(8)
        engine = psutil.Process(process.pid).children()[0]
        process.kill()
    end = time.monotonic() + 5
    while engine.is_running():
        assert time.monotonic() < end
        time.sleep(0.02)
    assert "lifeline" in journal.read_text()


def test_more_than_the_engine_takes_is_not_shown(tmp_path):
    for name in ("one.wav", "two.wav"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(40 << 20)
    with pytest.raises(WrongPrompt, match="have 84 MB together, at most 75 MB can be shown: give fewer or smaller"):
        Media((), (tmp_path / "one.wav", tmp_path / "two.wav")).content("what is this?")
