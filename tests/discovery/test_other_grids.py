"""Of grids that are not ours a person is told while they are within sight."""

from __future__ import annotations

from jcpeer.discovery.other_grids import OTHER_GRIDS_MAX, OtherGrids
from jcpeer.discovery.sighting import Sighting
from jcpeer.ids import NodeId
from jcpeer.values import evolve
from tests.discovery.people import GRID, node, seen


def others() -> OtherGrids:
    return OtherGrids(GRID)


def test_our_own_grid_and_an_address_without_a_grid_are_no_other() -> None:
    assert others().see(seen("z")) == (False, None)
    assert others().see(Sighting("bootstrap", None, ("/dns/a/tcp/1",))) == (False, None)


def test_another_grid_is_said_once_and_fit_for_a_terminal() -> None:
    grids = others()
    other = evolve(seen("z", grid="other"), grid_name="club\x1b[2J", host="zeus")
    is_other, notice = grids.see(other)
    assert is_other
    assert notice is not None
    assert "'club?[2J' (other), on zeus" in notice
    assert "jcpeer grid join TOKEN" in notice
    assert grids.see(evolve(other, node=node("y"))) == (True, None)
    assert grids.notices() == (notice,)


def test_another_grid_is_named_as_long_as_one_of_its_nodes_is_within_sight() -> None:
    grids = others()
    grids.see(seen("y", grid="other"))
    grids.see(seen("z", grid="other"))
    grids.lose_sight(node("y"))
    assert len(grids.notices()) == 1
    assert grids.see(seen("z", incarnation=2000)) == (False, None)
    assert grids.notices() == ()
    assert grids.see(seen("z", grid="other", incarnation=3000)) == (True, None)
    assert len(grids.notices()) == 1


def test_a_crowd_of_invented_grids_is_bounded_and_makes_room_when_it_goes() -> None:
    grids = others()
    for number in range(2 * OTHER_GRIDS_MAX):
        grids.see(evolve(seen("z", grid=f"grid {number}"), node=NodeId(f"node {number}")))
        grids.check()
    assert len(grids.notices()) == OTHER_GRIDS_MAX
    grids.lose_sight(NodeId("node 3"))
    _, notice = grids.see(seen("b", grid="later"))
    assert notice is not None
