"""The manifest: what the builder decided and the runtime reads (spec/artifact.md); knows no file and no zip."""

import dataclasses
import json
import types
from dataclasses import dataclass, field
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from mkllm.runtime.errors import NotAnArtifact

FORMAT = 1
MEMBER = "mkllm/manifest.json"
WEIGHTS, PREPACKED = "model.gguf", "model.pack"
ADAPTERS = "adapters/"  # LoRA adapters, which every launch applies
PROJECTOR = "mmproj.gguf"
# Of fields that format 1 did not have from the beginning: left out where they are None, so that older runtimes read on.
LATER = {"later": True}
HEADER = "model.header"  # what of model.gguf comes before its tensors' data, where that is in several files

T = TypeVar("T")
Choice = str | bool | int | float | tuple[str, ...]


@dataclass(frozen=True)
class Kit:
    """Which kit the artifact was made with; `glibc` is the newest symbol version that the frozen runtime needs."""

    id: str
    llama_cpp: str
    python: str
    glibc: str


@dataclass(frozen=True)
class Memory:
    """What the engine takes beside the weights; all 0 where the model does not say.

    `cache_keys` and `cache_values`: elements that one token adds to the caches, over all layers that see the whole
    context. Layers with a sliding window: `cache_window` bytes for each request at the same time, and `cache_cell` for
    each token of a batch, with caches in f16. `cache_state`: bytes of other states, such as recurrent ones, for each
    request. `cache_quantized`: the engine is known to take caches in q8_0. `compute`: bytes of buffers for batches of
    512 tokens; `compute_token`, and without flash attention `compute_token_unfused`: what a token of context adds.
    """

    cache_keys: int
    cache_values: int
    cache_cell: int
    cache_window: int
    cache_state: int
    cache_quantized: bool
    compute: int
    compute_token: int
    compute_token_unfused: int


@dataclass(frozen=True)
class Model:
    """Facts of the weights, read from their GGUF header; `context` is the trained length in tokens.

    `layers` (0: it does not say) have at most `layer_bytes` of weights each.
    `token_weights`: bytes of the weights that are read to generate one token, 0 where the header does not say.
    `pooling`: how a model that generates no text makes one vector (`mean`, `cls`, `last`) or score (`rank`) of one.
    """

    member: str
    architecture: str
    parameters: int
    quantization: str
    context: int
    layers: int
    layer_bytes: int
    chat_template: str | None
    license: str | None
    title: str | None
    memory: Memory
    token_weights: int = 0
    pooling: str | None = field(default=None, metadata=LATER)


@dataclass(frozen=True)
class Device:
    """What the file was made for (`mkllm build --for`), and the settings that hold where it runs on such a machine.

    Such a machine is a `machine` (as `uname -m` says; null: any) with `cores` processors (null: any number) and no
    more than `memory` bytes. Settings that are null are left to the launch: `context` in tokens, `cache_type` of keys
    and values, `threads` to start from, `batch` computed at once.
    """

    name: str
    machine: str | None
    cores: int | None
    memory: int
    context: int | None
    cache_type: str | None
    threads: int | None
    batch: int | None


@dataclass(frozen=True)
class Message:
    """One message of a conversation; `role` is `user` or `assistant`."""

    role: str
    content: str


@dataclass(frozen=True)
class Defaults:
    """What the maker set; every command-line option of the artifact overrides it. `context` None: the model's own.

    `chat_template` (Jinja) takes the place of the model's own. `messages` stand before those of every conversation.
    """

    system_prompt: str | None = None
    chat_template: str | None = None
    messages: tuple[Message, ...] = ()
    context: int | None = None
    sampling: dict[str, float | int] = field(default_factory=dict)
    host: str = "127.0.0.1"
    port: int = 8080
    engine_args: tuple[str, ...] = ()
    device: Device | None = None


@dataclass(frozen=True)
class Engine:
    """Members that make up the engine: its program and the libraries that must lie beside it."""

    program: str
    libraries: tuple[str, ...]


@dataclass(frozen=True)
class Backend:
    """One loadable ggml module, such as `cpu-zen4`."""

    name: str
    member: str


@dataclass(frozen=True)
class Member:
    """One zip member: `offset` of its data from the start of the file, `size` in bytes."""

    name: str
    offset: int
    size: int
    sha256: str


@dataclass(frozen=True)
class Blob:
    """A part of the file that is no zip member: the bootloader, the PKG."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Provenance:
    """Where the weights came from; `sha256` is that of model.gguf."""

    reference: str
    source: str
    sha256: str
    repository: str | None = None
    revision: str | None = None
    file: str | None = None


@dataclass(frozen=True)
class Prepacked:
    """Weights that lie in the order of `kernel`; `size` is that of the plain model.gguf, its SHA-256 the origin's."""

    kernel: str
    size: int


@dataclass(frozen=True)
class Beside:
    """A file of weights that lies beside the program, called `file`; `size` is that of the whole file.

    From its byte `data` on it has the model's. `ends` is the SHA-256 of its first and last ENDS bytes together.
    """

    file: str
    size: int
    data: int
    sha256: str
    ends: str


@dataclass(frozen=True)
class Projector:
    """By what the model takes pictures (`vision`) and sound (`audio`): the member mmproj.gguf.

    It was called `file`; null where it was converted. `memory`: bytes that it takes, weights and buffers.
    """

    file: str | None
    vision: bool
    audio: bool
    memory: int


