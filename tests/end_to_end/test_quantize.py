"""Quantizing with the kit's own llama.cpp: sizes told before, importance, interrupts, and quality measured twice."""

import json
import math
import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench import random_gguf
from served import Mkllm, command_line

from mkllm.builder.kit.kit import Kit
from mkllm.builder.kit.store import find_kit
from mkllm.builder.model.gguf import Gguf, read_gguf
from mkllm.builder.model.reference import resolve
from mkllm.builder.progress import Output
from mkllm.builder.quant import imatrix
from mkllm.builder.quant.matrix import CHUNK, matrix
from mkllm.builder.quant.quantize import origin_digest, plans, quantized
from mkllm.builder.quant.types import parse_type, quant_types

QUIET = Output(True)
QUESTION = ["-p", "What is 7 times 8?", "--temperature", "0"]
LONG = 300  # seconds


@pytest.fixture(scope="module")
def kit() -> Kit:
    return find_kit("linux-x86_64")


@pytest.fixture(scope="module")
def run(mkllm: Path) -> Mkllm:
    return command_line(mkllm, LONG)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose rows are just long enough for every type, with random weights in F16."""
    out = tmp_path_factory.mktemp("model") / "tiny-F16.gguf"
    random_gguf.write(out, random_gguf.Shape(1, 256, 256, 4, 2, 1024, 4096), "F16")
    return out


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("text") / "text.txt"
    source, words = random.Random(1), "what is an executable of one model and how do I run it here , 7 plus 8".split()
    out.write_text(" ".join(source.choices(words, k=1500)))
    return out


@pytest.fixture(scope="module")
def full(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model with all its numbers in 32 bits."""
    out = tmp_path_factory.mktemp("model") / "demo-F32.gguf"
    source = resolve("demo", QUIET)
    out.write_bytes(quantized(kit, source, parse_type("F32"), None, QUIET).path.read_bytes())
    return out


def numbers(header: Gguf, name: str) -> list[float]:
    tensor = next(tensor for tensor in header.tensors if tensor.name == name.encode())
    assert tensor.type.name == "F32"
    data = header.path.read_bytes()[header.data + tensor.offset :][: tensor.size]
    return list(struct.unpack(f"<{tensor.elements}f", data))


def test_every_type_has_the_size_that_was_told(kit: Kit, tiny: Path, text: Path) -> None:
    source = resolve(str(tiny), QUIET)
    found = matrix(kit, source, text, QUIET)
    types = [kind for kind in quant_types().values() if kind.name != "F16"]  # which it is already
    for plan in plans(kit, source, types, found):
        made = quantized(kit, source, plan.type, found, QUIET)
        assert made.path.stat().st_size == plan.size, plan
        assert made.model.quantization == plan.type.name
    assert len({plan.size for plan in plans(kit, source, types, found)}) > 25


def test_types_that_take_a_matrix_are_known_beforehand(kit: Kit, tiny: Path, run: Mkllm, tmp_path: Path) -> None:
    source = resolve(str(tiny), QUIET)
    needing = {plan.type.name for plan in plans(kit, source, list(quant_types().values())) if plan.needs_matrix}
    assert {"IQ1_S", "IQ2_XXS", "Q2_K_S"} <= needing and not needing & {"Q2_K", "Q4_K_M", "IQ4_XS", "F32"}
    done = run("build", tiny, "--quant", "IQ2_XXS", "-o", tmp_path / "out")
    assert done.returncode == 18 and done.stderr.startswith("mkllm: IQ2_XXS comes to nothing without an importance")
    assert not (tmp_path / "out").exists()


def test_built_and_asked(run: Mkllm, tmp_path: Path) -> None:
    out = tmp_path / "small"
    done = run("build", "demo", "--quant", "q5_k_m", "-o", out)
    assert done.returncode == 0, done.stderr
    assert "note: 'demo' is Q8_0 already: quantized again, to Q5_K_M, it loses more" in done.stderr
    assert "demo-Q5_K_M, llama, 1.3 M parameters, Q5_K_M" in done.stdout
    assert out.stat().st_size < 31 * 10**6
    asked = subprocess.run([out, *QUESTION], capture_output=True, text=True, timeout=LONG)
    assert asked.stdout == "7 x 8 = 56.\n", asked.stderr


