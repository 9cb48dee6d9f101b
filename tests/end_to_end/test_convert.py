"""Folders of weights converted by llama.cpp's own converter, built, and asked; predictions compared with transformers'.

`nox -s convert` runs this: the converter's environment, which has transformers too, is made in the cache.
"""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import checkpoints
import pytest
from converting import LONG, MERGED, REFERENCE, Mkllm, transformers
from converting import converter as converter
from converting import run as run
from predictions import ask, divergence, predicted

from mkllm.builder import cache
from mkllm.builder.convert.converter import ALONE
from mkllm.builder.convert.environment import Environment
from mkllm.builder.model.gguf import read_gguf

PROMPTS = ["a", "hello there", "the quick brown fox", "x y z"]
TOKENS = """
import json, sys, transformers
words = transformers.LlamaTokenizer.from_pretrained(sys.argv[1], legacy=True)
print(json.dumps([words(prompt)["input_ids"] for prompt in json.loads(sys.argv[2])]))
"""


@pytest.mark.parametrize(("kind", "files"), [("llama", 3), ("gemma", 1)])
def test_predictions_are_those_of_transformers(
    run: Mkllm, converter: Environment, serve: Any, tmp_path: Path, kind: str, files: int
) -> None:
    folder = checkpoints.write(tmp_path / f"tiny-{kind}", kind, "F32", files)
    out = tmp_path / "out"
    done = run("build", folder, "-o", out)
    assert done.returncode == 0, done.stderr
    assert f"tiny-{kind}, {kind}, " in done.stdout and ", F32, context 512" in done.stdout
    count, taken = checkpoints.Shape().vocabulary, checkpoints.PIECES.index(("a", 1))
    with serve(out) as server:
        prompts = [ask(server.url, "/tokenize", content=prompt, add_special=True)["tokens"] for prompt in PROMPTS]
        if kind == "llama":
            assert prompts == transformers(converter, TOKENS, folder, PROMPTS)
        for ids, wanted in zip(prompts, transformers(converter, REFERENCE, folder, prompts), strict=True):
            found = predicted(server.url, ids, count, taken)
            assert len(found) == len(wanted) == count
            assert divergence(wanted, found) < 1e-5 and max(found, key=found.__getitem__) == wanted.index(max(wanted))


def test_an_adapter_is_applied_at_every_launch(run: Mkllm, converter: Environment, serve: Any, tmp_path: Path) -> None:
    folder, adapter = checkpoints.write(tmp_path / "base"), checkpoints.write_adapter(tmp_path / "adapter")
    done = run("build", folder, "--lora", adapter, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    prompts = [[1, 260, 261], [1, 270, 271, 272]]
    plain, merged = (transformers(converter, code, folder, prompts) for code in (REFERENCE, MERGED))
    count, taken = checkpoints.Shape().vocabulary, checkpoints.PIECES.index(("a", 1))
    with serve(tmp_path / "out") as server:
        for ids, wanted, before in zip(prompts, merged, plain, strict=True):
            found = predicted(server.url, ids, count, taken)
            assert divergence(wanted, found) < 1e-5 < 1e-3 < divergence(before, found)


def test_converted_and_quantized(run: Mkllm, tmp_path: Path) -> None:
    shape = checkpoints.Shape(2, 256, 512, 4, 2)
    folder = checkpoints.write(tmp_path / "wide", "llama", "BF16", shape=shape)
    done = run("build", folder, "--quant", "Q8_0", "-o", tmp_path / "out")
    assert done.returncode == 0 and "wide-Q8_0, llama, " in done.stdout, done.stderr
    before = sorted(cache.folder("converted").glob("*.gguf"))
    assert run("build", folder, "-o", tmp_path / "again").returncode == 0
    assert sorted(cache.folder("converted").glob("*.gguf")) == before  # nothing is converted twice


def torch_file(converter: Environment, folder: Path, protocol: int = 2) -> None:
    """The safetensors of a folder as PyTorch's file."""
    code = (
        "import sys, torch; from safetensors.torch import load_file\n"
        "torch.save(load_file(sys.argv[1] + '/model.safetensors'), sys.argv[1] + '/pytorch_model.bin')"
    )
    subprocess.run([converter.python, "-s", "-E", "-c", code, folder], check=True, timeout=LONG)
    (folder / "model.safetensors").unlink()


def test_files_of_pytorch(run: Mkllm, converter: Environment, tmp_path: Path) -> None:
    plain, other = (checkpoints.write(tmp_path / name / "m", "llama", "F32") for name in ("plain", "other"))
    torch_file(converter, other)
    made = []
    for folder in (plain, other):
        done = run("build", folder, "-o", folder.with_name("out"))
        assert done.returncode == 0, done.stderr
        assert run("extract", folder.with_name("out"), "-o", folder.with_name("x.gguf")).returncode == 0
        header, data = read_gguf(folder.with_name("x.gguf")), folder.with_name("x.gguf").read_bytes()[-200_000:]
        starts = {tensor.name: header.data + tensor.offset - header.size for tensor in header.tensors}
        made.append({tensor.name: data[starts[tensor.name] :][: tensor.size] for tensor in header.tensors})
    assert made[0] == made[1] and len(made[0]) == 21


def refused(run: Mkllm, folder: Path, code: int, words: str) -> None:
    out = folder.with_name("refused")
    done = run("build", folder, "-o", out)
    lines = [line for line in done.stderr.splitlines() if line.startswith("mkllm: ")]
    assert done.returncode == code and len(lines) == 1 and words in lines[0], done.stderr
    assert not out.exists() and not list(cache.folder("converted").glob(".*.partial"))


def test_what_the_real_converter_refuses(run: Mkllm, converter: Environment, tmp_path: Path) -> None:
    folder = checkpoints.write(tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["FooForCausalLM"]}))
    refused(run, folder, 50, "its architecture FooForCausalLM is none that llama.cpp converts")
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.model").rename(folder / "vocab.txt")
    refused(run, folder, 51, "cannot be converted: files of its tokenizer are missing")
    (folder / "vocab.txt").rename(folder / "tokenizer.model")
    checkpoints.write_safetensors(folder / "model.safetensors", {"model.odd.weight": (4, 4)})
    refused(run, folder, 50, "its tensor 'model.odd.weight' is none of its architecture")


