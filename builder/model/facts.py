"""What a GGUF header says of its model, and whether the engine can serve it; knows no file beside the header."""

from collections import Counter
from collections.abc import Sequence

from mkllm.builder.errors import UnusableModel
from mkllm.builder.model.gguf import Gguf, Tensor
from mkllm.builder.model.memory import estimate
from mkllm.builder.model.tables import tables
from mkllm.runtime.artifact.manifest import WEIGHTS, Model

ARCHITECTURE = "general.architecture"
TOKENIZER = "tokenizer.ggml.model"
# Names of tensors in llama.cpp.
EXPERTS = b"_exps."
OUTPUT = b"output.weight"
ROWS = (b"token_embd.weight", b"per_layer_token_embd.weight")
LAYER = b"blk"
HEAD = b"cls"
# llama.cpp's numbers for how a text's tokens become one vector, and its architectures that do nothing else.
MEAN, RANK = "mean", "rank"
POOLINGS = {1: MEAN, 2: "cls", 3: "last", 4: RANK}
ENCODERS = frozenset(
    "bert eurobert gemma-embedding jina-bert-v2 jina-bert-v3 llama-embed modern-bert neo-bert nomic-bert "
    "nomic-bert-moe t5encoder".split()
)
OTHER_KINDS = {
    "mmproj": "a projector for images or sound that accompanies a model; name the model itself",
    "adapter": "a LoRA adapter; name the model that it belongs to",
    "imatrix": "an importance matrix for quantizing; name the model itself",
}


def facts(header: Gguf, tensors: Sequence[Tensor]) -> Model:
    """The facts of a model whose tensors (of all its parts) are these. Raises UnusableModel."""
    architecture = _architecture(header)
    if not tensors:
        raise _refused(header, _without_tensors(header))
    if not header.text(TOKENIZER):
        raise _refused(header, "has no tokenizer: convert the model again, with its vocabulary")
    context = header.integer(f"{architecture}.context_length")
    if not context or context < 0:
        raise _refused(header, "does not say how many tokens its context has: convert the model again")
    return Model(
        member=WEIGHTS,
        architecture=architecture,
        parameters=sum(tensor.elements for tensor in tensors),
        quantization=_quantization(header, tensors),
        context=context,
        layers=max(0, header.integer(f"{architecture}.block_count") or 0),
        layer_bytes=_largest_layer(tensors),
        chat_template=header.text("tokenizer.chat_template"),
        license=header.text("general.license"),
        title=header.text("general.name"),
        memory=estimate(header, tensors, architecture),
        token_weights=_token_weights(header, tensors, architecture),
        pooling=_pooling(header, tensors, architecture),
    )


def _pooling(header: Gguf, tensors: Sequence[Tensor], architecture: str) -> str | None:
    """None: it generates text. An encoder whose file names no pooling is one for the mean, as sentence-transformers has
    it, unless it has a head that scores."""
    told = POOLINGS.get(header.integer(f"{architecture}.pooling_type") or 0)
    if told or architecture not in ENCODERS:
        return told
    return RANK if any(tensor.name.startswith(HEAD) for tensor in tensors) else MEAN


def _token_weights(header: Gguf, tensors: Sequence[Tensor], architecture: str) -> int:
    """Bytes that one token needs: of experts those that are used; of tables that rows are taken from, nothing."""
    experts, used = (header.integer(f"{architecture}.{key}") for key in ("expert_count", "expert_used_count"))
    by_expert = sum(tensor.size for tensor in tensors if EXPERTS in tensor.name)
    if by_expert and not (experts and used and 0 < used <= experts):
        return 0
    tied = all(tensor.name != OUTPUT for tensor in tensors)  # the table of tokens is multiplied with, too
    tables = ROWS[1:] if tied else ROWS
    rest = sum(tensor.size for tensor in tensors if EXPERTS not in tensor.name and tensor.name not in tables)
    return rest + (by_expert * used // experts if by_expert and experts and used else 0)


def _architecture(header: Gguf) -> str:
    name = header.text(ARCHITECTURE)
    kind = header.text("general.type") or ("mmproj" if name == "clip" else "")
    if kind in OTHER_KINDS:
        raise _refused(header, f"is {OTHER_KINDS[kind]}")
    if not name:
        raise _refused(header, "does not say which architecture its model has: convert the model again")
    if name not in tables().architectures:
        raise _refused(header, f"has the architecture {name!r:.60}, which the engine does not know: use a newer mkllm")
    return name


def _without_tensors(header: Gguf) -> str:
    if TOKENIZER in header.keys:
        return "holds a vocabulary only, without weights: name the model itself"
    return "holds no tensors: name a model"


def _quantization(header: Gguf, tensors: Sequence[Tensor]) -> str:
    """What the file says, else the type that most of its bytes have."""
    said = header.integer("general.file_type")
    if said is not None and said in tables().file_types:
        return tables().file_types[said]
    sizes: Counter[str] = Counter()
    for tensor in tensors:
        sizes[tensor.type.name] += tensor.size
    return max(sizes, key=lambda name: (sizes[name], name))


def _largest_layer(tensors: Sequence[Tensor]) -> int:
    """Bytes of the tensors of one layer, which are called `blk.<number>.<what>`."""
    sizes: Counter[bytes] = Counter()
    for tensor in tensors:
        first, _, rest = tensor.name.partition(b".")
        if first == LAYER:
            sizes[rest.partition(b".")[0]] += tensor.size
    return max(sizes.values(), default=0)


def _refused(header: Gguf, why: str) -> UnusableModel:
    return UnusableModel(f"{str(header.path)!r} {why}")
