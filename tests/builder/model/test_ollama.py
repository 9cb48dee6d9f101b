"""A store of Ollama's: found, read, and named in sentences when something is missing."""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

from mkllm.builder.errors import ModelNotFound, PermissionFailure, UnusableModel, WrongHash
from mkllm.builder.model import licences, ollama
from mkllm.builder.model.reference import resolve
from mkllm.builder.progress import Output

QUIET = Output(True)
LAYER = "application/vnd.ollama.image."


class Store:
    """Writes a store as Ollama lays it out."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def blob(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        path = self.root / "blobs" / f"sha256-{digest}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return f"sha256:{digest}"

    def model(self, place: str, *layers: tuple[str, bytes]) -> Path:
        path = self.root / "manifests" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        told = [{"mediaType": LAYER + kind, "digest": self.blob(data), "size": len(data)} for kind, data in layers]
        path.write_text(json.dumps({"schemaVersion": 2, "config": {}, "layers": told}))
        return path


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_gguf: Path) -> Store:
    """A store with `small:latest`, `small:q8` and `me/other:1b`, which OLLAMA_MODELS names."""
    made = Store(tmp_path / "ollama")
    data = small_gguf.read_bytes()
    library = "registry.ollama.ai/library/small"
    made.model(
        f"{library}/latest", ("model", data), ("license", b"MIT\n"), ("license", b"Apache\n"), ("template", b"{{ }}")
    )
    made.model(f"{library}/q8", ("model", data))
    made.model("registry.ollama.ai/me/other/1b", ("model", data))
    made.model("example.org/them/third/latest", ("model", data))
    monkeypatch.setenv("OLLAMA_MODELS", str(made.root))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(ollama, "SERVICE", ())
    return made


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ollama:small", "small"),
        ("ollama:small:latest", "small"),
        ("ollama:small:q8", "small-q8"),
        ("ollama:me/other:1b", "me-other-1b"),
        ("ollama:example.org/them/third", "example.org-them-third"),
    ],
)
def test_models_are_found_by_the_names_that_ollama_gives(text: str, name: str, store: Store, small_gguf: Path) -> None:
    source = resolve(text, QUIET)
    assert source.name == name and source.path.read_bytes() == small_gguf.read_bytes()
    assert (source.origin.source, source.origin.reference) == ("ollama", text)
    assert source.origin.sha256 == hashlib.sha256(small_gguf.read_bytes()).hexdigest()


def test_a_template_comes_along(store: Store) -> None:
    template = resolve("ollama:small", QUIET).template
    assert template and template.read_bytes() == b"{{ }}"
    assert resolve("ollama:small:q8", QUIET).template is None
    template.unlink()
    with pytest.raises(UnusableModel, match="'ollama:small' is not whole: .* is missing; pull it again"):
        resolve("ollama:small", QUIET)


def test_licences_come_along(store: Store) -> None:
    licences = resolve("ollama:small", QUIET).licences
    assert {name: path.read_bytes() for name, path in licences.items()} == {
        "licenses/model/LICENSE.txt": b"MIT\n",
        "licenses/model/LICENSE-1.txt": b"Apache\n",
    }


def test_a_licence_that_is_missing(store: Store) -> None:
    (store.root / "blobs" / store.blob(b"Apache\n").replace(":", "-")).unlink()
    with pytest.raises(UnusableModel, match="'ollama:small' is not whole: .* is missing; pull it again with Ollama"):
        resolve("ollama:small", QUIET)


def test_licences_of_like_names_are_all_kept(tmp_path: Path) -> None:
    names = ("LICENSE", "LICENSE.txt", "license.txt", "LICENSE-1", "NOTICE.md", "Terms.of.use")
    found = licences.members({name: tmp_path / name for name in names})
    assert {name.removeprefix("licenses/model/"): path.name for name, path in found.items()} == {
        "LICENSE.txt": "LICENSE", "LICENSE-1.txt": "LICENSE-1", "LICENSE-2.txt": "LICENSE.txt",
        "license-3.txt": "license.txt", "NOTICE.md": "NOTICE.md", "Terms.of.use": "Terms.of.use",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["x" * 300, "small:" + "x" * 300, "x" * 5000, "me/" + "x" * 300])
def test_names_longer_than_any_file_has(name: str, store: Store) -> None:
    with pytest.raises(ModelNotFound, match="there is no model 'ollama:.*did you mean"):
        resolve(f"ollama:{name}", QUIET)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
@pytest.mark.parametrize("closed", ["blobs", "model", "license", "manifest", "manifests/registry.ollama.ai/library"])
def test_a_store_that_may_not_be_read(closed: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the service's is, by anybody else."""
    data = resolve("ollama:small", QUIET)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / "ollama"
        shutil.copytree(store.root, place)
        os.chmod(name, 0o755)
        blob = place / "blobs"
        manifest = place / "manifests/registry.ollama.ai/library/small/latest"
        wanted = {"model": blob / data.path.name, "license": blob / next(iter(data.licences.values())).name}
        path = {**wanted, "manifest": manifest}.get(closed, place / closed)
        path.chmod(0)
        monkeypatch.setenv("OLLAMA_MODELS", str(place))
        os.seteuid(65534)
        try:
            with pytest.raises(PermissionFailure, match="cannot be taken from Ollama's store: .* may not be read"):
                resolve("ollama:small", QUIET)
            assert [model.name for model in ollama.models() if "third" in model.name] == (
                [] if closed == "blobs" else ["example.org/them/third:latest"]
            )
            assert not ollama.blob("0" * 64)
        finally:
            os.seteuid(0)


