"""Grids are made, entered and shown; nodes that run are taken along."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from jcpeer.membership.store import GridStore, node_identity
from jcpeer.membership.token import read_token
from jcpeer.places import state_dir
from tests.cli.conftest import Command, NodeHere


def certified(places: Path, name: str) -> str:
    """A node that was started here once; its id."""
    state = state_dir(name)
    identity = node_identity(state)
    GridStore(places / "data").membership_for(
        identity, host=socket.gethostname(), user="me", now_s=time.time(), state_dir=state
    )
    return identity.node


def test_a_grid_is_made_invited_to_and_joined_by_another_person(
    jcpeer: Command, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = jcpeer("grid", "create", "lab", "--user", "ana")
    assert made.status == 0
    assert made.out.startswith("Grid lab (")
    invited = jcpeer("grid", "invite", "--user", "bob", "--expires", "7d")
    token = invited.out.strip()
    assert "\n" not in token
    assert "as bob, until " in invited.err
    assert "no address" in invited.err
    invitation = read_token(token).admission.invitation
    assert (invitation.user, invitation.grid_name) == ("bob", "lab")
    assert invitation.expires_s == pytest.approx(time.time() + 7 * 86400, abs=60)

    monkeypatch.setenv("JCPEER_DATA_DIR", str(places / "elsewhere"))
    joined = jcpeer("grid", "join", token)
    assert joined.out.startswith("This machine is in grid lab (")
    assert joined.out.rstrip().endswith("as bob.")
    assert joined.err == "`jcpeer node` starts a node in it.\n"
    assert jcpeer("grid", "invite").status == 77


def test_the_chain_is_shown_with_all_its_fields(jcpeer: Command, places: Path) -> None:
    jcpeer("grid", "create", "lab", "--user", "ana")
    node = certified(places, "desk")
    shown = jcpeer("grid", "show").out
    (grid,) = jcpeer("grid", "show", "lab", "--json").json["grids"]
    (certificate,) = grid["nodes"]
    assert grid["has_root_key"]
    assert grid["default"]
    assert (certificate["name"], certificate["id"], certificate["user"]) == ("desk", node, "ana")
    assert certificate["invitation"] == grid["invitation"]["serial"]
    assert certificate["expires_s"] is None
    for value in (grid["fingerprint"], grid["root"], grid["invitation"]["serial"], node, certificate["serial"]):
        assert value in shown


def test_before_there_is_a_grid_nothing_is_shown_but_how_to_get_one(jcpeer: Command) -> None:
    said = jcpeer("grid", "show")
    assert (said.status, said.out) == (0, "")
    assert "`jcpeer node`" in said.err
    assert jcpeer("grid", "invite").status == 77
    assert jcpeer("grid", "show", "lab").status == 77


@pytest.mark.parametrize("token", ["abc", "jcpeer1-AAAA", "jcpeer1-" + "A" * 500])
def test_a_token_that_does_not_hold_is_one_line(jcpeer: Command, token: str) -> None:
    said = jcpeer("grid", "join", token)
    assert (said.status, said.out, said.err.count("\n")) == (77, "", 1)


def test_a_node_that_does_not_come_along_is_named(jcpeer: Command, node_here: NodeHere) -> None:
    with node_here("busy"):
        said = jcpeer("grid", "create", "lab")
    assert said.status == 0
    assert said.err == "Node busy stays where it is: the fake does not know JoinGrid.\n"
