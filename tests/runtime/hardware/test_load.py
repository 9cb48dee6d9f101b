import os
import subprocess
import sys
import time

from mkllm.runtime.hardware.load import Load


def test_what_others_use_is_told(tmp_path):
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 0 100 1000 0 0 0 0 0 0\n")
    load = Load(stat)
    time.sleep(0.1)
    ticks = os.sysconf("SC_CLK_TCK")
    stat.write_text(f"cpu  {100 + 2 * ticks} 0 100 {1000 + 5 * ticks} {7 * ticks} 0 0 0 0 0\n")
    assert 5 < load.others() < 25 and load.is_busy()


def test_what_this_process_and_its_children_use_is_not(tmp_path):
    stat = tmp_path / "stat"
    stat.write_text("cpu  0 0 0 0 0 0 0 0 0 0\n")
    load = Load(stat)
    subprocess.run([sys.executable, "-c", "sum(range(3_000_000))"], check=True)
    assert load.others() == 0 and not load.is_busy()


def test_where_it_cannot_be_known_it_is_quiet(tmp_path):
    assert Load(tmp_path / "none").others() == 0
    (tmp_path / "nonsense").write_text("something else\n")
    assert not Load(tmp_path / "nonsense").is_busy()
    assert Load().others() >= 0
