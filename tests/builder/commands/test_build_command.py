"""`mkllm` as a program: what it prints, what it refuses, with which exit code."""

import errno
import json
import os
import pty
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mkllm.builder.kit.target import TARGETS
from mkllm.runtime.artifact.reader import open_artifact

from .program import COMMAND, Run, refused


def test_build_and_run(mkllm: Run, folder: Path) -> None:
    done = mkllm("build", "model.gguf", "-o", "out")
    assert done.returncode == 0 and done.stderr == ""
    assert (
        done.stdout.splitlines()[0].startswith("out: ") and "llama, 0.0 M parameters, Q8_0, context 512" in done.stdout
    )
    assert './out -p "Hello"' in done.stdout
    assert subprocess.run(["./out", "x"], cwd=folder, capture_output=True, text=True).stdout == "ran: x\n"


def test_everything_is_baked_in(mkllm: Run, folder: Path) -> None:
    (folder / "prompt.txt").write_text("Be brief.\nÜ\n")
    options = {
        "--name": "my model", "--system": "@prompt.txt", "--ctx-size": "256", "--temperature": "0.5", "--top-p": "0.9",
        "--top-k": "0", "--min-p": "0.05", "--repeat-penalty": "1.1", "--seed": "-1",
        "--host": "0.0.0.0", "--port": "0",
    }  # fmt: skip
    words = [word for pair in options.items() for word in pair]
    done = mkllm(
        "build", "model.gguf", *words, "--engine-arg", "--mlock", "--engine-arg=-np", "--engine-arg=2", "--json"
    )
    made = json.loads(done.stdout)
    assert made["path"] == str(folder / "model") and made["size"] == (folder / "model").stat().st_size
    assert made["manifest"]["name"] == "my model"
    assert made["manifest"]["defaults"] == {
        "system_prompt": "Be brief.\nÜ\n",
        "chat_template": None,
        "messages": [],
        "context": 256,
        "sampling": {
            "temperature": 0.5, "top_p": 0.9, "top_k": 0, "min_p": 0.05, "repeat_penalty": 1.1, "seed": -1,
        },
        "host": "0.0.0.0",
        "port": 0,
        "engine_args": ["--mlock", "-np", "2"],
            "device": None,
    }  # fmt: skip
    with open_artifact(folder / "model") as artifact:
        assert json.loads(artifact.read("mkllm/manifest.json")) == made["manifest"]


def test_weights_beside(mkllm: Run, folder: Path) -> None:
    done = mkllm("build", "model.gguf", "-o", "out", "--split", "always", "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 0 and sorted(os.listdir(folder)) == ["model.gguf", "out", "out.weights"]
    assert [file["path"] for file in told["files"]] == [str(folder / "out"), str(folder / "out.weights")]
    assert (told["target"], told["floor"]) == ("linux-x86_64", "glibc 2.17")
    done = mkllm("verify", "out")
    assert "bootloader and PKG; beside it out.weights)" in done.stdout and done.returncode == 0
    assert "out.weights, " in mkllm("inspect", "out").stdout
    assert mkllm("extract", "out", "-o", "again").returncode == 0
    assert (folder / "again").read_bytes() == (folder / "model.gguf").read_bytes()
    data = bytearray((folder / "out.weights").read_bytes())
    data[500] ^= 1
    (folder / "out.weights").write_bytes(data)
    refused(mkllm("verify", "out"), 31, "out.weights: its", "are not what was built")
    refused(mkllm("extract", "out", "-o", "more"), 31, "'model.gguf' is not what was built")
    (folder / "out.weights").unlink()
    refused(
        mkllm("verify", "out"),
        33,
        "'out' needs its weights, the file 'out.weights' (",
        "which is not in",
        "put it there",
    )
    assert mkllm("inspect", "out").returncode == 0


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--max-file-size", "4XB"], 2, "'4XB' is not a size: give one such as 4GB"),
        (["--max-file-size", "0"], 2, "'0' is not a size"),
        (["--max-file-size", "9" * 400 + ".5GB"], 2, "is not a size: give one such as 4GB"),
        (["--max-file-size", "1kB"], 17, "the program for linux-x86_64 takes"),
        (["--max-file-size", "1MiB-1"], 17, "--max-file-size allows 1.05 MB"),
        (["--fit-one-file", "--split", "always"], 2, "it contradicts --split always"),
        (["--fit-one-file"], 2, "nothing limits a file for linux-x86_64"),
        (["--sign", "signtool {file}"], 2, "only programs for Windows are signed, this one is for linux-x86_64"),
        (["--sign", "signtool"], 2, "'signtool' cannot be run (it does not say {file}"),
        (["--split", "perhaps"], 2, "--split"),
    ],
)
def test_limits_and_signatures_that_cannot_be(words: list[str], code: int, text: str, mkllm: Run, folder: Path) -> None:
    refused(mkllm("build", "model.gguf", "-o", "out", *words), code, text)
    assert os.listdir(folder) == ["model.gguf"]