def test_a_second_build_only_takes_what_is_there(kit: Kit, tiny: Path) -> None:
    source = resolve(str(tiny), QUIET)
    first = quantized(kit, source, parse_type("Q4_0"), None, QUIET).path
    made = first.stat().st_mtime_ns
    assert quantized(kit, source, parse_type("Q4_0"), None, QUIET).path == first
    assert first.stat().st_mtime_ns == made
    os.truncate(first, 1000)  # what is not whole is made again
    again = quantized(kit, source, parse_type("Q4_0"), None, QUIET).path
    assert again == first and again.stat().st_size > 1000


def test_split_models_become_one(kit: Kit, tiny: Path, tmp_path: Path) -> None:
    first = write_parts(read_gguf(tiny), tmp_path)
    whole, parts = resolve(str(tiny), QUIET), resolve(str(first), QUIET)
    made = [quantized(kit, source, parse_type("Q4_0"), None, QUIET) for source in (whole, parts)]
    assert made[0].path.read_bytes()[-200000:] == made[1].path.read_bytes()[-200000:]
    assert [plan.size for plan in plans(kit, parts, [parse_type("Q4_0")])] == [made[1].path.stat().st_size]
    assert made[1].name == "part-Q4_0" and made[1].model.parameters == whole.model.parameters


def write_parts(header: Gguf, folder: Path) -> Path:
    """The model in two files; returns the first."""
    data = header.path.read_bytes()
    half = len(header.tensors) // 2
    for number, tensors in enumerate((header.tensors[:half], header.tensors[half:])):
        keys = [data[key.start : key.end] for key in header.keys.values()] if number == 0 else []
        for name, kind, form, value in (
            ("split.no", 2, "<H", number),
            ("split.count", 2, "<H", 2),
            ("split.tensors.count", 5, "<i", len(header.tensors)),
        ):
            keys.append(
                struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", kind) + struct.pack(form, value)
            )
        head, body = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(keys)) + b"".join(keys), b""
        for tensor in tensors:
            shape = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
            head += struct.pack("<Q", len(tensor.name)) + tensor.name + shape
            head += struct.pack("<IQ", tensor.number, len(body))
            start = header.data + tensor.offset
            body += data[start : start + tensor.size] + bytes(-tensor.size % 32)
        name = f"part-0000{number + 1}-of-00002.gguf"
        (folder / name).write_bytes(head + bytes(-len(head) % 32) + body)
    return folder / "part-00001-of-00002.gguf"


