"""Which file system a file lies on, by lists of mounts as the kernel writes them."""

import pytest

from mkllm.runtime.artifact.disk import file_system

MOUNTS = """\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 21 0:40 / /mnt/share rw shared:9 - nfs4 server:/share rw
31 21 0:41 / /mnt/a\\040b rw - cifs //server/a rw
32 21 0:42 / /mnt/shared rw - xfs /dev/sdb rw
33 32 0:43 / /mnt/shared rw - fuse.sshfs there: rw
a line that is no mount
"""


@pytest.mark.parametrize(
    "path,kind",
    [
        ("/home/me/model", "ext4"),
        ("/mnt/share/model", "nfs4"),
        ("/mnt/a b/model", "cifs"),
        ("/mnt/shared/model", "fuse.sshfs"),
        ("/mnt/share2", "ext4"),
    ],
)
def test_the_innermost_mount_counts_and_of_two_at_one_place_the_later(tmp_path, path, kind):
    (tmp_path / "mountinfo").write_text(MOUNTS)
    assert file_system(path, tmp_path / "mountinfo") == kind


def test_where_it_cannot_be_known_nothing_is_said(tmp_path):
    assert file_system("/home/me/model", tmp_path / "none") == ""
