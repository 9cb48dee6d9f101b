"""Compares the kit's compiler with the system's gcc, kernel by kernel, and writes the table of spec/compiler.md.

    python tests/bench/compiler.py --out spec/compiler.md

Needs the work folder of a native part that was built here (`mkllm kit build --keep-work`; of one that is built already
nothing is compiled: remove its folder from `parts` in the cache first), g++ and gcc. One CPU variant is compiled
again with gcc's and with any other flags (`--also NAME='FLAGS'`), from the same sources with the same commands; as a
module is loaded through a C interface, the same engine runs them all. Runs are interleaved: in every round each
contestant runs once, in turning order. gcc's module takes part twice, the second time as a copy: how far the two
are apart is how far the figures can be trusted.
"""

import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mkllm.builder import cache
from mkllm.builder.kit.native import ENGINE, Places
from mkllm.builder.kit.variants import best, host_flags

HERE = Path(__file__).parent
KIT, GCC, CONTROL = "zig", "gcc", "gcc again"
REPACKED = ("Q4_0", "Q4_K")  # types that x86 variants have an interleaved layout for
TYPES = ("Q4_0", "Q4_K", "Q6_K", "Q8_0", "F16", "BF16")


@dataclass(frozen=True)
class Kernel:
    """What is measured: weights of a type, repacked or as they lie in the file, prompt or generation."""

    type: str
    repacked: bool
    phase: str

    def __str__(self) -> str:
        return f"{self.type} {'repacked' if self.repacked else 'mapped'}, {self.phase}"


@dataclass(frozen=True)
class Settings:
    """How much is measured: `prompt` and `generate` tokens, by `threads`, `repeat` times in each of `rounds`."""

    rounds: int
    repeat: int
    prompt: int
    generate: int
    threads: int
    prefix: tuple[str, ...]


Speeds = dict[Kernel, dict[str, list[float]]]  # tokens per second, one value a round


def compile_module(places: Places, variant: str, compilers: tuple[str, str], flags: str, out: Path) -> Path:
    """Compile one CPU variant into `out` with another compiler or further flags; returns the module."""
    out.mkdir(parents=True, exist_ok=True)
    commands = json.loads((places.build / "compile_commands.json").read_text())
    own = [entry for entry in commands if f"ggml-cpu-{variant}.dir" in entry["output"] or _is_features(entry, variant)]
    jobs = [_command(entry, compilers, flags, out) for entry in own]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda job: subprocess.run(job, check=True, cwd=places.build), jobs))
    module = out / f"libggml-cpu-{variant}.so"
    objects = [job[job.index("-o") + 1] for job in jobs]
    libraries = [str(places.build / "bin" / "libggml-base.so"), "-lpthread", "-lm"]
    link = [compilers[1], "-shared", "-s", "-Wl,-Bsymbolic", "-o", str(module), *objects, *libraries]
    subprocess.run(link, check=True)
    return module


def _is_features(entry: Mapping[str, str], variant: str) -> bool:
    return f"ggml-cpu-{variant}-feats.dir" in entry["output"]


def _command(entry: Mapping[str, str], compilers: tuple[str, str], flags: str, out: Path) -> list[str]:
    words = [word for word in shlex.split(entry["command"]) if not word.startswith("-W")]
    source = Path(entry["file"])
    words[0] = compilers[0] if source.suffix == ".c" else compilers[1]
    if compilers[0] == GCC:
        words = _without_pairs(words, ("-mllvm", "-include"))  # what is applied for clang
    words[words.index("-o") + 1] = str(out / f"{source.parent.name}-{source.name}.o")
    return [*words, *shlex.split(flags)]


def _without_pairs(words: Sequence[str], names: Sequence[str]) -> list[str]:
    """The words without those named and what follows each."""
    pairs = zip(["", *words], words, strict=False)
    return [word for before, word in pairs if not {before, word} & set(names)]


def measure(
    engine: Path, modules: Mapping[str, Path], models: Path, types: Sequence[str], settings: Settings
) -> Speeds:
    """Run every contestant on every kernel, in rounds."""
    speeds: Speeds = {}
    for type in types:
        for repacked in (True, False) if type in REPACKED else (False,):
            for number in range(settings.rounds):
                names = list(modules)
                for name in names[number % len(names) :] + names[: number % len(names)]:
                    run = _bench(engine, modules[name], models / f"{type}.gguf", repacked, settings)
                    for phase, speed in run.items():
                        speeds.setdefault(Kernel(type, repacked, phase), {}).setdefault(name, []).append(speed)
            for kernel in (Kernel(type, repacked, "prompt"), Kernel(type, repacked, "generation")):
                print(kernel, {name: f"{statistics.median(s):.2f}" for name, s in speeds[kernel].items()}, flush=True)
    return speeds