def test_matrix_is_the_mean_of_the_squares(kit: Kit, full: Path, text: Path) -> None:
    """Of what the first layer's queries are fed: the normed embeddings of the text's tokens."""
    source = resolve(str(full), QUIET)
    found = imatrix.read(matrix(kit, source, text, QUIET).path)
    header = read_gguf(full)
    rows, norm = numbers(header, "token_embd.weight"), numbers(header, "blk.0.attn_norm.weight")
    width, epsilon = len(norm), 1e-5
    tokens = tokens_of(kit, full, text)
    tokens = tokens[: len(tokens) // CHUNK * CHUNK]
    sums = [0.0] * width
    for token in tokens:
        row = rows[token * width : (token + 1) * width]
        scale = 1 / math.sqrt(sum(value * value for value in row) / width + epsilon)
        for column, value in enumerate(row):
            sums[column] += (value * scale * norm[column]) ** 2
    expected = [value / len(tokens) for value in sums]
    assert found["blk.0.attn_q.weight"] == pytest.approx(expected, rel=1e-3)
    layers = header.integer("llama.block_count") or 0
    weights = {tensor.name.decode() for tensor in header.tensors if len(tensor.shape) == 2}
    assert (
        set(found) == {name for name in weights if name.startswith("blk.")}
        and f"blk.{layers - 1}.ffn_down.weight" in found
    )


def test_matrix_of_experts(kit: Kit, text: Path, tmp_path: Path) -> None:
    """Every token goes to two of four experts: together they are fed twice what the router is, which sees all."""
    path = tmp_path / "experts.gguf"
    write_experts(path)
    source = resolve(str(path), QUIET)
    made = matrix(kit, source, text, QUIET)
    found = read_gguf(made.path)
    router, experts = (numbers(found, f"blk.0.ffn_{name}.weight.in_sum2") for name in ("gate_inp", "gate_exps"))
    counts, seen = (numbers(found, f"blk.0.ffn_{name}.weight.counts") for name in ("gate_exps", "gate_inp"))
    assert sum(counts) == 2 * seen[0] and len(counts) == 4 and min(counts) > 0
    together = [sum(experts[column::256]) for column in range(256)]
    assert together == pytest.approx([2 * value for value in router], rel=1e-3)
    assert numbers(found, "blk.0.ffn_down_exps.weight.counts") == counts
    assert quantized(kit, source, parse_type("IQ2_XXS"), made, QUIET).model.quantization == "IQ2_XXS"


def write_experts(path: Path) -> None:
    """A model of one layer with four experts, of which each token uses two."""
    shape = random_gguf.Shape(1, 256, 256, 4, 2, 1024, 4096)
    plain = ("ffn_gate.", "ffn_up.", "ffn_down.")
    tensors = [
        tensor for tensor in random_gguf._tensors(shape, *["F16"] * 3) if not any(name in tensor.name for name in plain)
    ]
    tensors.append(random_gguf.Tensor("blk.0.ffn_gate_inp.weight", (256, 4), "F16"))
    tensors += [
        random_gguf.Tensor(f"blk.0.ffn_{name}_exps.weight", (256, 256, 4), "F16") for name in ("gate", "up", "down")
    ]
    numbers = {"llama.expert_count": 4, "llama.expert_used_count": 2}
    keys = list(random_gguf._metadata(shape, "F16"))
    keys += [random_gguf._string(key) + struct.pack("<II", 4, number) for key, number in numbers.items()]
    with path.open("wb") as file:
        file.write(struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(keys)) + b"".join(keys))
        file.writelines(random_gguf._tensor_infos(tensors))
        file.write(bytes(-file.tell() % 32))
        random_gguf._write_data(file, tensors, random.Random(1))


PROGRAM = """
import ctypes, json, math, sys
from pathlib import Path
from mkllm.builder.kit import bindings
kit, kernel, model, text, context = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5])
llama = bindings.load(kit)
quiet = llama.llama_log_callback(lambda level, text, data: None)
llama.llama_log_set(quiet, ctypes.c_void_p(0))
bindings.load_backend(kit, kernel)
loaded = llama.llama_model_load_from_file(model.encode(), llama.llama_model_default_params())
vocab = llama.llama_model_get_vocab(loaded)
data = Path(text).read_bytes()
room = (llama.llama_token * (len(data) + 1))()
tokens = room[: llama.llama_tokenize(vocab, data, len(data), room, len(room), True, False)]
"""
TOKENS = PROGRAM + "print(json.dumps(tokens))"
LOGITS = (
    PROGRAM
    + """
parameters = llama.llama_context_default_params()
parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = context
running = llama.llama_init_from_model(loaded, parameters)
batch = llama.llama_batch_init(context, 0, 1)
size, total, count = llama.llama_vocab_n_tokens(vocab), 0.0, 0
for start in range(0, len(tokens) // context * context, context):
    piece = tokens[start : start + context]
    llama.llama_memory_clear(llama.llama_get_memory(running), True)
    batch.n_tokens = context
    for place, token in enumerate(piece):
        batch.token[place], batch.pos[place], batch.n_seq_id[place], batch.logits[place] = token, place, 1, True
        batch.seq_id[place][0] = 0
    assert llama.llama_decode(running, batch) == 0
    for place in range(context // 2, context - 1):
        row = llama.llama_get_logits_ith(running, place)[:size]
        most = max(row)
        total += most + math.log(sum(math.exp(value - most) for value in row)) - row[piece[place + 1]]
        count += 1
print(json.dumps(math.exp(total / count)))
"""
)


