"""A participant that is silent is lost when the FTC misses it, too, or nobody can be asked; and not before."""

from __future__ import annotations

import math

from jcpeer.application.task import Task
from jcpeer.coordinator.events import Effect, Event, FtcChanged, Heard, NodeLost, NodeSeen, Quiet, Send, Tick
from jcpeer.coordinator.supervision import GRACE_S
from jcpeer.ids import NodeId
from jcpeer.net.events import Proof
from jcpeer.wire.facts import AttemptLost, OutputLost
from jcpeer.wire.messages import Confirm, Decline, Recruit, Supervised
from jcpeer.wire.replication import Alive, AskAlive, Suspect
from tests.coordinator.little_world import APP, record_of
from tests.coordinator.test_disorder import ADA, BEN, FIRST, Application, outcome, task

FTC = NodeId("ftc")
SILENT = NodeLost(ADA, "silent", "silent")


class Watched(Application):
    """Ada runs what is ready, at first, and the clock can be set."""

    def __init__(self, *tasks: Task, ftc: NodeId | None = FTC) -> None:
        self.now_s = 0.0
        super().__init__(*(tasks or (task("only"),)))
        self.join(ADA)
        self.hear(FtcChanged(ftc))

    def hear(self, event: Event) -> list[Effect]:
        effects = self.coordinator.handle(event, now_s=self.now_s)
        effects += self.coordinator.handle(Quiet(), now_s=self.now_s)
        self._note(effects)
        self.coordinator.check()
        return effects

    def pass_to(self, now_s: float) -> bool:
        """Whether the attempt is lost by then."""
        self.now_s = now_s
        self.hear(Tick())
        return self.lost

    @property
    def lost(self) -> bool:
        return bool(self.of_kind(AttemptLost))

    def alive(self) -> list[Effect]:
        return self.hear(Heard(FTC, Alive(APP, FIRST, ADA)))

    def suspect(self, proof: Proof = "silent") -> list[Effect]:
        return self.hear(Heard(FTC, Suspect(APP, FIRST, ADA, proof)))


def test_proof_counts_at_once() -> None:
    watched = Watched()
    watched.hear(NodeLost(ADA, "gone", "refused"))
    assert watched.lost


def test_the_ftc_is_asked_about_a_silent_participant_which_goes_on_as_long_as_that_one_hears_it() -> None:
    watched = Watched()
    assert Send(FTC, AskAlive(APP, FIRST, ADA)) in watched.hear(SILENT)
    watched.alive()
    assert not watched.pass_to(1000.0)
    watched.suspect()
    assert not watched.pass_to(1000.0 + GRACE_S - 0.1)
    assert watched.pass_to(1000.0 + GRACE_S)


def test_without_an_answer_or_an_ftc_silence_lasts_a_while_before_it_counts() -> None:
    for watched in (Watched(), Watched(ftc=None), Watched(ftc=ADA)):
        watched.hear(SILENT)
        assert watched.coordinator.wake_s() <= GRACE_S
        assert not watched.pass_to(GRACE_S - 0.1)
        assert watched.pass_to(GRACE_S)


def test_who_is_back_in_time_has_lost_nothing_and_is_called_up_anew() -> None:
    watched = Watched()
    watched.hear(SILENT)
    watched.now_s = GRACE_S - 0.1
    effects = watched.hear(NodeSeen(record_of(ADA, slots=4)))
    assert [each.node for each in effects if isinstance(each, Send) and isinstance(each.message, Recruit)] == [ADA]
    (name,) = watched.under_way("only")
    watched.hear(Heard(ADA, Confirm(APP, FIRST, 4, (name,))))
    assert not watched.pass_to(100.0)
    assert watched.under_way("only") == [name]


def test_nothing_new_is_given_to_whoever_is_missed() -> None:
    watched = Watched()
    watched.hear(SILENT)
    assert not watched.coordinator.roster.takes_part(ADA)


def test_the_ftc_that_has_proof_is_believed_about_who_is_missed_and_about_nobody_else() -> None:
    watched = Watched()
    watched.suspect("refused")
    assert not watched.pass_to(100.0)
    watched.hear(SILENT)
    watched.hear(Heard(BEN, Suspect(APP, FIRST, ADA, "refused")))  # who is nobody
    assert not watched.pass_to(100.0)
    watched.suspect("refused")
    assert watched.pass_to(100.0)


def test_who_was_vouched_for_by_an_ftc_that_is_gone_is_asked_about_again() -> None:
    watched = Watched()
    watched.hear(SILENT)
    watched.alive()
    watched.hear(NodeLost(FTC, "gone", "refused"))
    assert watched.coordinator.wake_s() < math.inf
    assert Send(BEN, AskAlive(APP, FIRST, ADA)) in watched.hear(FtcChanged(BEN))
    assert watched.pass_to(GRACE_S)


def test_participants_are_told_who_supervises() -> None:
    watched = Watched()
    assert Send(ADA, Supervised(APP, FIRST, FTC)) in watched.effects
    watched.hear(NodeSeen(record_of(BEN)))
    recruits = [each.message for each in watched.hear(NodeLost(ADA, "gone", "refused")) if isinstance(each, Send)]
    assert [each.ftc for each in recruits if isinstance(each, Recruit)] == [FTC]


def test_what_a_silent_node_holds_is_not_made_anew_before_the_node_counts_as_lost() -> None:
    first = task("first")
    watched = Watched(first, task("second", "first"))
    watched.report(ADA, outcome(first))
    watched.hear(Heard(ADA, Decline(APP, FIRST, "has other things to do")))
    watched.hear(SILENT)
    watched.pass_to(GRACE_S - 0.1)
    assert not watched.of_kind(OutputLost)
    watched.pass_to(GRACE_S)
    assert watched.of_kind(OutputLost)
