"""The kit's own llama.cpp has the last word on a model, in a process of its own."""

import shutil
import time
from pathlib import Path

import psutil
import pytest

from mkllm.builder.errors import NoKit, UnusableModel
from mkllm.builder.kit.kit import Kit
from mkllm.builder.model.loading import checking

FAKE = """
import ctypes, os, signal, sys
def load_backend(path, name):
    from mkllm.builder.errors import NoKit
    if name == "broken": raise NoKit("damaged")
    loaded.append(name)
llama_log_callback = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
LLAMA_LOAD_MODE_NONE = 0
class Parameters: vocab_only = no_alloc = False; load_mode = -1
def llama_model_default_params(): return Parameters()
def llama_log_set(callback, data):
    global log
    log = callback
def llama_model_load_from_file(path, parameters):
    assert parameters.vocab_only or loaded and parameters.no_alloc and parameters.load_mode == 0
    {body}
"""


@pytest.fixture
def kit(small_kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kit:
    """A kit that has a folder of bindings."""
    shutil.copytree(small_kit.path, tmp_path / "kit")
    (tmp_path / "kit/bindings").mkdir()
    return Kit.read(tmp_path / "kit")


def bindings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Let the child find `load` in a fake: a sitecustomize puts it in place of the real one."""
    code = FAKE.replace("{body}", body)
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, types\nfake = types.ModuleType('mkllm.builder.kit.bindings')\n"
        "library = types.ModuleType('library')\n"
        f"exec({code!r}, library.__dict__)\nfake.load = lambda path: library\nlibrary.loaded = []\n"
        "fake.load_backend = library.load_backend\nsys.modules[fake.__name__] = fake\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def check(kit: Kit, path: Path) -> None:
    with checking(kit, path) as reading:
        reading.wait()


def test_without_bindings_nothing_is_asked(small_kit: Kit, tmp_path: Path) -> None:
    check(small_kit, tmp_path / "none.gguf")


def test_a_model_that_loads(kit: Kit, small_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bindings(tmp_path, monkeypatch, "return 1 if os.path.exists(path) else None")
    check(kit, small_gguf)


def test_a_kernel_that_runs_here_is_loaded(
    kit: Kit, small_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Kit, "kernels_here", lambda self: ["cpu-best", "cpu-other"])
    bindings(tmp_path, monkeypatch, "return 1 if loaded == ['best'] and parameters.no_alloc else None")
    check(kit, small_gguf)


@pytest.mark.parametrize("end", ["None", "sys.exit(3)", "os.abort()"])
def test_a_kernel_that_gives_no_reason_or_dies_is_not_the_models_fault(
    end: str, kit: Kit, small_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Kit, "kernels_here", lambda self: ["cpu-other"])
    bindings(tmp_path, monkeypatch, f"return 1 if parameters.vocab_only else {end}")
    check(kit, small_gguf)


@pytest.mark.parametrize("kernels", [[], ["cpu-broken"]])
def test_without_one_the_vocabulary_is_read(
    kernels: list[str], kit: Kit, small_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Kit, "kernels_here", lambda self: kernels)
    bindings(tmp_path, monkeypatch, "return 1 if parameters.vocab_only else None")
    check(kit, small_gguf)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("log(2, b'a', None); log(4, b'llama_model_load: no vocabulary\\n', None)", "no vocabulary"),
        ("log(4, b'load: error loading model: check: tensor a:  4,  2\\n', None)", "tensor a: 4, 2"),
        ("return None", "it gives no reason"),
        ("os.abort()", "it dies of SIGABRT"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "it dies of SIGSEGV"),
    ],
)
def test_a_model_that_does_not(
    body: str, why: str, kit: Kit, small_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bindings(tmp_path, monkeypatch, body)
    with pytest.raises(UnusableModel, match=rf"the engine cannot load '.*small.gguf' \({why}\): get another version"):
        check(kit, small_gguf)


def test_bindings_that_do_not_work(kit: Kit, small_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bindings(tmp_path, monkeypatch, "raise RuntimeError('no symbol')")
    with pytest.raises(NoKit, match=r"do not work here \(RuntimeError: no symbol\): run `mkllm kit build` again"):
        check(kit, small_gguf)


def test_bindings_that_cannot_be_loaded_say_so_once(kit: Kit, small_gguf: Path) -> None:
    with pytest.raises(NoKit, match=r"^the bindings of the kit '.*' cannot be loaded \(.*\): build the kit again$"):
        check(kit, small_gguf)


def test_a_reader_that_hangs(kit: Kit, small_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bindings(tmp_path, monkeypatch, "import time; time.sleep(60)")
    monkeypatch.setattr("mkllm.builder.model.loading.SECONDS", 1.5)
    with pytest.raises(UnusableModel, match="it was still reading after 1.5 s"):
        check(kit, small_gguf)


def test_a_refusal_is_seen_while_something_else_is_done(
    kit: Kit, small_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bindings(tmp_path, monkeypatch, "return None")
    with pytest.raises(UnusableModel, match="it gives no reason"), checking(kit, small_gguf) as reading:
        for _ in range(600):
            reading.look()
            time.sleep(0.1)


def test_the_reader_ends_with_whoever_started_it(
    kit: Kit, small_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bindings(tmp_path, monkeypatch, f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); signal.pause()")
    with pytest.raises(KeyboardInterrupt), checking(kit, small_gguf) as reading:
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            reading.look()
        raise KeyboardInterrupt
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))