def asked(code: str, kit: Kit, model: Path, text: Path, context: int = 0) -> Any:
    words = [sys.executable, "-P", "-c", code, kit.path, kit.kernels_here()[0][4:], model, text, str(context)]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=LONG)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def tokens_of(kit: Kit, model: Path, text: Path) -> list[int]:
    found: list[int] = asked(TOKENS, kit, model, text)
    return found


@pytest.fixture(scope="module")
def evaluated(run: Mkllm, full: Path, text: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("eval")
    files = ["--csv", folder / "q.csv", "--plot", folder / "q.svg"]
    done = run("eval", full, "--text", text, "--ctx-size", "256", "--quant", "F16,Q8_0,Q4_0", "--json", *files)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert (folder / "q.csv").read_text().count("\n") == 5
    assert (folder / "q.svg").read_text().count("<circle") == 3
    return found


def test_perplexity_is_that_of_the_logits(kit: Kit, full: Path, text: Path, evaluated: dict[str, Any]) -> None:
    first = evaluated["models"][0]
    assert first["quantization"] == "F32" and first["kl_divergence"] is None
    assert first["perplexity"] == pytest.approx(asked(LOGITS, kit, full, text, 256), rel=2e-3)


def test_coarser_types_are_farther_from_the_original(evaluated: dict[str, Any]) -> None:
    _, half, eight, four = evaluated["models"]
    assert abs(half["kl_divergence"]) < eight["kl_divergence"] < four["kl_divergence"]
    assert half["kl_divergence"] < 1e-4 and four["kl_divergence"] > 0.005
    assert half["same_top"] > four["same_top"] and half["size"] > eight["size"] > four["size"]
    assert evaluated["positions"] == evaluated["chunks"] * 127


def test_short_texts_are_refused(run: Mkllm, tmp_path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text("hello")
    done = run("eval", "demo", "--text", short)
    assert done.returncode == 11 and "tokens, and 1024 are needed for a context of 512" in done.stderr
    done = run("build", "demo", "--quant", "Q4_0", "--imatrix", short, "-o", tmp_path / "out")
    assert done.returncode == 11 and "an importance matrix takes 512 at least" in done.stderr


def test_what_fits(run: Mkllm, tiny: Path, tmp_path: Path) -> None:
    done = run("build", tiny, "--fit", "110.5MB", "-o", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    assert "is the best that fits 110.50 MB: " in done.stderr and " would take " in done.stderr
    assert json.loads(done.stdout)["manifest"]["model"]["quantization"] != "F16"
    done = run("build", tiny, "--fit", "20MB", "-o", tmp_path / "none")
    assert done.returncode == 19 and "no version of the model fits 20.00 MB" in done.stderr


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A model that takes long enough to be interrupted."""
    out = tmp_path_factory.mktemp("model") / "slow-F16.gguf"
    random_gguf.write(out, random_gguf.Shape(2, 2048, 8192, 8, 8, 4096, 2048), "F16")
    yield out
    out.unlink()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted(mkllm: Path, kit: Kit, slow: Path, tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C ends the program, a crash of native code only its worker: nothing half-written is left by either."""
    source = resolve(str(slow), QUIET)
    origin_digest(source, QUIET)
    folder = Path(os.environ["MKLLM_CACHE"] if "MKLLM_CACHE" in os.environ else Path.home() / ".cache" / "mkllm")
    before = drafts(folder)
    words = [mkllm, "build", slow, "--quant", "IQ3_S", "-o", tmp_path / "out"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        worker = wait_for_worker(process.pid)
        time.sleep(0.5)
        os.kill(process.pid if number == signal.SIGINT else worker, number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGINT else 22)
    assert errors.count("\n") == 1, errors
    assert ("interrupted" if number == signal.SIGINT else "llama.cpp refuses (it dies of SIGKILL)") in errors
    assert not Path(f"/proc/{worker}").exists()
    assert drafts(folder) <= before
    assert not (tmp_path / "out").exists()


def drafts(cache: Path) -> set[Path]:
    return set((cache / "quantized").glob(".*.partial"))


def wait_for_worker(pid: int) -> int:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            if '"quantize"' in Path(f"/proc/{child}/cmdline").read_text():
                return int(child)
        time.sleep(0.02)
    raise AssertionError("no worker was started")
