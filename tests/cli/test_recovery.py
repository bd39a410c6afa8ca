"""Going on without lost replicas, and leaving without losing anything."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

import pytest

from jcpeer.cli import draining
from tests.cli.conftest import Command, NodeHere
from tests.cli.test_applications import FILES


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Somebody at a terminal, who will say this."""

    def say(text: str) -> None:
        stdin = io.StringIO(text)
        monkeypatch.setattr(stdin, "isatty", lambda: True)
        monkeypatch.setattr(sys, "stdin", stdin)

    return say


@pytest.mark.parametrize(("said", "status", "asked"), [("y\n", 0, 2), ("\n", 75, 1), ("no\n", 75, 1)])
def test_a_recovery_says_what_may_be_lost_and_asks(
    jcpeer: Command,
    node_here: NodeHere,
    file: Callable[[str, str], str],
    answer: Callable[[str], None],
    said: str,
    status: int,
    asked: int,
) -> None:
    with node_here() as node:
        jcpeer("run", file("letters.toml", FILES), "--no-output")
        answer(said)
        recovered = jcpeer("recover", "letters")
        assert node.grid.asked["Recover"] == asked
    assert recovered.status == status
    assert recovered.out.splitlines() == [
        "letters would go on from the copy on one alone.",
        "  this copy       1 of 2 tasks finished; 1,200 entries, 1,180 of them known to be acknowledged",
        "  without         two, last heard of 1 min 15 s ago",
        "                  one, not heard of",
        "  may be lost     what those had acknowledged beyond this copy: tasks run again, and a result that was shown "
        "may come out differently",
        "  if they return  their copies are replaced by this one",
    ]


def test_a_program_says_yes_beforehand_or_only_asks(
    jcpeer: Command, node_here: NodeHere, file: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with node_here() as node:
        jcpeer("run", file("letters.toml", FILES), "--no-output")
        assert jcpeer("recover", "letters").status == 2
        plan = jcpeer("recover", "letters", "--json").json
        assert (plan["entries"], plan["others"][1]) == (1200, {"id": "node-1", "name": "one", "ago_s": None})
        assert node.grid.asked["Recover"] == 2
        assert jcpeer("recover", "letters", "--yes", "--json").json["recovered"]
        assert node.grid.asked["Recover"] == 4


def test_a_node_is_drained_by_its_name_and_tells_how_far_it_is(
    jcpeer: Command, node_here: NodeHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "GONE_WITHIN_S", 0.1)
    with node_here("one"):
        said = jcpeer("node", "--name", "one", "--drain")
        assert jcpeer("node", "--name", "two", "--drain").status == 69
    assert said.err.splitlines() == [
        "Node one takes nothing new from now on, and leaves when what runs there has ended.",
        "2 attempts still run; it coordinates letters until it leaves.",
        "Nothing runs.",
    ]
    assert said.out == "Node one has nothing to do any more, and is about to leave.\n"
