"""What the user names, and the meeting of the nodes of one machine in a directory of the test's own."""

from __future__ import annotations

import os
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from jcpeer.discovery.bootstrap import POLL_S, bootstrap_sightings, open_machine_rendezvous
from jcpeer.discovery.runtime_dir import LocalNode, local_nodes, write_local_node
from jcpeer.discovery.sighting import Farewell, Sighting
from jcpeer.errors import ConfigError
from jcpeer.ids import NodeId
from jcpeer.values import evolve
from jcpeer.wire.messages import NodeRecord

BEYOND_ALL_PIDS = 2**22 + 1


def record(name: str) -> NodeRecord:
    return NodeRecord(NodeId(f"id-{name}"), name, "ada", "here", 1000, 1, "idle", 4, 0, 4, 2**30, 0.0, "3.11")


def local(name: str, *, pid: int) -> LocalNode:
    return LocalNode(NodeId(f"id-{name}"), name, "g", "home", 1000, pid, ("/ip4/127.0.0.1/tcp/1",), "")


def meet(runtime: Path, name: str) -> AbstractAsyncContextManager[Any]:
    return open_machine_rendezvous(
        runtime,
        record(name),
        grid_fingerprint="g",
        grid_name="home",
        addresses=("/ip4/127.0.0.1/tcp/1",),
        socket=runtime / f"{name}.sock",
    )


@pytest.mark.parametrize(
    ("text", "node", "address"),
    [
        ("192.0.2.1:4001", None, "/ip4/192.0.2.1/tcp/4001"),
        ("[2001:db8::1]:4001", None, "/ip6/2001:db8::1/tcp/4001"),
        ("alpha.example.org:4001", None, "/dns/alpha.example.org/tcp/4001"),
        ("/ip4/192.0.2.1/tcp/4001/p2p/someone", NodeId("someone"), "/ip4/192.0.2.1/tcp/4001"),
    ],
)
def test_what_the_user_names_is_a_sighting(text: str, node: NodeId | None, address: str) -> None:
    assert bootstrap_sightings([text]) == (Sighting("bootstrap", node, (address,)),)


def test_what_is_no_address_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"alpha.*HOST:PORT"):
        bootstrap_sightings(["alpha"])


async def test_the_nodes_of_a_machine_meet_and_part(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with meet(tmp_path, "a") as a:
        async with meet(tmp_path, "b") as b:
            seen = Sighting(
                "machine", NodeId("id-b"), ("/ip4/127.0.0.1/tcp/1",), grid="g", incarnation=1000, grid_name="home"
            )
            assert await a.sightings.receive() == seen
            assert (await b.sightings.receive()).node == NodeId("id-a")
            b.announce(evolve(record("b"), addresses=("/ip4/127.0.0.1/tcp/2",)))
            assert await a.sightings.receive() == evolve(seen, addresses=("/ip4/127.0.0.1/tcp/2",))
        assert await a.sightings.receive() == Farewell(NodeId("id-b"), 1000)
        assert [node.name for node in local_nodes(tmp_path)] == ["a"]
    assert local_nodes(tmp_path) == []


async def test_a_node_whose_file_was_cleared_away_writes_it_again(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with meet(tmp_path, "a"):
        [path] = (tmp_path / "nodes").iterdir()
        await trio.sleep(POLL_S)
        path.unlink()
        await trio.sleep(POLL_S * 1.5)
        assert [node.name for node in local_nodes(tmp_path)] == ["a"]


def test_what_dead_nodes_left_is_cleared_away(tmp_path: Path) -> None:
    write_local_node(tmp_path, local("dead", pid=BEYOND_ALL_PIDS))
    write_local_node(tmp_path, local("live", pid=os.getpid()))
    (tmp_path / "nodes" / "damaged.json").write_text('{"node": 3}')
    assert local_nodes(tmp_path) == [local("live", pid=os.getpid())]
    assert sorted(path.name for path in (tmp_path / "nodes").iterdir()) == ["damaged.json", "id-live.json"]


def test_a_machine_without_nodes_has_none(tmp_path: Path) -> None:
    assert local_nodes(tmp_path / "absent") == []


async def test_a_directory_that_cannot_be_used_stops_nobody(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    (tmp_path / "file").write_text("")
    async with meet(tmp_path / "file", "a"):
        await trio.sleep(2)
