"""What of a command line gets into a unit."""

import os

import click
import pytest

from mkllm.runtime.cli import serve_command
from mkllm.runtime.service.words import read_words

ALWAYS = ("--no-browser", "--only-port")


def read(*words):
    return read_words(serve_command, words)


def test_nothing_asked():
    found = read()
    assert found.words == ALWAYS and found.files == ()


def test_options_by_their_long_names():
    found = read("-c", "2048", "--allow-host", "a.lan", "--allow-host", "b", "--no-tune", "--metrics", "--no-browser")
    assert found.words == (
        *("--allow-host", "a.lan", "--allow-host", "b", "--metrics", "--ctx-size", "2048", "--tune", "off"),
        *ALWAYS,
    )


def test_sizes_stay_what_they_are():
    assert read("--max-body", "1M").words[:2] == ("--max-body", str(1 << 20))


def test_secrets_stay_out(tmp_path):
    (tmp_path / "keys").write_text("secret2\n")
    found = read("--api-key", "secret1", "--api-key-file", str(tmp_path / "keys"))
    assert found.words == ALWAYS
    assert found.given["api_keys"] == ("secret1",) and str(found.given["api_key_file"]) == str(tmp_path / "keys")


def test_files_are_whole_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.gguf", "b.gguf", "eyes"):
        (tmp_path / name).touch()
    words = ("--lora", "a.gguf", "--", "--lora-scaled", "a.gguf:0.5,b.gguf:1", "--mmproj", "eyes", "-ngl", "0")
    found = read(*words)
    here = os.path.realpath(tmp_path)
    assert found.words == (
        *("--lora", f"{here}/a.gguf", *ALWAYS, "--"),
        *("--lora-scaled", f"{here}/a.gguf:0.5,{here}/b.gguf:1", "--mmproj", f"{here}/eyes", "-ngl", "0"),
    )
    assert found.files == tuple(f"{here}/{name}" for name in ("a.gguf", "a.gguf", "b.gguf", "eyes"))


def test_commas_in_names_of_files(tmp_path, monkeypatch):
    """One file is named as it is, in a list in quotes: as the engine reads it."""
    folder = tmp_path / "a,b"
    folder.mkdir()
    monkeypatch.chdir(folder)
    here = os.path.realpath(folder)
    found = read("--", "--mmproj", "eyes,1", "--lora", 'x.gguf,"y,""z.gguf"', "--lora-scaled", "x:1.gguf:0.5")
    assert found.words[-6:] == (
        *("--mmproj", f"{here}/eyes,1"),
        *("--lora", f'"{here}/x.gguf","{here}/y,""z.gguf"', "--lora-scaled", f'"{here}/x:1.gguf:0.5"'),
    )
    assert found.files == tuple(f"{here}/{name}" for name in ("eyes,1", "x.gguf", 'y,"z.gguf', "x:1.gguf"))


def test_what_lies_in_the_artifact_has_no_path():
    assert read("--", "--mmproj", "embedded:eyes").words[-2:] == ("--mmproj", "embedded:eyes")
    assert read("--", "--mmproj", "embedded:eyes").files == ()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--prt", "80"], "--prt"),
        (["--port", "99999"], "99999 is not in the range"),
        (["--log-file", "x"], "the journal keeps what it says"),
        (["--", "--lora", "a\nb"], "is no list of files"),
        (["hello"], "unexpected extra argument"),
    ],
)
def test_what_serve_would_refuse_is_refused(words, why):
    with pytest.raises(click.UsageError, match=why):
        read(*words)