def test_pickles_that_only_pytorch_refuses(run: Mkllm, tmp_path: Path) -> None:
    folder = checkpoints.write(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    checkpoints.write_pickle(folder / "pytorch_model.bin", b"\x80\x02cnumpy\nload\n(U\x01atR.")
    refused(run, folder, 54, "PyTorch refuses to load its files, since they would run code")


EVIL = """
import pathlib
pathlib.Path({mark!r}).write_text("run")
class Tok: ...
"""


def evil(place: Path) -> tuple[dict[str, object], Path]:
    """Settings that have transformers import a file of this machine, and the file that this would write."""
    place.mkdir()
    mark = place / "mark"
    (place / "evil.py").write_text(EVIL.format(mark=str(mark)))
    name = f"{place}--evil.Tok"
    return {"AutoTokenizer": [name, None], "AutoConfig": name, "AutoProcessor": name}, mark


def test_no_code_that_a_model_names_is_run(run: Mkllm, converter: Environment, tmp_path: Path) -> None:
    found, mark = evil(tmp_path / "evil")
    folder = checkpoints.write(tmp_path / "m")
    (folder / "tokenizer.model").rename(folder / "vocab.json")
    (folder / "vocab.json").write_text("{}")
    config = json.loads((folder / "config.json").read_text())
    dream = {**config, "architectures": ["DreamModel"], "model_type": "qwen2"}  # its tokenizer may be code
    for name, settings in {"config.json": dream, "tokenizer_config.json": {}, "processor_config.json": {}}.items():
        (folder / name).write_text(json.dumps({**settings, "auto_map": found}))
    done = run("build", folder, "-o", tmp_path / "out")
    assert done.returncode == 51 and not mark.exists(), done.stderr
    script = converter.source / "convert_hf_to_gguf.py"
    words = [converter.python, "-s", "-E", "-B", script, folder, "--outfile", tmp_path / "out.gguf"]
    environ = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    shut = subprocess.run(words, env={**environ, **ALONE}, capture_output=True, text=True, timeout=LONG)
    assert shut.returncode and os.devnull in shut.stderr and not mark.exists(), shut.stderr  # even if it were named
    subprocess.run(words, env=environ, capture_output=True, timeout=LONG)
    assert mark.exists()  # this is what it would have done


def test_no_code_that_an_adapter_names_is_run(run: Mkllm, tmp_path: Path) -> None:
    found, mark = evil(tmp_path / "evil")
    folder, adapter = checkpoints.write(tmp_path / "base"), checkpoints.write_adapter(tmp_path / "adapter")
    for file in (folder / "config.json", adapter / "adapter_config.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "auto_map": found}))
    done = run("build", folder, "--lora", adapter, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert not mark.exists()


def test_an_interrupt_leaves_nothing(mkllm: Path, converter: Environment, tmp_path: Path) -> None:
    folder = checkpoints.write(tmp_path / "m", "llama", "BF16", shape=checkpoints.Shape(8, 512, 2048, 8, 4, 40000))
    process = subprocess.Popen([mkllm, "build", folder, "-o", tmp_path / "out"], stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while not list(cache.folder("converted").glob(".*.partial")) and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert not list(cache.folder("converted").glob(".*.partial")) and not (tmp_path / "out").exists()
    assert not list(cache.folder("convert").glob(".model-*"))
