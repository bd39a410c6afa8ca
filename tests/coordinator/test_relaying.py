"""The coordinator's side of `relay`: claims of shared tasks, and whose hands successors are in."""

from __future__ import annotations

import pytest

from jcpeer.application.manifest import Header
from jcpeer.application.task import BlobRef
from jcpeer.coordinator.events import CancelRequested, Effect, Heard, NodeLost, NodeSeen, Quiet, Send, SendOrders
from jcpeer.coordinator.relaying import RIGHTS_MAX
from jcpeer.ids import AttemptName, Epoch, NodeId, TaskId
from jcpeer.values import evolve
from jcpeer.wire.facts import Finished
from jcpeer.wire.messages import (
    AttemptOrder,
    CancelAttempts,
    ClaimRefused,
    Engaged,
    GivenBack,
    InHand,
    Outcome,
    Recruit,
    Report,
)
from tests.coordinator.little_world import APP, record_of
from tests.coordinator.test_disorder import ADA, BEN, FIRST, Application, outcome, task

RELAY = Header("app", 0.0, b"", user="user", dispatch="relay")


def orders(effects: list[Effect]) -> dict[TaskId, NodeId]:
    return {order.task: each.node for each in effects if isinstance(each, SendOrders) for order in each.orders}


def order_of(application: Application, name: str) -> AttemptOrder:
    return next(
        order
        for each in application.effects
        if isinstance(each, SendOrders)
        for order in each.orders
        if order.task == name
    )


def refusals(effects: list[Effect], node: NodeId) -> dict[TaskId, str]:
    said = [each.message for each in effects if isinstance(each, Send) and each.node == node]
    return {
        task: why
        for each in said
        if isinstance(each, ClaimRefused)
        for task, why in zip(each.tasks, each.reasons, strict=True)
    }


def finished(application: Application) -> list[str]:
    return [each.outcome.task for each in application.facts if isinstance(each, Finished)]


def name(task_id: str, number: int = 1) -> AttemptName:
    return AttemptName(TaskId(task_id), 1, number)


def where(application: Application, task_id: str) -> dict[AttemptName, NodeId]:
    return {each: node for each, (node, _) in application.coordinator.under_way(TaskId(task_id)).items()}


def done(task_id: str, *parents: str, number: int = 1) -> Outcome:
    return outcome(task(task_id, *parents), number=number)


# --- claims

SHARED = TaskId("shared")
FRIENDS = {"one": ADA, "other": BEN}


def friends() -> Application:
    """Two friends under way at two participants, what they share, and what follows one of them alone."""
    application = Application(header=RELAY, sealed=False)
    application.join(ADA, slots=1)
    application.join(BEN, slots=1)
    application.add(1, task("one"), task("other"), task("shared", "one", "other"), task("own", "other"))
    for each, node in FRIENDS.items():
        assert where(application, each) == {name(each): node}
    return application


def claim(friend: str) -> Report:
    return Report(APP, (done(friend),), claims=(SHARED,))


@pytest.mark.parametrize(("first", "second"), [("one", "other"), ("other", "one")])
@pytest.mark.parametrize("in_one_burst", [False, True])
def test_of_two_friends_that_end_together_the_second_is_granted_what_they_share(
    first: str, second: str, in_one_burst: bool
) -> None:
    application = friends()
    coordinator = application.coordinator
    effects = coordinator.handle(Heard(FRIENDS[first], claim(first)), now_s=0.0)
    if not in_one_burst:
        effects += coordinator.handle(Quiet(), now_s=0.0)
    effects += coordinator.handle(Heard(FRIENDS[second], claim(second)), now_s=0.0)
    effects += coordinator.handle(Quiet(), now_s=0.0)
    coordinator.check()
    assert orders(effects)[SHARED] == FRIENDS[second]
    assert refusals(effects, FRIENDS[first]) == {SHARED: "a friend is still running"}
    assert refusals(effects, FRIENDS[second]) == {}


