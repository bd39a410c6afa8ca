"""What people are told of an attempt that failed."""

from __future__ import annotations

from jcpeer.ids import Epoch, NodeId, TaskId
from jcpeer.node.views import failure_story
from jcpeer.wire.messages import Failure, Outcome

HEAD = "count: attempt 1 on shed failed after 0.02 s"
TRACEBACK = """Traceback (most recent call last):
  File "app.py", line 4, in count
    raise ValueError("bad")
ValueError: bad
"""


def failed(failure: Failure, *, stderr: str = "") -> Outcome:
    epoch = Epoch(1, NodeId("shed"))
    return Outcome(TaskId("count"), epoch, 1, failure, (), (), 1, 0.0, 0.0, 0.02, stderr_tail=stderr)


def test_a_program_that_failed_is_one_line_and_its_last_words() -> None:
    outcome = failed(Failure("timeout", "", "give it longer"), stderr="".join(f"line {each}\n" for each in range(9)))
    story = failure_story(HEAD, "ran longer than 1 s", outcome)
    assert story.splitlines() == [
        f"{HEAD}: ran longer than 1 s; give it longer",
        *(f"    line {each}" for each in (4, 5, 6, 7, 8)),
    ]


def test_a_traceback_stands_below_the_line_that_names_the_exception() -> None:
    story = failure_story(HEAD, TRACEBACK, failed(Failure("exception", TRACEBACK)))
    assert story.splitlines()[:2] == [f"{HEAD}: ValueError: bad", "    Traceback (most recent call last):"]


def test_the_remedy_for_a_missing_package_stands_before_the_traceback() -> None:
    told = f"package 'x' is not installed\n{TRACEBACK}"
    story = failure_story(HEAD, told, failed(Failure("missing_package", told, "pip install x")))
    assert story.splitlines()[0] == f"{HEAD}: package 'x' is not installed; pip install x"
    assert story.endswith("    ValueError: bad")
