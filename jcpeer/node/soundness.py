"""What a participant reports, made fit to be decided on and kept: bytes that are not what their digest says, or a name
that is no digest, must reach neither store nor journal. An outcome with such outputs counts as a failed attempt, so
that the task is tried again or fails with its story, and is not waited for.
"""

from __future__ import annotations

from jcpeer.application.task import BlobRef
from jcpeer.ids import digest_of
from jcpeer.values import evolve
from jcpeer.wire.messages import Failure, Outcome, Output, Report

DIGEST_DIGITS = 64


def sound_report(report: Report) -> Report:
    """The same report; each outcome that cannot be right has become a failure."""
    outcomes = tuple([_sound(each) for each in report.outcomes])
    return report if outcomes == report.outcomes else evolve(report, outcomes=outcomes)


def _sound(outcome: Outcome) -> Outcome:
    logs = [each for each in (outcome.stdout, outcome.stderr) if each is not None]
    fault = next((text for each in outcome.outputs if (text := _output_fault(each))), None)
    if fault is None and not all(_is_name(each) for each in logs):
        fault = "its logs have names that are none"
    if fault is None:
        return outcome
    failure = Failure("setup", f"its node reported nonsense: {fault}", "update that node")
    return evolve(outcome, failure=failure, outputs=(), stdout=None, stderr=None)


def _output_fault(output: Output) -> str | None:
    if not _is_name(output.blob):
        return f"output {output.name!r:.80} has a name that is no digest"
    if output.data is None:
        return f"output {output.name!r:.80} came without its bytes" if output.carried else None
    if len(output.data) != output.blob.size or digest_of(output.data) != output.blob.digest:
        return f"output {output.name!r:.80} is not what its digest says"
    return None


def _is_name(blob: BlobRef) -> bool:
    return len(blob.digest) == DIGEST_DIGITS and not blob.digest.strip("0123456789abcdef") and blob.size >= 0
