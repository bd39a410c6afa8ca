"""`jcpeer grid`, typed as a person would: who let whom in, as what, until when."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from jcpeer.membership.store import GridStore
from tests.grids.namespaces import Machine, this_machine

pytestmark = pytest.mark.real

DAY_S = 86400.0
QUIET = ("--listen", "127.0.0.1:0", "--no-mdns")


@pytest.fixture
def machines() -> Iterator[list[Machine]]:
    with this_machine("ada", "bob") as machines:
        yield machines


def test_a_grid_is_made_a_guest_is_invited_for_a_week_and_both_can_see_who_let_whom_in(
    machines: list[Machine],
) -> None:
    ada, bob = machines
    assert "Grid lab (" in ada.run("grid", "create", "lab").out
    invited = ada.run("grid", "invite", "--user", "guest", "--expires", "7d")
    assert "as guest, until" in invited.err
    assert "in grid lab" in bob.run("grid", "join", invited.line).out

    [own] = ada.run("grid", "show", "lab", "--json").data["grids"]
    [entered] = bob.run("grid", "show", "--json").data["grids"]
    assert own["has_root_key"]
    assert not entered["has_root_key"]
    assert own["root"] == entered["root"]
    assert (entered["user"], entered["default"]) == ("guest", True)
    assert entered["invitation"]["expires_s"] - time.time() == pytest.approx(7 * DAY_S, abs=60)
    shown = bob.run("grid", "show").out
    assert all(each in shown for each in (entered["fingerprint"], entered["invitation"]["serial"], "guest", "until"))

    refused = bob.try_to("grid", "invite")
    assert refused.status == 77
    assert "does not hold the root key of grid 'lab'" in refused.err
    assert bob.try_to("grid", "join", invited.line[:-9]).err.count("cut short") == 1


def test_a_node_that_was_put_into_a_grid_on_purpose_stays_there(machines: list[Machine]) -> None:
    ada, bob = machines
    ada.run("grid", "create", "lab")
    bob.run("grid", "create", "home")
    node = bob.start_node(*QUIET, "--grid", "home")
    told = bob.run("grid", "join", ada.run("grid", "invite").line).err
    assert "stays where it is: it was put into grid home by --grid" in told
    assert node.process.poll() is None
    assert len(node.out.so_far) == 1


def test_a_node_whose_invitation_has_expired_says_so_and_does_not_start(machines: list[Machine]) -> None:
    ada, bob = machines
    ada.run("grid", "create", "lab")
    last_week_s = time.time() - 8 * DAY_S
    token = GridStore(ada.directory / "data").invite(expires_s=last_week_s + DAY_S, addresses=(), now_s=last_week_s)
    late = bob.try_to("grid", "join", token)
    assert (late.status, "expired 7 d 0 h ago" in late.err) == (77, True)

    GridStore(bob.directory / "data").join(token, now_s=last_week_s)
    refused = bob.try_to("node", *QUIET)
    assert refused.status == 77
    [line] = refused.err.splitlines()
    assert "expired 7 d 0 h ago" in line
    assert "join again with a new token" in line
