"""A program that serves the echo engine through the front, as the artifact's command line would; run by the tests.

Its argument is a JSON object: `front` (changes to FrontSettings), `engine` (options of the echo engine), `prompt` and
`messages` of the maker.
"""

import gzip
import hashlib
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from mkllm.runtime.artifact import manifest as m
from mkllm.runtime.artifact.reader import Artifact
from mkllm.runtime.engine.log import Log
from mkllm.runtime.engine.placed import Placed, Weights
from mkllm.runtime.engine.supervisor import Order, Plan, Supervisor
from mkllm.runtime.errors import RuntimeFailure
from mkllm.runtime.hardware.rank import Choice, Ranking
from mkllm.runtime.launch import FrontSettings, Launch

ECHO_ENGINE = Path(__file__).with_name("echo_engine.py")
FRONT = {
    "host": "127.0.0.1",
    "port": 0,
    "api_keys": (),
    "allow_hosts": (),
    "allow_origins": (),
    "max_body": 1 << 20,
    "open_browser": False,
    "verbose": False,
    "notes": (),
}


class Placer:
    """The interpreter is the engine, its first argument the echo engine."""

    def place(self, choice: Choice) -> Placed:
        return Placed(Path(sys.executable), (Path(f"lib{choice.name}.so"),))


def artifact(prompt: str | None, messages: list[dict[str, str]], pooling: str | None) -> Artifact:
    """What the front reads of an artifact: the manifest, and the files of a small page."""
    script = gzip.compress(b"console.log('page')" * 100, mtime=0)
    files = {
        "web/_app/immutable/bundle.abc.js.gz": script,
        "web/favicon.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "web/index.html.gz": gzip.compress(b"<!doctype html><title>page</title>" * 50, mtime=0),
    }
    members = tuple(m.Member(name, 0, len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items())
    manifest = m.Manifest(
        created_by="mkllm 0.0",
        name="echo",
        target="linux-x86_64",
        kit=m.Kit("0" * 16, "0.0", "3.11", "2.17"),
        model=m.Model(
            m.WEIGHTS,
            "llama",
            6_600_000,
            "Q8_0",
            4096,
            5,
            0,
            None,
            None,
            "Echo",
            m.Memory(64, 64, 0, 0, 0, False, 0, 0, 0),
            pooling=pooling,
        ),
        defaults=m.Defaults(system_prompt=prompt, messages=tuple(m.Message(**message) for message in messages)),
        engine=m.Engine("native/mkllm-engine", ()),
        backends=(),
        members=members,
        bootloader=m.Blob(0, ""),
        pkg=m.Blob(0, ""),
        provenance=m.Provenance("echo", "file", ""),
    )
    return cast(Artifact, SimpleNamespace(manifest=manifest, read=files.__getitem__))


def main(told: dict[str, Any]) -> int:
    choices = tuple(
        Choice(m.Backend(name, f"native/{name}"), "tests", "tests; best of 2") for name in ("cpu-a", "cpu-b")
    )
    null = os.open(os.devnull, os.O_RDONLY)
    plan = Plan(
        order=Order(
            choices,
            lambda choice: (str(ECHO_ENGINE), json.dumps(told.get("engine", {}))),
            lambda choice: (str(ECHO_ENGINE), json.dumps(told["at_once"])) if "at_once" in told else None,
        ),
        placer=Placer(),
        weights=Weights(null, 0, 0),
        log=Log(),
    )
    engine = Supervisor(plan)
    engine.start()
    try:
        from mkllm.runtime.front.serve import serve

        settings = FrontSettings(**{**FRONT, **told.get("front", {})})
        made = artifact(told.get("prompt"), told.get("messages", []), told.get("pooling"))
        return serve(Launch(made, settings, engine, Ranking(choices, ()), "echo", 4096))
    except RuntimeFailure as failure:
        print(failure, file=sys.stderr)
        return failure.exit_code
    finally:
        engine.stop()


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
