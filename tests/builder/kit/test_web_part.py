"""The chat page as a part of the kit, with little programs for node and npm: what is kept, and what goes wrong."""

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

from mkllm.builder.errors import MissingTool, NoSpace, ToolFailed, WrongHash
from mkllm.builder.kit import node, web, web_licenses

TOP = "llama_cpp_python-0.0"
INDEX = """<!doctype html>
<html>
	<head>
		<link rel="icon" href="favicon.ico" sizes="48x48" />
		<link rel="icon" href="favicon.svg" sizes="any" type="image/svg+xml" />

		<link rel="apple-touch-icon" href="apple-touch-icon-180x180.png" />

		<link rel="manifest" href="./manifest.webmanifest" />

		<link href="/_app/bundle.js" rel="modulepreload">
	</head>
	<body><script>import("/_app/bundle.js")</script></body>
</html>
"""
NPM = """#!/bin/sh
echo "npm $@" >> "$PWD/../../../../npm.log"
[ "$1" = ci ] || exit 9
mkdir -p node_modules/vite/bin node_modules/left-pad
touch node_modules/vite/bin/vite.js
echo '{"name": "left-pad", "version": "1.0.0", "license": "MIT"}' > node_modules/left-pad/package.json
printf 'Copyright left-pad' > node_modules/left-pad/LICENSE
"""
NODE = f"""#!/bin/sh
case "$1" in --version) echo v20.19.0; exit;; */vite/bin/vite.js) ;; *) exit 8;; esac
[ "$2" = build ] || exit 7
mkdir -p "$MKLLM_WEB_OUT/_app"
cat > "$MKLLM_WEB_OUT/index.html" <<'X'
{INDEX}X
for i in 1 2 3 4 5 6 7 8; do echo "console.log('some text that compresses')"; done > "$MKLLM_WEB_OUT/_app/bundle.js"
printf x > "$MKLLM_WEB_OUT/tiny.txt"
echo "[\\"$PWD/node_modules/left-pad/index.js\\", \\"$PWD/src/app.ts\\"]" > "$MKLLM_WEB_BUNDLED"
echo "✓ 5 modules transformed."
"""


class Told:
    """A report that remembers."""

    def __init__(self, log: IO[str]) -> None:
        self.log = log
        self.steps: list[str] = []
        self.fractions: list[float] = []

    def step(self, text: str) -> None:
        self.steps.append(text)

    def progress(self, fraction: float) -> None:
        self.fractions.append(fraction)


@pytest.fixture
def told(tmp_path: Path) -> Any:
    with (tmp_path / "log").open("w") as log:
        yield Told(log)


@pytest.fixture
def sdist(tmp_path: Path) -> Path:
    """An sdist with as much of the page as the part touches itself."""
    files = {
        f"{web.PAGE}/package-lock.json": "{}",
        f"{web.PAGE}/vite.config.ts": "upstream's own",
        f"{web.PAGE}/static/picture.png": "never shown",
        f"{web.PAGE}/src/lib/vendors/algebra/LICENSE": "Copyright algebra",
        web.LICENSE: "Copyright llama.cpp",
        "llama_cpp/__init__.py": "not of the page",
    }
    path = tmp_path / "sdist.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"{TOP}/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`programs(node=…, npm=…)` puts those on PATH, and no others of that name."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/sbin:/bin")

    def put(**scripts: str) -> None:
        for name, text in scripts.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)

    put(node=NODE, npm=NPM)
    return put


def build(sdist: Path, tmp_path: Path, told: Any) -> Path:
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    (tmp_path / "work").mkdir(exist_ok=True)
    web.part(sdist).build(tmp_path / "work", out, told)
    return out


def test_the_page_is_trimmed_and_compressed(sdist: Path, tmp_path: Path, told: Any, programs: Any) -> None:
    out = build(sdist, tmp_path, told)
    names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert names == [
        "licenses/web.txt",
        "web/_app/bundle.js.gz",
        "web/build.json",
        "web/index.html.gz",
        "web/tiny.txt",
    ]
    index = gzip.decompress((out / "web/index.html.gz").read_bytes()).decode()
    assert 'href="favicon.svg"' in index and '"./_app/bundle.js"' in index
    assert not [word for word in ("favicon.ico", "apple-touch", "manifest", '"/_app') if word in index]
    assert json.loads((out / "web/build.json").read_text())["version"].startswith("llama-cpp-python ")


