"""Which GPUs get how much of a model, in what words: the boxes of gpu_boxes.toml, and what the user says to that."""

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mkllm.runtime.artifact.manifest import Backend
from mkllm.runtime.hardware.devices import KINDS, Device, Look
from mkllm.runtime.hardware.offload import Burden, Offload, gibibytes, offload, with_gpu_memory
from mkllm.runtime.hardware.probe import Facts, probe
from mkllm.runtime.hardware.rank import Choice, Ranking, rank
from mkllm.runtime.hardware.variants import VARIANTS

GIB = 1 << 30
TABLE = tomllib.loads(Path(__file__).with_name("gpu_boxes.toml").read_text("utf-8"))
BOXES: dict[str, dict[str, Any]] = {box["name"]: box for box in TABLE["box"]}
CPU = tuple(Backend(row.name, f"native/lib{row.name}.so") for row in VARIANTS if row.machine == "x86_64")
VULKAN = Backend("vulkan", "native/libggml-vulkan.so")
MISTRAL = Burden(weights=4_100_000_000, layers=32, layer=120_000_000, caches=GIB, buffers=100 << 20)


def facts(box: dict[str, Any]) -> Facts:
    devices = tuple(
        Device(f"Vulkan{index}", about, kind, None, int(total * GIB), int(free * GIB))
        for index, (about, kind, total, free) in enumerate(box.get("gpus", ()))
    )
    free = box.get("memory", 48) * GIB
    return Facts(
        machine="x86_64",
        cpu_flags=frozenset(TABLE["flags"][box["flags"]].split()),
        memory_total=64 * GIB,
        memory_available=free,
        gpus=(Look("vulkan", devices, box.get("trouble")),),
    )


def ranked(name: str, only: str | None = None, **asked: Any) -> Ranking:
    return rank(facts(BOXES[name]), (*CPU, VULKAN), only, burden=replace(MISTRAL, **asked))


def test_a_projector_takes_its_place_on_a_gpu() -> None:
    machine = facts({"flags": next(iter(TABLE["flags"])), "gpus": [["A", "discrete", 6, 6]]})
    found = [offload(replace(MISTRAL, projector=size), machine.gpus[0].devices, machine) for size in (0, GIB)]
    plain, projecting = (one for one in found if isinstance(one, Offload))
    assert plain.whole and not projecting.whole and projecting.layers > 0


def best(ranking: Ranking) -> Choice:
    choice = ranking.choices[0]
    assert choice.name == "vulkan", ranking.notes
    return choice


def told(choice: Choice) -> dict[str, str]:
    return dict(zip(choice.words[::2], choice.words[1::2], strict=True))


@pytest.mark.parametrize("name", [name for name, box in BOXES.items() if "reason" in box])
def test_a_box_whose_gpu_is_used(name: str) -> None:
    box, ranking = BOXES[name], ranked(name)
    choice = best(ranking)
    assert choice.sentence == f"vulkan ({box['reason']})"
    assert told(choice) == {"--device": box["devices"], "--n-gpu-layers": box["layers"]}
    assert [backend.name for backend in choice.beside] == [box.get("beside", "cpu-haswell")]
    assert ranking.notes == ()


@pytest.mark.parametrize("name", [name for name, box in BOXES.items() if "skipped" in box])
def test_a_box_whose_gpu_is_not_used(name: str) -> None:
    ranking = ranked(name)
    assert ranking.choices[0].sentence == "cpu-haswell (AVX2; best of 14)" and ranking.choices[0].words == ()
    assert ranking.notes == (f"vulkan: skipped, {BOXES[name]['skipped']}",)


@pytest.mark.parametrize("name", BOXES)
def test_the_cpu_is_there_when_the_gpu_fails(name: str) -> None:
    """In the same order and words as without a GPU."""
    without = rank(facts(BOXES[name]), CPU)
    ranking = ranked(name)
    assert [choice for choice in ranking.choices if choice.name != "vulkan"] == list(without.choices)
    assert len(ranking.choices) + len(ranking.rejections) == 15


def test_a_software_renderer_by_name() -> None:
    ranking = ranked("a software renderer alone", only="vulkan")
    assert best(ranking).sentence == "vulkan (llvmpipe, 32 GiB; all 32 layers)"
    reasons = {rejection.name: rejection.reason for rejection in ranking.rejections}
    assert len(ranking.choices) == 1 and reasons["cpu-haswell"] == "skipped, 'vulkan' was asked for"


def test_a_kernel_of_the_cpu_by_name_needs_no_look_and_no_note() -> None:
    seen = replace(facts(BOXES["a gaming machine"]), gpus=())
    ranking = rank(seen, (*CPU, VULKAN), "cpu-x64")
    assert [choice.name for choice in ranking.choices] == ["cpu-x64"] and ranking.notes == ()


