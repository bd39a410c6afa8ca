"""The coordinator against members that say anything at all: it neither fails, nor sends what cannot travel."""

from __future__ import annotations

import random

import pytest

from jcpeer.application.manifest import Dispatch, Header
from jcpeer.coordinator.events import (
    Collect,
    Collected,
    CollectFailed,
    Effect,
    Event,
    Heard,
    NodeLost,
    NodeSeen,
    Quiet,
    Record,
    Send,
    SendOrders,
    Tick,
)
from jcpeer.coordinator.inherited import SETTLE_S
from jcpeer.ids import AttemptName, Digest, Epoch, NodeId, TaskId
from jcpeer.node.soundness import sound_report
from jcpeer.values import evolve
from jcpeer.wire.codec import encode, pack
from jcpeer.wire.facts import Failed
from jcpeer.wire.messages import (
    Assign,
    Confirm,
    Decline,
    Engaged,
    Failure,
    Fetched,
    GivenBack,
    InHand,
    Report,
    Started,
    Take,
)
from tests.coordinator.little_world import APP, ME, record_of
from tests.coordinator.test_disorder import FIRST, Application, digest, outcome, task

EVIL, STRANGER, HONEST = NodeId("evil"), NodeId("stranger"), NodeId("honest")
NUMBERS = (0, 1, 2, 3, 7, -1, 2**31, 2**63 - 1, 2**63, 2**64 - 1, -(2**63))
TASKS = [
    each
    for copy in "abcd"
    for each in (
        task(f"root {copy}", retries=9),
        task(f"left {copy}", f"root {copy}", retries=9),
        task(f"right {copy}", f"root {copy}", retries=9),
        task(f"both {copy}", f"left {copy}", f"right {copy}", retries=9),
        task(f"chain {copy}", f"left {copy}", retries=9),
        task(f"end {copy}", f"chain {copy}", retries=9),
    )
]


class Attacked(Application):
    """What it would send is packed, as on its way to the network and to the disk."""

    now_s = 0.0

    def hear(self, event: Event) -> list[Effect]:
        effects = []
        for each in (event, Quiet()):
            effects += self.coordinator.handle(each, now_s=self.now_s)
            self.coordinator.check()
        self._note(effects)
        return effects

    def _note(self, effects: list[Effect]) -> None:
        super()._note(effects)
        for each in effects:
            match each:
                case Send():
                    encode(each.message)
                case SendOrders():
                    encode(Assign(APP, self.coordinator.epoch, each.orders))
                case Record():
                    pack(each.entry)
                case _:
                    pass


