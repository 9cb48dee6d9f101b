"""A model in another type: sized before anything is written, made once, and kept in the cache."""

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mkllm.builder import cache
from mkllm.builder.errors import NeedsMatrix, ToolFailed
from mkllm.builder.kit.kit import Kit
from mkllm.builder.model import promise
from mkllm.builder.model.facts import facts
from mkllm.builder.model.quant import unquantized
from mkllm.builder.model.reference import Source
from mkllm.builder.model.split import merged, read_parts
from mkllm.builder.name import name_after
from mkllm.builder.progress import Output
from mkllm.builder.quant.child import ask
from mkllm.builder.quant.digest import sha256_of
from mkllm.builder.quant.matrix import Matrix
from mkllm.builder.quant.sizes import file_size
from mkllm.builder.quant.types import QuantType, is_quantized
from mkllm.builder.space import check_free
from mkllm.runtime.artifact.draft import draft

KEY_DIGITS = 32


@dataclass(frozen=True)
class Plan:
    """What quantizing to `type` will give: `size` in bytes of the whole file; whether llama.cpp wants a matrix."""

    type: QuantType
    size: int
    needs_matrix: bool


def plans(kit: Kit, source: Source, types: Sequence[QuantType], matrix: Matrix | None = None) -> list[Plan]:
    """What each of the types will give, as llama.cpp chooses them by tensor; nothing is computed."""
    parts = read_parts(source.path)
    numbers = [kind.number for kind in types]
    what = f"the sizes of {source.name!r} cannot be told"
    answers = ask(kit, "plan", what, model=source.path.absolute(), types=numbers, imatrix=matrix and matrix.path)
    return [
        Plan(kind, file_size(parts, answer["tensors"]), answer["needs_matrix"] and not matrix)
        for kind, answer in zip(types, answers, strict=True)
    ]


def quantized(kit: Kit, source: Source, kind: QuantType, matrix: Matrix | None, output: Output) -> Source:
    """The model in that type. Raises NeedsMatrix, or another BuilderFailure."""
    if source.model.quantization == kind.name:
        return source
    (plan,) = plans(kit, source, [kind], matrix)
    if plan.needs_matrix:
        raise NeedsMatrix(
            f"{kind.name} comes to nothing without an importance matrix: give a text such as the model will see with "
            "--imatrix, or choose Q2_K or larger"
        )
    return _source(source, kind, make(kit, source, plan, matrix, output))


def warn(source: Source, kinds: Sequence[QuantType], output: Output) -> None:
    """Say what quantizing to these types does not give."""
    now = source.model.quantization
    if now in [kind.name for kind in kinds]:
        output.note(f"note: {source.name!r} is {now} already; it is taken as it is")
    names = [kind.name for kind in kinds if is_quantized(kind.name) and kind.name != now]
    if is_quantized(now) and names:
        output.note(
            f"note: {source.name!r} is {now} already: quantized again, to {', '.join(names)}, it loses more than the "
            "original would; take the model in BF16 or F16 where there is one"
        )


def make(kit: Kit, source: Source, plan: Plan, matrix: Matrix | None, output: Output) -> Path:
    """The file in the cache, made now unless it is there."""
    key = _key(kit, origin_digest(source, output), plan.type, matrix)
    place = cache.folder("quantized") / f"{key}.gguf"
    with cache.locked(place.with_suffix(".lock")):
        if not (place.exists() and place.stat().st_size == plan.size):
            what = f"the {plan.type.name} version in {str(place.parent)!r}"
            check_free(place.parent, plan.size, what, cache.ELSEWHERE)
            _write(kit, source, plan, matrix, place, output)
    return place


def origin_digest(source: Source, output: Output) -> str:
    """The SHA-256 of the model's bytes, compared with what was promised."""
    promise.check(source.origin.promised, output)
    found = sha256_of(source.weights, f"reading {source.name}", output)
    if source.origin.sha256 and source.origin.sha256 != found:
        raise promise.wrong(source.path, found, source.origin.sha256)
    return found


def _key(kit: Kit, digest: str, kind: QuantType, matrix: Matrix | None) -> str:
    """Everything that decides the bytes."""
    text = json.dumps([digest, kind.name, matrix and matrix.digest, kit.versions["llama_cpp"]])
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_DIGITS]


def _write(kit: Kit, source: Source, plan: Plan, matrix: Matrix | None, place: Path, output: Output) -> None:
    sizes = {tensor.name.decode(errors="replace"): tensor.size for p in read_parts(source.path) for tensor in p.tensors}
    what = f"{source.name!r} cannot be quantized to {plan.type.name}"
    title = f"quantizing {source.name} to {plan.type.name}"
    with draft(place) as new, output.task(title, sum(sizes.values())) as step:
        request = {"target": new.path, "type": plan.type.number, "imatrix": matrix and matrix.path}
        with contextlib.closing(ask(kit, "quantize", what, model=source.path.absolute(), **request)) as answers:
            begun = 0
            for answer in answers:  # each comes when its tensor is begun
                if begun:
                    step(begun)
                begun = sizes.get(answer["tensor"], 0)
        made = os.fstat(new.descriptor).st_size
        if made != plan.size:
            raise ToolFailed(f"{what}: the file has {made} bytes instead of {plan.size}: check the disk")
        new.commit(0o644, force=True)


def _source(source: Source, kind: QuantType, path: Path) -> Source:
    """The file in the cache, from where the model was from."""
    (header,) = read_parts(path)
    origin = replace(source.origin, sha256=None, promised={})
    model, name = facts(header, header.tensors), _name(source.name, kind)
    return replace(source, path=path, weights=merged([header]), model=model, origin=origin, name=name)


def _name(name: str, kind: QuantType) -> str:
    """The model's name with its new type in place of the old one."""
    return name_after(f"{unquantized(name)}-{kind.name}")
