"""What is run on this project: `nox` runs the checks and all tests, `nox -s NAME` one session."""

import os

import nox

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["lint", "types", "tests", "end_to_end"]
nox.options.error_on_missing_interpreters = True

TESTS = ["pytest>=8", "pytest-asyncio>=0.24", "hypothesis>=6"]
# The official clients and a browser driver; the browser itself is the machine's.
CLIENTS = ["openai>=1.50", "anthropic>=0.40", "playwright>=1.45"]
CACHE = {"MKLLM_CACHE": os.environ["MKLLM_CACHE"]} if "MKLLM_CACHE" in os.environ else {}


def install(session: nox.Session, *extra: str) -> None:
    """The package itself, not editable, so that what is tested is what is shipped."""
    session.install(".[kit,runtime]", *extra)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and common mistakes."""
    session.install("ruff>=0.8")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Static types, strictly, on the installed package."""
    install(session, "mypy>=1.13", "types-psutil")
    session.run("mypy", "--strict", "-p", "mkllm.builder", "-p", "mkllm.runtime")


@nox.session
def tests(session: nox.Session) -> None:
    """Tests of the modules: seconds each, no kit."""
    install(session, *TESTS)
    session.run("pytest", "--ignore=tests/end_to_end", "--ignore=tests/bench", *session.posargs, env=CACHE)


@nox.session
def kit(session: nox.Session) -> None:
    """Build the kit for this machine's system, or find it in the cache."""
    install(session)
    session.run("mkllm", "kit", "build", *session.posargs, env=CACHE)


@nox.session
def end_to_end(session: nox.Session) -> None:
    """The real kit, the default model, built artifacts, official clients and a browser."""
    install(session, *TESTS, *CLIENTS)
    session.run("mkllm", "kit", "build", env=CACHE)
    session.run("pytest", "tests/end_to_end", *session.posargs, env=CACHE)


@nox.session
def bench(session: nox.Session) -> None:
    """Speed and memory against the peers; writes the tables under tests/bench/."""
    install(session, "numpy>=1.26", "gguf>=0.10")
    session.run("mkllm", "kit", "build", env=CACHE)
    session.run("python", "tests/bench/run.py", *session.posargs, env=CACHE)
