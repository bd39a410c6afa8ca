"""Connections with nodes that cannot be dialled: they are called, never dialled in vain, given up where both are."""

from __future__ import annotations

from jcpeer.discovery.connections import (
    CALL_AGAIN_S,
    WAITING_S,
    CallFor,
    Connections,
    Effect,
    Event,
    Tick,
    Transmit,
    Undelivered,
    Unreached,
)
from jcpeer.discovery.dialling import Dial
from jcpeer.discovery.sighting import Farewell, Sighting
from jcpeer.ids import NodeId
from jcpeer.net.events import PeerDown, PeerUp, Proof
from jcpeer.wire.messages import Hello, Need, Ping
from tests.rdv.members import stranger

ME, SHY = NodeId("me"), NodeId("shy")
THERE = "/ip4/10.1.0.1/tcp/4001"
PING = Ping(1)


class World:
    """The machine of a node that knows one that cannot be dialled, and the time."""

    def __init__(self, *, dialable: bool = True) -> None:
        self.machine = Connections(ME)
        self.now_s = 100.0
        self.machine.found_dialable(dialable, now_s=self.now_s)
        assert self.met() == []

    def met(self, *, dialable: bool = False) -> list[Effect]:
        return self._checked(self.machine.met(SHY, (THERE,), 1, dialable=dialable, now_s=self.now_s))

    def hold(self, *nodes: NodeId) -> list[Effect]:
        return self._checked(self.machine.hold("neighbours", frozenset(nodes), now_s=self.now_s))

    def send(self) -> list[Effect]:
        return self._checked(self.machine.send(SHY, PING, now_s=self.now_s))

    def tell(self, event: Event) -> list[Effect]:
        return self._checked(self.machine.handle(event, now_s=self.now_s))

    def come(self) -> list[Effect]:
        """It has dialled us."""
        return self.tell(PeerUp(SHY, stranger("shy").certificate, Hello(1, 0, (), "shy", 1, (THERE,)), THERE))

    def go(self, proof: Proof) -> list[Effect]:
        return self.tell(PeerDown(SHY, proof, "the connection broke"))

    def wait(self, seconds: float) -> dict[float, list[Effect]]:
        """What is done meanwhile, and when."""
        until_s, done = self.now_s + seconds, {}
        while (wake_s := self.machine.wake_s()) <= until_s:
            self.now_s = max(self.now_s, wake_s)
            if effects := self.tell(Tick()):
                done[round(self.now_s - 100.0, 3)] = effects
        self.now_s = until_s
        return done

    def _checked(self, effects: list[Effect]) -> list[Effect]:
        self.machine.check()
        return effects


def test_who_is_held_is_called_again_and_again_but_never_dialled() -> None:
    world = World()
    assert world.hold(SHY) == [CallFor(SHY)]
    assert world.wait(70) == {
        CALL_AGAIN_S: [CallFor(SHY, 1)],
        6.0: [CallFor(SHY, 2), Unreached(SHY)],
        14.0: [CallFor(SHY, 3), Unreached(SHY)],
        30.0: [CallFor(SHY, 4), Unreached(SHY)],
        60.0: [CallFor(SHY, 5), Unreached(SHY)],
    }
    assert world.come() == [Transmit(SHY, Need(True))]
    assert world.wait(300) == {}


def test_who_is_no_longer_held_is_no_longer_called() -> None:
    world = World()
    world.hold(SHY)
    world.hold()
    assert world.wait(300) == {}


def test_what_is_sent_waits_for_the_one_who_is_called() -> None:
    world = World()
    assert world.send() == [CallFor(SHY)]
    assert world.send() == []
    assert world.come() == [Transmit(SHY, PING), Transmit(SHY, PING)]


def test_what_is_sent_to_one_who_does_not_come_is_undelivered() -> None:
    world = World()
    world.send()
    done = world.wait(300)
    assert done.pop(WAITING_S) in ([Undelivered(SHY, PING)], [CallFor(SHY, 2), Undelivered(SHY, PING)])
    assert done == {CALL_AGAIN_S: [CallFor(SHY, 1)]}


def test_a_held_one_that_is_lost_is_called_and_one_that_left_is_not() -> None:
    cases: tuple[tuple[Proof, bool], ...] = (("silent", True), ("refused", True), ("parted", True), ("left", False))
    for proof, called in cases:
        world = World()
        world.hold(SHY)
        world.come()
        assert world.go(proof) == ([CallFor(SHY)] if called else [])
        assert not any(isinstance(each, Dial) for effects in world.wait(300).values() for each in effects)


def test_two_that_cannot_be_dialled_do_not_look_for_each_other() -> None:
    world = World(dialable=False)
    assert world.machine.is_hopeless(SHY)
    assert world.hold(SHY) == []
    assert world.send() == [Undelivered(SHY, PING)]
    assert world.wait(3600) == {}


def test_when_this_node_can_be_dialled_again_it_calls_whom_it_needs_and_not_before() -> None:
    world = World(dialable=False)
    world.hold(SHY)
    assert world.machine.found_dialable(True, now_s=world.now_s) == [CallFor(SHY)]
    assert not world.machine.is_hopeless(SHY)
    assert world.machine.found_dialable(False, now_s=world.now_s) == []
    assert world.wait(3600) == {}


def test_one_that_is_found_to_be_out_of_reach_is_dialled_no_more() -> None:
    world = World()
    world.met(dialable=True)
    assert world.hold(SHY) == [Dial(THERE, SHY)]
    assert world.met() == [CallFor(SHY)]
    assert not any(isinstance(each, Dial) for effects in world.wait(300).values() for each in effects)
    assert world.met(dialable=True) == [Dial(THERE, SHY)]


def test_on_the_same_local_network_it_is_dialled_all_the_same() -> None:
    for dialable in (True, False):
        world = World(dialable=dialable)
        world.hold(SHY)
        assert world.tell(Sighting("mdns", SHY, (THERE,), incarnation=1)) == [Dial(THERE, SHY)]
        assert not world.machine.is_hopeless(SHY)
        world.come()
        world.go("silent")
        assert [Dial(THERE, SHY)] in world.wait(5).values(), "it was seen here, so it may be found again"
        world.tell(Farewell(SHY, 1))
        world.come()
        world.go("silent")
        assert not any(isinstance(each, Dial) for effects in world.wait(300).values() for each in effects)
