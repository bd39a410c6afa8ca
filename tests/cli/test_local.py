"""Which node of this machine a command asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from jcpeer.places import default_node_name
from tests.cli.conftest import Command, NodeHere
from tests.client.fake_service import FakeGrid


def test_without_a_node_a_command_says_how_to_start_one(jcpeer: Command) -> None:
    for command in (["nodes"], ["list"], ["status"], ["wait", "x"], ["why", "x", "y"]):
        said = jcpeer(*command)
        assert (said.status, said.out) == (69, "")
        assert said.err == "jcpeer: no node runs on this machine: start one with `jcpeer node`\n"


def test_the_only_node_is_asked_whatever_it_is_called(jcpeer: Command, node_here: NodeHere) -> None:
    with node_here("only"):
        assert jcpeer("nodes").status == 0


def test_of_several_nodes_the_one_named_after_the_host_is_asked_or_the_one_that_has_run_longest(
    jcpeer: Command, node_here: NodeHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = FakeGrid(), FakeGrid()
    with node_here("a", first), node_here("b", second):
        assert jcpeer("list").status == 0
        assert jcpeer("list", "--node", "b").status == 0
        monkeypatch.setenv("JCPEER_NODE", "a")
        assert jcpeer("list").status == 0
        assert (first.asked["ListApplications"], second.asked["ListApplications"]) == (2, 1)
        monkeypatch.delenv("JCPEER_NODE")

        home = FakeGrid()
        with node_here(default_node_name(), home):
            assert jcpeer("list").status == 0
        assert home.asked["ListApplications"] == 1


def test_a_node_that_does_not_run_is_named_with_those_that_do(jcpeer: Command, node_here: NodeHere) -> None:
    with node_here("a"):
        said = jcpeer("list", "--node", "c")
    assert said.status == 69
    assert said.err == (
        "jcpeer: no node c runs on this machine: start it with `jcpeer node --name c`; running here: a\n"
    )


def test_a_node_can_be_named_by_its_socket(jcpeer: Command, node_here: NodeHere, places: Path) -> None:
    with node_here("a"):
        assert jcpeer("list", "--node", str(places / "a.sock")).status == 0


def test_nodes_that_were_started_for_one_run_are_not_asked_by_mistake(jcpeer: Command, node_here: NodeHere) -> None:
    with node_here("run-1"), node_here("a"):
        assert jcpeer("list").status == 0
