"""`service install`, `remove` and `status`: the artifact as a service of systemd."""

import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from mkllm.runtime.artifact.beside import PLACE
from mkllm.runtime.artifact.reader import Artifact, open_artifact
from mkllm.runtime.artifact.shown import shown
from mkllm.runtime.errors import NoService, PermissionFailure
from mkllm.runtime.gpus import has_gpu_backend
from mkllm.runtime.options import KEY_VARIABLE, address, api_keys
from mkllm.runtime.own_file import own_file
from mkllm.runtime.service.install import Installation, expect_free, expect_usable, install, remove
from mkllm.runtime.service.systemd import Manager
from mkllm.runtime.service.unit import Service, text
from mkllm.runtime.service.words import Words, read_words

LONGEST = 200
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
GROUPS = ("render", "video")
STOPPED = 3  # as systemctl's own
SHOWN = (
    "LoadState,ActiveState,SubState,UnitFileState,StatusText,ActiveEnterTimestamp,MainPID,MemoryCurrent,NRestarts"
).split(",")


def run_install(serve: click.Command, given: Mapping[str, Any], extra: tuple[str, ...]) -> int:
    """Install the service, or print its unit (`--print`), which needs neither root nor systemd."""
    words = read_words(serve, extra)
    keys = api_keys(words.given)
    with open_artifact(own_file()) as artifact:
        place = Installation(Manager(given["user"]), unit_name(given["name"], artifact))
        service = _service(place, artifact, words, keys)
    if given["print"]:
        click.echo(text(service), nl=False)
        return 0
    expect_usable(service.program, given["user"])
    place.manager.expect()
    _expect_root(place.manager)
    expect_free(place, given["force"])
    install(place, text(service), keys if service.keys == str(place.keys) else (), given["now"])
    _tell_installed(place, service, given["now"])
    return 0


def run_remove(name: str | None, user: bool) -> int:
    """Remove the service, and what it kept."""
    place = _place(name, user)
    place.manager.expect()
    _expect_root(place.manager)
    remove(place)
    click.echo(f"the service {place.unit!r} is removed; {own_file()!r} stays")
    return 0


def run_status(name: str | None, user: bool, as_json: bool) -> int:
    """Say how the service is: 0 while it runs, 3 while it does not, as `systemctl` does."""
    place = _place(name, user)
    place.manager.expect()
    found = place.manager.show(place.service, SHOWN)
    if found["LoadState"] == "not-found":
        raise NoService(f"there is no service {place.unit!r}: `service install` makes one")
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        for line in _lines(place, found):
            click.echo(line)
    return 0 if found["ActiveState"] == "active" else STOPPED


def unit_name(name: str | None, artifact: Artifact) -> str:
    """A name for a unit: the one that is given, or what the artifact calls itself. Raises click.UsageError."""
    made = re.sub(r"[^A-Za-z0-9_.-]+", "-", name or artifact.manifest.name).strip("-.")
    if not made or (name and made != name) or len(made) > LONGEST:
        raise click.UsageError(
            f"{name or artifact.manifest.name!r} is no name for a service: give --name one of letters, digits and -_."
        )
    return made


def _place(name: str | None, user: bool) -> Installation:
    with open_artifact(own_file()) as artifact:
        return Installation(Manager(user), unit_name(name, artifact))


def _service(place: Installation, artifact: Artifact, words: Words, keys: tuple[str, ...]) -> Service:
    given, user = words.given, place.manager.user
    host, port = address(given, artifact.manifest.defaults)
    file = given["api_key_file"]
    own_keys = bool(given["api_keys"]) or KEY_VARIABLE in os.environ
    kept = str(place.keys) if own_keys else os.path.abspath(file) if file else None
    if kept and CONTROL.search(kept):
        raise click.UsageError(f"the name of the file of keys, {kept!r}, has control characters: rename it")
    program = os.path.realpath(own_file())
    beside = _beside(artifact)
    return Service(
        unit=place.unit,
        title=shown(f"{artifact.manifest.name}, a language model"),
        program=program,
        words=words.words,
        host=host,
        port=port,
        files=(*words.files, *beside),
        keys=kept if keys else None,
        gpu=has_gpu_backend(artifact),
        groups=[name for name in GROUPS if _has_group(name)],
        user=user,
        weights=_elsewhere(beside, program),
    )


def _beside(artifact: Artifact) -> tuple[str, ...]:
    """Weights that do not lie in the program: under the names that they were found by. Raises WeightsUnusable."""
    found = [os.path.split(stretch.path) for stretch in artifact.model() if artifact.manifest.beside]
    return tuple(os.path.join(os.path.realpath(folder), name) for folder, name in found)


def _elsewhere(beside: tuple[str, ...], program: str) -> str | None:
    """What MKLLM_WEIGHTS has to say, so that the service finds them where they were found now."""
    if not beside or (PLACE not in os.environ and os.path.dirname(beside[0]) == os.path.dirname(program)):
        return None
    return beside[0] if len(beside) == 1 else os.path.dirname(beside[0])


def _expect_root(manager: Manager) -> None:
    if sys.platform != "win32" and not manager.user and os.geteuid() != 0:
        raise PermissionFailure(
            "services of the system are root's to install and remove: use `sudo`, or --user for one of your own"
        )


def _has_group(name: str) -> bool:
    try:
        return any(line.startswith(f"{name}:") for line in Path("/etc/group").read_text().splitlines())
    except OSError:
        return False


def _tell_installed(place: Installation, service: Service, now: bool) -> None:
    user = "--user " if place.manager.user else ""
    click.echo(f"{place.file}: the service {place.unit!r} starts {'now and ' if now else ''}at every boot")
    click.echo(f"what it says:  journalctl {user}-u {place.unit} -f")
    if place.manager.user:
        click.echo("note: it runs while you are logged in; `loginctl enable-linger` keeps it running", err=True)
    if service.keys:
        click.echo(f"its keys:      {service.keys}")


def _lines(place: Installation, found: Mapping[str, str]) -> list[str]:
    since = f" since {found['ActiveEnterTimestamp']}" if found["ActiveState"] == "active" else ""
    lines = [
        f"{place.unit}: {found['ActiveState']} ({found['SubState']}){since}, {found['UnitFileState'] or 'not enabled'}"
    ]
    if found["StatusText"]:
        lines.append(f"  says      {found['StatusText']}")
    if found["MainPID"] != "0":
        lines.append(f"  process   {found['MainPID']}, started again {found['NRestarts']} times")
    if found["MemoryCurrent"].isdigit():
        lines.append(f"  memory    {int(found['MemoryCurrent']) / 1e6:.0f} MB")
    return [shown(line) for line in lines]