def _bench(engine: Path, module: Path, model: Path, repacked: bool, settings: Settings) -> dict[str, float]:
    """Best tokens per second of the repetitions, by phase: whoever disturbs only ever makes it slower."""
    words = [*settings.prefix, engine, "bench", "-m", model, "-t", settings.threads, "-r", settings.repeat]
    words += ["-p", settings.prompt, "-n", settings.generate, "--repack", int(repacked), "-o", "json"]
    environment = {**os.environ, "MKLLM_BACKENDS": str(module)}
    done = subprocess.run(list(map(str, words)), env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{shlex.join(map(str, words))}: {done.stderr}")
    runs = json.loads(done.stdout)
    return {"prompt" if run["n_prompt"] else "generation": max(run["samples_ts"]) for run in runs}


def make_models(folder: Path, shape: str, types: Sequence[str]) -> None:
    """One file of random weights for each type, all tensors of that type."""
    for type in types:
        path = folder / f"{type}.gguf"
        if not path.exists():
            script = HERE / "random_gguf.py"
            subprocess.run([sys.executable, script, "--shape", shape, "--type", type, "--pure", path], check=True)


def table(speeds: Speeds) -> str:
    """Markdown: the best tokens per second, and the ratios to gcc: of the bests, and the median of the rounds."""
    names = list(next(iter(speeds.values())))
    others = [name for name in names if name != GCC]
    heads = [f"{name} / gcc, {what}" for what in ("best", "median") for name in others]
    lines = ["| " + " | ".join(["kernel", *names, *heads]) + " |"]
    lines.append("|---" * (1 + len(names) + len(heads)) + "|")
    for kernel, by_name in speeds.items():
        best = {name: max(by_name[name]) for name in names}
        cells = [f"{best[name]:.1f}" for name in names]
        cells += [f"{best[name] / best[GCC]:.3f}" for name in others]
        for name in others:
            pairs = zip(by_name[name], by_name[GCC], strict=True)
            cells.append(f"{statistics.median(mine / gcc for mine, gcc in pairs):.3f}")
        lines.append(f"| {kernel} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def processor() -> str:
    """What the machine says it is."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return f"{facts['model name']} (family {facts['cpu family']}, model {facts['model']})"


def version(compiler: str) -> str:
    """The first line that a compiler says of itself."""
    return subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=cache.root() / "work" / "native")
    parser.add_argument("--variant", default=best(host_flags()))
    parser.add_argument("--shape", default="300m")
    parser.add_argument("--types", nargs="+", default=TYPES, choices=TYPES)
    parser.add_argument("--also", action="append", default=[], metavar="NAME=FLAGS", help="zig with further flags")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--repeat", type=int, default=8)
    parser.add_argument("--prompt", type=int, default=24)
    parser.add_argument("--generate", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--prefix", default="", help="words before the engine's, such as 'chrt -f 10'")
    parser.add_argument("--keep", type=Path, help="folder for modules and models, to be used again")
    parser.add_argument("--out", type=Path, help="file whose part between the markers is written")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        places = Places(given.work)
        modules = contestants(places, given.variant, dict(pair.split("=", 1) for pair in given.also), folder)
        models = folder / given.shape
        models.mkdir(parents=True, exist_ok=True)
        make_models(models, given.shape, given.types)
        prefix = tuple(shlex.split(given.prefix))
        settings = Settings(given.rounds, given.repeat, given.prompt, given.generate, given.threads, prefix)
        speeds = measure(places.build / "bin" / ENGINE, modules, models, given.types, settings)
    text = report(speeds, places, given.variant, given.shape, settings)
    print(text)
    if given.out:
        _replace(given.out, text)


def contestants(places: Places, variant: str, also: Mapping[str, str], folder: Path) -> dict[str, Path]:
    """Modules by name: gcc's, the kit's own, and the kit's compiler with other flags."""
    wrappers = (str(places.wrappers / "cc"), str(places.wrappers / "cxx"))
    modules = {GCC: folder / GCC, KIT: places.build / "bin" / f"libggml-cpu-{variant}.so"}
    builds = {GCC: (("gcc", "g++"), ""), **{name: (wrappers, flags) for name, flags in also.items()}}
    for name, (compilers, flags) in builds.items():
        module = folder / name / f"libggml-cpu-{variant}.so"
        modules[name] = module if module.exists() else compile_module(places, variant, compilers, flags, folder / name)
    modules[CONTROL] = folder / CONTROL / modules[GCC].name
    modules[CONTROL].parent.mkdir(exist_ok=True)
    shutil.copyfile(modules[GCC], modules[CONTROL])
    return modules


def report(speeds: Speeds, places: Places, variant: str, shape: str, settings: Settings) -> str:
    """The table with what it was measured on."""
    gcc, zig = version("gcc"), version(str(places.wrappers / "cc"))
    return (
        f"Variant `{variant}`, {processor()}; {gcc}; {zig}. Shape `{shape}`, {settings.threads} thread, "
        f"{settings.prompt} tokens of prompt and {settings.generate} generated; tokens/s, the best of "
        f"{settings.rounds} interleaved rounds of {settings.repeat} runs each.\n\n"
        f"{table(speeds)}"
    )


def _replace(path: Path, text: str) -> None:
    before, begin, rest = path.read_text().partition("<!-- table -->\n")
    _, end, after = rest.partition("<!-- end -->")
    if not begin or not end:
        sys.exit(f"{path} has no lines '<!-- table -->' and '<!-- end -->' to write between")
    path.write_text(f"{before}{begin}{text}\n{end}{after}")


if __name__ == "__main__":
    main()