@dataclass(frozen=True)
class Manifest:
    """Everything that crosses from builder to runtime.

    `options` are those of the build, by their names on its command line, that the rest does not tell: what a recipe has
    to say more for the same bytes to come of it.
    """

    created_by: str
    name: str
    target: str
    kit: Kit
    model: Model
    defaults: Defaults
    engine: Engine
    backends: tuple[Backend, ...]
    members: tuple[Member, ...]
    bootloader: Blob
    pkg: Blob
    provenance: Provenance
    options: dict[str, Choice] = field(default_factory=dict)
    prepacked: Prepacked | None = None
    beside: tuple[Beside, ...] = ()
    projector: Projector | None = field(default=None, metadata=LATER)
    format: int = FORMAT

    @property
    def chat_template(self) -> str | None:
        """The one in use: the maker's, else the model's own."""
        return self.defaults.chat_template or self.model.chat_template

    @property
    def weights(self) -> Member:
        """The model's weights, as one file: a member; or what lies beside the program, whose offset has no meaning.

        Of every manifest that was read from an artifact they are there.
        """
        if not self.beside:
            return next(member for member in self.members if member.name == self.model.member)
        if len(self.beside) == 1:
            return Member(self.model.member, 0, self.beside[0].size, self.beside[0].sha256)
        header = next(member.size for member in self.members if member.name == HEADER)
        size = header + sum(file.size - file.data for file in self.beside)
        return Member(self.model.member, 0, size, self.provenance.sha256)

    @property
    def adapters(self) -> tuple[Member, ...]:
        """LoRA adapters, in the order of their names."""
        return tuple(member for member in self.members if member.name.startswith(ADAPTERS))

    def member(self, name: str) -> Member | None:
        """The member of that name, or None."""
        return next((m for m in self.members if m.name == name), None)

    def to_bytes(self) -> bytes:
        """Canonical JSON: the same manifest gives the same bytes."""
        text = json.dumps(_encoded(self), indent=2, sort_keys=True, ensure_ascii=False)
        return text.encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> "Manifest":
        """Parse strictly. Raises NotAnArtifact for anything that is not a manifest of this format."""
        try:
            raw = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise NotAnArtifact(f"the manifest is damaged: it is not JSON ({error})") from None
        if isinstance(raw, dict) and isinstance(raw.get("format"), int) and raw["format"] > FORMAT:
            raise NotAnArtifact(
                f"the artifact has format {raw['format']}, this program reads up to {FORMAT}: use a newer mkllm"
            )
        return cast(Manifest, decode(cls, raw, "manifest"))


def _encoded(value: Any) -> Any:
    """As JSON has it, without what came later and says nothing."""
    if dataclasses.is_dataclass(value):
        found = [(one, getattr(value, one.name)) for one in dataclasses.fields(value)]
        return {one.name: _encoded(item) for one, item in found if item is not None or one.metadata != LATER}
    if isinstance(value, dict):
        return {key: _encoded(item) for key, item in value.items()}
    return [_encoded(item) for item in value] if isinstance(value, tuple) else value


def decode(kind: Any, value: Any, where: str) -> Any:
    """Parsed JSON as the annotated type `kind`. Raises NotAnArtifact naming the key `where` that does not fit."""
    origin = get_origin(kind)
    if dataclasses.is_dataclass(kind):
        return _decode_object(cast(type, kind), value, where)
    if origin in (Union, types.UnionType):
        return _decode_union(get_args(kind), value, where)
    if origin is tuple:
        _expect(isinstance(value, list), value, "a list", where)
        return tuple(decode(get_args(kind)[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        _expect(isinstance(value, dict), value, "an object", where)
        return {key: decode(get_args(kind)[1], item, f"{where}.{key}") for key, item in value.items()}
    _expect(type(value) is kind and _bounded(value), value, f"of type {kind.__name__}", where)
    return value


def _decode_union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    for kind in kinds:
        if get_origin(kind) is tuple and isinstance(value, list):
            return decode(kind, value, where)
        if type(value) is kind or (dataclasses.is_dataclass(kind) and isinstance(value, dict)):
            return decode(kind, value, where)
    words = {type(None): "null", tuple: "a list"}
    names = " or ".join(words.get(get_origin(kind) or kind, getattr(kind, "__name__", "")) for kind in kinds)
    raise NotAnArtifact(f"the manifest is damaged: {where} is {value!r:.60}, not {names}")


def _decode_object(kind: type[T], value: Any, where: str) -> T:
    _expect(isinstance(value, dict), value, "an object", where)
    hints = get_type_hints(kind)
    unknown = sorted(set(value) - set(hints))
    later = {one.name for one in dataclasses.fields(cast(Any, kind)) if one.metadata == LATER}
    missing = sorted(set(hints) - set(value) - later)
    if unknown:
        raise NotAnArtifact(f"{where} has an unknown key {unknown[0]!r:.60}: use a newer mkllm, or the file is damaged")
    if missing:
        raise NotAnArtifact(f"the manifest is damaged: {where} lacks the key {missing[0]!r}")
    return kind(**{key: decode(hints[key], item, f"{where}.{key}") for key, item in value.items()})


def _bounded(value: Any) -> bool:
    return not isinstance(value, int) or -(2**63) <= value < 2**63


def _expect(condition: bool, value: Any, what: str, where: str) -> None:
    if not condition:
        raise NotAnArtifact(f"the manifest is damaged: {where} is {value!r:.60}, not {what}")
