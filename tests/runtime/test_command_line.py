"""The command line as a whole: help, versions, mistakes, and the commands that start no engine."""

import errno
import json
import os
import re
import subprocess
import sys
import tomllib

import pytest

from mkllm.runtime import cli, options
from mkllm.runtime.artifact.reader import open_artifact
from mkllm.runtime.signals import Terminated


def test_help_shows_every_command_and_option(fake_artifact, run):
    done = run(fake_artifact, "--help")
    assert done.returncode == 0
    for word in (
        "chat",
        "serve",
        "info",
        "doctor",
        "bench",
        "inspect",
        "verify",
        "extract",
        "licenses",
        "-p, --prompt",
        "--port",
        "--ctx-size",
        "--temp",
    ):
        assert word in done.stdout


@pytest.mark.parametrize(
    "command", ["serve", "chat", "info", "doctor", "bench", "inspect", "verify", "extract", "licenses"]
)
def test_every_command_has_help(fake_artifact, run, command):
    done = run(fake_artifact, command, "--help")
    assert done.returncode == 0 and done.stdout.startswith(f"Usage: fake {command}")


def test_version(fake_artifact, run):
    assert run(fake_artifact, "--version").stdout == (
        "fake, made by mkllm 0.0 with llama-cpp-python 0.0 (kit 0123456789abcdef)\n"
    )


@pytest.mark.parametrize(
    "words,sentence",
    [
        (["--colour"], "options of llama-server's own go after '--'"),
        (["dance"], "No such command 'dance'"),
        (["--port", "many"], "'many' is not a valid integer"),
        (["--port", "9000", "chat"], "put '--port' after 'chat', not before it"),
        (["--json"], "--json, --system, --image and --audio belong to -p TEXT"),
        (["--max-body", "none"], "'none' is no number of bytes: write it like 64M"),
        (["--max-body", "²"], "'²' is no number of bytes: write it like 64M"),
        (["--api-key-file", "/nowhere"], "the key file '/nowhere' cannot be read"),
        (["--pooling", "sum"], "'sum' is not one of 'mean', 'cls', 'last', 'rank', 'none'"),
        (["--api-key", ""], "--api-key has an empty key in '': give a key, or leave --api-key out"),
        (["--api-key", "a,"], "--api-key has an empty key in 'a,'"),
    ],
)
def test_wrong_usage(fake_artifact, run, words, sentence):
    done = run(fake_artifact, *words)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("fake: ") and sentence in done.stderr and done.stderr.count("\n") == 1


def test_debug_shows_where(fake_artifact, run):
    done = run(fake_artifact, "extract", "nothing", "--debug")
    assert done.returncode == 32 and "Traceback" in done.stderr


def test_no_artifact(run, tmp_path):
    (tmp_path / "text").write_text("hello" * 1000)
    done = run(tmp_path / "text", "info")
    assert done.returncode == 30 and done.stderr.count("\n") == 1
    done = run(tmp_path / "text", "info", env={"MKLLM_ARTIFACT": ""})
    assert done.returncode == 30 and "set MKLLM_ARTIFACT" in done.stderr


def test_info_for_people(fake_artifact, run, played):
    lines = run(fake_artifact, "info").stdout.splitlines()
    assert "kernel    cpu-haswell (AVX2; best of 4)" in lines
    assert any(re.fullmatch(r" +cpu-zen4: skipped, no avx512f, .*avx512_bf16", line) for line in lines)
    assert "threads   1" in lines


def test_a_models_own_words_do_not_steer_the_terminal(build_fake, run, tmp_path):
    strange = {"title": "\x1b]0;PWND\x07", "license": "\x1b[2J"}
    path = build_fake(tmp_path / "strange", model=strange, defaults={"system_prompt": "one\x1b[31m\ntwo"})
    shown = run(path, "info").stdout
    assert "model     fake: \ufffd]0;PWND\ufffd\n" in shown and "system    one\ufffd[31m two\n" in shown
    assert "# the model fake\n\ufffd[2J\n" in (licences := run(path, "licenses").stdout)
    assert "\x1b" not in shown + licences
    assert json.loads(run(path, "info", "--json").stdout)["model"]["title"] == strange["title"]


