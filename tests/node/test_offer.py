"""What a node offers, from its settings and its machine."""

from __future__ import annotations

from pathlib import Path

from jcpeer.config import Config
from jcpeer.node.offer import offered_disk, offered_gpus, told_disk
from jcpeer.node.opening import gpu_ids
from jcpeer.node.parts import Machine

GIB = 2**30
MACHINE = Machine("desk", 4, GIB, "3.11", gpus=("0", "2"))


def test_gpus_are_those_that_are_found_or_as_many_as_the_settings_say() -> None:
    assert offered_gpus(Config(), MACHINE) == ("0", "2")
    assert offered_gpus(Config(gpus=1), MACHINE) == ("0",)
    assert offered_gpus(Config(gpus=4), MACHINE) == ("0", "2", "1", "3")
    assert offered_gpus(Config(gpus=0), MACHINE) == ()


def test_gpus_are_found_by_their_devices_unless_whoever_started_the_node_chose(tmp_path: Path) -> None:
    for name in ("nvidia10", "nvidia2", "nvidiactl", "nvidia-uvm", "nvidia0", "null"):
        (tmp_path / name).touch()
    assert gpu_ids({}, tmp_path) == ("0", "2", "10")
    assert gpu_ids({"CUDA_VISIBLE_DEVICES": "1, GPU-8f"}, tmp_path) == ("1", "GPU-8f")
    assert gpu_ids({"CUDA_VISIBLE_DEVICES": ""}, tmp_path) == ()


def test_the_disk_that_is_told_is_never_more_than_is_free_and_seldom_changes() -> None:
    told, changes = told_disk(100 * GIB, 0), 0
    for step in range(1000):
        free = 100 * GIB - step * GIB // 50 + step % 7 * 2**20
        now = told_disk(free, told)
        assert free * 3 // 4 <= now <= free
        changes += now != told
        told = now
    assert 1 <= changes <= 5


def test_a_limit_of_disk_holds_whatever_is_free() -> None:
    assert offered_disk(Config(disk=10 * GIB), 100 * GIB) == 10 * GIB
    assert offered_disk(Config(disk=10 * GIB), GIB) == GIB
    assert offered_disk(Config(), GIB) == GIB