def test_no_folder_of_the_maker_is_told(mkllm: Run, folder: Path) -> None:
    mkllm("build", folder / "model.gguf", "-o", folder / "out")
    assert os.fsencode(folder) not in (folder / "out").read_bytes()
    with open_artifact(folder / "out") as artifact:
        assert artifact.manifest.provenance.reference == "model.gguf"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--ctx-size", "0"], "--ctx-size"),
        (["--ctx-size", "-5"], "--ctx-size"),
        (["--temperature", "-0.1"], "--temperature"),
        (["--temperature", "nan"], "'nan' is not a number in the range 0<=x<=100"),
        (["--top-p", "1.1"], "--top-p"),
        (["--min-p", "inf"], "--min-p"),
        (["--top-k", "-1"], "--top-k"),
        (["--repeat-penalty", "0"], "--repeat-penalty"),
        (["--seed", "5000000000"], "--seed"),
        (["--port", "65536"], "--port"),
        (["--host", ""], "'' is not an address"),
        (["--host", "http://x"], "'http://x' is not an address"),
        (["--name", ""], "'' is empty"),
        (["--name", "a\nb"], "not printable"),
        (["--system", "@none.txt"], "'none.txt' cannot be read (no such file or directory)"),
        (["--system", "@model.gguf"], "is not UTF-8 text"),
        (["--system", "ы" * 62_000], "what was given is longer than 120 KiB: give a shorter text"),
        (["--system", "\udcff"], "what was given is not UTF-8 text"),
        (["--engine-arg", "--model=x"], "is not for the engine of the file: use MODEL"),
        (["--engine-arg", "--model-url"], "is not for the engine of the file: use MODEL"),
        (["--engine-arg", "--port"], "is not for the engine of the file: use --port"),
        (["--engine-arg", "--api_key"], "is not for the engine of the file: use --api-key when the file is run"),
        (["--engine-arg", "--api-prefix"], "a proxy before this program can do that"),
        (["--engine-arg", "--help"], "the engine would end instead of serving"),
        (["--engine-arg", "\udcff"], "is not UTF-8 text"),
        (["--wrong"], "No such option"),
    ],
)
def test_options_out_of_range(words: list[str], text: str, mkllm: Run, folder: Path) -> None:
    refused(mkllm("build", "model.gguf", *words), 2, text, "see `mkllm build --help`")
    assert os.listdir(folder) == ["model.gguf"]


def test_long_system_prompts(mkllm: Run, folder: Path) -> None:
    (folder / "long.txt").write_text("ы" * 60_000)
    assert mkllm("build", "model.gguf", "--system", "@long.txt", "-o", "out").returncode == 0
    (folder / "long.txt").write_text("ы" * 62_000)
    refused(mkllm("build", "model.gguf", "--system", "@long.txt"), 2, "'long.txt' is longer than 120 KiB")
    (folder / "long.txt").write_text("\n" * 62_000)  # two bytes each in JSON
    refused(mkllm("build", "model.gguf", "--system", "@long.txt"), 2, "'long.txt' is longer than 120 KiB")


