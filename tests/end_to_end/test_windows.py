"""The kit for windows-x86_64: what is built with it here runs on Windows, which wine plays, with the right kernel and
the same answers as here; it is read, signed, moved and damaged there."""

import json
import shutil
import socket
import subprocess
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest
from playwright.sync_api import expect
from served import free_port
from wine import ROOT, Wine

from mkllm.builder.errors import NoKit
from mkllm.builder.kit.kit import Kit
from mkllm.builder.kit.store import find_kit

from .browsing import MILLISECONDS, Watched
from .browsing import browser as browser
from .browsing import chromium as chromium

TARGET = "windows-x86_64"
QUESTION = "How do I build an executable from a GGUF?"
ASK = ("-p", QUESTION, "--temperature", "0")
SECONDS = 120
CONSOLE = ROOT / "tests" / "runtime" / "windows" / "console.py"
MOST_BYTES = 60_000_000
NEEDS_WINDOWS_10 = "10.0"


@pytest.fixture(scope="module")
def kit() -> Kit:
    try:
        return find_kit(TARGET)
    except NoKit:
        pytest.skip("there is no kit for windows-x86_64: `nox -s windows` builds it")


@pytest.fixture(scope="module")
def built(kit: Kit, mkllm: Path, tmp_path_factory: pytest.TempPathFactory) -> "subprocess.CompletedProcess[str]":
    """What the build said; the file is the last of its words, in a folder whose name is not ASCII and has spaces."""
    path = tmp_path_factory.mktemp("Grüße aus 東京") / "demo.exe"
    return subprocess.run(
        [mkllm, "build", "demo", "-o", path], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


@pytest.fixture(scope="module")
def exe(built: "subprocess.CompletedProcess[str]") -> Path:
    """The demo model, built here for there."""
    assert built.returncode == 0, built.stderr
    return Path(built.args[-1])


@dataclass(frozen=True)
class Windows:
    """The artifact under wine; `home` is where its engine is placed."""

    wine: Wine
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"MKLLM_RUNTIME_DIR": self.wine.path(self.home)}

    def run(
        self, program: Path, *words: str | Path, stdin: str = "", env: Mapping[str, str] = {}
    ) -> "subprocess.CompletedProcess[str]":
        return self.wine.run(program, *words, env={**self.environment, **env}, stdin=stdin, timeout=SECONDS)

    @contextmanager
    def serving(self, program: Path, *words: str) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
        """A server that is ready; its process and its address. Whatever the test does with it, it is ended."""
        port = free_port()
        process = self.wine.popen(program, "--no-browser", "--port", str(port), *words, env=self.environment)
        assert process.stdout and process.stderr and process.stdin
        try:
            lines = [process.stdout.readline().decode()]
            while not lines[-1].startswith("ready"):
                assert lines[-1], (lines, process.stderr.read())
                lines.append(process.stdout.readline().decode())
            yield process, lines[0].split()[1]
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                pipe.close()

    def engines(self) -> list[psutil.Process]:
        """Those that run out of this home."""
        name = self.wine.path(self.home)
        commands = [(process, process.info["cmdline"] or [""]) for process in psutil.process_iter(["cmdline"])]
        return [process for process, words in commands if name in words[0] and "mkllm-engine" in words[0]]

    def wait_for_engines(self, count: int) -> None:
        end = time.monotonic() + SECONDS
        while len(self.engines()) != count:
            assert time.monotonic() < end, self.engines()
            time.sleep(0.1)


@pytest.fixture(scope="module")
def windows(wine: Wine, tmp_path_factory: pytest.TempPathFactory) -> Windows:
    return Windows(wine, tmp_path_factory.mktemp("home"))


@pytest.fixture
def alone(wine: Wine, tmp_path: Path) -> Windows:
    """Likewise, with a home of this test's, in which no other's engine runs."""
    return Windows(wine, tmp_path / "home of its own")


