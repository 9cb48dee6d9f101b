"""A model with LoRA adapters merged into its weights: checked, made once, and kept in the cache under its content."""

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mkllm.builder import cache
from mkllm.builder.convert.model import digest
from mkllm.builder.errors import UnusableAdapter
from mkllm.builder.kit.kit import Kit
from mkllm.builder.model.facts import facts
from mkllm.builder.model.gguf import Gguf, Tensor, read_gguf
from mkllm.builder.model.reference import Source
from mkllm.builder.model.split import merged, read_parts
from mkllm.builder.progress import Output
from mkllm.builder.quant.child import ask, ask_alike, only
from mkllm.builder.quant.merge import EMBEDDING, FIRST, SECOND
from mkllm.builder.quant.quantize import KEY_DIGITS, origin_digest
from mkllm.builder.quant.types import is_quantized
from mkllm.builder.space import check_free
from mkllm.builder.stream import Stream, Stretch
from mkllm.runtime.artifact.copy import Copier
from mkllm.runtime.artifact.digest import Digest
from mkllm.runtime.artifact.draft import draft

UNMERGED = b"_norm.weight"  # which the engine leaves out, too
ACTIVATED = "adapter.alora.invocation_tokens"
WHOLE = frozenset({"F32", "F16", "BF16"})


def with_merged(source: Source, adapters: Sequence[Path], scale: float, kit: Kit, output: Output) -> Source:
    """The model with these adapters (GGUF) in its weights, as strong as `scale` says; `kit` runs here.

    Raises UnusableAdapter, NoKit, NoSpace or ToolFailed.
    """
    parts = read_parts(source.path)
    tensors = {tensor.name: tensor for part in parts for tensor in part.tensors}
    changed = [changes(read_gguf(path), tensors, source.name) for path in adapters]
    _expect_quantizable([tensor for found in changed for tensor in found], kit)
    if is_quantized(source.model.quantization):
        output.note(
            f"note: {source.name!r} is {source.model.quantization}: what is merged is quantized again, and loses more "
            "than merging into the model in BF16 or F16 would"
        )
    place = cache.folder("merged") / f"{_key(source, adapters, scale, kit, output)}.gguf"
    with cache.locked(place.with_suffix(".lock")):
        if not place.exists():
            what = f"{source.name!r} with what is merged into it in {str(place.parent)!r}"
            check_free(place.parent, source.weights.size, what, cache.ELSEWHERE)
            work = sum(tensor.size for found in changed for tensor in found)
            _write(source, adapters, scale, kit, place, work, output)
    (header,) = read_parts(place)
    origin = replace(source.origin, sha256=None, promised={})
    return replace(source, path=place, weights=merged([header]), model=facts(header, header.tensors), origin=origin)


def changes(adapter: Gguf, tensors: Mapping[bytes, Tensor], model: str) -> list[Tensor]:
    """The tensors of a model that an adapter changes. Raises UnusableAdapter for one that is not this model's."""
    if ACTIVATED in adapter.keys:
        raise _refused(adapter, "is for the tokens behind some words alone: leave out --merge-lora")
    parts = {tensor.name: tensor for tensor in adapter.tensors}
    stems = {name.removesuffix(FIRST).removesuffix(SECOND) for name in parts if not name.endswith(UNMERGED)}
    found = []
    for stem in sorted(stems):
        told, first, second = stem.decode(errors="replace"), parts.get(stem + FIRST), parts.get(stem + SECOND)
        if not first or not second:
            raise _refused(adapter, f"has only a part of what changes {told!r}: get it again")
        tensor = tensors.get(stem)
        if not tensor:
            raise _refused(adapter, f"changes {told!r}, which {model!r} does not have: name the model that it is for")
        if len(tensor.shape) != 2:
            raise _refused(
                adapter, f"changes {told!r}, weights of experts, which are not merged: leave out --merge-lora"
            )
        _expect_shapes(adapter, told, tensor, first, second)
        found.append(tensor)
    if not found:
        raise _refused(adapter, "changes nothing: name another one")
    return found


def _expect_shapes(adapter: Gguf, told: str, tensor: Tensor, first: Tensor, second: Tensor) -> None:
    a, b = ((*part.shape, 1)[:2] for part in (first, second))
    is_right = (
        tensor.shape == (b[1], a[1]) and a[0] == b[0]
        if told.encode().endswith(EMBEDDING)
        else tensor.shape == (a[0], b[1]) and a[1] == b[0]
    )
    if not is_right:
        shapes = f"{'x'.join(map(str, a))} and {'x'.join(map(str, b))}"
        wanted = "x".join(map(str, tensor.shape))
        raise _refused(adapter, f"has {shapes} for {told!r}, which is {wanted}: name the model that it was trained on")


def _refused(adapter: Gguf, why: str) -> UnusableAdapter:
    return UnusableAdapter(f"the adapter {adapter.path.name!r} cannot be merged: it {why}")


def _expect_quantizable(tensors: Sequence[Tensor], kit: Kit) -> None:
    """Raise UnusableAdapter for types to which nothing is quantized without an importance matrix."""
    kinds = sorted({tensor.number for tensor in tensors if tensor.type.name not in WHOLE})
    if not kinds:
        return
    with contextlib.closing(ask(kit, "unmatrixed", "weights cannot be merged", types=kinds)) as answers:
        refused = only(answers)["types"]
    if names := [tensor.type.name for tensor in tensors if tensor.number in refused]:
        raise UnusableAdapter(
            f"weights in {names[0]} cannot be merged: they are not quantized again without an importance matrix; name "
            "the model in BF16 or F16, and give --quant and --imatrix"
        )


def _key(source: Source, adapters: Sequence[Path], scale: float, kit: Kit, output: Output) -> str:
    """Everything that decides the bytes."""
    used = [digest(path, output) for path in adapters]
    text = json.dumps([origin_digest(source, output), used, scale, kit.versions["llama_cpp"]])
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_DIGITS]


def _write(
    source: Source, adapters: Sequence[Path], scale: float, kit: Kit, place: Path, work: int, output: Output
) -> None:
    what = f"adapters cannot be merged into {source.name!r}"
    with draft(place) as new, output.task(f"merging into {source.name}", source.weights.size + work) as step:
        with Digest() as hashed, Copier(new.descriptor, hashed, step) as copier:
            Stream(source.weights, hashed, [[Stretch(copier, 0, source.weights.size, 0)]]).run()
        request = {"target": new.path, "adapters": [str(path.absolute()) for path in adapters], "scale": scale}
        with contextlib.closing(ask_alike(kit, "merge", what, **request)) as answers:
            for answer in answers:
                step(answer["bytes"])
        new.commit(0o644, force=True)
