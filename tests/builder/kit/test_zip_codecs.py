"""The zip file that Python starts from."""

import io
import zipfile

from mkllm.builder.kit.zip_codecs import without_old_codecs


def zipped(names: list[str]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, name)
    return target.getvalue()


def test_keeps_modules_and_the_codecs_in_use() -> None:
    names = ["os.pyc", "encodings/cp1250.pyc", "encodings/utf_8.pyc", "encodings/__init__.pyc", "collections/abc.pyc"]
    with zipfile.ZipFile(io.BytesIO(without_old_codecs(zipped(names)))) as archive:
        assert archive.namelist() == sorted(set(names) - {"encodings/cp1250.pyc"})
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.read("os.pyc") == b"os.pyc"


def test_order_and_time_of_the_source_do_not_matter() -> None:
    assert without_old_codecs(zipped(["a.pyc", "b.pyc"])) == without_old_codecs(zipped(["b.pyc", "a.pyc"]))
