"""The text of a unit: who runs the artifact, in which sandbox, and what follows when it ends; pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mkllm.runtime.artifact.beside import PLACE
from mkllm.runtime.service.quoting import argument, path_in_list, plain, word

MARK = "# Made by `service install` of a file of mkllm's; `service remove` removes it."
CREDENTIAL = "api-keys"
HIDDEN = ("/home/", "/root/", "/run/user/")
TEMPORARY = ("/tmp/", "/var/tmp/")
LOOPBACK = ("localhost", "127.", "::1", "[::1]")
PRIVILEGED = 1024
# Exit codes (spec/errors.md) after which another start would end in the same way.
HOPELESS = "2 13 30 33 45 70 71 72"

# What keeps every service of this program from what it never needs.
CONFINED = """\
NoNewPrivileges=yes
LockPersonality=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
UMask=0077"""
# What only systemd itself, as root, can do.
ISOLATED = """\
DynamicUser=yes
ProtectSystem=strict
PrivateTmp=yes
ProtectProc=invisible
ProtectClock=yes
ProtectHostname=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RemoveIPC=yes
KeyringMode=private"""
NO_DEVICES = "PrivateDevices=yes"
GPU_DEVICES = """\
DevicePolicy=closed
DeviceAllow=char-drm rw
DeviceAllow=char-nvidia rw
DeviceAllow=char-nvidia-frontend rw
DeviceAllow=char-nvidia-uvm rw
DeviceAllow=char-nvidia-caps rw
DeviceAllow=/dev/kfd rw"""


@dataclass(frozen=True)
class Service:
    """One service: `program` is the artifact, `words` are options of its `serve`, `files` others that it reads;
    `weights`: where those beside it are, if not there.

    `keys`: the file of the keys that it demands. `groups`: those that may use the machine's GPUs; `gpu`: the artifact
    has a backend for them. `user`: of a user's own manager, without root.
    """

    unit: str
    title: str
    program: str
    words: Sequence[str]
    host: str
    port: int
    files: Sequence[str] = ()
    keys: str | None = None
    gpu: bool = False
    groups: Sequence[str] = ()
    user: bool = False
    weights: str | None = None


def text(service: Service) -> str:
    """The unit file."""
    sections = (
        (f"{MARK}\n[Unit]", _unit(service)),
        ("[Service]", _service(service)),
        ("[Install]", iter([f"WantedBy={'default' if service.user else 'multi-user'}.target"])),
    )
    return "\n".join(f"{title}\n" + "".join(f"{line}\n" for line in lines) for title, lines in sections)


def is_loopback(host: str) -> bool:
    """Whether nothing but this machine can reach it."""
    return host.startswith(LOOPBACK)


def _unit(service: Service) -> Iterator[str]:
    yield f"Description={plain(service.title)}"
    if not service.user:
        yield "Wants=network-online.target"
        yield "After=network-online.target"
    yield f"RequiresMountsFor={word(service.program)}"
    yield "StartLimitIntervalSec=10min"
    yield "StartLimitBurst=5"
    yield ""


def _service(service: Service) -> Iterator[str]:
    yield "Type=notify"
    yield "NotifyAccess=all"
    yield f"ExecStart={' '.join(_command(service))}"
    yield f"Environment=MKLLM_RUNTIME_DIR=%C/{service.unit}"
    if service.weights:
        yield f"Environment={word(f'{PLACE}={service.weights}')}"
    yield f"CacheDirectory={service.unit}"
    yield "CacheDirectoryMode=0700"
    yield "TimeoutStartSec=infinity"  # a hang is found out by the program itself
    yield "TimeoutStopSec=20"
    yield "KillMode=mixed"
    yield "Restart=on-failure"
    yield "RestartSec=5"
    yield f"RestartPreventExitStatus={HOPELESS}"
    yield "OOMPolicy=continue"  # an engine that is killed is started again by the program itself
    yield "OOMScoreAdjust=500"
    yield CONFINED
    if not service.gpu:  # drivers of GPUs compile at run time
        yield "MemoryDenyWriteExecute=yes"
    yield from () if service.user else _root(service)
    yield ""


def _command(service: Service) -> Iterator[str]:
    yield word(service.program)
    yield "serve"
    if service.keys:
        yield "--api-key-file"
        yield argument(service.keys) if service.user else f"${{CREDENTIALS_DIRECTORY}}/{CREDENTIAL}"
    yield from map(argument, service.words)


def _root(service: Service) -> Iterator[str]:
    yield ISOLATED
    hidden = [path for path in (service.program, *service.files) if path.startswith((*HIDDEN, *TEMPORARY))]
    yield f"ProtectHome={'tmpfs' if hidden else 'yes'}"
    for path in hidden:
        yield f"BindReadOnlyPaths={path_in_list(path)}"
    yield GPU_DEVICES if service.gpu else NO_DEVICES
    if service.gpu and service.groups:
        yield f"SupplementaryGroups={' '.join(service.groups)}"
    capability = "CAP_NET_BIND_SERVICE" if 0 < service.port < PRIVILEGED else ""
    yield f"CapabilityBoundingSet={capability}"
    yield f"AmbientCapabilities={capability}"
    if is_loopback(service.host):
        yield "IPAddressDeny=any"
        yield "IPAddressAllow=localhost"
    if service.keys:
        yield f"LoadCredential={CREDENTIAL}:{plain(service.keys)}"
