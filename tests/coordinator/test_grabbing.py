"""The coordinator's side of `grab`: the first taker is given the task, and the others are told."""

from __future__ import annotations

from jcpeer.application.manifest import Header
from jcpeer.coordinator.events import Effect, Heard, Quiet, Send, SendOrders, Tick
from jcpeer.coordinator.grabbing import OFFER_LEASE_S
from jcpeer.ids import NodeId, TaskId
from jcpeer.wire.messages import Gone, Offer, Take
from tests.coordinator.little_world import APP
from tests.coordinator.test_disorder import ADA, BEN, FIRST, Application, task

GRAB = Header("app", 0.0, b"", user="user", dispatch="grab")


def offered(effects: list[Effect]) -> dict[NodeId, set[TaskId]]:
    return {
        each.node: {offered.task for offered in each.message.tasks}
        for each in effects
        if isinstance(each, Send) and isinstance(each.message, Offer)
    }


def gone(effects: list[Effect]) -> dict[NodeId, tuple[TaskId, ...]]:
    return {
        each.node: each.message.tasks for each in effects if isinstance(each, Send) and isinstance(each.message, Gone)
    }


def ordered(effects: list[Effect]) -> dict[TaskId, NodeId]:
    return {order.task: each.node for each in effects if isinstance(each, SendOrders) for order in each.orders}


def take(node: NodeId, *tasks: str) -> Heard:
    return Heard(node, Take(APP, FIRST, tuple(map(TaskId, tasks))))


def two_takers(*tasks: str) -> Application:
    application = Application(header=GRAB, sealed=False)
    application.join(ADA, slots=1)
    application.join(BEN, slots=1)
    application.add(1, *(task(each) for each in tasks))
    return application


def test_everybody_with_room_is_offered_what_is_ready_and_nobody_twice() -> None:
    application = two_takers("a", "b")
    assert offered(application.effects) == {ADA: {"a", "b"}, BEN: {"a", "b"}}
    assert offered(application.hear(Tick())) == {}


def test_the_first_taker_is_given_the_task_and_the_others_are_told() -> None:
    application = two_takers("a", "b")
    effects = application.hear(take(BEN, "a"))
    assert ordered(effects) == {"a": BEN}
    assert gone(effects) == {ADA: ("a",)}
    effects = application.hear(take(ADA, "a", "b"))
    assert ordered(effects) == {"b": ADA}
    assert gone(effects) == {ADA: ("a",), BEN: ("b",)}


def test_an_offer_that_nobody_takes_is_made_again_for_longer() -> None:
    application = two_takers("a")
    coordinator = application.coordinator
    now_s, lease_s = 0.0, OFFER_LEASE_S
    for _ in range(3):
        now_s += lease_s
        coordinator.handle(Tick(), now_s=now_s)
        effects = coordinator.handle(Quiet(), now_s=now_s)
        lease_s *= 2
        leases = {
            each.message.lease_s for each in effects if isinstance(each, Send) and isinstance(each.message, Offer)
        }
        assert leases == {lease_s}