def test_a_damaged_blob_is_refused(store: Store, tmp_path: Path, kit_cache: Path) -> None:
    from mkllm.builder.build import Request, build
    from mkllm.runtime.artifact.manifest import Defaults

    blob = resolve("ollama:small", QUIET).path
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    with pytest.raises(WrongHash):
        build(Request("ollama:small", tmp_path / "out", None, None, Defaults(), False), QUIET)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "ollama:smal",
            "no model 'ollama:smal' in Ollama's store: did you mean 'ollama:small:q8' or 'ollama:small:latest'",
        ),
        ("ollama:small:q4", "did you mean 'ollama:small:q8' or "),
        ("ollama:", "'ollama:' does not name a model of Ollama: write ollama:name or ollama:name:tag"),
        ("ollama:../x", "does not name a model of Ollama"),
        ("ollama:small:", "does not name a model of Ollama"),
    ],
)
def test_names_that_are_wrong(text: str, why: str, store: Store) -> None:
    with pytest.raises(ModelNotFound, match=why):
        resolve(text, QUIET)


def test_without_a_store(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", "/nowhere")
    with pytest.raises(
        ModelNotFound, match=r"this machine has no store of Ollama \(looked in '/nowhere', .*set OLLAMA_M"
    ):
        resolve("ollama:small", QUIET)
    assert list(ollama.models()) == []


def test_models_that_cannot_be_used(store: Store, small_gguf: Path) -> None:
    data = small_gguf.read_bytes()
    library = "registry.ollama.ai/library"
    store.model(f"{library}/cloud/latest", ("license", b"x"))
    store.model(f"{library}/tuned/latest", ("model", data), ("adapter", b"x"))
    store.model(f"{library}/twice/latest", ("model", data), ("model", data + b"x"))
    store.model(f"{library}/broken/latest", ("model", data)).write_text("[]")
    store.model(f"{library}/gone/latest", ("model", b"gone"))
    (store.root / "blobs" / store.blob(b"gone").replace(":", "-")).unlink()
    for name, why in {
        "cloud": "has no weights in Ollama's store",
        "tuned": "is a model and an adapter, which this version does not put together",
        "twice": "has 2 files of weights",
        "broken": "is no manifest of Ollama's",
        "gone": "is missing; pull it again with Ollama",
    }.items():
        with pytest.raises(UnusableModel, match=why):
            resolve(f"ollama:{name}", QUIET)
    assert [model.name for model in ollama.models() if "tuned" not in model.name] == [
        "example.org/them/third:latest", "small:latest", "small:q8", "me/other:1b",
    ]  # fmt: skip


def test_a_user_that_has_no_home(store: Store, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert resolve("ollama:small", QUIET).name == "small"


def test_a_projector_comes_along(store: Store, gguf_bytes: Any, small_gguf: Path) -> None:
    eyes = gguf_bytes({"general.architecture": "clip"}, {"mm.0.weight": ((64, 8), 0)})
    store.model("registry.ollama.ai/library/eyes/latest", ("model", small_gguf.read_bytes()), ("projector", eyes))
    found = resolve("ollama:eyes", QUIET, projector=True).projector
    assert found and found.path.read_bytes() == eyes and found.sha256 == hashlib.sha256(eyes).hexdigest()
    assert found.told == "the projector of ollama:eyes" and resolve("ollama:eyes", QUIET).projector is None
    assert resolve("ollama:small", QUIET, projector=True).projector is None
    found.path.unlink()
    with pytest.raises(UnusableModel, match="is not whole: '.*' is missing; pull it again with Ollama"):
        resolve("ollama:eyes", QUIET)
