"""`-p`: an answer on standard output, JSON for programs, standard input, and exit codes for pipes."""

import json
import subprocess
from pathlib import Path

LOADER = "/lib64/ld-linux-x86-64.so.2"


def run(demo: Path, *args: str, text: str = "", status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([demo, *args], capture_output=True, text=True, input=text, timeout=60)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done


def test_an_answer_and_nothing_else(demo: Path) -> None:
    answer = run(demo, "-p", "How do I build an executable from a GGUF?", "--temperature", "0").stdout
    assert "mkllm build" in answer and answer.endswith("\n") and answer.count("\n") <= 3


def test_the_loader_may_be_asked_to_run_it(demo: Path) -> None:
    """As some launchers do; /proc/self/exe is the loader then."""
    asked = ["-p", "What is mkllm?", "--temperature", "0"]
    done = subprocess.run([LOADER, demo, *asked], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
    assert (done.returncode, done.stdout) == (0, run(demo, *asked).stdout), done.stderr


def test_json_for_programs(demo: Path) -> None:
    found = json.loads(run(demo, "-p", "hello", "--json", "--temperature", "0").stdout)
    assert found["text"] and found["tokens"]["generated"] > 0 and found["tokens"]["prompt"] > 0
    assert found["model"] == "demo" and found["kernel"].startswith("cpu-") and "timings" in found


def test_standard_input(demo: Path) -> None:
    assert (
        run(demo, "-p", "-", "--temperature", "0", text="What is mkllm?").stdout
        == run(demo, "-p", "What is mkllm?", "--temperature", "0").stdout
    )


def test_a_prompt_longer_than_the_context(demo: Path) -> None:
    failed = run(demo, "-p", "-", text="word " * 30_000, status=43)
    assert len(failed.stderr.splitlines()) == 1 and failed.stdout == ""


def test_a_reader_that_goes_away(demo: Path) -> None:
    done = subprocess.run(
        f"'{demo}' -p 'What is mkllm?' | head -c 1", shell=True, capture_output=True, text=True, timeout=60
    )
    assert len(done.stdout) == 1 and "Traceback" not in done.stderr


def test_wrong_usage(demo: Path) -> None:
    assert "no such option" in run(demo, "--no-such-flag", status=2).stderr.lower()
