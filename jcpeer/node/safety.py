"""How an application's copies stand, and what that promises, in words.

The same words at its submission, in `jcpeer status`, and in the guide, so that nobody is promised more than there is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import frozen

from jcpeer.ids import NodeId
from jcpeer.wire.facts import Reconciled
from jcpeer.wire.requests import SeatState

NUMBERS = ("no", "one", "two", "three")


@frozen
class SeatNow:
    """A replica as the coordinator sees it. `counts`: it is in the replica set; a newcomer is not until it has caught
    up. `missing_s`: for how long it has not answered."""

    node: NodeId
    state: SeatState
    missing_s: float = 0.0
    counts: bool = True


@frozen
class Safety:
    """The copies of one application at this moment, in rank order.

    Attributes:
        stalled: Too few are in reach for anything to be acknowledged.
        reconciled: What became of it where two nodes had coordinated without each other.
    """

    seats: tuple[SeatNow, ...]
    quorum: bool
    ftc: NodeId | None = None
    stalled: bool = False
    reconciled: tuple[Reconciled, ...] = ()

    @property
    def missing(self) -> tuple[NodeId, ...]:
        """Those that are waited for where it is stalled."""
        return tuple([each.node for each in self.seats if each.counts and each.state not in ("coordinator", "copy")])

    def promise(self, *, wanted: int, name_of: Callable[[NodeId], str]) -> str:
        """What may happen without anything acknowledged being lost, in one line."""
        counting = [each for each in self.seats if each.counts]
        copies = len(counting)
        line = self._promise(copies, copies - len(self.missing), name_of)
        return f"{line}; grows to {wanted} as members appear" if copies < wanted else line

    def _promise(self, copies: int, in_reach: int, name_of: Callable[[NodeId], str]) -> str:
        if copies == 1:
            name = name_of(self.seats[0].node)
            return f"1 copy, on node {name}: waits while {name} is down, is lost with its disk"
        if not self.quorum:
            coordinator = next((each.node for each in self.seats if each.state == "coordinator"), self.seats[0].node)
            return (
                f"{copies} copies, takeover without a majority (available): what finished last may be lost with "
                f"{name_of(coordinator)}"
            )
        spare = in_reach - (copies // 2 + 1)
        if in_reach == copies:
            return f"{copies} copies, {_number(spare)} may be lost" if spare else f"{copies} copies, all of them needed"
        if spare > 0:
            return f"{copies} copies, {in_reach} of them in reach: {_number(spare)} more may be lost"
        what = "waits if one more is lost" if spare == 0 else f"waits until {copies // 2 + 1} are"
        return f"{copies} copies, {in_reach} of them in reach: {what}"


def alone(node: NodeId) -> Safety:
    """With a single journal."""
    return Safety((SeatNow(node, "coordinator"),), quorum=False)


def caveat(names: Sequence[str], *, quorum: bool, wanted: int) -> str:
    """What is not promised with copies on these nodes, the coordinator's first; empty where any one may be lost."""
    if len(names) > 2 and quorum:
        return ""
    if len(names) == 1:
        line = f"One copy, on node {names[0]}: it waits while that node is down, and is lost if its disk is."
    elif quorum:
        line = f"{len(names)} copies, on {_joined(names)}: it waits while one of them is down."
    else:
        line = (
            f"{len(names)} copies, on {_joined(names)}, takeover without a majority (available): what finished last "
            f"may be lost with {names[0]}, and in a divided grid both sides may go on."
        )
    return f"{line} More are made when members appear." if len(names) < wanted else line


def inputs_stay(name: str) -> str:
    """What `inputs_stay` asks of its submitter."""
    return f"Leave node {name} on until the application has ended: its large inputs may be there alone."


def _number(count: int) -> str:
    return f"any {NUMBERS[count] if count < len(NUMBERS) else count}"


def _joined(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
