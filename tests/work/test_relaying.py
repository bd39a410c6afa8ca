"""The participant's side of `relay`: what it does with the successors of what it finished."""

from __future__ import annotations

from jcpeer.application.manifest import Header
from jcpeer.application.task import BlobRef, Command, Input, Needs, OutputOf, Task
from jcpeer.ids import AppId, AttemptName, Epoch, NodeId, TaskId, digest_of
from jcpeer.wire.messages import (
    AttemptOrder,
    Confirm,
    Engaged,
    Failure,
    GivenBack,
    Hand,
    InHand,
    NotNeeded,
    Outcome,
    Output,
    Passed,
    Probe,
    ProbeAnswer,
    Report,
    Right,
    Signed,
    Taken,
    Withdraw,
)
from jcpeer.work import events as work
from jcpeer.work.events import AttemptKey, Effect, Find, Found, Handed, NotReached, Send, SendHand, Told
from jcpeer.work.leases import LEASE_S
from jcpeer.work.reporting import REPORT_HOLD_S
from jcpeer.work.searching import ANSWER_S, HAND_S, PROBES_MAX
from tests.work.test_participant import APP, COORDINATOR, FIRST, SECOND, Driver, assigned, called, messages, started

BEN, CORA, DORA, EMIL = (NodeId(each) for each in ("ben", "cora", "dora", "emil"))
ADA = NodeId("ada")
SMALL, LARGE = BlobRef(digest_of(b"small"), 10), BlobRef(digest_of(b"large"), 10**6)


def follower(name: str, parent: str = "root", *, output: str = "small", cpus: int = 1) -> Task:
    source = Input("in", OutputOf(TaskId(parent), output))
    return Task(TaskId(name), Command(("true",)), (source,), ("small",), needs=Needs(cpus))


def root(*below: Task, shared: tuple[str, ...] = ()) -> AttemptOrder:
    rights = tuple(Right(each, 1) for each in below)
    return AttemptOrder(TaskId("root"), 1, Command(("true",)), rights=rights, shared=tuple(map(TaskId, shared)))


def name(task: str) -> AttemptName:
    return AttemptName(TaskId(task), 1, 1)


def outcome(task: str, *, failure: Failure | None = None) -> Outcome:
    outputs = () if failure else (Output("small", SMALL, b"0123456789"), Output("large", LARGE))
    return Outcome(TaskId(task), FIRST, 1, failure, outputs, (), 0, 0.0, 0.0, 0.1)


def ran(task: str, *, failure: Failure | None = None) -> work.Ran:
    return work.Ran(AttemptKey(APP, name(task)), outcome(task, failure=failure))


def at_work(order: AttemptOrder, *, slots: int = 1) -> Driver:
    """A participant that runs this."""
    drive = Driver(slots=slots)
    drive(called())
    assert started(drive.settle(assigned(order))) == ["root"]
    return drive


def probed(effects: list[Effect]) -> list[NodeId]:
    return [each.node for each in effects if isinstance(each, Send) and isinstance(each.message, Probe)]


def hands(effects: list[Effect]) -> dict[NodeId, Hand]:
    return {each.node: each.hand for each in effects if isinstance(each, SendHand)}


def reports(effects: list[Effect]) -> list[Report]:
    return [each for each in messages(effects) if isinstance(each, Report)]


def granted(node: NodeId, room: int = 1) -> Told:
    return Told(node, ProbeAnswer(APP, 1, room, LEASE_S))


def test_the_successor_that_reads_most_of_what_is_here_starts_at_once() -> None:
    drive = at_work(root(follower("little"), follower("much", output="large")))
    effects = drive.settle(ran("root"))
    assert started(effects) == ["much"]
    (find,) = (each for each in effects if isinstance(each, Find))
    assert (find.task.id, find.wanted) == ("little", 1)


def test_with_slots_to_spare_more_are_kept() -> None:
    drive = at_work(root(*(follower(each) for each in "abc")), slots=2)
    assert started(drive.settle(ran("root"))) == ["a", "b"]


def test_a_chain_runs_on_without_a_word_from_the_coordinator() -> None:
    drive = at_work(root(follower("a"), follower("b", "a"), follower("c", "b")))
    for before, after in ("root", "a"), ("a", "b"), ("b", "c"):
        assert started(drive.settle(ran(before))) == [after]
    drive.now_s += REPORT_HOLD_S
    (report,) = reports(drive.settle(work.Tick()))
    assert [each.task for each in report.outcomes] == ["root", "a", "b"]
    assert report.in_hand == (InHand(name("c")),)