def test_models_that_are_not_there(mkllm: Run, folder: Path) -> None:
    refused(mkllm("build", "none.gguf", "-o", "x"), 10, "there is no file 'none.gguf'")
    refused(mkllm("build", "demmo", "-o", "x"), 10, "there is no model 'demmo': did you mean 'demo'?")
    refused(mkllm("build", "mdel.gguf", "-o", "x"), 10, "'mdel.gguf'")
    refused(mkllm("build", "modelgguf", "-o", "x"), 10, "did you mean 'model.gguf'?")
    refused(mkllm("build", "hf:org", "-o", "x"), 10, "write hf:organisation/repository/file.gguf")
    (folder / "empty").mkdir()
    refused(mkllm("build", "empty", "-o", "x"), 10, "the folder 'empty' holds no model: name a .gguf file")


def test_models_that_are_none(mkllm: Run, folder: Path) -> None:
    (folder / "text.gguf").write_text("hello")
    refused(mkllm("build", "text.gguf", "-o", "x"), 11, "'text.gguf' is not a GGUF file")
    (folder / "cut.gguf").write_bytes((folder / "model.gguf").read_bytes()[:3000])
    refused(mkllm("build", "cut.gguf", "-o", "x"), 11, "ends at byte", "but the file has 3000")
    assert not (folder / "x").exists()


def test_an_artifact_is_no_model(mkllm: Run) -> None:
    mkllm("build", "model.gguf", "-o", "out")
    refused(mkllm("build", "out", "-o", "x"), 11, "it is an artifact made by mkllm", "`mkllm extract out`")


def test_targets_that_exist(mkllm: Run, folder: Path) -> None:
    (folder / "out").write_text("mine")
    (folder / "folder").mkdir()
    refused(mkllm("build", "model.gguf", "-o", "out"), 12, "'out' exists already", "--force")
    refused(mkllm("build", "model.gguf", "-o", "folder"), 12, "'folder' is a folder: name a file", "'folder/model'")
    refused(mkllm("build", "model.gguf", "-o", "folder", "--force"), 12, "'folder' is a folder")
    refused(mkllm("build", "model.gguf", "-o", "/dev/null", "--force"), 12, "'/dev/null' is not a file")
    assert (folder / "out").read_text() == "mine"
    assert mkllm("build", "model.gguf", "-o", "out", "--force").returncode == 0
    assert (folder / "out").read_bytes()[:2] == b"#!"


def test_the_target_is_the_model_itself(mkllm: Run, folder: Path) -> None:
    before = (folder / "model.gguf").read_bytes()
    os.link(folder / "model.gguf", folder / "hard")
    (folder / "soft").symlink_to("model.gguf")
    for name in ("model.gguf", "hard", "soft", "../work/model.gguf"):
        refused(mkllm("build", "model.gguf", "-o", name, "--force"), 12, f"{name!r} is the model itself")
        refused(mkllm("build", "soft", "-o", name, "--force"), 12)
    assert (folder / "model.gguf").read_bytes() == before


