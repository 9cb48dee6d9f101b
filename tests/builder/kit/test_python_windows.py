"""The Python part for Windows, out of an archive that these tests make and sign."""

import io
import zipfile
from pathlib import Path

import pytest

from mkllm.builder.errors import ToolFailed, WrongHash
from mkllm.builder.kit import python_windows
from mkllm.builder.kit.authenticode import Publisher

from .windows_samples import Signer, program, signer

LIBRARY = {"Lib/os.py": b"import sys\n", "Lib/json/__init__.py": b"", "Lib/json/decoder.py": b"x = 1\n"}


@pytest.fixture(scope="module")
def maker() -> Signer:
    return signer("A Foundation")


@pytest.fixture
def files(maker: Signer, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """All that is to be in the archive."""

    def publishers() -> tuple[Publisher, ...]:
        return (maker.publisher,)

    monkeypatch.setattr(python_windows, "publishers", publishers)
    modules = [f"DLLs/{name}.pyd" for name in python_windows.MODULES]
    signed = {name: maker.sign_program(program(["kernel32.dll"])) for name in (*python_windows.PROGRAMS, *modules)}
    catalogue = maker.catalogue(list(LIBRARY.values()))
    return {**signed, **LIBRARY, python_windows.CATALOGUE: catalogue, "LICENSE.txt": b"PSF"}


def archive(files: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as result:
        for name, content in files.items():
            result.writestr(f"cp311/{name}", content)
    return data.getvalue()


def test_what_is_taken(files: dict[str, bytes], tmp_path: Path) -> None:
    more = {"Lib/idlelib/run.py": b"?", "Lib/site-packages/x.py": b"?", "DLLs/_ssl.pyd": b"?", "python.exe": b"?"}
    python_windows.take(archive({**files, **more}), tmp_path)
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == files.keys() - {python_windows.CATALOGUE}
    assert (tmp_path / "Lib/json/decoder.py").read_bytes() == b"x = 1\n"


def test_a_changed_module(files: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(WrongHash, match=r"'Lib/os.py' of Python for Windows is not in the catalogue"):
        python_windows.take(archive({**files, "Lib/os.py": b"import evil\n"}), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_module_too_many(files: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(WrongHash, match=r"'Lib/more.py'"):
        python_windows.take(archive({**files, "Lib/more.py": b"import evil\n"}), tmp_path)


def test_a_changed_library(files: dict[str, bytes], tmp_path: Path) -> None:
    damaged = bytearray(files["python311.dll"])
    damaged[0x410] ^= 1
    with pytest.raises(WrongHash, match=r"'python311.dll' does not carry the signature"):
        python_windows.take(archive({**files, "python311.dll": bytes(damaged)}), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_catalogue_of_somebody_else(files: dict[str, bytes], tmp_path: Path) -> None:
    forged = signer("A Foundation").catalogue([*LIBRARY.values(), b"import evil\n"])
    with pytest.raises(WrongHash, match=r"'DLLs/python_lib.cat' does not carry the signature"):
        python_windows.take(archive({**files, python_windows.CATALOGUE: forged}), tmp_path)


def test_what_is_missing(files: dict[str, bytes], tmp_path: Path) -> None:
    del files["DLLs/select.pyd"]
    with pytest.raises(ToolFailed, match=r"Python for Windows is not whole: .*select.pyd"):
        python_windows.take(archive(files), tmp_path)


def test_who_is_pinned() -> None:
    names = {publisher.organization for publisher in python_windows.publishers()}
    assert names == {"Python Software Foundation", "Microsoft Corporation"}
    assert all(len(issuer) == 64 for publisher in python_windows.publishers() for issuer in publisher.issuers)