def test_a_failed_attempt_relays_nothing_and_neither_does_one_of_an_earlier_epoch() -> None:
    drive = at_work(root(follower("a"), shared=("s",)))
    effects = drive.settle(ran("root", failure=Failure("exit", "exit status 1")))
    assert started(effects) == []
    assert reports(effects)[0].claims == ()
    drive = at_work(root(follower("a")))
    drive(called(APP, SECOND))
    assert started(drive.settle(ran("root"))) == []


def test_shared_successors_are_claimed_at_once_by_whoever_has_a_slot_to_spare() -> None:
    drive = at_work(root(shared=("s",)))
    (report,) = reports(drive.settle(ran("root")))
    assert report.claims == ("s",)
    drive = at_work(root(follower("a"), shared=("s",)))
    drive.settle(ran("root"))
    drive.now_s += REPORT_HOLD_S
    assert reports(drive.settle(work.Tick()))[0].claims == ()


def test_a_few_are_probed_and_the_first_that_grants_room_is_handed_what_others_could_do() -> None:
    drive = at_work(root(follower("a"), follower("b"), follower("c", "b")))
    drive.settle(ran("root"))
    assert probed(drive(Found(1, (BEN, CORA, DORA, EMIL)))) == [BEN, CORA, DORA]
    assert probed(drive(Told(BEN, ProbeAnswer(APP, 1, 0)))) == [EMIL]
    effects = drive(granted(CORA))
    # The coordinator hears of the outcome, and of who has what follows it, before anybody else may.
    report = Send(COORDINATOR, Report(APP, (outcome("root"),), in_hand=(InHand(name("a")), InHand(name("b")))))
    assert effects.index(report) < next(at for at, each in enumerate(effects) if isinstance(each, SendHand))
    hand = hands(effects)[CORA]
    assert [(each.task, [right.task.id for right in each.rights]) for each in hand.orders] == [("b", ["c"])]
    assert hand.ancestors == (Passed(outcome("root"), None, (InHand(name("a")),)),)
    assert {each.node for each in effects if isinstance(each, Send) and isinstance(each.message, NotNeeded)} == {
        DORA,
        EMIL,
    }
    assert drive(granted(DORA)) == [Send(DORA, NotNeeded(APP, 1))]
    drive(Told(CORA, Taken(APP, 1, (name("b"),))))
    drive.now_s += REPORT_HOLD_S
    assert reports(drive.settle(work.Tick())) == [Report(APP, (), in_hand=(InHand(name("b"), CORA),))]


def test_no_probe_is_waited_for_longer_than_a_moment() -> None:
    drive = at_work(root(follower("a"), follower("b")))
    drive.settle(ran("root"))
    drive(Found(1, (BEN, CORA, DORA, EMIL)))
    drive.now_s += ANSWER_S
    assert probed(drive(work.Tick())) == [EMIL]
    assert PROBES_MAX == 3
    assert hands(drive(granted(EMIL))).keys() == {EMIL}


def test_what_nobody_takes_waits_here_as_far_as_there_is_room_and_is_left_to_the_coordinator() -> None:
    drive = at_work(root(*(follower(each) for each in "abcdefghijkl"), follower("wide", cpus=2)))
    effects = drive.settle(ran("root"), Found(1, ()), Found(2, ()))
    drive.now_s += REPORT_HOLD_S
    (report,) = reports([*effects, *drive.settle(work.Tick())])
    in_hand = {each.attempt for each in report.in_hand}
    assert name("a") in in_hand
    assert name("wide") in report.left
    assert not in_hand & set(report.left)
    assert len(in_hand) + len(report.left) == 13


def test_what_was_handed_over_and_not_confirmed_is_given_up_and_never_started_here() -> None:
    for silence in (NotReached(BEN), None):
        drive = at_work(root(follower("a"), follower("b")))
        drive.settle(ran("root"))
        drive(Found(1, (BEN,)))
        drive(granted(BEN))
        drive.now_s += HAND_S
        effects = drive.settle(silence or work.Tick())
        drive.now_s += REPORT_HOLD_S
        assert [each.left for each in reports([*effects, *drive.settle(work.Tick())])] == [(name("b"),)]
        assert drive.machine.attempt_of(APP, name("b")) is None