def test_the_same_sources_give_the_same_bytes(sdist: Path, tmp_path: Path, told: Any, programs: Any) -> None:
    def contents(out: Path) -> dict[str, bytes]:
        return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}

    first = contents(build(sdist, tmp_path, told))
    (tmp_path / "again").mkdir()
    assert contents(build(sdist, tmp_path / "again", told)) == first


def test_licences(sdist: Path, tmp_path: Path, told: Any, programs: Any) -> None:
    text = (build(sdist, tmp_path, told) / "licenses/web.txt").read_text()
    parts = ["Copyright llama.cpp", "algebra", "Copyright algebra", "left-pad 1.0.0: MIT", "Copyright left-pad"]
    assert [part for part in parts if part not in text] == []


def test_a_package_without_a_licence_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "node_modules" / "odd"
    folder.mkdir(parents=True)
    (folder / "package.json").write_text('{"name": "odd", "version": "1"}')
    (tmp_path / "src/lib/vendors").mkdir(parents=True)
    (tmp_path / "LICENSE").write_text("own")
    (tmp_path / "bundled.json").write_text(json.dumps([str(folder / "index.js")]))
    with pytest.raises(ToolFailed, match="'odd' states no licence"):
        web_licenses.write(tmp_path, tmp_path / "bundled.json", tmp_path / "LICENSE", tmp_path / "web.txt")


def test_only_the_page_is_unpacked_and_progress_goes_up(sdist: Path, tmp_path: Path, told: Any, programs: Any) -> None:
    build(sdist, tmp_path, told)
    assert not (tmp_path / "work" / "llama_cpp").exists()
    assert not (tmp_path / "work" / web.PAGE / "node_modules").exists()
    assert told.fractions == sorted(told.fractions) and told.fractions[-1] >= 0.3
    assert "building the chat page" in told.steps


def test_fetched_packages_are_not_fetched_again(sdist: Path, tmp_path: Path, told: Any, programs: Any) -> None:
    programs(node=NODE.replace("mkdir -p", "exit 6; mkdir -p"))
    with pytest.raises(ToolFailed):
        build(sdist, tmp_path, told)
    programs(node=NODE)
    build(sdist, tmp_path, told)
    assert (tmp_path / "work" / "npm.log").read_text().count("npm ci") == 1


@pytest.mark.parametrize(
    ("npm", "failure", "words"),
    [
        ("echo 'npm error code ENOTFOUND'; exit 1", ToolFailed, "could not be downloaded: check the network"),
        ("echo 'npm error code E503'; exit 1", ToolFailed, "could not be downloaded"),
        ("echo 'npm error nospc ENOSPC: no space left'; exit 1", NoSpace, "no space left"),
        ("echo 'something else'; exit 3", ToolFailed, "'npm' ended with status 3"),
    ],
)
def test_failures_of_npm(
    sdist: Path, tmp_path: Path, told: Any, programs: Any, npm: str, failure: type[Exception], words: str
) -> None:
    programs(npm=f"#!/bin/sh\n{npm}\n")
    with pytest.raises(failure, match=words):
        build(sdist, tmp_path, told)


def test_a_page_that_was_not_written_is_noticed(sdist: Path, tmp_path: Path, told: Any, programs: Any) -> None:
    programs(node='#!/bin/sh\n[ "$1" = --version ] && echo v24.0.0; exit 0\n')
    with pytest.raises(ToolFailed, match="wrote no index.html"):
        build(sdist, tmp_path, told)


def test_a_damaged_sdist(sdist: Path, tmp_path: Path, told: Any, programs: Any) -> None:
    sdist.write_bytes(sdist.read_bytes()[:-40])
    with pytest.raises(WrongHash, match="is damaged"):
        build(sdist, tmp_path, told)


def test_no_node_and_no_network(tmp_path: Path, told: Any, programs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(node="#!/bin/sh\necho v18.0.0\n")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(MissingTool, match="install Node"):
        node.find(tmp_path, told)


@pytest.mark.parametrize(
    ("version", "enough"),
    [
        ("v18.20.0", False),
        ("v20.18.3", False),
        ("v20.19.0", True),
        ("v20.20.2", True),
        ("v21.7.0", False),
        ("v22.12.0", False),
        ("v22.13.0", True),
        ("v23.9.0", False),
        ("v24.0.0", True),
        ("v26.1.0", True),
        ("", False),
        ("nonsense", False),
    ],
)
def test_versions_of_node(version: str, enough: bool) -> None:
    assert node.new_enough(version) is enough


def test_what_the_key_depends_on(sdist: Path) -> None:
    assert web.part(sdist).key == web.part(sdist.with_name("elsewhere")).key
    assert set(web.part(sdist).inputs) == {"sdist", "code"}
