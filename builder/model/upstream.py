"""Makes ggml.toml from llama.cpp's sources inside the llama-cpp-python sdist; run again when the pin changes.

Usage: python -m mkllm.builder.model.upstream llama_cpp_python-X.tar.gz
"""

import re
import sys
import tarfile
import types
from pathlib import Path
from typing import Any

from mkllm.builder.model.tables import PATH

VENDOR = "vendor/llama.cpp/"
ARCHITECTURE = re.compile(r'\{\s*LLM_ARCH_\w+,\s*"([^"]+)"\s*\}')
HEADER = "# Made by `python -m mkllm.builder.model.upstream`; what the pinned llama.cpp knows of GGUF files.\n"


def tables(sdist: Path) -> str:
    """The text of ggml.toml for that sdist."""
    with tarfile.open(sdist) as archive:
        source = _read(archive, "src/llama-arch.cpp")
        constants = types.ModuleType("constants")
        exec(_read(archive, "gguf-py/gguf/constants.py"), constants.__dict__)
    return "\n".join([HEADER, _architectures(source), *_types(constants), *_file_types(constants)]) + "\n"


def _read(archive: tarfile.TarFile, name: str) -> str:
    member = next(item for item in archive if item.name.endswith("/" + VENDOR + name))
    file = archive.extractfile(member)
    assert file
    return file.read().decode()


def _architectures(source: str) -> str:
    table = source.split("LLM_ARCH_NAMES")[1].split("};")[0]
    names = [name for name in ARCHITECTURE.findall(table) if name not in ("clip", "(unknown)")]
    return "architectures = [\n" + "".join(f'    "{name}",\n' for name in sorted(names)) + "]\n"


def _types(constants: Any) -> list[str]:
    """Tensor types by number: name, elements in a block, bytes of a block."""
    sizes = sorted(constants.GGML_QUANT_SIZES.items())
    return ["[types]", *(f'{kind.value} = ["{kind.name}", {block}, {size}]' for kind, (block, size) in sizes), ""]


def _file_types(constants: Any) -> list[str]:
    """Values of general.file_type: what most tensors of the file were quantized to."""
    kinds = [kind for kind in constants.LlamaFileType if kind.name != "GUESSED"]
    names = [(kind.value, kind.name.removeprefix("MOSTLY_").removeprefix("ALL_")) for kind in kinds]
    return ["[file_types]", *(f'{value} = "{name}"' for value, name in names)]


if __name__ == "__main__":
    PATH.write_text(tables(Path(sys.argv[1])))
