"""The environment of other programs: this process's own, without what would steer them unseen."""

from collections.abc import Mapping

from mkllm.runtime.engine.placed import Placed
from mkllm.runtime.platform.children import SEPARATOR

FREEZING = ("_PYI_", "_MEI", "PYINSTALLER_")
STEERING = ("LLAMA_", "MKLLM_", "AIP_", "PYTHON")
# A defect that ggml finds shall end it at once: else it has a debugger look at it, if there is one, and waits for that.
FIXED = {"GGML_NO_BACKTRACE": "1"}
STEERING_NAMES = frozenset(
    {"GGML_BACKEND_PATH", "HF_TOKEN", "LD_LIBRARY_PATH", "LD_LIBRARY_PATH_ORIG", "NOTIFY_SOCKET"}
)


def cleaned(environment: Mapping[str, str], frozen_home: str | None) -> dict[str, str]:
    """What a program that is not ours should see: as the user's shell has it, before the frozen runtime touched it.

    `frozen_home` is the folder that the frozen runtime's own libraries are in; it must not reach other programs.
    """
    kept = {name: value for name, value in environment.items() if not name.startswith(FREEZING)}
    path = kept.pop("LD_LIBRARY_PATH_ORIG", kept.pop("LD_LIBRARY_PATH", ""))
    kept.pop("LD_LIBRARY_PATH", None)
    folders = [folder for folder in path.split(":") if folder and folder != frozen_home]
    if folders:
        kept["LD_LIBRARY_PATH"] = ":".join(folders)
    return kept


def for_engine(environment: Mapping[str, str], frozen_home: str | None, libraries: str | None) -> dict[str, str]:
    """`cleaned`, without variables that llama.cpp reads as arguments; `libraries` is a folder to search first."""
    base = cleaned(environment, frozen_home)
    path = ":".join(folder for folder in (libraries, base.get("LD_LIBRARY_PATH")) if folder)
    kept = {name: value for name, value in base.items() if not name.startswith(STEERING) and name not in STEERING_NAMES}
    return {**kept, **FIXED, **({"LD_LIBRARY_PATH": path} if path else {})}


def for_placed(environment: Mapping[str, str], placed: Placed, frozen_home: str | None) -> dict[str, str]:
    """`for_engine`, with what the engine where it was placed must be told: its backends, and what is for these."""
    base = for_engine(environment, frozen_home, str(placed.libraries) if placed.libraries else None)
    return {**base, **placed.environment, "MKLLM_BACKENDS": SEPARATOR.join(str(module) for module in placed.modules)}
