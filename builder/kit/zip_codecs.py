"""The zip file that Python starts from, without codecs that nobody uses here: its table is read at every start."""

import io
import zipfile

KEPT = (
    *("__init__", "aliases", "ascii", "latin_1", "utf_8", "utf_8_sig", "utf_16", "utf_16_be", "utf_16_le"),
    *("utf_32", "utf_32_be", "utf_32_le", "idna", "punycode", "unicode_escape", "raw_unicode_escape"),
    *("cp437", "cp1252", "charmap", "hex_codec", "base64_codec", "zlib_codec", "undefined"),
)
FOLDER = "encodings/"


def without_old_codecs(data: bytes) -> bytes:
    """The same zip file, stored, with only the codecs of KEPT, in sorted order and with fixed times."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(target, "w") as result:
        for name in sorted(source.namelist()):
            if not name.startswith(FOLDER) or name.removeprefix(FOLDER).removesuffix(".pyc") in KEPT:
                result.writestr(zipfile.ZipInfo(name), source.read(name))
    return target.getvalue()
