"""How soon nodes find each other, and miss each other: real processes, by each way of discovery alone.

`pytest -s` prints the figures. They count from the line with which a node says that it listens, or from the signal.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from functools import partial

import pytest

from tests.real_grid import RealGrid, RealNode, eventually, real_grid

pytestmark = pytest.mark.real

SEEN_S = 2.5
LEFT_S = 1.0
KILLED_S = 5.0
SLOWER = 3
"""How much longer is waited than promised, so that a failure tells the figure."""


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealGrid]:
    """Machines that have never met."""
    with real_grid(tmp_path_factory.mktemp("g")) as grid:
        yield grid


def is_seen(by: RealNode, other: RealNode, seen: bool) -> bool:
    record = by.seen().get(other.name)
    return (record is not None and tuple(other.ready["listens"]) == record.record.addresses) == seen


def takes(by: RealNode, other: RealNode, *, seen: bool, since_s: float, at_most_s: float, how: str) -> None:
    """Wait until `by` sees the other, or no longer does, and look at the time that it took."""
    what = f"{by} {'sees' if seen else 'misses'} {other} ({how})"
    eventually(partial(is_seen, by, other, seen), within_s=SLOWER * at_most_s, what=what)
    took_s = time.monotonic() - since_s
    print(f"{what}: {took_s:.2f} s")
    assert took_s <= at_most_s, what


def find_each_other(a: RealNode, b: RealNode, how: str) -> None:
    since_s = max(a.ready_at_s, b.ready_at_s)
    takes(a, b, seen=True, since_s=since_s, at_most_s=SEEN_S, how=how)
    takes(b, a, seen=True, since_s=since_s, at_most_s=SEEN_S, how=how)


def test_on_one_network_nodes_come_and_go_in_time(world: RealGrid) -> None:
    a, b = world.start("a", "b")
    find_each_other(a, b, "mDNS")

    signalled_s = time.monotonic()
    b.send_signal(signal.SIGTERM)
    takes(a, b, seen=False, since_s=signalled_s, at_most_s=LEFT_S, how="SIGTERM")
    b.stop()

    (again,) = world.start("b")
    assert again.id == b.id
    assert again.address != b.address
    find_each_other(a, again, "the same key on another port")

    again.kill()
    takes(a, again, seen=False, since_s=time.monotonic(), at_most_s=KILLED_S, how="kill -9")

    # Nobody has said goodbye, and whoever cached the records of the killed one is told better.
    (third,) = world.start("b")
    find_each_other(a, third, "the same key on another port, after kill -9")
    third.kill()
    (fourth,) = world.start("b")
    find_each_other(a, fourth, "the same, at once")


def test_nodes_of_one_machine_meet_in_its_runtime_directory(world: RealGrid) -> None:
    a, b = world.start("a", "b", options=("--no-mdns",), machine="one")
    find_each_other(a, b, "runtime directory")
    signalled_s = time.monotonic()
    b.send_signal(signal.SIGTERM)
    takes(a, b, seen=False, since_s=signalled_s, at_most_s=LEFT_S, how="SIGTERM")


def test_one_address_is_enough_and_is_remembered(world: RealGrid) -> None:
    (a,) = world.start("a", options=("--no-mdns",))
    (b,) = world.start("b", options=("--no-mdns", "--bootstrap", a.address))
    find_each_other(a, b, "bootstrap")
    (c,) = world.start("c", options=("--no-mdns", "--bootstrap", b.address))
    find_each_other(c, a, "introduced by another")

    for node in (a, b, c):
        node.stop()
    a_again, c_again = world.launch("a", "--no-mdns", "--listen", a.address), world.launch("c", "--no-mdns")
    world.await_ready(a_again, c_again)
    find_each_other(a_again, c_again, "address book")
