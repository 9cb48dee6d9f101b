"""Runs the benchmarks (launch, build, memory, prepacking, tuning) on models of real shapes with random weights.

Usage: python tests/bench/run.py [FOLDER]   (where the models are kept; 6 GB, default: a temporary folder)
"""

import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
MODELS = {"1b-q4_0": ("1b", "Q4_0"), "mistral-7b-q4_0": ("mistral-7b", "Q4_0")}
RUNS = [
    ("launch.py", "1b-q4_0"),
    ("launch.py", "mistral-7b-q4_0"),
    ("memory.py", "mistral-7b-q4_0"),
    ("building.py", "mistral-7b-q4_0"),
    ("prepack.py", "1b-q4_0"),
    ("prepack.py", "mistral-7b-q4_0"),
    ("tuning.py", "1b-q4_0"),
    ("tuning.py", "mistral-7b-q4_0"),
]


def run(program: str, *args: str | Path) -> None:
    subprocess.run([sys.executable, HERE / program, *args], check=True)


def main(folder: Path) -> None:
    for name, (shape, kind) in MODELS.items():
        path = folder / f"{name}.gguf"
        if not path.exists():
            run("random_gguf.py", "--shape", shape, "--type", kind, path)
    for program, name in RUNS:
        run(program, folder / f"{name}.gguf")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as made:
            main(Path(made))
