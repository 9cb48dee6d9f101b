"""How large a model will be in another type, to the byte: from the headers and the type that each tensor gets."""

from collections.abc import Mapping, Sequence

from mkllm.builder.errors import UnusableModel
from mkllm.builder.model.gguf import DEFAULT_ALIGNMENT, Gguf
from mkllm.builder.model.split import SPLIT_KEYS
from mkllm.builder.model.tables import TensorType, tables

HEAD = 4 + 4 + 8 + 8  # magic, version, counts
WRITTEN = ("general.quantization_version", "general.file_type")  # set by llama.cpp, in 32 bits each


def file_size(parts: Sequence[Gguf], chosen: Mapping[str, str]) -> int:
    """Bytes of the one file that llama.cpp makes of all `parts`; `chosen` are the new types by tensor.

    Raises UnusableModel for a model whose tensors llama.cpp would misplace.
    """
    first = parts[0]
    if first.alignment != DEFAULT_ALIGNMENT:
        raise UnusableModel(
            f"{str(first.path)!r} has tensors aligned to {first.alignment} bytes, and llama.cpp quantizes to files of "
            f"{DEFAULT_ALIGNMENT} only: convert the model again, without general.alignment"
        )
    types = {kind.name: kind for kind in tables().types.values()}
    keys = sum(key.end - key.start for name, key in first.keys.items() if name not in (*SPLIT_KEYS, *WRITTEN))
    keys += sum(8 + len(name) + 4 + 4 for name in WRITTEN)
    tensors = [tensor for part in parts for tensor in part.tensors]
    infos = sum(8 + len(tensor.name) + 4 + 8 * _dimensions(tensor.shape) + 4 + 8 for tensor in tensors)
    data = sum(
        _padded(_bytes(tensor.elements, types[chosen[tensor.name.decode(errors="replace")]])) for tensor in tensors
    )
    return _padded(HEAD + keys + infos) + data


def _dimensions(shape: Sequence[int]) -> int:
    """How many llama.cpp writes: none of 1 at the end, which a converter may have written."""
    count = len(shape)
    while count > 1 and shape[count - 1] == 1:
        count -= 1
    return count


def _bytes(elements: int, kind: TensorType) -> int:
    return elements // kind.block * kind.size


def _padded(count: int) -> int:
    return -(-count // DEFAULT_ALIGNMENT) * DEFAULT_ALIGNMENT
