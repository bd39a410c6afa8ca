"""What is promised with so many copies, in one line."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from jcpeer.ids import NodeId
from jcpeer.node.safety import Safety, SeatNow, alone, caveat
from jcpeer.wire.requests import SeatState

STATES: Mapping[str, SeatState] = {
    "*": "coordinator",
    "+": "copy",
    ">": "catching up",
    "-": "missing",
    "?": "unsure",
}


def seats(drawn: str) -> tuple[SeatNow, ...]:
    """ "a* b+ (c>)": a coordinates, b has a copy, c is to have one and does not count yet."""
    return tuple(
        SeatNow(NodeId(each.strip("()")[0]), STATES[each.strip("()")[1]], counts="(" not in each)
        for each in drawn.split()
    )


@pytest.mark.parametrize(
    ("drawn", "line"),
    [
        ("a* b+ c+", "3 copies, any one may be lost"),
        ("a* b+ c-", "3 copies, 2 of them in reach: waits if one more is lost"),
        ("a* b> c?", "3 copies, 1 of them in reach: waits until 2 are"),
        ("a* b+ c+ d-", "4 copies, 3 of them in reach: waits if one more is lost"),
        ("a* b+ c+ d+ e+", "5 copies, any two may be lost"),
        ("a* b+ c+ d+ e-", "5 copies, 4 of them in reach: any one more may be lost"),
        ("a* b+ (c>)", "2 copies, all of them needed; grows to 3 as members appear"),
    ],
)
def test_with_a_majority_the_promise_is_what_may_be_lost_of_what_is_there(drawn: str, line: str) -> None:
    assert Safety(seats(drawn), quorum=True).promise(wanted=3, name_of=str) == line


def test_without_a_majority_it_is_what_may_go_with_the_coordinator() -> None:
    line = "2 copies, takeover without a majority (available): what finished last may be lost with b"
    assert Safety(seats("a+ b*"), quorum=False).promise(wanted=2, name_of=str) == line


def test_a_single_copy_waits_for_its_node() -> None:
    line = "1 copy, on node a: waits while a is down, is lost with its disk; grows to 3 as members appear"
    assert alone(NodeId("a")).promise(wanted=3, name_of=str) == line


@pytest.mark.parametrize(
    ("names", "quorum", "line"),
    [
        (("a", "b", "c"), True, ""),
        (
            ("a",),
            False,
            "One copy, on node a: it waits while that node is down, and is lost if its disk is. "
            "More are made when members appear.",
        ),
        (
            ("a", "b"),
            True,
            "2 copies, on a and b: it waits while one of them is down. More are made when members appear.",
        ),
        (
            ("a", "b", "c"),
            False,
            "3 copies, on a, b and c, takeover without a majority (available): what finished last may be lost with a, "
            "and in a divided grid both sides may go on.",
        ),
    ],
)
def test_a_submission_says_what_is_not_promised(names: tuple[str, ...], quorum: bool, line: str) -> None:
    assert caveat(names, quorum=quorum, wanted=3) == line