def test_info_for_programs(fake_artifact, run, played):
    facts = json.loads(run(fake_artifact, "info", "--json").stdout)
    assert facts["kernels"][0] == {"name": "cpu-haswell", "reason": "AVX2; best of 4"}
    assert facts["model"]["context"] == facts["fit"]["context"] == 4096
    assert {kernel["name"] for kernel in facts["rejected"]} == {"cpu-zen4"}


def test_inspect(build_fake, run, tmp_path):
    path = build_fake(tmp_path / "fake")
    told = json.loads(run(path, "inspect", "--json").stdout)
    with open_artifact(path) as artifact:
        assert told["size"] == artifact.size and told["manifest"] == json.loads(artifact.manifest.to_bytes())
        names = [member.name for member in artifact.manifest.members]
    lines = run(path, "inspect").stdout.splitlines()
    assert lines[0].startswith("file  ") and [line.split("  ")[0] for line in lines[-len(names) :]] == names


def test_the_recipe_of_a_file(build_fake, run, tmp_path):
    path = build_fake(tmp_path / "fake", defaults={"system_prompt": "@Be 'brief'.\nÜ", "sampling": {"top_k": 3}})
    told = tomllib.loads(run(path, "inspect", "--recipe").stdout)
    with open_artifact(path) as artifact:
        sha256 = artifact.manifest.provenance.sha256
    assert told == {
        "model": "fake.gguf",
        "sha256": sha256,
        "output": "fake",
        "name": "fake",
        "target": "linux-x86_64",
        "system": "@@Be 'brief'.\nÜ",
        "top-k": 3,
    }


def test_verify(build_fake, run, tmp_path):
    path = build_fake(tmp_path / "one")
    assert run(path, "verify").returncode == 0
    with path.open("r+b") as file:
        file.seek(70000)
        file.write(b"X")
    done = run(path, "verify")
    assert done.returncode == 31 and "is not as built" in done.stderr and "copy the file again" in done.stderr


def test_extract(fake_artifact, run, tmp_path):
    done = run(fake_artifact, "extract", "-o", str(tmp_path / "out.gguf"))
    assert done.returncode == 0 and (tmp_path / "out.gguf").read_bytes().startswith(b"GGUF")
    assert run(fake_artifact, "extract", "-o", str(tmp_path / "out.gguf")).returncode == 12
    assert run(fake_artifact, "extract", "-o", str(tmp_path / "out.gguf"), "--force").returncode == 0


def test_licenses(fake_artifact, run):
    shown = run(fake_artifact, "licenses").stdout
    assert "# the model fake\nApache-2.0" in shown and "# llama.cpp\nMIT of tests" in shown


def test_a_defect_is_one_sentence_too(monkeypatch, capsys, fake_artifact):
    monkeypatch.setenv("MKLLM_ARTIFACT", str(fake_artifact))
    monkeypatch.setattr(cli, "own_file", lambda: 1 / 0)
    monkeypatch.setattr(cli, "raise_on_termination", lambda: None)
    assert cli.main(["info"]) == 1
    assert capsys.readouterr().err == (
        "fake: a defect of this program's own: ZeroDivisionError: division by zero; --debug shows where it happened\n"
    )


@pytest.mark.parametrize(("end", "code"), [(KeyboardInterrupt(), 130), (Terminated(15), 143)])
def test_an_end_while_a_class_is_made_is_no_defect(end, code, monkeypatch, capsys, fake_artifact):
    class Named:
        def __set_name__(self, owner, name):
            raise end

    monkeypatch.setenv("MKLLM_ARTIFACT", str(fake_artifact))
    monkeypatch.setattr(cli, "own_file", lambda: type("Made", (), {"named": Named()}))
    monkeypatch.setattr(cli, "raise_on_termination", lambda: None)
    assert (cli.main(["info"]), capsys.readouterr().err) == (code, "")


