"""What a member reports that cannot be right: it is never stored, and the task is not waited for."""

from __future__ import annotations

from jcpeer.application.task import BlobRef
from jcpeer.ids import AppId, Digest, Epoch, NodeId, TaskId, digest_of
from jcpeer.node.soundness import sound_report
from jcpeer.values import evolve
from jcpeer.wire.messages import Outcome, Output, Report

DATA = b"forty-two"
GOOD = Output("out", BlobRef(digest_of(DATA), len(DATA)), DATA)
OUTCOME = Outcome(TaskId("task"), Epoch(1, NodeId("me")), 1, None, (GOOD,), (), 0, 0.0, 0.0, 0.1)


def reported(outcome: Outcome) -> Outcome:
    return sound_report(Report(AppId("a" * 40), (outcome,))).outcomes[0]


def test_a_report_in_order_is_left_as_it_is() -> None:
    report = Report(AppId("a" * 40), (OUTCOME, evolve(OUTCOME, outputs=())))
    assert sound_report(report) is report


def test_outputs_that_are_not_what_their_digest_says_make_the_attempt_a_failure() -> None:
    for wrong in (
        evolve(GOOD, data=b"forty-one"),
        evolve(GOOD, data=None),
        evolve(GOOD, blob=BlobRef(GOOD.blob.digest, 10)),
        evolve(GOOD, blob=BlobRef(Digest("../../key"), 10**6), data=None),
        evolve(GOOD, blob=BlobRef(GOOD.blob.digest, -1), data=None),
    ):
        outcome = reported(evolve(OUTCOME, outputs=(wrong,)))
        assert outcome.failure is not None
        assert outcome.outputs == ()
        assert outcome.attempt == OUTCOME.attempt


def test_a_log_must_have_a_name_too() -> None:
    outcome = reported(evolve(OUTCOME, stderr=BlobRef(Digest("x"), 10**6)))
    assert outcome.failure is not None
    assert outcome.stderr is None
