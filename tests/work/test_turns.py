"""So many transfers from one peer at a time, in turn."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from jcpeer.ids import NodeId
from jcpeer.work.turns import Turns

ANNA, BERT = NodeId("anna"), NodeId("bert")


class Party:
    """Who has a turn; each keeps it until told."""

    def __init__(self, nursery: trio.Nursery, turns: Turns) -> None:
        self._nursery = nursery
        self._turns = turns
        self.had: list[tuple[str, NodeId]] = []
        self._ends: dict[str, trio.Event] = {}
        self._scopes: dict[str, trio.CancelScope] = {}

    async def comes(self, name: str, *peers: NodeId) -> None:
        self._ends[name], self._scopes[name] = trio.Event(), trio.CancelScope()
        self._nursery.start_soon(self._have, name, peers)
        await wait_all_tasks_blocked()

    async def _have(self, name: str, peers: Sequence[NodeId]) -> None:
        with self._scopes[name]:
            async with self._turns.one_of(peers) as peer:
                self.had.append((name, peer))
                await self._ends[name].wait()

    async def ends(self, *names: str) -> None:
        for name in names:
            self._ends[name].set()
        await wait_all_tasks_blocked()

    async def leaves(self, name: str) -> None:
        self._scopes[name].cancel()
        await wait_all_tasks_blocked()


@pytest.fixture
def party(nursery: trio.Nursery) -> Party:
    return Party(nursery, Turns(1))


async def test_the_best_that_is_free_is_taken_and_then_whichever_is_free_first(party: Party) -> None:
    await party.comes("one", ANNA, BERT)
    await party.comes("two", ANNA, BERT)
    await party.comes("three", ANNA, BERT)
    await party.comes("four", ANNA)
    assert party.had == [("one", ANNA), ("two", BERT)]
    await party.ends("two")
    assert party.had[2:] == [("three", BERT)]
    await party.ends("one")
    assert party.had[3:] == [("four", ANNA)]


async def test_nobody_overtakes_who_waits(party: Party) -> None:
    for name in ("one", "two", "three"):
        await party.comes(name, ANNA)
    await party.ends("one")
    await party.comes("four", ANNA)
    await party.ends("two", "three")
    assert [name for name, _ in party.had] == ["one", "two", "three", "four"]


async def test_who_waits_no_longer_is_passed_over(party: Party) -> None:
    for name in ("one", "two", "three"):
        await party.comes(name, ANNA)
    await party.leaves("two")
    await party.ends("one")
    assert [name for name, _ in party.had] == ["one", "three"]


async def test_who_is_cancelled_just_as_it_was_given_a_turn_passes_it_on(party: Party) -> None:
    for name in ("one", "two", "three"):
        await party.comes(name, ANNA)
    party._scopes["two"].cancel()  # before it runs again, the turn is given to it
    await party.ends("one")
    assert [name for name, _ in party.had] == ["one", "three"]
    await party.ends("three")
    await party.comes("four", ANNA)
    assert party.had[-1] == ("four", ANNA)


async def test_a_turn_that_ends_wakes_one_of_thousands() -> None:
    woken = 0

    class Counting(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            nonlocal woken
            woken += 1

    turns = Turns(1)

    async def have() -> None:
        async with turns.one_of([ANNA]):
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        for _ in range(1000):
            nursery.start_soon(have)
        trio.lowlevel.add_instrument(Counting())
    assert woken < 5000