@pytest.fixture(scope="module")
def answer(demo: Path) -> str:
    """What the same model answers on this machine."""
    said = subprocess.run([demo, *ASK], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert said.returncode == 0 and "mkllm build" in said.stdout, said.stderr
    return said.stdout.rstrip("\n")


@pytest.fixture(scope="module")
def server(windows: Windows, exe: Path) -> Iterator[str]:
    with windows.serving(exe) as (_, url):
        yield url


def test_the_suffix_says_what_it_is_for(built: "subprocess.CompletedProcess[str]", exe: Path) -> None:
    assert TARGET in built.stdout + built.stderr and ".exe" in built.stdout + built.stderr
    assert exe.read_bytes()[:2] == b"MZ"


def test_size(kit: Kit) -> None:
    assert sum(path.stat().st_size for path in kit.path.rglob("*") if path.is_file()) <= MOST_BYTES


def test_the_same_answer(windows: Windows, exe: Path, answer: str) -> None:
    done = windows.run(exe, *ASK, "--json")
    assert (done.returncode, done.stderr) == (0, ""), done
    said: dict[str, Any] = json.loads(done.stdout)
    assert said["text"] == answer and said["kernel"].startswith("cpu-") and said["model"] == "demo"


@pytest.mark.parametrize(
    "flags,kernel", [(["sse4_2"], "x64"), (["sse4_2", "avx", "f16c", "fma", "bmi2", "avx2"], "haswell")]
)
def test_the_right_kernel(
    windows: Windows, kit: Kit, exe: Path, answer: str, tmp_path: Path, flags: Sequence[str], kernel: str
) -> None:
    """The best of those in the kit, which may be one between: what runs is compared, and what it answers."""
    machine = tmp_path / "machine.json"
    machine.write_text(json.dumps({"machine": "x86_64", "cpu_flags": flags}))
    done = windows.run(exe, *ASK, "--json", env={"MKLLM_PROBE": windows.wine.path(machine)})
    assert done.returncode == 0, done
    said = json.loads(done.stdout)
    among = {"x64": {"cpu-x64", "cpu-sse42"}, "haswell": {"cpu-haswell"}}[kernel]
    assert said["kernel"] in among and said["text"] == answer


def test_a_question_by_a_pipe(windows: Windows, exe: Path, answer: str) -> None:
    done = windows.run(exe, "-p", "-", "--temperature", "0", stdin=QUESTION)
    assert (done.returncode, done.stdout.rstrip("\n")) == (0, answer), done


def test_chat_in_the_terminal(windows: Windows, exe: Path, answer: str) -> None:
    done = windows.run(exe, "chat", "--temperature", "0", stdin=f"{QUESTION}\n/exit\n")
    assert done.returncode == 0 and answer in done.stdout, done


def test_the_official_client(server: str, answer: str) -> None:
    ask: dict[str, Any] = {"model": "demo", "messages": [{"role": "user", "content": QUESTION}], "temperature": 0}
    with openai.OpenAI(base_url=f"{server}/v1", api_key="none", max_retries=0, timeout=SECONDS) as client:
        assert [model.id for model in client.models.list()] == ["demo"]
        assert client.chat.completions.create(**ask).choices[0].message.content == answer
        stream = client.chat.completions.create(**ask, stream=True)
        pieces = [piece.choices[0].delta.content or "" for piece in stream if piece.choices]
    assert "".join(pieces) == answer and len(pieces) > 3


def test_the_chat_page(server: str, browser: Any) -> None:
    with browser.new_context(viewport={"width": 1100, "height": 750}) as context:
        watched = Watched(context, server)
        watched.open()
        expect(watched.page.get_by_text("demo", exact=True).first).to_be_visible(timeout=MILLISECONDS)
        watched.ask(QUESTION)
        watched.expect_answer(r"\bmkllm build\b")
        assert watched.errors == [] and watched.elsewhere == []


def test_a_port_that_is_taken(windows: Windows, exe: Path, server: str) -> None:
    with windows.serving(exe) as (_, other), socket.socket() as taken:
        assert other != server
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        process = windows.wine.popen(exe, "--no-browser", "--port", port, env=windows.environment)
        try:
            assert process.stdout is not None
            first = process.stdout.readline().decode()
            assert "http://127.0.0.1:" in first and f":{port} " not in first, first
        finally:
            process.kill()
            process.communicate()


@pytest.mark.parametrize("whom", ["launcher", "engine"])
def test_killed(alone: Windows, exe: Path, whom: str) -> None:
    """Whose file is killed leaves nothing; an engine that is killed is started again."""
    with alone.serving(exe) as (process, url):
        (engine,) = alone.engines()
        if whom == "engine":
            engine.kill()
            end = time.monotonic() + SECONDS
            while not (alone.engines() and alone.engines()[0].pid != engine.pid):
                assert time.monotonic() < end
                time.sleep(0.1)
            messages: Any = [{"role": "user", "content": QUESTION}]
            with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=30, timeout=SECONDS) as client:
                assert client.chat.completions.create(model="demo", messages=messages, max_tokens=3).choices
    alone.wait_for_engines(0)


def test_ctrl_c(alone: Windows, exe: Path) -> None:
    console = (alone.wine.python, "-X", "utf8", alone.wine.path(CONSOLE), "ready after", alone.wine.path(exe))
    done = alone.wine.run(*console, "--no-browser", "--port", "0", env=alone.environment, timeout=SECONDS)
    assert done.returncode == 0, done
    ended = json.loads(done.stdout.splitlines()[-1])
    assert ended["pressed"] and ended["code"] == 0 and "Traceback" not in ended["said"], ended
    alone.wait_for_engines(0)


