"""Applications that live on another real node than the one that they were handed to."""

from __future__ import annotations

import getpass
import os
from pathlib import Path

import pytest

import jcpeer
from jcpeer.application.manifest import Header, application_key
from jcpeer.client.header import new_header
from jcpeer.ids import NodeId, app_key, closest_set
from jcpeer.values import evolve
from jcpeer.wire.codec import pack
from tests.real_grid import RealGrid, RealNode, acquainted, eventually

pytestmark = pytest.mark.real

INPUT_BYTES = 8 * 2**20


def header_at_home(home: RealNode, *nodes: RealNode) -> Header:
    """Of an application whose key is closest to that one of these nodes."""
    while True:
        header = new_header("far from here", placement="rdv")
        known = evolve(header, user=getpass.getuser())
        key = app_key(application_key(known, pack(known)))
        if closest_set(key, (NodeId(each.id) for each in nodes), k=1) == (home.id,):
            return header


def test_an_application_lives_where_its_key_says_and_is_had_from_any_node(world: RealGrid, tmp_path: Path) -> None:
    a, b, c = world.ensure("a", "b", "c", slots=2)
    source = tmp_path / "input"
    source.write_bytes(os.urandom(INPUT_BYTES))
    application = jcpeer.Application("far from here", directory=tmp_path)
    application.command(["sh", "-c", "cat $0 $0 > twice", jcpeer.File(source)], outputs=["twice"])
    with a.connect() as grid, c.connect() as third:
        handle = grid.run(application, header=header_at_home(b, a, b, c))
        status = third.handle(handle.id).status()
        assert (status.coordinator.name, status.placement, len(status.replica_set)) == ("b", "rdv", 3)
        b.kill()
        eventually(lambda: "b" not in c.seen(), within_s=8, what="b is missed")
        said = world.command("status", handle.id, machine="c")
        assert said.returncode == 0, said.stderr
        status = handle.wait(timeout=30)
        assert (status.summary.state, status.takeovers) == ("ok", 1)
        assert status.coordinator.name in ("a", "c")
        (path,) = third.handle(handle.id).fetch(tmp_path / "results")
        assert path.read_bytes() == source.read_bytes() * 2
    said = world.command("status", handle.id, machine="a")
    shown = dict(line.split(maxsplit=1) for line in said.stdout.splitlines() if line.startswith("  "))
    assert shown["placement"] == "rdv"
    assert shown["coordinator"].startswith(f"{status.coordinator.name}, epoch 2")
    assert set(shown["replica"].removeprefix("set").replace(" and", ",").replace(" ", "").split(",")) == {"a", "b", "c"}


def test_calls_through_a_node_that_does_not_coordinate_run_as_everywhere(world: RealGrid) -> None:
    (b,) = world.ensure("b", slots=2)
    (d,) = world.ensure("d", options=("--no-coordinate", "--bootstrap", b.address))
    acquainted(b, d)
    with d.connect() as grid, grid.executor("calls") as executor:
        assert list(executor.map(abs, range(-50, 0))) == list(range(50, 0, -1))
        (found,) = [each for each in grid.applications() if each.name == "calls"]
        assert found.coordinator.name != "d"
