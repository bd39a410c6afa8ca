"""What whoever follows an application reads when its coordinator, or their own node, goes away."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from attrs import define

from jcpeer.cli.following import follow
from jcpeer.cli.screens import PlainScreen
from jcpeer.client.link import Link
from jcpeer.client.session import Session
from jcpeer.errors import NoNodeError
from jcpeer.ids import NodeId
from jcpeer.wire.requests import Happened, News, NodeName, Progress, ReplyBody, RequestBody, Self, WhoAreYou
from tests.client.fake_service import ME, RECORD

TWO, THREE = NodeName(NodeId("2"), "two"), NodeName(NodeId("3"), "three")
RUNNING = Progress({"finished": 3, "running": 1}, {"two": 1}, 1.0, 1.0, copies=(ME, TWO, THREE))


@define
class GoneLink(Link):
    """A node that tells this much, and then is gone for good."""

    replies: list[News | Progress]

    async def call(self, body: RequestBody) -> AsyncGenerator[ReplyBody, None]:
        if isinstance(body, WhoAreYou):
            yield Self(RECORD, "home", "f" * 8, ())
            return
        for each in self.replies:
            yield each
        raise NoNodeError("it went away")

    async def await_return(self) -> None:
        raise NoNodeError("it did not return")


class Screen(PlainScreen):
    def __init__(self) -> None:
        super().__init__("app")
        self.shown: list[Progress] = []

    def progress(self, progress: Progress) -> None:
        self.shown.append(progress)


def test_a_takeover_is_one_line_and_the_count_of_tasks_stays_while_nobody_counts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = "coordinator two lost, three took over at epoch 2 after 0.4 s"
    took_over = News((Happened(7, 0.0, "took_over", text=line),))
    nobody = Progress({}, {}, 0.0, None, missing=(TWO,))
    screen = Screen()
    with pytest.raises(NoNodeError):
        follow(Session(GoneLink([RUNNING, nobody, nobody, took_over, RUNNING])), "app", screen)
    assert capsys.readouterr().err.splitlines() == [
        "It is stalled: too few of its journals are in reach without two. It goes on by itself with them.",
        line,
        "Enough of its journals are in reach again: it goes on.",
    ]
    assert [each.tasks for each in screen.shown] == [RUNNING.tasks] * 4
    assert [each.running for each in screen.shown[:2]] == [{"two": 1}, {}]


def test_where_the_own_node_is_gone_for_good_it_is_said_who_has_copies() -> None:
    with pytest.raises(
        NoNodeError, match=r"two and three have copies of the application: follow it .* `jcpeer wait app`"
    ):
        follow(Session(GoneLink([RUNNING])), "app", Screen())
    with pytest.raises(NoNodeError, match="once a node runs, come back with `jcpeer wait app`"):
        follow(Session(GoneLink([])), "app", Screen())