def test_gpus_that_nobody_looked_at_are_not_used() -> None:
    ranking = rank(replace(facts(BOXES["a gaming machine"]), gpus=()), (*CPU, VULKAN))
    assert ranking.notes == ("vulkan: skipped, this machine's GPUs were not looked at",)


def test_a_machine_that_runs_no_kernel_of_the_cpu_runs_none_on_a_gpu() -> None:
    ranking = rank(replace(facts(BOXES["a gaming machine"]), machine="aarch64"), (*CPU, VULKAN))
    assert not ranking.choices and "no kernel for the CPU" in ranking.notes[0]


@pytest.mark.parametrize(
    "asked,reason",
    [
        ({"asked_layers": 11}, "NVIDIA GeForce RTX 3060, 12 GiB; 10 of 32 layers, the rest on cpu-haswell"),
        ({"asked_layers": 99}, "NVIDIA GeForce RTX 3060, 12 GiB; all 32 layers"),
        ({"asked_devices": ("Vulkan0",)}, "NVIDIA GeForce RTX 3060, 12 GiB; all 32 layers"),
    ],
)
def test_what_the_user_tells_the_engine_is_what_is_said(asked: dict[str, Any], reason: str) -> None:
    assert best(ranked("a gaming machine", **asked)).reason == reason


@pytest.mark.parametrize(
    "asked,why",
    [
        ({"asked_layers": 0}, "no layers on GPUs were asked for"),
        ({"asked_devices": ("none",)}, "no layers on GPUs were asked for"),
        ({"asked_devices": ("Vulkan7",)}, "'Vulkan7' was asked for, it has Vulkan0"),
    ],
)
def test_what_the_user_does_not_want(asked: dict[str, Any], why: str) -> None:
    assert ranked("a gaming machine", **asked).notes == (f"vulkan: skipped, {why}",)


def test_the_words_of_a_choice_come_before_the_users() -> None:
    choice = best(ranked("a gaming machine"))
    words = choice.arguments(("serve", "-m", "x", "--device", "Vulkan1"))
    assert words == ("serve", "--device", "Vulkan0", "--n-gpu-layers", "999", "-m", "x", "--device", "Vulkan1")


def test_a_model_that_does_not_say_how_many_layers_it_has_is_taken_whole_or_not_at_all() -> None:
    assert best(ranked("a gaming machine", layers=0, layer=0)).reason.endswith("; all layers")
    assert "hold no layer" in ranked("too little memory for all layers", layers=0, layer=0).notes[0]


def test_the_output_is_counted_with_the_layers() -> None:
    """It lies on the GPU first, and may be large: a vocabulary beside small layers."""
    assert best(ranked("too little memory for all layers", layer=60_000_000)).reason.startswith(
        "NVIDIA GeForce RTX 2060"
    )
    assert "22 of 32" in best(ranked("too little memory for all layers", layer=60_000_000)).reason


def test_memory_of_gpus_counts_where_that_of_the_machine_is_too_little() -> None:
    more = with_gpu_memory(facts(BOXES["two GPUs that hold it together"]))
    assert more and more.memory_total == 72 * GIB and more.memory_available == 48 * GIB + int(6.7 * GIB)
    assert with_gpu_memory(facts(BOXES["an integrated GPU alone"])) is None
    assert with_gpu_memory(facts(BOXES["no loader"])) is None


def test_sizes_as_gpus_are_sold() -> None:
    assert [gibibytes(int(count * GIB)) for count in (12, 11.63, 1.5, 2, 0.25)] == [
        *("12 GiB", "12 GiB", "1.5 GiB", "2 GiB", "0.2 GiB")
    ]


def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **told: Any) -> Facts:
    (tmp_path / "machine.json").write_text(json.dumps(told))
    monkeypatch.setenv("MKLLM_PROBE", str(tmp_path / "machine.json"))
    return probe()


def test_gpus_can_be_played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = {"name": "Vulkan0", "description": "A GPU", "kind": "integrated", "memory_total": 9, "memory_free": 8}
    seen = played(tmp_path, monkeypatch, gpus=[{"backend": "vulkan", "devices": [device]}])
    assert seen.gpus == (Look("vulkan", (Device("Vulkan0", "A GPU", "integrated", None, 9, 8),)),)
    seen = played(tmp_path, monkeypatch, gpus=[{"backend": "vulkan", "trouble": "it is gone"}])
    assert seen.gpus == (Look("vulkan", trouble="it is gone"),)


@pytest.mark.parametrize("gpus", ["vulkan", [1], [{}], [{"backend": "vulkan", "devices": [{"colour": "red"}]}]])
def test_a_bad_play_of_gpus_is_named_and_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: object
) -> None:
    seen = played(tmp_path, monkeypatch, gpus=gpus)
    assert seen.gpus == () and "is not used" in seen.notes[-1]


