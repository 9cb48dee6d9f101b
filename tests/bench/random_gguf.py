"""Writes a GGUF of a real model's shape with random weights, for measuring speed and size; it says nothing sensible.

    python tests/bench/random_gguf.py --shape mistral-7b --type Q4_0 OUT

Needs the standard library only, writes at the speed of the disk, and holds a few megabytes whatever the shape. The
tokenizer is a real one of SentencePiece's kind: every text can be tokenized, byte by byte where it must.
"""

import argparse
import random
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

ALIGNMENT = 32
POOL_BLOCKS = 16384
U32, F32, STRING, ARRAY, I32 = 4, 6, 8, 9, 5
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


@dataclass(frozen=True)
class Shape:
    """Sizes of a model of the Llama architecture."""

    layers: int
    width: int
    hidden: int
    heads: int
    kv_heads: int
    vocabulary: int
    context: int


SHAPES = {
    "tiny": Shape(2, 256, 512, 4, 2, 1024, 4096),
    "300m": Shape(10, 1536, 4096, 12, 4, 32000, 8192),
    "1b": Shape(22, 2048, 5632, 32, 4, 32000, 8192),
    "mistral-7b": Shape(32, 4096, 14336, 32, 8, 32000, 32768),
}


@dataclass(frozen=True)
class Quantization:
    """A tensor type: `number` in GGUF, `blocks` of so many elements and bytes, `ftype` of a file of it.

    `fixed` are bytes that repeat in every block, by offset (scales, as half-precision numbers); `masks` keep some bits
    of a byte and set others, so that random bits make numbers of a sensible size.
    """

    number: int
    elements: int
    size: int
    ftype: int
    fixed: dict[int, bytes]
    masks: dict[int, tuple[int, int]]


def half(value: float) -> bytes:
    """A half-precision number."""
    return struct.pack("<e", value)


TYPES = {
    "F32": Quantization(0, 1, 4, 0, {}, {3: (0x80, 0x3C), 2: (0x7F, 0x80)}),
    "F16": Quantization(1, 1, 2, 1, {}, {1: (0x83, 0x24)}),
    "BF16": Quantization(30, 1, 2, 32, {}, {1: (0x80, 0x3C), 0: (0x7F, 0x80)}),
    "Q4_0": Quantization(2, 32, 18, 2, {0: half(0.0044)}, {}),
    "Q8_0": Quantization(8, 32, 34, 7, {0: half(0.00027)}, {}),
    "Q4_K": Quantization(12, 256, 144, 15, {0: half(1.4e-4), 2: half(1.05e-3)}, {}),
    "Q5_K": Quantization(13, 256, 176, 17, {0: half(7e-5), 2: half(1.05e-3)}, {}),
    "Q6_K": Quantization(14, 256, 210, 18, {208: half(1.2e-4)}, {n: (0x0F, 0x01) for n in range(192, 208)}),
}

# Types of files, not of tensors: what most of them are, what a part of them is.
MIXTURES = {"Q4_K_M": ("Q4_K", "Q6_K"), "Q5_K_M": ("Q5_K", "Q6_K")}


@dataclass(frozen=True)
class Tensor:
    name: str
    dimensions: tuple[int, ...]
    type: str

    @property
    def size(self) -> int:
        """Bytes of its data."""
        elements = 1
        for dimension in self.dimensions:
            elements *= dimension
        return elements // TYPES[self.type].elements * TYPES[self.type].size


def write(path: Path, shape: Shape, type: str, pure: bool = False, seed: int = 1) -> None:
    """Write the file. Like real ones, quantized files keep the output matrix as Q6_K unless `pure`."""
    base, better = MIXTURES.get(type, (type, type))
    output = base if pure or type in ("F32", "F16", "BF16", "Q8_0") else "Q6_K"
    tensors = list(_tensors(shape, base, better, output))
    metadata = list(_metadata(shape, base))
    with path.open("wb") as file:
        file.write(struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(metadata)))
        file.writelines(metadata)
        file.writelines(_tensor_infos(tensors))
        file.write(bytes(-file.tell() % ALIGNMENT))
        _write_data(file, tensors, random.Random(seed))


def _tensors(shape: Shape, type: str, better: str, output: str) -> Iterator[Tensor]:
    """`better` is the type of the values and the last matrices of about half of the layers, as llama.cpp's
    `use_more_bits` has it."""
    key_width = shape.width // shape.heads * shape.kv_heads
    yield Tensor("token_embd.weight", (shape.width, shape.vocabulary), type)
    for layer in range(shape.layers):
        block, eighth = f"blk.{layer}.", shape.layers // 8
        is_outer = layer < eighth or layer >= 7 * shape.layers // 8
        mixed = better if is_outer or (layer - eighth) % 3 == 2 else type
        yield Tensor(block + "attn_norm.weight", (shape.width,), "F32")
        yield Tensor(block + "attn_q.weight", (shape.width, shape.width), type)
        yield Tensor(block + "attn_k.weight", (shape.width, key_width), type)
        yield Tensor(block + "attn_v.weight", (shape.width, key_width), mixed)
        yield Tensor(block + "attn_output.weight", (shape.width, shape.width), type)
        yield Tensor(block + "ffn_norm.weight", (shape.width,), "F32")
        yield Tensor(block + "ffn_gate.weight", (shape.width, shape.hidden), type)
        yield Tensor(block + "ffn_up.weight", (shape.width, shape.hidden), type)
        yield Tensor(block + "ffn_down.weight", (shape.hidden, shape.width), mixed)
    yield Tensor("output_norm.weight", (shape.width,), "F32")
    yield Tensor("output.weight", (shape.width, shape.vocabulary), output)


