"""The artifact's command line on Windows, with the fake engine, under wine."""

import json
import os
import shutil
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

CONSOLE = Path(__file__).with_name("console.py")
SECONDS = 600


@pytest.fixture
def journal(windows, tmp_path):
    """`journal(start={…})`: environment that tells the engine what to do; it writes tmp_path / "journal"."""

    def tell(**config):
        told = tmp_path / "fake.json"
        told.write_text(json.dumps({**config, "journal": windows.wine.path(tmp_path / "journal")}))
        return {"FAKE_ENGINE": windows.wine.path(told)}

    return tell


def wait_for(condition, what):
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def ended(process):
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        pipe.close()


@contextmanager
def serving(windows, *words, env=None):
    """The artifact, once it is ready; its process, and where it serves."""
    process = windows.start("serve", "--no-browser", *words, env=env or {})
    try:
        lines = []
        while not (lines and lines[-1].startswith("ready")):
            lines.append(process.stdout.readline().decode())
            assert lines[-1], (lines, process.stderr.read())
        yield process, lines[0].split()[1]
    finally:
        ended(process)


def ask(url, text):
    body = json.dumps({"messages": [{"role": "user", "content": text}], "stream": True}).encode()
    request = urllib.request.Request(f"{url}/v1/chat/completions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:
        events = [json.loads(line[6:]) for line in answer if line.startswith(b"data: {")]
    return "".join(choice["delta"].get("content", "") for event in events for choice in event["choices"])


def is_running(windows, pid):
    code = "import sys; from mkllm.runtime.platform import files; print(files.is_running(int(sys.argv[1])))"
    return {"True": True, "False": False}[windows.python(code, pid).stdout.strip()]


def test_one_answer(windows, journal, tmp_path):
    done = windows.run("-p", "Grüße 東京", "--json", env=journal())
    assert done.returncode == 0, done
    answer = json.loads(done.stdout)
    assert answer["text"] == "Grüße 東京 " and answer["kernel"].startswith("cpu-")
    assert os.listdir(tmp_path / "temp") == []  # nothing is left


def test_the_next_kernel_follows_a_crash_and_another_port_one_that_is_taken(windows, journal, tmp_path):
    machine = tmp_path / "machine.json"
    machine.write_text(json.dumps({"machine": "x86_64", "cpu_flags": ["sse4_2", "avx", "f16c", "fma", "bmi2", "avx2"]}))
    taken = windows.wine.path(tmp_path / "taken")
    env = {
        **journal(start={"libggml-cpu-haswell.so": "SIGILL"}, port_taken=taken),
        "MKLLM_PROBE": windows.wine.path(machine),
    }
    done = windows.run("-p", "hello", "--json", env=env)
    assert done.returncode == 0, done
    assert json.loads(done.stdout)["kernel"] == "cpu-sse42"
    starts = [line.split()[2] for line in (tmp_path / "journal").read_text().splitlines() if " start " in line]
    assert starts == ["libggml-cpu-haswell.so", "libggml-cpu-sse42.so", "libggml-cpu-sse42.so"]


def test_the_file_itself_at_a_long_path(windows, tmp_path):
    deep = tmp_path / "Grüße 東京" / ("a folder with a long name " * 4).strip() / ("another of them " * 6).strip()
    deep.mkdir(parents=True)
    artifact = deep / "demo with a name.exe"
    shutil.copy(windows.artifact, artifact)
    env = {"MKLLM_ARTIFACT": windows.wine.path(artifact)}
    assert len(windows.wine.path(artifact)) > 260
    assert "are as built" in windows.run("verify", env=env).stdout
    done = windows.run("extract", "-o", windows.wine.path(deep / "model.gguf"), env=env)
    assert done.returncode == 0, done
    assert (deep / "model.gguf").read_bytes()[:4] == b"GGUF"
    again = windows.run("extract", "-o", windows.wine.path(deep / "model.gguf"), env=env)
    assert again.returncode == 12 and "exists already" in again.stderr


def test_damage_is_named(windows, tmp_path):
    artifact = tmp_path / "damaged.exe"
    data = bytearray(windows.artifact.read_bytes())
    data[data.index(b"MIT of tests")] ^= 1
    artifact.write_bytes(data)
    done = windows.run("verify", env={"MKLLM_ARTIFACT": windows.wine.path(artifact)})
    assert done.returncode == 31 and "licenses/llama.cpp.txt: its 13 bytes" in done.stderr
    artifact.write_bytes(data[:-1])
    done = windows.run("info", env={"MKLLM_ARTIFACT": windows.wine.path(artifact)})
    assert done.returncode == 30 and "it is truncated" in done.stderr


@pytest.mark.parametrize(
    "words,code,sentence",
    [
        (["--nonsense"], 2, "No such option '--nonsense'"),
        (["extract", "nothing"], 32, "has no member 'nothing'"),
        (["extract", "-o", "no folder\\model.gguf"], 13, "there is no folder 'no folder'; create it first"),
        (["--kernel", "cpu-zen9"], 40, "this file has no kernel 'cpu-zen9'"),
        (["--host", "192.0.2.1"], 42, "'192.0.2.1' is no address of this machine"),
        (["-p", "too long"], 43, "the prompt has 999 tokens, the context only 512"),
        (["-p", "please refuse"], 44, "the engine refused the request: told to refuse"),
    ],
)
def test_failures(windows, tmp_path, words, code, sentence):
    done = windows.run(*words, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (code, 1), done
    assert done.stderr.startswith("fake model.exe: ") and sentence in done.stderr
    assert "\\\\" not in done.stderr


def test_serving_and_the_end_of_it_all(windows, journal, tmp_path):
    with serving(windows, "--port", "18080", env=journal()) as (process, url):
        assert ask(url, "Grüße from Windows") == "Grüße from Windows "
        with serving(windows, "--port", url.rpartition(":")[2]) as (_, other):
            assert other != url
        engine = (tmp_path / "journal").read_text().split()[0]
        assert is_running(windows, engine)
        process.kill()
        process.wait()
        wait_for(lambda: not is_running(windows, engine), "the engine lives on")


def test_no_orphan_even_without_a_lifeline(windows, tmp_path):
    beat = tmp_path / "beat"
    child = "import sys, time\nwhile True: open(sys.argv[1], 'a').write('.'); time.sleep(0.1)"
    parent = (
        "import os, subprocess, sys\n"
        "from mkllm.runtime.platform import children\n"
        "none = {name: subprocess.DEVNULL for name in ('stdin', 'stdout', 'stderr')}\n"
        f"children.start([sys.executable, '-c', {child!r}, sys.argv[1]], (), dict(os.environ), **none)\n"
        "print('started', flush=True)\n"
        "input()"
    )
    words = (windows.wine.python, "-c", parent, windows.wine.path(beat))
    process = windows.wine.popen(*words, env=windows.environment)
    try:
        assert process.stdout.readline().strip() == b"started"
        wait_for(beat.exists, "the child does not live")
    finally:
        ended(process)

    def is_still():
        size = beat.stat().st_size
        time.sleep(1)
        return size == beat.stat().st_size

    wait_for(is_still, "the child lives on")


@pytest.mark.parametrize(
    "words,text,code",
    [
        (["serve", "--no-browser", "--port", "0"], "ready after", 0),
        (["-p", "endless words"], "words", 130),
    ],
    ids=["serve", "prompt"],
)
def test_ctrl_c(windows, journal, tmp_path, words, text, code):
    console = (windows.wine.python, "-X", "utf8", windows.wine.path(CONSOLE), text)
    done = windows.wine.run(*console, *windows.words(*words), env={**windows.environment, **journal()})
    assert done.returncode == 0, done
    ended = json.loads(done.stdout.splitlines()[-1])
    assert ended["pressed"] and ended["code"] == code, ended
    assert "Traceback" not in ended["said"]
    assert "lifeline" in (tmp_path / "journal").read_text()
