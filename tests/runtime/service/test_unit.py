"""The unit: who runs the program, in which sandbox."""

from dataclasses import replace

import pytest

from mkllm.runtime.service.unit import MARK, Service, is_loopback, text

SERVICE = Service("demo", "demo, 100 % local", "/usr/local/lib/demo", ("--only-port",), "127.0.0.1", 8080)


def lines(**changes):
    return text(replace(SERVICE, **changes)).splitlines()


def value(name, **changes):
    return [line.removeprefix(f"{name}=") for line in lines(**changes) if line.startswith(f"{name}=")]


def test_the_whole():
    found = lines()
    assert found[0] == MARK and [line for line in found if line.startswith("[")] == ["[Unit]", "[Service]", "[Install]"]
    assert "Description=demo, 100 %% local" in found and "ExecStart=/usr/local/lib/demo serve --only-port" in found
    for setting in ("DynamicUser=yes", "ProtectSystem=strict", "PrivateTmp=yes", "NoNewPrivileges=yes"):
        assert setting in found
    assert "MemoryDenyWriteExecute=yes" in found and "PrivateDevices=yes" in found and "ProtectHome=yes" in found
    assert value("CapabilityBoundingSet") == [""] and "WantedBy=multi-user.target" in found
    assert value("Environment") == ["MKLLM_RUNTIME_DIR=%C/demo"] and value("CacheDirectory") == ["demo"]


@pytest.mark.parametrize(
    ("port", "capability"), [(80, "CAP_NET_BIND_SERVICE"), (1023, "CAP_NET_BIND_SERVICE"), (0, "")]
)
def test_small_ports_need_one_capability(port, capability):
    assert value("CapabilityBoundingSet", port=port) == value("AmbientCapabilities", port=port) == [capability]


def test_what_only_this_machine_reaches_reaches_only_this_machine():
    assert value("IPAddressDeny") == ["any"] and value("IPAddressAllow") == ["localhost"]
    assert value("IPAddressDeny", host="0.0.0.0") == []
    assert is_loopback("::1") and is_loopback("127.0.0.2") and not is_loopback("192.168.1.2")


def test_keys_are_handed_over_by_systemd():
    assert value("LoadCredential", keys="/etc/mkllm/demo.keys") == ["api-keys:/etc/mkllm/demo.keys"]
    (command,) = value("ExecStart", keys="/etc/mkllm/demo.keys")
    assert command == "/usr/local/lib/demo serve --api-key-file ${CREDENTIALS_DIRECTORY}/api-keys --only-port"


def test_files_in_homes_are_brought_into_view():
    changes = {"program": "/home/u/My Files/demo", "files": ("/root/a.gguf", "/srv/b.gguf")}
    assert value("ProtectHome", **changes) == ["tmpfs"]
    assert value("BindReadOnlyPaths", **changes) == ['"/home/u/My Files/demo"', "/root/a.gguf"]


def test_gpus():
    changes = {"gpu": True, "groups": ("render", "video")}
    assert value("DevicePolicy", **changes) == ["closed"] and "char-drm rw" in value("DeviceAllow", **changes)
    assert value("SupplementaryGroups", **changes) == ["render video"]
    assert value("PrivateDevices", **changes) == value("MemoryDenyWriteExecute", **changes) == []


def test_a_user_s_own():
    found = lines(user=True, keys="/home/u/.config/mkllm/demo.keys", program="/home/u/demo")
    assert "ExecStart=/home/u/demo serve --api-key-file /home/u/.config/mkllm/demo.keys --only-port" in found
    assert "WantedBy=default.target" in found and "SystemCallFilter=@system-service" in found
    for name in ("DynamicUser", "ProtectHome", "PrivateDevices", "LoadCredential", "CapabilityBoundingSet"):
        assert not any(line.startswith(name) for line in found), name
