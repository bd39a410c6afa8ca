"""The participant's side of `grab`: it takes what it has room for, and no more until it has an answer."""

from __future__ import annotations

from jcpeer.ids import TaskId
from jcpeer.wire.messages import Gone, Offer, Offered, Take
from jcpeer.work import events as work
from jcpeer.work.grabbing import ANSWER_S
from tests.work.test_participant import APP, COORDINATOR, FIRST, Driver, assigned, called, messages, order, ran, started

LEASE_S = 2.0


def offer(*tasks: str) -> work.Ordered:
    return work.Ordered(COORDINATOR, Offer(APP, FIRST, tuple(Offered(TaskId(each)) for each in tasks), LEASE_S))


def take(*tasks: str) -> Take:
    return Take(APP, FIRST, tuple(map(TaskId, tasks)))


def test_as_many_are_taken_as_there_is_room_for_now_and_in_the_queue() -> None:
    drive = Driver(slots=2)
    drive(called())
    assert take("a", "b", "c", "d") in messages(drive.settle(offer("a", "b", "c", "d", "e", "f")))
    assert [each for each in messages(drive.settle()) if isinstance(each, Take)] == []


def test_what_was_refused_makes_room_for_what_still_stands() -> None:
    drive = Driver(slots=1)
    drive(called())
    drive.settle(offer("a", "b", "c"))
    assert messages(drive.settle(work.Ordered(COORDINATOR, Gone(APP, FIRST, (TaskId("a"),))))) == [take("c")]


def test_a_slot_that_falls_free_is_filled_from_the_offers_that_stand() -> None:
    drive = Driver(slots=1)
    drive(called())
    drive.settle(offer("a", "b", "c"))
    assert started(drive.settle(assigned(order("a"), order("b")))) == ["a"]
    effects = drive.settle(ran("a"))
    assert started(effects) == ["b"]
    assert take("c") in messages(effects)


def test_offers_end_by_their_lease_and_so_does_the_wait_for_an_answer() -> None:
    drive = Driver(slots=1)
    drive(called())
    drive.settle(offer("a", "b", "c"))
    drive.now_s = ANSWER_S
    assert take("c") in messages(drive.settle())
    drive.now_s = ANSWER_S + LEASE_S
    assert messages(drive.settle()) == []