def test_a_file_that_cannot_be_read_is_not_told_as_the_output(monkeypatch, capsys, fake_artifact):
    def own_file():
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setenv("MKLLM_ARTIFACT", str(fake_artifact))
    monkeypatch.setattr(cli, "own_file", own_file)
    monkeypatch.setattr(cli, "raise_on_termination", lambda: None)
    assert cli.main(["info"]) == 1
    assert "cannot be written" not in (told := capsys.readouterr().err) and "Input/output error" in told


def test_keys_come_from_everywhere(tmp_path, monkeypatch):
    (tmp_path / "keys").write_text("# ours\nfile-key\n\n")
    monkeypatch.setenv("MKLLM_API_KEY", "env-key")
    given = {"api_keys": ("a,b", "a"), "api_key_file": tmp_path / "keys"}
    assert options.api_keys(given) == ("a", "b", "file-key", "env-key")


def test_an_empty_key_in_the_environment_is_a_mistake(fake_artifact, run):
    done = run(fake_artifact, "serve", env={"MKLLM_API_KEY": ""})
    assert done.returncode == 2 and "MKLLM_API_KEY has an empty key" in done.stderr


@pytest.mark.parametrize("words", [["info"], ["--help"], ["--version"], ["licenses"], ["-p", "hi"]])
def test_output_that_cannot_be_written(fake_artifact, words):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mkllm.runtime", *words],
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "MKLLM_ARTIFACT": str(fake_artifact)},
        )
    assert done.stderr == "fake: the output cannot be written (no space left on device): send it somewhere else\n"
    assert done.returncode == 14


@pytest.mark.parametrize(
    "text,count", [("100", 100), ("64k", 65536), ("64KiB", 65536), ("2M", 2 << 20), ("1GB", 1 << 30)]
)
def test_numbers_of_bytes(text, count):
    assert options.Bytes().convert(text, None, None) == count


def test_importing_the_command_line_is_cheap(fake_artifact, run):
    """What only a server or a chat needs is not imported by everything."""
    done = run(fake_artifact, "--help", env={"PYTHONPROFILEIMPORTTIME": "1"})
    imported = set(re.findall(r"\| +(\S+)$", done.stderr, re.MULTILINE))
    assert "click" in imported
    assert not imported & {"aiohttp", "asyncio", "prompt_toolkit", "psutil", "http.client", "mkllm.runtime.session"}


def test_a_launch_imports_nothing_of_what_it_has_not(fake_artifact, run):
    """No device that the file was made for, no parts of a model, no front to be told of; an entry has chosen places."""
    done = run(fake_artifact, "-p", "hi", env={"PYTHONPROFILEIMPORTTIME": "1"})
    imported = {name.removeprefix("mkllm.runtime.") for name in re.findall(r"\| +(\S+)$", done.stderr, re.MULTILINE)}
    assert "session" in imported
    assert not imported & {"hardware.device", "engine.parts", "engine.look", "launch", "platform.places", "progress"}


def test_a_prompt_never_imports_the_front(fake_artifact, run):
    done = run(fake_artifact, "-p", "hi", env={"PYTHONPROFILEIMPORTTIME": "1"})
    imported = set(re.findall(r"\| +(\S+)$", done.stderr, re.MULTILINE))
    assert "mkllm.runtime.engine.client" in imported
    assert not imported & {"aiohttp", "asyncio", "http.client", "prompt_toolkit", "psutil", "mkllm.runtime.front"}
    assert not imported & {
        "mkllm.runtime.commands.doctor",
        "mkllm.runtime.commands.bench",
        "mkllm.runtime.commands.tuning",
        "mkllm.runtime.engine.race",
        "mkllm.runtime.hardware.advice",
        "mkllm.runtime.artifact.disk",
    }