def test_a_successor_that_is_searched_for_can_be_withdrawn() -> None:
    drive = at_work(root(follower("a"), follower("b")))
    drive.settle(ran("root"))
    order = work.Ordered(COORDINATOR, Withdraw(APP, FIRST, (name("b"),)))
    assert GivenBack(APP, (name("b"),), "withdrawn", unstarted=True) in messages(drive(order))
    assert hands(drive(Found(1, (BEN,)))) == {}


# --- the other side


def handed(*orders: AttemptOrder, epoch: Epoch = FIRST, user: str = "user") -> Handed:
    ancestors = (Passed(outcome("root"), None, (InHand(name("a")),)),)
    hand = Hand(APP, epoch, 7, epoch.node, Signed(b"", b""), orders, ancestors)
    return Handed(ADA, hand, Header("app", 0.0, b"", user=user), {})


def order(task: str) -> AttemptOrder:
    return AttemptOrder(TaskId(task), 1, Command(("true",)))


def test_room_that_was_granted_is_held_for_a_moment() -> None:
    drive = Driver(slots=1)
    drive(called())
    assert drive(Told(ADA, Probe(APP, FIRST, 7, 3))) == [Send(ADA, ProbeAnswer(APP, 7, 1, LEASE_S))]
    (refused,) = messages(drive(Told(BEN, Probe(APP, FIRST, 1, 1))))
    assert refused == ProbeAnswer(APP, 1, 0, reason="has no free slot")
    assert started(drive.settle(assigned(order("other")))) == []
    drive.now_s = LEASE_S
    assert started(drive.settle()) == ["other"]


def test_room_that_was_granted_to_others_is_nobodys_even_while_it_is_idle_and_nobodys_twice() -> None:
    drive = Driver(slots=2)
    drive(called(AppId("b" * 40), slots=1))
    assert drive(Told(ADA, Probe(APP, FIRST, 7, 3))) == [Send(ADA, ProbeAnswer(APP, 7, 1, LEASE_S))]
    drive(called(APP, slots=1))
    (refused,) = messages(drive(Told(BEN, Probe(APP, FIRST, 1, 1))))
    assert refused == ProbeAnswer(APP, 1, 0, reason="has no free slot"), "its own slot is held for another already"
    drive(called(AppId("c" * 40), slots=1))
    (refused,) = messages(drive(Told(BEN, Probe(AppId("d" * 40), FIRST, 1, 1))))
    assert refused == ProbeAnswer(AppId("d" * 40), 1, 0, reason="has no free slot")


def test_whoever_takes_a_hand_confirms_it_and_engages_itself_and_passes_on_what_came_before() -> None:
    drive = Driver(slots=1)
    drive(Told(ADA, Probe(APP, FIRST, 7, 1)))
    effects = drive.settle(handed(order("b")))
    assert started(effects) == ["b"]
    assert messages(effects)[:2] == [Taken(APP, 7, (name("b"),)), Engaged(APP, FIRST, 1, (name("b"),))]
    (report,) = reports(drive.settle(ran("b")))
    assert report == Report(APP, (outcome("root"), outcome("b")), ran_by=(ADA, None), in_hand=(InHand(name("a"), ADA),))


def test_after_a_break_it_says_again_what_it_has_by_right() -> None:
    drive = Driver(slots=1)
    drive.settle(handed(order("b")))
    assert Confirm(APP, FIRST, 1, (name("b"), name("root"))) in messages(drive(work.Reunited(COORDINATOR)))


def test_a_hand_is_refused_without_room_without_trust_and_in_another_epoch() -> None:
    refusal = [Send(ADA, Taken(APP, 7, ()))]
    assert at_work(root()).settle(handed(order("b"))) == refusal
    assert Driver()(handed(order("b"), user="somebody")) == refusal
    drive = Driver()
    drive(called(APP, SECOND))
    assert drive(handed(order("b"))) == refusal


def test_two_attempts_of_one_name_are_never_here() -> None:
    """Or the slots of the first would never be free again."""
    drive = at_work(root(follower("a")), slots=3)
    drive.settle(assigned(AttemptOrder(TaskId("a"), 1, Command(("true",)))))
    assert started(drive.settle(ran("root"))) == []
    hand = Hand(
        APP,
        FIRST,
        1,
        COORDINATOR,
        Signed(b"", b""),
        (AttemptOrder(TaskId("b"), 1, Command(("true",))),),
        (Passed(outcome("b"), None),),
    )
    assert started(drive.settle(Handed(BEN, hand, Header("app", 0.0, b"", user="user"), {}))) == []
