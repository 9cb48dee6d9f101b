"""What other programs see of this process's environment."""

from pathlib import Path

from mkllm.runtime.engine.environment import cleaned, for_engine, for_placed
from mkllm.runtime.engine.placed import Placed


def test_the_frozen_runtime_leaves_no_trace():
    seen = cleaned(
        {"_PYI_ARCHIVE_FILE": "x", "_MEIPASS2": "y", "LD_LIBRARY_PATH": "/home/_MEI1:/opt/lib"}, "/home/_MEI1"
    )
    assert seen == {"LD_LIBRARY_PATH": "/opt/lib"}


def test_the_users_own_library_path_comes_back():
    seen = cleaned({"LD_LIBRARY_PATH": "/home/_MEI1", "LD_LIBRARY_PATH_ORIG": "/usr/local/cuda"}, "/home/_MEI1")
    assert seen == {"LD_LIBRARY_PATH": "/usr/local/cuda"}


def test_nothing_steers_the_engine():
    steering = {
        "LLAMA_ARG_PORT": "1",
        "LLAMA_API_KEY": "k",
        "GGML_BACKEND_PATH": "/evil.so",
        "AIP_MODE": "PREDICTION",
        "MKLLM_HOME": "/h",
        "HF_TOKEN": "t",
        "PYTHONPATH": "/p",
    }
    assert for_engine({**steering, "PATH": "/bin", "CUDA_VISIBLE_DEVICES": "0"}, None, None) == {
        "PATH": "/bin",
        "CUDA_VISIBLE_DEVICES": "0",
        "GGML_NO_BACKTRACE": "1",
    }


def test_libraries_come_first():
    assert for_engine({"LD_LIBRARY_PATH": "/opt/lib"}, None, "/links")["LD_LIBRARY_PATH"] == "/links:/opt/lib"


def test_the_engine_is_told_of_its_backends_and_what_they_need():
    modules = (Path("/home/libggml-vulkan.so"), Path("/home/libggml-cpu.so"))
    placed = Placed(Path("/home/engine"), modules, Path("/links"), environment={"GGML_VK_VISIBLE_DEVICES": "1"})
    assert for_placed({"MKLLM_BACKENDS": "/evil.so"}, placed, None) == {
        "LD_LIBRARY_PATH": "/links",
        "GGML_NO_BACKTRACE": "1",
        "GGML_VK_VISIBLE_DEVICES": "1",
        "MKLLM_BACKENDS": "/home/libggml-vulkan.so:/home/libggml-cpu.so",
    }
