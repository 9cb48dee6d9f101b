"""Facts of Macs whose programs are played by scripts that print what those would."""

import os
from dataclasses import replace

import pytest

from mkllm.runtime.artifact.manifest import Backend
from mkllm.runtime.engine.device_list import read_devices
from mkllm.runtime.hardware.devices import INTEGRATED, Look
from mkllm.runtime.hardware.rank import rank
from mkllm.runtime.hardware.variants import VARIANTS
from mkllm.runtime.platform.macos import sysctl
from mkllm.runtime.platform.macos.facts import facts

GIB = 1 << 30
# The form is that of the manual pages sysctl(8) and vm_stat(1), the numbers are the makers'.
M1 = """\
machdep.cpu.brand_string: Apple M1
hw.logicalcpu: 8
hw.activecpu: 8
hw.physicalcpu: 8
hw.nperflevels: 2
hw.perflevel0.physicalcpu: 4
hw.perflevel0.l1dcachesize: 131072
hw.perflevel0.l2cachesize: 12582912
hw.memsize: 17179869184
hw.optional.arm.FEAT_DotProd: 1
hw.optional.arm.FEAT_FP16: 1
hw.optional.arm.FEAT_BF16: 0
hw.optional.arm.FEAT_I8MM: 0
"""
M4 = (
    M1.replace("Apple M1", "Apple M4")
    .replace("physicalcpu: 8", "physicalcpu: 10")
    .replace("cpu: 8", "cpu: 10")
    .replace("FEAT_I8MM: 0", "FEAT_I8MM: 1\nhw.optional.arm.FEAT_SME: 1")
    .replace("FEAT_BF16: 0", "FEAT_BF16: 1")
)
VM_STAT = """\
Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                               20000.
Pages active:                            300000.
Pages inactive:                          290000.
Pages speculative:                         1000.
Pages throttled:                              0.
Pages wired down:                        120000.
Pages purgeable:                           5000.
"Translation faults":                 123456789.
"""
UNKNOWN = "sysctl: unknown oid 'hw.optional.arm.FEAT_SME'"
DEVICES = """\
ggml_metal_device_init: GPU name:   MTL0 (Apple M1)
ggml_metal_device_init: has unified memory    = true
ggml_metal_device_init: has bfloat            = true
Available devices:
  MTL0: Apple M1 (11453 MiB, 11452 MiB free)
"""


@pytest.fixture
def mac(tmp_path, monkeypatch):
    """`mac(sysctl, vm_stat)`: its facts; a script says those words, and what it does not know as sysctl does."""
    monkeypatch.setattr(sysctl, "SECONDS", 5.0)
    monkeypatch.setattr(os, "uname", lambda: type("Name", (), {"machine": "arm64"})())

    def looking(values, memory=VM_STAT):
        for name, words in {"SYSCTL": values, "VM_STAT": memory}.items():
            script = tmp_path / name.lower()
            script.write_text(f"#!/bin/sh\ncat <<'END'\n{words}END\necho \"{UNKNOWN}\" >&2\nexit 1\n")
            script.chmod(0o755)
            monkeypatch.setattr(sysctl, name, str(script))
        return facts()

    return looking


def test_a_mac(mac):
    seen = mac(M1)
    assert (seen.machine, seen.cpu_vendor, seen.cpu_model) == ("arm64", "Apple", "Apple M1")
    assert seen.cpu_flags == {"asimddp", "asimdhp"}
    assert (seen.cpus, seen.cpus_online, seen.cores, seen.fast_cores, seen.threads) == (8, 8, 8, 4, 4)
    assert seen.caches == {"L1": 128 << 10, "L2": 12 << 20}
    assert (seen.memory_total, seen.memory_available) == (16 * GIB, 311_000 * 16384)
    assert seen.memory_limit is None and seen.notes == ()


def test_what_newer_ones_can_do(mac):
    seen = mac(M4)
    assert seen.cpu_flags == {"asimddp", "asimdhp", "bf16", "i8mm", "sme"} and seen.cores == seen.cpus == 10


def test_cores_of_one_kind_are_all_fast(mac):
    seen = mac(M1.replace("nperflevels: 2", "nperflevels: 1"))
    assert seen.fast_cores is None and seen.threads == 8


def test_its_programs_are_asked_for_these_names_alone(tmp_path, monkeypatch):
    script = tmp_path / "sysctl"
    script.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked; echo "hw.memsize: 5"; echo "other.name: 6"\n')
    script.chmod(0o755)
    monkeypatch.setattr(sysctl, "SYSCTL", str(script))
    assert sysctl.values() == {"hw.memsize": "5"}
    assert (tmp_path / "asked").read_text().split() == list(sysctl.NAMES)


def test_what_cannot_be_seen_is_noted(mac, tmp_path, monkeypatch):
    seen = mac("", "Pages free: 5.\n")
    assert (seen.cpu_model, seen.cores, seen.memory_available) == ("unknown", os.cpu_count(), 0)
    assert [note.partition(":")[0] for note in seen.notes] == ["processor unknown", "memory unknown"]
    monkeypatch.setattr(sysctl, "VM_STAT", str(tmp_path / "none"))
    assert "No such file or directory" in facts().notes[1]
    (tmp_path / "sysctl").write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(sysctl, "SECONDS", 0.2)
    assert facts().notes[0].endswith("did not answer within 0 s")


@pytest.mark.parametrize("text", ["", VM_STAT.replace("16384", "many"), VM_STAT.replace("Pages free", "Pages")])
def test_memory_that_is_not_told(text):
    with pytest.raises(ValueError, match="does not say how many pages are free"):
        sysctl.parse_free(text)


@pytest.mark.parametrize(("values", "kernel"), [(M1, "cpu-apple_m1"), (M4, "cpu-apple_m4")])
def test_metal_comes_first_and_the_cpu_stays(mac, values, kernel):
    backends = [Backend(row.name, row.name) for row in VARIANTS if row.machine == "arm64"]
    devices = read_devices(DEVICES)
    assert [(device.name, device.kind) for device in devices] == [("MTL0", INTEGRATED)]
    seen = replace(mac(values), gpus=(Look("metal", devices),))
    first, second, *_ = rank(seen, [*backends, Backend("metal", "metal")]).choices
    assert (first.name, second.name) == ("metal", kernel) and first.words[:2] == ("--device", "MTL0")
    assert [backend.name for backend in first.beside] == [kernel]
    assert rank(mac(values), backends).choices[0].name == kernel
