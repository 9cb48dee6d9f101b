"""Tuning: what the first launch chooses on this machine, against llama-server's defaults and every single fixed choice.

Usage: python tests/bench/tuning.py [--rounds N] [--kernels N] [--neighbours N] [--flash] MODEL.gguf...

All contestants run the whole model, with the engine of the current kit: in every round each runs once, in turning
order, and the medians are compared. The choice itself was measured on a slice of the model, within three seconds.
With neighbours, that many processes burn time meanwhile, during the tuning too. With --flash every choice runs with
flash attention on and off too, which takes memory for two engines of each.
"""

import argparse
import os
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from measure import median, report

from mkllm.builder.kit.kit import Kit
from mkllm.builder.kit.store import find_kit
from mkllm.runtime.artifact.manifest import Backend
from mkllm.runtime.engine.measure import Bench, Laboratory
from mkllm.runtime.engine.placed import Placed, Weights
from mkllm.runtime.hardware.probe import probe
from mkllm.runtime.hardware.rank import Choice, rank
from mkllm.runtime.hardware.settings import Settings, Settled, Trial, Tuning
from mkllm.runtime.hardware.tune import tune

CHOSEN, DEFAULTS = "chosen here", "llama-server's defaults"
FLASH = {None: "", True: ", flash attention", False: ", no flash attention"}
PROMPT, GENERATE_MS = 64, 1000
COLUMNS = ["", "prompt", "generation", "turn", "of the best"]


@dataclass(frozen=True)
class InKit:
    """The engine where the kit has it, and its modules."""

    kit: Kit

    def place(self, choice: Choice) -> Placed:
        return Placed(self.kit.engine, (self.kit.module(choice.backend.member),))


def contestants(
    tuning: Tuning, choices: Sequence[Choice], threads: int, cpus: int, flashes: Sequence[bool | None]
) -> dict[str, Settings]:
    """By name: ours, the defaults (the best kernel, repacked, physical cores), and every fixed choice of the rest."""
    found = {CHOSEN: tuning.settings, DEFAULTS: Settings(choices[0].name, threads, threads, repack=True)}
    for choice in choices:
        for repack, number, flash in product((False, True), sorted({1, threads, cpus}), flashes):
            words = f"{choice.name}, {'repacked' if repack else 'mapped'}, {number} thread{'s' * (number > 1)}"
            found[words + FLASH[flash]] = Settings(choice.name, number, number, repack, flash)
    return found


def joined(entries: dict[str, Settings]) -> dict[str, Settings]:
    """Those that mean the same are measured as one, under all their names."""
    found: dict[object, tuple[list[str], Settings]] = {}
    for name, settings in entries.items():
        same = (*engine_of(settings), settings.threads, settings.threads_batch)
        found.setdefault(same, ([], settings))[0].append(name)
    return {" = ".join(names): settings for names, settings in found.values()}


def measured(
    model: Path, rounds: int, kernels: int, flashes: Sequence[bool | None]
) -> tuple[Tuning, dict[str, list[Trial]]]:
    facts, kit = probe(), find_kit("linux-x86_64")
    backends = [Backend(name, member) for name, member in kit.backends if name.startswith("cpu-")]
    all_choices = rank(facts, backends).choices
    choices = list(all_choices[:kernels])
    descriptor = os.open(model, os.O_RDONLY)
    laboratory = Laboratory(InKit(kit), Weights(descriptor, 0, model.stat().st_size), None)
    warm(model)
    tuning = tune(all_choices, Settled(facts.threads), facts, laboratory, "quick")
    own = [choice for choice in all_choices if choice.name == tuning.settings.kernel and choice not in choices]
    choices = [*choices, *own]
    entries = joined(contestants(tuning, choices, facts.threads, facts.cpus, flashes))
    benches: dict[tuple[str, bool, bool], Bench] = {}
    for settings in entries.values():
        if engine_of(settings) not in benches:
            choice = next(choice for choice in choices if choice.name == settings.kernel)
            bench = benches[engine_of(settings)] = laboratory.open_whole(choice)
            bench.load(settings.repack)
            bench.context(1024, 512, settings.flash is not False)
    samples: dict[str, list[Trial]] = {name: [] for name in entries}
    names = list(entries)
    for turn in range(rounds + 1):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            trial = once(benches[engine_of(entries[name])], entries[name])
            samples[name] += [trial] if turn else []
    for bench in benches.values():
        bench.close()
    laboratory.close()
    return tuning, samples


def engine_of(settings: Settings) -> tuple[str, bool, bool]:
    """What one engine is started with."""
    return settings.kernel, settings.repack, settings.flash is not False


def once(bench: Bench, settings: Settings) -> Trial:
    bench.times(1)
    bench.threads(settings.threads_batch)
    prompt = PROMPT / min(bench.prompt(PROMPT, 1))
    bench.threads(settings.threads)
    generation = 1 / median(bench.generate(GENERATE_MS))
    return Trial("", settings, prompt, generation)


def warm(model: Path) -> None:
    with model.open("rb", buffering=0) as file:
        while file.read(1 << 24):
            pass


def rows(samples: dict[str, list[Trial]]) -> list[list[str]]:
    middle = {
        name: replace(
            trials[0], prompt=median([t.prompt for t in trials]), generation=median([t.generation for t in trials])
        )
        for name, trials in samples.items()
    }
    best = min(trial.turn for trial in middle.values())
    order = sorted(middle, key=lambda name: (not name.startswith((CHOSEN, DEFAULTS)), middle[name].turn))
    return [
        [
            name,
            f"{(trial := middle[name]).prompt:.1f}",
            f"{trial.generation:.2f}",
            f"{trial.turn:.1f} s",
            f"{best / trial.turn:.2f}",
        ]
        for name in order
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kernels", type=int, default=2)
    parser.add_argument("--neighbours", type=int, default=0)
    parser.add_argument("--flash", action="store_true")
    told = parser.parse_args()
    for model in told.models:
        with ExitStack() as stack:
            for _ in range(told.neighbours):
                process = stack.enter_context(subprocess.Popen(["sh", "-c", "while :; do :; done"]))
                stack.callback(process.kill)
            tuning, samples = measured(model, told.rounds, told.kernels, (True, False) if told.flash else (None,))
        beside = f", beside {told.neighbours} busy neighbours" if told.neighbours else ""
        text = (
            f"Whole model, tokens a second of a prompt of {PROMPT} and of generation, medians of {told.rounds} "
            f"rounds in turn{beside}; a turn reads 512 tokens and writes 256; the last column is the speed of a turn "
            f"against the best. The choice took {tuning.seconds:.1f} s: {tuning.settings}. Notes: "
            f"{'; '.join(tuning.notes) or 'none'}."
        )
        name = model.stem + ("-busy" if told.neighbours else "")
        report(f"tuning-{name}", f"Tuning of {model.stem}", text, COLUMNS, rows(samples))


if __name__ == "__main__":
    main()
