"""A signing tool in small: appends a table of certificates to a Windows program as Authenticode has it; signs nothing.

`signer.py [--do WHAT] FILE [OUT]`; WHAT: `fail`, `nothing`, `damage` (one more byte is changed), `no-output`.
"""

import shutil
import struct
import sys


def main() -> None:
    words = sys.argv[1:]
    what = words[1] if words[0] == "--do" else ""
    files = words[2:] if what else words
    if what == "fail":
        print("the token is locked")
        sys.exit(3)
    if what == "no-output":
        return
    target = files[-1]
    if len(files) > 1:
        shutil.copyfile(files[0], target)
    if what == "nothing":
        return
    with open(target, "r+b") as file:
        data = file.read()
        start = int.from_bytes(data[60:64], "little")
        padding = bytes(-len(data) % 8)
        table = struct.pack("<IHH", 24, 0x200, 2) + b"not a signature."
        file.write(padding + table)
        file.seek(start + 24 + 64)
        file.write(b"\x12\x34\x56\x78")
        file.seek(start + 24 + 112 + 4 * 8)
        file.write(struct.pack("<II", len(data) + len(padding), len(table)))
        if what == "damage":
            file.seek(len(data) // 2)
            file.write(bytes([data[len(data) // 2] ^ 1]))


main()