def test_places_that_cannot_be_written(mkllm: Run) -> None:
    refused(mkllm("build", "model.gguf", "-o", "none/out"), 13, "there is no folder 'none'; create it first")
    refused(mkllm("build", "model.gguf", "-o", "model.gguf/out"), 13, "there is no folder 'model.gguf'")
    refused(mkllm("build", "model.gguf", "-o", "x" * 256), 13, "cannot be written (file name too long): choose")
    refused(mkllm("build", "x" * 256, "-o", "x"), 10, "cannot be opened: file name too long; check the name")


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv, to become somebody else"
)
def test_without_permission(mkllm: Run, folder: Path, kit_cache: Path, tmp_path: Path, small_gguf: Path) -> None:
    """As an ordinary user, in a folder that everybody can reach."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        shutil.copytree(kit_cache, place / "cache", copy_function=shutil.copy)
        for path in place.rglob("*"):
            path.chmod(0o777 if path.is_dir() else 0o644)
        (place / "closed").mkdir(mode=0o755)
        (place / "open").mkdir()
        (place / "open").chmod(0o777)
        (place / "model.gguf").write_bytes(small_gguf.read_bytes())
        (place / "secret.gguf").touch(mode=0o600)
        (place / "shut").mkdir(mode=0o700)
        user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *COMMAND]
        environment = os.environ | {"MKLLM_CACHE": str(place / "cache"), "HOME": "/dev/null/home"}

        def run(*words: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run([*user, *words], cwd=place, env=environment, capture_output=True, text=True)

        def build(*words: str) -> subprocess.CompletedProcess[str]:
            return run("build", *words)

        if (works := build("model.gguf", "-o", "open/out")).returncode != 0 and "ModuleNotFound" in works.stderr:
            pytest.skip("an ordinary user cannot run this Python")
        assert works.returncode == 0, works.stderr
        refused(build("model.gguf", "-o", "closed/out"), 13, "'closed' is not writable; choose another folder")
        refused(build("secret.gguf", "-o", "open/other"), 13, "'secret.gguf' may not be read: check its permissions")
        refused(build("shut/m.gguf", "-o", "open/other"), 13, "'shut/m.gguf' may not be read: check its permissions")
        refused(build("shut/m-00001-of-00002.gguf", "-o", "open/other"), 13, "may not be read: check its permissions")
        refused(build("shut/m", "-o", "open/other"), 13, "'shut/m' may not be read: check its permissions")
        refused(build("model.gguf", "-o", "shut/out"), 13, "'shut/out' cannot be written (permission denied): choose")
        refused(run("extract", "open/out", "-o", "shut/x"), 13, "'shut/x' cannot be written (permission denied)")
        assert sorted(os.listdir(place / "open")) == ["out"] and os.listdir(place / "closed") == []


def test_made_for_a_device(mkllm: Run, folder: Path) -> None:
    done = mkllm("build", "model.gguf", "-o", "out", "--for", "generic-2gb", "--json")
    assert done.returncode == 0 and "for any machine with 2 GB: context 512 tokens" in done.stderr
    told = json.loads(done.stdout)
    assert told["outlook"]["fits"] and told["outlook"]["estimated_tokens_per_second_at_most"] is None
    with open_artifact(folder / "out") as artifact:
        device = artifact.manifest.defaults.device
    assert device and (device.name, device.memory, device.context) == ("generic-2gb", 2 << 30, 512)


def test_a_device_has_a_target(mkllm: Run) -> None:
    refused(mkllm("build", "model.gguf", "--for", "pi5"), 20, "linux-aarch64")
    done = mkllm("build", "model.gguf", "--for", "pi5", "--target", "linux-x86_64")
    assert done.returncode == 0
    assert "warning: pi5-4gb runs files for linux-aarch64, this one will be for linux-x86_64" in done.stderr


def test_a_device_that_a_model_is_to_fit_has_a_target_too(mkllm: Run) -> None:
    refused(mkllm("build", "model.gguf", "--fit", "pi5"), 20, "there is no kit for 'linux-aarch64'")
    done = mkllm("build", "model.gguf", "--fit", "pi5", "--target", "linux-x86_64")
    assert "warning: pi5-4gb runs files for linux-aarch64, this one will be for linux-x86_64" in done.stderr


def test_devices_that_are_none_and_all_that_are(mkllm: Run) -> None:
    refused(mkllm("build", "model.gguf", "--for", "pi6"), 2, "there is no device 'pi6': did you mean 'pi")
    shown = mkllm("devices", env={**os.environ, "COLUMNS": "160"})
    assert shown.returncode == 0 and "pi5-4gb, pi5 " in shown.stdout
    listed = mkllm("build", "model.gguf", "--for", "list", env={**os.environ, "COLUMNS": "160"})
    assert listed.stdout == shown.stdout and listed.returncode == 0
    every = json.loads(mkllm("devices", "--json").stdout)
    assert {"pi4-8gb", "generic-1gb"} < {device["name"] for device in every}


@pytest.mark.parametrize("words", [(), ("--quant", "Q4_0"), ("--fit", "1GB")])
def test_the_model_itself_is_never_overwritten(mkllm: Run, folder: Path, words: tuple[str, ...]) -> None:
    before = (folder / "model.gguf").read_bytes()
    refused(mkllm("build", "model.gguf", "-o", "model.gguf", "--force", *words), 12, "'model.gguf' is the model itself")
    assert (folder / "model.gguf").read_bytes() == before


@pytest.mark.parametrize("option", ["--quant", "--fit", "--prepack"])
def test_an_empty_word_is_not_taken_for_none(mkllm: Run, option: str) -> None:
    done = mkllm("build", "model.gguf", "-o", "out", option, "")
    assert done.returncode == 2 and option in done.stderr


def test_targets_by_name_and_of_later_versions(mkllm: Run) -> None:
    done = mkllm("build", "model.gguf", "-o", "out.exe")
    note, sentence = done.stderr.splitlines()
    assert done.returncode == 20 and note == "note: 'out.exe' will be for windows-x86_64, as its name says"
    assert sentence.startswith(
        "mkllm: there is no kit for 'windows-x86_64' on this machine: run `mkllm kit build --target"
    )
    why = "there is no kit for 'macos-arm64' on this machine: run `mkllm kit fetch macos-arm64`, or"
    refused(mkllm("build", "model.gguf", "-o", "out", "--target", "macos-arm64"), 20, why)
    refused(mkllm("build", "model.gguf", "-o", "out", "--target", "macos-x86"), 20, "cannot build for 'macos-x86'")
    assert mkllm("build", "model.gguf", "-o", "out.exe", "--target", "linux-x86_64").returncode == 0


@pytest.mark.parametrize("command", [["build"], ["bundle"], ["kit", "build"]])
def test_the_help_names_all_targets(command: list[str], mkllm: Run) -> None:
    shown = " ".join(mkllm(*command, "--help").stdout.split())
    assert ", ".join(list(TARGETS)[:-1]) + f" or {list(TARGETS)[-1]}" in shown


def test_a_name_that_is_none_is_answered_with_all_forms(mkllm: Run) -> None:
    forms = (".gguf file", "a folder", "`mkllm models`", "'demo'", "hf:org", ":quantization", "ollama:name", "https://")
    refused(mkllm("build", "no/thing", "-o", "x"), 10, "there is no model 'no/thing'", *forms)


def test_without_a_kit(mkllm: Run, kit_cache: Path) -> None:
    shutil.rmtree(kit_cache / "kits")
    refused(mkllm("build", "model.gguf", "-o", "out"), 20, "there is no kit for 'linux-x86_64'", "mkllm kit build")


def test_with_a_damaged_kit(mkllm: Run, kit_cache: Path) -> None:
    [kit] = (kit_cache / "kits").glob("linux-*-*")
    (kit / "bootloader").write_bytes(b"short")
    refused(mkllm("build", "model.gguf", "-o", "out"), 20, "'bootloader'", "is not what was built")


def test_notes_can_be_silenced(mkllm: Run) -> None:
    noted = mkllm("build", "model.gguf", "-o", "a", "--ctx-size", "9999")
    assert noted.stderr == "note: a context of 9999 tokens was asked for, but the model was trained with 512\n"
    quiet = mkllm("build", "-q", "model.gguf", "-o", "b", "--ctx-size", "9999")
    assert (quiet.stdout, quiet.stderr, quiet.returncode) == ("", "", 0)
    assert mkllm("-q", "build", "model.gguf", "-o", "c").stdout == ""


def test_debug_shows_the_traceback(mkllm: Run) -> None:
    for words in (["--debug", "build", "none.gguf"], ["build", "none.gguf", "--debug"]):
        done = mkllm(*words)
        assert done.returncode == 1 and "Traceback" in done.stderr and "ModelNotFound" in done.stderr


def test_help_and_version(mkllm: Run) -> None:
    assert mkllm("--version").stdout.startswith("mkllm 0.")
    done = mkllm("--help")
    assert done.returncode == 0 and all(name in done.stdout for name in ("build", "run", "inspect", "verify", "kit"))
    assert mkllm().stderr == done.stdout and mkllm().returncode == 2
    refused(mkllm("biuld"), 2, "there is no command 'biuld': did you mean 'build'?")
    refused(mkllm("build"), 2, "Missing argument 'MODEL'")


def test_help_is_quick(mkllm: Run) -> None:
    code = "import sys; from mkllm.builder.cli import _run; _run(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "click" in done.stderr.split()
    assert not {"rich", "huggingface_hub", "psutil", "zipfile", "asyncio"} & set(done.stderr.split())


def test_inspect(mkllm: Run, folder: Path) -> None:
    mkllm("build", "model.gguf", "-o", "out", "--system", "[bold]x", "--temperature", "0.5")
    shown = mkllm("inspect", "out").stdout
    for text in (
        "Small Test: llama, 3,905 parameters",
        "Q8_0",
        "[bold]x",
        "temperature 0.5",
        "native/mkllm-engine",
        "cpu-x64",
        "linux-x86_64, glibc 2.17 or newer",
    ):
        assert text in shown
    facts = json.loads(mkllm("inspect", "out", "--json").stdout)
    assert facts["manifest"]["members"][0]["name"] == "model.gguf" and facts["size"] == (folder / "out").stat().st_size
    refused(mkllm("inspect", "model.gguf"), 30, "'model.gguf' cannot be used", "does not end as an artifact does")
    refused(mkllm("inspect", "none"), 30, "'none' cannot be opened: no such file")


def test_a_models_own_words_do_not_steer_the_terminal(
    mkllm: Run, folder: Path, gguf_bytes: Callable[..., bytes]
) -> None:
    (folder / "bad.gguf").write_bytes(gguf_bytes(general__name="\x1b]0;PWND\x07", general__license="\x1b[2J"))
    mkllm("build", "bad.gguf", "-o", "out", "--system", "one\x1b[31m\ntwo")
    shown = mkllm("inspect", "out").stdout
    assert "\ufffd]0;PWND\ufffd: llama" in shown and "\ufffd[31m two" in shown
    assert "\x1b" not in shown and "\x07" not in shown


def test_names_that_are_no_text(mkllm: Run, folder: Path, small_gguf: Path) -> None:
    name = os.fsdecode(b"x\xff.gguf")
    (folder / name).write_bytes(small_gguf.read_bytes())
    done = mkllm("build", name, "--json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert (made["manifest"]["name"], made["manifest"]["provenance"]["reference"]) == ("x_", "x\ufffd.gguf")
    assert (folder / "x_").exists()


def test_verify(mkllm: Run, folder: Path) -> None:
    mkllm("build", "model.gguf", "-o", "out")
    assert "are as they were built (8 members, bootloader and PKG)" in mkllm("verify", "out").stdout
    assert json.loads(mkllm("verify", "out", "--json").stdout) == {"path": "out", "ok": True, "differences": []}
    data = bytearray((folder / "out").read_bytes())
    with open_artifact(folder / "out") as artifact:
        at = artifact.member("model.gguf").offset
    data[at + 77] ^= 1
    data[5] ^= 1
    (folder / "out").write_bytes(data)
    refused(
        mkllm("verify", "out"), 31, "bootloader: its", f"model.gguf: its 5024 bytes from offset {at}", "copy or build"
    )
    told = mkllm("verify", "out", "--json")
    assert told.returncode == 31 and [part["part"] for part in json.loads(told.stdout)["differences"]] == [
        "bootloader",
        "model.gguf",
    ]
    os.truncate(folder / "out", len(data) - 1)
    refused(mkllm("verify", "out"), 30, "truncated")


def test_extract(mkllm: Run, folder: Path) -> None:
    mkllm("build", "model.gguf", "-o", "out")
    done = mkllm("extract", "out", "-o", "back.gguf")
    assert (done.stdout, done.returncode) == ("back.gguf\n", 0)
    assert (folder / "back.gguf").read_bytes() == (folder / "model.gguf").read_bytes()
    assert mkllm("extract", "out", "mkllm/manifest.json").stdout == "manifest.json\n"
    assert json.loads((folder / "manifest.json").read_text())["format"] == 1
    refused(mkllm("extract", "out", "-o", "back.gguf"), 12, "'back.gguf' exists already")
    refused(mkllm("extract", "out", "lib"), 32, "'out' has no member 'lib'")
    assert mkllm("extract", "out", "native/libllama.so", "-o", ".", "-q").returncode == 0
    assert (folder / "libllama.so").stat().st_size == 70001


def test_run_builds_once(mkllm: Run, folder: Path, kit_cache: Path) -> None:
    for _ in range(2):
        done = mkllm("run", "model.gguf", "-p", "x y", "--help", "-q")
        assert (done.stdout, done.returncode) == ("ran: -p x y --help -q\n", 0)
        [made] = (kit_cache / "artifacts").iterdir()
        before = made.stat().st_ino
    assert [path.stat().st_ino for path in (kit_cache / "artifacts").iterdir()] == [before]


def test_run_replaces_what_changed(mkllm: Run, folder: Path, kit_cache: Path) -> None:
    mkllm("run", "model.gguf")
    [first] = os.listdir(kit_cache / "artifacts")
    os.utime(folder / "model.gguf", (1, 1))
    mkllm("run", "model.gguf")
    [second] = os.listdir(kit_cache / "artifacts")
    assert first != second
    os.truncate(kit_cache / "artifacts" / second, 5000)
    assert mkllm("run", "model.gguf").stdout == "ran: \n"


def test_run_where_nothing_may_be_executed(mkllm: Run, kit_cache: Path) -> None:
    mkllm("run", "model.gguf")
    [made] = (kit_cache / "artifacts").iterdir()
    made.chmod(0o644)
    refused(mkllm("run", "model.gguf"), 13, "cannot be executed (permission denied): set MKLLM_CACHE to a folder from")


def test_run_ends_as_the_artifact_does(mkllm: Run, kit_cache: Path) -> None:
    refused(mkllm("run", "none"), 10, "there is no model 'none'")


@pytest.mark.parametrize("words", ["inspect out", "inspect out --json", "kit list", "kit show"])
def test_a_closed_pipe(words: str, mkllm: Run, folder: Path) -> None:
    mkllm("build", "model.gguf", "-o", "out")
    reader, writer = os.pipe()
    os.close(reader)
    done = mkllm(*words.split(), capture_output=False, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(("number", "text"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_signals_while_it_waits(number: signal.Signals, text: str, mkllm: Run, folder: Path, kit_cache: Path) -> None:
    """The kit is verified for the first time, and its PKG is a pipe that never ends."""
    [kit] = (kit_cache / "kits").glob("linux-*-*")
    info = json.loads((kit / "kit.json").read_text())
    os.unlink(kit / "runtime.pkg")
    os.mkfifo(kit / "runtime.pkg")
    info["files"]["runtime.pkg"]["size"] = 0
    (kit / "kit.json").write_text(json.dumps(info))
    process = subprocess.Popen(
        [*COMMAND, "build", "model.gguf", "-o", "out"], cwd=folder, stderr=subprocess.PIPE, text=True
    )
    time.sleep(2)
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (128 + number, f"mkllm: {text}\n")
    assert os.listdir(folder) == ["model.gguf"]


def test_a_bar_on_a_terminal(mkllm: Run, folder: Path, gguf_bytes: Callable[..., bytes]) -> None:
    (folder / "big.gguf").write_bytes(gguf_bytes(tensors={"w": ((1024, 4000), 0)}))
    parent, child = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen(
        [*COMMAND, "build", "big.gguf", "-o", "out"], cwd=folder, stderr=child, stdout=child, env=environment
    )
    os.close(child)
    shown = b""
    try:
        while block := os.read(parent, 4096):
            shown += block
    except OSError as error:
        assert error.errno == errno.EIO  # the other side is closed
    os.close(parent)
    assert process.wait() == 0
    assert b"writing out" in shown and b"MB" in shown and b"out: 16." in shown


def test_the_artifact_is_executable_whatever_the_umask(mkllm: Run, folder: Path) -> None:
    mkllm("build", "model.gguf", "-o", "out", preexec_fn=lambda: os.umask(0o077))
    assert stat.S_IMODE((folder / "out").stat().st_mode) == 0o755
