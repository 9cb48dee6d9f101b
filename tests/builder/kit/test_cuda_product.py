"""The products that the CUDA module computes without cuBLAS: the steps of its threads, taken by a processor."""

import os
import subprocess
from pathlib import Path

from mkllm.builder.kit import cuda, toolchain
from mkllm.builder.kit.target import TARGETS

SOURCE = Path(__file__).with_name("cuda_product.cpp")


def test_every_shape_transposed_or_not_strided_or_listed(tmp_path: Path) -> None:
    compiler = toolchain.write_wrappers(toolchain.find_zig(), TARGETS["linux-x86_64"], tmp_path)["cc"]
    flags = ["-x", "c++", "-std=c++17", "-O2", "-fno-sanitize=all", "-fno-exceptions", "-Wall", "-Wextra", "-Werror"]
    words = [compiler, *flags, "-I", cuda.PROJECT / "cublas", "-o", tmp_path / "product", SOURCE]
    made = subprocess.run(words, capture_output=True, text=True, env={**os.environ, **toolchain.environment()})
    assert made.returncode == 0, made.stderr
    done = subprocess.run([tmp_path / "product"], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["240 products", "40 systems"], (done.returncode, done.stdout)