def test_a_device_of_no_known_kind_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = {"name": "Vulkan0", "description": "A GPU", "kind": "quantum"}
    seen = played(tmp_path, monkeypatch, gpus=[{"backend": "vulkan", "devices": [device]}])
    assert seen.gpus == () and ", ".join(KINDS) in seen.notes[-1]


CUDA = Backend("cuda", "native/libggml-cuda.so")
RTX_4090, GTX_1080 = ("NVIDIA GeForce RTX 4090", "8.9"), ("NVIDIA GeForce GTX 1080", "6.1")


def nvidia(*cards: tuple[str, str, float], trouble: str | None = None, **more: Any) -> Facts:
    """A machine with these GPUs (name, compute capability, GiB), seen through both backends; `trouble` is CUDA's."""
    looks = []
    for backend, prefix in (("cuda", "CUDA"), ("vulkan", "Vulkan")):
        devices = tuple(
            Device(
                f"{prefix}{index}",
                name,
                memory_total=int(size * GIB),
                memory_free=int(size * GIB),
                capability=capability if backend == "cuda" else None,
            )
            for index, (name, capability, size) in enumerate(cards)
        )
        troubled = backend == "cuda" and trouble
        looks.append(Look(backend, () if troubled else devices, trouble if troubled else None))
    return replace(facts(BOXES["a gaming machine"]), gpus=tuple(looks), **more)


def of_both(machine: Facts, only: str | None = None) -> Ranking:
    return rank(machine, (*CPU, VULKAN, CUDA), only, burden=MISTRAL)


def test_cuda_comes_before_vulkan_on_nvidias_gpus() -> None:
    ranking = of_both(nvidia((*RTX_4090, 24)))
    assert [choice.name for choice in ranking.choices[:3]] == ["cuda", "vulkan", "cpu-haswell"]
    assert ranking.choices[0].sentence == "cuda (NVIDIA GeForce RTX 4090, 24 GiB; all 32 layers)"
    assert told(ranking.choices[0]) == {"--device": "CUDA0", "--n-gpu-layers": "999"}
    assert ranking.choices[0].beside == ranking.choices[1].beside and ranking.notes == ()


@pytest.mark.parametrize("trouble", ["driver 470.256.02, needs 580", "libcuda.so.1 is not installed"])
def test_vulkan_where_cuda_does_not_start(trouble: str) -> None:
    ranking = of_both(nvidia((*RTX_4090, 24), trouble=trouble))
    assert ranking.choices[0].name == "vulkan" and ranking.notes == (f"cuda: skipped, {trouble}",)


def test_a_gpu_that_is_too_old_for_cuda() -> None:
    ranking = of_both(nvidia((*GTX_1080, 8)))
    assert ranking.choices[0].name == "vulkan"
    assert ranking.notes == ("cuda: skipped, NVIDIA GeForce GTX 1080 has compute capability 6.1, 7.5 is needed",)
    asked = of_both(nvidia((*GTX_1080, 8)), only="cuda")
    assert asked.choices == () and "7.5 is needed" in asked.rejections[0].reason


def test_of_two_unequal_gpus_the_one_that_is_too_old_is_left_out() -> None:
    best_of_both = of_both(nvidia((*GTX_1080, 8), ("NVIDIA GeForce RTX 2060", "7.5", 3))).choices[0]
    assert best_of_both.name == "cuda" and told(best_of_both)["--device"] == "CUDA1"
    assert "of 32 layers, the rest on cpu-haswell" in best_of_both.reason


def test_of_two_unequal_gpus_the_larger_holds_all() -> None:
    choice = of_both(nvidia(("NVIDIA GeForce RTX 2060", "7.5", 6), ("NVIDIA GeForce RTX 5090", "12.0", 32))).choices[0]
    assert (choice.name, told(choice)["--device"]) == ("cuda", "CUDA1") and choice.reason.endswith("all 32 layers")


def test_a_gpu_with_too_little_memory_for_any_layer() -> None:
    ranking = of_both(nvidia(("NVIDIA T400", "7.5", 0.6)))
    assert ranking.choices[0].name == "cpu-haswell"
    assert [note.partition(":")[0] for note in ranking.notes] == ["cuda", "vulkan"]
    assert all(note.endswith("free on NVIDIA T400 hold no layer of the model") for note in ranking.notes)


def test_memory_that_two_backends_see_is_counted_once() -> None:
    machine = nvidia((*RTX_4090, 24))
    more = with_gpu_memory(machine)
    assert more and more.memory_total == machine.memory_total + 24 * GIB
    assert with_gpu_memory(replace(machine, gpus=nvidia((*GTX_1080, 8)).gpus[:1])) is None


@pytest.mark.parametrize(
    "capability,too_old", [("6.1", True), ("7.0", True), ("7.5", False), ("12.0", False), (None, False)]
)
def test_which_gpus_there_is_code_for(capability: str | None, too_old: bool) -> None:
    assert Device("CUDA0", "a GPU", capability=capability).too_old is too_old
