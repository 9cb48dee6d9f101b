"""The weights are mapped from the artifact's own file, and written nowhere."""

import re
from pathlib import Path
from typing import Any

CACHES = 65536 * 2 * 2 * 640  # bytes: of each token 640 elements of keys and of values, in f16


def test_the_engine_maps_the_artifact_itself(demo: Path, demo_server: Any) -> None:
    demo_server.ask("Hello")  # what is in the page cache is mapped as it is used
    text = Path(f"/proc/{demo_server.engine.pid}/smaps").read_text()
    sizes = re.findall(rf"{re.escape(str(demo))}\nSize: +\d+ kB\n(?:.*\n)*?Rss: +(\d+) kB", text)
    assert sum(int(size) for size in sizes) * 1024 > 0.5 * _weights(demo)


def test_nothing_of_the_weights_is_copied(demo: Path, demo_server: Any) -> None:
    needle = _some_weights(demo)
    for process in [demo_server.process, *demo_server.process.children(recursive=True)]:
        for link in Path(f"/proc/{process.pid}/fd").iterdir():
            name = str(link.readlink()) if link.is_symlink() else ""
            if name.startswith("/") and name != str(demo) and link.is_file() and link.stat().st_size > len(needle):
                assert needle not in link.read_bytes(), name


def test_caches_take_memory_as_they_fill(demo: Path, serve: Any) -> None:
    longer = ("--ctx-size", "65536", "--", "--rope-scaling", "yarn", "--rope-scale", "64")
    with serve(demo, *longer) as server:
        taken = server.engine.memory_full_info().uss
        assert taken < CACHES / 2
        assert server.ask("Hello")
        assert server.engine.memory_full_info().uss < CACHES / 2


def _member(demo: Path) -> tuple[int, int]:
    import json
    import zipfile

    with zipfile.ZipFile(demo) as archive:
        members = json.loads(archive.read("mkllm/manifest.json"))["members"]
    found = next(member for member in members if member["name"] == "model.gguf")
    return found["offset"], found["size"]


def _weights(demo: Path) -> int:
    return _member(demo)[1]


def _some_weights(demo: Path) -> bytes:
    offset, size = _member(demo)
    with demo.open("rb") as file:
        file.seek(offset + size // 2)
        return file.read(4096)
