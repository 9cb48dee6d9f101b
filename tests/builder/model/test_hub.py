"""Models from the hub: downloaded once, checked, resumed; every way in which it goes wrong has its own sentence."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from mkllm.builder.errors import HubFailure, ModelNotFound, NoSpace, WrongHash
from mkllm.builder.model.hub import fetch
from mkllm.builder.model.hub_reference import Reference, parse
from mkllm.builder.model.reference import resolve
from mkllm.builder.progress import Output

QUIET = Output(True)
FILE = "small-Q8_0.gguf"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def get(text: str = f"hf:org/model/{FILE}") -> Path:
    return fetch(parse(text), QUIET).path


def test_forms_of_references() -> None:
    assert parse("hf:a/b/c.gguf") == Reference("a/b", "c.gguf", "main")
    assert parse("hf:a/b/x/y/c.gguf@v1") == Reference("a/b", "x/y/c.gguf", "v1")
    assert parse("hf:a/b@v1") == Reference("a/b", None, "v1")
    for wrong in ("hf:", "hf:a", "hf:a/", "hf:a//c.gguf", "hf:/a/b", "hf:a/b/c@", "hf:a/b/../c"):
        with pytest.raises(ModelNotFound, match="does not name a file on the hub: write hf:organisation/repository"):
            parse(wrong)


def test_a_file_is_downloaded_once(hub: Any, small_gguf: Path) -> None:
    fetched = fetch(parse(f"hf:org/model/{FILE}"), QUIET)
    assert fetched.path.read_bytes() == small_gguf.read_bytes()
    assert (fetched.revision, fetched.file, fetched.repository) == (COMMIT, FILE, "org/model")
    assert fetched.sha256 == hashlib.sha256(small_gguf.read_bytes()).hexdigest()
    sent = dict(hub.sent)
    assert get() == fetched.path and dict(hub.sent) == sent


def test_only_what_is_needed_is_asked(hub: Any) -> None:
    get()
    resolve = f"/org/model/resolve/main/{FILE}"
    pinned = f"/org/model/resolve/{COMMIT}/{FILE}"
    listing = f"/api/models/org/model/tree/{COMMIT}"  # for the licence
    content = ("GET", f"/cdn/org/model/{FILE}")
    assert [entry[:2] for entry in hub.log] == [("HEAD", resolve), ("GET", pinned), content, ("GET", listing)]
    hub.log.clear()
    get()
    assert [entry[:2] for entry in hub.log] == [("HEAD", resolve)]


def test_a_pinned_commit_in_the_cache_asks_nobody(hub: Any) -> None:
    get()
    hub.log.clear()
    get(f"hf:org/model/{FILE}@{COMMIT}")
    assert hub.log == []


def test_the_cache_is_that_of_huggingface_hub(hub: Any) -> None:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    path = get("hf:org/model/sub/other.gguf@v1.0")
    assert try_to_load_from_cache("org/model", "sub/other.gguf", revision="v1.0") == str(path)
    assert hf_hub_download("org/model", "sub/other.gguf", revision="v1.0") == str(path)
    assert hub.sent["sub/other.gguf"] == path.stat().st_size
    other = hf_hub_download("org/model", FILE)
    sent = dict(hub.sent)
    assert str(get()) == other and dict(hub.sent) == sent


def test_the_source_tells_where_it_is_from(hub: Any) -> None:
    source = resolve(f"hf:org/model/{FILE}@v1.0", QUIET)
    assert source.origin.revision == "89abcdef0123456789abcdef0123456789abcdef" and source.name == "small-Q8_0"
    assert (source.origin.source, source.origin.repository, source.origin.file) == ("hf", "org/model", FILE)
    assert source.origin.reference == f"hf:org/model/{FILE}@v1.0"


def test_a_repository_with_one_model_needs_no_file(hub: Any, hub_server: Any) -> None:
    with pytest.raises(ModelNotFound, match=r"has 2 GGUF files: name one \(small-Q8_0.gguf, sub/other.gguf\)"):
        get("hf:org/model")
    del hub.repositories["org/model"].files["sub/other.gguf"]
    assert get("hf:org/model").name == FILE
    hub.repositories["org/none"] = hub_server.Repository({"README.md": b"#"})
    with pytest.raises(ModelNotFound, match="has no GGUF files"):
        get("hf:org/none")


def test_all_parts_are_fetched(hub: Any, gguf_bytes: Any) -> None:
    _split(hub, gguf_bytes)
    source = resolve("hf:org/model/q/big-00002-of-00002.gguf", QUIET)
    assert source.name == "big" and len(source.weights.files) == 2 and source.model.parameters == 384


def _split(hub: Any, gguf_bytes: Any) -> None:
    """Give the hub a model in two parts, `q/big-…`."""
    files = hub.repositories["org/model"].files
    for number, name in enumerate(("one", "two")):
        keys = {"split__no": number, "split__count": 2, "split__tensors__count": 2} | ({"keys": {}} if number else {})
        files[f"q/big-{number + 1:05}-of-00002.gguf"] = gguf_bytes(tensors={name: ((64, 3), 8)}, **keys)


def test_a_cut_connection_is_resumed(hub: Any) -> None:
    hub.faults.cuts = [100_000, 1, 250_000]
    data = hub.repositories["org/model"].files["sub/other.gguf"]
    assert get("hf:org/model/sub/other.gguf").read_bytes() == data
    ranges = [entry[2] for entry in hub.log if entry[:2] == ("GET", "/cdn/org/model/sub/other.gguf")]
    assert ranges == [None, "bytes=100000-", "bytes=100001-", "bytes=350001-"]
    assert hub.sent["sub/other.gguf"] == len(data)


def test_an_interrupted_download_goes_on_in_the_next_run(hub: Any) -> None:
    hub.faults.cuts = [100_000] + [0] * 5
    with pytest.raises(HubFailure, match="the connection was cut after 100.00 kB of 500.00 kB, 5 times in a row"):
        get("hf:org/model/sub/other.gguf")
    hub.log.clear()
    assert get("hf:org/model/sub/other.gguf").stat().st_size == 500_004
    assert ("GET", "/cdn/org/model/sub/other.gguf", "bytes=100000-") in hub.log


def test_a_killed_download_goes_on_in_the_next_run(hub: Any, tmp_path: Path) -> None:
    hub.repositories["org/model"].files["large.gguf"] = data = os.urandom(60_000_000)
    code = "from mkllm.builder.model.reference import resolve; from mkllm.builder.progress import Output\n"
    command = [sys.executable, "-c", code + "resolve('hf:org/model/large.gguf', Output(True))"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while process.poll() is None and sum(p.stat().st_size for p in tmp_path.rglob("*-incomplete")) < 2_000_000:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = sum(path.stat().st_size for path in tmp_path.rglob("*-incomplete"))
    hub.log.clear()
    assert get("hf:org/model/large.gguf").read_bytes() == data
    assert ("GET", "/cdn/org/model/large.gguf", f"bytes={left}-") in hub.log and left >= 2_000_000


def test_a_server_without_ranges_starts_again(hub: Any) -> None:
    hub.faults.cuts, hub.faults.no_ranges = [100_000], True
    data = hub.repositories["org/model"].files["sub/other.gguf"]
    assert get("hf:org/model/sub/other.gguf").read_bytes() == data


def test_a_server_without_ranges_that_cuts_elsewhere_each_time(hub: Any) -> None:
    hub.faults.cuts, hub.faults.no_ranges = [300_000, *[100_000, 200_000] * 3], True
    with pytest.raises(HubFailure, match="the connection was cut after .*, 5 times in a row"):
        get("hf:org/model/sub/other.gguf")


def test_a_server_that_sends_too_much(hub: Any, tmp_path: Path) -> None:
    hub.faults.more = 30_000_000
    data = hub.repositories["org/model"].files["sub/other.gguf"]
    assert get("hf:org/model/sub/other.gguf").read_bytes() == data
    assert not list(tmp_path.rglob("*-incomplete"))


def test_leftovers_that_are_wrong_are_downloaded_again(hub: Any, tmp_path: Path) -> None:
    data = hub.repositories["org/model"].files["sub/other.gguf"]
    blobs = tmp_path / "hf/hub/models--org--model/blobs"
    blobs.mkdir(parents=True)
    for left in (b"garbage", data + b"more", b"x" * len(data)):
        (blobs / f"{hashlib.sha256(data).hexdigest()}.mkllm-incomplete").write_bytes(left)
        path = get("hf:org/model/sub/other.gguf")
        assert path.read_bytes() == data
        path.resolve().unlink()
        path.unlink()


def test_a_wrong_hash(hub: Any, tmp_path: Path) -> None:
    hub.faults.told_hash = "0" * 64
    with pytest.raises(WrongHash, match=r"has the hash [0-9a-f]{64}, the hub promises 0{64}: run the command again"):
        get()
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size]


def test_small_files_are_checked_by_their_git_hash(hub: Any) -> None:
    data = hub.repositories["org/model"].files["sub/other.gguf"]
    hub.faults.told_hash = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    assert get("hf:org/model/sub/other.gguf").read_bytes() == data
    hub.faults.told_hash = "0" * 40
    with pytest.raises(WrongHash):
        get()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "hf:org/modle/a.gguf",
            "no repository 'org/modle' on the hub, or it is private: did you mean 'org/model'? Else check its name on",
        ),
        ("hf:org/model/small-Q8.gguf", "'org/model' has no file 'small-Q8.gguf': did you mean 'small-Q8_0.gguf'"),
        ("hf:org/model/other.gguf", "did you mean 'sub/other.gguf'"),
        (f"hf:org/model/{FILE}@v1", "'org/model' has no revision 'v1': did you mean 'v1.0'"),
        ("hf:org/mo--del/a.gguf", "'org/mo--del' cannot be the name of a repository"),
    ],
)
def test_names_that_are_unknown(text: str, why: str, hub: Any) -> None:
    with pytest.raises(ModelNotFound, match=re.escape(why)):
        get(text)


def test_gated_repositories_say_how_to_get_in(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repositories["org/model"].gated = True
    with pytest.raises(
        HubFailure, match=rf"is gated: accept its terms on {hub.url}/org/model, then log in with `hf auth"
    ):
        get()
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(HubFailure, match="is gated, and the token of this machine has no access: accept its terms on"):
        get()
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    assert get().exists()
    content = [token for (_, path, _), token in zip(hub.log, hub.tokens, strict=True) if path.startswith("/cdn/")]
    assert content == [None] and hub.tokens[-1] == "Bearer hf_right"  # none for the host of the content


def test_private_repositories_open_with_a_token(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repositories["org/model"].private = True
    with pytest.raises(ModelNotFound, match="or it is private"):
        get()
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    assert get().exists()


def test_unavailable_for_a_moment(hub: Any) -> None:
    hub.faults.unavailable = 3
    assert get().exists()


def test_unavailable_always(hub: Any) -> None:
    hub.faults.unavailable = 10**6
    with pytest.raises(
        HubFailure, match=f"the hub at {hub.url} answered 503, 5 times in a row: run the command again later"
    ):
        get()


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (403, "refused access to 'org/model' (403)"),
        (418, "answered 418 for 'org/model': check HF_ENDPOINT"),
        (404, "answered 404"),
    ],
)
def test_other_answers(status: int, why: str, hub: Any) -> None:
    hub.faults.status = status
    with pytest.raises(HubFailure, match=re.escape(why)):
        get()


def test_a_server_that_is_no_hub(hub: Any) -> None:
    hub.faults.plain = True
    with pytest.raises(HubFailure, match="is no model hub: check HF_ENDPOINT and the proxy"):
        get()


def test_nobody_answers(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    )
    with pytest.raises(
        HubFailure, match=r"the hub at http://127.0.0.1:9 could not be reached \(.+\), 5 times in a row"
    ):
        get()


def test_what_is_cached_is_used_when_nobody_answers(hub: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = get()
    hub.faults.unavailable = 10**6
    assert fetch(parse(f"hf:org/model/{FILE}"), Output()).path == path
    assert "using the copy of 'hf:org/model/small-Q8_0.gguf' that was downloaded before" in capsys.readouterr().err


def test_offline(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = get()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.log.clear()
    assert get() == path
    with pytest.raises(
        HubFailure, match="was not downloaded before, and HF_HUB_OFFLINE or --offline forbids asking"
    ) as e:
        get("hf:org/model/sub/other.gguf")
    assert f"copy the folder 'models--org--model' of the cache there to {constants.HF_HUB_CACHE!r}" in str(e.value)
    with pytest.raises(HubFailure, match="'hf:org/other' was not downloaded before"):
        get("hf:org/other")
    assert (
        get("hf:org/model") == path and get("hf:org/model:q8_0") == path
    )  # of what was downloaded, it is the only one
    assert hub.log == []


@pytest.mark.parametrize(
    "address", ["http://[", "http://localhost:abc", "http://h:99999", "hub", "http://", "", f"http://{'a' * 70}"]
)
def test_an_endpoint_that_is_no_address(address: str, hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises(HubFailure, match=re.escape(f"HF_ENDPOINT is {address!r}, which is no address: unset it")):
        resolve(f"hf:org/model/{FILE}", QUIET)
    assert hub.log == []


def test_no_room_is_said_before_downloading(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result((4096, 4096, 100, 10, 10, 10, 10, 10, 0, 255)))
    with pytest.raises(NoSpace, match=r"500.00 kB needed, 40.96 kB free; free some, or set HF_HOME"):
        get("hf:org/model/sub/other.gguf")
    assert not hub.sent


def test_a_damaged_copy_in_the_cache_is_found_when_building(hub: Any, kit_cache: Path, tmp_path: Path) -> None:
    from mkllm.builder.build import Request, build
    from mkllm.runtime.artifact.manifest import Defaults

    text = f"hf:org/model/{FILE}"
    blob = get().resolve()
    data = bytearray(blob.read_bytes())
    data[-100] ^= 1
    blob.write_bytes(data)
    request = Request(text, tmp_path / "out", None, None, Defaults(), False)
    with pytest.raises(WrongHash, match="remove that file and run the command again") as caught:
        build(request, QUIET)
    assert repr(str(blob)) in str(caught.value) and not (tmp_path / "out").exists()
    blob.unlink()
    (tmp_path / "hf/hub/models--org--model/snapshots" / COMMIT / FILE).unlink()
    made = build(request, QUIET).manifest.provenance
    assert (made.source, made.revision, made.sha256) == ("hf", COMMIT, blob.name)


def test_a_revision_names_the_commit_and_changes_nothing_else(hub: Any, kit_cache: Path, tmp_path: Path) -> None:
    from mkllm.builder.build import Request, build
    from mkllm.runtime.artifact.manifest import Defaults

    text = f"hf:org/model/{FILE}"
    request = Request(text, tmp_path / "out", None, None, Defaults(), False)
    build(request, QUIET)
    pinned = build(replace(request, path=tmp_path / "pinned", revision=COMMIT), QUIET).manifest.provenance
    assert (pinned.reference, pinned.revision) == (text, COMMIT)
    assert (tmp_path / "pinned").read_bytes() == (tmp_path / "out").read_bytes()
    with pytest.raises(ModelNotFound, match="nowhere"):
        build(replace(request, path=tmp_path / "none", revision="nowhere"), QUIET)


def test_a_damaged_part_in_the_cache_is_found_when_building(
    hub: Any, kit_cache: Path, tmp_path: Path, gguf_bytes: Any
) -> None:
    from mkllm.builder.build import Request, build
    from mkllm.runtime.artifact.manifest import Defaults

    _split(hub, gguf_bytes)
    request = Request("hf:org/model/q/big-00001-of-00002.gguf", tmp_path / "out", None, None, Defaults(), False)
    fetched = fetch(parse(request.model), QUIET)
    assert fetched.sha256 is None and len(fetched.promised) == 2
    blob = fetched.path.with_name("big-00002-of-00002.gguf").resolve()
    data = bytearray(blob.read_bytes())
    data[-100] ^= 1
    blob.write_bytes(data)
    with pytest.raises(WrongHash, match="remove that file and run the command again") as caught:
        build(request, QUIET)
    assert repr(str(blob)) in str(caught.value) and not (tmp_path / "out").exists()
    blob.unlink()
    assert build(request, QUIET).manifest.provenance.file == "q/big-00001-of-00002.gguf"


def in_catalogue(monkeypatch: pytest.MonkeyPatch, repository: str, quantization: str, name: str) -> None:
    """Let the catalogue hold this file alone, as the model `little`."""
    from mkllm.builder.model import catalog

    file = catalog.File(name, None, True, None, ("x",))
    entry = catalog.Entry(
        "little", (), "", "", "chat", repository, None, 1, quantization, None, None, None, None, {quantization: file}
    )
    monkeypatch.setattr(catalog, "entries", lambda: (entry,))


class TestFitOneFile:
    """Of several quantizations the largest is taken that fits."""

    @pytest.fixture
    def sized(self, hub: Any, gguf_bytes: Any) -> Any:
        hub.repositories["org/sized"] = type(hub.repositories["org/model"])(
            {
                f"m.{word}.gguf": gguf_bytes(tensors={"w": ((1024, rows), 0)})
                for word, rows in (("F16", 1600), ("Q8_0", 800), ("Q4_0", 400))
            }
        )
        return hub

    def build(
        self, text: str, path: Path, output: Output = QUIET, fit: bool = True, most: int | None = 5_000_000
    ) -> Any:
        from mkllm.builder.build import Request, build
        from mkllm.builder.placing import Limits
        from mkllm.runtime.artifact.manifest import Defaults

        limits = Limits(file=most)
        return build(Request(text, path, None, None, Defaults(), False, limits=limits, fit_one_file=fit), output)

    @pytest.mark.parametrize(
        "text",
        ["hf:org/sized/m.F16.gguf", "hf:org/sized", "hf:org/sized/m.F16.gguf@main", "hf:org/sized:q4_0", "little"],
    )
    def test_the_largest_that_fits(
        self,
        text: str,
        sized: Any,
        kit_cache: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        in_catalogue(monkeypatch, "org/sized", "F16", "m.F16.gguf")
        made = self.build(text, tmp_path / "out", Output())
        assert made.manifest.provenance.file == "m.Q8_0.gguf" and made.beside == ()
        assert made.manifest.provenance.reference == "hf:org/sized/m.Q8_0.gguf" + ("@main" if "@" in text else "")
        assert "taking 'm.Q8_0.gguf' (3.28 MB), the largest of 3 that fits into one file" in capsys.readouterr().err
        assert sized.sent["m.F16.gguf"] == 0

    def test_none_fits(self, sized: Any, kit_cache: Path, tmp_path: Path) -> None:
        from mkllm.builder.errors import TooLarge

        with pytest.raises(TooLarge, match="the smallest, 'm.Q4_0.gguf', has 1.64 MB; leave out --fit-one-file"):
            self.build("hf:org/sized/m.F16.gguf", tmp_path / "out", most=2_000_000)

    def test_the_licence_needs_room_too(self, sized: Any, kit_cache: Path, tmp_path: Path) -> None:
        from mkllm.builder.errors import TooLarge
        from mkllm.builder.placing import MARGIN

        sized.repositories["org/sized"].files["LICENSE"] = b"Be kind.\n" * 50_000
        size = self.build("hf:org/sized", tmp_path / "out").path.stat().st_size + MARGIN
        assert self.build("hf:org/sized", tmp_path / "same", most=size).beside == ()
        with pytest.raises(TooLarge, match="'hf:org/sized' has 3.28 MB and at most 3.* fit into one file"):
            self.build("hf:org/sized", tmp_path / "other", most=size - 200_000)

    def test_offline(self, sized: Any, kit_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(HubFailure, match="asks the hub.*which HF_HUB_OFFLINE or --offline forbids: leave that"):
            self.build("hf:org/sized", tmp_path / "out")

    def test_a_file_that_is_not_there(self, sized: Any, kit_cache: Path, tmp_path: Path) -> None:
        with pytest.raises(ModelNotFound, match="has no file 'n.F16.gguf': did you mean"):
            self.build("hf:org/sized/n.F16.gguf", tmp_path / "out")

    def test_several_models(self, sized: Any, kit_cache: Path, tmp_path: Path, gguf_bytes: Any) -> None:
        sized.repositories["org/sized"].files["other.Q8_0.gguf"] = gguf_bytes()
        with pytest.raises(ModelNotFound, match="has 4 GGUF files: name one"):
            self.build("hf:org/sized", tmp_path / "out")

    def test_what_would_fit_is_offered(
        self, sized: Any, kit_cache: Path, tmp_path: Path, gguf_bytes: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        sized.repositories["org/sized"].files["m.F16.gguf"] = gguf_bytes(
            tensors={"a": ((1024, 800), 0), "b": ((1024, 800), 0)}
        )
        made = self.build("hf:org/sized/m.F16.gguf", tmp_path / "out", Output(), fit=False)
        assert len(made.beside) == 2
        told = capsys.readouterr().err
        assert "'m.Q8_0.gguf' (3.28 MB) would fit; --fit-one-file takes it" in told

    def test_of_a_file_here_it_is_said_why_not(self, kit_cache: Path, tmp_path: Path, gguf_bytes: Any) -> None:
        from mkllm.builder.errors import TooLarge

        model = tmp_path / "m.gguf"
        model.write_bytes(gguf_bytes(tensors={"w": ((1024, 1600), 0)}))
        with pytest.raises(
            TooLarge, match="has 6.55 MB and at most 3.* fit into one file.*have --quant make a smaller"
        ):
            self.build(str(model), tmp_path / "out")

    def test_without_a_limit(self, kit_cache: Path, tmp_path: Path, small_gguf: Path) -> None:
        import click

        with pytest.raises(click.BadParameter, match="nothing limits a file for linux-x86_64"):
            self.build(str(small_gguf), tmp_path / "out", most=None)


def test_two_processes_download_once(hub: Any) -> None:
    hub.repositories["org/model"].files["large.gguf"] = data = os.urandom(20_000_000)
    code = (
        "from mkllm.builder.model.hub import fetch; from mkllm.builder.model.hub_reference import parse\n"
        "from mkllm.builder.progress import Output; print(fetch(parse('hf:org/model/large.gguf'), Output(True)).path)"
    )
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    paths = {process.communicate()[0].strip() for process in both}
    assert len(paths) == 1 and Path(paths.pop()).read_bytes() == data
    assert hub.sent["large.gguf"] == len(data)


def test_a_quantization_names_a_file(hub: Any, hub_server: Any) -> None:
    files = {f"m-{kind}.gguf": b"GGUF" + kind.encode() for kind in ("Q4_0", "Q4_K_M", "Q8_0", "f16")}
    files |= {
        "mmproj-Q8_0.gguf": b"GGUF",
        "s/x-IQ2_M-00001-of-00002.gguf": b"GGUF",
        "s/x-IQ2_M-00002-of-00002.gguf": b"G",
    }
    hub.repositories["org/many"] = hub_server.Repository(files)
    for text, name in {
        "hf:org/many:Q4_K_M": "m-Q4_K_M.gguf",
        "hf:org/many:q4": "m-Q4_K_M.gguf",
        "hf:org/many:q8@v1.0": "m-Q8_0.gguf",
        "hf:org/many:fp16": "m-f16.gguf",
        "hf:org/many:iq2_m": "s/x-IQ2_M-00001-of-00002.gguf",
    }.items():
        assert fetch(parse(text), QUIET).file == name
    with pytest.raises(
        ModelNotFound, match=r"that repository has no file of this quantization; it has Q4_0, Q4_K_M, Q8_0"
    ):
        get("hf:org/many:q6_k")
    hub.repositories["org/many"].files["n-Q8_0.gguf"] = b"GGUF"
    with pytest.raises(ModelNotFound, match=r"may be any of 2 files: name one \(m-Q8_0.gguf, n-Q8_0.gguf\)"):
        get("hf:org/many:q8_0")
    with pytest.raises(ModelNotFound, match="does not name a file on the hub"):
        parse("hf:org/many:")


def test_licences_come_along(hub: Any) -> None:
    files = hub.repositories["org/model"].files
    files |= {
        "LICENSE": b"Be kind.\n",
        "NOTICE.txt": b"By us.\n",
        "USE_POLICY.md": b"#",
        "sub/LICENSE": b"no",
        "licenses.py": b"",
    }
    fetched = fetch(parse(f"hf:org/model/{FILE}"), QUIET)
    assert {name: path.read_bytes() for name, path in fetched.licences.items()} == {
        "LICENSE": b"Be kind.\n", "NOTICE.txt": b"By us.\n", "USE_POLICY.md": b"#",
    }  # fmt: skip
    hub.log.clear()
    assert fetch(parse(f"hf:org/model/{FILE}@{COMMIT}"), QUIET).licences == fetched.licences and hub.log == []


def test_a_licence_that_cannot_be_fetched_is_said(hub: Any, capsys: pytest.CaptureFixture[str]) -> None:
    hub.repositories["org/model"].files["LICENSE"] = b"x" * 100
    hub.faults.told_hashes["LICENSE"] = "0" * 64
    fetched = fetch(parse(f"hf:org/model/{FILE}"), Output())
    assert fetched.path.exists() and fetched.licences == {}
    assert "note: the licence file of 'org/model' could not be looked for: the download of" in capsys.readouterr().err
    hub.faults.told_hashes.clear()
    assert list(fetch(parse(f"hf:org/model/{FILE}"), QUIET).licences) == ["LICENSE"]


def test_without_an_answer_about_licences_the_model_is_used(hub: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from huggingface_hub import hf_hub_download

    other = hf_hub_download("org/model", FILE)  # by another tool, which fetched no licence
    hub.faults.unavailable = 10**6
    assert str(fetch(parse(f"hf:org/model/{FILE}@{COMMIT}"), Output()).path) == other
    assert "note: the licence file of 'org/model' could not be looked for: the hub at" in capsys.readouterr().err


def test_the_licence_is_in_the_artifact(hub: Any, tmp_path: Path, kit_cache: Path) -> None:
    from mkllm.builder.build import Request, build
    from mkllm.runtime.artifact.manifest import Defaults
    from mkllm.runtime.artifact.reader import open_artifact
    from mkllm.runtime.artifact.verify import verify
    from mkllm.runtime.commands.licenses import run

    hub.repositories["org/model"].files |= {"LICENSE": b"Be kind.\n", "NOTICE.md": b"By us.\n"}
    request = Request(f"hf:org/model/{FILE}", tmp_path / "out", None, None, Defaults(), False)
    build(request, QUIET)
    with open_artifact(tmp_path / "out") as artifact:
        assert artifact.read("licenses/model/LICENSE.txt") == b"Be kind.\n"
        assert artifact.read("licenses/model/NOTICE.md") == b"By us.\n" and list(verify(artifact)) == []
        names = [member.name for member in artifact.manifest.members[1:]]
    assert names == sorted(names)
    assert run(str(tmp_path / "out")) == 0


def test_a_short_name_is_fetched_from_the_hub(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    in_catalogue(monkeypatch, "org/model", "Q8_0", FILE)
    source = resolve("little-q8", QUIET)
    assert (source.name, source.origin.reference, source.origin.revision) == ("little", "little-q8", COMMIT)
    assert (source.origin.source, source.origin.repository, source.origin.file) == ("hf", "org/model", FILE)
    hub.repositories["org/model"].files["other-Q4_0.gguf"] = hub.repositories["org/model"].files[FILE]
    assert resolve("little:q4_0", QUIET).origin.file == "other-Q4_0.gguf"  # which the catalogue does not know
    with pytest.raises(ModelNotFound, match="did you mean 'little'"):
        resolve("litle", QUIET)
