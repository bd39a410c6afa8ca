"""What a leaving node alone holds is fetched from it, as far as it is needed."""

from __future__ import annotations

from jcpeer.application.task import BlobRef
from jcpeer.coordinator.events import Collect, Collected, CollectFailed, Effect, Heard, NodeLost, Send
from jcpeer.ids import NodeId
from jcpeer.wire.facts import OutputLost
from jcpeer.wire.messages import Decline, Stay
from tests.coordinator.little_world import APP
from tests.coordinator.test_disorder import ADA, BEN, FIRST, LARGE, Application, digest, outcome, task

LEAVES = Heard(ADA, Decline(APP, FIRST, "the node is leaving", leaving=True))


def waiting() -> Application:
    """Of two parents one has finished at ada, where its output is; and so have two that nobody waits for any more."""
    made, slow, read, old = task("made"), task("slow"), task("read", "made", "slow"), task("old")
    application = Application(made, slow, read, old, task("newer", "old"), task("newest", "newer"))
    application.join(ADA)
    application.report(ADA, outcome(made), outcome(old))
    application.join(BEN)
    application.report(BEN, outcome(task("newer", "old")))
    return application


def collected(effects: list[Effect]) -> list[Collect]:
    return [each for each in effects if isinstance(each, Collect)]


def stays(effects: list[Effect]) -> list[tuple[NodeId, Stay]]:
    return [(each.node, each.message) for each in effects if isinstance(each, Send) and isinstance(each.message, Stay)]


def test_what_only_a_leaving_node_has_is_fetched_and_nothing_runs_again() -> None:
    application = waiting()
    effects = application.hear(LEAVES)
    assert stays(effects) == [(ADA, Stay(APP, FIRST, (digest("made"),)))]
    assert collected(effects) == [Collect(BlobRef(digest("made"), LARGE), (ADA,))]
    assert stays(application.hear(Collected(digest("made")))) == [(ADA, Stay(APP, FIRST, (), (digest("made"),)))]
    application.hear(NodeLost(ADA, "it left", "left"))
    assert application.of_kind(OutputLost) == []


def test_what_cannot_be_fetched_keeps_nobody_and_is_lost_once_its_node_is_gone() -> None:
    application = waiting()
    application.hear(LEAVES)
    assert stays(application.hear(CollectFailed(digest("made"), (ADA,)))) == [
        (ADA, Stay(APP, FIRST, (), (digest("made"),)))
    ]
    assert application.of_kind(OutputLost) == []
    application.hear(NodeLost(ADA, "it left", "left"))
    assert [each.task for each in application.of_kind(OutputLost) if isinstance(each, OutputLost)] == ["made"]


def test_a_node_that_has_nothing_that_is_needed_is_told_so_at_once() -> None:
    application = waiting()
    assert stays(application.hear(Heard(BEN, Decline(APP, FIRST, "the node is leaving", leaving=True)))) == [
        (BEN, Stay(APP, FIRST, (digest("newer"),)))
    ]
    application.join(ADA)
    application.report(ADA, outcome(task("newest", "newer")))
    again = application.hear(Heard(BEN, Decline(APP, FIRST, "the node is leaving", leaving=True)))
    assert stays(again) == [(BEN, Stay(APP, FIRST, ()))]


def test_nothing_is_said_to_a_node_that_did_not_wait() -> None:
    application = waiting()
    application.hear(LEAVES)
    application.hear(NodeLost(ADA, "it left", "left"))
    assert stays(application.hear(Collected(digest("made")))) == []
