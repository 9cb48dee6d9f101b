"""Which file system a file lies on; looks at the list of mounts, and reads nothing of the file."""

import os
from pathlib import Path

# Those that fetch what is read from another machine, or hand every read to a program.
SLOW = frozenset(
    "nfs nfs4 cifs smb3 smbfs 9p ceph afs davfs lustre fuse.glusterfs vboxsf fuse.sshfs fuse.s3fs fuse.rclone".split()
)


def file_system(path: str, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """The type of the file system, such as `ext4`, and `` where that cannot be known."""
    real = os.path.realpath(path)
    found, longest = "", 0
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return ""
    for line in lines:
        before, _, after = line.partition(" - ")
        point = _plain(before.split(" ")[4]) if after else ""
        if point and len(point) >= longest and _holds(point, real):  # of two at one place the later hides the earlier
            found, longest = after.split(" ")[0], len(point)
    return found


def _holds(point: str, path: str) -> bool:
    return path == point or path.startswith(point.rstrip("/") + "/")


def _plain(word: str) -> str:
    """Without the octal escapes of proc(5): blanks, tabs, line ends and backslashes in names."""
    for escape, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        word = word.replace(escape, letter)
    return word