def test_a_claim_that_is_repeated_after_a_break_starts_nothing_again() -> None:
    application = friends()
    application.hear(Heard(ADA, claim("one")))
    application.hear(Heard(BEN, claim("other")))
    for node, friend in ((ADA, "one"), (BEN, "other")):
        effects = application.hear(Heard(node, claim(friend)))
        assert orders(effects) == {}
        assert refusals(effects, node) == {SHARED: "already started"}
    assert len(application.under_way("shared")) == 1


def test_a_claim_of_what_is_over_is_refused() -> None:
    application = friends()
    application.hear(CancelRequested(SHARED))
    application.hear(Heard(ADA, claim("one")))
    assert refusals(application.hear(Heard(BEN, claim("other"))), BEN) == {SHARED: "it is cancelled"}
    assert application.under_way("shared") == []


def test_a_claimer_whose_slots_are_taken_is_refused_and_another_is_given_the_task() -> None:
    application = friends()
    application.hear(Heard(ADA, claim("one")))
    effects = application.hear(Heard(BEN, evolve(claim("other"), in_hand=(InHand(name("own")),))))
    assert refusals(effects, BEN) == {SHARED: "your slots are taken up"}
    assert orders(effects) == {SHARED: ADA}


# --- rights


def test_an_order_carries_the_rights_for_what_only_it_leads_to() -> None:
    tasks = [task("root"), task("a", "root"), task("b", "a"), task("c", "root"), task("shared", "b", "c")]
    application = Application(*tasks, header=RELAY)
    application.join(ADA)
    order = order_of(application, "root")
    assert [(each.task.id, each.number, each.shared) for each in order.rights] == [
        ("a", 1, ()),
        ("c", 1, ("shared",)),
        ("b", 1, ("shared",)),
    ]


def test_rights_of_one_order_are_bounded_and_the_nearest_come_first() -> None:
    chain = [task("t0"), *(task(f"t{at}", f"t{at - 1}") for at in range(1, 2 * RIGHTS_MAX))]
    application = Application(*chain, header=RELAY)
    application.join(ADA)
    rights = order_of(application, "t0").rights
    assert [each.task.id for each in rights] == [f"t{at}" for at in range(1, RIGHTS_MAX + 1)]


def test_an_attempt_that_may_come_of_a_right_has_a_name_of_its_own() -> None:
    application = Application(task("root"), task("a", "root"), header=RELAY)
    application.join(ADA)
    assert [each.number for each in order_of(application, "root").rights] == [1]
    application.hear(NodeLost(ADA, "silent", "refused"))
    application.effects.clear()
    application.join(BEN)
    assert [each.number for each in order_of(application, "root").rights] == [2]


# --- whose hands


def after_root(*children: str) -> Application:
    """A root under way at ada, and ben who takes part."""
    application = Application(task("root"), *(task(each, "root") for each in children), header=RELAY)
    application.join(ADA, slots=1)
    application.join(BEN, slots=1)
    (name,) = application.under_way("root")
    assert application.coordinator.under_way(TaskId("root"))[name][0] == ADA
    return application


def test_a_successor_in_hand_is_not_given_to_anybody_else() -> None:
    application = after_root("kept", "left")
    effects = application.hear(
        Heard(ADA, Report(APP, (done("root"),), in_hand=(InHand(name("kept")),), left=(name("left"),)))
    )
    assert where(application, "kept") == {name("kept"): ADA}
    assert orders(effects) == {"left": BEN}


def test_a_finisher_that_dies_takes_what_it_had_in_hand_with_it_and_it_is_placed_again() -> None:
    application = after_root("kept")
    application.hear(Heard(ADA, Report(APP, (evolve_small(done("root")),), in_hand=(InHand(name("kept")),))))
    effects = application.hear(NodeLost(ADA, "its process is gone", "refused"))
    assert orders(effects) == {"kept": BEN}


def evolve_small(whole: Outcome) -> Outcome:
    """The same with outputs that the report carries."""
    outputs = tuple(evolve(each, blob=BlobRef(each.blob.digest, 3), data=b"abc") for each in whole.outputs)
    return evolve(whole, outputs=outputs)


