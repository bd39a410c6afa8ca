"""A coordinator is cut off from both copies for ten seconds: only one side acknowledges anything, and nothing of it is
lost."""

from __future__ import annotations

import threading
import time
from functools import partial

import pytest

from jcpeer.client import Grid, Handle
from jcpeer.wire.requests import Happened
from tests.grids.namespaces import RunningNode, open_lan, within
from tests.grids.test_first_grid import hand_over, join, naps, report

pytestmark = pytest.mark.root

CUT_S = 10.0
TAKEN_OVER_S = 8.0
STALLED_S = 10.0
ONE_AGAIN_S = 5.0


class Side:
    """What one node shows of an application."""

    def __init__(self, node: RunningNode, app: str) -> None:
        self.grid: Grid = node.grid
        self.handle: Handle = self.grid.handle(app)
        self.shown: list[Happened] = []
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        self.shown.extend(each for each in self.handle.events() if isinstance(each, Happened))

    def has(self, kind: str) -> bool:
        return any(each.kind == kind for each in list(self.shown))

    def finished(self) -> int:
        return sum(each.kind == "finished" for each in list(self.shown))


def test_one_side_of_a_cut_goes_on_and_what_it_acknowledged_stands_on_both() -> None:
    with open_lan() as lan:
        a, b, c = (lan.machine(name) for name in ("alpha", "beta", "gamma"))
        node_a = a.start_node("--slots", "2")
        join(a, b)
        join(a, c)
        node_b, node_c = b.launch_node("--slots", "2"), c.launch_node("--slots", "2")
        nodes = node_a, node_b.listening(), node_c.listening()
        within(10, lambda: all(len(each.nodes()) == 3 for each in nodes), "they know each other")
        app = hand_over(a, naps(150, 0.5), "--placement", "local")
        cut_off, other = Side(node_a, app), Side(node_b, app)
        copies = ["coordinator", "copy", "copy"]
        within(10, lambda: [each.state for each in other.handle.status().replicas] == copies, "all three keep copies")
        within(20, lambda: min(cut_off.finished(), other.finished()) >= 10, "both sides show that it is under way")

        lan.set_port(a, on=False)
        cut_s = time.monotonic()
        report("taken over", within(TAKEN_OVER_S, lambda: other.has("took_over"), "the others go on", since_s=cut_s))
        before, shown_here = other.finished(), len(cut_off.shown)
        stalled = within(
            STALLED_S, lambda: cut_off.handle.status().summary.state == "stalled", "it says so", since_s=cut_s
        )
        report("stalled, on the other side", stalled)
        assert {each.name for each in cut_off.handle.status().summary.missing} == {"beta", "gamma"}
        within(CUT_S + 1, lambda: time.monotonic() > cut_s + CUT_S, "the cut has lasted long enough", since_s=cut_s)
        assert other.finished() > before
        assert len(cut_off.shown) == shown_here, "nothing is acknowledged without the others"

        lan.set_port(a, on=True)
        healed_s = time.monotonic()

        def one() -> bool:
            return cut_off.handle.status().coordinator == other.handle.status().coordinator

        report("one coordinator", within(ONE_AGAIN_S, one, "it follows the other", since_s=healed_s))
        for side in (cut_off, other):
            within(30, partial(side.has, "ended"), "it has ended")
        assert other.handle.status().summary.state == "ok"
        assert other.finished() == 150
        assert cut_off.shown == other.shown
        for side in (cut_off, other):
            side.grid.close()
