"""llama-cpp-python's ctypes module out of a kit, on the libraries that the kit's own build compiled."""

import contextlib
import ctypes
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from mkllm.builder.errors import NoKit, PermissionFailure
from mkllm.builder.kit.packed import loadable
from mkllm.runtime.artifact.packed import SUFFIX

PACKAGE = "llama_cpp"
VARIABLE = "LLAMA_CPP_LIB_PATH"
PRELOADED = ("libggml-base.so", "libggml.so")  # libllama.so needs them, and they lie in another folder

_loaded: dict[Path, ModuleType] = {}


def load(kit_dir: Path, native: Path | None = None) -> ModuleType:
    """The module `llama_cpp.llama_cpp` of a kit; no numpy is needed. Raises NoKit when it cannot be loaded.

    `native` holds the libraries, `members/native` of the kit by default. No backend is loaded yet: see `load_backend`.
    A `llama_cpp` that is installed in this Python, imported or not, stays what it is.
    """
    place = kit_dir.resolve()
    if place not in _loaded:
        try:
            _loaded[place] = _import(place, native or place / "members" / "native")
        except (OSError, RuntimeError, ImportError) as error:
            raise _unusable(kit_dir, error) from None
    return _loaded[place]


def load_backend(kit_dir: Path, variant: str, native: Path | None = None) -> None:
    """Load a CPU variant, such as `x64`, for computing with the bindings. Raises NoKit when it does not load here."""
    folder = native or kit_dir.resolve() / "members" / "native"
    load(kit_dir, native)
    plain = folder / f"libggml-cpu-{variant}.so"
    try:
        path = loadable(plain if plain.exists() else plain.with_name(plain.name + SUFFIX))
    except (OSError, PermissionFailure) as error:
        raise NoKit(f"{plain.name!r} of {str(folder)!r} cannot be unpacked ({error}): build the kit again") from None
    function = ctypes.CDLL(str(folder / "libggml.so")).ggml_backend_load
    function.argtypes, function.restype = [ctypes.c_char_p], ctypes.c_void_p
    if not function(os.fsencode(path)):
        raise NoKit(f"{str(path)!r} cannot be loaded on this machine: choose another variant, or build the kit again")


def _unusable(kit: Path, error: Exception) -> NoKit:
    if os.path.isdir(kit) and os.statvfs(kit).f_flag & getattr(os, "ST_NOEXEC", 0):
        return NoKit(
            f"the kit {str(kit)!r} lies on a file system from which nothing may be executed (noexec): "
            "set MKLLM_CACHE to a folder on another one and run `mkllm kit build`"
        )
    return NoKit(f"the bindings of the kit {str(kit)!r} cannot be loaded ({error}): build the kit again")


def _import(kit: Path, native: Path) -> ModuleType:
    for name in PRELOADED:
        ctypes.CDLL(str(native / name), mode=ctypes.RTLD_GLOBAL)
    bindings = kit / "bindings"
    with _environment(VARIABLE, str(bindings / PACKAGE / "lib")), _own_package(bindings):
        return importlib.import_module(f"{PACKAGE}.{PACKAGE}")


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextlib.contextmanager
def _own_package(folder: Path) -> Iterator[None]:
    """Within it, `llama_cpp` is the package in `folder`; afterwards it is what it was before."""
    before = _take_modules()
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        _take_modules()
        sys.modules.update(before)


def _take_modules() -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name == PACKAGE or name.startswith(f"{PACKAGE}.")]
    return {name: sys.modules.pop(name) for name in names}