def test_whoever_is_handed_a_successor_has_it_from_its_own_word_on() -> None:
    application = after_root("handed")
    application.hear(Heard(ADA, Report(APP, (done("root"),), in_hand=(InHand(name("handed")),))))
    application.hear(Heard(BEN, Engaged(APP, FIRST, 1, (name("handed"),))))
    assert where(application, "handed") == {name("handed"): BEN}
    # The finisher's report was slower, or comes again after a break.
    application.hear(Heard(ADA, Report(APP, (done("root"),), in_hand=(InHand(name("handed")),))))
    assert where(application, "handed") == {name("handed"): BEN}


def test_what_only_another_says_is_asked_after() -> None:
    application = after_root("handed")
    report = Report(APP, (done("root"),), in_hand=(InHand(name("handed"), BEN),))
    effects = application.hear(Heard(ADA, report))
    assert where(application, "handed") == {name("handed"): BEN}
    assert BEN in [each.node for each in effects if isinstance(each, Send) and isinstance(each.message, Recruit)]
    application.join(BEN, slots=1)  # which does not have it
    assert name("handed") not in where(application, "handed")
    assert len(application.under_way("handed")) == 1


def test_the_outcome_of_a_dead_finisher_comes_with_the_report_of_whom_it_handed_the_next_to() -> None:
    application = after_root("handed")
    application.hear(Heard(BEN, Engaged(APP, FIRST, 1, (name("handed"),))))
    application.hear(NodeLost(ADA, "its process is gone", "refused"))
    report = Report(APP, (evolve_small(done("root")), done("handed", "root")), ran_by=(ADA, None))
    application.hear(Heard(BEN, report))
    assert finished(application) == ["root", "handed"]
    assert [each.node for each in application.facts if isinstance(each, Finished)] == [ADA, BEN]


def test_a_successor_is_not_finished_before_its_parent() -> None:
    application = after_root("handed")
    application.hear(Heard(BEN, Engaged(APP, FIRST, 1, (name("handed"),))))
    application.hear(Heard(BEN, Report(APP, (done("handed", "root"),))))
    assert finished(application) == []


def test_of_two_attempts_that_follow_a_parent_that_ran_twice_one_goes_on() -> None:
    application = after_root("child")
    application.hear(Heard(ADA, Report(APP, (done("root"),), in_hand=(InHand(name("child")),))))
    again = Report(APP, (done("root", number=2),), in_hand=(InHand(name("child", 2)),))
    effects = application.hear(Heard(BEN, again))
    stopped = [each.message for each in effects if isinstance(each, Send) and isinstance(each.message, CancelAttempts)]
    assert [each.attempts for each in stopped] == [(name("child", 2),)]
    application.hear(Heard(BEN, GivenBack(APP, (name("child", 2),), "cancelled")))
    assert where(application, "child") == {name("child"): ADA}


def test_the_end_of_a_cancelled_application_waits_for_what_runs_by_right() -> None:
    application = after_root("child")
    application.hear(CancelRequested(None))
    effects = application.hear(Heard(ADA, Report(APP, (done("root"),), in_hand=(InHand(name("child")),))))
    assert CancelAttempts(APP, FIRST, (name("child"),)) in [each.message for each in effects if isinstance(each, Send)]
    assert not application.coordinator.over
    application.hear(Heard(ADA, GivenBack(APP, (name("child"),), "cancelled")))
    assert application.coordinator.state.ended == "cancelled"


def test_rights_of_an_earlier_epoch_have_ended_and_outcomes_count() -> None:
    application = after_root("child")
    application.coordinator.take_over(now_s=0.0, epoch=Epoch(2, FIRST.node))
    second = application.coordinator.epoch
    assert second == Epoch(2, FIRST.node)
    for node in (ADA, BEN):
        application.hear(NodeSeen(record_of(node)))
    effects = application.hear(Heard(BEN, Engaged(APP, FIRST, 1, (name("child"),))))
    called_up = [(each.node, each.message) for each in effects if isinstance(each, Send)]
    assert (BEN, second) in [(node, said.epoch) for node, said in called_up if isinstance(said, Recruit)]
    report = Report(APP, (done("root"), done("child", "root")), ran_by=(ADA, None))
    application.hear(Heard(BEN, report))
    assert finished(application) == ["root", "child"]