def test_it_reads_itself(windows: Windows, mkllm: Path, exe: Path, tmp_path: Path) -> None:
    assert windows.run(exe, "verify").returncode == 0
    told = json.loads(windows.run(exe, "inspect", "--json").stdout)["manifest"]
    assert told["target"] == TARGET
    here = subprocess.run([mkllm, "inspect", exe, "--json"], capture_output=True, check=True).stdout
    assert json.loads(here)["manifest"] == told
    model = tmp_path / "the model.gguf"
    assert windows.run(exe, "extract", "-o", windows.wine.path(model)).returncode == 0
    assert model.read_bytes() == resources.files("mkllm.builder.demo").joinpath("demo.gguf").read_bytes()


def test_it_tells_the_machine(windows: Windows, exe: Path) -> None:
    done = windows.run(exe, "info", "--json")
    assert done.returncode == 0, done
    assert json.loads(done.stdout)["kernels"][0]["name"].startswith("cpu-")


def test_zip_tools_open_it(exe: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(exe) as archive:
        assert archive.testzip() is None and archive.namelist()[0] == "model.gguf"
    subprocess.run(["7z", "t", exe], check=True, capture_output=True)
    subprocess.run(["7z", "x", exe, "-tzip", f"-o{tmp_path}", "model.gguf"], check=True, capture_output=True)
    assert (tmp_path / "model.gguf").read_bytes()[:4] == b"GGUF"


@pytest.mark.parametrize("where", ["weights", "end"])
def test_damage(windows: Windows, exe: Path, tmp_path: Path, where: str) -> None:
    data = bytearray(exe.read_bytes())
    if where == "weights":
        data[data.index(b"GGUF") + 1_000_000] ^= 1
    else:
        del data[-100:]
    (tmp_path / "demo.exe").write_bytes(data)
    done = windows.run(tmp_path / "demo.exe", "verify")
    assert done.returncode == {"weights": 31, "end": 70}[where], done
    assert done.stderr.count("\n") == 1 and {"weights": "model.gguf", "end": "truncated"}[where] in done.stderr


def test_at_a_long_path(windows: Windows, exe: Path, answer: str, tmp_path: Path) -> None:
    deep = tmp_path / "Grüße 東京" / ("a folder with a long name " * 4).strip() / ("another of them " * 6).strip()
    deep.mkdir(parents=True)
    shutil.copy(exe, deep / "demo.exe")
    done = windows.run(deep / "demo.exe", *ASK)
    assert (done.returncode, done.stdout.rstrip("\n")) == (0, answer), done


def test_weights_beside_it(windows: Windows, mkllm: Path, answer: str, tmp_path: Path) -> None:
    words = [mkllm, "build", "demo", "-o", tmp_path / "demo.exe", "--split", "always"]
    subprocess.run(words, check=True, capture_output=True)
    elsewhere = tmp_path / "an other place ü"
    elsewhere.mkdir()
    for name in ("demo.exe", "demo.weights"):
        (tmp_path / name).rename(elsewhere / name)
    done = windows.run(elsewhere / "demo.exe", *ASK)
    assert (done.returncode, done.stdout.rstrip("\n")) == (0, answer), done
    (elsewhere / "demo.weights").unlink()
    done = windows.run(elsewhere / "demo.exe", *ASK)
    assert done.returncode == 33 and done.stderr.count("\n") == 1 and "demo.weights" in done.stderr, done


@pytest.mark.skipif(not shutil.which("osslsigncode"), reason="there is no osslsigncode (Debian's package of that name)")
def test_signed(windows: Windows, mkllm: Path, answer: str, certificate: Path, tmp_path: Path) -> None:
    path = tmp_path / "demo.exe"
    sign = f"osslsigncode sign -certs {certificate} -key {certificate} -in {{file}} -out {{signed}}"
    done = subprocess.run([mkllm, "build", "demo", "-o", path, "--sign", sign], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = subprocess.run(["osslsigncode", "verify", "-CAfile", certificate, path], capture_output=True, text=True)
    assert told.returncode == 0 and "Signature verification: ok" in told.stdout, told
    assert windows.run(path, "verify").returncode == 0
    assert windows.run(path, *ASK).stdout.rstrip("\n") == answer


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Made by itself, to sign code; with its key in the same file."""
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tests of mkllm"]
    key, file = tmp_path / "key.pem", tmp_path / "certificate.pem"
    more = ["-addext", "extendedKeyUsage=codeSigning", "-keyout", key, "-out", file]
    subprocess.run([*words, *more], check=True, capture_output=True)
    file.write_bytes(file.read_bytes() + key.read_bytes())
    return file
