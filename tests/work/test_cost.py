"""What an event costs a participant does not grow with the attempts that it has had, or has, nor with the applications
that it has worked for: steps of the interpreter are counted, and whatever is gone through within one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from jcpeer.application.task import Needs
from jcpeer.ids import AppId, AttemptName, TaskId
from jcpeer.wire.messages import (
    Acknowledge,
    AttemptOrder,
    CancelAttempts,
    Gone,
    Hand,
    Offer,
    Offered,
    Probe,
    ProbeAnswer,
    Release,
    Right,
    Signed,
    Taken,
    Withdraw,
)
from jcpeer.work import events as work
from jcpeer.work.engagement import Attempt
from jcpeer.work.events import Event, Find
from jcpeer.work.participant import ParticipantMachine
from tests.steps import steps, watched
from tests.work.test_participant import APP, COORDINATOR, FIRST, OTHER, assigned, called, key, name, order, ran
from tests.work.test_relaying import BEN, CORA, follower, outcome

FEW, MANY = 100, 5000
SLOTS = 4

Happening = tuple[str, Callable[[], object]]


class Busy:
    """A participant, and what it is told."""

    def __init__(self) -> None:
        self.machine = ParticipantMachine(user="user", slots=SLOTS, memory_bytes=2**30, trust_grid=False)
        self.now_s = 0.0
        self.found: list[int] = []
        """Searches for nodes that it began."""

    def tell(self, *events: Event) -> None:
        for event in (*events, work.Quiet()):
            for effect in self.machine.handle(event, now_s=self.now_s):
                if isinstance(effect, Find):
                    self.found.append(effect.search)
        self.machine.wake_s()

    def happens(self, what: str, *events: Event) -> Happening:
        return what, lambda: self.tell(*events)


def obeyed(message: Withdraw | CancelAttempts | Acknowledge | Offer | Gone | Release) -> work.Ordered:
    return work.Ordered(COORDINATOR, message)


def offered(*tasks: str) -> work.Ordered:
    return obeyed(Offer(APP, FIRST, tuple(Offered(TaskId(each), Needs()) for each in tasks), 60.0))


# --- what is there to begin with


def many_that_wait(count: int) -> Busy:
    busy = Busy()
    busy.tell(called())
    busy.tell(assigned(*(order(f"t{at}") for at in range(count + SLOTS))))
    return busy


def many_that_are_kept(count: int) -> Busy:
    """Nobody acknowledges what has come out."""
    busy = many_that_wait(count)
    for at in range(count):
        busy.tell(assigned(order(f"more{at}")), ran(f"t{at}"))
    busy.now_s += 1.0
    busy.tell(work.Tick())
    return busy


def many_that_were(count: int) -> Busy:
    """Attempts, and applications; some of these have yet to be told that it has nothing for them."""
    busy = Busy()
    for at in range(count):
        app = AppId(f"{at:040}")
        busy.tell(called(app))
        if at % 2:
            busy.tell(assigned(order("a"), app=app), ran("a", app=app))
        busy.tell(obeyed(Release(app, FIRST, ended=True)))
    busy.tell(called())
    for at in range(count):
        attempt = name(f"t{at}")
        busy.tell(assigned(order(f"t{at}")), ran(f"t{at}"), obeyed(Acknowledge(APP, FIRST, (attempt,))))
    busy.tell(assigned(*(order(f"t{count + at}") for at in range(2 * SLOTS))))
    return busy


def many_on_offer(count: int) -> Busy:
    busy = Busy()
    busy.tell(called())
    busy.tell(assigned(*(order(f"t{at}") for at in range(20 * SLOTS))))
    busy.tell(offered(*(f"offer{at}" for at in range(count))))
    return busy


def many_in_search(count: int) -> Busy:
    """Each attempt has two successors: one is kept, for the other a node is looked for."""
    busy = Busy()
    busy.tell(called())
    for at in range(count):
        busy.tell(assigned(_parent(f"t{at}")), _parent_ran(f"t{at}"))
    busy.tell(assigned(_parent("last")))
    return busy


def _parent(task: str) -> AttemptOrder:
    rights = tuple(Right(follower(f"{task}{each}", task), 1) for each in "ab")
    return AttemptOrder(TaskId(task), 1, rights[0].task.work, rights=rights)


def _parent_ran(task: str) -> work.Ran:
    return work.Ran(key(task), outcome(task))


# --- what happens


def happenings(busy: Busy) -> Iterator[Happening]:
    running = [each for each, attempt in _attempts(busy).items() if attempt.state == "running"]
    yield busy.happens("the end of one", ran(running[0].task))
    yield busy.happens("of another", ran(running[1].task))
    waiting = [each for each, attempt in _attempts(busy).items() if attempt.state == "queued"]
    yield busy.happens("an order", assigned(order("another")))
    yield busy.happens("an order to fetch for", assigned(order("fetching"), absent=("fetching",)))
    yield busy.happens("whose inputs come", work.InputsHere(key("fetching")))
    yield busy.happens("one to withdraw", obeyed(Withdraw(APP, FIRST, (waiting[-1],))))
    yield busy.happens("one to cancel", obeyed(CancelAttempts(APP, FIRST, (running[2],))))
    yield busy.happens("which is killed", work.Killed(key(running[2].task)))
    yield busy.happens("an outcome that is acknowledged", obeyed(Acknowledge(APP, FIRST, (running[0],))))
    yield busy.happens("another application", called(OTHER))
    yield busy.happens("with an order", assigned(order("o"), app=OTHER))
    yield busy.happens("and its end", obeyed(Release(OTHER, FIRST, ended=True)))
    busy.now_s += 0.2
    yield busy.happens("a moment that passes", work.Tick())
    yield busy.happens("nothing")
    yield busy.happens("a probe", work.Told(BEN, Probe(APP, FIRST, 1, 1, Needs())))
    hand = Hand(APP, FIRST, 1, COORDINATOR, Signed(b"", b""), (order("handed"),), ())
    yield busy.happens("what is handed over", work.Handed(BEN, hand, called().header, {}))
    yield busy.happens("a node that is not reached", work.NotReached(CORA))


def of_offers(busy: Busy) -> Iterator[Happening]:
    yield busy.happens("an offer", offered("another"))
    yield busy.happens("that another takes", obeyed(Gone(APP, FIRST, (TaskId("another"),))))
    yield busy.happens("the end of an attempt", ran("t0"))
    yield busy.happens("an order of what was on offer", assigned(order("offer1")))
    busy.now_s += 2.0
    yield busy.happens("some time that passes", work.Tick())


def of_searches(busy: Busy) -> Iterator[Happening]:
    yield busy.happens("an order", assigned(order("another")))
    yield busy.happens("the end of an attempt", _parent_ran("last"))
    number = busy.found[len(busy.found) // 2]
    yield busy.happens("nodes that were found", work.Found(number, (BEN, CORA)))
    yield busy.happens("one with room", work.Told(BEN, ProbeAnswer(APP, number, 1, 1.0)))
    taken = name(f"t{len(busy.found) // 2}b")
    yield busy.happens("which takes it", work.Told(BEN, Taken(APP, number, (taken,))))
    yield busy.happens("one to withdraw", obeyed(Withdraw(APP, FIRST, (name("t1b"),))))
    yield busy.happens("one to cancel", obeyed(CancelAttempts(APP, FIRST, (name("t2b"),))))
    yield busy.happens("what is found too late", work.Found(busy.found[1], (BEN,)))
    busy.now_s += 1.0
    yield busy.happens("some time that passes", work.Tick())


def _attempts(busy: Busy) -> dict[AttemptName, Attempt]:
    return busy.machine._engagements[APP].attempts


WORLDS: dict[str, tuple[Callable[[int], Busy], Callable[[Busy], Iterator[Happening]]]] = {
    "many that wait": (many_that_wait, happenings),
    "many that are kept": (many_that_are_kept, happenings),
    "many that were": (many_that_were, happenings),
    "many on offer": (many_on_offer, of_offers),
    "many in search": (many_in_search, of_searches),
}


def costs(world: str, count: int) -> dict[str, int]:
    begun, happening = WORLDS[world]
    busy = begun(count)
    watched(busy.machine)
    found = {what: steps(do) for what, do in happening(busy)}
    busy.machine.check()
    return found


@pytest.mark.parametrize("world", WORLDS)
def test_the_cost_of_an_event_is_independent_of_what_else_is_here_or_was(world: str) -> None:
    few, many = costs(world, FEW), costs(world, MANY)
    dearer = {what: (few[what], many[what]) for what in few if many[what] >= 1.3 * few[what]}
    assert not dearer