class Liar:
    """Draws messages in which nothing need be true."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)

    def number(self) -> int:
        return self.draw.choice(NUMBERS)

    def seconds(self) -> float:
        return self.draw.choice((0.0, 1.0, -5.0, 1e300, float("inf"), float("-inf")))

    def node(self) -> NodeId:
        return self.draw.choice((EVIL, STRANGER, HONEST, ME, NodeId("nobody"), NodeId("")))

    def task(self) -> TaskId:
        return self.draw.choice([*(each.id for each in TASKS), TaskId("nonsense"), TaskId("")])

    def tasks(self) -> tuple[TaskId, ...]:
        return tuple(self.task() for _ in range(self.draw.randrange(4)))

    def name(self) -> AttemptName:
        epoch = 1 if self.draw.random() < 0.7 else self.number()
        number = self.draw.randrange(1, 4) if self.draw.random() < 0.7 else self.number()
        return AttemptName(self.task(), epoch, number)

    def names(self) -> tuple[AttemptName, ...]:
        return tuple(self.name() for _ in range(self.draw.randrange(4)))

    def epoch(self) -> Epoch:
        return FIRST if self.draw.random() < 0.8 else Epoch(self.number(), self.node())

    def digests(self) -> tuple[Digest, ...]:
        known = [*(digest(each.id) for each in TASKS), Digest("nonsense")]
        return tuple(self.draw.choice(known) for _ in range(self.draw.randrange(3)))

    def report(self) -> Report:
        outcomes = []
        for _ in range(self.draw.randrange(4)):
            failure = Failure("exit", "exit status 1") if self.draw.random() < 0.3 else None
            true = outcome(self.draw.choice(TASKS), number=self.name().number, failure=failure)
            if self.draw.random() < 0.3:
                true = evolve(true, epoch=self.epoch(), ran_s=self.seconds(), started_s=self.seconds())
            if self.draw.random() < 0.2:
                true = evolve(true, task=self.task(), consumed=self.digests())
            if self.draw.random() < 0.2:
                true = evolve(true, outputs=(*true.outputs, *true.outputs)[1:])
            outcomes.append(true)
        ran_by = tuple(self.draw.choice((None, self.node())) for _ in range(self.draw.randrange(5)))
        in_hand = tuple(InHand(each, self.draw.choice((None, self.node()))) for each in self.names())
        return Report(APP, tuple(outcomes), ran_by, in_hand, self.names(), self.tasks())

    def event(self) -> Event:
        sender = self.draw.choice((EVIL, EVIL, STRANGER))
        retry_s = self.draw.choice((None, self.seconds()))
        match self.draw.randrange(12):
            case 0:
                return Heard(sender, Confirm(APP, self.epoch(), self.number(), self.names(), "", retry_s))
            case 1:
                return Heard(sender, Decline(APP, self.epoch(), "no", retry_s))
            case 2:
                return Heard(sender, Engaged(APP, self.epoch(), self.number(), self.names()))
            case 3:
                return Heard(sender, Take(APP, self.epoch(), self.tasks()))
            case 4:
                return Heard(sender, Started(APP, self.names()))
            case 5:
                lost = self.draw.random() < 0.5
                return Heard(sender, GivenBack(APP, self.names(), "why", self.digests(), lost))
            case 6:
                return Heard(sender, Fetched(APP, self.digests()))
            case 7:
                seen = NodeSeen(record_of(EVIL, slots=self.number()))
                return self.draw.choice((NodeLost(sender, "gone", "refused"), NodeLost(sender, "gone", "silent"), seen))
            case 8:
                return Tick()
            case _:
                return Heard(sender, sound_report(self.report()))


@pytest.mark.parametrize("dispatch", ["assign", "grab", "relay"])
@pytest.mark.parametrize("seed", range(20))
def test_lies_neither_fell_the_coordinator_nor_get_into_what_it_says(dispatch: Dispatch, seed: int) -> None:
    header = Header("app", 0.0, b"", user="user", dispatch=dispatch)
    application, liar = Attacked(*TASKS, header=header), Liar(seed)
    application.hear(NodeSeen(record_of(EVIL)))
    application.join(HONEST, slots=2)
    for _ in range(150):
        application.hear(liar.event())
        application.now_s += liar.draw.choice((0.0, 0.01, 3.0))
        for each in [each for each in application.effects if isinstance(each, Collect)]:
            end = liar.draw.choice((Collected(each.blob.digest), CollectFailed(each.blob.digest, each.holders)))
            application.hear(end)
        honest = [each for each in application.effects if isinstance(each, SendOrders) and each.node == HONEST]
        application.effects.clear()
        for order in (order for each in honest for order in each.orders):
            true = outcome(next(each for each in TASKS if each.id == order.task), number=order.number)
            application.report(HONEST, evolve(true, consumed=tuple(each.blob.digest for each in order.inputs)))


def test_numbers_that_no_attempt_has_get_nowhere() -> None:
    only = task("only", retries=3)
    application = Attacked(only)
    application.join(HONEST)
    for number in NUMBERS:
        if not 0 < number < 2**32:
            application.report(STRANGER, outcome(only, number=number, failure=Failure("exit", "exit status 1")))
            application.report(STRANGER, outcome(only, number=number))
    assert application.under_way("only") == [AttemptName(only.id, 1, 1)]
    assert not application.of_kind(Failed)


def test_a_number_from_an_earlier_epoch_leaves_room_for_further_ones() -> None:
    only = task("only", retries=3)
    application = Attacked(only)
    application.coordinator.take_over(now_s=0.0, epoch=Epoch(2, ME))
    application.now_s = SETTLE_S
    application.join(EVIL, known=tuple(AttemptName(only.id, 1, number) for number in (2**31, *NUMBERS)))
    application.hear(NodeLost(EVIL, "gone", "refused"))
    application.join(HONEST)
    (name,) = application.under_way("only")
    assert 2**31 < name.number < 2**32, "its order was packed"


def test_nothing_is_brought_for_who_was_given_nothing() -> None:
    first, second = task("first"), task("second", "first")
    application = Attacked(first, second)
    application.join(HONEST)
    application.report(HONEST, outcome(first))
    for _ in range(5):
        for name in application.under_way("second"):
            missing = GivenBack(APP, (name, AttemptName(first.id, 1, 1)), "nowhere", (digest("first"),))
            assert not [each for each in application.hear(Heard(STRANGER, missing)) if isinstance(each, Collect)]