def _tensor_infos(tensors: Sequence[Tensor]) -> Iterator[bytes]:
    offset = 0
    for tensor in tensors:
        dimensions = struct.pack(f"<I{len(tensor.dimensions)}Q", len(tensor.dimensions), *tensor.dimensions)
        yield _string(tensor.name) + dimensions + struct.pack("<IQ", TYPES[tensor.type].number, offset)
        offset += tensor.size + -tensor.size % ALIGNMENT


def _write_data(file: BinaryIO, tensors: Sequence[Tensor], source: random.Random) -> None:
    pools = {type: _pool(TYPES[type], source) for type in {tensor.type for tensor in tensors} - {"F32"}}
    ones = struct.pack("<f", 1.0)
    for tensor in tensors:
        left = tensor.size
        while left:
            pool = memoryview(ones * tensor.dimensions[0] if len(tensor.dimensions) == 1 else pools[tensor.type])
            left -= file.write(pool[: min(left, len(pool))])
        file.write(bytes(-tensor.size % ALIGNMENT))


def _pool(kind: Quantization, source: random.Random) -> bytes:
    """Blocks of weights with a spread of about 0.02; a tensor's data repeats them."""
    pool = bytearray(source.randbytes(kind.size * POOL_BLOCKS * (256 // kind.elements if kind.elements == 1 else 1)))
    for offset, value in kind.fixed.items():
        for index, byte in enumerate(value):
            pool[offset + index :: kind.size] = bytes([byte]) * (len(pool) // kind.size)
    for offset, (keep, put) in kind.masks.items():
        table = bytes(byte & keep | put for byte in range(256))
        pool[offset :: kind.size] = pool[offset :: kind.size].translate(table)
    return bytes(pool)


def _metadata(shape: Shape, type: str) -> Iterator[bytes]:
    pieces, scores, kinds = _vocabulary(shape.vocabulary)
    text = {
        "general.architecture": "llama",
        "general.name": "random weights",
        "tokenizer.ggml.model": "llama",
        "tokenizer.chat_template": TEMPLATE,
    }
    numbers = {
        "general.file_type": TYPES[type].ftype,
        "general.alignment": ALIGNMENT,
        "llama.block_count": shape.layers,
        "llama.context_length": shape.context,
        "llama.embedding_length": shape.width,
        "llama.feed_forward_length": shape.hidden,
        "llama.attention.head_count": shape.heads,
        "llama.attention.head_count_kv": shape.kv_heads,
        "llama.rope.dimension_count": shape.width // shape.heads,
        "llama.vocab_size": shape.vocabulary,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }
    for key, word in text.items():
        yield _string(key) + struct.pack("<I", STRING) + _string(word)
    for key, number in numbers.items():
        yield _string(key) + struct.pack("<II", U32, number)
    for key, value in {"llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.rope.freq_base": 10000.0}.items():
        yield _string(key) + struct.pack("<If", F32, value)
    yield _array("tokens", STRING, [_string(piece) for piece in pieces])
    yield _array("scores", F32, [struct.pack("<f", score) for score in scores])
    yield _array("token_type", I32, [struct.pack("<i", kind) for kind in kinds])


def _vocabulary(size: int) -> tuple[list[str], list[float], list[int]]:
    """Control and byte tokens, single characters, then syllables that merge into each other."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    kinds = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256]
    letters = [chr(code) for code in range(33, 127)]
    words = dict.fromkeys(["▁", *letters, *(f"▁{letter}" for letter in letters)])
    for first in "etaoinshrdlucmfwypvbgkjqxz":
        words |= dict.fromkeys(first + second for second in "etaoinshrdlucmfwypvbgkjqxz")
        words |= dict.fromkeys("▁" + first + second for second in "etaoinshrdlucmfwypvbgkjqxz")
    words |= dict.fromkeys(f"▁w{number}" for number in range(size))
    pieces += list(words)[: size - len(pieces)]
    kinds += [NORMAL] * (size - len(kinds))
    return pieces, [-float(max(index - 258, 0)) for index in range(size)], kinds


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _array(key: str, kind: int, items: Sequence[bytes]) -> bytes:
    return _string(f"tokenizer.ggml.{key}") + struct.pack("<IIQ", ARRAY, kind, len(items)) + b"".join(items)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="1b")
    parser.add_argument("--type", choices=sorted({*TYPES, *MIXTURES} - {"F32"}), default="Q4_0")
    parser.add_argument("--pure", action="store_true", help="the output matrix is of that type too")
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    write(given.out, SHAPES[given.shape], given.type, given.pure)


if __name__ == "__main__":
    main()
